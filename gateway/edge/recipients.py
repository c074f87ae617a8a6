"""One person: what stands, what they want, leaving, and being forgotten.

A path takes a number or a subject (32 hex digits). Whoever looks at a person's data leaves an ACCESS event first;
without it nothing is shown. A withdrawal or an erasure is answered only after its block is in force and the fence of
messages already claimed has passed (`ledger`): nothing it covers is submitted after the answer.
"""

from typing import Annotated

from fastapi import Path

from gateway.contract.codes import Code
from gateway.contract.consent import EventKind, PreferencesRequest, WithdrawRequest
from gateway.contract.decision import Refusal
from gateway.contract.registry import Client
from gateway.edge import acts
from gateway.edge.acts import Key, Recorded
from gateway.edge.callers import Caller, need
from gateway.edge.people import Happened, PersonView, owner_of, view, visible
from gateway.edge.problems import Refused, wrong
from gateway.edge.strict import routes
from gateway.ledger import events
from gateway.records import forms

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
    await acts.looked(caller, who.subject)
    history = [Happened.of(row) for row in await reading.history(who.subject) if _shown(caller.client, row)]
    known = who.number or await reading.number(who.subject)
    return view(caller.client, who, state, known).model_copy(update={"history": history})


def _shown(client: Client, row: dict[str, object]) -> bool:
    data = row.get("data")
    if not isinstance(data, dict):
        return True
    owner = data.get("sender") or owner_of(str(data.get("scope", "*")))
    return visible(client, str(owner))


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


@router.delete("/v1/recipients/{number}/personal-data", response_model_exclude_none=True)
async def erase(caller: Annotated[Caller, need("operate")], number: Named, key: Given = None) -> Recorded:
    """Forget the person. What stops messages stays, under a pseudonym, or they would be messaged again (PIPL 47)."""
    gate, client = caller.gate, caller.client
    who = acts.named(gate, number)
    if await gate.reading.state(who.subject) is None:
        raise Refused(NOTHING)
    what = acts.event(
        client, EventKind.ERASURE, acts.Person(None, who.subject), acts.now_ms(), {}, acts.event_id(client, key)
    )
    erased = acts.recorded(what, await acts.append(caller, what))
    async with gate.pool.acquire() as conn:
        await forms.forget(conn, who.subject)  # after a crash here, the rest goes when it expires
    return erased
