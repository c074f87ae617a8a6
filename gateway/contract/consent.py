"""Permissions as they are asked for, recorded as events, and held as a person's state.

An event is appended once, in one total order (`seq`, dense), and never changed. A person's state is what all events up
to `seq` say about one subject; the projection writes it whole, never as a delta.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from gateway.contract.decision import Class
from gateway.contract.message import Dotted, Label, Number, Slug, Strict

Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Topics = Annotated[list[Dotted], Field(min_length=1, max_length=32)]


class Evidence(BaseModel):
    """What shows that the person agreed. Further fields are kept as given; they are part of the record."""

    model_config = ConfigDict(extra="allow", frozen=True)

    checkbox_checked: bool | None = None
    default_checked: bool | None = None
    form_version: Text | None = None
    method: Text | None = None
    source: Text | None = None
    ip: Text | None = None
    user_agent: Text | None = None
    url: Text | None = None


class Terms(Strict):
    """What the consent was given on; enforced at every send."""

    max_per_week: Annotated[int, Field(ge=1, le=64)] | None = None
    valid_until: AwareDatetime | None = None


class ConsentRequest(Strict):
    """POST /v1/consents."""

    recipient: Number
    sender: Slug
    topics: Topics
    action: Literal["grant", "withdraw"]
    channel: Label
    occurred_at: AwareDatetime
    evidence: Evidence | None = None
    terms: Terms | None = None
    event_id: Label | None = None
    """The caller's own id of this act: the same one again changes nothing."""


class ConsentBatch(Strict):
    """POST /v1/consents/batch."""

    consents: Annotated[list[ConsentRequest], Field(min_length=1, max_length=1000)]


class Kind(StrEnum):
    """Relationship kinds (FACTS, purposes): an actual transaction or enrolment."""

    ORDER = "order"
    BOOKING = "booking"
    SERVICE = "service"
    MEMBERSHIP = "membership"
    ACCOUNT = "account"


class RelationshipRequest(Strict):
    """POST /v1/relationships."""

    recipient: Number
    sender: Slug
    kind: Kind
    ref: Label
    occurred_at: AwareDatetime
    expires_at: AwareDatetime | None = None


class RelationshipBatch(Strict):
    """POST /v1/relationships/batch."""

    relationships: Annotated[list[RelationshipRequest], Field(min_length=1, max_length=1000)]


class WithdrawRequest(Strict):
    """POST /v1/recipients/{number}/withdraw. No sender: everything. A sender without topics: all from that sender."""

    sender: Slug | None = None
    topics: Topics | None = None
    reason: Text


class SuppressionRequest(Strict):
    """POST /v1/suppressions."""

    recipient: Number
    scope: Literal["all", "sender", "class"] = "all"
    sender: Slug | None = None
    cls: Class | None = Field(default=None, alias="class")
    reason: Literal["opt_out", "complaint", "dead_number", "manual", "carrier", "regulator"]
    note: Text | None = None


class Hours(Strict):
    """The hours a person wants messages in, local time `HH:MM`, `start` before `end`."""

    start: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    end: Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class PreferencesRequest(Strict):
    """PUT /v1/recipients/{number}/preferences: replaces the person's preferences for a sender (or for all)."""

    sender: Slug | None = None
    topics: Topics | None = None
    """Marketing topics wanted; none given means no restriction."""
    max_per_week: Annotated[int, Field(ge=1, le=64)] | None = None
    hours: Hours | None = None


class EventKind(StrEnum):
    """What an event records; `contract.record` says how it is written down."""

    GRANT = "grant"
    WITHDRAWAL = "withdrawal"
    RELATIONSHIP = "relationship"
    SUPPRESSION = "suppression"
    UNSUPPRESSION = "unsuppression"
    COMPLAINT = "complaint"
    """A suppression because the person complained."""
    CLEANSING = "cleansing"
    """A suppression because a list was cleansed: a dead number, a consent without proof."""
    LIST = "list"
    """A list was divided, cleansed, or a cleansing undone: by whom, why, how many of each, and a digest of who."""
    PREFERENCES = "preferences"
    RESTRICTION = "restriction"
    """The person asked for erasure while the law still asks for the record: kept, used for nothing else."""
    ERASURE = "erasure"
    BREAKER = "breaker"
    PACK = "pack"
    """A rule pack came into force, with its text."""
    CASE = "case"
    """What was done about a complaint, or what a day's complaints were stated to be."""
    HOLD = "hold"
    """A legal hold was added or released."""
    ACCESS = "access"


class Event(BaseModel):
    """One act to append. `data` is the act's own content and becomes the encrypted canonical body."""

    model_config = ConfigDict(frozen=True)

    event_id: str
    """Unique: the same id again is dropped and answered as the first was."""
    kind: EventKind
    number: str | None
    """E.164; none for events without a person (subject `system`) or where only the subject is known."""
    subject: bytes
    occurred_at_ms: int
    data: dict[str, Any]


class Consent(BaseModel):
    """A standing consent in a person's state. Times are Unix seconds, 0 or none where there is none."""

    at: int
    until: int = 0
    max_per_week: int = 0
    entry: int
    proven_at: int = 0
    """When it was last given by an act that lifts opt-outs (two records or a solicited Y)."""


class Relationship(BaseModel):
    """The longest-lived standing relationship of one kind with one sender. `expires` 0: while it lasts."""

    at: int
    expires: int = 0
    entry: int


class Suppression(BaseModel):
    """A standing suppression of one scope; `reason` is a `decision.Reason`."""

    reason: int
    at: int
    entry: int


class Preference(BaseModel):
    """Preferences toward one sender, or all (`*`). Hours are minutes of the local day."""

    topics: list[str] = []
    max_per_week: int = 0
    hours: tuple[int, int] | None = None


class State(BaseModel):
    """What the events up to `seq` say about one subject, by these keys.

    consents `sender/topic`; relationships `sender/kind`; preferences `sender` or `*`; suppressions by scope:
    `*` (everything), `sender` , `sender#class`, `*#class`, `sender/topic`, `*/topic`.
    """

    seq: int
    consents: dict[str, Consent] = Field(default_factory=dict)
    relationships: dict[str, Relationship] = Field(default_factory=dict)
    suppressions: dict[str, list[Suppression]] = Field(default_factory=dict)
    preferences: dict[str, Preference] = Field(default_factory=dict)
    opt_outs: dict[str, int] = Field(default_factory=dict)
    """Unix ms of the last opt-out of a scope, standing or lifted: a grant that is not newer has no effect, ever."""
    erased_at_ms: int = 0
    """When the person's data was erased: grants and relationships that are not newer have no effect."""
