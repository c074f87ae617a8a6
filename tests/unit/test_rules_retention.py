"""What outlasts a demand for erasure: a table of people, and how months are counted."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.contract.consent import Consent, EventKind, Relationship, State
from gateway.rules import pack as packs
from gateway.rules import retention
from gateway.rules.pack import Pack
from gateway.rules.retention import Act, due_ms, end_ms, in_force, owed, restricted_at, returned

SHANGHAI = ZoneInfo("Asia/Shanghai")


def ms(written: str) -> int:
    return int(datetime.fromisoformat(written).replace(tzinfo=SHANGHAI).timestamp() * 1000)


NOW = ms("2026-11-25T18:00")


@pytest.fixture(scope="module")
def cn() -> Pack:
    return packs.load("cn")


def acts(*told: tuple[EventKind, str] | tuple[EventKind, str, dict[str, Any]]) -> list[Act]:
    return [Act(n, one[0], ms(one[1]), one[2] if len(one) > 2 else {}) for n, one in enumerate(told, 1)]  # type: ignore[misc]


def consents(until: str | None = None) -> State:
    return State(seq=1, consents={"acme/marketing": Consent(at=1, until=ms(until) // 1000 if until else 0, entry=1)})


def related(expires: str | None = None) -> State:
    end = ms(expires) // 1000 if expires else 0
    return State(seq=1, relationships={"acme/order": Relationship(at=1, expires=end, entry=1)})


G, W, R, S = EventKind.GRANT, EventKind.WITHDRAWAL, EventKind.RELATIONSHIP, EventKind.SUPPRESSION
U, X, E, A = EventKind.UNSUPPRESSION, EventKind.RESTRICTION, EventKind.ERASURE, EventKind.ACCESS
P = EventKind.PREFERENCES
OPTED, MANUAL = {"reason": "opt_out"}, {"reason": "manual"}
ENDED = {"expires_at": ms("2026-10-01T00:00") // 1000}
LONG_AGO, LAST_DAY, DAY_BEFORE = "2025-01-01T00:00", "2026-06-25T08:00", "2026-06-24T23:59"

# who: their acts, what stands, the last message, and until when consent and sending records are kept.
PEOPLE: dict[str, tuple[list[Act], State | None, str | None, str | None, str | None]] = {
    "nobody": ([], None, None, None, None),
    "a message yesterday": ([], None, "2026-11-24T09:00", None, "2027-04-25T00:00"),
    "a message on the last day that counts": ([], None, LAST_DAY, None, "2026-11-26T00:00"),
    "a message the day before that": ([], None, DAY_BEFORE, None, None),
    "a standing consent": (acts((G, LONG_AGO)), consents(), None, "2027-04-26T00:00", None),
    "a consent that ends later": (acts((G, LONG_AGO)), consents("2028-01-01T00:00"), None, "2027-04-26T00:00", None),
    "a consent that expired": (acts((G, LONG_AGO)), consents("2026-09-30T10:00"), None, "2027-03-01T00:00", None),
    "a consent that expired long ago": (acts((G, LONG_AGO)), consents("2025-06-01T00:00"), None, None, None),
    "a standing relationship": (acts((R, LONG_AGO)), related(), None, "2027-04-26T00:00", None),
    "an order long over": (acts((R, LONG_AGO)), related("2026-01-01T00:00"), None, None, None),
    "a membership that was ended": (acts((R, LONG_AGO), (R, "2026-10-01T00:00", ENDED)), None, None,
                                    "2027-03-02T00:00", None),
    "withdrawn a month ago": (acts((G, LONG_AGO), (W, "2026-10-25T12:00")), None, None, "2027-03-26T00:00", None),
    "withdrawn long ago": (acts((G, LONG_AGO), (W, "2025-02-01T00:00")), None, None, None, None),
    "opted out by a suppression": (acts((S, "2026-11-01T12:00", OPTED)), None, None, "2027-04-02T00:00", None),
    "suppressed by hand": (acts((S, "2026-11-01T12:00", MANUAL), (U, "2026-11-02T12:00", MANUAL)), None, None, None,
                           None),
    "looked at, with preferences": (acts((P, "2026-11-01T12:00"), (A, "2026-11-20T12:00")), None, None, None, None),
    "erased": (acts((E, "2026-11-01T12:00")), State(seq=1, erased_at_ms=1), None, None, None),
    "restricted": (acts((G, LONG_AGO), (X, "2026-10-25T12:00")), None, None, "2027-03-26T00:00", None),
    "restricted, and refuses again": (acts((G, LONG_AGO), (X, "2026-10-25T12:00"), (W, "2026-11-20T12:00"),
                                           (X, "2026-11-21T12:00")), None, None, "2027-03-26T00:00", None),
    "restricted, came back and left": (acts((X, "2026-07-25T12:00"), (G, "2026-10-01T12:00"),
                                            (W, "2026-11-20T12:00")), None, None, "2027-04-21T00:00", None),
    "restricted, then asked for a code": (acts((G, LONG_AGO), (X, "2026-07-25T12:00")), None, "2026-11-20T12:00",
                                          "2026-12-26T00:00", "2027-04-21T00:00"),
}  # fmt: skip


@pytest.mark.parametrize("who", PEOPLE)
def test_what_is_kept_and_until_when(who: str, cn: Pack) -> None:
    told, state, sent, consent_until, send_until = PEOPLE[who]
    last = None if sent is None else ms(sent)
    kept = owed(cn.retention, told, state, last, NOW)
    found = {one.rule.what: one.until_ms for one in kept}
    assert found.pop("refusals") is None
    expected = {"consent_records": consent_until, "send_records": send_until}
    assert found == {what: ms(until) for what, until in expected.items() if until is not None}
    assert due_ms(kept) == max(found.values(), default=None)
    for one in kept:
        assert one.rule.source.kind == "law"


@pytest.mark.parametrize(
    ("begins", "end"),
    [
        ("2026-11-25T00:00", "2027-04-26T00:00"),
        ("2026-11-25T23:59", "2027-04-26T00:00"),
        ("2026-07-15T12:00", "2026-12-16T00:00"),
        ("2026-07-31T12:00", "2027-01-01T00:00"),
        ("2026-08-31T12:00", "2027-02-01T00:00"),
        ("2026-09-29T12:00", "2027-03-01T00:00"),
        ("2026-09-30T12:00", "2027-03-01T00:00"),
        ("2027-09-30T12:00", "2028-03-01T00:00"),
        ("2026-10-31T12:00", "2027-04-01T00:00"),
        ("2027-01-31T12:00", "2027-07-01T00:00"),
    ],
)
def test_months_end_on_the_day_of_the_same_number_or_the_months_last(begins: str, end: str) -> None:
    assert end_ms(ms(begins), 5, SHANGHAI) == ms(end)


def test_a_day_is_the_zones_and_not_utcs() -> None:
    late = int(datetime.fromisoformat("2026-11-25T17:00+00:00").timestamp() * 1000)
    assert end_ms(late, 5, SHANGHAI) == ms("2027-04-27T00:00")
    assert end_ms(late, 12, SHANGHAI) == ms("2027-11-27T00:00")


def test_who_comes_back_and_who_does_not() -> None:
    told = acts((G, LONG_AGO), (X, "2026-10-25T12:00"), (W, "2026-10-26T12:00"), (A, "2026-10-27T12:00"))
    assert restricted_at(told) == 2
    assert not returned(told, 1)
    assert returned([*told, Act(5, G, NOW, {})], 1)
    assert returned([*told, Act(5, R, NOW, {"expires_at": 0})], 1)
    assert returned([*told, Act(5, R, NOW, {"expires_at": NOW // 1000 + 1})], 1)
    assert not returned([*told, Act(5, R, NOW, {"expires_at": NOW // 1000})], 1)
    assert restricted_at([]) == 0


def test_what_stands() -> None:
    assert not retention.stands(None, NOW)
    assert not retention.stands(consents("2026-11-25T18:00"), NOW)
    assert retention.stands(consents("2026-11-25T18:01"), NOW)
    assert retention.stands(related(), NOW)


def test_rules_come_from_the_packs_that_senders_are_under(cn: Pack) -> None:
    def whats(used: Sequence[str]) -> list[str]:
        return [rule.what for rule in in_force({"cn": cn, "other": cn}, used)]

    assert whats(["cn", "cn", "gone"]) == ["consent_records", "send_records", "refusals"]
    assert len(whats(())) == 6
