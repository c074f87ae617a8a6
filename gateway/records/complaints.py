"""Writing complaints down: each once, with its case, its first act and its signal, in one transaction.

Owns table `complaints` together with `cases`, and `complaint_tellings`. A complaint's id is made of what makes it the
same one, so two who bring it at once record it once; what another source tells of it in the same words is a *telling*
of the same case (`same`). Its suppression is an event of the ledger before it comes here; a crash between the two
leaves a person suppressed, and whoever brought the complaint, unanswered, brings it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from typing import NamedTuple
from uuid import UUID

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
SELECT named.name::text AS name, c.id::text AS id, subject, c.source, match, message::text AS message, state, due_at,
    scope, entry
FROM (
    SELECT id AS name, id FROM complaints WHERE id = ANY($1::uuid[])
    UNION ALL SELECT id, complaint FROM complaint_tellings WHERE id = ANY($1::uuid[])
) AS named JOIN complaints c ON c.id = named.id
"""
_LOCK = 0x41535345_0035
"""Whoever records complaints takes turns: two sources may tell of one at once. They meet at a day's bucket anyway."""
_SAID = """
SELECT said, id::text AS id, source FROM complaints WHERE said = ANY($1::bytea[]) ORDER BY received_at, id
"""
_TELL = """
WITH fresh AS (
    INSERT INTO complaint_tellings (id, complaint, source, at, received_at)
    SELECT id, complaint, source, at, $1 FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::bytea[])
        AS u(id, complaint, source, at, sealed)
    ON CONFLICT (id) DO NOTHING RETURNING id, complaint, source
), acts AS (
    INSERT INTO case_acts (complaint, act, acted_by, at, detail, sealed)
    SELECT fresh.complaint, 'told', $7, $1, fresh.source, u.sealed FROM fresh
    JOIN unnest($2::uuid[], $6::bytea[]) AS u(id, sealed) ON u.id = fresh.id
)
UPDATE complaints c SET confirmed = true FROM fresh WHERE c.id = fresh.complaint AND fresh.source <> 'own'
"""
_CANDIDATES = """
SELECT k.n, m.id::text AS id, m.origin, m.accepted_at, m.entry, m.timeline, m.port, m.sender, m.campaign, m.carrier
FROM unnest($1::bytea[], $2::text[], $3::uuid[], $4::uuid[]) WITH ORDINALITY AS k(subject, port, low, high, n)
CROSS JOIN LATERAL (
    SELECT m.id, m.origin, m.accepted_at, m.entry, m.timeline, m.carrier, o.port, o.sender, o.campaign
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
        candidates, scope, entry, permission, said, due_at)
    SELECT id, source, subject, port, sender, at, $1, sealed, match, message, origin, minute,
        string_to_array(candidates, ',')::uuid[], scope, entry, permission, said, $2
    FROM unnest($3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::bigint[], $9::bytea[], $10::text[],
        $11::uuid[], $12::int[], $13::bigint[], $14::text[], $15::text[], $16::bigint[], $17::bigint[], $18::bytea[])
        AS u(id, source, subject, port, sender, at, sealed, match, message, origin, minute, candidates, scope, entry,
             permission, said)
    ON CONFLICT (id) DO NOTHING RETURNING id, entry
), acts AS (
    INSERT INTO case_acts (complaint, act, acted_by, at, entry) SELECT id, 'recorded', $19, $1, entry FROM fresh
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
    said: bytes
    carrier: str | None
    """Of its message, where that was known; not a column."""


class Telling(NamedTuple):
    """What makes a complaint the same as another source's: `said` is a digest of person, port, words and day."""

    id: str
    said: bytes
    source: str
    at: int
    sealed: bytes | None = None
    """The source's own reference, for its timeline."""

    @property
    def referred(self) -> bool:
        """Whether its id is made of a reference of its source, and not of what was said."""
        return self.id != name_of(self.said)


class Asked(NamedTuple):
    """Whose messages could have caused a complaint."""

    subject: bytes
    port: str | None
    at_ms: int


def name_of(digest: bytes) -> str:
    """16 bytes in the form of a UUIDv8 (RFC 9562)."""
    number = int.from_bytes(digest, "big") & ~(0xF << 76) | 0x8 << 76
    return str(UUID(int=number & ~(0x3 << 62) | 0x2 << 62))


async def known(conn: Connection, ids: Collection[str]) -> dict[str, Known]:
    """Those of these complaints that are recorded, and the cases of those that were told again."""
    rows = await conn.fetch(_KNOWN, list(ids)) if ids else []
    return {row["name"]: Known(*tuple(row)[1:])._replace(match=Matching(row["match"])) for row in rows}


async def same(conn: Connection, asked: Sequence[Telling]) -> dict[str, str]:
    """Of these, by id, the recorded case that each is another telling of.

    The same words of the same person about the same port on the same day, from another source; from the same one only
    where one of the two has no reference: a source that gives two of them tells of two complaints.
    """
    found: dict[str, str] = {}
    by_said: dict[bytes, list[Telling]] = {}
    for row in await conn.fetch(_SAID, [one.said for one in asked]) if asked else ():
        by_said.setdefault(row["said"], []).append(Telling(row["id"], row["said"], row["source"], 0))
    for one in asked:
        first = next((other for other in by_said.get(one.said, ()) if alike(one, other)), None)
        if first is not None:
            found[one.id] = first.id
    return found


def alike(one: Telling, other: Telling) -> bool:
    """Whether two of the same words are one complaint."""
    return one.id != other.id and (one.source != other.source or not (one.referred and other.referred))


async def tell(conn: Connection, told: Sequence[tuple[Telling, str]], by: str, received_at: int) -> None:
    """Keep what was told again of these cases: an act of each, once however often it is brought."""
    if told:
        rows = sorted(((one.id, case, one.source, one.at, one.sealed) for one, case in told), key=lambda row: row[:2])
        await conn.execute(_TELL, received_at, *map(list, zip(*rows, strict=True)), by)


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
        one = Candidate(row["id"], row["origin"], *place, sent_ms, permission=row["entry"], carrier=row["carrier"])
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
    carrier = row.carrier if message else None
    return Signal(Act.COMPLAINT, key, row.minute, received_at, row.origin, message, row.subject, carrier)


async def record(conn: Connection, rows: Sequence[Row], by: str, received_at: int, due_at: int) -> dict[str, Known]:
    """Record what is new, with case, act and signal; returns it as it stands now. Runs its own transaction.

    What another brought in other words meanwhile, or stands earlier in these rows, becomes a telling of that case.
    """
    if not rows:
        return {}
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        tellings = {row.id: Telling(row.id, row.said, row.source, row.at) for row in rows}
        told = await same(conn, list(tellings.values()))
        first: dict[bytes, list[Telling]] = {}
        for row in rows:
            one, before = tellings[row.id], first.setdefault(row.said, [])
            if row.id not in told and (other := next((other for other in before if alike(one, other)), None)):
                told[row.id] = other.id
            elif row.id not in told:
                before.append(one)
        new = sorted((row for row in rows if row.id not in told), key=lambda row: row.id)  # one order for all: no ring
        columns = [list(column) for column in zip(*new, strict=True)][:-1] or [[] for _ in Row._fields[:-1]]
        columns[Row._fields.index("match")] = [row.match.value for row in new]
        columns[Row._fields.index("candidates")] = [",".join(row.candidates) for row in new]
        fresh = {row["id"] for row in await conn.fetch(_RECORD, received_at, due_at, *columns, by)}
        await tell(conn, [(tellings[name], case) for name, case in told.items()], by, received_at)
        await signals.note(conn, [signal_of(row, received_at) for row in new if row.id in fresh])
    return {
        row.id: Known(row.id, row.subject, row.source, row.match, row.message, "open", due_at, row.scope, row.entry)
        for row in new
        if row.id in fresh
    }


async def purge(conn: Connection, before_ms: int) -> None:
    """Forget the words of cases closed before a time, but for what a legal hold names; figures and acts stay."""
    await conn.execute(_PURGE, before_ms)
    await conn.execute(_PURGE_ACTS, before_ms)
