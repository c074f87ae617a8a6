"""Writing complaints down: each once, with its case, its first act and its signal, in one transaction.

Owns table `complaints` together with `cases`. A complaint's id is made of what makes it the same one, so two who bring
it at once record it once. Its suppression is an event of the ledger before it comes here; a crash between the two
leaves a person suppressed, and whoever brought the complaint, unanswered, brings it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import NamedTuple

import orjson

from gateway.contract.complaint import Matching
from gateway.contract.decision import Status
from gateway.contract.health import Act, Signal
from gateway.records import signals
from gateway.records.connection import Connection
from gateway.records.partitions import lowest_id
from gateway.records.timeline import STATUS_NUMBERS, STATUSES
from gateway.rules.matching import REACH_MS, SKEW_MS, Candidate

MOST_CANDIDATES = 20
UNMATCHED = "unmatched"
"""The purpose under which a complaint counts whose message is not known, while its port is."""
HELD_MS = 3 * 86_400_000
"""How much earlier than sent a message may have been accepted: it was held."""
_NOT_SENT = [STATUS_NUMBERS[one] for one in (Status.HELD, Status.CANCELLED, Status.REJECTED, Status.EXPIRED)]
_KNOWN = """
SELECT id::text AS id, subject, source, match, message::text AS message, state, due_at, scope, entry
FROM complaints WHERE id = ANY($1::uuid[])
"""
_CANDIDATES = """
SELECT k.n, m.id::text AS id, m.origin, m.accepted_at, m.entry, m.timeline, m.port, m.sender, m.campaign
FROM unnest($1::bytea[], $2::text[], $3::uuid[], $4::uuid[]) WITH ORDINALITY AS k(subject, port, low, high, n)
CROSS JOIN LATERAL (
    SELECT m.id, m.origin, m.accepted_at, m.entry, m.timeline, o.port, o.sender, o.campaign
    FROM messages m JOIN message_origins o ON o.id = m.origin
    WHERE m.subject = k.subject AND m.id >= k.low AND m.id < k.high AND m.id >= $5::uuid AND m.id < $6::uuid
        AND m.accepted_at IS NOT NULL AND m.status <> ALL($7::smallint[])
        AND (k.port IS NULL OR starts_with(k.port, o.port))
    ORDER BY m.id DESC LIMIT $8
) m ORDER BY k.n, m.id DESC
"""
_RECORD = """
WITH fresh AS (
    INSERT INTO complaints (id, source, subject, port, sender, at, received_at, sealed, match, message, origin, minute,
        candidates, scope, entry, permission, due_at)
    SELECT id, source, subject, port, sender, at, $1, sealed, match, message, origin, minute,
        string_to_array(candidates, ',')::uuid[], scope, entry, permission, $2
    FROM unnest($3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::bigint[], $9::bytea[], $10::text[],
        $11::uuid[], $12::int[], $13::bigint[], $14::text[], $15::text[], $16::bigint[], $17::bigint[])
        AS u(id, source, subject, port, sender, at, sealed, match, message, origin, minute, candidates, scope, entry,
             permission)
    ON CONFLICT (id) DO NOTHING RETURNING id, entry
), acts AS (
    INSERT INTO case_acts (complaint, act, acted_by, at, entry) SELECT id, 'recorded', $18, $1, entry FROM fresh
)
SELECT id::text AS id FROM fresh
"""
_ORIGINS = "SELECT id, digest FROM message_origins WHERE digest = ANY($1::bytea[])"
_ADD_ORIGINS = """
INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis)
SELECT digest, '-', sender, $5, class, port, '-', '-'
FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[]) AS u(digest, sender, class, port)
ORDER BY digest ON CONFLICT (digest) DO NOTHING
"""
_UNHELD = """
c.closed_at < $1 AND NOT EXISTS (
    SELECT FROM legal_holds h WHERE h.released_at IS NULL
        AND (h.sender IS NULL OR c.sender IS NULL OR h.sender = c.sender)
        AND (h.subject IS NULL OR c.subject IS NULL OR h.subject = c.subject)
)
"""
_PURGE = f"UPDATE complaints c SET sealed = NULL WHERE c.sealed IS NOT NULL AND {_UNHELD}"  # noqa: S608 - as above
_PURGE_ACTS = f"""
UPDATE case_acts a SET sealed = NULL FROM complaints c WHERE a.complaint = c.id AND a.sealed IS NOT NULL AND {_UNHELD}
"""  # noqa: S608 - as above


class Known(NamedTuple):
    """A complaint that is recorded, as its bringer is told of it."""

    id: str
    subject: bytes | None
    source: str
    match: Matching
    message: str | None
    state: str
    due_at: int
    scope: str
    entry: int | None


class Row(NamedTuple):
    """A complaint to record; the order is that of `_RECORD`. Times are Unix ms, `minute` is where it counts."""

    id: str
    source: str
    subject: bytes
    port: str | None
    sender: str | None
    at: int
    sealed: bytes
    match: Matching
    message: str | None
    origin: int | None
    minute: int
    candidates: tuple[str, ...]
    scope: str
    entry: int | None
    permission: int | None


class Asked(NamedTuple):
    """Whose messages could have caused a complaint."""

    subject: bytes
    port: str | None
    at_ms: int


async def known(conn: Connection, ids: Collection[str]) -> dict[str, Known]:
    """Those of these complaints that are recorded."""
    rows = await conn.fetch(_KNOWN, list(ids)) if ids else []
    return {row["id"]: Known(**{**row, "match": Matching(row["match"])}) for row in rows}


async def candidates(conn: Connection, asked: Sequence[Asked]) -> list[list[Candidate]]:
    """For each, the messages that may have reached the person by then, newest first; their texts are not here."""
    found: list[list[Candidate]] = [[] for _ in asked]
    if not asked:
        return found
    low = [lowest_id(max(one.at_ms - REACH_MS - HELD_MS, 0)) for one in asked]
    high = [lowest_id(one.at_ms + SKEW_MS + 1) for one in asked]
    rows = await conn.fetch(
        _CANDIDATES,
        [one.subject for one in asked],
        [one.port for one in asked],
        low,
        high,
        min(low),
        max(high),
        _NOT_SENT,
        MOST_CANDIDATES,
    )
    for row in rows:
        sent_ms = sent_at(row["timeline"], row["accepted_at"])
        place = row["port"], row["sender"], row["campaign"]
        one = Candidate(row["id"], row["origin"], *place, sent_ms, permission=row["entry"])
        found[row["n"] - 1].append(one)
    return found


def sent_at(stored: str, accepted_at: int) -> int:
    """When a carrier first had a message (Unix ms), by its stored timeline; where that is not known, its acceptance."""
    steps = orjson.loads(stored)
    return min((step[0] for step in steps if STATUSES[step[1]] in _HANDED), default=accepted_at)


_HANDED = (Status.SENT, Status.DELIVERED, Status.UNDELIVERED, Status.UNKNOWN)


async def port_origins(conn: Connection, ports: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    """For (sender, class, port) the row of `message_origins` under which complaints of no known message count."""
    named: dict[bytes, tuple[str, str, str]] = {}
    for sender, cls, port in sorted(set(ports)):
        fields = ("-", sender, UNMATCHED, cls, port, "-", "-", None, None)
        named[hashlib.sha256(orjson.dumps(fields)).digest()[:16]] = (sender, cls, port)
    if not named:
        return {}
    found = await conn.fetch(_ORIGINS, list(named))
    if len(found) < len(named):
        await conn.execute(_ADD_ORIGINS, list(named), *zip(*named.values(), strict=True), UNMATCHED)
        found = await conn.fetch(_ORIGINS, list(named))
    return {named[row["digest"]]: row["id"] for row in found}


def signal_of(row: Row, received_at: int) -> Signal:
    """What a complaint counts as."""
    key = bytes.fromhex(row.id.replace("-", ""))
    message = row.message if row.match is Matching.MATCHED else None
    return Signal(Act.COMPLAINT, key, row.minute, received_at, row.origin, message, row.subject)


async def record(conn: Connection, rows: Sequence[Row], by: str, received_at: int, due_at: int) -> set[str]:
    """Record what is new, with case, act and signal; returns its ids. Runs its own transaction."""
    if not rows:
        return set()
    rows = sorted(rows)  # one order for all, so that nobody waits in a ring
    columns = [list(column) for column in zip(*rows, strict=True)]
    columns[Row._fields.index("match")] = [row.match.value for row in rows]
    columns[Row._fields.index("candidates")] = [",".join(row.candidates) for row in rows]
    async with conn.transaction():
        fresh = {row["id"] for row in await conn.fetch(_RECORD, received_at, due_at, *columns, by)}
        await signals.note(conn, [signal_of(row, received_at) for row in rows if row.id in fresh])
    return fresh


async def purge(conn: Connection, before_ms: int) -> None:
    """Forget the words of cases closed before a time, but for what a legal hold names; figures and acts stay."""
    await conn.execute(_PURGE, before_ms)
    await conn.execute(_PURGE_ACTS, before_ms)
