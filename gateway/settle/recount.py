"""Counts a day again from the records it was counted from, and compares: whether the buckets of health are exact.

Owns nothing. Every message's row is read and asked what it counts as (`status.Row.milestones`), by the very rule that
settlement counts with, and every signal; the sums are held against minutes, hours and days. All of it is read in one
snapshot, in which records and buckets agree if they ever do, so it can run beside traffic. A repair writes the day's
buckets anew under a lock that settlement waits for. Minutes older than their retention are not looked for.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from gateway.records import buckets, settlement
from gateway.records.buckets import UNITS, Key, Kind
from gateway.records.connection import Connection
from gateway.records.partitions import MINUTES
from gateway.records.timeline import CAUSE_NUMBERS, STATUS_NUMBERS
from gateway.settle.origin import Origin
from gateway.settle.rows import row_of

KINDS: tuple[Kind, ...] = ("outcome", "signal")


class Recount(NamedTuple):
    """What a recount found."""

    messages: int
    """Rows looked at."""
    acts: int
    """Signals counted."""
    apart: dict[str, int]
    """Of each table, how many buckets say something else than the records; tables that agree are left out."""
    repaired: bool = False


async def recount(conn: Connection, day: int, *, repair: bool = False) -> Recount:
    """Recount a day (since 1970, UTC)."""
    isolation = None if repair else "repeatable_read"
    async with conn.transaction(isolation=isolation, readonly=not repair):  # type: ignore[arg-type]  # none is a value
        if repair:
            await buckets.locked(conn)
        messages, outcomes = await _outcomes(conn, day)
        acts = await buckets.signal_counts(conn, day)
        apart: dict[str, int] = {}
        for kind, recorded in zip(KINDS, (outcomes, acts), strict=True):
            for unit in UNITS:
                wanted, held = buckets.rolled(recorded, unit), await buckets.stored(conn, kind, unit, day)
                if unit == "minute" and not held:
                    continue
                differ = sum(wanted[key] != held[key] for key in wanted.keys() | held.keys())
                if differ:
                    apart[f"{kind}_{unit}s"] = differ
                    if repair:
                        await buckets.replace(conn, kind, unit, day, wanted)
    return Recount(messages, acts.total(), apart, repair and bool(apart))


async def _outcomes(conn: Connection, day: int) -> tuple[int, Counter[Key]]:
    """The milestones of a day's messages, by minute."""
    origins = {one["id"]: Origin(*tuple(one)[1:]) for one in await settlement.all_origins(conn)}
    looked, found = 0, Counter[Key]()
    async for stored in buckets.message_rows(conn, day):
        looked += 1
        row = row_of(stored, origins)
        for minute, status, cause, carrier in row.milestones():
            if minute // MINUTES == day:
                found[minute, stored["origin"], carrier, STATUS_NUMBERS[status], CAUSE_NUMBERS[cause]] += 1
    return looked, found
