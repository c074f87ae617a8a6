"""The consent record: what is written about each act, by the names that the standards give it.

Names are those of ISO/IEC TS 27560:2023 as the W3C DPV guide lists them, and of the Kantara consent receipt where it
has one. A record has a head, the same for every kind of act, and `data`, the act's own content, in our words:

    schema_version         "assent/1": this form and its canonical bytes (`ledger.events`)
    record_id              the act's id, as its caller gave it or as we made it
    pii_principal_id       the person's subject, 32 hex digits: never a number, never a bare hash of one
    pii_principal_contact  the person's E.164 number, where it was given (ours: the standard leaves contact out)
    event_type             the kind of act (`EventKind`)
    event_state            what it made of the consent (`EventState`); left out where it is about no consent
    event_time             when it happened, Unix milliseconds (the standard's date-time, exact in every tool)
    data                   sender (party_name), topics (purpose_type), evidence (privacy_notice, collection_method, …)

`receipt` gives the same as the sections of TS 27560, for people and for other systems. Pure.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from gateway.contract.consent import Event, EventKind

SCHEMA: Final = "assent/1"


class EventState(StrEnum):
    """What an act makes of a consent: TS 27560's words, and two of ours in lower case."""

    REQUESTED = "Requested"
    GIVEN = "Given"
    RENEWED = "RenewedGiven"
    REFUSED = "Refused"
    WITHDRAWN = "Withdrawn"
    EXPIRED = "Expired"
    INVALIDATED = "Invalidated"
    TERMINATED = "Terminated"
    COMPLAINT = "complaint"
    ERASURE = "erasure"


STATES: Final[Mapping[EventKind, EventState | None]] = {
    EventKind.GRANT: EventState.GIVEN,
    EventKind.WITHDRAWAL: EventState.WITHDRAWN,
    EventKind.RELATIONSHIP: None,
    EventKind.SUPPRESSION: EventState.REFUSED,
    EventKind.UNSUPPRESSION: EventState.TERMINATED,
    EventKind.COMPLAINT: EventState.COMPLAINT,
    EventKind.CLEANSING: EventState.INVALIDATED,
    EventKind.LIST: None,
    EventKind.PREFERENCES: None,
    EventKind.RESTRICTION: EventState.TERMINATED,
    EventKind.ERASURE: EventState.ERASURE,
    EventKind.BREAKER: None,
    EventKind.PACK: None,
    EventKind.CASE: None,
    EventKind.HOLD: None,
    EventKind.ACCESS: None,
}
"""Each kind's state where what stood before does not matter; `ledger.state.event_state` knows where it does."""


def record(event: Event, state: EventState | None) -> dict[str, Any]:
    """The record of an act."""
    members: dict[str, Any] = {
        "schema_version": SCHEMA,
        "record_id": event.event_id,
        "pii_principal_id": event.subject.hex(),
        "event_type": event.kind.value,
        "event_time": event.occurred_at_ms,
        "data": event.data,
    }
    if state is not None:
        members["event_state"] = state.value
    if event.number is not None and event.kind not in (EventKind.ERASURE, EventKind.RESTRICTION):
        members["pii_principal_contact"] = event.number
    return members


def receipt(written: Mapping[str, Any], party: str | None = None, withdrawal: str | None = None) -> dict[str, Any]:
    """A written record in the sections of TS 27560; what is not known is left out.

    `party`: the sender's name as people know it; `withdrawal`: how to withdraw, in words.
    """
    data = written["data"]
    evidence = data.get("evidence") or {}
    sections = {
        "record_metadata": {
            "schema_version": written["schema_version"],
            "record_id": written["record_id"],
            "pii_principal_id": written["pii_principal_id"],
        },
        "pii_processing": {
            "privacy_notice": evidence.get("privacy_notice") or evidence.get("form_version"),
            "purpose_type": data.get("topics"),
            "lawful_basis": "consent" if written["event_type"] == EventKind.GRANT else data.get("kind"),
            "pii_type": ["telephone number"],
            "collection_method": evidence.get("collection_method") or data.get("channel"),
            "withdrawal_method": withdrawal,
        },
        "party_identification": {"party_name": party or data.get("sender"), "entity_id": data.get("sender")},
        "events": {
            "event_time": written["event_time"],
            "event_type": written["event_type"],
            "event_state": written.get("event_state"),
            "validity_duration": data.get("valid_until") or data.get("expires_at"),
        },
    }
    kept = {name: {k: v for k, v in body.items() if v not in (None, "")} for name, body in sections.items()}
    return {name: body for name, body in kept.items() if body}
