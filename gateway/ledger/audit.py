"""Compares the guard's cache with PostgreSQL, person by person, and puts right what differs. Traffic may go on.

PostgreSQL is right. What each person's state says is encoded anew, so neither the cache nor the copies that a rebuild
takes are believed. What is not the same at first sight is looked at again: Redis is read before PostgreSQL, and what
Redis holds was committed before, so a difference that is no fault can only be that Redis is behind; it is one when
Redis still lacks, `sum(WAITS_S)` later, what was committed before the last wait.

Repair writes what is behind or missing through the guarded apply, as every other process does. What Redis holds in
other bytes, of a `seq` that is another person's, or of nobody PostgreSQL knows, was never written by us: it is replaced
or removed by compare-and-set, for a permission without an event must not stand. What claims an event *beyond* the
ledger's head is left: after PostgreSQL was restored from a backup it may be the last that is known of an opt-out. While
a lane's cursor is ahead nothing at all is repaired, for the same reason. Everything repaired is looked at once more.
Cursors are never moved here: lanes are filled by the ledger process or `assent rebuild`.
If this stops half-way nothing is half done: begin again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import asyncpg
import orjson

from gateway.contract.ids import LANES
from gateway.guard import person
from gateway.guard.cursors import Cursors
from gateway.guard.guard import Guard
from gateway.guard.inspection import Inspection, Wrong
from gateway.ledger import rows
from gateway.ledger.day import Progress
from gateway.ledger.rebuild import lacks

RECIPIENTS, ENTRIES = "recipients", "cache entries"
PAGE = 2_048
FLIGHTS = 4
LOOKS = 128
"""Pages being looked at again at once; most of their time they wait."""
QUERY_S = 10.0
WAITS_S = (0.0, 0.1, 0.4, 2.5)
"""Before each further look. An appender applies within two seconds of its commit, else the projection does."""

COUNT = "SELECT count(*) FROM subject_states"
STATES = f"SELECT subject, state, {rows.ENCODED} FROM subject_states WHERE lane = ANY($1::smallint[])"  # noqa: S608
SOME = "SELECT subject, state FROM subject_states WHERE subject = ANY($1::bytea[])"
UNKNOWN = """
SELECT given FROM unnest($1::bytea[]) AS given WHERE NOT EXISTS (SELECT FROM subject_states WHERE subject = given)
"""
COPY = """
UPDATE subject_states AS held SET form = $1, encoded = given.encoded
FROM unnest($2::bytea[], $3::bigint[], $4::bytea[]) AS given (subject, seq, encoded)
WHERE held.subject = given.subject AND held.seq = given.seq
"""
HEAD = "SELECT seq FROM ledger_head"

T = TypeVar("T")


class Verdict(StrEnum):
    """What is wrong with a person's entry."""

    BEHIND = "behind"
    """It lacks an event."""
    DIFFERENT = "different"
    """It says what no event says, or is of a `seq` that PostgreSQL does not have."""
    MISSING = "missing"
    UNKNOWN = "unknown"
    """PostgreSQL has nobody of this name."""


@dataclass(slots=True)
class Report:
    """What an audit found. `wrong` counts verdicts, and `repaired` how many of them are no more."""

    recipients: int = 0
    """Everybody PostgreSQL knows."""
    wrong: dict[Verdict, int] = field(default_factory=lambda: dict.fromkeys(Verdict, 0))
    repaired: int = 0
    beyond: int = 0
    """Of `wrong`, entries that claim an event after the ledger's last: they are never repaired."""
    copies: int = 0
    """States whose encoded copy in PostgreSQL is not what the state says: what a rebuild would put into Redis."""
    copied: int = 0
    """Copies written or put right."""
    cold: list[int] = field(default_factory=list)
    """Lanes that are empty or being filled; nothing is sent from them until then, so this is no difference."""
    ahead: list[int] = field(default_factory=list)
    """Lanes whose cursor says more than PostgreSQL has: another database, or a restored backup. Nothing is repaired."""
    seconds: float = 0.0

    @property
    def equal(self) -> int:
        """Recipients whose entry is what PostgreSQL says, or was once it had the time to follow."""
        return self.recipients - self._differing + self.wrong[Verdict.UNKNOWN]

    @property
    def _differing(self) -> int:
        return sum(self.wrong.values())

    @property
    def agrees(self) -> bool:
        """Whether nothing differs, or no more."""
        return self.repaired == self._differing and not self.ahead and self.copies <= self.copied


def _quiet(_stage: str, _done: int, _total: int) -> None:
    """For whoever wants no progress."""


async def agrees(dsn: str, guard: Guard) -> Report:
    """An audit that changes nothing."""
    return await audit(dsn, guard)


async def audit(dsn: str, guard: Guard, progress: Progress = _quiet, *, repair: bool = False) -> Report:
    """Compare everything. Raises GuardUnavailable, or what PostgreSQL raises."""
    began = time.monotonic()
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3, timeout=QUERY_S, command_timeout=QUERY_S) as pool:
        auditing = _Audit(pool, guard, progress, repair=repair)
        await auditing.run()
    auditing.report.seconds = time.monotonic() - began
    return auditing.report


class _Audit:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", guard: Guard, progress: Progress, *, repair: bool) -> None:
        self._pool, self._guard, self._progress, self._repair = pool, guard, progress, repair
        self._cache = Inspection(guard.server)
        self._again = _Flights(LOOKS)
        self._total = 0
        self._entries = 0
        self._strangers: set[bytes] = set()
        self.report = Report()

    async def run(self) -> None:
        """Everybody PostgreSQL knows, then everybody Redis holds, then the lanes."""
        await self._look_at_lanes()
        self._repair = self._repair and not self.report.ahead
        self._total = await self._pool.fetchval(COUNT, timeout=QUERY_S * 6)
        await self._each(self._recipients(), self._compare)
        await self._each(self._cache.subjects(), self._search)
        await self._look_at_lanes()

    async def _each(self, pages: AsyncIterator[list[T]], work: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        flights = _Flights(FLIGHTS)
        try:
            async for page in pages:
                await flights.start(work(page))
            await flights.land()
            await self._again.land()
        finally:
            flights.cancel()
            self._again.cancel()

    async def _recipients(self) -> AsyncIterator[list[asyncpg.Record]]:
        async with self._pool.acquire(timeout=QUERY_S) as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(STATES, list(range(LANES)), person.FORM, timeout=QUERY_S)
            while page := await cursor.fetch(PAGE, timeout=QUERY_S):
                yield page

    async def _compare(self, page: Sequence[asyncpg.Record]) -> None:
        right = _encoded(page)
        held = await self._cache.states([row["subject"] for row in page])
        suspects = [row["subject"] for row, was, said in zip(page, held, right, strict=True) if was != said]
        await self._compare_copies(page, right)
        self.report.recipients += len(page)
        self._progress(RECIPIENTS, self.report.recipients, max(self._total, self.report.recipients))
        if suspects:
            await self._again.start(self._settle(suspects))

    async def _compare_copies(self, page: Sequence[asyncpg.Record], right: Sequence[bytes]) -> None:
        pairs = [(row["subject"], said, row["encoded"]) for row, said in zip(page, right, strict=True)]
        self.report.copies += sum(copy is not None and copy != said for _, said, copy in pairs)
        stale = [(subject, person.seq_of(said), said) for subject, said, copy in pairs if copy != said]
        if stale and self._repair:
            done = await self._pool.execute(COPY, person.FORM, *zip(*stale, strict=True), timeout=QUERY_S)
            self.report.copied += int(done.rpartition(" ")[2])

    async def _search(self, subjects: Sequence[bytes]) -> None:
        self._entries += len(subjects)
        self._progress(ENTRIES, self._entries, max(self._total, self._entries))
        found = await self._pool.fetch(UNKNOWN, subjects, timeout=QUERY_S) if subjects else []
        strangers = {row["given"] for row in found} - self._strangers  # a scan may show one twice
        self._strangers |= strangers
        if strangers:
            await self._again.start(self._settle(list(strangers)))

    async def _settle(self, suspects: Sequence[bytes]) -> None:
        """Look again until it is clear, put right what is wrong, and look once more."""
        found = await self._wrong(suspects)
        if not found:
            return
        head: int = await self._pool.fetchval(HEAD, timeout=QUERY_S)
        self.report.beyond += sum(person.seq_of(one.found or b"") > head for _, one in found.values())
        for verdict, _ in found.values():
            self.report.wrong[verdict] += 1
        if self._repair:
            await self._put_right([each for each in found.values() if person.seq_of(each[1].found or b"") <= head])
            left = await self._wrong(list(found))
            self.report.repaired += len(found) - len(left)

    async def _wrong(self, suspects: Sequence[bytes]) -> dict[bytes, tuple[Verdict, Wrong]]:
        """Who of them is wrong for good, and how."""
        found: dict[bytes, tuple[Verdict, Wrong]] = {}
        before: dict[bytes, int] = dict.fromkeys(suspects, -1)
        for wait in WAITS_S:
            await asyncio.sleep(wait)
            subjects = list(before)
            held = await self._cache.states(subjects)
            page = await self._pool.fetch(SOME, subjects, timeout=QUERY_S)
            right = dict(zip([row["subject"] for row in page], _encoded(page), strict=True))
            late: dict[bytes, int] = {}
            for subject, was in zip(subjects, held, strict=True):
                one = Wrong(subject, was, right.get(subject))
                verdict = _judge(one)
                if verdict in (Verdict.BEHIND, Verdict.MISSING):
                    late[subject] = person.seq_of(one.right or b"")
                    verdict = None if was and person.seq_of(was) >= before[subject] >= 0 else verdict
                if verdict is None:
                    found.pop(subject, None)
                else:
                    found[subject] = verdict, one
            before = late
            if not before:
                break
        return found

    async def _put_right(self, found: Iterable[tuple[Verdict, Wrong]]) -> None:
        late: list[tuple[bytes, bytes]] = []
        foreign: list[Wrong] = []
        for verdict, one in found:
            if verdict in (Verdict.BEHIND, Verdict.MISSING) and one.right is not None:
                late.append((one.subject, one.right))
            else:
                foreign.append(one)
        await self._guard.apply_encoded(late, blocking=True)
        await self._cache.mend(foreign)

    async def _look_at_lanes(self) -> None:
        cursors = await Cursors(self._guard.server).read()
        head: int = await self._pool.fetchval(HEAD, timeout=QUERY_S)
        self.report.cold = [lane for lane, cursor in enumerate(cursors) if lacks(cursor)]
        self.report.ahead = [lane for lane, cursor in enumerate(cursors) if cursor is not None and cursor > head]


def _judge(one: Wrong) -> Verdict | None:
    """What is wrong where Redis was read before PostgreSQL; BEHIND and MISSING may only be on their way."""
    if one.found == one.right:
        return None
    if one.right is None:
        return Verdict.UNKNOWN
    if one.found is None:
        return Verdict.MISSING
    whole = len(one.found) >= person.SEQ_BYTES
    return Verdict.BEHIND if whole and person.seq_of(one.found) < person.seq_of(one.right) else Verdict.DIFFERENT


def _encoded(page: Sequence[asyncpg.Record]) -> list[bytes]:
    states = orjson.loads(b"[" + b",".join([row["state"] for row in page]) + b"]")
    return [person.encode_raw(state) for state in states]


class _Flights:
    """At most so many coroutines on the way; what one of them raises is raised by the next call."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: list[asyncio.Task[None]] = []

    async def start(self, work: Awaitable[None]) -> None:
        """Begin it, once there is room."""
        task = asyncio.ensure_future(work)
        self._running.append(task)
        if len(self._running) >= self._most:
            await self._running.pop(0)

    async def land(self) -> None:
        """Wait for all."""
        while self._running:
            await self._running.pop(0)

    def cancel(self) -> None:
        """Give up what is still on its way."""
        for task in self._running:
            if not task.cancel() and not task.cancelled():
                task.exception()  # another one was raised; this one is known too
        self._running.clear()
