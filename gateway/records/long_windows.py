"""What PostgreSQL remembers for the cache beyond the day that Kafka is read for: long windows and used requests.

Owns the reading; settle writes both tables (`settlement.owe`, `give_back_windows`). Each stream has a connection and a
snapshot of its own and holds one page at a time. A crash leaves nothing.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

import asyncpg

PAGE = 4_000
CONNECT_S = 10.0
PAGE_S = 60.0
"""The first page comes after whatever sorting PostgreSQL chose."""

_STAMPS = """
SELECT subject, field, array_agg(stamp ORDER BY stamp) AS stamps FROM long_windows
WHERE stamp >= ($3::bigint[])[array_position($2::text[], field)] AND stamp < $4
    AND get_byte(subject, 0) & 15 = ANY($1::int[])
GROUP BY subject, field
"""  # in the order of the primary key, which holds every column: no sort, no heap
_REQUESTS = """
SELECT u.subject, u.sender, o.purpose, u.ref, u.id, u.used_at
FROM used_requests u JOIN messages m ON m.id = u.id JOIN message_origins o ON o.id = m.origin
WHERE u.used_at >= ($3::bigint[])[array_position($2::text[], o.purpose)] AND u.used_at < $4
    AND get_byte(u.subject, 0) & 15 = ANY($1::int[])
"""


class Consumed(NamedTuple):
    """Everything in one window field of one person, ascending Unix ms."""

    subject: bytes
    field: str
    stamps: list[int]


class UsedRequest(NamedTuple):
    """A request of a person that a message used up. `used_at`: when the message was accepted, Unix ms."""

    subject: bytes
    sender: str
    purpose: str
    ref: str
    id: str
    used_at: int


async def stamps(
    dsn: str, lanes: Sequence[int], since: Mapping[str, int], before_ms: int
) -> AsyncIterator[list[Consumed]]:
    """Pages of what was consumed in the fields of `since` at or after its time and before `before_ms`."""
    async for rows in _pages(dsn, _STAMPS, lanes, since, before_ms):
        yield [Consumed(row["subject"], row["field"], row["stamps"]) for row in rows]


async def requests(
    dsn: str, lanes: Sequence[int], since: Mapping[str, int], before_ms: int
) -> AsyncIterator[list[UsedRequest]]:
    """Pages of the requests that messages of the purposes of `since` used at or after its time, before `before_ms`."""
    async for rows in _pages(dsn, _REQUESTS, lanes, since, before_ms):
        yield [
            UsedRequest(row["subject"], row["sender"], row["purpose"], row["ref"], str(row["id"]), row["used_at"])
            for row in rows
        ]


async def _pages(
    dsn: str, statement: str, lanes: Sequence[int], since: Mapping[str, int], before_ms: int
) -> AsyncIterator[list[asyncpg.Record]]:
    if not since:
        return
    connection = await asyncpg.connect(dsn, timeout=CONNECT_S)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute("SET LOCAL enable_hashagg = off")
            cursor = await connection.cursor(
                statement, list(lanes), list(since), list(since.values()), before_ms, timeout=PAGE_S
            )
            while page := await cursor.fetch(PAGE, timeout=PAGE_S):
                yield page
    finally:
        await connection.close(timeout=CONNECT_S)
