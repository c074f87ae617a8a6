"""Reading cases and acting on them: what pages, the API and the command have in common.

Owns table `case_acts`. A case moves open -> assigned -> answered -> closed, never back; whoever answers takes it on. An
act and the case's new position are written in one transaction; the settle process writes each act into the ledger
afterwards (`entry`). What a case shows names nobody; the words are opened with the installation's keys, by a caller
who records the look first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from asyncpg import Record

from gateway.contract.complaint import CaseAct, CaseState, Matching
from gateway.contract.health import Act as SignalAct
from gateway.records import complaints, signals
from gateway.records.connection import Connection
from gateway.rules.matching import Candidate

MOST_ROWS = 200
_SELECT = """
SELECT c.id::text AS id, c.source, c.subject, c.port, c.sender, c.at, c.received_at, c.match, c.resolved_by,
       c.message::text AS message, c.candidates::text[] AS candidates, c.scope, c.entry, c.permission, c.state,
       c.assigned_to, c.due_at, c.answered_at, c.closed_at, c.outcome, c.overdue, c.sealed IS NOT NULL AS readable,
       c.minute, o.campaign, o.purpose, o.list_source
FROM complaints c LEFT JOIN message_origins o ON o.id = c.origin AND c.match = 'matched'
"""
_PAGE = """
WHERE ($1::text IS NULL OR c.state = $1) AND ($2::text IS NULL OR c.source = $2)
    AND ($3::text[] IS NULL OR c.sender = ANY($3)) AND ($4::bytea IS NULL OR c.subject = $4)
    AND ($5::text IS NULL OR c.match = $5) AND (NOT $6 OR c.match <> 'matched' AND c.resolved_by IS NULL)
    AND (NOT $7 OR c.overdue AND c.state <> 'closed') AND ($8::bigint IS NULL OR (c.received_at, c.id) < ($8, $9::uuid))
ORDER BY c.received_at DESC, c.id DESC LIMIT $10
"""
_WAITING = "WHERE c.answered_at IS NULL AND c.state <> 'closed' ORDER BY c.due_at, c.id LIMIT $1"
_UNMATCHED = """
WHERE c.match = 'unmatched' AND c.resolved_by IS NULL AND c.state <> 'closed' AND c.subject IS NOT NULL
    AND c.sealed IS NOT NULL AND c.received_at > $1 AND ($2::uuid IS NULL OR c.id > $2) ORDER BY c.id LIMIT $3
"""
_ACTS = "SELECT act, acted_by, at, detail, sealed, entry FROM case_acts WHERE complaint = $1 ORDER BY id"
_ACT = "INSERT INTO case_acts (complaint, act, acted_by, at, detail, sealed) VALUES ($1, $2, $3, $4, $5, $6)"
_MESSAGE = """
SELECT m.id::text AS id, m.subject, m.origin, m.accepted_at, m.entry, m.timeline, o.port, o.sender, o.campaign
FROM messages m JOIN message_origins o ON o.id = m.origin WHERE m.id = $1 AND m.accepted_at IS NOT NULL
"""


class Case(NamedTuple):
    """A complaint and its case. Times are Unix ms."""

    id: str
    source: str
    subject: bytes | None
    """None once the person is erased."""
    port: str | None
    sender: str | None
    at: int
    received_at: int
    match: Matching
    resolved_by: str | None
    """Who decided about the message, where that was not clear."""
    message: str | None
    candidates: list[str]
    """The messages that a person may decide among."""
    scope: str
    """What it suppressed: a sender, or `*`."""
    entry: int | None
    """The suppression in the ledger."""
    permission: int | None
    """The entry that the message relied on; its evidence is that of the message."""
    state: CaseState
    assigned_to: str | None
    due_at: int
    answered_at: int | None
    closed_at: int | None
    outcome: str | None
    overdue: bool
    readable: bool
    """Whether its words are still kept."""
    minute: int
    campaign: str | None
    purpose: str | None
    list_source: str | None

    @property
    def bundle(self) -> str | None:
        """What `GET /v1/evidence/{id}` gives the evidence of: the message, else the suppression's entry."""
        return self.message or (None if self.entry is None else str(self.entry))


class Acted(NamedTuple):
    """One act on a case. `detail`: to whom, which message, or the outcome; `entry`: its place in the ledger."""

    act: CaseAct
    by: str
    at: int
    detail: str | None
    sealed: bytes | None
    entry: int | None


class Filter(NamedTuple):
    """Which cases; nothing given means all. `queue`: those whose message a person has to decide about."""

    state: CaseState | None = None
    source: str | None = None
    senders: list[str] | None = None
    subject: bytes | None = None
    match: Matching | None = None
    queue: bool = False
    overdue: bool = False


class NoCaseError(LookupError):
    """There is no such case, or no such message that went to its person."""


class CaseStateError(Exception):
    """The case does not stand where the act is possible."""


async def page(conn: Connection, asked: Filter, limit: int, after: tuple[int, str] | None = None) -> list[Case]:
    """Cases, the newest received first; `after`: (received_at, id) of the last one of the page before."""
    at, last = after or (None, None)
    rows = await conn.fetch(_SELECT + _PAGE, *asked, at, last, min(limit, MOST_ROWS))
    return [_case(row) for row in rows]


async def waiting(conn: Connection, limit: int = MOST_ROWS) -> list[Case]:
    """Cases that nobody answered yet, the longest overdue first."""
    return [_case(row) for row in await conn.fetch(_SELECT + _WAITING, min(limit, MOST_ROWS))]


async def unmatched(conn: Connection, since_ms: int, after: str | None, limit: int) -> list[Case]:
    """Cases received since then whose message nobody knows, and whose words are kept, by id."""
    return [_case(row) for row in await conn.fetch(_SELECT + _UNMATCHED, since_ms, after, limit)]


async def one(conn: Connection, case: str) -> Case | None:
    """One case."""
    row = await conn.fetchrow(_SELECT + "WHERE c.id = $1", case)
    return None if row is None else _case(row)


async def acts(conn: Connection, case: str) -> list[Acted]:
    """What was done about a case, in order."""
    return [Acted(CaseAct(row[0]), *tuple(row)[1:]) for row in await conn.fetch(_ACTS, case)]


async def words(conn: Connection, case: str) -> bytes | None:
    """The sealed words (`Keys.open_case`, bound to the id's 16 bytes); record the look before they are opened."""
    sealed: bytes | None = await conn.fetchval("SELECT sealed FROM complaints WHERE id = $1", case)
    return sealed


async def assign(conn: Connection, case: str, to: str, by: str, now_ms: int, sealed: bytes | None = None) -> Case:
    """Hand a case to a person; again, to another. Raises NoCaseError, CaseStateError."""

    def move(at: Case) -> dict[str, Any]:
        state = CaseState.ASSIGNED if at.state is CaseState.OPEN else at.state
        return {"state": state.value, "assigned_to": to}

    return await _act(conn, case, CaseAct.ASSIGNED, by, now_ms, to, sealed, move)


async def answer(conn: Connection, case: str, by: str, now_ms: int, sealed: bytes | None = None) -> Case:
    """The person who complained was answered. The first time stops the clock. Raises as `assign` does."""

    def move(at: Case) -> dict[str, Any]:
        first = now_ms if at.answered_at is None else at.answered_at
        return {"state": CaseState.ANSWERED.value, "assigned_to": at.assigned_to or by, "answered_at": first}

    return await _act(conn, case, CaseAct.ANSWERED, by, now_ms, None, sealed, move)


async def close(conn: Connection, case: str, outcome: str, by: str, now_ms: int, sealed: bytes | None = None) -> Case:
    """End an answered case with its outcome. Raises as `assign` does."""

    def move(at: Case) -> dict[str, Any]:
        if at.state is not CaseState.ANSWERED:
            raise CaseStateError("a case is closed after the person was answered")
        return {"state": CaseState.CLOSED.value, "outcome": outcome, "closed_at": now_ms}

    return await _act(conn, case, CaseAct.CLOSED, by, now_ms, outcome, sealed, move)


async def message_of(conn: Connection, case: Case, message: str) -> Candidate:
    """A message that went to the case's person, to decide for it. Raises NoCaseError."""
    row = await conn.fetchrow(_MESSAGE, message)
    if row is None or case.subject is None or row["subject"] != case.subject:
        raise NoCaseError(message)
    sent_ms = complaints.sent_at(row["timeline"], row["accepted_at"])
    place = row["port"], row["sender"], row["campaign"]
    return Candidate(row["id"], row["origin"], *place, sent_ms, permission=row["entry"])


async def resolve(
    conn: Connection,
    case: str,
    found: Candidate | None,
    origin: int | None,
    by: str,
    now_ms: int,
    *,
    undecided: bool = False,
) -> Case:
    """Which message it was is decided, or that it was none (`origin`: where it counts then). Raises as `assign`.

    The signal moves with it: it counts once, at the message's time and origin. `undecided`: CaseStateError where
    somebody has decided.
    """

    def move(at: Case) -> dict[str, Any]:
        if undecided and at.resolved_by is not None:
            raise CaseStateError("the message is decided about")
        if found is None:
            where: dict[str, Any] = {"message": None, "origin": origin, "minute": at.at // 60_000, "permission": None}
            return {**where, "match": Matching.UNMATCHED.value, "resolved_by": by}
        where = {"message": found.id, "origin": found.origin, "minute": found.sent_ms // 60_000}
        known = {"sender": found.sender, "permission": found.permission}
        return {**where, **known, "match": Matching.MATCHED.value, "resolved_by": by}

    detail = None if found is None else found.id
    async with conn.transaction():
        moved = await _act(conn, case, CaseAct.MATCHED, by, now_ms, detail, None, move)
        key = bytes.fromhex(case.replace("-", ""))
        counts = origin if found is None else found.origin
        await signals.move(conn, SignalAct.COMPLAINT, key, moved.minute, counts, detail)
    return moved


async def _act(
    conn: Connection,
    case: str,
    act: CaseAct,
    by: str,
    now_ms: int,
    detail: str | None,
    sealed: bytes | None,
    move: Callable[[Case], dict[str, Any]],
) -> Case:
    """Lock the case, decide its new position from the one it has, write both that and the act."""
    if not by.strip():
        raise ValueError("somebody acts on a case")
    async with conn.transaction():
        row = await conn.fetchrow(_SELECT + "WHERE c.id = $1 FOR UPDATE OF c", case)
        if row is None:
            raise NoCaseError(case)
        at = _case(row)
        if at.state is CaseState.CLOSED:
            raise CaseStateError("the case is closed")
        changed = move(at)
        columns = ", ".join(f"{name} = ${place}" for place, name in enumerate(changed, 2))
        await conn.execute(f"UPDATE complaints SET {columns} WHERE id = $1", case, *changed.values())  # noqa: S608 - ours
        await conn.execute(_ACT, case, act.value, by, now_ms, detail, sealed)
        after = await one(conn, case)
    if after is None:
        raise NoCaseError(case)
    return after


def _case(row: Record) -> Case:
    return Case(**{**row, "match": Matching(row["match"]), "state": CaseState(row["state"])})
