"""The acts that are appended: how each is built, and the canonical bytes that are committed to and encrypted.

Canonical form, version 1: the JSON object of `contract.record` (schema `assent/1`) written as RFC 8785 writes it:
UTF-8, no spaces, members sorted by the UTF-16 code units of their names, the shortest escapes. Values are objects,
lists, strings, booleans, null and integers below 2^53; anything else that a caller put into evidence (a fraction, a
larger integer) is turned into its JSON text as a string before it is recorded, so any RFC 8785 implementation writes
the same bytes and no two number formats can disagree.

An event that died on its way is not here: it is appended whole or not at all (see `appender`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Class, Reason
from gateway.contract.record import STATES, EventState, record

VERSION = 1
SYSTEM = b"assent:system\0\0\0"
"""The subject of events without a person (breakers, looks at lists). No HMAC can be steered to it."""
BLOCKING = frozenset(
    {
        EventKind.WITHDRAWAL,
        EventKind.SUPPRESSION,
        EventKind.COMPLAINT,
        EventKind.CLEANSING,
        EventKind.RESTRICTION,
        EventKind.ERASURE,
    }
)
"""Kinds after whose acknowledgement nothing they cover may be submitted (MECHANISMS 5)."""
EFFECT = ("sender", "topics", "cls", "scope", "reason", "kind", "lifts", "only_new", "undoes")
"""Members of `data` that decide what an event does; two deliveries of one event id must agree in them."""
_SAFE = 2**53
_DEEPEST = 16


class EventUnfitError(ValueError):
    """The event cannot be written canonically (too deep, a lone surrogate, a name that is no string)."""


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value; see the module for the form."""
    try:
        if _is_plain(value, 0):  # nearly always: nothing to turn, and ASCII names, which sort alike everywhere
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return orjson.dumps(_plain(value, 0))
    except (TypeError, UnicodeEncodeError) as error:
        raise EventUnfitError("not representable as JSON") from error


def body(event: Event, state: EventState | None = None) -> bytes:
    """The canonical body of an event: what its commitment binds and its row holds encrypted.

    `state`: what it makes of the consent where that depends on what stood before (`ledger.state.event_state`).
    """
    return canonical(record(event, state or STATES[event.kind]))


def same_effect(first: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    """Whether two deliveries of one event id mean the same act (`data` of each, as recorded)."""
    return all(_plain(first.get(name), 0) == _plain(again.get(name), 0) for name in EFFECT)


def _is_plain(value: Any, depth: int) -> bool:
    """Whether `_plain` would change nothing but the order of names, all of which are ASCII."""
    kind = type(value)
    if kind is dict:
        if depth == _DEEPEST or not "".join(value).isascii():
            return False
        value = value.values()
    elif kind is not list:
        return kind is str or kind is bool or value is None or (kind is int and -_SAFE < value < _SAFE)
    elif depth == _DEEPEST:
        return False
    for one in value:
        kind = type(one)
        if kind is str or (kind is int and -_SAFE < one < _SAFE):  # most are: a call for each would cost more
            continue
        if not _is_plain(one, depth + 1):
            return False
    return True


def _plain(value: Any, depth: int) -> Any:
    if type(value) is str or value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if -_SAFE < value < _SAFE else str(int(value))
    if isinstance(value, float):
        return orjson.dumps(value).decode()
    if depth == _DEEPEST:
        raise EventUnfitError("nested too deeply")
    if isinstance(value, dict | Mapping):  # a dict is told at once, an abstract class by its register
        return _members(value, depth + 1)
    if isinstance(value, list | Sequence) and not isinstance(value, bytes | bytearray):
        return [_plain(item, depth + 1) for item in value]
    raise EventUnfitError(f"a {type(value).__name__} is no JSON value")


def _members(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    try:
        plain = "".join(value).isascii()
    except TypeError:
        raise EventUnfitError("a member's name is no string") from None
    names = sorted(value) if plain else sorted(value, key=_utf16)
    return {name: one if type(one := value[name]) is str else _plain(one, depth) for name in names}


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


# --- builders: `data` of each kind, as `state.apply` reads it. `more` is kept as evidence and changes nothing. --------


def grant(
    sender: str,
    topics: Sequence[str],
    *,
    max_per_week: int | None = None,
    valid_until_s: int | None = None,
    lifts: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Consent of a person to topics of a sender. `lifts`: the person's own proven act (two records, a solicited Y)."""
    data = {**more, "sender": sender, "topics": list(topics), "lifts": lifts}
    if max_per_week is not None:
        data["max_per_week"] = max_per_week
    if valid_until_s is not None:
        data["valid_until"] = valid_until_s
    return data


def withdrawal(
    sender: str | None = None, topics: Sequence[str] | None = None, cls: Class | None = None, **more: Any
) -> dict[str, Any]:
    """No sender: of everybody. Topics, else a class, else everything of the sender. `why=` names the reason."""
    data = dict(more)
    if sender is not None:
        data["sender"] = sender
    if topics:
        data["topics"] = list(topics)
    if cls is not None:
        data["cls"] = cls.value
    return data


def relationship(sender: str, kind: str, ref: str, expires_at_s: int = 0, **more: Any) -> dict[str, Any]:
    """A transaction or enrolment; `expires_at_s` 0 while it lasts; at or before its own time: it has ended."""
    return {**more, "sender": sender, "kind": str(kind), "ref": ref, "expires_at": expires_at_s}


def scope_of(sender: str | None = None, cls: Class | None = None, topic: str | None = None) -> str:
    """The text of a suppression's scope (contract.consent.State)."""
    owner = sender or "*"
    if topic is not None:
        return f"{owner}/{topic}"
    return f"{owner}#{cls.value}" if cls is not None else owner


def suppression(scope: str, reason: Reason, **more: Any) -> dict[str, Any]:
    """Never send in this scope. Also the data of an UNSUPPRESSION; there `lifts=True` is the person's own act.

    `only_new=True`: refused where one of this scope and reason stands. `undoes`: end only what stands by this event.
    """
    return {**more, "scope": scope, "reason": reason.name.lower()}


def preferences(
    sender: str | None,
    topics: Sequence[str] | None = None,
    max_per_week: int | None = None,
    hours: tuple[int, int] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Replaces the preferences toward a sender, or all; nothing given clears them. Hours: minutes of the local day."""
    data = {**more, "sender": sender or "*"}
    if topics:
        data["topics"] = list(topics)
    if max_per_week is not None:
        data["max_per_week"] = max_per_week
    if hours is not None:
        data["hours"] = list(hours)
    return data
