"""Settles replies until it is killed at a point: `python -m tests.carriers.reply_dies KAFKA PREFIX REDIS DSN POINT`.

The point is where SIGKILL falls: `before` and `after` the event is appended, `owed` when the batch is settled and its
acknowledgement waits, `sent` when the acknowledgement is durable in Kafka and still waits.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg

from gateway.contract.consent import Event
from gateway.guard import Cfg, Guard, Lease
from gateway.intake import Intake
from gateway.ledger.appender import Appender
from gateway.rules.pack import load
from gateway.settle.settle import Settle
from gateway.stream import Producer, Reader, Topics
from tests.integration.settle_world import KEYS, PEPPER, REGISTRY

POINTS = ("before", "after", "owed", "sent")


def die() -> None:
    """As a machine dies."""
    os.kill(os.getpid(), signal.SIGKILL)


class Appending(Appender):
    """Dies around the append."""

    point = ""

    async def append(self, acts: Sequence[Event]) -> list[Any]:
        if self.point == "before":
            die()
        answers = await super().append(acts)
        if self.point == "after":
            die()
        return answers


class Sending(Intake):
    """Dies around the sending."""

    point = ""

    async def send(self, *asked: Any, **more: Any) -> list[Any]:
        if self.point == "owed" and asked[1]:
            die()
        answers = await super().send(*asked, **more)
        if self.point == "sent" and asked[1]:
            die()
        return answers


async def settle(bootstrap: str, prefix: str, redis_url: str, dsn: str, point: str) -> None:
    """Settle for ever, or die."""
    names, guard = Topics(prefix), await Guard.connect(redis_url)
    cfg = Cfg(guard.server)
    await cfg.start()
    producer = Producer(bootstrap, names)
    await producer.start()
    async with asyncpg.create_pool(dsn, min_size=0, max_size=10, timeout=5, command_timeout=20) as pool:
        appender = Appending(pool, KEYS, guard)
        appender.point = point
        await appender.start()
        intake = Sending(
            guard=guard,
            cfg=cfg,
            lease=Lease(guard.server),
            producer=producer,
            topics=names,
            packs={"cn": load("cn")},
            pepper=PEPPER,
        )
        intake.point = point
        records = Reader(bootstrap, Settle.topics(names), names, "settle")
        replies = Reader(bootstrap, [names.replies], names, "settle")
        work = Settle(
            pool, records, replies, producer, names, guard, appender, lambda: REGISTRY, intake=intake, flush_s=0.05
        )
        await work.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(settle(*sys.argv[1:]))
