"""What became of a message: by its id, or the newest of a recipient or of a caller's own reference.

A client sees its own messages; the role `operate` sees all. While settle has not written a message yet, its record in
Redis answers, with the status alone. Reads only.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, Field

from gateway.contract.codes import Code
from gateway.contract.decision import Cause, Class, Decision, Refusal, Status
from gateway.contract.message import Label
from gateway.contract.registry import Client
from gateway.edge import acts
from gateway.edge.callers import Caller, need
from gateway.edge.problems import Refused, wrong
from gateway.edge.strict import routes
from gateway.edge.times import of_ms
from gateway.records.messages import MAX_ROWS, Message, Messages
from gateway.records.timeline import Entry

router = routes("messages")
Asking = Annotated[Caller, need("read")]
ABSENT = Refusal(Code.NOT_FOUND)
WHILE_RECENT = {
    "reserved": Status.QUEUED,
    "taken": Status.QUEUED,
    "unwritten": Status.QUEUED,
    "held": Status.HELD,
    "done": Status.SENT,
}
"""What a record's state says about a message that settle has not written yet."""


class Step(BaseModel):
    """One thing that happened."""

    at: datetime
    status: Status
    attempt: int = 1
    carrier: str | None = None
    code: str | None = None
    cause: Cause = Cause.NONE
    part: int | None = None
    raw: str | None = None
    """The carrier's raw status word."""

    @classmethod
    def of(cls, entry: Entry) -> "Step":
        """As the row keeps it."""
        return cls(**entry._asdict() | {"at": of_ms(entry.at)})


class MessageView(BaseModel):
    """A message as it stands. Neither its text nor the number is kept with it."""

    id: str
    status: Status
    subject: str | None = None
    cause: Cause = Cause.NONE
    code: str | None = None
    sender: str | None = None
    purpose: str | None = None
    cls: Class | None = Field(default=None, serialization_alias="class")
    port: str | None = None
    campaign: str | None = None
    list_source: str | None = None
    client_ref: str | None = None
    decision: Decision | None = None
    carrier: str | None = None
    attempt: int = 1
    parts: int | None = None
    parts_delivered: int | None = None
    accepted_at: datetime | None = None
    timeline: list[Step] = []
    receipts: list[Step] = []


class MessagePage(BaseModel):
    """The newest messages first."""

    messages: list[MessageView]
    next: str | None = None
    """Give it as `before` to see older ones."""


def shown(message: Message) -> MessageView:
    """A row as a caller sees it."""
    steps = [Step.of(entry) for entry in message.timeline]
    return MessageView(
        id=message.id,
        status=message.status,
        subject=None if message.subject is None else message.subject.hex(),
        cause=message.cause,
        code=message.code,
        sender=message.sender,
        purpose=message.purpose,
        cls=message.cls,
        port=message.port,
        campaign=message.campaign,
        list_source=message.list_source,
        client_ref=message.client_ref,
        decision=message.decision,
        carrier=message.carrier,
        attempt=message.attempt,
        parts=message.parts,
        parts_delivered=message.parts_delivered,
        accepted_at=None if message.accepted_at is None else of_ms(message.accepted_at),
        timeline=steps,
        receipts=[step for step in steps if step.raw is not None],
    )


def sees_all(client: Client) -> bool:
    """Whether the client operates the gateway."""
    return "operate" in client.roles


def may_see(client: Client, message: Message) -> bool:
    """Whether the message is the client's own, or the client operates the gateway."""
    return message.client is not None and (message.client == client.id or sees_all(client))


@router.get("/v1/messages/{id}", response_model_exclude_none=True)
async def message(caller: Asking, id: UUID) -> MessageView:  # noqa: A002 - the contract's name
    """Status, timeline, decision, parts and receipts of one message."""
    written = str(id)
    found = await Messages(caller.gate.pool).by_id(written)
    if found is not None and found.client is not None:
        if not may_see(caller.client, found):
            raise Refused(ABSENT)
        return shown(found)
    record = await caller.gate.guard.record(written)
    if record is None or record.state not in WHILE_RECENT:
        raise Refused(ABSENT)
    return MessageView(id=written, status=WHILE_RECENT[record.state], attempt=max(record.attempt, 1))


@router.get("/v1/messages", response_model_exclude_none=True)
async def search(
    caller: Asking,
    to: Annotated[str | None, Query(min_length=3, max_length=32, description="A number or a subject.")] = None,
    client_ref: Label | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 50,
    before: UUID | None = None,
) -> MessagePage:
    """The newest messages to a recipient, or of a `client_ref`, for support."""
    if to is None and client_ref is None:
        raise wrong("to", "give to, client_ref or both")
    asked: dict[str, Any] = {"client_ref": client_ref, "before": None if before is None else str(before)}
    if to is not None:
        asked["subject"] = acts.named(caller.gate, to).subject
    if not sees_all(caller.client):
        asked["client"] = caller.client.id
    rows = await Messages(caller.gate.pool).search(limit=limit, **asked)
    return MessagePage(
        messages=[shown(row) for row in rows if may_see(caller.client, row)],
        next=rows[-1].id if len(rows) == limit else None,
    )
