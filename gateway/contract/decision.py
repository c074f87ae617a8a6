"""What was decided about a message, and on which permission.

A refusal is a value, never an exception: an exception is a fault of ours.
"""

from enum import IntEnum, StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from gateway.contract.codes import Code


class Class(StrEnum):
    """The class of a purpose: its topic, its isolation and its place in the law."""

    VERIFICATION = "verification"
    TRANSACTIONAL = "transactional"
    MARKETING = "marketing"
    CONSENT = "consent"


class Basis(StrEnum):
    """What permits a message."""

    CONSENT = "consent"
    RELATIONSHIP = "relationship"
    REQUEST = "request"
    OPT_OUT = "opt_out"
    """Only for `consent.opt_out_ack`: the opt-out itself."""


class Status(StrEnum):
    """Where a message stands. Only `unknown` may be replaced by a final status, by a later receipt."""

    HELD = "held"
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Cause(StrEnum):
    """Why a carrier did not deliver; the tables in `carriers` map raw codes to these (FACTS: receipts)."""

    NONE = "none"
    DEAD_NUMBER = "dead_number"
    SUSPENDED = "suspended"
    TRANSIENT = "transient"
    CARRIER_OPT_OUT = "carrier_opt_out"
    FREQUENCY = "frequency"
    CONTENT = "content"
    PORTED = "ported"
    FLOW = "flow"
    QUIET_HOURS = "quiet_hours"
    OTHER = "other"


class Reason(IntEnum):
    """Why a recipient is suppressed. Only an OPT_OUT can ever be lifted by the person's own act."""

    OPT_OUT = 1
    COMPLAINT = 2
    DEAD_NUMBER = 3
    MANUAL = 4
    CARRIER = 5
    REGULATOR = 6


class Refusal(NamedTuple):
    """A decision not to send: its code, what exactly, and when a retry could succeed (seconds)."""

    code: Code
    detail: str = ""
    retry_after_s: int | None = None


class Decision(BaseModel):
    """The permission an accepted message carries, as the 202 shows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    basis: Basis
    ledger_entry: int | None = None
    """`seq` of the consent or relationship event relied on; none for a request."""
    pack: str
    """Name and version of the rule pack in force, for example `cn@2026.11`."""
