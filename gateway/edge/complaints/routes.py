"""POST /v1/complaints: one complaint or up to 1,000 as JSON; a file of any size as CSV.

Each is taken as if it had come alone, and answered when its suppression is in force and its case is open.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field, TypeAdapter

from gateway.contract.complaint import ComplaintRequest, Matching, Told
from gateway.contract.decision import Refusal
from gateway.edge import acts, bodies
from gateway.edge.acts import Fault
from gateway.edge.callers import Caller, need
from gateway.edge.complaints.files import FileGiven, FileTaken, means_of, taken_file
from gateway.edge.door import is_file
from gateway.edge.problems import Refused, RefusedItem
from gateway.edge.strict import routes
from gateway.edge.times import of_ms
from gateway.intake.complaints import Taken, take
from gateway.rules import numbers
from gateway.rules.complaint_file import OLDEST_MS

router = routes("complaints")
BATCH_S = 5.0
"""For a thousand complaints; their writes have deadlines of their own."""
COMPLAINTS = TypeAdapter(list[ComplaintRequest])


class TakenView(BaseModel):
    """A complaint that is recorded, and its case."""

    status: Literal["recorded"] = "recorded"
    id: str
    duplicate: bool = False
    """The same complaint was recorded before; nothing changed."""
    match: Matching
    message: str | None = None
    """The message that caused it, where that is clear."""
    subject: str
    suppressed: str
    """The scope in which nothing more is sent to the reporter: a sender, or `*`."""
    entry: int | None = None
    """The suppression's entry in the ledger."""
    state: str
    due_at: datetime
    """By when the person is to be answered."""

    @classmethod
    def of(cls, taken: Taken) -> "TakenView":
        """As it was taken."""
        return cls(
            id=taken.id,
            duplicate=taken.duplicate,
            match=taken.match,
            message=taken.message,
            subject=taken.subject.hex(),
            suppressed=taken.scope,
            entry=taken.entry,
            state=taken.state,
            due_at=of_ms(taken.due_at),
        )


class TakenBatch(BaseModel):
    """One result for each complaint, in order."""

    results: Annotated[list[TakenView | RefusedItem], Field(max_length=1000)]


def told(asked: ComplaintRequest, now_ms: int) -> Told | Fault:
    """A request's fields as they are meant, or why it is refused."""
    number = numbers.parse(asked.reporter)
    if number is None:
        return acts.NO_NUMBER, [{"field": "reporter", "message": "not a mobile number in E.164"}]
    at_ms = int(asked.at.timestamp() * 1000)
    fault = time_fault(at_ms, now_ms)
    if fault is not None:
        return fault
    return Told(asked.source, number, asked.port, at_ms, asked.text, asked.ref)


def time_fault(at_ms: int, now_ms: int) -> Fault | None:
    """Nobody complained in the future, nor in another age."""
    if at_ms > now_ms + acts.FUTURE_MS:
        return acts.field_fault("at", "in the future")
    return acts.field_fault("at", "too long ago") if at_ms < OLDEST_MS else None


@router.post(
    "/v1/complaints",
    response_model=TakenView | TakenBatch | FileTaken,
    response_model_exclude_none=True,
    responses={201: {"model": TakenView, "description": "One complaint, new"}},
)
async def complain(
    caller: Annotated[Caller, need("complain")],
    request: Request,
    response: Response,
    given: Annotated[FileGiven, Query()],
) -> BaseModel:
    """Record complaints: each suppresses its reporter at once and opens a case. The same one again changes nothing.

    As `text/csv` a file of any size, with `mapping`, or `columns` and `source`; answered with counts at its end.
    """
    if is_file(request.url.path, request.method, dict(request.scope["headers"])):
        return await taken_file(caller, request, given)
    body = await request.body()
    value = bodies.parse(body)
    now = acts.now_ms()
    if not isinstance(value, dict) or "complaints" not in value:
        one = told(bodies.one(ComplaintRequest, value, body), now)
        (result,) = await results(caller, [one], now)
        if isinstance(result, RefusedItem):
            raise Refused(Refusal(result.code, result.detail or ""), [e.model_dump() for e in result.errors or ()])
        response.status_code = 200 if result.duplicate else 201
        return result
    request.app.door.deadlines.watch(BATCH_S)
    items = bodies.each(COMPLAINTS, ComplaintRequest, bodies.batch(value, "complaints"), body)
    asked = [item if isinstance(item, tuple) else told(item, now) for item in items]
    return TakenBatch(results=await results(caller, asked, now))


async def results(caller: Caller, asked: Sequence[Told | Fault], now_ms: int) -> list[TakenView | RefusedItem]:
    """Take in what can be; one result for each, in order."""
    fine = [one for one in asked if isinstance(one, Told)]
    taken = iter(await take(means_of(caller.gate), fine, caller.client.id, now_ms))
    answers: list[TakenView | RefusedItem] = []
    for one in asked:
        if not isinstance(one, Told):
            answers.append(RefusedItem.of(*one))
            continue
        result = next(taken)
        answers.append(RefusedItem.of(result) if isinstance(result, Refusal) else TakenView.of(result))
    return answers
