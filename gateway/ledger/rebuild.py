"""Fills lanes of the cache from all states, as one snapshot of PostgreSQL has them.

Pages are read while the page before is being applied. The lanes' cursors are written last: whatever stops a fill half-way
leaves lanes that still refuse as cold, and beginning again is always right, since states are absolute and guarded by
`seq`: what an appender applied meanwhile is newer and stays.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from pydantic import TypeAdapter

from gateway.contract.consent import State
from gateway.ledger.rows import Connection

Progress = Callable[[int, int], None]
"""(recipients done, recipients in all)."""

PAGE = 4_000
APPLYING = 2
PAGE_S = 10.0
COUNT = "SELECT count(*) FROM subject_states WHERE lane = ANY($1::smallint[])"
STATES = "SELECT subject, state FROM subject_states WHERE lane = ANY($1::smallint[])"
HEAD = "SELECT seq FROM ledger_head"

_STATES = TypeAdapter(list[State])


class Fills(Protocol):
    """What of `guard.Guard` a fill needs."""

    async def apply(self, states: Sequence[tuple[bytes, State]], *, blocking: bool = False) -> list[int]:
        """Write absolute states, guarded by `seq`."""

    async def set_cursors(self, seq: int, lanes: Sequence[int] | None = None) -> None:
        """Write lanes' cursors."""


async def fill(connection: Connection, guard: Fills, lanes: Sequence[int], progress: Progress) -> int:
    """Apply everybody in the lanes, then set the lanes' cursors; the `seq` they are at."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        seq: int = await connection.fetchval(HEAD, timeout=PAGE_S)
        total: int = await connection.fetchval(COUNT, list(lanes), timeout=PAGE_S * 6)
        await _stream(connection, guard, lanes, lambda done: progress(done, total))
    await guard.set_cursors(seq, list(lanes))
    return seq


async def _stream(connection: Connection, guard: Fills, lanes: Sequence[int], tell: Callable[[int], None]) -> None:
    cursor = await connection.cursor(STATES, list(lanes), timeout=PAGE_S)
    running: list[asyncio.Task[int]] = []
    done = 0
    try:
        while page := await cursor.fetch(PAGE, timeout=PAGE_S):
            if len(running) == APPLYING:
                done += await running.pop(0)
                tell(done)
            running.append(asyncio.ensure_future(_apply(guard, [(row["subject"], row["state"]) for row in page])))
        while running:
            done += await running.pop(0)
            tell(done)
    finally:
        for task in running:
            task.cancel()
    tell(done)


async def _apply(guard: Fills, page: Sequence[tuple[bytes, bytes]]) -> int:
    states = _STATES.validate_json(b"[" + b",".join(raw for _, raw in page) + b"]")
    async with asyncio.timeout(PAGE_S):
        await guard.apply([(subject, state) for (subject, _), state in zip(page, states, strict=True)])
    return len(page)
