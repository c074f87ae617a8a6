"""Keeps the guard's cache what the ledger says, and says so: the one process whose sign of life lets messages pass.

One connection holds an advisory lock and does all reading, so a second process waits, and losing the lock is losing the
reads. Loops beside each other:

- *follow*: every 100 ms, people changed by events after the cursor -> their whole state to the guard -> the cursor of
  every lane. What an appender could not apply before it died is applied here.
- *tend*: every 500 ms, the cursor each lane has really got. A lane behind (failover) is replayed from its own cursor, an
  empty one (flush) is filled from all states, its cursor last. Until then its cursor is behind the announced minimum,
  and the scripts refuse it as cold.
- *beat*: every 500 ms the registry, the announced minimum (what every tended lane has) and a counter that moves: only
  after PostgreSQL has answered, and only while *follow* gets somewhere. Ten seconds without it stop every process.

A crash at any line leaves states that are right for some `seq` and cursors that are not ahead of them; the next process
goes on from the cursors. A cursor ahead of PostgreSQL (a restored backup, another database) is never followed: no beat.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import asyncpg

from gateway import telemetry
from gateway.contract.consent import State
from gateway.contract.ids import LANES
from gateway.contract.registry import Registry
from gateway.ledger.rebuild import Progress, fill
from gateway.ledger.rows import Connection, decode_state

LOCK = 0x4C45_4447_4552  # "LEDGER"
FOLLOW_S = 0.1
TEND_S = 0.5
PAGE = 2_000
QUERY_S = 5.0
GUARD_S = 5.0
STALLED_S = 5.0
"""Without a successful pass of *follow* for this long, no beat."""

HEAD = "SELECT seq FROM ledger_head"
CHANGED = """
SELECT subject, state FROM subject_states WHERE lane = ANY($3::smallint[]) AND subject IN (
    SELECT subject FROM consent_events WHERE seq > $1 AND seq <= $2 AND subject IS NOT NULL)
"""

_log = telemetry.logger("ledger")


class CacheAheadError(Exception):
    """The cache holds events that this database does not: it belongs to another one, or a backup was restored."""


class Projects(Protocol):
    """What of `guard.Guard` the projection needs."""

    async def apply(self, states: Sequence[tuple[bytes, State]], *, blocking: bool = False) -> list[int]:
        """Write absolute states, guarded by `seq`."""

    async def cursors(self) -> list[int | None]:
        """Each lane's cursor; none where the lane is empty."""

    async def set_cursors(self, seq: int, lanes: Sequence[int] | None = None) -> None:
        """Write lanes' cursors."""

    async def write_cfg(self, beat: int, min_seq: int, registry: Registry) -> None:
        """Publish the registry with a sign of life."""


class Projection:
    """One process's projection; `run` until cancelled."""

    def __init__(self, dsn: str, guard: Projects, load_registry: Callable[[], Awaitable[Registry]]) -> None:
        self._dsn, self._guard, self._load_registry = dsn, guard, load_registry
        self._beat = time.time_ns() // 1_000_000
        self._busy = asyncio.Lock()
        self.seq = -1
        """The announced minimum: every lane has everything up to here. Below 0: not known yet."""
        self._passed_at = 0.0

    async def run(self) -> None:
        """Project until cancelled. Whatever fails is logged and begun again after a second; no beat meanwhile."""
        while True:
            try:
                await self._hold_and_project()
            except Exception as error:  # noqa: BLE001 - the loop is how the process survives its parts' faults
                _log.warning("projection_interrupted", error=type(_first(error)).__name__)
            await asyncio.sleep(1.0)

    async def _hold_and_project(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=QUERY_S)
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK, timeout=QUERY_S):
                await asyncio.sleep(1.0)
            _log.info("projection_started")
            self.seq = -1
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tend(connection))
                group.create_task(self._follow(connection))
                group.create_task(self._send_beats())
        finally:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=1.0)

    async def _follow(self, connection: Connection) -> None:
        while True:
            async with self._busy:
                more = self.seq >= 0 and await self._advance(connection)
            if not more:
                await asyncio.sleep(FOLLOW_S)

    async def _advance(self, connection: Connection) -> bool:
        """One page of events to every lane; whether there are more."""
        head: int = await connection.fetchval(HEAD, timeout=QUERY_S)
        if head < self.seq:
            raise CacheAheadError(f"cursor {self.seq}, head {head}")
        to = min(head, self.seq + PAGE)
        if to > self.seq:
            await self._replay(connection, self.seq, to, range(LANES))
            self.seq = to
            telemetry.CURSOR.set(to)
        self._passed_at = time.monotonic()
        return to < head

    async def _replay(self, connection: Connection, after: int, to: int, lanes: Sequence[int]) -> None:
        """Everybody in these lanes touched by events in (after, to], then the lanes' cursors."""
        found = await connection.fetch(CHANGED, after, to, list(lanes), timeout=QUERY_S)
        async with asyncio.timeout(GUARD_S):
            if found:
                await self._guard.apply([(row["subject"], decode_state(row["state"])) for row in found])
            await self._guard.set_cursors(to, list(lanes))

    async def _tend(self, connection: Connection) -> None:
        while True:
            async with self._busy:
                async with asyncio.timeout(GUARD_S):
                    cursors = await self._guard.cursors()
                await self._mend(connection, cursors)
            await asyncio.sleep(TEND_S)

    async def _mend(self, connection: Connection, cursors: Sequence[int | None]) -> None:
        """Bring every lane to where the best stands, or to the head when all are empty."""
        head: int = await connection.fetchval(HEAD, timeout=QUERY_S)
        known = [cursor for cursor in cursors if cursor is not None]
        if max(known, default=0) > head:
            raise CacheAheadError(f"cursor {max(known)}, head {head}")
        target = max(self.seq, *known) if known else max(self.seq, 0)
        for lane, cursor in enumerate(cursors):
            at = cursor
            while at is not None and at < target:
                to = min(target, at + PAGE)
                await self._replay(connection, at, to, [lane])
                at = to
        empty = [lane for lane, cursor in enumerate(cursors) if cursor is None]
        if empty:
            _log.warning("lanes_empty", lanes=len(empty))
            await self._fill(empty, target)
        self.seq = max(self.seq, target)

    async def _fill(self, lanes: Sequence[int], least: int) -> None:
        """Fill empty lanes on a connection of its own; what is appended meanwhile is followed afterwards."""
        connection = await asyncpg.connect(self._dsn, timeout=QUERY_S)
        try:
            seq = await fill(connection, self._guard, lanes, self._alive)
        finally:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=1.0)
        # The snapshot is at or past `least`, and a lane may be ahead of the announced minimum, never behind it.
        if seq < least:
            raise CacheAheadError(f"cursor {least}, head {seq}")

    def _alive(self, _done: int, _total: int) -> None:
        self._passed_at = time.monotonic()

    async def _send_beats(self) -> None:
        while True:
            if self.seq >= 0 and time.monotonic() - self._passed_at < STALLED_S:
                async with asyncio.timeout(QUERY_S):
                    registry = await self._load_registry()
                    self._beat += 1
                    await self._guard.write_cfg(self._beat, self.seq, registry)
            await asyncio.sleep(TEND_S)


async def rebuild(dsn: str, guard: Projects, progress: Progress) -> int:
    """Fill every lane from PostgreSQL (`assent rebuild`), the cursors last; the number of recipients."""
    connection = await asyncpg.connect(dsn, timeout=QUERY_S)
    told = [0]

    def tell(done: int, total: int) -> None:
        told[0] = done
        progress(done, total)

    try:
        await fill(connection, guard, range(LANES), tell)
    finally:
        await connection.close(timeout=QUERY_S)
    return told[0]


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
