"""The queue of webhooks: what is to be told to clients, whom it was sent to, and what was given up on.

Owns tables `webhooks` and `webhook_addresses`. `remember` and `enqueue` run in the transaction that
changes what a notice tells of, so neither is ever there without the other. A sender takes a row by moving its time to
the end of a lease (`take`) and marks it afterwards (`delivered`, `again`, `dead`): a crash between sending and marking
leaves a row that is sent once more, under the same id, when the lease is over. Everything that could name a person or
hold a secret comes in sealed and goes out sealed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from gateway.records.connection import Connection
from gateway.records.partitions import DAY_MS

PERSONAL_MS = 3 * DAY_MS
"""How long what holds a person's words waits at most."""
DEAD_MS = 30 * DAY_MS
"""How long what was given up on can be replayed, or at least be seen."""


class Address(NamedTuple):
    """Where a client wants to be called. `name` and `lane` are keyed digests, `sealed` the address itself."""

    name: bytes
    client: str
    lane: bytes
    sealed: bytes


class Row(NamedTuple):
    """One thing to tell, at one address. `id` is the same however often it is enqueued; `made_at` is Unix ms."""

    id: UUID
    address: bytes
    kind: str
    message: str | None
    subject: bytes | None
    made_at: int
    sealed: bytes


class Due(NamedTuple):
    """A row that is ours to send until its lease ends. `attempts` counts this one."""

    id: UUID
    client: str
    address: bytes
    lane: bytes
    attempts: int
    made_at: int
    sealed: bytes | None
    url: bytes
    gone: bool
    secret: bytes | None
    former: bytes | None
    former_until: int | None


class Dead(NamedTuple):
    """A row that was given up on, as it may be shown. Times are Unix ms."""

    id: UUID
    client: str
    kind: str
    message: UUID | None
    made_at: int
    dead_at: int
    attempts: int
    last: str | None
    kept: bool
    """Whether it can be replayed: what a person wrote is deleted after three days."""


class Levels(NamedTuple):
    """How much waits, since when (Unix ms), and how much was given up on."""

    waiting: int
    oldest: int | None
    dead: int


# --- in the transaction of what is told ----------------------------------------------------------------------------

_REMEMBER = """
INSERT INTO webhook_addresses AS a (name, client, lane, sealed, last_at)
SELECT u.name, u.client, u.lane, u.sealed, $5 FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::bytea[])
    AS u(name, client, lane, sealed)
ORDER BY u.name
ON CONFLICT (name) DO UPDATE SET last_at = excluded.last_at WHERE a.last_at < excluded.last_at
"""
_ENQUEUE = """
INSERT INTO webhooks (id, client, address, lane, kind, message, subject, made_at, due_at, sealed)
SELECT u.id, a.client, a.name, a.lane, u.kind, u.message, u.subject, u.made_at, u.made_at, u.sealed
FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::uuid[], $5::bytea[], $6::bigint[], $7::bytea[])
    AS u(id, address, kind, message, subject, made_at, sealed)
JOIN webhook_addresses a ON a.name = u.address
WHERE a.gone_at IS NULL
ON CONFLICT (id) DO NOTHING
"""


async def remember(conn: Connection, addresses: Collection[Address], now_ms: int) -> None:
    """Keep addresses that were given now; known ones are written again at most once a day."""
    if addresses:
        day_ms = now_ms - now_ms % DAY_MS
        await conn.execute(_REMEMBER, *map(list, zip(*addresses, strict=True)), day_ms)


async def enqueue(conn: Connection, rows: Collection[Row]) -> None:
    """Have these sent, once the caller's transaction commits. What is for an address that answered 410 is left out.

    Their addresses are remembered already. A row whose id is waiting stays as it is.
    """
    if rows:
        await conn.execute(_ENQUEUE, *map(list, zip(*rows, strict=True)))


async def unheard(conn: Connection, replies: Sequence[tuple[str, str, bytes]]) -> set[tuple[str, str, bytes]]:
    """Of replies (carrier, id, subject) those not in `replies` yet: a carrier may bring one twice, days apart."""
    if not replies:
        return set()
    known = await conn.fetch(
        "SELECT r.carrier, r.reply_id, r.subject FROM unnest($1::text[], $2::text[], $3::bytea[]) "
        "AS u(carrier, reply_id, subject) JOIN replies r USING (carrier, reply_id, subject)",
        *map(list, zip(*replies, strict=True)),
    )
    return set(replies) - {tuple(row) for row in known}


# --- sending -------------------------------------------------------------------------------------------------------

# Lanes are few: the recursion jumps from one to the next in the index, however much waits in each.
_TAKE = """
WITH RECURSIVE lanes AS (
    (SELECT lane FROM webhooks WHERE dead_at IS NULL ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT w.lane FROM webhooks w WHERE w.dead_at IS NULL AND w.lane > l.lane ORDER BY w.lane LIMIT 1)
    FROM lanes l WHERE l.lane IS NOT NULL
), rooms AS (
    SELECT l.lane, coalesce(f.room, $4) AS room
    FROM lanes l LEFT JOIN unnest($5::bytea[], $6::int[]) AS f(lane, room) ON f.lane = l.lane
    WHERE l.lane IS NOT NULL
), found AS MATERIALIZED (
    SELECT w.id FROM rooms r CROSS JOIN LATERAL (
        SELECT id FROM webhooks WHERE lane = r.lane AND dead_at IS NULL AND due_at <= $1
        ORDER BY due_at LIMIT r.room FOR UPDATE SKIP LOCKED
    ) w
    LIMIT $3
), taken AS (
    UPDATE webhooks w SET due_at = $2, attempts = w.attempts + 1 FROM found WHERE w.id = found.id
    RETURNING w.id, w.client, w.address, w.lane, w.attempts, w.made_at, w.sealed
)
SELECT t.*, a.sealed AS url, a.gone_at IS NOT NULL AS gone, c.secret, c.former, c.former_until
FROM taken t JOIN webhook_addresses a ON a.name = t.address LEFT JOIN client_webhooks c ON c.client = t.client
ORDER BY t.made_at, t.id
"""


async def take(
    conn: Connection, now_ms: int, *, lease_ms: int, most: int, each: int, rooms: Mapping[bytes, int]
) -> list[Due]:
    """Take at most `most` rows that are due, from each lane at most its room (`each` where `rooms` does not say).

    They are the caller's for `lease_ms`. Other senders take other rows meanwhile, and nobody waits for anybody.
    """
    rows = await conn.fetch(_TAKE, now_ms, now_ms + lease_ms, most, each, list(rooms), list(rooms.values()))
    return [Due(**dict(row)) for row in rows]


async def delivered(conn: Connection, ids: Collection[UUID]) -> None:
    """They were taken in by their receivers: nothing of them stays."""
    if ids:
        await conn.execute("DELETE FROM webhooks WHERE id = ANY($1::uuid[])", list(ids))


async def again(conn: Connection, rows: Collection[tuple[UUID, int, int, str]]) -> None:
    """Send these (id, attempt, due Unix ms, what came of it) again; not where somebody has taken one since."""
    if rows:
        await conn.execute(
            "UPDATE webhooks w SET due_at = u.due_at, last = u.last "
            "FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::text[]) AS u(id, attempts, due_at, last) "
            "WHERE w.id = u.id AND w.attempts = u.attempts AND w.dead_at IS NULL",
            *map(list, zip(*rows, strict=True)),
        )


async def dead(conn: Connection, rows: Collection[tuple[UUID, int, str]], now_ms: int) -> None:
    """Give these (id, attempt, what came of it) up; not where somebody has taken one since."""
    if rows:
        await conn.execute(
            "UPDATE webhooks w SET dead_at = $4, last = u.last "
            "FROM unnest($1::uuid[], $2::int[], $3::text[]) AS u(id, attempts, last) "
            "WHERE w.id = u.id AND w.attempts = u.attempts AND w.dead_at IS NULL",
            *map(list, zip(*rows, strict=True)),
            now_ms,
        )


async def gone(conn: Connection, addresses: Collection[bytes], now_ms: int) -> None:
    """These answered 410: nothing more is enqueued for them, and what waits is given up."""
    if addresses:
        names = list(addresses)
        await conn.execute(
            "UPDATE webhook_addresses SET gone_at = $2 WHERE name = ANY($1::bytea[]) AND gone_at IS NULL", names, now_ms
        )
        await conn.execute(
            "UPDATE webhooks SET dead_at = $2, last = 'gone' WHERE address = ANY($1::bytea[]) AND dead_at IS NULL",
            names,
            now_ms,
        )


async def levels(conn: Connection) -> Levels:
    """What the metrics show."""
    row = await conn.fetchrow(
        "SELECT count(*) FILTER (WHERE dead_at IS NULL) AS waiting, min(made_at) FILTER (WHERE dead_at IS NULL) "
        "AS oldest, count(*) FILTER (WHERE dead_at IS NOT NULL) AS dead FROM webhooks"
    )
    return Levels(**dict(row)) if row is not None else Levels(0, None, 0)


# --- what was given up on ------------------------------------------------------------------------------------------

_DEAD = """
SELECT id, client, kind, message, made_at, dead_at, attempts, last, sealed IS NOT NULL AS kept FROM webhooks
WHERE dead_at IS NOT NULL AND ($1::text IS NULL OR client = $1) AND ($2::uuid IS NULL OR id > $2)
ORDER BY id LIMIT $3
"""
_REPLAY = """
WITH back AS (
    UPDATE webhooks SET dead_at = NULL, due_at = $1, attempts = 0, last = NULL
    WHERE dead_at IS NOT NULL AND sealed IS NOT NULL
        AND ($2::text IS NULL OR client = $2) AND ($3::uuid IS NULL OR id = $3)
    RETURNING address
), open AS (
    UPDATE webhook_addresses SET gone_at = NULL
    WHERE gone_at IS NOT NULL AND name IN (SELECT address FROM back)
)
SELECT count(*) FROM back
"""


async def dead_ones(conn: Connection, client: str | None, after: UUID | None, limit: int) -> list[Dead]:
    """What was given up on, of one client or of all, in the order of ids."""
    return [Dead(**dict(row)) for row in await conn.fetch(_DEAD, client, after, limit)]


async def replay(conn: Connection, now_ms: int, *, client: str | None, one: UUID | None = None) -> int:
    """Send one, or everything given up on, of a client or of all, anew under the same ids; how many there were.

    An address that had answered 410 is called again: whoever replays says that it is back.
    """
    count: int = await conn.fetchval(_REPLAY, now_ms, client, one)
    return count


# --- retention -----------------------------------------------------------------------------------------------------


async def purge(conn: Connection, now_ms: int, records_days: int) -> int:
    """Give up and empty what is personal and three days old, forget what has been dead for long; how many rows."""
    emptied = await conn.execute(
        "UPDATE webhooks SET sealed = NULL, subject = NULL, dead_at = coalesce(dead_at, $2), "
        "last = coalesce(last, 'expired') WHERE made_at <= $1 AND subject IS NOT NULL",
        now_ms - PERSONAL_MS,
        now_ms,
    )
    forgotten = await conn.execute("DELETE FROM webhooks WHERE dead_at <= $1", now_ms - DEAD_MS)
    await conn.execute(
        "DELETE FROM webhook_addresses a WHERE last_at < $1 AND NOT EXISTS (SELECT FROM webhooks w WHERE w.address = "
        "a.name) AND NOT EXISTS (SELECT FROM client_webhooks c WHERE c.address = a.name)",
        now_ms - records_days * DAY_MS,
    )
    return _n(emptied) + _n(forgotten)


def _n(tag: Any) -> int:
    return int(str(tag).rpartition(" ")[2])
