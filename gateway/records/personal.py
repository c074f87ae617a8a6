"""What message rows, replies and complaints say about one person, for their own rights.

Reads `messages`, `replies` and `complaints`; deletes from `replies`, `webhooks`, `opt_ins` and `answers_due`, and what
messages said (`contents`), takes from complaints, which stay as figures, their words and whose they were, and the
person's name off `signals` and the lists that were cleansed. Rows of messages hold no number and no text: they keep the
pseudonym until their day is dropped (`partitions`), because receipts, refunds and windows still find a message by it.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from asyncpg import Pool, Record

from gateway.contract.decision import Status
from gateway.records import cleansing_people, contents, holds, signals
from gateway.records.timeline import STATUS_NUMBERS

DEADLINE_S = 2.0
MOST_REPLIES = 1_000
_NEVER_SENT = [STATUS_NUMBERS[one] for one in (Status.HELD, Status.CANCELLED, Status.REJECTED, Status.EXPIRED)]
_QUEUED = STATUS_NUMBERS[Status.QUEUED]
_HANDED = [STATUS_NUMBERS[one] for one in (Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.UNKNOWN)]
# A message counts from when a carrier first had it; one that is queued may have gone, so it counts from its acceptance.
_LAST = """
SELECT greatest(
    (SELECT max(at) FROM (
        SELECT coalesce(
            min((step->>0)::bigint) FILTER (WHERE (step->>1)::int = ANY($2)),
            min((step->>0)::bigint) FILTER (WHERE (step->>1)::int = $3 AND m.status <> ALL($4))
        ) AS at FROM messages m, json_array_elements(m.timeline) AS step WHERE m.subject = $1 GROUP BY m.id
    ) AS sent),
    (SELECT max(received_at) FROM replies WHERE subject = $1)
)
"""
_WORDS = """
WITH own AS (UPDATE complaints SET subject = NULL, sealed = NULL WHERE subject = $1 RETURNING id)
UPDATE case_acts a SET sealed = NULL FROM own WHERE a.complaint = own.id AND a.sealed IS NOT NULL
"""
_REPLIES = """
SELECT port, meaning, scope, at, received_at FROM replies WHERE subject = $1 ORDER BY received_at DESC LIMIT $2
"""
_COMPLAINTS = """
SELECT id::text, source, port, sender, at, received_at, state, outcome, sealed FROM complaints
WHERE subject = $1 ORDER BY received_at DESC, id LIMIT $2
"""


class Complained(NamedTuple):
    """A complaint of the person, its words sealed. Times are Unix milliseconds."""

    id: str
    source: str
    port: str | None
    sender: str | None
    at: int
    received_at: int
    state: str
    outcome: str | None
    sealed: bytes | None


class Said(NamedTuple):
    """A reply of the person: to which port, what it meant, what it withdrew. Times are Unix milliseconds."""

    port: str
    meaning: str
    scope: str | None
    at: int
    received_at: int


class Personal:
    """One person's part of the tables, over one pool; every call ends within `deadline_s` or raises TimeoutError."""

    def __init__(self, pool: Pool[Any], deadline_s: float = DEADLINE_S) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def last_message_ms(self, subject: bytes) -> int | None:
        """When the last message went to the person, or came from them; none where none is known."""
        (row,) = await self._fetch(_LAST, subject, _HANDED, _QUEUED, _NEVER_SENT)
        at: int | None = row[0]
        return at

    async def replies(self, subject: bytes, limit: int = MOST_REPLIES) -> list[Said]:
        """The newest replies first."""
        return [Said(*row) for row in await self._fetch(_REPLIES, subject, limit)]

    async def complaints(self, subject: bytes, limit: int = MOST_REPLIES) -> list[Complained]:
        """The newest complaints first."""
        return [Complained(*row) for row in await self._fetch(_COMPLAINTS, subject, limit)]

    async def forget(self, subject: bytes) -> None:
        """Delete what was said to and by the person, and what of it waits to be told; again is harmless."""
        await self._fetch("DELETE FROM webhooks WHERE subject = $1", subject)
        await self._fetch("DELETE FROM replies WHERE subject = $1", subject)
        await self._fetch(_WORDS, subject)
        async with asyncio.timeout(self._deadline_s), self._pool.acquire() as conn:
            await signals.forget(conn, subject)
            await cleansing_people.forget(conn, subject)
            await contents.forget(conn, subject, time.time_ns() // 1_000_000)

    async def held(self, subject: bytes) -> bool:
        """Whether a legal hold covers the person or a message to them."""
        async with asyncio.timeout(self._deadline_s), self._pool.acquire() as conn:
            return await holds.of_person(conn, subject)

    async def cancel(self, subject: bytes) -> None:
        """Delete what waits: an opt-in to be confirmed, an answer to be sent."""
        await self._fetch("DELETE FROM opt_ins WHERE subject = $1", subject)
        await self._fetch("DELETE FROM answers_due WHERE subject = $1", subject)

    async def _fetch(self, query: str, *args: object) -> list[Record]:
        async with asyncio.timeout(self._deadline_s), self._pool.acquire() as conn:
            return await conn.fetch(query, *args)
