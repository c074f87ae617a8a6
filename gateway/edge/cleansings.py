"""Cleansings of lists over HTTP: asked for, looked at, decided by a named person with a reason, and undone.

Only rows are written here; settle's loop does the work (`settle.cleansing`) and an answer says how far it is. A look at
who is on a list is recorded in the ledger before it is shown.
"""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path, Query
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.message import Strict
from gateway.edge import acts, scopes
from gateway.edge.callers import Caller, need
from gateway.edge.problems import Refused, wrong
from gateway.edge.strict import routes
from gateway.edge.times import of_ms
from gateway.ledger import events
from gateway.records import cleansing
from gateway.records.cleansing import Job, Person
from gateway.records.partitions import DAY_MS
from gateway.rules.cleansing import PROPOSED, Category, Choice, chosen

router = routes("cleansings")
Asking = Annotated[Caller, need("operate")]
Reading = Annotated[Caller, need("read")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
ListScope = Annotated[str, StringConstraints(pattern=cleansing.SCOPES)]
Named = Annotated[UUID, Path(description="The cleansing's id.")]
CategoryWord = Literal[
    "complained",
    "opted_out",
    "dead",
    "recycled_risk",
    "consent_unproven",
    "consent_old",
    "never_engaged",
    "healthy",
]
PLACE = r"^[0-9a-f]{32}\.[a-z0-9][a-z0-9_-]{0,31}$"
CONNECT_S = 1.0
ABSENT = Refusal(Code.NOT_FOUND)
WHY = {"late": Refusal(Code.CLEANSING_LATE), "state": Refusal(Code.CLEANSING_STATE)}


class CleansingRequest(Strict):
    """POST /v1/cleansings: whose list, since when, and who wants to know why."""

    scope: ListScope
    """`campaign:`, `list_source:`, `sender:` or `port:` and a name."""
    since: AwareDatetime | None = None
    """The list is everybody to whom a message of the scope was accepted since then; 180 days ago, if not given."""
    months: Annotated[int, Field(ge=1, le=120)] | None = None
    """No reply for so many months: never engaged; as the sender's pack has it, if not given."""
    by: Words
    reason: Words


class ApplyRequest(Strict):
    """POST /v1/cleansings/{id}/apply: what is done about whom. A category that is left out gets what is proposed."""

    choices: dict[CategoryWord, Choice] = Field(default_factory=dict)
    by: Words
    reason: Words


class UndoRequest(Strict):
    """POST /v1/cleansings/{id}/undo."""

    by: Words
    reason: Words


class Progress(BaseModel):
    """The pass that runs, or how it ended. While the list is gathered, days of messages are counted; then people."""

    stage: str
    done: int
    total: int


class Part(BaseModel):
    """One category of the list."""

    category: CategoryWord
    people: int
    """Each person once, by the first of their reasons."""
    with_reason: int
    """Everybody of whom it is true."""
    choice: Choice
    """What was chosen; before that, what is proposed."""
    examples: list[str] | None = None
    """A few subjects, where they were asked for."""


class CleansingView(BaseModel):
    """A cleansing as it stands."""

    id: UUID
    scope: str
    since: datetime
    until: datetime
    months: int | None = None
    state: Literal["gathering", "dividing", "ready", "applying", "applied", "undoing", "undone", "expired"]
    asked_by: str
    reason: str
    made_at: datetime
    people: int
    progress: Progress
    categories: list[Part] = []
    outcomes: dict[str, int] = {}
    """What came of applying and undoing: suppressed, queued, stood, lifted, kept."""
    digest: str | None = None
    """SHA-256 of who is in which category, as the ledger has it."""
    ready_at: datetime | None = None
    apply_until: datetime | None = None
    applied_by: str | None = None
    apply_reason: str | None = None
    applied_at: datetime | None = None
    undo_until: datetime | None = None
    undone_by: str | None = None
    undo_reason: str | None = None
    undone_at: datetime | None = None


class Cleansings(BaseModel):
    """The newest first."""

    cleansings: list[CleansingView]
    next: UUID | None = None
    """Give it as `before` to see older ones."""


class PersonView(BaseModel):
    """One person of a list toward one sender."""

    subject: str
    sender: str
    category: CategoryWord
    reasons: list[CategoryWord]
    outcome: str | None = None
    entry: int | None = None


class People(BaseModel):
    """People of one category, by subject."""

    people: list[PersonView]
    next: str | None = None
    """Give it as `after` to see the next ones."""


def view(job: Job, examples: dict[str, list[str]] | None = None) -> CleansingView:
    """A job as answers show it."""
    stage, done, total = job.progress()
    told: dict[str, Any] = job._asdict()
    told |= {"since": of_ms(job.since), "until": of_ms(job.until), "outcomes": job.counts.get("outcomes", {})}
    told |= {"progress": Progress(stage=stage, done=done, total=total), "categories": _parts(job, examples)}
    return CleansingView.model_validate({name: told[name] for name in CleansingView.model_fields})


def _parts(job: Job, examples: dict[str, list[str]] | None) -> list[Part]:
    if not job.counts:
        return []
    people, reasons = job.counts.get("categories", {}), job.counts.get("reasons", {})
    return [
        Part.model_validate(
            {
                "category": category.word,
                "people": people.get(category.word, 0),
                "with_reason": reasons.get(category.word, people.get(category.word, 0)),
                "choice": (job.choices or {}).get(category.word, PROPOSED[category]),
                "examples": None if examples is None else examples.get(category.word, []),
            }
        )
        for category in Category
    ]


@router.post("/v1/cleansings", status_code=202, response_model_exclude_none=True)
async def ask(caller: Asking, body: CleansingRequest) -> CleansingView:
    """Divide a list: who complained, refused, is dead, may be somebody else, has no good consent, never answered.

    Nothing is done about anybody. A list whose breaker opens is divided without being asked for.
    """
    now = time.time_ns() // 1_000_000
    since = now - cleansing.PERIOD_DAYS * DAY_MS if body.since is None else int(body.since.timestamp() * 1000)
    if since >= now:
        raise wrong("since", "not in the past")
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        job = await cleansing.ask(
            connection,
            body.scope,
            since_ms=max(since, 0),
            until_ms=now,
            months=body.months,
            by=body.by,
            reason=body.reason,
        )
    return view(job)


@router.get("/v1/cleansings", response_model_exclude_none=True)
async def cleansings(
    caller: Reading,
    scope: ListScope | None = None,
    limit: Annotated[int, Query(ge=1, le=cleansing.MOST_LISTED)] = 50,
    before: UUID | None = None,
) -> Cleansings:
    """Every cleansing of what the client's own senders send, or those of one list."""
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        jobs = await cleansing.listed(connection, scope=scope, before=before, limit=limit)
        seen = await scopes.visible(caller, connection, {job.scope for job in jobs})
    shown = [view(job) for job in jobs if job.scope in seen]
    return Cleansings(cleansings=shown, next=jobs[-1].id if len(jobs) == limit else None)


@router.get("/v1/cleansings/{id}", response_model_exclude_none=True)
async def one(caller: Asking, id: Named, examples: bool = False) -> CleansingView:  # noqa: A002 - the contract's name
    """Counts, and how far the work is. With `examples` a few subjects of each category; the look is recorded."""
    job = await _job(caller, id)
    if not examples:
        return view(job)
    await acts.looked(caller, events.SYSTEM, f"cleansing {id}")
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        return view(job, await cleansing.examples(connection, id))


@router.get("/v1/cleansings/{id}/people", response_model_exclude_none=True)
async def people(
    caller: Asking,
    id: Named,  # noqa: A002 - the contract's name
    category: CategoryWord,
    limit: Annotated[int, Query(ge=1, le=cleansing.MOST_PEOPLE)] = 100,
    after: Annotated[str | None, Query(pattern=PLACE)] = None,
) -> People:
    """Who is in a category, by subject, and what was done about them. The look is recorded."""
    await _job(caller, id)
    await acts.looked(caller, events.SYSTEM, f"cleansing {id} {category}")
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        rows = await cleansing.people(connection, id, Category[category.upper()], after=after, limit=limit)
    return People(people=[_person(row) for row in rows], next=rows[-1].after if len(rows) == limit else None)


@router.post("/v1/cleansings/{id}/apply", status_code=202, response_model_exclude_none=True)
async def apply(caller: Asking, id: Named, body: ApplyRequest) -> CleansingView:  # noqa: A002 - the contract's name
    """Let it be done: suppress, queue to be asked again, or leave, by category. Repeated word for word: no change."""
    asked = {Category[word.upper()]: choice for word, choice in body.choices.items()}
    try:
        table = chosen(asked)
    except ValueError as fault:
        raise wrong("choices", str(fault)) from fault
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        done = await cleansing.apply(connection, id, table, by=body.by, reason=body.reason)
    job = await _job(caller, id)
    told = {category.word: choice.value for category, choice in table.items()}
    if not done and (job.choices, job.applied_by, job.apply_reason) != (told, body.by, body.reason):
        raise Refused(WHY[cleansing.why_not(job, datetime.now(UTC))])
    return view(job)


@router.post("/v1/cleansings/{id}/undo", status_code=202, response_model_exclude_none=True)
async def undo(caller: Asking, id: Named, body: UndoRequest) -> CleansingView:  # noqa: A002 - the contract's name
    """Within 24 hours: lift what this cleansing suppressed, and only that. Complaints and opt-outs stay."""
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        done = await cleansing.undo(connection, id, by=body.by, reason=body.reason)
    job = await _job(caller, id)
    if not done and job.state not in ("undoing", "undone"):
        raise Refused(WHY[cleansing.why_not(job, datetime.now(UTC))])
    return view(job)


async def _job(caller: Caller, name: UUID) -> Job:
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        job = await cleansing.get(connection, name)
    if job is None:
        raise Refused(ABSENT)
    return job


def _person(row: Person) -> PersonView:
    reasons = [reason.word for reason in row.reasons]
    told = {"subject": row.subject.hex(), "category": row.category.word, "reasons": reasons}
    return PersonView.model_validate(row._asdict() | told)
