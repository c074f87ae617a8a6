"""Lists of people over a real PostgreSQL and Valkey: what was sent to them, what came of it, and who they are."""

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Reason
from gateway.contract.ids import lane_of, new_id
from gateway.contract.registry import Sender
from gateway.guard import Ask, Guard, Mode
from gateway.ledger import events
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from gateway.records import cleansing, partitions, settlement
from gateway.records.cleansing import Job
from gateway.records.partitions import DAY_MS, lowest_id
from gateway.records.settlement import Minute
from gateway.rules.cleansing import Category, Choice, chosen
from gateway.rules.pack import load
from gateway.rules.plan import plan
from gateway.settle.cleansing.working import Cleansing
from gateway.settle.tending import MINUTES_DAYS

KEYS = Keys(b"m" * 32, b"p" * 32)
CN = load("cn")
ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
BOLT = Sender(id="bolt", signature="Bolt", service_port="10690003", marketing_port="10690004")
SENDERS = {one.id: one for one in (ACME, BOLT)}
TICKED = {"checkbox_checked": True, "default_checked": False, "form_version": "f-3"}
DELIVERED, UNDELIVERED, NONE, DEAD = 4, 5, 0, 1
_numbers = iter(range(10_000_000))


def now() -> int:
    return time.time_ns() // 1_000_000


def number() -> str:
    return f"+86139{next(_numbers):08d}"


def days_ago(days: float) -> int:
    return now() - int(days * DAY_MS)


class Lists:
    """Short ways to make people, messages and jobs, and to see what may be sent."""

    def __init__(self, pool: Any, guard: Guard, appender: Appender) -> None:
        self.pool, self.guard, self.appender = pool, guard, appender

    def working(self, appender: Any = None) -> Cleansing:
        return Cleansing(self.pool, appender or self.appender, lambda: SENDERS, {"cn": CN})

    async def origin(self, campaign: str, sender: Sender = ACME, **more: str) -> int:
        fields = {"purpose": "marketing.promotion", "class": "marketing", "basis": "consent", "list_source": "l"} | more
        found: int = await self.pool.fetchval(
            "INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis, campaign, "
            "list_source) VALUES ($1, 'shop', $2, $3, $4, $5, 'cn@1', $6, $7, $8) RETURNING id",
            os.urandom(16), sender.id, fields["purpose"], fields["class"], sender.marketing_port, fields["basis"],
            campaign, fields["list_source"],
        )  # fmt: skip
        return found

    async def sent(self, origin: int, rows: Iterable[tuple[bytes, int, int, int]]) -> None:
        """Messages: subject, Unix ms, status, cause; with their buckets, as settle counts and tending leaves them."""
        rows = list(rows)
        async with self.pool.acquire() as conn:
            await conn.copy_records_to_table(
                "messages",
                columns=["id", "subject", "origin", "accepted_at", "settled_at", "rank", "status", "cause", "timeline"],
                records=[
                    (uuid.UUID(new_id(lane_of(subject), at)), subject, origin, at, at, 4_000_000, status, cause, "[]")
                    for subject, at, status, cause in rows
                ],
            )
            changes = Counter(Minute(at // 60_000, origin, "", 2, 0) for _, at, _, _ in rows)
            await settlement.count(conn, changes)
            await partitions.drop_buckets_before(conn, "minute", days_ago(MINUTES_DAYS) // 60_000)

    async def sent_many(self, origin: int, n: int, at_ms: int, step: int = 50_000) -> None:
        """Messages to `n` people nobody knows, a step each minute, written by the server itself."""
        for first in range(0, n, step):
            at = at_ms + first // step * 60_000
            await self.pool.execute(
                "INSERT INTO messages (id, subject, origin, accepted_at, settled_at, rank, status, timeline) "
                "SELECT ($1 || '7' || substr(md5('m' || n), 1, 3) || '8' || substr(md5('m' || n), 4, 15))::uuid, "
                "decode(md5('s' || n), 'hex'), $2, $3, $3, 4000000, 4, '[]' "
                "FROM generate_series($4::int, $5::int) AS n",
                lowest_id(at)[:13].replace("-", ""), origin, at, first + 1, first + step,
            )  # fmt: skip
            async with self.pool.acquire() as conn:
                await settlement.count(conn, {Minute(at // 60_000, origin, "", 2, 0): step})

    async def act(self, to: str, kind: EventKind, data: dict[str, Any], at_ms: int | None = None) -> int | None:
        event = Event(
            event_id=str(uuid.uuid4()), kind=kind, number=to, subject=KEYS.subject(to),
            occurred_at_ms=at_ms or now(), data=data,
        )  # fmt: skip
        (answer,) = await self.appender.append([event])
        assert answer.refusal is None, answer.refusal
        return answer.seq

    async def agree(self, to: str, at_ms: int, evidence: dict[str, Any] | None = TICKED, sender: str = "acme") -> None:
        more = {} if evidence is None else {"evidence": evidence}
        await self.act(to, EventKind.GRANT, events.grant(sender, ["marketing"], **more), at_ms)

    async def suppress(self, to: str, scope: str, reason: Reason) -> None:
        await self.act(to, EventKind.SUPPRESSION, events.suppression(scope, reason))

    async def permitted(self, *people: str, purpose: str = "marketing.promotion") -> list[bool]:
        """Whether a message to each would be admitted now; nothing is consumed."""
        midnight = now() // DAY_MS * DAY_MS
        asks = [
            Ask(
                id=new_id(lane_of(KEYS.subject(to))), subject=KEYS.subject(to), plan=plan(CN, ACME, purpose),
                text_hash=os.urandom(8), midnights=(midnight - DAY_MS, midnight, midnight + DAY_MS),
                minute_of_day=720, mode=Mode.CHECK,
            )
            for to in people
        ]  # fmt: skip
        return [verdict.code is None for verdict in await self.guard.admit(asks, 0)]

    async def ask(self, scope: str, **more: Any) -> Job:
        given = {"since_ms": days_ago(180), "until_ms": now(), "months": None, "by": "Li Lei", "reason": "look"} | more
        async with self.pool.acquire() as conn:
            return await cleansing.ask(conn, scope, **given)

    async def job(self, name: uuid.UUID) -> Job:
        async with self.pool.acquire() as conn:
            found = await cleansing.get(conn, name)
        assert found is not None
        return found

    async def until(self, name: uuid.UUID, state: str, work: Cleansing | None = None) -> Job:
        """Work until the job stands there."""
        work = work or self.working()
        async with asyncio.timeout(1_800 if os.environ.get("ASSENT_LONG") else 200):
            while (found := await self.job(name)).state != state:
                if not await work.once():
                    await asyncio.sleep(0.05)
        return found

    async def ready(self, scope: str, **more: Any) -> Job:
        return await self.until((await self.ask(scope, **more)).id, "ready")

    async def decide(self, name: uuid.UUID, choices: dict[Category, Choice] | None = None) -> bool:
        async with self.pool.acquire() as conn:
            return await cleansing.apply(conn, name, chosen(choices or {}), by="Han Meimei", reason="complaints")

    async def undo(self, name: uuid.UUID) -> bool:
        async with self.pool.acquire() as conn:
            return await cleansing.undo(conn, name, by="Han Meimei", reason="the wrong list")

    async def found(self, name: uuid.UUID, category: Category) -> list[bytes]:
        async with self.pool.acquire() as conn:
            return [one.subject for one in await cleansing.people(conn, name, category, limit=1000)]

    async def events(self, *kinds: str) -> int:
        counted: int = await self.pool.fetchval("SELECT count(*) FROM consent_events WHERE kind = ANY($1)", list(kinds))
        return counted


def subjects(n: int) -> Sequence[bytes]:
    return [os.urandom(16) for _ in range(n)]


@asynccontextmanager
async def lists(database_url: str, redis_url: str) -> AsyncIterator[Lists]:
    guard = await Guard.connect(redis_url, timeout_s=5.0)
    await guard.server.command("CONFIG", "SET", "hash-max-listpack-value", "512")
    await guard.set_cursors(1)
    async with asyncpg.create_pool(database_url, min_size=1, max_size=6, command_timeout=30) as pool:
        appender = Appender(pool, KEYS, guard)
        await appender.start()
        yield Lists(pool, guard, appender)
        await appender.stop()
    await guard.close()
