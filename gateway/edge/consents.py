"""Recording what permits: consents and relationships, one or up to 1,000 at a time.

Each item of a batch is decided as if it had come alone; all of them are appended in one group. 201 and `recorded` mean
durable and in force: a message sent next sees it. An act that is refused leaves nothing.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, TypeAdapter

from gateway.contract.codes import Code
from gateway.contract.consent import ConsentRequest, Event, EventKind, Evidence, Kind, RelationshipRequest
from gateway.contract.decision import Refusal
from gateway.contract.registry import Client
from gateway.edge import acts, bodies
from gateway.edge.acts import Fault, Key, Recorded
from gateway.edge.callers import Caller, need
from gateway.edge.gate import Gate
from gateway.edge.problems import Refused, RefusedItem
from gateway.edge.strict import routes
from gateway.ledger import events
from gateway.ledger.two_records import DECLARED

router = routes("permissions")
ROLE = "consent"
Asking = Annotated[Caller, need(ROLE)]
Given = Annotated[Key | None, acts.KEY_HEADER]
CONSENTS = TypeAdapter(list[ConsentRequest])
RELATIONSHIPS = TypeAdapter(list[RelationshipRequest])


class Results(BaseModel):
    """One result for each item, in order."""

    results: list[Recorded | RefusedItem]


Asked = TypeVar("Asked", bound=BaseModel)
Build = Callable[[Gate, Client, Asked, int, str | None], Event | Fault]


def consent_event(gate: Gate, client: Client, asked: ConsentRequest, now: int, key: str | None) -> Event | Fault:
    """The event of a consent request, or why it is refused."""
    fault = (
        acts.sender_fault(gate, client, asked.sender)
        or acts.topics_fault(acts.pack_of(gate, asked.sender), asked.topics, granting=asked.action == "grant")
        or acts.time_fault(asked.occurred_at, now)
    )
    if fault is None and asked.action == "grant":
        fault = acts.evidence_fault(asked.evidence) or _terms_fault(asked)
    fault = fault or acts.depth_fault(asked.evidence)
    if fault is not None:
        return fault
    try:
        who = acts.person(gate, asked.recipient)
    except Refused as refused:
        return refused.refusal, refused.errors
    more: dict[str, Any] = {"channel": asked.channel}
    if asked.evidence is not None:
        more["evidence"] = asked.evidence.model_dump(exclude_none=True)
        if asked.action == "grant":
            more["evidence"] |= _imported(client, asked.evidence)
    if asked.action == "withdraw":
        data = events.withdrawal(asked.sender, asked.topics, **more)
        kind = EventKind.WITHDRAWAL
    else:
        terms = asked.terms
        data = events.grant(
            asked.sender,
            asked.topics,
            max_per_week=terms.max_per_week if terms else None,
            valid_until_s=int(terms.valid_until.timestamp()) if terms and terms.valid_until else None,
            **more,
        )
        kind = EventKind.GRANT
    name = acts.event_id(client, asked.event_id or key)
    return acts.event(client, kind, who, _ms(asked.occurred_at), data, name)


def _imported(client: Client, evidence: Evidence) -> dict[str, Any]:
    """What is said of evidence that another system states: we have seen none of it, whatever it calls itself."""
    return {"imported": True, "source": evidence.source or client.id, "weight": DECLARED}


def _terms_fault(asked: ConsentRequest) -> Fault | None:
    until = asked.terms.valid_until if asked.terms else None
    if until is not None and until <= asked.occurred_at:
        return acts.field_fault("terms.valid_until", "not after occurred_at")
    return None


def relationship_event(
    gate: Gate, client: Client, asked: RelationshipRequest, now: int, key: str | None
) -> Event | Fault:
    """The event of a relationship, or why it is refused. The same one again, without a key, is one event."""
    fault = acts.sender_fault(gate, client, asked.sender)
    if fault is None and asked.kind is not Kind.BOOKING:  # a booking's time is its date
        fault = acts.time_fault(asked.occurred_at, now)
    if fault is not None:
        return fault
    try:
        who = acts.person(gate, asked.recipient)
    except Refused as refused:
        return refused.refusal, refused.errors
    expires = _expiry(gate, asked)
    data = events.relationship(asked.sender, asked.kind, asked.ref, expires)
    act = {**data, "client": client.id, "subject": who.subject.hex(), "at": _ms(asked.occurred_at)}
    name = acts.event_id(client, key, act)
    return acts.event(client, EventKind.RELATIONSHIP, who, _ms(asked.occurred_at), data, name)


def _expiry(gate: Gate, asked: RelationshipRequest) -> int:
    """Unix seconds of the end, 0 while it lasts; without an end of its own, the default life of its kind."""
    given = None if asked.expires_at is None else max(1, int(asked.expires_at.timestamp()))
    return acts.pack_of(gate, asked.sender).expires_s(asked.kind, int(asked.occurred_at.timestamp()), given)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


async def _one(caller: Caller, built: Event | Fault) -> Recorded:
    if isinstance(built, tuple):
        raise Refused(*built)
    return acts.recorded(built, await acts.append(caller, built))


async def _batch(
    caller: Caller,
    request: Request,
    name: str,
    adapter: TypeAdapter[list[Asked]],
    model: type[Asked],
    build: Build[Asked],
) -> Results:
    body = await request.body()
    items = bodies.each(adapter, model, bodies.batch(bodies.parse(body), name), body)
    now = acts.now_ms()
    built: Sequence[Event | Fault] = [
        item if isinstance(item, tuple) else build(caller.gate, caller.client, item, now, None) for item in items
    ]
    found = iter(await caller.gate.appender.append([item for item in built if isinstance(item, Event)]))
    results: list[Recorded | RefusedItem] = []
    for item in built:
        if isinstance(item, tuple):
            results.append(RefusedItem.of(*item))
            continue
        appended = next(found)
        results.append(acts.recorded(item, appended) if appended.refusal is None else RefusedItem.of(appended.refusal))
    if all(isinstance(result, RefusedItem) and result.code is Code.UNAVAILABLE for result in results):
        raise Refused(Refusal(Code.UNAVAILABLE, "", 1))
    return Results(results=results)


@router.post("/v1/consents", status_code=201, response_model_exclude_none=True)
async def record_consent(caller: Asking, body: ConsentRequest, key: Given = None) -> Recorded:
    """Record a consent with its evidence, or a withdrawal. An opt-out that stands is not lifted by a grant: 409."""
    return await _one(caller, consent_event(caller.gate, caller.client, body, acts.now_ms(), key))


@router.post("/v1/consents/batch", response_model_exclude_none=True)
async def record_consents(caller: Asking, request: Request) -> Results:
    """Up to 1,000 consents, each decided as if it had come alone; the results are in order."""
    return await _batch(caller, request, "consents", CONSENTS, ConsentRequest, consent_event)


@router.post("/v1/relationships", status_code=201, response_model_exclude_none=True)
async def record_relationship(caller: Asking, body: RelationshipRequest, key: Given = None) -> Recorded:
    """Record an actual transaction or enrolment. `expires_at` at or before `occurred_at` ends the one that stands."""
    return await _one(caller, relationship_event(caller.gate, caller.client, body, acts.now_ms(), key))


@router.post("/v1/relationships/batch", response_model_exclude_none=True)
async def record_relationships(caller: Asking, request: Request) -> Results:
    """Up to 1,000 relationships, each decided as if it had come alone; the results are in order."""
    return await _batch(caller, request, "relationships", RELATIONSHIPS, RelationshipRequest, relationship_event)
