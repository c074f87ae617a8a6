"""What a client asks: one message, or a batch; and what it is answered."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from gateway.contract.decision import Decision

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
"""A client, sender or list source name."""
Dotted = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}(\.[a-z_]{1,32}){0,2}$")]
"""A purpose or topic."""
Label = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
"""A caller's own reference: printable ASCII without spaces."""
Number = Annotated[str, StringConstraints(min_length=3, max_length=32)]
"""A phone number as the caller writes it; `rules.numbers` decides whether it is one."""

MAX_BATCH = 1000


class Strict(BaseModel):
    """Models from outside: unknown fields are errors, types are not coerced across kinds."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PersonRequest(Strict):
    """The recipient's own act that asks for this message (basis request); each `ref` is used once."""

    ref: Label
    occurred_at: AwareDatetime


class SendRequest(Strict):
    """One message to send. `text` or `template`, never both."""

    to: Number
    sender: Slug
    purpose: Dotted
    text: Annotated[str, StringConstraints(max_length=2000)] | None = None
    template: Label | None = None
    params: dict[str, str] | None = None
    client_ref: Label | None = None
    campaign: Label | None = None
    list_source: Label | None = None
    not_before: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    on_quiet: Literal["hold", "refuse"] = "hold"
    callback_url: Annotated[str, StringConstraints(max_length=1000, pattern=r"^https?://")] | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    port: Annotated[str, StringConstraints(pattern=r"^[0-9]{3,20}$")] | None = None
    request: PersonRequest | None = None
    approval: Label | None = None
    """The named approval that lets a recall past opt-outs."""


class BatchRequest(Strict):
    """1 to 1,000 messages, each decided as if it had been sent alone."""

    messages: Annotated[list[SendRequest], Field(min_length=1, max_length=MAX_BATCH)]


class SendAnswer(BaseModel):
    """202: the message is durable and will be submitted, or is held until `release_at`."""

    id: str
    status: Literal["accepted", "held"]
    release_at: datetime | None = None
    parts: int
    decision: Decision
