"""What a list is made of, and what is recorded about its people: reads over messages, replies and signals.

Owns no table; `gather` writes `cleansing_people`. Each read is bounded: a span of messages' ids, or a page of people.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract.decision import Basis, Cause, Status
from gateway.contract.health import Act
from gateway.contract.scope import part
from gateway.records.cleansing_people import STEP_S, Work
from gateway.records.connection import Connection
from gateway.records.partitions import DAY_MS, lowest_id
from gateway.records.timeline import CAUSE_NUMBERS, STATUS_NUMBERS

HOUR_MS = 3_600_000
BOUND_MS = DAY_MS
"""How much earlier than its acceptance a message's id may have been made: as long as a key is bound to it."""
REFUSING = ["refusal", "keep"]
_COLUMN = {"campaign": "campaign", "list_source": "list_source", "sender": "sender", "port": "port"}
_NEXT = "SELECT min(hour) FROM outcome_hours WHERE hour >= $1 AND hour <= $2 AND origin = ANY($3::int[])"
"""Hours are kept as long as messages are; minutes only as long as a rolling month needs them."""
_GATHER = """
WITH found AS (
    SELECT m.subject, o.sender, bool_or(o.consent) AS on_consent, min(m.accepted_at) AS first_at
    FROM messages m JOIN unnest($2::int[], $3::text[], $4::boolean[]) AS o(id, sender, consent) ON o.id = m.origin
    WHERE m.id >= $5::uuid AND m.id < $6::uuid AND m.subject IS NOT NULL AND m.accepted_at BETWEEN $7 AND $8
    GROUP BY 1, 2
), put AS (
    INSERT INTO cleansing_people AS held (cleansing, subject, sender, on_consent, first_at)
    SELECT $1, subject, sender, on_consent, first_at FROM found ORDER BY 2, 3
    ON CONFLICT (cleansing, subject, sender) DO UPDATE SET on_consent = held.on_consent OR EXCLUDED.on_consent,
        first_at = least(held.first_at, EXCLUDED.first_at)
    WHERE (EXCLUDED.on_consent AND NOT held.on_consent) OR EXCLUDED.first_at < held.first_at
    RETURNING xmax = 0 AS is_new
)
SELECT count(*) FILTER (WHERE is_new) FROM put
"""
_RECEIPTS = """
SELECT subject, max(settled_at) FILTER (WHERE status = $2) AS delivered,
    array_agg(settled_at) FILTER (WHERE cause = $3) AS dead
FROM messages WHERE subject = ANY($1::bytea[]) AND settled_at <= $4 AND (status = $2 OR cause = $3) GROUP BY subject
"""
_REPLIED = """
SELECT subject, port, max(received_at) AS at FROM replies
WHERE subject = ANY($1::bytea[]) AND received_at <= $2 AND meaning <> ALL($3::text[]) GROUP BY subject, port
"""
_COMPLAINED = """
SELECT DISTINCT s.subject, o.sender FROM signals s LEFT JOIN message_origins o ON o.id = s.origin
WHERE s.subject = ANY($1::bytea[]) AND s.signal = $2
"""


class Origin(NamedTuple):
    """What many messages of a list share."""

    id: int
    sender: str
    purpose: str
    cls: str
    basis: str


class Receipts(NamedTuple):
    """What the network said of a number. Unix ms."""

    delivered: int | None = None
    dead: tuple[int, ...] = ()


async def origins(conn: Connection, scope: str) -> list[Origin]:
    """Everything that messages of a scope have in common: of all that a breaker of this scope stops."""
    kind, _, name = scope.partition(":")
    own = part(scope)
    found = await conn.fetch(
        f"SELECT id, sender, purpose, class, basis FROM message_origins "  # noqa: S608 - one of four names
        f"WHERE {_COLUMN[kind]} = $1 OR (sender = $2 AND {_COLUMN[kind]} = $3) ORDER BY id",
        name,
        own.sender,
        own.name,
    )
    return [Origin(*row) for row in found]


async def following(conn: Connection, found: Sequence[Origin], from_ms: int, to_ms: int) -> int | None:
    """From which time on (Unix ms) ids of these messages may have been made, as far as the hours' buckets know.

    None: none was accepted from `from_ms` to `to_ms`.
    """
    numbers = [one.id for one in found]
    hour = await conn.fetchval(_NEXT, from_ms // HOUR_MS, to_ms // HOUR_MS, numbers, timeout=STEP_S)
    return None if hour is None else hour * HOUR_MS - BOUND_MS


async def gather(conn: Connection, work: Work, found: Sequence[Origin], from_ms: int, to_ms: int) -> int:
    """Put on the list whose messages have an id made in this time; how many are new on it."""
    new: int = await conn.fetchval(
        _GATHER,
        work.id,
        [one.id for one in found],
        [one.sender for one in found],
        [one.basis == Basis.CONSENT for one in found],
        lowest_id(max(from_ms, 0)),
        lowest_id(to_ms),
        work.since,
        work.until,
        timeout=STEP_S,
    )
    return new


# --- people ----------------------------------------------------------------------------------------------------------


async def receipts(conn: Connection, subjects: Sequence[bytes], until_ms: int) -> dict[bytes, Receipts]:
    """What the network said of these numbers, whichever sender had written."""
    delivered, dead = STATUS_NUMBERS[Status.DELIVERED], CAUSE_NUMBERS[Cause.DEAD_NUMBER]
    rows = await conn.fetch(_RECEIPTS, list(subjects), delivered, dead, until_ms, timeout=STEP_S)
    return {row["subject"]: Receipts(row["delivered"], tuple(row["dead"] or ())) for row in rows}


async def replied(conn: Connection, subjects: Sequence[bytes], until_ms: int) -> list[tuple[bytes, str, int]]:
    """The last replies of these people that were no refusals: subject, port, Unix ms."""
    rows = await conn.fetch(_REPLIED, list(subjects), until_ms, REFUSING, timeout=STEP_S)
    return [(row["subject"], row["port"], row["at"]) for row in rows]


async def complained(conn: Connection, subjects: Sequence[bytes]) -> set[tuple[bytes, str | None]]:
    """Who of them complained, and about which sender; none: about a message that is not known."""
    rows = await conn.fetch(_COMPLAINED, list(subjects), Act.COMPLAINT.value, timeout=STEP_S)
    return {(row["subject"], row["sender"]) for row in rows}
