"""The due table: messages waiting for their time, or for a breaker scope to close.

Owns `held`. The hold process is its only writer: it adds what `messages.held` brings, and in one transaction takes due
rows (SKIP LOCKED, so several holders share the work), publishes them and deletes them. A crash between publish and
commit releases a row twice; the claim drops the second. A row never leaves the table without one of those.
Every function runs on the connection it is given, so that the caller's transaction bounds it. None costs more when more
wait: each begins in an index where its rows are, and takes a bounded number of them (`make bench-held`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from asyncpg import Record

from gateway.contract.decision import Class
from gateway.records.connection import Connection


class Held(NamedTuple):
    """One waiting message. Times are Unix milliseconds; `payload` is the `Accepted` record as JSON."""

    id: str
    due: int
    expires_at: int
    attempt: int
    cls: Class
    scope: str | None
    """The breaker scope it is parked for, or none: then only its time counts."""
    payload: bytes


_ADD = """
INSERT INTO held (id, due, expires_at, attempt, class, scope, payload)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::smallint[], $5::text[], $6::text[], $7::bytea[])
ON CONFLICT (id) DO UPDATE SET due = excluded.due, expires_at = excluded.expires_at, attempt = excluded.attempt,
    class = excluded.class, scope = excluded.scope, payload = excluded.payload
WHERE excluded.attempt > held.attempt
"""
DUE = """
SELECT id, due, expires_at, attempt, class, scope, payload FROM held WHERE class = $1 AND scope IS NULL AND due <= $2
ORDER BY due LIMIT $3 FOR UPDATE SKIP LOCKED
"""
_SCOPES = """
WITH RECURSIVE known AS (
    (SELECT scope FROM held WHERE scope IS NOT NULL ORDER BY scope LIMIT 1)
    UNION ALL
    SELECT (SELECT h.scope FROM held h WHERE h.scope > known.scope ORDER BY h.scope LIMIT 1)
    FROM known WHERE known.scope IS NOT NULL
)
SELECT scope FROM known WHERE scope IS NOT NULL
"""
_UNPARK = """
UPDATE held SET scope = NULL
WHERE id = ANY(ARRAY(SELECT id FROM held WHERE scope = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))
"""
_PARKED = """
SELECT id, payload FROM held WHERE scope = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3
"""
_UNPARK_THESE = "UPDATE held SET scope = NULL WHERE scope = $1 AND id = ANY($2::uuid[])"
COUNTED = 10_000
_EXPIRED = """
SELECT id, due, expires_at, attempt, class, scope, payload FROM held WHERE expires_at <= $1
ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""


async def add(conn: Connection, rows: Iterable[Held]) -> None:
    """Put messages in; of one id the newest attempt stays, and adding the same again changes nothing."""
    newest: dict[str, Held] = {}
    for row in rows:
        known = newest.get(row.id)
        if known is None or row.attempt > known.attempt:
            newest[row.id] = row
    if newest:
        await conn.execute(_ADD, *map(list, zip(*newest.values(), strict=True)))


async def due(conn: Connection, cls: Class, now_ms: int, limit: int) -> list[Held]:
    """Lock and return at most `limit` rows of a class whose time has come, earliest first, parked ones left out.

    Call inside a transaction: publish, `delete`, commit.
    """
    return [_held(row) for row in await conn.fetch(DUE, cls.value, now_ms, limit)]


async def expired(conn: Connection, now_ms: int, limit: int) -> list[Held]:
    """Lock and return rows, parked ones included, whose life is over; they end `expired`. Inside a transaction."""
    return [_held(row) for row in await conn.fetch(_EXPIRED, now_ms, limit)]


async def delete(conn: Connection, ids: Iterable[str]) -> None:
    """Remove rows that were released or ended."""
    await conn.execute("DELETE FROM held WHERE id = ANY($1::uuid[])", list(ids))


async def park(conn: Connection, ids: Iterable[str], scope: str) -> None:
    """Make rows wait for a breaker scope instead of their time."""
    await conn.execute("UPDATE held SET scope = $2 WHERE id = ANY($1::uuid[])", list(ids), scope)


async def scopes(conn: Connection) -> list[str]:
    """The breaker scopes that rows wait for: one step in the index for each, however many wait."""
    return [row["scope"] for row in await conn.fetch(_SCOPES)]


async def unpark(conn: Connection, scope: str, limit: int) -> int:
    """Let rows of a closed scope go at their time again, at most `limit`; returns how many went."""
    tag = await conn.execute(_UNPARK, scope, limit)
    return int(tag.rsplit(" ", 1)[1])


async def parked(conn: Connection, scope: str, after: str | None, limit: int) -> list[tuple[str, bytes]]:
    """Ids and payloads of rows that wait for a scope, in the order of their ids, after one of them."""
    return [(str(row["id"]), row["payload"]) for row in await conn.fetch(_PARKED, scope, after, limit)]


async def unpark_these(conn: Connection, scope: str, ids: Iterable[str]) -> int:
    """Let these rows of a scope go at their time again; returns how many went."""
    tag = await conn.execute(_UNPARK_THESE, scope, list(ids))
    return int(tag.rsplit(" ", 1)[1])


async def count(conn: Connection) -> int:
    """How many messages wait, parked ones included: exact up to `COUNTED`, above it what PostgreSQL estimates."""
    counted = int(await conn.fetchval(f"SELECT count(*) FROM (SELECT FROM held LIMIT {COUNTED + 1}) AS first"))  # noqa: S608 - a constant
    if counted <= COUNTED:
        return counted
    return max(counted, int(await conn.fetchval("SELECT reltuples FROM pg_class WHERE oid = 'held'::regclass")))


def _held(row: Record) -> Held:
    return Held(
        str(row["id"]),
        row["due"],
        row["expires_at"],
        row["attempt"],
        Class(row["class"]),
        row["scope"],
        row["payload"],
    )
