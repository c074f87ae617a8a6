"""Evidence for a regulator or a court: one sealed bundle for a message or an event, by HTTP.

Whoever asks leaves an ACCESS event first, and needs the role `operate`: a bundle holds the person's number and records.
"""

from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import Path, Response

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.edge import acts
from gateway.edge.callers import Caller, need
from gateway.edge.faults import UNAVAILABLE
from gateway.edge.problems import Refused
from gateway.edge.strict import routes
from gateway.ledger.chain import Case
from gateway.ledger.evidence import Evidence, NoLogError, NothingError
from gateway.records.messages import Messages

router = routes("ledger")
ZIP = "application/zip"
ABSENT = Refusal(Code.NOT_FOUND, "no such message or event, or nothing readable about its person")
Id = Annotated[
    str,
    Path(
        min_length=1,
        max_length=512,
        description="A message's id, an event's place in the ledger (`seq`), or an event's id.",
        examples=["01a20bb9-6f46-7968-9bca-a20bd03a9f18"],
    ),
]


async def case_of(pool: "asyncpg.Pool[asyncpg.Record]", made: Evidence, asked: str) -> Case | None:
    """What an id asks about: a message, or an event by its place or id; none where there is no such thing."""
    try:
        message = await Messages(pool).by_id(str(UUID(asked)))
    except ValueError:
        message = None
    if message is not None and message.subject is not None:
        return Case({"message": message.id}, message.subject, message.sender, message.told())
    place = await made.place(asked)
    if place is None or place[1] is None:
        return None
    return Case({"event": place[0]}, place[1], None)


@router.get("/v1/evidence/{id:path}", response_class=Response, responses={200: {"content": {ZIP: {}}}})
async def evidence(caller: Annotated[Caller, need("operate")], id: Id) -> Response:  # noqa: A002 - as above
    """A ZIP: the chain of consent behind a message or of an event's person, with proofs and a page to read."""
    gate, made = caller.gate, caller.gate.evidence
    if made is None:
        raise Refused(UNAVAILABLE)
    case = await case_of(gate.pool, made, id)
    if case is None:
        raise Refused(ABSENT)
    await acts.looked(caller, case.subject)
    try:
        raw = await made.bundle(case, acts.now_ms())
    except NothingError:
        raise Refused(ABSENT) from None
    except (NoLogError, asyncpg.PostgresError) as fault:
        raise Refused(UNAVAILABLE) from fault
    name = f"evidence-{next(iter(case.question.values()))}.zip"
    return Response(raw, media_type=ZIP, headers={"content-disposition": f'attachment; filename="{name}"'})
