"""Where a person stands toward a sender's messages of a purpose, in one word, as Order 31 asks it to be kept.

Pure. A word for people and files: what may be sent is decided by the guard, from the same state.
"""

from enum import StrEnum

from gateway.contract.consent import State
from gateway.contract.decision import Reason
from gateway.contract.export import Person


class Standing(StrEnum):
    """The words."""

    SUBSCRIBED = "subscribed"
    RELATED = "related"
    """No consent, but a relationship (an order, a membership) stands."""
    UNSUBSCRIBED = "unsubscribed"
    SUPPRESSED = "suppressed"
    """Nothing may be sent for another reason: a complaint, a dead number, an order of a regulator."""
    RESTRICTED = "restricted"
    ERASED = "erased"
    NONE = "none"


def standing(person: Person, sender: str | None, purpose: str | None, cls: str | None, now_ms: int) -> Standing:
    """The word for one message's recipient. Without a sender only erasure and refusals of everything are known."""
    if person.erased or person.restricted:
        return Standing.ERASED if person.erased else Standing.RESTRICTED
    if person.state is None:
        return Standing.NONE
    reasons = _refused(person.state, sender, purpose, cls)
    if reasons:
        return Standing.UNSUBSCRIBED if Reason.OPT_OUT in reasons else Standing.SUPPRESSED
    return _allowed(person.state, sender, purpose, now_ms // 1000)


def _allowed(state: State, sender: str | None, purpose: str | None, now_s: int) -> Standing:
    for key, consent in state.consents.items():
        owner, _, topic = key.partition("/")
        if owner == sender and topic in _topics(purpose) and not 0 < consent.until <= now_s:
            return Standing.SUBSCRIBED
    for key, related in state.relationships.items():
        if key.partition("/")[0] == sender and not 0 < related.expires <= now_s:
            return Standing.RELATED
    return Standing.NONE


def _topics(purpose: str | None) -> tuple[str, ...]:
    return () if purpose is None else (purpose, purpose.partition(".")[0])


def _refused(state: State, sender: str | None, purpose: str | None, cls: str | None) -> set[int]:
    """The reasons of every suppression that covers such a message."""
    rests = ["", *(f"/{topic}" for topic in _topics(purpose))]
    if cls is not None:
        rests.append(f"#{cls}")
    owners = ["*"] if sender is None else ["*", sender]
    scopes = {f"{owner}{rest}" for owner in owners for rest in rests}
    return {one.reason for scope, held in state.suppressions.items() if scope in scopes for one in held}
