"""Which message an act was about, where the act does not say: the last one before it, of that sender, to that person.

Reads only. A message counts for thirty days. One that never reached a network is not what anybody answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract.decision import Status
from gateway.records.connection import Connection
from gateway.records.partitions import lowest_id
from gateway.records.timeline import STATUS_NUMBERS

WITHIN_MS = 30 * 86_400_000
_NOT_SENT = [STATUS_NUMBERS[one] for one in (Status.HELD, Status.CANCELLED, Status.REJECTED, Status.EXPIRED)]
_LAST = """
SELECT k.n, m.id::text AS id, m.origin, coalesce(m.carrier, '') AS carrier
FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k(subject, sender, port, at, n)
CROSS JOIN LATERAL (
    SELECT m.id, m.origin, m.carrier FROM messages m JOIN message_origins o ON o.id = m.origin
    WHERE m.subject = k.subject AND m.id >= $5::uuid AND m.status <> ALL($6::smallint[])
        AND m.accepted_at <= k.at AND m.accepted_at > k.at - $7::bigint
        AND (k.sender IS NULL OR o.sender = k.sender) AND (k.port IS NULL OR starts_with(k.port, o.port))
    ORDER BY m.id DESC LIMIT 1
) m
"""


class Asked(NamedTuple):
    """An act: whose, of which sender (none: of any), written to which port (none: to none), when (Unix ms)."""

    subject: bytes
    sender: str | None
    port: str | None
    at: int


class About(NamedTuple):
    """The message it was about."""

    id: str
    origin: int
    carrier: str


async def last_messages(conn: Connection, acts: Sequence[Asked]) -> list[About | None]:
    """For each act the message it was about, or none."""
    found: list[About | None] = [None] * len(acts)
    if acts:
        since = lowest_id(max(0, min(one.at for one in acts) - WITHIN_MS))
        columns = map(list, zip(*acts, strict=True))
        for row in await conn.fetch(_LAST, *columns, since, _NOT_SENT, WITHIN_MS):
            found[row["n"] - 1] = About(row["id"], row["origin"], row["carrier"])
    return found
