"""A person as a client may see them: what stands about them toward the client's senders, and their history.

Pure. What belongs to another client's sender is left out, numbers are masked, and times are RFC 3339 in UTC.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel

from gateway.contract.consent import Consent, Preference, Relationship, State
from gateway.contract.decision import Reason
from gateway.contract.ids import mask
from gateway.contract.registry import Client
from gateway.edge.acts import Person
from gateway.edge.auth import may_use
from gateway.edge.times import of_ms, of_s, or_never
from gateway.rules.retention import Kept, due_ms


class Standing(BaseModel):
    """One standing suppression."""

    subject: str | None = None
    scope: str
    """`*`, a sender, `sender#class`, `*#class`, `sender/topic` or `*/topic`."""
    reason: str
    at: datetime
    entry: int


class ConsentView(BaseModel):
    """A standing consent; `until` and `max_per_week` where its terms say so."""

    at: datetime
    until: datetime | None = None
    max_per_week: int | None = None
    entry: int
    proven_at: datetime | None = None
    """When it was last given by an act that lifts opt-outs."""

    @classmethod
    def of(cls, consent: Consent) -> "ConsentView":
        """As the state keeps it."""
        return cls(
            at=of_s(consent.at),
            until=or_never(consent.until),
            max_per_week=consent.max_per_week or None,
            entry=consent.entry,
            proven_at=or_never(consent.proven_at),
        )


class RelationshipView(BaseModel):
    """The longest-lived standing relationship of a kind; without `expires`: while it lasts."""

    at: datetime
    expires: datetime | None = None
    entry: int

    @classmethod
    def of(cls, relationship: Relationship) -> "RelationshipView":
        """As the state keeps it."""
        return cls(at=of_s(relationship.at), expires=or_never(relationship.expires), entry=relationship.entry)


class KeptView(BaseModel):
    """What outlasts a demand for erasure, under which law, since when it is counted and until when."""

    what: str
    title: str
    title_zh: str
    law: str
    law_zh: str
    since: datetime | None = None
    until: datetime | None = None
    """None: it stays."""

    @classmethod
    def of(cls, kept: Kept) -> "KeptView":
        """As the rules count it."""
        rule, since, until = kept
        return cls(
            what=rule.what,
            title=rule.title,
            title_zh=rule.title_zh,
            law=rule.source.title,
            law_zh=rule.source.title_zh,
            since=None if since is None else of_ms(since),
            until=None if until is None else of_ms(until),
        )


class Restricted(BaseModel):
    """The person asked for erasure while a law still asks for the records: these are stored, and used for nothing."""

    until: datetime | None = None
    """When they are erased; none: any moment now."""
    kept: list[KeptView]

    @classmethod
    def of(cls, kept: Sequence[Kept]) -> "Restricted":
        """As the rules count it."""
        due = due_ms(kept)
        return cls(until=None if due is None else of_ms(due), kept=[KeptView.of(one) for one in kept])


class Happened(BaseModel):
    """One event of a person's history. What was erased, is restricted or cannot be read has no `data`."""

    seq: int
    recorded_at: datetime
    kind: str
    state: str | None = None
    """What the event makes of the consent (ISO/IEC TS 27560)."""
    event_id: str | None = None
    occurred_at: datetime | None = None
    data: dict[str, Any] | None = None
    """As recorded; times in it are Unix seconds."""

    @classmethod
    def of(cls, row: Mapping[str, Any], restricted_seq: int = 0) -> Self:
        """As `ledger` tells it. Of what was recorded up to `restricted_seq` no more is told than that it happened."""
        if row["seq"] <= restricted_seq:
            row = {name: row[name] for name in ("seq", "recorded_at", "kind")}
        at_ms = row.get("occurred_at")
        return cls.model_validate({**row, "occurred_at": None if at_ms is None else of_ms(at_ms)})


class PersonView(BaseModel):
    """What stands about a person, as far as the client may see it."""

    subject: str
    number: str | None = None
    """Masked."""
    seq: int = 0
    consents: dict[str, ConsentView] = {}
    """By `sender/topic`."""
    relationships: dict[str, RelationshipView] = {}
    """By `sender/kind`."""
    suppressions: list[Standing] = []
    preferences: dict[str, Preference] = {}
    """By sender, or `*`."""
    restricted: Restricted | None = None
    """Set while an erasure waits for the end of what the law asks to keep."""
    history: list[Happened] | None = None


def visible(client: Client, owner: str) -> bool:
    """Whether a part of a state that belongs to a sender, or to all (`*`), may be shown to the client."""
    return owner == "*" or may_use(client, owner)


def shown(client: Client, row: Mapping[str, Any]) -> bool:
    """Whether an event may be shown to the client: it is about a sender of theirs, or about none."""
    data = row.get("data")
    if not isinstance(data, dict):
        return True
    return visible(client, str(data.get("sender") or owner_of(str(data.get("scope", "*")))))


def owner_of(key: str) -> str:
    """The sender of a state key or suppression scope, or `*`."""
    return key.partition("/")[0].partition("#")[0]


def standing(client: Client, state: State) -> Iterator[Standing]:
    """The standing suppressions that the client may see."""
    for scope, held in state.suppressions.items():
        if visible(client, owner_of(scope)):
            for one in held:
                yield Standing(scope=scope, reason=Reason(one.reason).name.lower(), at=of_s(one.at), entry=one.entry)


def view(client: Client, who: Person, state: State | None, number: str | None = None) -> PersonView:
    """A person's state as the client may see it."""
    known = number or who.number
    shown = PersonView(subject=who.subject.hex(), number=None if known is None else mask(known))
    if state is None:
        return shown
    return shown.model_copy(
        update={
            "seq": state.seq,
            "consents": {k: ConsentView.of(v) for k, v in state.consents.items() if visible(client, owner_of(k))},
            "relationships": {
                k: RelationshipView.of(v) for k, v in state.relationships.items() if visible(client, owner_of(k))
            },
            "suppressions": list(standing(client, state)),
            "preferences": {k: v for k, v in state.preferences.items() if visible(client, k)},
        }
    )
