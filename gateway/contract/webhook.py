"""What clients and operators are told of by webhook: one model for the sender and `schemas/webhooks.schema.json`.

A notice of a status holds no number and no text. What a person wrote is told to whom it was written to, the client that
was given the sender's replies, because a person has to be answered. A field is never changed in meaning; one may be
added, so receivers ignore what they do not know.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from gateway.contract.decision import Cause, Status

PREFIX: Final = "whsec_"
"""Of a signing secret, before its base64."""
RecipientKind = Literal["recipient.reply", "recipient.opted_out", "recipient.renewed"]
STATUS: Final = "message.status"
ALERT: Final = "alert"


class Told(BaseModel):
    """A part of a webhook's body."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class StatusData(Told):
    """Where a message stands now; the same as `GET /v1/messages/{id}` answers."""

    id: str
    client_ref: str | None = None
    status: Status
    cause: Cause = Cause.NONE
    code: str | None = None
    """The carrier's raw code, or ours."""
    attempt: int
    parts: int
    at: datetime
    """When this became known."""
    rank: int
    """Only ever grows for one message: a notice with a lower rank than one you have is old news."""


class MessageStatus(Told):
    """A message's status changed. The 202 told the first one; this tells every further one that GET could show."""

    type: Literal["message.status"] = "message.status"
    timestamp: datetime
    data: StatusData


class RecipientData(Told):
    """What a person wrote to a port of the sender."""

    id: str
    """The carrier's id of the reply."""
    carrier: str
    sender: str
    port: str
    subject: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    from_: Annotated[str | None, Field(alias="from")] = None
    """E.164."""
    text: str | None = None
    """Of `recipient.reply` only."""
    scope: str | None = None
    """Of `recipient.opted_out`: what is suppressed now."""
    at: datetime
    """When the gateway received it."""


class RecipientSaid(Told):
    """A person answered, and it was nothing that the gateway acts on (`recipient.reply`), or opted out, or renewed."""

    type: RecipientKind
    timestamp: datetime
    data: RecipientData


class AlertData(Told):
    """Something that a person must look at; it names nobody."""

    id: str
    kind: str
    """A dotted word, `breaker.open`; each has a page in the runbook."""
    severity: Literal["warning", "critical"]
    scope: str
    """What it is about: a breaker's scope, a case's id, a carrier."""
    summary: str
    """One sentence, English."""
    detail: dict[str, Any] = {}
    """What the kind adds to it; fields may come and go."""
    at: datetime
    """When it was raised."""
    runbook: str
    """Where the runbook says what to do."""


class AlertRaised(Told):
    """An alert, told to the operators' own address and to nobody else."""

    type: Literal["alert"] = "alert"
    timestamp: datetime
    data: AlertData


class Notice(RootModel[Annotated[MessageStatus | RecipientSaid | AlertRaised, Field(discriminator="type")]]):
    """The body of a webhook: JSON in UTF-8, signed as Standard Webhooks says over exactly these bytes."""


def body_of(notice: Told) -> bytes:
    """The bytes that are signed and sent."""
    return notice.model_dump_json(exclude_none=True, by_alias=True).encode()


def schema() -> dict[str, Any]:
    """The JSON Schema of every webhook's body."""
    return Notice.model_json_schema()
