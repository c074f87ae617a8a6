"""What an event does to a person's state: pure, and the home of guarantee 2.

The rules, in the order a lawyer would ask:

- **An opt-out ends** every consent its scope covers and stands as a suppression. Scopes: a topic of a sender (the topic
  and everything under it), a class of a sender, a sender, or the same of everybody (`*`).
- **A grant needs to be newer** than the last opt-out of every scope that covers it, standing or lifted (`opt_outs`
  keeps the time for good), and than an erasure: a nightly re-import resurrects nobody, nor a topic beside a lifted one.
- **A newer grant is still refused** while a covering opt-out stands, unless it `lifts` (the person's own proven act);
  then that sender's covering opt-outs end. What covers all senders is never lifted by a grant to one of them, and
  nothing but an opt-out is lifted by anybody. An opt-out narrower than the grant stands too.
- **Order of arrival does not matter** between a withdrawal and a grant: a withdrawal recorded late ends what it would
  have ended in time. It spares a consent only if a lifting act of that sender came after it (`proven_at`), because then
  the person is known to have agreed again; a grant that merely bears a later date is ended: it would have been refused.
- **Cleansing a list** suppresses only where none of the same scope and reason stands (`only_new`), so what it did can
  be told from what others did; undoing it ends what stands by that very event (`undoes`) and nothing else.
- **A time from the future** counts as the time of recording, or a grant could outlive the next withdrawal.
- **Erasure** drops consents, relationships and preferences and keeps what stops messages: suppressions and the times of
  opt-outs. It is storage only (PIPL 47) of a pseudonym, and without it the erased person would be messaged again.

Equal times refuse the grant. Consents are of class marketing: no pack permits another class by consent.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from gateway.contract.codes import Code
from gateway.contract.consent import Consent, Event, EventKind, Preference, Relationship, State, Suppression
from gateway.contract.decision import Class, Reason, Refusal
from gateway.contract.record import EventState

MOST_KEYS = 256
"""Consents (relationships, preferences) of one person; more are refused. As many opt-out scopes, then they widen."""

SCOPE = re.compile(r"(\*|[a-z0-9][a-z0-9_-]{0,31})([#/][a-z_]{1,32}(\.[a-z_]{1,32}){0,2})?")

Step = Callable[[State, dict[str, Any], int, int], Refusal | None]


def apply(state: State | None, event: Event, seq: int, recorded_ms: int | None = None) -> State | Refusal:
    """The state after the event, or why it has no effect; the given state is not changed.

    `seq` is the event's place if it is appended; `recorded_ms` the time it is recorded, none to trust `occurred_at_ms`.
    """
    at_ms = event.occurred_at_ms if recorded_ms is None else min(event.occurred_at_ms, recorded_ms)
    after = _copy(state, seq)
    step = _STEPS.get(event.kind)
    try:
        refusal = step(after, event.data, at_ms, seq) if step else None
    except (LookupError, TypeError, ValueError, AttributeError):
        return Refusal(Code.REQUEST_INVALID, f"the data of a {event.kind.value} is not what its kind needs")
    return after if refusal is None else refusal


def event_state(before: State | None, event: Event) -> EventState | None:
    """What an act makes of the consent, where what stood before decides it; none elsewhere (`record.STATES`).

    A grant of what stands already renews it. A withdrawal where no consent stood is an objection: `Refused`.
    """
    consents = before.consents if before else {}
    if event.kind is EventKind.GRANT:
        sender = event.data["sender"]
        standing = all(f"{sender}/{topic}" in consents for topic in event.data["topics"])
        return EventState.RENEWED if standing else None
    if event.kind is EventKind.WITHDRAWAL:
        scopes = set(_withdrawn(event.data))
        covered = (scopes & set(covering(*key.split("/", 1))) for key in consents)
        return None if any(covered) else EventState.REFUSED
    return None


@lru_cache(maxsize=4096)
def covering(sender: str, topic: str) -> tuple[str, ...]:
    """Every suppression scope that covers a consent to `topic` of `sender`; kept, for an act asks up to four times."""
    parts = topic.split(".")
    topics = [".".join(parts[: n + 1]) for n in range(len(parts))]
    owners = ("*", sender)
    whole = [scope for owner in owners for scope in (owner, f"{owner}#{Class.MARKETING.value}")]
    return (*whole, *(f"{owner}/{name}" for owner in owners for name in topics))


def sender_of(scope: str) -> str:
    """The sender a scope belongs to, or `*`."""
    return scope.partition("/")[0].partition("#")[0]


def _copy(state: State | None, seq: int) -> State:
    if state is None:
        return State(seq=seq)
    return State(  # whose validation makes new dicts and lists of them, sooner than we would
        seq=seq,
        consents=state.consents,
        relationships=state.relationships,
        suppressions=state.suppressions,
        preferences=state.preferences,
        opt_outs=state.opt_outs,
        erased_at_ms=state.erased_at_ms,
    )


def _grant(state: State, data: dict[str, Any], at_ms: int, seq: int) -> Refusal | None:
    sender, lifts = data["sender"], data.get("lifts") is True
    lifted: set[str] = set()
    if at_ms <= state.erased_at_ms:
        return Refusal(Code.CONSENT_OPTED_OUT, "not newer than the erasure of the person's data")
    known = state.opt_outs.keys() | state.suppressions.keys()
    for topic in data["topics"]:
        for scope in (scope for scope in covering(sender, topic) if scope in known) if known else ():
            if at_ms <= state.opt_outs.get(scope, -1):
                return Refusal(Code.CONSENT_OPTED_OUT, f"not newer than the opt-out of {scope}")
            if _stands(state, scope, Reason.OPT_OUT):
                if not lifts or scope.startswith("*"):
                    return Refusal(Code.CONSENT_OPTED_OUT, f"the opt-out of {scope} stands")
                lifted.add(scope)
    wanted = [f"{sender}/{topic}" for topic in data["topics"]]
    if len(state.consents) + len(wanted) > MOST_KEYS and len(state.consents.keys() | wanted) > MOST_KEYS:
        return Refusal(Code.REQUEST_INVALID, "the person has too many consents")
    for scope in lifted:
        _release(state, scope, Reason.OPT_OUT)
    for key in wanted:
        _consent(state, key, data, at_ms // 1000, seq)
    return None


def _consent(state: State, key: str, data: dict[str, Any], at: int, seq: int) -> None:
    """Newest act wins; an older one at most adds its proof."""
    standing = state.consents.get(key)
    proven_at = max(at if data.get("lifts") is True else 0, standing.proven_at if standing else 0)
    if standing is not None and at < standing.at:
        state.consents[key] = standing.model_copy(update={"proven_at": proven_at})
        return
    state.consents[key] = Consent(
        at=at,
        until=data.get("valid_until", 0),
        max_per_week=data.get("max_per_week", 0),
        entry=seq,
        proven_at=proven_at,
    )


def _withdrawn(data: dict[str, Any]) -> list[str]:
    """The scopes that a withdrawal names."""
    sender, topics, cls = data.get("sender") or "*", data.get("topics"), data.get("cls")
    if topics:
        return [f"{sender}/{topic}" for topic in topics]
    return [f"{sender}#{Class(cls).value}" if cls else sender]


def _withdraw(state: State, data: dict[str, Any], at_ms: int, seq: int) -> None:
    wanted = _withdrawn(data)
    if len(state.opt_outs.keys() | set(wanted)) > MOST_KEYS:
        wanted = [data.get("sender") or "*"]
    for scope in wanted:
        _opt_out(state, scope, at_ms, seq)


def _opt_out(state: State, scope: str, at_ms: int, seq: int) -> None:
    """End what the scope covers; stand, unless a later proven act of this very sender has already lifted it."""
    _check(scope)
    state.opt_outs[scope] = max(at_ms, state.opt_outs.get(scope, 0))
    void = _void_proofs(state, scope, at_ms)
    _end(state, scope, at_ms, seq)
    for key in void:
        for other in set(covering(*key.split("/", 1))) & state.opt_outs.keys():
            if not _stands(state, other, Reason.OPT_OUT):
                _end(state, other, state.opt_outs[other], seq)


def _void_proofs(state: State, scope: str, at_ms: int) -> list[str]:
    """Consents proven in the very second of the opt-out: it would have refused them, so what they lifted stands again.

    A later proof keeps; an earlier one was good until the opt-out.
    """
    found = [
        key
        for key, consent in _covered(state, scope).items()
        if consent.proven_at and consent.proven_at == at_ms // 1000
    ]
    for key in found:
        state.consents[key] = state.consents[key].model_copy(update={"proven_at": 0})
    return found


def _covered(state: State, scope: str) -> dict[str, Consent]:
    return {key: consent for key, consent in state.consents.items() if scope in covering(*key.split("/", 1))}


def _end(state: State, scope: str, at_ms: int, seq: int) -> None:
    covered = _covered(state, scope)
    proofs = [consent.proven_at for consent in covered.values() if consent.proven_at * 1000 > at_ms]
    lifted_at = min(proofs, default=None) if sender_of(scope) != "*" else None
    for key, consent in covered.items():
        if lifted_at is None or consent.at < lifted_at:
            del state.consents[key]
    if lifted_at is None:
        _suppress_scope(state, scope, Suppression(reason=Reason.OPT_OUT, at=at_ms // 1000, entry=seq))


def _suppress_scope(state: State, scope: str, suppression: Suppression) -> None:
    """One of a reason per scope: the latest act, by its own time."""
    others = [one for one in state.suppressions.get(scope, ()) if one.reason != suppression.reason]
    same = [one for one in state.suppressions.get(scope, ()) if one.reason == suppression.reason]
    state.suppressions[scope] = [*others, max([*same, suppression], key=lambda one: (one.at, one.entry))]


def _suppress(state: State, data: dict[str, Any], at_ms: int, seq: int) -> Refusal | None:
    scope, reason = data["scope"], _reason(data)
    _check(scope)
    if data.get("only_new") is True and _stands(state, scope, reason):
        return Refusal(Code.SUPPRESSED, "such a suppression stands already")
    if reason is Reason.OPT_OUT:
        _opt_out(state, scope, at_ms, seq)
    else:
        _suppress_scope(state, scope, Suppression(reason=reason, at=at_ms // 1000, entry=seq))
    return None


def _unsuppress(state: State, data: dict[str, Any], at_ms: int, _seq: int) -> Refusal | None:
    """By hand only what was set by hand. An opt-out ends so only by the person's own newer act (`lifts`).

    `undoes`: the event of a cleansing. What stands by it ends, a dead number too; what others set meanwhile does not.
    """
    scope, reason, undoes = data["scope"], _reason(data), data.get("undoes")
    if not _stands(state, scope, reason, undoes):
        return Refusal(Code.NOT_FOUND, "no such suppression stands")
    if undoes is not None and reason is Reason.DEAD_NUMBER:
        _release(state, scope, reason)
        return None
    if reason is Reason.OPT_OUT:
        if data.get("lifts") is not True or at_ms <= state.opt_outs.get(scope, -1):
            return Refusal(Code.CONSENT_OPTED_OUT, f"the opt-out of {scope} stands")
    elif reason is not Reason.MANUAL:
        return Refusal(Code.SUPPRESSED, f"a suppression of reason {reason.name.lower()} is not removed by hand")
    _release(state, scope, reason)
    return None


def _relate(state: State, data: dict[str, Any], at_ms: int, seq: int) -> Refusal | None:
    """Longest-lived wins, then newest. An end at or before its own time ends what stood before it."""
    if at_ms <= state.erased_at_ms:
        return Refusal(Code.CONSENT_OPTED_OUT, "not newer than the erasure of the person's data")
    key, at, expires = f"{data['sender']}/{data['kind']}", at_ms // 1000, int(data.get("expires_at") or 0)
    standing = state.relationships.get(key)
    if expires and expires <= at:
        if standing is not None and standing.at <= at:
            del state.relationships[key]
        return None
    if standing is None and len(state.relationships) >= MOST_KEYS:
        return Refusal(Code.REQUEST_INVALID, "the person has too many relationships")
    if standing is None or (_life(expires), at) >= (_life(standing.expires), standing.at):
        state.relationships[key] = Relationship(at=at, expires=expires, entry=seq)
    return None


def _life(expires: int) -> float:
    return expires or float("inf")


def _prefer(state: State, data: dict[str, Any], _at_ms: int, _seq: int) -> Refusal | None:
    sender, hours = data.get("sender") or "*", data.get("hours")
    preference = Preference(
        topics=list(data.get("topics") or ()),
        max_per_week=data.get("max_per_week") or 0,
        hours=(hours[0], hours[1]) if hours else None,
    )
    if preference == Preference():
        state.preferences.pop(sender, None)
    elif sender not in state.preferences and len(state.preferences) >= MOST_KEYS:
        return Refusal(Code.REQUEST_INVALID, "the person has too many preferences")
    else:
        state.preferences[sender] = preference
    return None


def _erase(state: State, _data: dict[str, Any], at_ms: int, _seq: int) -> None:
    state.consents.clear()
    state.relationships.clear()
    state.preferences.clear()
    state.erased_at_ms = max(at_ms, state.erased_at_ms)


def _reason(data: dict[str, Any]) -> Reason:
    return Reason[data["reason"].upper()]


def _check(scope: str) -> None:
    if not SCOPE.fullmatch(scope):
        raise ValueError("no scope")


def _stands(state: State, scope: str, reason: Reason, entry: int | None = None) -> bool:
    """Whether a suppression stands; `entry`: by this very event."""
    return any(one.reason == reason and entry in (None, one.entry) for one in state.suppressions.get(scope, ()))


def _release(state: State, scope: str, reason: Reason) -> None:
    left = [one for one in state.suppressions[scope] if one.reason != reason]
    if left:
        state.suppressions[scope] = left
    else:
        del state.suppressions[scope]


_STEPS: dict[EventKind, Step] = {
    EventKind.GRANT: _grant,
    EventKind.WITHDRAWAL: _withdraw,
    EventKind.RELATIONSHIP: _relate,
    EventKind.SUPPRESSION: _suppress,
    EventKind.COMPLAINT: _suppress,
    EventKind.CLEANSING: _suppress,
    EventKind.UNSUPPRESSION: _unsuppress,
    EventKind.PREFERENCES: _prefer,
    EventKind.RESTRICTION: _erase,
    EventKind.ERASURE: _erase,
}
"""BREAKER, LIST, PACK, CASE and ACCESS say nothing about what may be sent; what RESTRICTION keeps permits nothing."""
