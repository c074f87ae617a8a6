"""A refusal through kill -9 at every step between its event and its acknowledgement: one event, one message."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from gateway.contract.decision import Class
from gateway.contract.ids import subject_of
from gateway.contract.registry import Registry as Book
from gateway.contract.wire import Reply
from gateway.guard import Cfg, Lease
from gateway.intake import Intake
from gateway.records.registry import BUILT_IN
from gateway.rules.pack import load
from tests.carriers.reply_dies import POINTS
from tests.integration.settle_world import ACME, PEPPER, World, a_world, now

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


@asynccontextmanager
async def beating(world: World) -> AsyncIterator[None]:
    """The ledger process's sign of life, which sending needs."""

    async def beat() -> None:
        book = Book(lanes=16, clients=(BUILT_IN,), senders=(ACME,))
        n = 0
        while True:
            await world.guard.write_cfg(n := n + 1, 0, book)
            await asyncio.sleep(0.2)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def sending(world: World) -> AsyncIterator[Intake]:
    """One way to send, over the parts of the world."""
    cfg = Cfg(world.guard.server)
    await cfg.start()
    try:
        yield Intake(
            guard=world.guard,
            cfg=cfg,
            lease=Lease(world.guard.server),
            producer=world.producer,
            topics=world.names,
            packs={"cn": load("cn")},
            pepper=PEPPER,
        )
    finally:
        await cfg.close()


async def acknowledged(world: World, number: str) -> set[str]:
    """Ids of the acknowledgements to a number that are in Kafka."""
    topic = world.names.messages(Class.CONSENT)
    consumer = AIOKafkaConsumer(bootstrap_servers=world.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.subscribe([topic])
        ids, quiet = set[str](), 0
        while quiet < 5:
            found = [row for rows in (await consumer.getmany(timeout_ms=200)).values() for row in rows]
            quiet = 0 if found else quiet + 1
            told = [orjson.loads(row.value) for row in found]
            ids |= {one["id"] for one in told if one["to"] == number and one["purpose"] == "consent.opt_out_ack"}
        return ids
    finally:
        await consumer.stop()


@pytest.mark.parametrize("point", POINTS)
async def test_killed_between_the_event_and_its_acknowledgement(
    world: World, point: str, redis_url: str, database_url: str
) -> None:
    number = f"+86139{random.randrange(10**8):08d}"
    subject = subject_of(PEPPER, number)
    fields: dict[str, Any] = {"carrier": "sim", "reply_id": f"k-{point}", "port": "10690002", "blocked": True}
    said = Reply(sender_number=number, subject=subject.hex(), text="T", at=now(), received_at=now(), **fields)
    await world.guard.block(subject, ["acme#marketing"], said.token)
    async with beating(world):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.carriers.reply_dies",
            world.bootstrap,
            world.names.prefix,
            redis_url,
            database_url,
            point,
        )
        await world.say(world.names.replies, said, said)
        assert await asyncio.wait_for(child.wait(), 40) == -signal.SIGKILL
        async with sending(world) as intake, world.settling(intake=intake):
            await world.until(lambda: world.value("SELECT count(*) = 1 FROM replies WHERE subject = $1", subject))
            await world.until(lambda: world.value("SELECT count(*) = 0 FROM answers_due WHERE subject = $1", subject))
        assert len(await world.appender.history(subject)) == 1
        assert len(await acknowledged(world, number)) == 1
