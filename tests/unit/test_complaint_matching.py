"""Which message a complaint is about: text before time, and a person where neither says it."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.complaint import Matching
from gateway.rules.matching import APART_MS, REACH_MS, SKEW_MS, TIMES, Candidate, Match, match, similarity

NOW = 1_764_000_000_000
HOUR, DAY = 3_600_000, 86_400_000
SALE = "【Acme】双十一全场五折，满300减50，会员专享，点此查看。拒收请回复R"
BIRTHDAY = "【Acme】张女士，祝您生日快乐，到店领取蛋糕一份。拒收请回复R"
PORT, OTHER = "10690002", "10690001"


def sent(name: str, ago: int = HOUR, text: str | None = None, port: str = PORT, origin: int = 1) -> Candidate:
    return Candidate(name, origin, port, "acme", name, NOW - ago, text)


@dataclass
class Case:
    said: str
    candidates: list[Candidate]
    verdict: Matching
    best: str | None = None
    port: str | None = PORT


CASES = {
    "nobody we wrote to": Case("骚扰短信", [], Matching.UNMATCHED),
    "one message from the port": Case("骚扰短信", [sent("a")], Matching.MATCHED, "a"),
    "only another port's": Case(SALE, [sent("a", text=SALE, port=OTHER)], Matching.UNMATCHED),
    "the port with a carrier's digits": Case("", [sent("a")], Matching.MATCHED, "a", PORT + "88"),
    "a shorter port is another one": Case("", [sent("a")], Matching.UNMATCHED, None, PORT[:-1]),
    "two campaigns, the words tell": Case(
        "收到广告：" + SALE, [sent("b", HOUR, BIRTHDAY), sent("a", 3 * DAY, SALE)], Matching.MATCHED, "a"
    ),
    "a part of the words is enough": Case(
        "双十一全场五折，满３００减５０", [sent("b", HOUR, BIRTHDAY), sent("a", 3 * DAY, SALE)], Matching.MATCHED, "a"
    ),
    "two campaigns, no words, hours apart": Case(
        "骚扰", [sent("b", HOUR, BIRTHDAY), sent("a", 5 * HOUR, SALE)], Matching.AMBIGUOUS, "b"
    ),
    "two campaigns, no words, days apart": Case(
        "骚扰", [sent("b", HOUR, BIRTHDAY), sent("a", 3 * DAY, SALE)], Matching.MATCHED, "b"
    ),
    "near duplicates, hours apart": Case(
        SALE,
        [sent("b", HOUR, SALE.replace("300", "400")), sent("a", 6 * HOUR, SALE)],
        Matching.AMBIGUOUS,
        "b",
    ),
    "near duplicates, a week apart": Case(
        SALE, [sent("b", HOUR, SALE.replace("300", "400")), sent("a", 7 * DAY, SALE)], Matching.MATCHED, "b"
    ),
    "no port and no words": Case("别发了", [sent("a", text=SALE)], Matching.AMBIGUOUS, "a", None),
    "no port but the words": Case(SALE, [sent("a", text=SALE)], Matching.MATCHED, "a", None),
    "the text is not kept any more": Case(SALE, [sent("a")], Matching.MATCHED, "a"),
    "sent a little after, by their clock": Case("", [sent("a", -SKEW_MS // 2)], Matching.MATCHED, "a"),
    "sent well after": Case("", [sent("a", -2 * SKEW_MS)], Matching.UNMATCHED),
    "too long ago": Case(SALE, [sent("a", REACH_MS + 1, SALE)], Matching.UNMATCHED),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cases(case: Case) -> None:
    found = match(case.port, NOW, case.said, case.candidates)
    assert (found.verdict, found.best and found.best.id) == (case.verdict, case.best)


TEXTS = st.sampled_from([None, SALE, BIRTHDAY, SALE.replace("五折", "六折"), "【Acme】您的订单已发货"])
MESSAGES = st.lists(
    st.builds(
        Candidate,
        id=st.uuids().map(str),
        origin=st.integers(1, 3),
        port=st.sampled_from([PORT, OTHER]),
        sender=st.just("acme"),
        campaign=st.none(),
        sent_ms=st.integers(NOW - REACH_MS - DAY, NOW + 3 * SKEW_MS),
        text=TEXTS,
    ),
    max_size=8,
    unique_by=lambda one: one.id,
)


def consistent(found: Match, port: str | None) -> None:
    """What holds of every answer."""
    assert (found.best is None) == (found.verdict is Matching.UNMATCHED) == (not found.plausible)
    if found.best is not None:
        assert found.best in found.plausible
    assert (len(found.plausible) == 1) or found.verdict is not Matching.MATCHED
    for one in found.plausible:
        assert port is None or port.startswith(one.port)
        assert -SKEW_MS <= NOW - one.sent_ms <= REACH_MS


@given(MESSAGES, st.sampled_from([PORT, OTHER, PORT + "77", None]), st.sampled_from([SALE, "骚扰", "", BIRTHDAY[:12]]))
def test_a_match_is_sure_and_in_no_order(messages: list[Candidate], port: str | None, said: str) -> None:
    found = match(port, NOW, said, messages)
    consistent(found, port)
    assert match(port, NOW, said, messages[::-1]) == found
    if found.verdict is Matching.MATCHED and found.best is not None:
        quoting = similarity(said, found.best.text or "")
        rivals = [
            one
            for one in messages
            if one != found.best
            and (port is None or port.startswith(one.port))
            and -SKEW_MS <= NOW - one.sent_ms <= REACH_MS
            and similarity(said, one.text or "") >= quoting
        ]
        nearest = abs(NOW - found.best.sent_ms)
        for rival in rivals:  # whoever says it as well lies far away
            away = abs(NOW - rival.sent_ms)
            assert away - nearest >= APART_MS
            assert away >= TIMES * nearest


@given(st.text(max_size=80), st.text(max_size=80))
def test_likeness_is_between_nothing_and_all_and_of_both(one: str, other: str) -> None:
    assert 0.0 <= similarity(one, other) <= 1.0
    assert similarity(one, other) == similarity(other, one)


def test_likeness_does_not_see_width_case_or_spaces() -> None:
    assert similarity("ＤＯＵＢＬＥ eleven 五折 five off", "double ELEVEN五折　five off") == 1.0
    assert similarity("骚扰", SALE) == 0.0
