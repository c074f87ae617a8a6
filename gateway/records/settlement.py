"""The SQL of one settle transaction, and of what settlement owes others afterwards.

Owns every statement that writes message rows, carrier ids, orphans, outcomes' buckets, long windows and a consumer's
offsets. A flush is one transaction on the connection given here, and `move_offsets` goes first: it locks the
consumer's rows, and raises `Superseded` when somebody else has moved them, so whatever follows is written exactly once
or not at all. A crash before COMMIT leaves nothing of it; the records are read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from asyncpg import Record

from gateway.records.connection import Connection

LOCK = 0x41535345_5345  # one settler at a time; the others stand by
COLUMNS = (
    "id", "subject", "origin", "accepted_at", "settled_at", "entry", "rank", "status", "cause", "attempt", "parts",
    "parts_delivered", "code", "carrier", "carrier_id", "client_ref", "timeline",
)  # fmt: skip
_TYPES = (
    "uuid", "bytea", "int", "bigint", "bigint", "bigint", "int", "smallint", "smallint", "smallint", "smallint",
    "bigint", "text", "text", "text", "text", "json",
)  # fmt: skip

Place = tuple[str, int]
"""A topic (its name without the installation's prefix) and a partition."""


class Superseded(Exception):  # noqa: N818 - it says what happened
    """Another process has moved these offsets: what this one holds in memory is out of date."""


class Minute(NamedTuple):
    """The key of one minute bucket."""

    minute: int
    origin: int
    carrier: str
    status: int
    cause: int


# Rows are few against their tables and found by their keys; no estimate may talk the planner out of that.
_SESSION = """
SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET jit = off;
SET idle_in_transaction_session_timeout = '30s';
"""


async def prepare(conn: Connection) -> bool:
    """Ready a connection for settling; False when another process settles already. The lock lives as it does."""
    await conn.execute(_SESSION)
    return bool(await conn.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))


# --- offsets -------------------------------------------------------------------------------------------------------


async def offsets(conn: Connection, consumer: str) -> dict[Place, int]:
    """Where the consumer continues, for every partition it has begun."""
    rows = await conn.fetch("SELECT topic, partition, next_offset FROM consumer_offsets WHERE consumer = $1", consumer)
    return {(row["topic"], row["partition"]): row["next_offset"] for row in rows}


async def begin_offsets(conn: Connection, consumer: str, starts: Mapping[Place, int]) -> None:
    """Remember where partitions begin that were never read; known ones stay."""
    await conn.executemany(
        "INSERT INTO consumer_offsets (consumer, topic, partition, next_offset) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT DO NOTHING",
        [(consumer, topic, partition, offset) for (topic, partition), offset in starts.items()],
    )


_MOVE = """
UPDATE consumer_offsets AS o SET next_offset = u.next
FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS u(topic, partition, expected, next)
WHERE o.consumer = $1 AND o.topic = u.topic AND o.partition = u.partition AND o.next_offset = u.expected
"""


async def move_offsets(conn: Connection, consumer: str, moves: Mapping[Place, tuple[int, int]]) -> None:
    """Compare-and-set each partition's offset from the first number to the second. Raises Superseded."""
    topics, partitions = [place[0] for place in moves], [place[1] for place in moves]
    expected, following = [move[0] for move in moves.values()], [move[1] for move in moves.values()]
    tag = await conn.execute(_MOVE, consumer, topics, partitions, expected, following)
    if int(tag.rsplit(" ", 1)[1]) != len(moves):
        raise Superseded(consumer)


# --- messages ------------------------------------------------------------------------------------------------------

_UPDATE = f"""
UPDATE messages AS m SET {", ".join(f"{name} = u.{name}" for name in COLUMNS[1:])}
FROM unnest({", ".join(f"${n}::{kind}[]" for n, kind in enumerate(_TYPES, 3))}) AS u({", ".join(COLUMNS)})
WHERE m.id = u.id AND m.id BETWEEN $1 AND $2
"""  # noqa: S608 - the names are the constants above
_BY_INDEX_OR_HASH = "SET LOCAL plan_cache_mode = force_generic_plan"
"""A plan for any ids. With the ids at hand PostgreSQL looks for them in what it knows of the table; after a crash that
is old, it guesses that there is one row, and compares each given row with each row between: 5 s for 2,000 of them."""
_ROWS = f"SELECT {', '.join(COLUMNS)}, callback FROM messages WHERE id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3"  # noqa: S608


async def insert(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """COPY new rows, in the order of COLUMNS. Raises UniqueViolationError when one is not new."""
    await conn.copy_records_to_table("messages", columns=COLUMNS, records=rows)


async def insert_called(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """The same, of rows that have the name of their callback address behind their other values."""
    await conn.copy_records_to_table("messages", columns=(*COLUMNS, "callback"), records=rows)


async def set_callbacks(conn: Connection, given: Sequence[tuple[str, bytes]]) -> None:
    """Write the names of callback addresses into rows (id, name) that were known before their acceptance was."""
    await conn.execute(
        "UPDATE messages m SET callback = u.callback FROM unnest($1::uuid[], $2::bytea[]) AS u(id, callback) "
        "WHERE m.id = u.id AND m.id BETWEEN $3 AND $4",
        *map(list, zip(*given, strict=True)),
        min(given)[0],
        max(given)[0],
    )


async def update(conn: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Replace known rows. The caller has read them under the same offsets, so nothing is overwritten unseen."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    await conn.execute(_BY_INDEX_OR_HASH)
    await conn.execute(_UPDATE, min(columns[0]), max(columns[0]), *columns)


async def rows(conn: Connection, ids: Collection[str]) -> list[Record]:
    """The known ones of these messages."""
    return await conn.fetch(_ROWS, list(ids), min(ids), max(ids)) if ids else []


_ORIGINS = """
WITH given AS (
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[],
                         $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
        AS g(digest, client, sender, purpose, class, port, pack, basis, campaign, list_source)
), made AS (
    INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis, campaign, list_source)
    SELECT * FROM given g WHERE NOT EXISTS (SELECT FROM message_origins o WHERE o.digest = g.digest)
    RETURNING id, digest
)
SELECT id, digest FROM made
UNION ALL SELECT o.id, o.digest FROM message_origins o WHERE o.digest = ANY($1)
"""


async def origin_ids(conn: Connection, origins: Sequence[tuple[bytes, tuple[str | None, ...]]]) -> dict[bytes, int]:
    """The number of each origin by its digest; unknown ones are stored."""
    columns = [[digest for digest, _ in origins], *map(list, zip(*(fields for _, fields in origins), strict=True))]
    return {row["digest"]: row["id"] for row in await conn.fetch(_ORIGINS, *columns)}


async def origins(conn: Connection, ids: Collection[int]) -> list[Record]:
    """The origins behind these numbers."""
    return await conn.fetch(
        "SELECT id, client, sender, purpose, class, port, pack, basis, campaign, list_source FROM message_origins "
        "WHERE id = ANY($1::int[])",
        list(ids),
    )


async def all_origins(conn: Connection) -> list[Record]:
    """Every origin, in the columns of `origins`."""
    return await conn.fetch(
        "SELECT id, client, sender, purpose, class, port, pack, basis, campaign, list_source FROM message_origins"
    )


# --- carrier ids and orphans ---------------------------------------------------------------------------------------


async def remember_carrier_ids(conn: Connection, pairs: Sequence[tuple[str, str, int]]) -> None:
    """Keep (key, message id, Unix ms)."""
    await conn.copy_records_to_table("carrier_ids", columns=("key", "id", "at"), records=pairs)


async def find_carrier_ids(conn: Connection, keys: Collection[str]) -> dict[str, str]:
    """The message of each known key; of a key that a carrier used again, the latest."""
    found = await conn.fetch("SELECT key, id FROM carrier_ids WHERE key = ANY($1::text[]) ORDER BY at", list(keys))
    return {row["key"]: str(row["id"]) for row in found}


async def keep_orphans(conn: Connection, orphans: Sequence[tuple[str, int, str]]) -> None:
    """Put receipts aside as (key, received Unix ms, JSON)."""
    await conn.copy_records_to_table("orphans", columns=("key", "received_at", "receipt"), records=orphans)


async def take_orphans(conn: Connection, keys: Collection[str]) -> list[Record]:
    """Remove and return the receipts (key, receipt) waiting for these keys, oldest first."""
    taken = await conn.fetch(
        "DELETE FROM orphans WHERE key = ANY($1::text[]) RETURNING key, received_at, receipt", list(keys)
    )
    return sorted(taken, key=lambda row: row["received_at"])


async def orphan_keys(conn: Connection, limit: int) -> list[str]:
    """At most `limit` keys that receipts wait for."""
    return [row["key"] for row in await conn.fetch("SELECT key FROM orphans LIMIT $1", limit)]


# --- what is counted, and what is owed -----------------------------------------------------------------------------

_COUNT = """
WITH given AS (
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::text[], $4::smallint[], $5::smallint[], $6::bigint[])
        AS g(minute, origin, carrier, status, cause, n)
), hours AS (
    INSERT INTO outcome_hours AS b (hour, origin, carrier, status, cause, n)
    SELECT minute / 60, origin, carrier, status, cause, sum(n) FROM given GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (hour, origin, carrier, status, cause) DO UPDATE SET n = b.n + excluded.n
), days AS (
    INSERT INTO outcome_days AS b (day, origin, carrier, status, cause, n)
    SELECT minute / 1440, origin, carrier, status, cause, sum(n) FROM given
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (day, origin, carrier, status, cause) DO UPDATE SET n = b.n + excluded.n
)
INSERT INTO outcome_minutes AS b (minute, origin, carrier, status, cause, n) SELECT * FROM given
ON CONFLICT (minute, origin, carrier, status, cause) DO UPDATE SET n = b.n + excluded.n
"""
_DUE = {
    "sent_late": "INSERT INTO sent_late SELECT * FROM unnest($1::uuid[], $2::bigint[]) "
    "ON CONFLICT (id) DO UPDATE SET sent_at = excluded.sent_at",
    "doubts": "INSERT INTO doubts SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) "
    "ON CONFLICT (id) DO UPDATE SET carrier = excluded.carrier, since = excluded.since, due = excluded.due",
    "refunds_due": "INSERT INTO refunds_due SELECT * FROM unnest($1::uuid[], $2::bytea[]) ON CONFLICT DO NOTHING",
    "suppressions_due": "INSERT INTO suppressions_due "
    "SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::bigint[]) ON CONFLICT DO NOTHING",
    "long_windows": "INSERT INTO long_windows "
    "SELECT * FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::uuid[]) ON CONFLICT DO NOTHING",
    "used_requests": "INSERT INTO used_requests "
    "SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::uuid[], $5::bigint[]) ON CONFLICT DO NOTHING",
}


async def count(conn: Connection, changes: Mapping[Minute, int]) -> None:
    """Add to the buckets of minutes, hours and days, in the order of their keys: two writers cannot lock each other."""
    moved = sorted((key, n) for key, n in changes.items() if n)
    if moved:
        await conn.execute(_COUNT, *map(list, zip(*(key for key, _ in moved), strict=True)), [n for _, n in moved])


async def owe(conn: Connection, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows into one of the tables of `_DUE`; known ones stay; in `sent_late` and `doubts` the last time does."""
    if columns := [list(column) for column in zip(*rows, strict=True)]:
        await conn.execute(_DUE[table], *columns)


async def give_back_windows(conn: Connection, items: Sequence[tuple[str, bytes, int]]) -> None:
    """Forget the long windows that messages (id, subject) not sent had consumed by a time (Unix ms)."""
    await conn.execute(
        "DELETE FROM long_windows w USING unnest($1::uuid[], $2::bytea[], $3::bigint[]) AS u(id, subject, by) "
        "WHERE w.subject = u.subject AND w.id = u.id AND w.stamp <= u.by",
        *map(list, zip(*items, strict=True)),
    )


async def refunds_due(conn: Connection, limit: int) -> list[tuple[str, bytes]]:
    """Messages (id, subject) whose window slots are to be given back."""
    return [(str(r["id"]), r["subject"]) for r in await conn.fetch("SELECT * FROM refunds_due LIMIT $1", limit)]


async def suppressions_due(conn: Connection, limit: int) -> list[tuple[str, bytes, str, int]]:
    """Recipients (message id, subject, scope, Unix ms) that a carrier refuses."""
    found = await conn.fetch("SELECT id, subject, scope, at FROM suppressions_due LIMIT $1", limit)
    return [(str(row["id"]), row["subject"], row["scope"], row["at"]) for row in found]


async def paid(conn: Connection, table: str, ids: Sequence[str]) -> None:
    """Remove rows of `refunds_due` or `suppressions_due` once they are done."""
    if table not in ("refunds_due", "suppressions_due"):
        raise ValueError(table)
    await conn.execute(f"DELETE FROM {table} WHERE id = ANY($1::uuid[])", list(ids))  # noqa: S608 - one of two names
