"""One day's buckets as they stand, and their rewriting from a recount; and the records they are counted from.

Owns nothing; `settlement` and `signals` keep the tables. Callers run these in one transaction: with one snapshot
records and buckets are of one moment, for they are written together; with `locked` nobody adds to them meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Literal

from asyncpg import Record

from gateway.contract.health import Act
from gateway.records.connection import Connection
from gateway.records.partitions import DAY_MS, MINUTES, lowest_id
from gateway.records.settlement import COLUMNS

Kind = Literal["outcome", "signal"]
Key = tuple[int, ...] | tuple[int | str, ...]
"""A bucket: when, in the unit of its table; then what it counts, in the order of the table's columns."""
UNITS: Final[dict[str, int]] = {"minute": MINUTES, "hour": 24, "day": 1}
"""How many buckets of a unit a day has."""
_COUNTS: Final[dict[Kind, str]] = {"outcome": "origin, carrier, status, cause", "signal": "origin, carrier, signal"}
_LATE_MS = 3_600_000
_ROWS = f"""
SELECT {", ".join(COLUMNS)}, callback FROM messages
WHERE id < $1 AND origin IS NOT NULL AND (accepted_at BETWEEN $2 AND $3 OR settled_at BETWEEN $2 AND $4)
"""  # noqa: S608 - our own columns
_SIGNALS = """
SELECT minute, coalesce(origin, 0) AS origin, carrier, signal, count(*) AS n FROM signals
WHERE minute >= $1 AND minute < $2 GROUP BY 1, 2, 3, 4
"""


async def locked(conn: Connection) -> None:
    """Nobody adds to the buckets until this transaction ends."""
    await conn.execute("LOCK TABLE messages, signals, outcome_minutes, signal_minutes IN SHARE ROW EXCLUSIVE MODE")


async def message_rows(conn: Connection, day: int) -> AsyncIterator[Record]:
    """The rows of messages that may count in a day (since 1970, UTC), and some more."""
    begins, ends = day * DAY_MS, (day + 1) * DAY_MS
    # A submit's own time may lie beside that of the receipt by as much as two clocks differ.
    until = lowest_id(ends + _LATE_MS)
    async for row in conn.cursor(_ROWS, until, begins - _LATE_MS, ends + _LATE_MS, 1 << 62, prefetch=2_000):
        yield row


async def signal_counts(conn: Connection, day: int) -> Counter[Key]:
    """What the single signals of a day come to, by minute."""
    rows = await conn.fetch(_SIGNALS, day * MINUTES, (day + 1) * MINUTES)
    return Counter({tuple(row)[:-1]: row["n"] for row in rows})


async def stored(conn: Connection, kind: Kind, unit: str, day: int) -> Counter[Key]:
    """A day's buckets of a unit. Clicks are left out: nothing but their buckets is kept."""
    size, columns = UNITS[unit], _COUNTS[kind]
    query = f"SELECT {unit}, {columns}, n FROM {kind}_{unit}s WHERE {unit} >= $1 AND {unit} < $2{_clicks(kind)}"  # noqa: S608
    rows = await conn.fetch(query, day * size, (day + 1) * size)
    return Counter({tuple(row)[:-1]: row["n"] for row in rows if row["n"]})


async def replace(conn: Connection, kind: Kind, unit: str, day: int, counts: Mapping[Key, int]) -> None:
    """Write a day's buckets of a unit anew; clicks stay."""
    size, columns = UNITS[unit], _COUNTS[kind]
    delete = f"DELETE FROM {kind}_{unit}s WHERE {unit} >= $1 AND {unit} < $2{_clicks(kind)}"  # noqa: S608
    await conn.execute(delete, day * size, (day + 1) * size)
    records: list[tuple[Any, ...]] = [(*key, n) for key, n in counts.items() if n]
    names = (unit, *columns.split(", "), "n")
    await conn.copy_records_to_table(f"{kind}_{unit}s", columns=names, records=records)


def rolled(minutes: Mapping[Key, int], unit: str) -> Counter[Key]:
    """Minutes as buckets of a unit."""
    found: Counter[Key] = Counter()
    for (minute, *rest), n in minutes.items():
        found[(int(minute) * UNITS[unit] // MINUTES, *rest)] += n
    return found


def _clicks(kind: Kind) -> str:
    return f" AND signal <> {Act.CLICK.value}" if kind == "signal" else ""
