"""Whom a cleansing finds, and why: a table of people, and what holds for anybody."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.consent import State, Suppression
from gateway.contract.decision import Reason
from gateway.contract.registry import Sender
from gateway.rules import pack as packs
from gateway.rules.cleansing import (
    NEVER_ASKED,
    PROPOSED,
    Category,
    Choice,
    Facts,
    Given,
    category_of,
    chosen,
    covering,
    mask_of,
    reasons,
    reasons_of,
    shows,
    suppression_of,
)
from gateway.rules.plan import plan

SHANGHAI = ZoneInfo("Asia/Shanghai")
RULE = packs.load("cn").cleansing


def ms(written: str) -> int:
    return int(datetime.fromisoformat(written).replace(tzinfo=SHANGHAI).timestamp() * 1000)


NOW = ms("2026-11-25T18:00")
FRESH = Given(ms("2026-11-01"), 0, True)
YEAR = Given(ms("2025-11-24T12:00"), 0, True)
JUST_DELIVERED = ms("2026-11-24")

PEOPLE: dict[str, tuple[Facts, str]] = {
    "agreed lately": (Facts(consents=(FRESH,)), ""),
    "written to about a parcel": (Facts(on_consent=False, first_ms=ms("2025-01-01")), ""),
    "complained": (Facts(complained=True, consents=(FRESH,)), "complained"),
    "a complaint stands": (Facts(reasons=frozenset({Reason.COMPLAINT}), consents=(FRESH,)), "complained"),
    "a regulator forbade it": (Facts(reasons=frozenset({Reason.REGULATOR}), consents=(FRESH,)), "complained"),
    "opted out, so nothing is left": (
        Facts(reasons=frozenset({Reason.OPT_OUT}), first_ms=ms("2026-11-01")), "opted_out consent_unproven",
    ),
    "the carrier refuses": (Facts(reasons=frozenset({Reason.CARRIER}), consents=(FRESH,)), "opted_out"),
    "suppressed by hand is no reason": (Facts(reasons=frozenset({Reason.MANUAL}), consents=(FRESH,)), ""),
    "dead once": (Facts(consents=(FRESH,), dead_ms=(ms("2026-11-20"),)), ""),
    "dead twice on one day, in Shanghai": (
        Facts(consents=(FRESH,), dead_ms=(ms("2026-11-20T00:01"), ms("2026-11-20T23:59"))), "",
    ),
    "dead on two days that are one in UTC": (
        Facts(consents=(FRESH,), dead_ms=(ms("2026-11-20T23:59"), ms("2026-11-21T00:01"))), "dead",
    ),
    "dead before, delivered between": (
        Facts(consents=(FRESH,), dead_ms=(ms("2026-11-20"), ms("2026-11-22")), delivered_ms=ms("2026-11-21")), "",
    ),
    "dead and alive again": (
        Facts(consents=(FRESH,), dead_ms=(ms("2026-11-20"), ms("2026-11-21")), delivered_ms=JUST_DELIVERED),
        "recycled_risk",
    ),
    "recorded as dead": (Facts(reasons=frozenset({Reason.DEAD_NUMBER}), consents=(FRESH,)), "dead"),
    "agreed a year ago, nothing delivered since": (Facts(consents=(YEAR,)), "recycled_risk never_engaged"),
    "agreed a year ago, delivered yesterday": (
        Facts(consents=(YEAR,), delivered_ms=JUST_DELIVERED), "never_engaged",
    ),
    "agreed a year ago, and answers": (
        Facts(consents=(YEAR,), delivered_ms=JUST_DELIVERED, replied_ms=ms("2026-10-01")), "",
    ),
    "answered long ago": (
        Facts(consents=(YEAR,), delivered_ms=JUST_DELIVERED, replied_ms=ms("2026-05-24")), "never_engaged",
    ),
    "answered on the last day that counts": (
        Facts(consents=(YEAR,), delivered_ms=JUST_DELIVERED, replied_ms=ms("2026-05-25T00:00")), "",
    ),
    "no consent stands": (Facts(first_ms=ms("2026-11-01")), "consent_unproven"),
    "no consent stands, and never a word": (Facts(first_ms=ms("2026-01-01")), "consent_unproven never_engaged"),
    "no evidence": (Facts(consents=(FRESH._replace(proven=False),)), "consent_unproven"),
    "one of two has evidence": (Facts(consents=(FRESH._replace(proven=False), FRESH)), ""),
    "two years and a day": (
        Facts(consents=(Given(ms("2024-11-24"), 0, True),), delivered_ms=JUST_DELIVERED, replied_ms=JUST_DELIVERED),
        "consent_old",
    ),
    "two years to the day": (
        Facts(consents=(Given(ms("2024-11-25"), 0, True),), delivered_ms=JUST_DELIVERED, replied_ms=JUST_DELIVERED), "",
    ),
    "over by its own terms": (
        Facts(consents=(Given(ms("2026-10-01"), ms("2026-11-01"), True),), delivered_ms=JUST_DELIVERED), "consent_old",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PEOPLE)
def test_a_table_of_people(name: str) -> None:
    facts, wanted = PEOPLE[name]
    found = reasons(facts, RULE, RULE.engaged_months, NOW)
    assert " ".join(one.word for one in found) == wanted
    assert category_of(found).word == (wanted.split() or ["healthy"])[0]


def test_the_months_without_a_word_are_the_askers_choice() -> None:
    facts = Facts(consents=(Given(ms("2026-09-01"), 0, True),), delivered_ms=JUST_DELIVERED)
    assert reasons(facts, RULE, 2, NOW) == [Category.NEVER_ENGAGED]
    assert reasons(facts, RULE, 3, NOW) == []


# --- what holds for anybody ------------------------------------------------------------------------------------------

times = st.integers(ms("2023-01-01"), NOW)
givens = st.builds(Given, at_ms=times, until_ms=st.one_of(st.just(0), times), proven=st.booleans())
people = st.builds(
    Facts,
    reasons=st.frozensets(st.sampled_from(Reason)),
    complained=st.booleans(),
    on_consent=st.booleans(),
    consents=st.lists(givens, max_size=3).map(tuple),
    dead_ms=st.lists(times, max_size=4).map(tuple),
    delivered_ms=st.none() | times,
    first_ms=st.none() | times,
    replied_ms=st.none() | times,
)
months = st.integers(1, 24)


@given(people, months)
def test_a_category_is_the_first_of_the_reasons_and_reasons_are_stored_whole(facts: Facts, n: int) -> None:
    found = reasons(facts, RULE, n, NOW)
    assert found == sorted(set(found))
    assert Category.HEALTHY not in found
    assert category_of(found) is (found[0] if found else Category.HEALTHY)
    assert reasons_of(mask_of(found)) == found


@given(people, months, st.sampled_from([Reason.COMPLAINT, Reason.OPT_OUT]))
def test_who_complained_or_refused_is_never_taken_for_anything_milder(facts: Facts, n: int, why: Reason) -> None:
    found = category_of(reasons(facts._replace(reasons=facts.reasons | {why}), RULE, n, NOW))
    assert found <= (Category.COMPLAINED if why is Reason.COMPLAINT else Category.OPTED_OUT)


@given(people, months, st.integers(0, 10 * 366 * 86_400_000))
def test_time_alone_heals_nothing(facts: Facts, n: int, later_ms: int) -> None:
    assert set(reasons(facts, RULE, n, NOW)) <= set(reasons(facts, RULE, n, NOW + later_ms))


@given(people, months)
def test_a_word_of_theirs_or_fewer_months_never_makes_more_of_them_silent(facts: Facts, n: int) -> None:
    silent = Category.NEVER_ENGAGED in reasons(facts, RULE, n, NOW)
    assert Category.NEVER_ENGAGED not in reasons(facts._replace(replied_ms=NOW), RULE, n, NOW)
    if not silent:
        assert Category.NEVER_ENGAGED not in reasons(facts, RULE, n + 1, NOW)


@given(people, st.permutations(list(range(4))))
def test_the_order_of_receipts_does_not_matter(facts: Facts, order: list[int]) -> None:
    shuffled = tuple(facts.dead_ms[place] for place in order if place < len(facts.dead_ms))
    assert reasons(facts, RULE, 6, NOW) == reasons(facts._replace(dead_ms=shuffled), RULE, 6, NOW)


@pytest.mark.parametrize(
    ("evidence", "enough"),
    [
        (None, False),
        ({}, False),
        ({"source": "an old table"}, False),
        ({"checkbox_checked": True}, False),
        ({"checkbox_checked": True, "form_version": "f-3"}, True),
        ({"checkbox_checked": True, "default_checked": True, "form_version": "f-3"}, False),
        ({"first": {"record": 1}}, False),
        ({"first": {"record": 1}, "second": {"record": 2}}, True),
        ({"question": {"message_id": "m"}, "reply": {"text": "Y"}}, True),
    ],
)
def test_what_a_record_must_show(evidence: Any, enough: bool) -> None:
    assert shows(evidence) is enough


# --- choices ---------------------------------------------------------------------------------------------------------


def test_every_category_has_a_proposal_and_nobody_who_refused_is_asked() -> None:
    assert PROPOSED.keys() == set(Category)
    assert chosen({}) == PROPOSED
    assert chosen({Category.HEALTHY: Choice.REPERMISSION})[Category.HEALTHY] is Choice.REPERMISSION
    for category in NEVER_ASKED:
        with pytest.raises(ValueError, match=category.word):
            chosen({category: Choice.REPERMISSION})


def test_what_is_about_the_number_stops_the_sender_and_what_is_about_permission_its_marketing() -> None:
    scopes = {category.word: suppression_of(category, "acme") for category in Category}
    assert scopes.pop("dead") == ("acme", Reason.DEAD_NUMBER)
    assert {name for name, one in scopes.items() if one == ("acme", Reason.MANUAL)} == {"complained", "recycled_risk"}
    assert set(scopes.values()) == {("acme", Reason.MANUAL), ("acme#marketing", Reason.MANUAL)}


def test_only_suppressions_that_cover_the_list_count() -> None:
    cn = packs.load("cn")
    acme = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
    scopes = plan(cn, acme, "marketing.promotion").scopes
    one = [Suppression(reason=Reason.OPT_OUT, at=1, entry=1)]
    for scope in ("*", "acme", "acme#marketing", "*#marketing", "acme/marketing", "acme/marketing.promotion"):
        assert covering(State(seq=1, suppressions={scope: one}), scopes) == {Reason.OPT_OUT}, scope
    for scope in ("bolt", "acme#transactional", "acme/membership.birthday"):
        assert covering(State(seq=1, suppressions={scope: one}), scopes) == frozenset(), scope
    assert covering(None, scopes) == frozenset()
