"""The parts around settlement, and short ways to speak to it and to wait for what it writes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateway.contract.decision import Basis, Class, Status
from gateway.contract.ids import new_id
from gateway.contract.registry import Sender
from gateway.contract.wire import Accepted, Receipt, Record, Result
from gateway.guard import Guard
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from gateway.records.messages import Message, Messages
from gateway.rules.pack import load
from gateway.settle.owners import Registry
from gateway.settle.settle import Settle
from gateway.stream import Producer, Reader, Topics, encode, ensure

PEPPER = b"p" * 32
KEYS = Keys(b"m" * 32, PEPPER)
ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002", pack="cn")
REGISTRY = Registry((ACME,), {"cn": load("cn")})
NUMBER = "+8613800000000"
HOUR_MS = 3_600_000
DELIVERED = "SELECT count(*) = $2 FROM messages WHERE id = ANY($1) AND status = 4"


def now() -> int:
    return time.time_ns() // 1_000_000


class World:
    """The parts around settlement, and short ways to speak to it."""

    def __init__(self, bootstrap: str, names: Topics, pool: Any, guard: Guard) -> None:
        self.bootstrap, self.names, self.pool, self.guard = bootstrap, names, pool, guard
        self.appender = Appender(pool, KEYS, guard)
        self.producer = Producer(bootstrap, names, max_records=100_000, max_bytes=200 << 20)
        self.messages = Messages(pool)

    async def say(self, topic: str, *records: Record | bytes) -> None:
        pairs = [(b"k", one if isinstance(one, bytes) else encode(one)) for one in records]
        placed = await self.producer.publish(topic, pairs, deadline_s=10)
        assert None not in placed

    async def accept(self, *records: Accepted) -> None:
        await self.say(self.names.messages(Class.MARKETING), *records)

    def settle(self, pool: Any = None, **more: Any) -> Settle:
        records = Reader(self.bootstrap, Settle.topics(self.names), self.names, "settle")
        replies = Reader(self.bootstrap, [self.names.replies], self.names, "settle")
        more = {"flush_s": 0.05, **more}
        return Settle(
            pool or self.pool,
            records,
            replies,
            self.producer,
            self.names,
            self.guard,
            self.appender,
            lambda: REGISTRY,
            **more,
        )

    @asynccontextmanager
    async def settling(self, pool: Any = None, **more: Any) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.settle(pool, **more).run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    async def until(self, found: Callable[[], Awaitable[Any]], deadline_s: float = 15) -> Any:
        async with asyncio.timeout(deadline_s):
            while not (answer := await found()):  # noqa: ASYNC110 - another task writes what is waited for
                await asyncio.sleep(0.03)
        return answer

    async def becomes(self, message_id: str, status: Status) -> Message:
        async def found() -> Message | None:
            message = await self.messages.by_id(message_id)
            return message if message is not None and message.status is status else None

        return await self.until(found)

    async def value(self, query: str, *args: Any) -> Any:
        return await self.pool.fetchval(query, *args)

    async def counted(self) -> dict[int, int]:
        rows = await self.pool.fetch("SELECT status, sum(n)::int AS n FROM outcome_minutes GROUP BY status")
        return {row["status"]: row["n"] for row in rows if row["n"]}


def accepted(**more: object) -> Accepted:
    fields = {
        "id": new_id(3), "client": "demo", "sender": "acme", "purpose": "marketing.promotion", "cls": Class.MARKETING,
        "subject": "0a" * 16, "to": NUMBER, "text": "【Acme】x", "parts": 1, "port": "10690002", "pack": "cn@1",
        "basis": Basis.CONSENT, "entry": 7, "accepted_at": now(), "expires_at": now() + HOUR_MS,
    }  # fmt: skip
    return Accepted(**{**fields, **more})


def submitted(message_id: str, **more: object) -> Result:
    fields = {"attempt": 1, "cls": Class.MARKETING, "carrier": "sim", "outcome": "submitted", "code": "0", "at": now()}
    return Result(id=message_id, **{**fields, **more})


def receipt(**more: object) -> Receipt:
    fields = {
        "carrier": "sim",
        "carrier_id": "x",
        "status": Status.DELIVERED,
        "raw_status": "DELIVRD",
        "raw_code": "000",
    }
    return Receipt(at=now(), received_at=now(), **{**fields, **more})


@asynccontextmanager
async def a_world(bootstrap: str, prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    """Topics, an empty cache with warm lanes, and everything connected."""
    names = Topics(prefix)
    await ensure(bootstrap, names, 2, 1)
    guard = await Guard.connect(redis_url)
    await guard.set_cursors(1)
    async with asyncpg.create_pool(database_url, min_size=0, max_size=10, timeout=5, command_timeout=20) as pool:
        made = World(bootstrap, names, pool, guard)
        await made.appender.start()
        await made.producer.start()
        yield made
        await made.producer.stop()
        await made.appender.stop()
    await guard.close()
