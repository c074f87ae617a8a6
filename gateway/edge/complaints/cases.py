"""Cases of complaints over HTTP: seeing them, acting on them, and signing off a day's figures.

A client sees the complaints about its own senders; the role `operate` sees all and acts. The words of a complaint are
shown where they are asked for alone, to `operate`, after the look was recorded in the ledger.
"""

from collections.abc import Awaitable, Callable
from datetime import date as Date  # noqa: N812 - a field is called `date`
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import Field, StringConstraints

from gateway.contract.codes import Code
from gateway.contract.complaint import CaseState, Matching, Name, Outcome, Source
from gateway.contract.decision import Refusal
from gateway.contract.ids import mask
from gateway.contract.message import Slug, Strict
from gateway.edge import acts
from gateway.edge.auth import may_use
from gateway.edge.callers import Caller, need
from gateway.edge.complaints.files import means_of
from gateway.edge.complaints.views import CaseActView, CasePage, CaseView, FiguresPage, FiguresView
from gateway.edge.lookups import sees_all
from gateway.edge.problems import Refused, wrong
from gateway.edge.strict import routes
from gateway.intake.complaints import CONNECT_S, bound
from gateway.intake.resolving import resolve
from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.records import cases, figures
from gateway.records.cases import Case, CaseStateError, NoCaseError
from gateway.records.connection import Connection
from gateway.rules.complaint_days import bounds, yesterday

router = routes("complaints")
Reading = Annotated[Caller, need("read")]
Acting = Annotated[Caller, need("operate")]
Note = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]
PLACE = r"^[0-9]{1,15}\.[0-9a-f-]{36}$"
ABSENT = Refusal(Code.NOT_FOUND)
MOST_DAYS = 400
Step = Callable[[Connection, bytes | None], Awaitable[Case]]


class Assign(Strict):
    """Hand a case to somebody."""

    to: Name
    by: Name
    note: Note | None = None


class Answer(Strict):
    """The person who complained was answered."""

    by: Name
    note: Note | None = None
    """What they were told; sealed."""


class Close(Strict):
    """End a case."""

    by: Name
    outcome: Outcome
    note: Note | None = None


class Decide(Strict):
    """Which message it was, or `none`."""

    message: UUID | Literal["none"]
    by: Name


class SignOff(Strict):
    """What an officer states a day's complaints of a source to be."""

    date: Date
    source: Source
    count: Annotated[int, Field(ge=0, le=10_000_000)]
    by: Name


@router.get("/v1/complaints", response_model_exclude_none=True)
async def complaints(
    caller: Reading,
    state: CaseState | None = None,
    source: Source | None = None,
    sender: Slug | None = None,
    match: Matching | None = None,
    queue: Annotated[bool, Query(description="Only those whose message a person has to decide about.")] = False,
    overdue: Annotated[bool, Query(description="Only those that nobody answered in time.")] = False,
    reporter: Annotated[str | None, Query(min_length=3, max_length=32, description="A number or a subject.")] = None,
    limit: Annotated[int, Query(ge=1, le=cases.MOST_ROWS)] = 50,
    after: Annotated[str | None, Query(pattern=PLACE)] = None,
) -> CasePage:
    """Complaints about the client's senders, the newest received first; words and numbers are not in it."""
    if sender is not None and not sees_all(caller.client):
        acts.check(acts.sender_fault(caller.gate, caller.client, sender))
    senders = None if _all(caller) else list(caller.client.senders)
    asked = cases.Filter(
        state=state,
        source=source,
        senders=senders if sender is None else [sender],
        subject=None if reporter is None else acts.named(caller.gate, reporter).subject,
        match=match,
        queue=queue,
        overdue=overdue,
    )
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        rows = await cases.page(connection, asked, limit, None if after is None else _place(after))
    following = f"{rows[-1].received_at}.{rows[-1].id}" if len(rows) == limit else None
    return CasePage(complaints=[CaseView.of(row) for row in rows], next=following)


@router.get("/v1/complaints/figures", response_model_exclude_none=True)
async def daily_figures(caller: Acting, since: Date, until: Date | None = None) -> FiguresPage:
    """What was signed off, by day and source."""
    last = until or min(since, Date.max - timedelta(days=31)) + timedelta(days=31)
    if not timedelta(0) <= last - since <= timedelta(days=MOST_DAYS):
        raise wrong("until", f"at most {MOST_DAYS} days after `since`, and not before it")
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        rows = await figures.stated(connection, since, last)
    return FiguresPage(figures=[FiguresView.of(row) for row in rows])


@router.post("/v1/complaints/figures", status_code=201, response_model_exclude_none=True)
async def sign_off(caller: Acting, body: SignOff) -> FiguresView:
    """State a day's figures by name. Again is a correction: every statement is kept, the last one stands."""
    now, zone = acts.now_ms(), means_of(caller.gate).zone
    if body.date > yesterday(now, zone) + timedelta(days=1):
        raise wrong("date", "in the future")
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        days = bounds(body.date, zone)
        return FiguresView.of(await figures.state(connection, body.date, body.source, body.count, body.by, now, days))


@router.get("/v1/complaints/{id}", response_model_exclude_none=True)
async def complaint(
    caller: Reading,
    id: UUID,  # noqa: A002 - the contract's name
    text: Annotated[bool, Query(description="With its words: needs role `operate`, and is recorded.")] = False,
) -> CaseView:
    """A complaint, its case and what was done about it."""
    written = str(id)
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        case = await cases.one(connection, written)
        if case is None or not (_all(caller) or (case.sender is not None and may_use(caller.client, case.sender))):
            raise Refused(ABSENT)
        timeline = await cases.acts(connection, written)
    if not text or case.subject is None:
        return CaseView.of(case, timeline=[CaseActView.of(one, None) for one in timeline])
    if not sees_all(caller.client):
        raise Refused(Refusal(Code.CLIENT_FORBIDDEN, "needs role operate"))
    await acts.looked(caller, case.subject, "complaint")
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        sealed = await cases.words(connection, written)
    keys = caller.gate.appender.keys
    known = await caller.gate.reading.number(case.subject)
    said: dict[str, Any] = {} if sealed is None else orjson.loads(keys.open_case(sealed, bound(written)))
    notes = [CaseActView.of(one, opened(keys, written, one.sealed)) for one in timeline]
    masked = None if known is None else mask(known)
    return CaseView.of(case, timeline=notes, reporter=masked, text=said.get("text"), ref=said.get("ref"))


@router.post("/v1/complaints/{id}/assign", response_model_exclude_none=True)
async def assign(caller: Acting, id: UUID, body: Assign) -> CaseView:  # noqa: A002 - as above
    """Hand the case to a person."""
    return await _act(
        caller, id, body.note, lambda c, note: cases.assign(c, str(id), body.to, body.by, acts.now_ms(), note)
    )


@router.post("/v1/complaints/{id}/answer", response_model_exclude_none=True)
async def answer(caller: Acting, id: UUID, body: Answer) -> CaseView:  # noqa: A002 - as above
    """Record that the person was answered; the first time stops the clock."""
    return await _act(caller, id, body.note, lambda c, note: cases.answer(c, str(id), body.by, acts.now_ms(), note))


@router.post("/v1/complaints/{id}/close", response_model_exclude_none=True)
async def close(caller: Acting, id: UUID, body: Close) -> CaseView:  # noqa: A002 - as above
    """Close an answered case, by name and with its outcome."""
    return await _act(
        caller, id, body.note, lambda c, note: cases.close(c, str(id), body.outcome, body.by, acts.now_ms(), note)
    )


@router.post("/v1/complaints/{id}/match", response_model_exclude_none=True)
async def decide(caller: Acting, id: UUID, body: Decide) -> CaseView:  # noqa: A002 - as above
    """Decide which message caused the complaint, or `none`; where it counts moves with it."""
    message = None if body.message == "none" else str(body.message)
    try:
        moved = await resolve(means_of(caller.gate), str(id), message, body.by, caller.client.id, acts.now_ms())
    except NoCaseError as fault:
        if fault.args == (str(id),):
            raise Refused(ABSENT) from None
        raise wrong("message", "no message that went to the person who complained") from None
    except CaseStateError as fault:
        raise Refused(Refusal(Code.CASE_STATE, str(fault))) from None
    return CaseView.of(moved)


async def _act(caller: Caller, case: UUID, note: str | None, step: Step) -> CaseView:
    sealed = None if note is None else caller.gate.appender.keys.seal_case(note.encode(), case.bytes)
    try:
        async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
            return CaseView.of(await step(connection, sealed))
    except NoCaseError:
        raise Refused(ABSENT) from None
    except CaseStateError as fault:
        raise Refused(Refusal(Code.CASE_STATE, str(fault))) from None


def opened(keys: Keys, case: str, sealed: bytes | None) -> str | None:
    """Words that go with an act; none where there are none, or they do not open."""
    try:
        return None if sealed is None else keys.open_case(sealed, bound(case)).decode()
    except (KeyMismatchError, UnicodeDecodeError):
        return None


def _all(caller: Caller) -> bool:
    return sees_all(caller.client) or "*" in caller.client.senders


def _place(after: str) -> tuple[int, str]:
    at, _, last = after.partition(".")
    try:
        return int(at), str(UUID(last))
    except ValueError:
        raise wrong("after", "not what `next` gave") from None
