"""Keeps the guard's cache what the ledger says, and says so: the one process whose sign of life lets messages pass.

One connection holds an advisory lock and does all reading, so a second process waits, and losing the lock is losing the
reads. Loops beside each other:

- *follow*: every 100 ms, people changed by events after the cursor -> their whole state to the guard -> the cursor of
  every lane. What an appender could not apply before it died is applied here.
- *tend*: every 500 ms, the cursor each lane has really got. A lane behind (failover) is replayed from its own cursor,
  an empty one (flush) is filled from all states and gets back what only it held (`recovery.py`; with Kafka away it
  waits). Until then its cursor is behind the announced minimum, and the scripts refuse it as cold.
- *beat*: every 500 ms the registry, the announced minimum and a counter that moves: only after PostgreSQL has answered,
  and only while the other two get somewhere. Ten seconds without it stop every process.

Cursors move by compare-and-set, after their states are written (and have reached a replica where there is one), so a
crash, a flush or a failover at any line leaves cursors that are not ahead of what is there; the next round goes on from
them. A cursor ahead of PostgreSQL (a restored backup, another database) is never followed: an error and no beat.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import asyncpg

from gateway import telemetry
from gateway.contract.ids import LANES
from gateway.contract.registry import Registry
from gateway.guard.cursors import Cursors
from gateway.guard.guard import Guard
from gateway.ledger.rebuild import fill, lacks, rebuild
from gateway.ledger.recovery import Recovery
from gateway.ledger.rows import AWAY, Connection, decode_state

__all__ = ["CacheAheadError", "Projection", "rebuild"]

LOCK = 0x4C45_4447_4552  # "LEDGER"
FOLLOW_S = 0.1
TEND_S = 0.5
AGAIN_S = 1.0
PAGE = 2_000
QUERY_S = 5.0
GUARD_S = 5.0
STALLED_S = 5.0
"""Without progress of *follow* or of a fill for this long, no beat."""
ROUNDS = 5
"""Attempts to bring all lanes to one cursor before starting over."""

TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
HEAD = "SELECT seq FROM ledger_head"
CHANGED = """
SELECT subject, state FROM subject_states WHERE lane = ANY($3::smallint[]) AND subject IN (
    SELECT subject FROM consent_events WHERE seq > $1 AND seq <= $2 AND subject IS NOT NULL)
"""

_log = telemetry.logger("ledger")


class CacheAheadError(Exception):
    """The cache holds events that this database does not: it belongs to another one, or a backup was restored."""


class LanesUnsteadyError(Exception):
    """Lanes keep changing under the projection: another writer, or a server that keeps failing over."""


class Projection:
    """One process's projection; `run` until cancelled. `seq` is the announced minimum, below 0 while unknown."""

    def __init__(
        self,
        dsn: str,
        guard: Guard,
        load_registry: Callable[[], Awaitable[Registry]],
        recovery: Recovery | None = None,
        companion: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Without `recovery` an emptied lane gets its people back and nothing else: its windows begin anew.

        `companion` runs for as long as this process holds the lock: what only one process may do.
        """
        self._dsn, self._guard, self._load_registry, self._recovery = dsn, guard, load_registry, recovery
        self._companion = companion
        self._cursors = Cursors(guard.server)
        self._beat = time.time_ns() // 1_000_000
        self._one_at_a_time = asyncio.Lock()
        self._progressed_at = 0.0
        self.seq = -1

    async def run(self) -> None:
        """Project until cancelled. Whatever fails is logged and begun again after a second; no beat meanwhile."""
        while True:
            try:
                await self._hold_and_project()
            except Exception as error:
                if _cancelled():  # a group whose member fails raises that fault instead
                    raise asyncio.CancelledError from error
                _log.warning("projection_interrupted", error=type(_first(error)).__name__)
            await asyncio.sleep(AGAIN_S)

    async def _hold_and_project(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=QUERY_S)
        try:
            await _lock(connection)
            _log.info("projection_started")
            self.seq = -1
            await asyncio.create_task(self._project(connection))
        finally:
            await _close(connection)

    async def _project(self, connection: Connection) -> None:
        """The loops until the first fails, on a task that ends with them.

        A group whose member failed leaves a cancellation counted on its task, and before Python 3.11.4 a timeout on
        such a task comes out as a cancellation: closing the connection would have ended the projection for good.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tend(connection))
            group.create_task(self._follow(connection))
            group.create_task(self._send_beats())
            if self._companion is not None:
                group.create_task(self._companion())

    async def _follow(self, connection: Connection) -> None:
        while True:
            async with self._one_at_a_time:
                more = self.seq >= 0 and await self._advance(connection)
            if not more:
                await asyncio.sleep(FOLLOW_S)

    async def _advance(self, connection: Connection) -> bool:
        """One page of events to every lane; whether there are more. A lane that did not move is tended next."""
        head = await _head(connection, self.seq)
        to = min(head, self.seq + PAGE)
        if to > self.seq:
            await self._replay(connection, self.seq, to, range(LANES))
            self.seq = to
        self._progressed_at = time.monotonic()
        return to < head

    async def _replay(self, connection: Connection, after: int, to: int, lanes: Sequence[int]) -> bool:
        """Everybody in these lanes touched by events in (after, to], then the lanes' cursors; whether all moved."""
        found = await connection.fetch(CHANGED, after, to, list(lanes), timeout=QUERY_S)
        states = [(row["subject"], decode_state(row["state"])) for row in found]
        async with asyncio.timeout(GUARD_S):
            await self._guard.apply(states, blocking=True)
            return len(await self._cursors.move(to, dict.fromkeys(lanes, after))) == len(lanes)

    async def _tend(self, connection: Connection) -> None:
        while True:
            async with self._one_at_a_time:
                await self._mend(connection)
            telemetry.CURSOR.set(self.seq)
            await asyncio.sleep(TEND_S)

    async def _mend(self, connection: Connection) -> None:
        """Bring every lane to one cursor: where the announced minimum or the best lane stands."""
        for _ in range(ROUNDS):
            async with asyncio.timeout(GUARD_S):
                cursors = await self._cursors.read()
            empty = [lane for lane, cursor in enumerate(cursors) if lacks(cursor)]
            if empty:
                await self._fill(empty)
                continue
            target = max(self.seq, *(cursor or 0 for cursor in cursors))
            await _head(connection, target)
            if await self._catch_up(connection, cursors, target):
                self.seq = target
                return
        raise LanesUnsteadyError

    async def _catch_up(self, connection: Connection, cursors: Sequence[int | None], target: int) -> bool:
        """Replay lanes from their own cursors; whether all reached the target."""
        behind: dict[int, list[int]] = defaultdict(list)
        for lane, cursor in enumerate(cursors):
            if cursor is not None and cursor < target:
                behind[cursor].append(lane)
        for cursor, lanes in behind.items():
            for after in range(cursor, target, PAGE):
                if not await self._replay(connection, after, min(target, after + PAGE), lanes):
                    return False
                self._progressed_at = time.monotonic()
        return True

    async def _fill(self, lanes: Sequence[int]) -> None:
        """Fill empty lanes, on a connection of its own so that the lock's connection keeps no old snapshot."""
        _log.warning("lanes_empty", lanes=len(lanes))
        connection = await asyncpg.connect(self._dsn, timeout=QUERY_S)
        try:
            await fill(connection, self._guard, lanes, self._filled, self._recovery)
        finally:
            await _close(connection)

    def _filled(self, _stage: str, _done: int, _total: int) -> None:
        self._progressed_at = time.monotonic()

    async def _send_beats(self) -> None:
        """Beats once the lanes stand, and before that the registry alone.

        After a flush a settle process that has just started learns from it whose the replies are; the lanes are opened
        only when it has settled them.
        """
        while True:
            if self.seq < 0:
                with suppress(Exception):  # what is wrong with it is seen with the first beat; a fill goes on
                    async with asyncio.timeout(QUERY_S):
                        await self._guard.tell_registry(await self._load_registry())
            elif time.monotonic() - self._progressed_at < STALLED_S:
                async with asyncio.timeout(QUERY_S):
                    registry = await self._load_registry()
                    self._beat += 1
                    await self._guard.write_cfg(self._beat, self.seq, registry)
            await asyncio.sleep(TEND_S)


async def _lock(connection: Connection) -> None:
    """Wait for the process that projects now to end; the lock ends with its connection."""
    while not await connection.fetchval(TRY_LOCK, LOCK, timeout=QUERY_S):  # noqa: ASYNC110 - held by another process
        await asyncio.sleep(AGAIN_S)


async def _head(connection: Connection, cursor: int) -> int:
    head: int = await connection.fetchval(HEAD, timeout=QUERY_S)
    if cursor > head:
        raise CacheAheadError(f"cursor {cursor}, head {head}")
    return head


async def _close(connection: Connection) -> None:
    with suppress(*AWAY):
        await connection.close(timeout=1.0)


def _cancelled() -> bool:
    """Whether somebody asked this task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
