"""Daily partitions: made ahead of need, dropped whole when their retention ends.

Owns the children of `messages`, `message_contents`, `carrier_ids` and `orphans`, named `<table>_<yyyymmdd>` (UTC
days). What falls outside every day lands in `<table>_other`, so a wrong clock never stops settlement. A crash leaves at
most a partition not made yet; the next call makes it. Two processes may call at once: an advisory lock orders them.
What a legal hold covers outlives its day (`holds`).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

from gateway.records.connection import Connection

DAY_MS = 86_400_000
BY_ID = ("messages", "message_contents")
COLUMNS = {"messages": "id", "message_contents": "id", "carrier_ids": "at", "orphans": "received_at"}
TABLES = tuple(COLUMNS)
MINUTES = 1_440
PATIENCE_MS = 1_000
"""How long a drop waits for readers of the table; everybody else waits behind it."""
_LOCK = 0x41535345_0003
# Updates of a row's status stay in its page (no index is touched), when the page has room for the second version.
_STORAGE = {"messages": "WITH (fillfactor = 85, autovacuum_vacuum_insert_scale_factor = 0.5)"}
_CHILDREN = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
WHERE p.relname = ANY($1::text[])
"""


def day_of(ms: int) -> int:
    """The UTC day (days since 1970) of a Unix time in milliseconds."""
    return ms // DAY_MS


def name_of(table: str, day: int) -> str:
    """The partition's name."""
    return f"{table}_{dt.date(1970, 1, 1) + dt.timedelta(days=day):%Y%m%d}"


def lowest_id(ms: int) -> str:
    """The smallest id of a time: where a range of UUIDv7s begins."""
    return f"{ms >> 16:08x}-{ms & 0xFFFF:04x}-0000-0000-000000000000"


async def ensure(conn: Connection, days: Iterable[int]) -> None:
    """Make the partitions of these days where they are missing. Runs its own transaction; do not call inside one."""
    wanted = [(table, day) for day in sorted(set(days)) for table in TABLES]
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        have = await existing(conn)
        for table, day in wanted:
            if (table, day) not in have:
                await _make(conn, table, day)


async def existing(conn: Connection) -> set[tuple[str, int]]:
    """Every daily partition there is, as (table, day)."""
    rows = await conn.fetch(_CHILDREN, list(TABLES))
    found = set()
    for (name,) in rows:
        if match := re.fullmatch(r"([a-z_]+)_(\d{8})", name):
            day = dt.datetime.strptime(match[2], "%Y%m%d").replace(tzinfo=dt.UTC).date()
            found.add((match[1], (day - dt.date(1970, 1, 1)).days))
    return found


async def drop_before(conn: Connection, table: str, day: int) -> list[str]:
    """Drop a table's partitions of days before `day`, and what has no day's partition; returns their names.

    Raises LockNotAvailableError rather than make settlement queue behind a reader for long.
    """
    if table not in TABLES:
        raise ValueError(table)
    names = [name_of(table, d) for t, d in sorted(await existing(conn)) if t == table and d < day]
    for name in names:
        async with conn.transaction():
            await conn.execute(f"SET LOCAL lock_timeout = '{PATIENCE_MS}ms'")
            await conn.execute(f"DROP TABLE {name}")
    column, low = COLUMNS[table], _bound(table, day)
    await conn.execute(f"DELETE FROM {table}_other WHERE {column} < '{low}'")  # noqa: S608 - names and bounds are ours
    return names


async def drop_minutes_before(conn: Connection, day: int) -> None:
    """Forget the minute buckets of days before `day`, a day at a time."""
    while (first := await conn.fetchval("SELECT min(minute) FROM outcome_minutes")) is not None:
        if first >= day * MINUTES:
            return
        until = min(first - first % MINUTES + MINUTES, day * MINUTES)
        await conn.execute("DELETE FROM outcome_minutes WHERE minute < $1", until)


def _bound(table: str, day: int) -> str:
    """Where a day begins, as the table's partitioning column has it."""
    return lowest_id(day * DAY_MS) if table in BY_ID else str(day * DAY_MS)


async def _make(conn: Connection, table: str, day: int) -> None:
    low, high = _bound(table, day), _bound(table, day + 1)
    name, storage, column = name_of(table, day), _STORAGE.get(table, ""), COLUMNS[table]
    await conn.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) {storage}")
    # Rows that came before their partition wait in the default one; a partition they belong to is refused until moved.
    inside = f"{column} >= '{low}' AND {column} < '{high}'"
    await conn.execute(
        f"WITH moved AS (DELETE FROM {table}_other WHERE {inside} RETURNING *) INSERT INTO {name} SELECT * FROM moved"  # noqa: S608 - names and bounds are ours
    )
    await conn.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")
