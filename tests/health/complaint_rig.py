"""What the tests of complaints work with: a database, a guard, an appender over both, and messages that were sent."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import orjson

from gateway.contract.complaint import Told
from gateway.contract.decision import Refusal
from gateway.contract.ids import new_id
from gateway.contract.registry import Sender
from gateway.guard import Guard
from gateway.intake.complaints import Means, Taken, take
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from gateway.ledger.sealing import Contents

PEPPER, MASTER = b"p" * 32, b"m" * 32
SENDERS = (
    Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002"),
    Sender(id="bolt", signature="Bolt", service_port="10690003", marketing_port="10690004"),
)
NOW = 1_764_000_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SALE = "【Acme】双十一全场五折，满300减50，会员专享。拒收请回复R"
ZONE = ZoneInfo("Asia/Shanghai")


@dataclass
class World:
    """The parts, and means to say what happened before."""

    pool: "asyncpg.Pool[Any]"
    keys: Keys
    appender: Appender
    means: Means
    contents: Contents
    numbers: Any = field(default_factory=lambda: iter(range(13_900_000_000, 13_999_999_999)))

    def number(self) -> str:
        return f"+86{next(self.numbers)}"

    async def sent(
        self,
        number: str,
        ago: int = HOUR,
        port: str = "10690002",
        campaign: str = "double11",
        text: str | None = None,
        sender: str = "acme",
        permission: int | None = 7,
    ) -> str:
        """A message that was accepted `ago` and sent a second later."""
        at = NOW - ago
        message = new_id(0, at)
        digest = uuid.uuid5(uuid.NAMESPACE_URL, f"{sender}/{port}/{campaign}").bytes
        async with self.pool.acquire() as conn:
            origin = await conn.fetchval(
                "INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis, campaign) "
                "VALUES ($1, 'shop', $2, 'marketing.promotion', 'marketing', $3, 'cn@1', 'consent', $4) "
                "ON CONFLICT (digest) DO UPDATE SET client = 'shop' RETURNING id",
                digest,
                sender,
                port,
                campaign,
            )
            timeline = orjson.dumps([[at, 2, 1], [at + 1_000, 3, 1, "simulator", "0"]]).decode()
            await conn.execute(
                "INSERT INTO messages (id, subject, origin, accepted_at, entry, rank, status, timeline) "
                "VALUES ($1, $2, $3, $4, $5, 1, 3, $6)",
                message,
                self.keys.subject(number),
                origin,
                at,
                permission,
                timeline,
            )
            if text is not None:
                sealed = self.contents.seal(uuid.UUID(message).bytes, number, text)
                await conn.execute("INSERT INTO message_contents (id, sealed) VALUES ($1, $2)", message, sealed)
        return message

    async def take(self, *told: Told, by: str = "shop", now_ms: int = NOW) -> list[Taken]:
        """Taken in; none refused."""
        answers = await take(self.means, told, by, now_ms)
        taken = [one for one in answers if not isinstance(one, Refusal)]
        assert len(taken) == len(told), answers
        return taken

    async def one(self, query: str, *values: Any) -> Any:
        async with self.pool.acquire() as conn:
            return await conn.fetchval(query, *values)

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        async with self.pool.acquire() as conn:
            return [tuple(row) for row in await conn.fetch(query, *values)]

    async def suppressed(self, number: str) -> dict[str, list[int]]:
        """Scope to the reasons that stand."""
        state = await self.appender.state(self.keys.subject(number))
        return (
            {} if state is None else {scope: [one.reason for one in held] for scope, held in state.suppressions.items()}
        )

    async def counts(self) -> dict[tuple[int, str | None, str | None], int]:
        """Complaints by minute, campaign and port."""
        rows = await self.rows(
            "SELECT b.minute, o.campaign, o.port, b.n FROM signal_minutes b "
            "LEFT JOIN message_origins o ON o.id = b.origin WHERE b.signal = 1 AND b.n <> 0"
        )
        return {(minute, campaign, port): n for minute, campaign, port, n in rows}


@asynccontextmanager
async def world(redis_url: str, database_url: str) -> AsyncIterator[World]:
    """A world over real parts."""
    keys, guard = Keys(MASTER, PEPPER), await Guard.connect(redis_url)
    await guard.server.command("CONFIG", "SET", "hash-max-listpack-value", "512")
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        appender = Appender(pool, keys, guard)
        await appender.start()
        contents = Contents(keys)
        means = Means(pool, appender, SENDERS, contents.open, ZONE)
        yield World(pool, keys, appender, means, contents)
        await appender.stop()
    await guard.close()


def told(number: str, **more: Any) -> Told:
    """A complaint of the 12321 centre about acme's marketing port."""
    fields: dict[str, Any] = {"source": "12321", "port": "10690002", "at_ms": NOW, "text": "骚扰短信", "ref": None}
    return Told(number=number, **fields | more)
