"""The records of every Kafka topic. `schemas/` is generated from these models.

Keys are subjects (order per recipient) except `results`, keyed by message id. Times are Unix milliseconds.
A record is never changed in meaning: a field may be added with a default.
"""

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict

from gateway.contract.decision import Basis, Cause, Class, Status


class Record(BaseModel):
    """A Kafka record's value."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    v: Literal[1] = 1


class Accepted(Record):
    """Topics `messages.<class>` and `messages.held`: a message with a permitting decision, to be submitted."""

    id: str
    attempt: int = 1
    client: str
    sender: str
    purpose: str
    cls: Class
    subject: str
    """32 hex digits."""
    to: str
    text: str
    parts: int
    port: str
    pack: str
    basis: Basis
    entry: int | None = None
    accepted_at: int
    expires_at: int
    not_before: int | None = None
    due: int | None = None
    """Set on `messages.held`: when to release."""
    parked: str | None = None
    """Set on `messages.held`: the breaker scope it waits for."""
    campaign: str | None = None
    list_source: str | None = None
    client_ref: str | None = None
    callback_url: str | None = None
    approval: str | None = None
    request_ref: str | None = None
    trace: str | None = None
    long_windows: list[tuple[str, int]] | None = None
    """Windows longer than 24 h consumed by this message, as (field, stamp ms), kept in PostgreSQL by settle."""
    stamp: int | None = None
    """What this message's windows hold of it: the server's Unix ms when they were consumed; none while held."""
    bound: str | None = None
    """Where an idempotency key was given: the binding's digest and fingerprint, 64 hex digits; never the key."""


class Result(Record):
    """Topic `results`: what deliver learned of one attempt."""

    id: str
    attempt: int
    cls: Class
    carrier: str
    outcome: Literal["submitted", "rejected", "cancelled", "expired", "doubtful", "retrying", "parked"]
    """`doubtful`: the submit's answer is lost; settle makes it `unknown` unless something better is known."""
    carrier_id: str | None = None
    code: str | None = None
    """The carrier's raw code, or ours for `cancelled` and `expired`."""
    cause: Cause = Cause.NONE
    parts: int = 1
    at: int
    subject: str | None = None
    trace: str | None = None


class Receipt(Record):
    """Topic `receipts`: a carrier's delivery report, normalised; the raw words are kept."""

    carrier: str
    carrier_id: str
    given_id: str | None = None
    """The carrier's id as it wrote it, where `carrier_id` (as it is matched) differs."""
    ref: str | None = None
    """Our message id where the carrier echoes it."""
    status: Status
    cause: Cause = Cause.NONE
    raw_status: str
    raw_code: str = ""
    at: int
    received_at: int
    part: int | None = None
    missing: Literal["unseen", "never"] | None = None
    """Set on a carrier's answer that it knows no such message: `never` where that means it certainly never took it."""


class Reply(Record):
    """Topic `replies`: an inbound message. `blocked`: the receiver already set a provisional block."""

    carrier: str
    reply_id: str
    sender_number: str
    """E.164 of the person who wrote."""
    subject: str
    port: str
    text: str
    at: int
    received_at: int
    blocked: bool = False

    @property
    def token(self) -> str:
        """Names this reply in the person's provisional block: that of another reply outlives this one's event."""
        told = f"{self.carrier}\0{self.reply_id}\0{self.port}"
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


class DeadLetter(Record):
    """Topic `dead`: a record nobody could process, with where it came from and why."""

    topic: str
    partition: int
    offset: int
    consumer: str
    error: str
    """The exception's class; never its text, which may quote content."""
    key_hex: str | None
    value_b64: str
    at: int
