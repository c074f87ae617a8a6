"""Finding messages for people: of a person, a reference, a campaign, within a time; newest first, a page at a time.

Reads only. What names a person or a reference is found by its index; a campaign by the minutes its messages were
accepted in (`outcome_minutes`), so that a year without it costs nothing. Every call ends within `DEADLINE_S`.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from asyncpg import Pool

from gateway.contract.decision import Status
from gateway.contract.ids import id_time_ms
from gateway.records.messages import SELECT, Message, message_of
from gateway.records.partitions import DAY_MS, lowest_id
from gateway.records.timeline import STATUS_NUMBERS

DEADLINE_S = 4.0
PAGE = 50
LAST_MS = (1 << 48) - 1
_QUEUED = STATUS_NUMBERS[Status.QUEUED]
_ORIGINS = """
SELECT id FROM message_origins WHERE ($1::text IS NULL OR campaign = $1) AND ($2::text IS NULL OR sender = $2)
"""
_LATEST = """
SELECT max(minute) FROM outcome_minutes WHERE minute <= $1 AND minute >= $2 AND origin = ANY($3::int[]) AND status = $4
"""
_FOUND = (
    SELECT
    + """WHERE m.id >= $1 AND m.id < $2 AND ($3::bytea IS NULL OR m.subject = $3)
    AND ($4::text IS NULL OR m.client_ref = $4) AND ($5::int[] IS NULL OR m.origin = ANY($5))
ORDER BY m.id DESC LIMIT $6"""
)
SPAN_MS = 3_600_000
"""Of how much time one query of a campaign reads the log at most."""


class Wanted(NamedTuple):
    """Which messages: those that everything given applies to. Times (Unix ms) are of the id, `until_ms` is out."""

    subject: bytes | None = None
    client_ref: str | None = None
    campaign: str | None = None
    sender: str | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    before: str | None = None
    """The last id of the page before."""


async def found(pool: Pool[Any], wanted: Wanted, limit: int = PAGE) -> list[Message]:
    """One page. Raises TimeoutError."""
    low = wanted.from_ms or 0
    high = wanted.before or lowest_id(LAST_MS if wanted.until_ms is None else wanted.until_ms)
    async with asyncio.timeout(DEADLINE_S):
        origins = None
        if wanted.campaign is not None or wanted.sender is not None:
            origins = [row["id"] for row in await pool.fetch(_ORIGINS, wanted.campaign, wanted.sender)]
        if origins is None or wanted.subject is not None or wanted.client_ref is not None:
            return await _page(pool, wanted, lowest_id(low), high, origins, limit)
        return await _walked(pool, wanted, low, high, origins, limit)


async def _walked(
    pool: Pool[Any], wanted: Wanted, low_ms: int, high: str, origins: list[int], limit: int
) -> list[Message]:
    """Backwards from span to span in which messages of these origins were accepted."""
    rows: list[Message] = []
    while len(rows) < limit:
        # A held or retried message is accepted later than its id says, so the counting minute only bounds from above.
        top = id_time_ms(high) if high < lowest_id(LAST_MS) else None
        latest = await pool.fetchval(
            _LATEST, 1 << 40 if top is None else (top + DAY_MS) // 60_000, low_ms // 60_000, origins, _QUEUED
        )
        if latest is None:
            break
        end_ms = min(latest * 60_000 + 60_000, LAST_MS if top is None else top + 1)
        span = lowest_id(max(low_ms, end_ms - SPAN_MS))
        rows += await _page(pool, wanted, span, min(high, lowest_id(end_ms)), origins, limit - len(rows))
        if id_time_ms(span) <= low_ms:
            break
        high = span
    return rows


async def _page(
    pool: Pool[Any], wanted: Wanted, low: str, high: str, origins: list[int] | None, limit: int
) -> list[Message]:
    given = (wanted.subject, wanted.client_ref, origins)
    return [message_of(row) for row in await pool.fetch(_FOUND, low, high, *given, limit)]
