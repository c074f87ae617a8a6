"""One person: what stands, what they want, and leaving. What is held about them and its erasure: `personal`.

A path takes a number or a subject (32 hex digits). Whoever looks at a person's data leaves an ACCESS event first;
without it nothing is shown. A withdrawal is answered only after its block is in force and the fence of messages already
claimed has passed (`ledger`): nothing it covers is submitted after the answer.
"""

from typing import Annotated

from fastapi import Path

from gateway.contract.codes import Code
from gateway.contract.consent import EventKind, PreferencesRequest, WithdrawRequest
from gateway.contract.decision import Refusal
from gateway.edge import acts
from gateway.edge.acts import Key, Recorded
from gateway.edge.callers import Caller, need
from gateway.edge.people import Happened, PersonView, Restricted, shown, view
from gateway.edge.personal.parts import erasures
from gateway.edge.problems import Refused, wrong
from gateway.edge.strict import routes
from gateway.ledger import events
from gateway.rules.retention import restricted_at

router = routes("recipients")
Named = Annotated[
    str,
    Path(
        min_length=3, max_length=32, description="A number, or a subject (32 hex digits).", examples=["+8613800000000"]
    ),
]
Given = Annotated[Key | None, acts.KEY_HEADER]
NOTHING = Refusal(Code.NOT_FOUND, "nothing is recorded about this recipient")


@router.get("/v1/recipients/{number}", response_model_exclude_none=True)
async def look_up(caller: Annotated[Caller, need("read")], number: Named) -> PersonView:
    """Consents, relationships, suppressions, preferences and history of a person, of the client's own senders."""
    who = acts.named(caller.gate, number)
    reading = caller.gate.reading
    state = await reading.state(who.subject)
    if state is None:
        raise Refused(NOTHING)
    await acts.looked(caller, who.subject, "state", "history")
    file = await erasures(caller.gate).file(who.subject)
    hidden = restricted_at(file.acts)
    history = [Happened.of(row, hidden) for row in file.history if shown(caller.client, row)]
    known = who.number or await reading.number(who.subject)
    restricted = None if file.due is None else Restricted.of(file.kept)
    return view(caller.client, who, state, known).model_copy(update={"history": history, "restricted": restricted})


@router.post("/v1/recipients/{number}/withdraw", response_model_exclude_none=True)
async def withdraw(
    caller: Annotated[Caller, need("consent")], number: Named, body: WithdrawRequest, key: Given = None
) -> Recorded:
    """Stop: topics of a sender, a sender, or everything. In force when it is answered."""
    gate, client = caller.gate, caller.client
    if body.sender is not None:
        acts.check(acts.sender_fault(gate, client, body.sender))
        acts.check(acts.topics_fault(acts.pack_of(gate, body.sender), body.topics or (), granting=False))
    elif body.topics:
        raise wrong("topics", "topics need their sender")
    data = events.withdrawal(body.sender, body.topics, why=body.reason)
    what = acts.event(
        client, EventKind.WITHDRAWAL, acts.named(gate, number), acts.now_ms(), data, acts.event_id(client, key)
    )
    return acts.recorded(what, await acts.append(caller, what))


@router.put("/v1/recipients/{number}/preferences", response_model_exclude_none=True)
async def prefer(
    caller: Annotated[Caller, need("consent")], number: Named, body: PreferencesRequest, key: Given = None
) -> Recorded:
    """Replace what the person wants of a sender, or of all; an empty body clears it. It can only tighten the rules."""
    gate, client = caller.gate, caller.client
    if body.sender is not None:
        acts.check(acts.sender_fault(gate, client, body.sender))
    elif "*" not in client.senders:
        raise Refused(Refusal(Code.CLIENT_FORBIDDEN, "preferences toward all senders need a client of all senders"))
    acts.check(acts.topics_fault(acts.pack_of(gate, body.sender or "*"), body.topics or (), granting=False))
    hours = None
    if body.hours is not None:
        hours = (_minutes(body.hours.start), _minutes(body.hours.end))
        if hours[0] >= hours[1]:
            raise wrong("hours.end", "not after start")
    data = events.preferences(body.sender, body.topics, body.max_per_week, hours)
    what = acts.event(
        client, EventKind.PREFERENCES, acts.named(gate, number), acts.now_ms(), data, acts.event_id(client, key)
    )
    return acts.recorded(what, await acts.append(caller, what))


def _minutes(written: str) -> int:
    return int(written[:2]) * 60 + int(written[3:])
