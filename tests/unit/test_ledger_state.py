"""Guarantee 2, without any database: what each act does to a person's state, in whatever order it arrives."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.contract.codes import Code
from gateway.contract.consent import Event, EventKind, State
from gateway.contract.decision import Class, Reason, Refusal
from gateway.contract.record import EventState
from gateway.ledger import events
from gateway.ledger.state import MOST_KEYS, apply, covering, event_state

DAY = 86_400_000


def act(kind: EventKind, at_ms: int, data: dict[str, Any]) -> Event:
    return Event(event_id="e", kind=kind, number=None, subject=b"s" * 16, occurred_at_ms=at_ms, data=data)


def grant(at_ms: int, *topics: str, sender: str = "acme", lifts: bool = False, **terms: Any) -> Event:
    return act(EventKind.GRANT, at_ms, events.grant(sender, topics or ("marketing",), lifts=lifts, **terms))


def withdraw(at_ms: int, sender: str | None = "acme", *topics: str, cls: Class | None = None) -> Event:
    return act(EventKind.WITHDRAWAL, at_ms, events.withdrawal(sender, topics, cls))


def suppress(at_ms: int, scope: str, reason: Reason) -> Event:
    return act(EventKind.SUPPRESSION, at_ms, events.suppression(scope, reason))


def unsuppress(at_ms: int, scope: str, reason: Reason, *, lifts: bool = False) -> Event:
    return act(EventKind.UNSUPPRESSION, at_ms, events.suppression(scope, reason, lifts=lifts))


def relate(at_ms: int, expires_s: int = 0, kind: str = "order") -> Event:
    return act(EventKind.RELATIONSHIP, at_ms, events.relationship("acme", kind, "ref", expires_s))


def after(*acts: Event) -> tuple[State, list[Code]]:
    """The state after the acts, and the codes of those refused."""
    state, codes = None, []
    for n, one in enumerate(acts):
        answer = apply(state, one, n + 1)
        if isinstance(answer, Refusal):
            codes.append(answer.code)
        else:
            state = answer
    return state or State(seq=0), codes


def permits(state: State, topic: str = "marketing.promotion", sender: str = "acme") -> bool:
    """What an admission asks: a consent to the topic or its first segment, and no suppression over it."""
    consented = any(f"{sender}/{name}" in state.consents for name in (topic, topic.split(".", maxsplit=1)[0]))
    return consented and not any(scope in state.suppressions for scope in covering(sender, topic))


def test_a_grant_carries_its_terms_and_its_entry() -> None:
    state, _ = after(relate(0), grant(5_999, "marketing", "invite", max_per_week=2, valid_until_s=99))
    consent = state.consents["acme/invite"]
    assert (consent.at, consent.until, consent.max_per_week, consent.entry) == (5, 99, 2, 2)
    assert state.consents.keys() == {"acme/marketing", "acme/invite"}
    assert state.seq == 2


@pytest.mark.parametrize(
    ("ends", "left"),
    [
        (withdraw(10, "acme", "marketing"), {"acme/invite", "zeta/marketing"}),
        (withdraw(10, "acme", "marketing.promotion"), {"acme/marketing", "acme/invite", "zeta/marketing"}),
        (withdraw(10, "acme"), {"zeta/marketing"}),
        (withdraw(10, "acme", cls=Class.MARKETING), {"zeta/marketing"}),
        (withdraw(10, None), set()),
        (withdraw(10, None, cls=Class.MARKETING), set()),
        (withdraw(10, None, "marketing"), {"acme/invite"}),
        (suppress(10, "acme", Reason.OPT_OUT), {"zeta/marketing"}),
    ],
)
def test_an_opt_out_ends_what_its_scope_covers_and_stands(ends: Event, left: set[str]) -> None:
    given_ = grant(1, "marketing", "marketing.promotion", "invite")
    state, _ = after(given_, grant(1, sender="zeta"), ends)
    assert state.consents.keys() == left
    assert [one.reason for held in state.suppressions.values() for one in held] == [Reason.OPT_OUT]
    assert not permits(state)


@pytest.mark.parametrize("ended", [withdraw(100), withdraw(100, None), withdraw(100, "acme", "marketing")])
@pytest.mark.parametrize("lifts", [False, True])
@pytest.mark.parametrize("at_ms", [99, 100])
def test_a_grant_not_newer_than_the_opt_out_has_no_effect(ended: Event, lifts: bool, at_ms: int) -> None:
    before, _ = after(ended)
    state, codes = after(ended, grant(at_ms, lifts=lifts))
    assert codes == [Code.CONSENT_OPTED_OUT]
    assert state == before


def test_only_a_lifting_grant_ends_the_opt_out_and_only_what_covers_it() -> None:
    acts = [withdraw(100), withdraw(100, "acme", "invite"), suppress(100, "acme", Reason.COMPLAINT)]
    _, codes = after(*acts, grant(101))
    assert codes == [Code.CONSENT_OPTED_OUT]
    state, codes = after(*acts, grant(101, lifts=True))
    assert codes == []
    assert [one.reason for one in state.suppressions["acme"]] == [Reason.COMPLAINT]
    assert "acme/invite" in state.suppressions


@pytest.mark.parametrize("scope", ["*", "*#marketing", "*/marketing"])
def test_an_opt_out_of_every_sender_is_lifted_by_no_grant_to_one(scope: str) -> None:
    _, codes = after(suppress(100, scope, Reason.OPT_OUT), grant(200, lifts=True))
    assert codes == [Code.CONSENT_OPTED_OUT]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.OPT_OUT])
@pytest.mark.parametrize("scope", ["*", "acme", "acme#marketing", "acme/marketing"])
def test_nothing_but_an_opt_out_is_lifted(scope: str, reason: Reason) -> None:
    state, codes = after(suppress(100, scope, reason), grant(200, lifts=True))
    assert codes == []
    assert not permits(state)


def test_a_reimport_resurrects_nothing_beside_a_lifted_topic() -> None:
    """The opt-out of the sender is lifted for one topic; an old list still names another."""
    state, codes = after(
        grant(1, "marketing", "invite"), withdraw(100), grant(200, lifts=True), grant(1, "marketing", "invite")
    )
    assert codes == [Code.CONSENT_OPTED_OUT]
    assert state.consents.keys() == {"acme/marketing"}


def test_an_older_grant_does_not_replace_a_newer() -> None:
    state, codes = after(grant(DAY, max_per_week=1), grant(1, max_per_week=9))
    assert codes == []
    assert state.consents["acme/marketing"].max_per_week == 1
    assert state.seq == 2


def test_a_late_withdrawal_ends_a_grant_that_merely_bears_a_later_date() -> None:
    state, _ = after(grant(200_000), withdraw(100_000))
    assert not permits(state)


def test_a_late_withdrawal_spares_what_the_person_provably_renewed_since() -> None:
    state, _ = after(grant(1_000, "invite"), grant(200_000, lifts=True), withdraw(100_000))
    assert permits(state)
    assert state.consents.keys() == {"acme/marketing"}
    state, _ = after(grant(200_000, lifts=True), grant(300_000), withdraw(250_000))
    assert not permits(state), "the proof is older than the withdrawal"


def test_a_time_from_the_future_does_not_outlive_a_withdrawal() -> None:
    future = apply(None, grant(10 * DAY, lifts=True), 1, recorded_ms=DAY)
    assert isinstance(future, State)
    state = apply(future, withdraw(2 * DAY), 2, recorded_ms=2 * DAY)
    assert isinstance(state, State)
    assert not permits(state)


def test_manual_suppressions_are_removed_by_hand_and_others_are_not() -> None:
    state, codes = after(suppress(1, "acme", Reason.MANUAL), unsuppress(2, "acme", Reason.MANUAL))
    assert (state.suppressions, codes) == ({}, [])
    _, codes = after(unsuppress(2, "acme", Reason.MANUAL))
    assert codes == [Code.NOT_FOUND]
    _, codes = after(suppress(1, "acme", Reason.REGULATOR), unsuppress(2, "acme", Reason.REGULATOR))
    assert codes == [Code.SUPPRESSED]
    _, codes = after(withdraw(1), unsuppress(2, "acme", Reason.OPT_OUT))
    assert codes == [Code.CONSENT_OPTED_OUT]
    state, codes = after(withdraw(1, None), unsuppress(2, "*", Reason.OPT_OUT, lifts=True))
    assert (state.suppressions, codes) == ({}, [])


def test_the_longest_lived_relationship_is_kept_and_an_end_ends_it() -> None:
    state, _ = after(relate(1_000, 500), relate(2_000, 900), relate(3_000, 700))
    assert (state.relationships["acme/order"].expires, state.relationships["acme/order"].entry) == (900, 2)
    state, _ = after(relate(1_000, 500), relate(2_000, 0), relate(3_000, 700))
    assert state.relationships["acme/order"].expires == 0
    state, _ = after(relate(1_000, 0), relate(5_000, 5))
    assert state.relationships == {}
    state, _ = after(relate(9_000, 0), relate(5_000, 5))
    assert state.relationships != {}


def test_preferences_replace_and_clear() -> None:
    wanted = act(EventKind.PREFERENCES, 1, events.preferences("acme", ["invite"], 3, (540, 1080)))
    fewer = act(EventKind.PREFERENCES, 2, events.preferences("acme", None, 1))
    state, _ = after(wanted, fewer)
    assert state.preferences["acme"].model_dump() == {"topics": [], "max_per_week": 1, "hours": None}
    state, _ = after(wanted, act(EventKind.PREFERENCES, 2, events.preferences("acme")))
    assert state.preferences == {}


def test_erasure_keeps_what_stops_messages_and_drops_the_rest() -> None:
    wanted = act(EventKind.PREFERENCES, 1, events.preferences(None, ["invite"]))
    erasure = act(EventKind.ERASURE, 500, {})
    state, _ = after(grant(1, sender="zeta"), relate(1), wanted, withdraw(100), erasure)
    assert (state.consents, state.relationships, state.preferences) == ({}, {}, {})
    assert state.suppressions.keys() == {"acme"}
    late = [grant(2, sender="zeta"), relate(2, 10**9), grant(101, lifts=True)]
    _, codes = after(withdraw(100), erasure, *late)
    assert codes == [Code.CONSENT_OPTED_OUT] * 3
    state, codes = after(withdraw(100), erasure, grant(501, lifts=True), relate(502))
    assert codes == []
    assert permits(state)


@pytest.mark.parametrize(
    "bad",
    [
        act(EventKind.GRANT, 1, {}),
        act(EventKind.WITHDRAWAL, 1, {"sender": "no such\0scope"}),
        act(EventKind.WITHDRAWAL, 1, {"sender": 7}),
        act(EventKind.SUPPRESSION, 1, {"scope": "acme", "reason": "whim"}),
        act(EventKind.SUPPRESSION, 1, {"scope": None, "reason": "manual"}),
        act(EventKind.PREFERENCES, 1, {"hours": [1]}),
    ],
)
def test_data_of_another_shape_is_refused_not_raised(bad: Event) -> None:
    before, _ = after(grant(1))
    answer = apply(before, bad, 2)
    assert isinstance(answer, Refusal)
    assert answer.code is Code.REQUEST_INVALID
    assert before == after(grant(1))[0]


def test_a_person_is_bounded_and_opt_outs_widen_rather_than_fail() -> None:
    names = [f"t_{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(MOST_KEYS + 1)]
    _, codes = after(grant(1, *names))
    assert codes == [Code.REQUEST_INVALID]
    state, codes = after(withdraw(1, "acme", *names))
    assert codes == []
    assert state.suppressions.keys() == {"acme"}


def test_the_given_state_is_not_changed() -> None:
    before, _ = after(grant(1), suppress(2, "acme/invite", Reason.MANUAL))
    copy = before.model_copy(deep=True)
    for one in (withdraw(9), grant(9, "invite"), act(EventKind.ERASURE, 9, {}), suppress(9, "acme", Reason.OPT_OUT)):
        apply(before, one, 3)
    assert before == copy


def test_what_a_void_proof_lifted_stands_again() -> None:
    """The grant of the opt-out's own second would have been refused, and so would have lifted nothing."""
    narrow, wide = withdraw(1_000, "acme", "marketing.promotion"), withdraw(2_000)
    void, wider = grant(2_000, "marketing.promotion", lifts=True), grant(3_000, "marketing", lifts=True)
    for order in permutations((narrow, wide, void, wider)):
        assert not permits(after(*order)[0])
    assert permits(after(narrow, withdraw(1_000), void, wider)[0])


# --- whatever the order ---------------------------------------------------------------------------------------------

SCOPES: list[tuple[str | None, tuple[str, ...], Class | None]] = [
    ("acme", (), None),
    ("acme", ("marketing",), None),
    ("acme", ("marketing.promotion",), None),
    ("acme", (), Class.MARKETING),
    (None, (), None),
    (None, ("marketing",), None),
]
times = st.integers(1, 8).map(lambda s: s * 1_000)
grants = st.builds(
    lambda at, topic, lifts: grant(at, topic, lifts=lifts),
    times,
    st.sampled_from(["marketing", "marketing.promotion"]),
    st.booleans(),
)
withdrawals = st.builds(
    lambda at, scope: withdraw(at, scope[0], *scope[1], cls=scope[2]), times, st.sampled_from(SCOPES)
)


def lawful(acts: list[Event]) -> bool:
    """Whether promotion may be sent by the acts' own times alone, opt-outs first at equal times."""
    ordered = sorted(acts, key=lambda one: (one.occurred_at_ms, one.kind is EventKind.GRANT))
    state, _ = after(*ordered)
    return permits(state)


@given(
    st.lists(st.one_of(grants, withdrawals), max_size=6).flatmap(
        lambda acts: st.tuples(st.just(acts), st.permutations(acts))
    )
)
@settings(max_examples=600, deadline=None)
def test_no_order_of_arrival_permits_what_the_true_order_forbids(both: tuple[list[Event], list[Event]]) -> None:
    acts, arrived = both
    state, _ = after(*arrived)
    assert not permits(state) or lawful(acts)


def test_one_opt_out_and_one_proven_return_agree_in_every_order() -> None:
    acts = [grant(1_000), withdraw(5_000), grant(9_000, lifts=True), grant(1_000, "invite")]
    assert {permits(after(*order)[0]) for order in permutations(acts)} == {True}
    assert {permits(after(*order)[0], "invite") for order in permutations(acts)} == {False}


STATED = [
    ([], grant(1, "marketing"), None),
    ([grant(1, "marketing")], grant(2, "marketing"), EventState.RENEWED),
    ([grant(1, "marketing")], grant(2, "marketing", "invite"), None),
    ([grant(1, "marketing")], withdraw(2), None),
    ([grant(1, "marketing")], withdraw(2, None), None),
    ([grant(1, "marketing")], withdraw(2, "acme", "marketing"), None),
    ([grant(1, "marketing")], withdraw(2, "acme", cls=Class.MARKETING), None),
    ([grant(1, "marketing")], withdraw(2, "acme", "invite"), EventState.REFUSED),
    ([grant(1, "marketing")], withdraw(2, "bolt"), EventState.REFUSED),
    ([relate(1)], withdraw(2), EventState.REFUSED),
    ([], withdraw(2), EventState.REFUSED),
    ([], suppress(1, "*", Reason.MANUAL), None),
]


@pytest.mark.parametrize(("before", "one", "state"), STATED)
def test_what_stood_before_makes_a_renewal_or_an_objection(
    before: list[Event], one: Event, state: EventState | None
) -> None:
    assert event_state(after(*before)[0], one) is state


def test_a_restriction_permits_nothing_and_keeps_what_stops() -> None:
    restricted = act(EventKind.RESTRICTION, 9, {})
    state, codes = after(grant(1), relate(2), withdraw(3, "acme", "invite"), restricted, grant(9))
    assert (state.consents, state.relationships, state.erased_at_ms) == ({}, {}, 9)
    assert "acme/invite" in state.suppressions
    assert codes == [Code.CONSENT_OPTED_OUT]


# --- cleansing a list, and undoing it --------------------------------------------------------------------------------


def cleanse(at_ms: int, scope: str = "acme", reason: Reason = Reason.MANUAL) -> Event:
    return act(EventKind.CLEANSING, at_ms, events.suppression(scope, reason, only_new=True))


def undo(at_ms: int, entry: int, scope: str = "acme", reason: Reason = Reason.MANUAL) -> Event:
    return act(EventKind.UNSUPPRESSION, at_ms, events.suppression(scope, reason, undoes=entry))


@pytest.mark.parametrize("reason", [Reason.MANUAL, Reason.DEAD_NUMBER])
def test_a_cleansing_is_undone_by_its_own_entry(reason: Reason) -> None:
    state, codes = after(grant(DAY), cleanse(2 * DAY, reason=reason))
    assert not permits(state)
    state, codes = after(grant(DAY), cleanse(2 * DAY, reason=reason), undo(3 * DAY, 2, reason=reason))
    assert (permits(state), codes) == (True, [])


def test_a_cleansing_leaves_what_others_set_and_its_undoing_too() -> None:
    before, codes = after(grant(DAY), suppress(DAY, "acme", Reason.MANUAL), cleanse(2 * DAY), undo(3 * DAY, 3))
    assert (permits(before), codes) == (False, [Code.SUPPRESSED, Code.NOT_FOUND])
    later, codes = after(grant(DAY), cleanse(2 * DAY), suppress(3 * DAY, "acme", Reason.MANUAL), undo(4 * DAY, 2))
    assert (permits(later), codes) == (False, [Code.NOT_FOUND])


@pytest.mark.parametrize("reason", [Reason.COMPLAINT, Reason.OPT_OUT, Reason.CARRIER, Reason.REGULATOR])
def test_no_undoing_lifts_what_a_person_or_an_authority_said(reason: Reason) -> None:
    state, codes = after(grant(DAY), suppress(2 * DAY, "acme", reason), undo(3 * DAY, 2, reason=reason))
    assert not permits(state)
    assert codes == [Code.CONSENT_OPTED_OUT if reason is Reason.OPT_OUT else Code.SUPPRESSED]
    state, codes = after(grant(DAY), cleanse(2 * DAY), suppress(2 * DAY, "acme", reason), undo(3 * DAY, 2))
    assert (permits(state), codes) == (False, [])
