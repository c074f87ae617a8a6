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

from gateway.records import holds
from gateway.records.connection import Connection

DAY_MS = 86_400_000
BY_ID = ("message_contents", "messages")
"""Contents are dropped first: whether a hold covers one is known from its message."""
COLUMNS = {"messages": "id", "message_contents": "id", "carrier_ids": "at", "orphans": "received_at"}
TABLES = tuple(COLUMNS)
MINUTES = 1_440
PATIENCE_MS = 1_000
"""How long a drop waits for readers of the table; everybody else waits behind it."""
COPY_S = 3_000.0
"""How long what is held of one day may take to be copied."""
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

    What a legal hold covers stays, in a partition of its own that takes the day's place; that one is looked at again
    when the holds change. Raises LockNotAvailableError rather than make settlement queue behind a reader for long.
    """
    if table not in TABLES:
        raise ValueError(table)
    days = [d for t, d in sorted(await existing(conn)) if t == table and d < day]
    gone = [name_of(table, d) for d in days if await _drop(conn, table, d)]
    column, low = COLUMNS[table], _bound(table, day)
    kept = f"AND NOT {holds.HELD[table]}" if table in BY_ID else ""
    await conn.execute(f"DELETE FROM {table}_other AS {holds.ALIAS.get(table, table)} WHERE {column} < '{low}' {kept}")  # noqa: S608 - names and bounds are ours
    return gone


async def _drop(conn: Connection, table: str, day: int) -> bool:
    """Drop one day, or what of it no hold covers; whether the whole day is gone. No hold is added meanwhile."""
    name, low, high = name_of(table, day), _bound(table, day), _bound(table, day + 1)
    async with conn.transaction():
        await conn.execute(f"SET LOCAL lock_timeout = '{PATIENCE_MS}ms'")
        await conn.execute("LOCK TABLE legal_holds IN SHARE MODE")
        holding = await holds.touching(conn, low, high) if table in BY_ID else []
        if not holding:
            await conn.execute(f"DROP TABLE {name}")
            return True
        if await conn.fetchval("SELECT obj_description($1::regclass)", name) == _mark(holding):
            return False
        return not await _keep_held(conn, table, name, (low, high), holding)


def _mark(holding: list[int]) -> str:
    """What a partition that was cut down to these holds is called, so that it is not copied again for them."""
    return f"held: {','.join(map(str, holding))}"


async def _keep_held(conn: Connection, table: str, name: str, bounds: tuple[str, str], holding: list[int]) -> bool:
    """Put what is held of a day in the day's place; whether anything is. Inside the transaction of `_drop`.

    Writers to that day (erasures, a receipt half a year late) wait while it is copied; nobody waits for the parent
    table until the copy and its indexes are there.
    """
    copy = f"{name}_held"
    await conn.execute(f"LOCK TABLE {name} IN SHARE MODE")
    await conn.execute(f"CREATE TABLE {copy} (LIKE {table} INCLUDING ALL)")
    alias, columns = holds.ALIAS[table], await _columns(conn, table)
    wanted = ", ".join(f"{alias}.{column}" for column in columns)
    within = f"m.id >= '{bounds[0]}' AND m.id < '{bounds[1]}'"
    beside = "" if table == "messages" else f"LEFT JOIN messages AS m ON m.id = {alias}.id AND {within}"
    covered = await holds.condition(conn, holding, alias)
    tag = await conn.execute(
        f"INSERT INTO {copy} ({', '.join(columns)}) SELECT {wanted} FROM {name} AS {alias} {beside} WHERE {covered}",  # noqa: S608 - names are ours
        timeout=COPY_S,
    )
    await conn.execute(f"DROP TABLE {name}")
    if tag.endswith(" 0"):
        await conn.execute(f"DROP TABLE {copy}")
        return False
    await conn.execute(f"ALTER TABLE {copy} RENAME TO {name}")
    await conn.execute(
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{bounds[0]}') TO ('{bounds[1]}')"
    )
    await conn.execute(f"COMMENT ON TABLE {name} IS '{_mark(holding)}'")
    return True


async def _columns(conn: Connection, table: str) -> list[str]:
    """A table's columns; those of a partition made before one was added stand in another order."""
    rows = await conn.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
        "ORDER BY attnum",
        table,
    )
    return [row["attname"] for row in rows]


async def drop_buckets_before(conn: Connection, unit: str, before: int) -> None:
    """Forget the buckets (`minute` or `hour`) that begin before a time in that unit, a day's worth at a time."""
    step = {"minute": MINUTES, "hour": MINUTES // 60}[unit]
    for table in (f"outcome_{unit}s", f"signal_{unit}s"):
        while (first := await conn.fetchval(f"SELECT min({unit}) FROM {table}")) is not None and first < before:  # noqa: S608
            until = min(first - first % step + step, before)
            await conn.execute(f"DELETE FROM {table} WHERE {unit} < $1", until)  # noqa: S608 - one of four names


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
