"""Daily partitions: made ahead of need, dropped whole when their retention ends.

Owns the children of `messages`, `carrier_ids` and `orphans`, named `<table>_<yyyymmdd>` (UTC days). What falls outside
every day lands in `<table>_other`, so a wrong clock never stops settlement. A crash leaves at most a partition not made
yet; the next call makes it. Two processes may call at once: an advisory lock orders them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

from gateway.records.connection import Connection

DAY_MS = 86_400_000
BY_ID = ("messages",)
COLUMNS = {"messages": "id", "carrier_ids": "at", "orphans": "received_at"}
TABLES = tuple(COLUMNS)
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
    """Drop a table's partitions of days before `day`; returns their names. For retention."""
    if table not in TABLES:
        raise ValueError(table)
    names = [name_of(table, d) for t, d in sorted(await existing(conn)) if t == table and d < day]
    for name in names:
        await conn.execute(f"DROP TABLE {name}")
    return names


async def _make(conn: Connection, table: str, day: int) -> None:
    first, last = day * DAY_MS, (day + 1) * DAY_MS
    low, high = (lowest_id(first), lowest_id(last)) if table in BY_ID else (str(first), str(last))
    name, storage, column = name_of(table, day), _STORAGE.get(table, ""), COLUMNS[table]
    await conn.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS) {storage}")
    # Rows that came before their partition wait in the default one; a partition they belong to is refused until moved.
    inside = f"{column} >= '{low}' AND {column} < '{high}'"
    await conn.execute(
        f"WITH moved AS (DELETE FROM {table}_other WHERE {inside} RETURNING *) INSERT INTO {name} SELECT * FROM moved"  # noqa: S608 - names and bounds are ours
    )
    await conn.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')")
