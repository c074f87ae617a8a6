"""`make bench-held`: what messages that wait cost: disk and not memory, and the same for each however many there are.

Starts its own stack in a temporary home, measures with a thousand waiting and again with `--rows`, prints a table, ends
every child and removes the home. The hold process is the real one, alone; a deliverer takes what it releases to the
simulated carrier. Exit status: 0; 1 when a gate is not reached and `--gate` was given; 2 when the run itself failed.
"""

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

import asyncpg
import httpx

from gateway.contract.decision import Basis, Class
from gateway.contract.ids import lane_of, new_id, subject_of
from gateway.contract.wire import Accepted
from gateway.local.processes import COMMANDS
from gateway.records import held
from gateway.records.held import Held
from gateway.stream import Reader, Topics, encode
from gateway.stream.codec import decode
from loadtests import people
from loadtests.figures import Figure
from loadtests.meter import rss_mb
from loadtests.rows import command
from loadtests.say import Teller
from loadtests.stack import Stack

FEW = 1_000
PAGE = 100_000
DAY_MS = 86_400_000
RELEASED = 20_000
BATCH = 256
TRIALS = 20
GROWTH_MB = 32.0
SLOWER = 2.0
"""What a query may cost with all rows against a thousand: a deeper index, and caches that hold less of it."""
FASTEST_MS = 5.0
REST_S = 5.0
RELEASE_WITHIN_S = 120.0

# Rows as the hold process writes them: ids in the order of acceptance, times spread over thirty days.
FILL = """
INSERT INTO held (id, due, expires_at, attempt, class, scope, payload)
SELECT uuidv7(), $1 + at, $1 + at + 86400000, 1, CASE WHEN n % 10 = 0 THEN 'transactional' ELSE 'marketing' END, NULL,
       $3
FROM (SELECT n, 86400000 + (n * 2654435761) % 2592000000 AS at FROM generate_series($2::bigint, $4::bigint) AS n) AS r
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured with one number of rows waiting."""

    rows: int
    rss: float
    rate: float
    overtaken_ms: int
    """By how much the latest overtook an earlier one in its partition."""
    ms: dict[str, float]
    """Milliseconds of each query of the hold process, at the median."""
    disk: float


class Bench:
    """One run."""

    def __init__(self, rows: int, teller: Teller) -> None:
        self._rows, self._teller = rows, teller
        self._stack = Stack(teller.step)

    async def run(self) -> list[Figure]:
        """Everything, in order; the stack is gone afterwards, whatever happens."""
        COMMANDS.update(ledger=("ledger",), hold=("hold",))
        try:
            self._stack.start_parts()
            self._stack.start("ledger", "edge", "deliver-prompt")
            await self._order()
            self._stack.end("edge")
            few = await self._with(FEW)
            many = await self._with(self._rows)
        except BaseException:
            for words in self._stack.dead():
                self._teller.step(words)
            raise
        finally:
            self._teller.step("stopping")
            self._stack.stop()
        return figures(few, many)

    async def _order(self) -> None:
        """Everybody who is written to has an order."""
        self._teller.step(f"{RELEASED:,} recipients with an order each")
        since = datetime.now(UTC).isoformat()
        head = {"authorization": "Bearer demo-key"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._stack.port}", headers=head, timeout=30) as http:
            for first in range(0, RELEASED, 1_000):
                rows = [
                    {"recipient": people.number(n), "sender": "acme", "kind": "order", "ref": "o", "occurred_at": since}
                    for n in range(first, first + 1_000)
                ]
                answer = await http.post("/v1/relationships/batch", json={"relationships": rows})
                answer.raise_for_status()
                self._teller.progress(f"{first + 1_000:,} of {RELEASED:,}")

    async def _with(self, rows: int) -> Found:
        connection = await asyncpg.connect(self._stack.postgres.endpoint)
        try:
            await self._fill(connection, rows)
            self._stack.start("hold")
            rate, overtaken = await self._release(connection)
            await asyncio.sleep(REST_S)
            rss = rss_mb(self._stack.pids()["hold"])
            self._stack.end("hold")
            ms = await self._queries(connection)
            disk = await connection.fetchval("SELECT pg_total_relation_size('held')")
        finally:
            await connection.close()
        return Found(rows, rss, rate, overtaken, ms, disk)

    async def _fill(self, connection: "asyncpg.Connection[asyncpg.Record]", rows: int) -> None:
        now = time.time_ns() // 1_000_000
        payload = encode(self._message(0, now + DAY_MS, now))
        there = await connection.fetchval("SELECT count(*) FROM held", timeout=600)
        self._teller.step(f"{rows:,} messages that wait, of {len(payload)} bytes each")
        for first in range(there, rows, PAGE):
            last = min(first + PAGE, rows) - 1
            await connection.execute(FILL, now, first, payload, last, timeout=300)
            self._teller.progress(f"{last + 1:,} of {rows:,}")
        await connection.execute("ANALYZE held", timeout=300)

    def _message(self, n: int, due: int, now: int) -> Accepted:
        number = people.number(n)
        subject = subject_of(self._stack.pepper, number)
        return Accepted(
            id=new_id(lane_of(subject)),
            client="bench",
            sender="acme",
            purpose="transaction.shipping",
            cls=Class.TRANSACTIONAL,
            subject=subject.hex(),
            to=number,
            text=f"【Acme】您的订单 {uuid.uuid4().hex} 已发货，预计明天送达，请保持电话畅通，感谢您的信任与支持。",
            parts=1,
            port="10690001",
            pack="cn@1",
            basis=Basis.RELATIONSHIP,
            entry=1,
            accepted_at=now,
            expires_at=due + DAY_MS,
            not_before=due,
            due=due,
            client_ref=f"held-{n}",
        )

    async def _release(self, connection: "asyncpg.Connection[asyncpg.Record]") -> tuple[float, int]:
        """Messages a second from the first released to the last, and the most that one overtook another by."""
        now = time.time_ns() // 1_000_000
        dues = {}
        for first in range(0, RELEASED, PAGE // 10):
            rows = []
            for n in range(first, min(first + PAGE // 10, RELEASED)):
                one = self._message(n, now + 4_000 + n // 10, now)
                dues[one.id] = one.due or 0
                rows.append(Held(one.id, one.due or 0, one.expires_at, 1, one.cls, None, encode(one)))
            await held.add(connection, rows)  # type: ignore[arg-type]
        self._teller.step(f"{RELEASED:,} of them come due within {RELEASED // 10_000} s")
        return await self._watch(dues)

    async def _watch(self, dues: dict[str, int]) -> tuple[float, int]:
        topics = Topics("")
        topic = topics.messages(Class.TRANSACTIONAL)
        reader = Reader(self._stack.bootstrap, [topic], topics, "bench")
        left, times, overtaken = set(dues), list[int](), 0
        latest: dict[int, int] = {}
        for place in await reader.start():
            reader.seek(place, 0)
        try:
            async with asyncio.timeout(RELEASE_WITHIN_S):
                while left:
                    for place, messages in (await reader.getmany(0.2, 5_000)).items():
                        for message in messages:
                            known = decode(Accepted, message.value).id
                            if known in left:
                                left.discard(known)
                                times.append(message.at_ms)
                                due, before = dues[known], latest.get(place.partition, 0)
                                overtaken = max(overtaken, before - due)
                                latest[place.partition] = max(before, due)
                    self._teller.progress(f"{len(times):,} released")
        finally:
            await reader.stop()
        return len(times) / max((max(times) - min(times)) / 1000, 1e-3), overtaken

    async def _queries(self, connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, float]:
        """What the hold process asks in its loops, at the median; nothing of it is kept."""
        later = time.time_ns() // 1_000_000 + 40 * DAY_MS
        asked: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "release": lambda conn: held.due(conn, Class.MARKETING, later, BATCH),
            "expiry": lambda conn: held.expired(conn, later, BATCH),
            "count": held.count,
            "scopes": held.scopes,
        }
        found = {}
        for name, ask in asked.items():
            took = []
            for _ in range(TRIALS):
                undone = connection.transaction()
                await undone.start()
                began = time.perf_counter()
                await ask(connection)
                took.append((time.perf_counter() - began) * 1e3)
                await undone.rollback()
            found[name] = median(took)
        self._teller.step("the release query:")
        for (line,) in await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) {held.DUE}", "marketing", later, BATCH):
            self._teller.step(line)
        return found


def figures(few: Found, many: Found) -> list[Figure]:
    """The table. Only what does not hang on the machine gates."""
    rows = f"{many.rows:,} waiting"
    lines = [
        Figure(f"hold process, resident, {few.rows:,} waiting", few.rss, "MB"),
        Figure(f"hold process, resident, {rows}", many.rss, "MB", few.rss + GROWTH_MB, gates=True),
        Figure(f"disk, {rows}", many.disk / 1e6, "MB", note="table and indexes"),
        Figure("disk a message", many.disk / many.rows, "B"),
        Figure(f"released, {few.rows:,} waiting", few.rate, "messages/s"),
        Figure(f"released, {rows}", many.rate, "messages/s"),
        Figure("the most that one overtook another by, in one partition", float(many.overtaken_ms), "ms"),
    ]
    for name, took in many.ms.items():
        most = max(few.ms[name] * SLOWER, FASTEST_MS)
        lines.append(Figure(f"{name} query, {few.rows:,} waiting", few.ms[name], "ms"))
        lines.append(Figure(f"{name} query, {rows}", took, "ms", most, gates=True))
    return lines


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    return command(
        "loadtests.held",
        __doc__,
        lambda rows, teller: Bench(rows, teller).run(),
        rows=1_000_000,
        told="messages that wait",
        title="messages held",
        words=words,
    )


if __name__ == "__main__":
    sys.exit(main())
