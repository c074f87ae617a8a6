"""The canonical form: bytes that any RFC 8785 implementation would write, and what has none."""

import json

import pytest

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Class, Reason
from gateway.contract.record import STATES
from gateway.ledger.events import (
    EventUnfitError,
    body,
    canonical,
    grant,
    same_effect,
    scope_of,
    suppression,
)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"b": 1, "a": [True, None, False]}, '{"a":[true,null,false],"b":1}'),
        ({"\r": "", "1": "", "\u0080": "", "ö": "", "€": "", "\U0001f600": "", "\ufb33": ""}, None),
        ({"t": 'é"\\/\b\f\n\r\t\u001b\u007f\u2028你好'}, '{"t":"é\\"\\\\/\\b\\f\\n\\r\\t\\u001b\u007f\u2028你好"}'),
        (
            {"n": 2**53 - 1, "m": -5, "big": 2**53, "f": 0.1},
            '{"big":"9007199254740992","f":"0.1","m":-5,"n":9007199254740991}',
        ),
        (EventKind.GRANT, '"grant"'),
        ((1, 2), "[1,2]"),
    ],
)
def test_written(value: object, written: str | None) -> None:
    if written is None:  # RFC 8785 §3.2.3: members by UTF-16 code units, so the emoji comes before U+FB33
        assert list(json.loads(canonical(value))) == ["\r", "1", "\u0080", "ö", "€", "\U0001f600", "\ufb33"]
    else:
        assert canonical(value).decode() == written


@pytest.mark.parametrize("value", [{"a": "\ud800"}, {"\ud800": 1}, {1: 2}, {"a": b"x"}, {"a": {1}}])
def test_what_has_no_form_is_refused(value: object) -> None:
    with pytest.raises(EventUnfitError):
        canonical(value)


def test_depth_is_bounded() -> None:
    deep: object = 1
    for _ in range(40):
        deep = [deep]
    with pytest.raises(EventUnfitError):
        canonical(deep)


def test_an_erasure_does_not_record_the_number() -> None:
    event = Event(
        event_id="e", kind=EventKind.ERASURE, number="+8613800000000", subject=b"s" * 16, occurred_at_ms=1, data={}
    )
    assert b"138" not in body(event)
    assert b"+8613800000000" in body(event.model_copy(update={"kind": EventKind.GRANT}))


def test_deliveries_agree_in_what_decides() -> None:
    assert same_effect(grant("acme", ["a"], ip="1"), grant("acme", ["a"], ip="2"))
    assert not same_effect(grant("acme", ["a"]), grant("acme", ["b"]))
    assert not same_effect(suppression("*", Reason.MANUAL), suppression("*", Reason.OPT_OUT))


def test_scopes_are_written_as_the_contract_says() -> None:
    assert scope_of() == "*"
    assert scope_of(None, Class.MARKETING) == "*#marketing"
    assert scope_of("acme", topic="invite.restock") == "acme/invite.restock"


def test_every_kind_has_a_state_of_the_standard() -> None:
    assert STATES.keys() == set(EventKind)
