"""Fills lanes of the cache: all states, as one snapshot of PostgreSQL has them, then what only the lanes held.

Pages are read while the page before is being applied. A lane that holds nothing is marked first, and its cursor is
moved from that mark to the snapshot's `seq` last: whatever stops a fill half-way, a second flush included, leaves a
lane that still refuses as cold. Beginning again is always right: states are absolute and guarded by `seq`, so what an
appender applied meanwhile is newer and stays, and a lane that was good stays good while it is written over.

The first fill of an installation is remembered in PostgreSQL before any lane is opened. Until then nothing can have
been admitted, so it does not wait for what may still be landing in Kafka (`recovery.py`).
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import asyncpg
import orjson

from gateway.contract.ids import LANES
from gateway.guard import person
from gateway.guard.cursors import Cursors
from gateway.guard.guard import Guard
from gateway.ledger import rows
from gateway.ledger.day import MESSAGES, Progress
from gateway.ledger.recovery import Recovery
from gateway.ledger.rows import Connection

RECIPIENTS = "recipients"
PAGE = 2_048
APPLYING = 4
PAGE_S = 10.0
COUNT = "SELECT count(*) FROM subject_states WHERE lane = ANY($1::smallint[])"
STATES = f"SELECT subject, {rows.ENCODED} FROM subject_states WHERE lane = ANY($1::smallint[])"  # noqa: S608 - ours
RAW = "SELECT subject, state FROM subject_states WHERE subject = ANY($1::bytea[])"
HEAD = "SELECT seq FROM ledger_head"
FILLED = "SELECT EXISTS (SELECT FROM cache_filled)"
REMEMBER = "INSERT INTO cache_filled DEFAULT VALUES ON CONFLICT DO NOTHING"


class Filled(NamedTuple):
    """What `rebuild` did: recipients, and records of Kafka, each with the seconds it took."""

    recipients: int
    recipients_s: float
    messages: int
    messages_s: float


async def rebuild(dsn: str, guard: Guard, progress: Progress, recovery: Recovery | None = None) -> Filled:
    """Fill every lane (`assent rebuild`)."""
    connection = await asyncpg.connect(dsn, timeout=PAGE_S)
    done: dict[str, int] = {}
    began: dict[str, float] = {}
    ended: dict[str, float] = {}

    def tell(stage: str, so_far: int, total: int) -> None:
        ended[stage] = time.monotonic()
        began.setdefault(stage, ended[stage])
        done[stage] = so_far
        progress(stage, so_far, total)

    try:
        await fill(connection, guard, range(LANES), tell, recovery)
    finally:
        await connection.close(timeout=PAGE_S)
    seconds = {stage: ended[stage] - began[stage] for stage in done}
    return Filled(
        done.get(RECIPIENTS, 0), seconds.get(RECIPIENTS, 0.0), done.get(MESSAGES, 0), seconds.get(MESSAGES, 0.0)
    )


async def fill(
    connection: Connection, guard: Guard, lanes: Sequence[int], progress: Progress, recovery: Recovery | None
) -> None:
    """Fill the lanes. Those that were empty then have a cursor, unless something came in between.

    Without `recovery` nothing but the states is put back: windows begin anew.
    """
    cursors = Cursors(guard.server)
    found = await cursors.read()
    mark = -1 - secrets.randbelow(2**48)
    marked = await cursors.move(mark, {lane: found[lane] for lane in lanes if lacks(found[lane])})
    marked_at = time.monotonic()
    progress(RECIPIENTS, 0, 0)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        seq: int = await connection.fetchval(HEAD, timeout=PAGE_S)
        total: int = await connection.fetchval(COUNT, list(lanes), timeout=PAGE_S * 6)
        await _stream(connection, guard, lanes, lambda done: progress(RECIPIENTS, done, total))
    if recovery is not None:
        flushed = bool(marked) and await connection.fetchval(FILLED, timeout=PAGE_S)
        await recovery.run(lanes, marked_at if flushed else None, progress)
    if await cursors.confirm(dict.fromkeys(marked, mark)) == marked:
        await connection.execute(REMEMBER, timeout=PAGE_S)
        await cursors.move(seq, dict.fromkeys(marked, mark))


def lacks(cursor: int | None) -> bool:
    """Whether a lane with this cursor has to be filled: it never was, was flushed, or a fill of it ended half-way."""
    return cursor is None or cursor < 0


async def _stream(connection: Connection, guard: Guard, lanes: Sequence[int], tell: Callable[[int], None]) -> None:
    cursor = await connection.cursor(STATES, list(lanes), person.FORM, timeout=PAGE_S)
    running: list[asyncio.Task[int]] = []
    done = 0
    try:
        while page := await cursor.fetch(PAGE, timeout=PAGE_S):
            if len(running) == APPLYING:
                done += await running.pop(0)
                tell(done)
            states = await _encoded(connection, page)
            running.append(asyncio.ensure_future(_apply(guard, states)))
        while running:
            done += await running.pop(0)
            tell(done)
    finally:
        for task in running:
            task.cancel()
    tell(done)


async def _encoded(connection: Connection, page: Sequence[asyncpg.Record]) -> list[tuple[bytes, bytes]]:
    """A page as the guard takes it: copied where the row has the bytes, encoded from the state where it has not."""
    states = [(subject, raw) for subject, raw in page if raw is not None]
    if len(states) < len(page):
        bare = [subject for subject, raw in page if raw is None]
        found = await connection.fetch(RAW, bare, timeout=PAGE_S)
        states += [(row["subject"], person.encode_raw(orjson.loads(row["state"]))) for row in found]
    return states


async def _apply(guard: Guard, states: Sequence[tuple[bytes, bytes]]) -> int:
    """One page, on a replica too where there is one: a failover must not lose what the cursor will speak for."""
    async with asyncio.timeout(PAGE_S):
        await guard.fill(states)
    return len(states)
