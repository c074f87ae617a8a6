"""Signals and their minute buckets: each act once, counted in the statement that adds it.

Owns tables `signals` and `signal_minutes`. Call it inside the transaction that records what the signal is about: then
a crash leaves both or neither, and a repetition counts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.health import Act, Signal
from gateway.records.connection import Connection

_NOTE = """
WITH fresh AS (
    INSERT INTO signals (signal, key, minute, origin, message, subject, at)
    SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::int[], $5::uuid[], $6::bytea[], $7::bigint[])
    ON CONFLICT DO NOTHING
    RETURNING signal, key, minute, origin
), counted AS (
    INSERT INTO signal_minutes (minute, origin, signal, n)
    SELECT minute, coalesce(origin, 0), signal, count(*) FROM fresh GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (minute, origin, signal) DO UPDATE SET n = signal_minutes.n + EXCLUDED.n
)
SELECT signal, key FROM fresh
"""


async def note(conn: Connection, signals: Sequence[Signal]) -> set[tuple[int, bytes]]:
    """Count what was not counted before; returns (act, key) of those."""
    if not signals:
        return set()
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
    )
    return {(row["signal"], row["key"]) for row in rows}


_MOVE = """
WITH was AS (
    SELECT minute, origin FROM signals WHERE signal = $1 AND key = $2 FOR UPDATE
), moved AS (
    UPDATE signals s SET minute = $3, origin = $4, message = $5 FROM was WHERE s.signal = $1 AND s.key = $2
), less AS (
    UPDATE signal_minutes b SET n = b.n - 1 FROM was
    WHERE b.minute = was.minute AND b.origin = coalesce(was.origin, 0) AND b.signal = $1
        AND (was.minute, coalesce(was.origin, 0)) <> ($3::bigint, coalesce($4::int, 0))
), more AS (
    INSERT INTO signal_minutes (minute, origin, signal, n)
    SELECT $3, coalesce($4::int, 0), $1, 1 FROM was
    WHERE (was.minute, coalesce(was.origin, 0)) <> ($3::bigint, coalesce($4::int, 0))
    ON CONFLICT (minute, origin, signal) DO UPDATE SET n = signal_minutes.n + 1
)
SELECT minute, origin FROM was
"""


async def move(
    conn: Connection, act: Act, key: bytes, minute: int, origin: int | None, message: str | None
) -> tuple[int, int | None] | None:
    """Count a signal elsewhere, its message having been found later; where it counted before, none if it never did.

    Moving it to where it is changes nothing, so a repetition is harmless.
    """
    row = await conn.fetchrow(_MOVE, act.value, key, minute, origin, message)
    return None if row is None else (row["minute"], row["origin"])
