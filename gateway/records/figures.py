"""What a day's complaints of a source are stated to be, by a named officer, beside what was imported; and what is late.

Owns table `daily_figures` and the marks `overdue` and `entry` of cases. A statement is never changed: a correction is
another row, and the last one stands.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

from gateway.records.connection import Connection

_STATE = """
INSERT INTO daily_figures (date, source, imported, stated, acted_by, at)
SELECT $1, $2, count(*), $3, $4, $5 FROM (
    SELECT id FROM complaints WHERE source = $2 AND at >= $6 AND at < $7
    UNION SELECT complaint FROM complaint_tellings WHERE source = $2 AND at >= $6 AND at < $7
) AS told
RETURNING imported
"""
_STATED = """
SELECT DISTINCT ON (date, source) date, source, imported, stated, acted_by, at, entry FROM daily_figures
WHERE date >= $1 AND date <= $2 ORDER BY date, source, id DESC
"""
_EVERY = """
SELECT date, source, imported, stated, acted_by, at, entry FROM daily_figures WHERE date >= $1 ORDER BY id DESC LIMIT $2
"""
_OVERDUE = """
UPDATE complaints SET overdue = true WHERE id IN (
    SELECT id FROM complaints WHERE answered_at IS NULL AND NOT overdue AND due_at < $1
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING id::text AS id, source, sender, state, due_at
"""
_LATE = "SELECT count(*) FROM complaints WHERE answered_at IS NULL AND due_at < $1"
_UNTOLD_ACTS = """
SELECT a.id, a.complaint::text AS complaint, a.act, a.acted_by, a.at, a.detail FROM case_acts a
WHERE a.entry IS NULL AND a.act <> 'recorded' ORDER BY a.id LIMIT $1
"""
_UNTOLD_FIGURES = """
SELECT id, date, source, imported, stated, acted_by, at FROM daily_figures WHERE entry IS NULL ORDER BY id LIMIT $1
"""


class Figures(NamedTuple):
    """A statement. `imported`: what had been imported of the day when it was made; `at`: Unix ms."""

    date: dt.date
    source: str
    imported: int
    stated: int
    by: str
    at: int
    entry: int | None = None


class Late(NamedTuple):
    """A case that nobody answered in time."""

    id: str
    source: str
    sender: str | None
    state: str
    due_at: int


class Untold(NamedTuple):
    """An act that the ledger has not yet."""

    table: str
    id: int
    name: str
    by: str
    at: int
    data: dict[str, str | int]


async def state(
    conn: Connection, date: dt.date, source: str, stated: int, by: str, now_ms: int, day_ms: tuple[int, int]
) -> Figures:
    """Sign off a day. `day_ms`: when it begins and ends, Unix ms; complaints count by their own time."""
    if not by.strip():
        raise ValueError("somebody signs off")
    imported: int = await conn.fetchval(_STATE, date, source, stated, by, now_ms, *day_ms)
    return Figures(date, source, imported, stated, by, now_ms)


async def stated(conn: Connection, since: dt.date, until: dt.date) -> list[Figures]:
    """The statements that stand, by day and source."""
    return [Figures(*row) for row in await conn.fetch(_STATED, since, until)]


async def every(conn: Connection, since: dt.date, limit: int) -> list[Figures]:
    """Every statement about a day since then, corrected ones too, the newest first."""
    return [Figures(*row) for row in await conn.fetch(_EVERY, since, limit)]


async def overdue(conn: Connection, now_ms: int, limit: int) -> list[Late]:
    """Mark what was not answered in time, each once; raise its alert in the same transaction."""
    return [Late(*row) for row in await conn.fetch(_OVERDUE, now_ms, limit)]


async def late(conn: Connection, now_ms: int) -> int:
    """How many cases are past their time and still have no answer."""
    return int(await conn.fetchval(_LATE, now_ms))


async def untold(conn: Connection, limit: int) -> list[Untold]:
    """Acts and statements that are to be written into the ledger, oldest first; each has its event's name."""
    told = []
    for row in await conn.fetch(_UNTOLD_ACTS, limit):
        data = {"case": row["complaint"], "act": row["act"], "person": row["acted_by"]}
        data |= {} if row["detail"] is None else {"detail": row["detail"]}
        told.append(
            Untold("case_acts", row["id"], f"case/{row['complaint']}/{row['id']}", row["acted_by"], row["at"], data)
        )
    for row in await conn.fetch(_UNTOLD_FIGURES, limit):
        day = {"date": row["date"].isoformat(), "origin": row["source"], "act": "stated", "person": row["acted_by"]}
        counts = {"imported": row["imported"], "stated": row["stated"]}
        told.append(
            Untold("daily_figures", row["id"], f"figures/{row['id']}", row["acted_by"], row["at"], day | counts)
        )
    return told


async def tell(conn: Connection, told: Sequence[tuple[Untold, int]]) -> None:
    """They are in the ledger, at these places."""
    for table in ("case_acts", "daily_figures"):
        found = [(entry, one.id) for one, entry in told if one.table == table]
        await conn.executemany(f"UPDATE {table} SET entry = $1 WHERE id = $2", found)  # noqa: S608 - the names are ours
