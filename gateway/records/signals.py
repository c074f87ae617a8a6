"""Signals and their buckets: each act once, counted by minute, hour and day in the statement that adds it.

Owns tables `signals`, `signal_minutes`, `signal_hours` and `signal_days`. Call `note` inside the transaction that
records what the signals are about, once, and last: then a crash leaves both or neither, a repetition counts nothing,
and two callers take the buckets' rows in one order. The carrier of a signal is looked up from its message where it is
not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.contract.health import Act, Signal
from gateway.records.connection import Connection

_BUCKETS = """counted AS (
    INSERT INTO signal_minutes AS b (minute, origin, carrier, signal, n)
    SELECT * FROM given ORDER BY 1, 2, 3, 4
    ON CONFLICT (minute, origin, carrier, signal) DO UPDATE SET n = b.n + excluded.n
), hours AS (
    INSERT INTO signal_hours AS b (hour, origin, carrier, signal, n)
    SELECT minute / 60, origin, carrier, signal, sum(n) FROM given GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (hour, origin, carrier, signal) DO UPDATE SET n = b.n + excluded.n
), days AS (
    INSERT INTO signal_days AS b (day, origin, carrier, signal, n)
    SELECT minute / 1440, origin, carrier, signal, sum(n) FROM given GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (day, origin, carrier, signal) DO UPDATE SET n = b.n + excluded.n
)"""
_NOTE = f"""
WITH fresh AS (
    INSERT INTO signals (signal, key, minute, origin, message, subject, at, carrier)
    SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::int[], $5::uuid[], $6::bytea[], $7::bigint[],
                         $8::text[])
    ON CONFLICT DO NOTHING
    RETURNING signal, key, minute, coalesce(origin, 0) AS origin, carrier
), given AS (
    SELECT minute, origin, carrier, signal, count(*) AS n FROM fresh GROUP BY 1, 2, 3, 4
), {_BUCKETS}
SELECT signal, key FROM fresh
"""  # noqa: S608 - the buckets above
_ADD = f"""
WITH given AS (
    SELECT * FROM unnest($1::bigint[], $2::int[], $3::text[], $4::smallint[], $5::bigint[])
        AS g(minute, origin, carrier, signal, n)
), {_BUCKETS}
SELECT 1
"""  # noqa: S608 - the same
_CARRIERS = """
SELECT id::text AS id, carrier FROM messages WHERE id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3
    AND carrier IS NOT NULL
"""
_CARRIER = "SELECT carrier FROM messages WHERE id = $1 AND carrier IS NOT NULL"


async def note(conn: Connection, signals: Sequence[Signal]) -> set[tuple[int, bytes]]:
    """Count what was not counted before; returns (act, key) of those."""
    if not signals:
        return set()
    carriers = await _carriers(conn, signals)
    signals = sorted(signals, key=lambda one: (one.act, one.key))  # one order for all, so that nobody waits in a ring
    rows = await conn.fetch(
        _NOTE,
        [one.act.value for one in signals],
        [one.key for one in signals],
        [one.minute for one in signals],
        [one.origin for one in signals],
        [one.message for one in signals],
        [one.subject for one in signals],
        [one.at for one in signals],
        [carriers.get(one.message or "", "") if one.carrier is None else one.carrier for one in signals],
    )
    return {(row["signal"], row["key"]) for row in rows}


async def add(conn: Connection, act: Act, counts: Mapping[tuple[int, int], int]) -> None:
    """Add to the buckets by (minute, origin) what has no row of its own; the caller sees to it that it is once."""
    given = sorted(counts.items())
    minutes, origins = [key[0] for key, _ in given], [key[1] for key, _ in given]
    await conn.execute(_ADD, minutes, origins, [""] * len(given), [act.value] * len(given), [n for _, n in given])


async def _carriers(conn: Connection, signals: Sequence[Signal]) -> dict[str, str]:
    ids = {one.message for one in signals if one.message is not None and one.carrier is None}
    rows = await conn.fetch(_CARRIERS, list(ids), min(ids), max(ids)) if ids else []
    return {row["id"]: row["carrier"] for row in rows}


_MOVE = f"""
WITH was AS (
    SELECT signal, minute, coalesce(origin, 0) AS origin, carrier FROM signals WHERE signal = $1 AND key = $2 FOR UPDATE
), moved AS (
    UPDATE signals s SET minute = $3, origin = $4, message = $5, carrier = $6 FROM was
    WHERE s.signal = $1 AND s.key = $2
    RETURNING s.signal, s.minute, coalesce(s.origin, 0) AS origin, s.carrier
), given AS (
    SELECT minute, origin, carrier, signal, sum(n)::bigint AS n FROM (
        SELECT minute, origin, carrier, signal, -1 AS n FROM was
        UNION ALL SELECT minute, origin, carrier, signal, 1 FROM moved
    ) AS ends GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0
), {_BUCKETS}
SELECT minute, origin FROM was
"""  # noqa: S608 - the same


async def move(
    conn: Connection, act: Act, key: bytes, minute: int, origin: int | None, message: str | None
) -> tuple[int, int] | None:
    """Count a signal elsewhere, its message having been found later; where it counted before, none if it never did.

    Moving it to where it is changes nothing, so a repetition is harmless.
    """
    row = await conn.fetchrow(_CARRIER, message) if message is not None else None
    carrier = "" if row is None else row["carrier"]
    was = await conn.fetchrow(_MOVE, act.value, key, minute, origin, message, carrier)
    return None if was is None else (was["minute"], was["origin"])


async def forget(conn: Connection, subject: bytes) -> None:
    """Whose signals they were is known no longer; that they were stays counted."""
    await conn.execute("UPDATE signals SET subject = NULL WHERE subject = $1", subject)


async def purge(conn: Connection, before: int) -> None:
    """Forget the single signals of minutes before one (Unix minutes); their buckets stay."""
    await conn.execute("DELETE FROM signals WHERE minute < $1", before)
