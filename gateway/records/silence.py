"""Messages a carrier took and never reported on: found by their ids, which begin with their time, a stretch at a time.

Owns the reading of rows that are old enough, and table `sent_late` (messages that were sent long after they were
accepted, which a look by acceptance passes too early). No index knows a status, for an update must not touch one: so
every row is looked at once, in the order of its id, when its receipt should be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract.decision import Status
from gateway.records.connection import Connection
from gateway.records.partitions import DAY_MS, existing, lowest_id
from gateway.records.timeline import STATUS_NUMBERS

_SENT = STATUS_NUMBERS[Status.SENT]
_LOOK = """
SELECT count(*) AS n, max(seen.id::text COLLATE "C") AS last,
       coalesce(array_agg(seen.id) FILTER (WHERE seen.status = $4 AND seen.settled_at <= $5), '{}') AS silent
FROM (SELECT id, status, settled_at FROM messages WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3) AS seen
"""


class Stretch(NamedTuple):
    """What was looked at: how many rows, the last id, and the messages that are only `sent`."""

    examined: int
    last: str | None
    silent: list[str]


async def look(conn: Connection, from_ms: int, to_ms: int, settled_by_ms: int, most: int) -> Stretch:
    """Look at messages accepted between two times, at most so many, for those that were `sent` by a third."""
    (row,) = await conn.fetch(_LOOK, lowest_id(from_ms), lowest_id(to_ms), most, _SENT, settled_by_ms)
    return Stretch(row["n"], row["last"], [str(one) for one in row["silent"]])


async def late(conn: Connection, sent_by_ms: int, most: int) -> list[str]:
    """Messages of `sent_late` whose receipt should be there."""
    found = await conn.fetch("SELECT id FROM sent_late WHERE sent_at <= $1 ORDER BY sent_at LIMIT $2", sent_by_ms, most)
    return [str(row["id"]) for row in found]


async def forget_late(conn: Connection, ids: Sequence[str]) -> None:
    """They have been looked at."""
    await conn.execute("DELETE FROM sent_late WHERE id = ANY($1::uuid[])", ids)


async def first_ms(conn: Connection) -> int | None:
    """When the oldest day of messages begins."""
    return min((day * DAY_MS for table, day in await existing(conn) if table == "messages"), default=None)
