"""Never send: setting, seeing and ending suppressions.

Only what was set by hand (`manual`) can be ended by hand; an opt-out ends by the person's own act alone: 409. Setting
one is answered after its block is in force, like a withdrawal.
"""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel

from gateway.contract.codes import Code
from gateway.contract.consent import EventKind, SuppressionRequest
from gateway.contract.decision import Class, Reason, Refusal
from gateway.contract.message import Slug
from gateway.edge import acts
from gateway.edge.acts import Key, Recorded
from gateway.edge.callers import Caller, need
from gateway.edge.people import Standing, owner_of, standing, visible
from gateway.edge.problems import Refused, wrong
from gateway.edge.strict import routes
from gateway.edge.times import of_s
from gateway.ledger import events
from gateway.ledger.reading import Listed

router = routes("recipients")
Asking = Annotated[Caller, need("suppress")]
Given = Annotated[Key | None, acts.KEY_HEADER]
Named = Annotated[str, Query(min_length=3, max_length=32, description="A number, or a subject (32 hex digits).")]
Scope = Literal["all", "sender", "class"]
Reasons = Literal["opt_out", "complaint", "dead_number", "manual", "carrier", "regulator"]
NOT_ONES_OWN = Refusal(Code.CLIENT_FORBIDDEN, "what stops every sender is ended by a client of all senders")
PLACE = r"^[0-9]{1,18}\.[0-9a-f]{32}\.[ -~]{1,150}$"


class Suppressions(BaseModel):
    """What stands against sending, in the order it was recorded."""

    suppressions: list[Standing]
    next: str | None = None
    """Give it as `after` to see the next ones."""


def scope_of(caller: Caller, scope: Scope, sender: str | None, cls: Class | None) -> str:
    """The scope's text; `Refused` where its parts do not fit each other or the client."""
    if (cls is not None) != (scope == "class"):
        raise wrong("class", "goes with scope `class`, and only with it")
    if scope == "sender" and sender is None:
        raise wrong("sender", "scope `sender` needs one")
    if scope == "all" and sender is not None:
        raise wrong("sender", "scope `all` has none")
    if sender is not None:
        acts.check(acts.sender_fault(caller.gate, caller.client, sender))
    return events.scope_of(sender, cls)


KINDS = {"complaint": EventKind.COMPLAINT, "dead_number": EventKind.CLEANSING}
"""What an act of suppression is called in the ledger, where its reason has a name of its own."""


@router.post("/v1/suppressions", status_code=201, response_model_exclude_none=True)
async def suppress(caller: Asking, body: SuppressionRequest, key: Given = None) -> Recorded:
    """Never send to this recipient in this scope. In force when it is answered."""
    scope = scope_of(caller, body.scope, body.sender, body.cls)
    more = {} if body.note is None else {"note": body.note}
    data = events.suppression(scope, Reason[body.reason.upper()], **more)
    who = acts.named(caller.gate, body.recipient)
    kind = KINDS.get(body.reason, EventKind.SUPPRESSION)
    what = acts.event(caller.client, kind, who, acts.now_ms(), data, acts.event_id(caller.client, key))
    return acts.recorded(what, await acts.append(caller, what))


@router.get("/v1/suppressions", response_model_exclude_none=True)
async def suppressions(
    caller: Annotated[Caller, need("read")],
    recipient: Named | None = None,
    sender: Slug | None = None,
    reason: Reasons | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=200, pattern=PLACE)] = None,
) -> Suppressions:
    """Why a recipient is suppressed; or, without one, every standing suppression. The look is recorded."""
    if recipient is not None:
        return await _of_one(caller, recipient)
    return await _listed(caller, sender, reason, limit, after)


async def _of_one(caller: Caller, recipient: str) -> Suppressions:
    who = acts.named(caller.gate, recipient)
    state = await caller.gate.reading.state(who.subject)
    if state is None:
        return Suppressions(suppressions=[])
    await acts.looked(caller, who.subject, "suppressions")
    subject = who.subject.hex()
    return Suppressions(
        suppressions=[one.model_copy(update={"subject": subject}) for one in standing(caller.client, state)]
    )


async def _listed(
    caller: Caller, sender: str | None, reason: str | None, limit: int, after: str | None
) -> Suppressions:
    if sender is not None:
        acts.check(acts.sender_fault(caller.gate, caller.client, sender))
    await acts.looked(caller, events.SYSTEM, "suppressions")
    why = None if reason is None else Reason[reason.upper()]
    rows = await caller.gate.reading.suppressions(sender, why, after, limit)
    shown = [_standing(row) for row in rows if visible(caller.client, owner_of(row.scope))]
    return Suppressions(suppressions=shown, next=rows[-1].after if len(rows) == limit else None)


def _standing(row: Listed) -> Standing:
    reason = row.reason.name.lower()
    return Standing(subject=row.subject.hex(), scope=row.scope, reason=reason, at=of_s(row.at_s), entry=row.entry)


@router.delete("/v1/suppressions", response_model_exclude_none=True)
async def unsuppress(
    caller: Asking,
    recipient: Named,
    scope: Scope = "all",
    sender: Slug | None = None,
    cls: Annotated[Class | None, Query(alias="class")] = None,
    reason: Reasons = "manual",
) -> Recorded:
    """End a manual suppression. Any other reason is refused: an opt-out with 409, the rest with 403.

    What stops every sender is ended by a client of every sender.
    """
    text = scope_of(caller, scope, sender, cls)
    if sender is None and "*" not in caller.client.senders:
        raise Refused(NOT_ONES_OWN)
    who = acts.named(caller.gate, recipient)
    data = events.suppression(text, Reason[reason.upper()])
    name = acts.event_id(caller.client, None)
    what = acts.event(caller.client, EventKind.UNSUPPRESSION, who, acts.now_ms(), data, name)
    return acts.recorded(what, await acts.append(caller, what))
