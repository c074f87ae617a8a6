"""Messages nobody knows the end of, and when their carrier is asked about them next.

Owns table `doubts` after settle's flush has written a row of it. Rows are leased: `take` moves their `due` ahead in one
statement, so several askers share the work without holding a transaction while a carrier thinks, and a crash asks again
when the lease is over. What is no longer `unknown` has been answered by a receipt meanwhile and is only removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract.decision import Class, Status
from gateway.records.connection import Connection
from gateway.records.timeline import STATUS_NUMBERS

_UNKNOWN = STATUS_NUMBERS[Status.UNKNOWN]
_TAKE = """
WITH taken AS (
    SELECT id FROM doubts WHERE carrier = $1 AND class = ANY($2::text[]) AND due <= $3
    ORDER BY due LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE doubts d SET due = $5 FROM taken WHERE d.id = taken.id RETURNING d.id, d.class, d.since
"""
_KNOWN = """
SELECT id, attempt, parts, code, subject FROM messages
WHERE id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3 AND status = $4
"""


class Doubt(NamedTuple):
    """A message that is `unknown` since a time (Unix ms), and what its row says of it."""

    id: str
    cls: Class
    since: int
    attempt: int
    parts: int
    code: str | None
    subject: str | None
    """32 hex digits."""


async def take(
    conn: Connection, carrier: str, classes: Sequence[str], now_ms: int, lease_ms: int, limit: int
) -> list[Doubt]:
    """Lease what is due and still unknown, earliest first; rows that are known by now are removed."""
    leased = {
        str(row["id"]): row for row in await conn.fetch(_TAKE, carrier, list(classes), now_ms, limit, now_ms + lease_ms)
    }
    if not leased:
        return []
    found = {str(row["id"]): row for row in await conn.fetch(_KNOWN, list(leased), min(leased), max(leased), _UNKNOWN)}
    await remove(conn, [one for one in leased if one not in found])
    return [
        Doubt(
            one,
            Class(leased[one]["class"]),
            leased[one]["since"],
            row["attempt"],
            row["parts"],
            row["code"],
            None if row["subject"] is None else row["subject"].hex(),
        )
        for one, row in sorted(found.items(), key=lambda pair: leased[pair[0]]["since"])
    ]


async def ask_later(conn: Connection, dues: Sequence[tuple[str, int]]) -> None:
    """Ask about these messages (id, Unix ms) again then."""
    if dues:
        await conn.execute(
            "UPDATE doubts d SET due = u.due FROM unnest($1::uuid[], $2::bigint[]) AS u(id, due) WHERE d.id = u.id",
            *map(list, zip(*dues, strict=True)),
        )


async def remove(conn: Connection, ids: Sequence[str]) -> None:
    """There is nothing more to ask about these."""
    if ids:
        await conn.execute("DELETE FROM doubts WHERE id = ANY($1::uuid[])", list(ids))


async def purge(conn: Connection, before_ms: int) -> int:
    """Forget what is doubted since before a time: its carrier was never asked, or never answered. Returns how many."""
    tag = await conn.execute("DELETE FROM doubts WHERE since < $1", before_ms)
    return int(tag.rsplit(" ", 1)[1])
