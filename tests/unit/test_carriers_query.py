"""When a carrier is asked what became of a message, and how its answer is read."""

import orjson
import pytest

from gateway.carriers.carrier import NeverSeen, QueryFailed, Seen, StillUnknown
from gateway.carriers.query import ASK_AFTER_MS, BELIEVE_AFTER_MS, next_ask, read_answers
from gateway.contract.decision import Cause, Class, Status
from gateway.deliver.query import receipts_of, results_of, settled
from gateway.records.doubts import Doubt

SINCE = 1_800_000_000_000
DOUBT = Doubt("m", Class.MARKETING, SINCE, 2, 3, "answer.lost", "0a" * 16)


def body(*items: object) -> bytes:
    return orjson.dumps({"results": items})


def test_a_message_is_asked_about_four_times_and_an_outage_is_not_made_up_for() -> None:
    asked, now = [], SINCE
    while (due := next_ask(SINCE, now)) is not None:
        asked.append(due - SINCE)
        now = due
    assert asked == [30_000, 300_000, 1_800_000, 10_800_000]
    assert next_ask(SINCE, SINCE - 5_000) == SINCE + 30_000
    assert next_ask(SINCE, SINCE + 299_999) == SINCE + 300_000
    assert next_ask(SINCE, SINCE + 2_000_000) == SINCE + 10_800_000
    assert next_ask(SINCE, SINCE + 10_800_000) is None
    assert BELIEVE_AFTER_MS in ASK_AFTER_MS


def test_answers_come_in_the_order_asked_and_mean_what_receipts_mean() -> None:
    known = read_answers(
        ["a", "b", "c", "d", "e", "f"],
        body(
            {"ref": "f", "status": "NOTFOUND"},
            {"ref": "b", "status": "UNDELIV", "code": "MK:0001", "at": "2026-11-24T03:43:00Z"},
            {"ref": "a", "carrier_id": "00Ab", "status": "DELIVRD", "code": "000"},
            {"ref": "c", "carrier_id": 77, "status": "ACCEPTD", "at": "2026-11-24T03:43:00"},
            {"ref": "d", "status": "UNKNOWN"},
            {"ref": "stranger", "status": "DELIVRD"},
        ),
        "http",
        final=False,
    )
    assert known == [
        Seen(Status.DELIVERED, Cause.NONE, "DELIVRD", "000", "ab"),
        Seen(Status.UNDELIVERED, Cause.DEAD_NUMBER, "UNDELIV", "MK:0001", None, 1_795_491_780_000),
        Seen(Status.SENT, Cause.NONE, "ACCEPTD", "", "77"),
        StillUnknown(),
        StillUnknown(),
        NeverSeen(final=False),
    ]


def test_what_is_contradicted_or_unreadable_says_nothing() -> None:
    answers = read_answers(
        ["a", "b", "c"],
        body(
            {"ref": "a", "status": "DELIVRD"},
            {"ref": "a", "status": "NOTFOUND"},
            {"ref": "b"},
            {"ref": "c", "status": "x" * 65},
            7,
        ),
        "http",
        final=True,
    )
    assert answers == [StillUnknown()] * 3


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"results": {}}', b"<html>"])
def test_a_body_that_cannot_be_read_is_a_failed_query(raw: bytes) -> None:
    with pytest.raises(QueryFailed, match=r"answer\.malformed"):
        read_answers(["a"], raw, "http", final=False)


def test_never_seen_counts_only_where_the_profile_says_so_and_time_has_passed() -> None:
    half_an_hour = SINCE + BELIEVE_AFTER_MS
    assert not settled(DOUBT, NeverSeen(), half_an_hour)
    assert not settled(DOUBT, NeverSeen(final=True), half_an_hour - 1)
    assert settled(DOUBT, NeverSeen(final=True), half_an_hour)
    for answer, now, missing in (
        (NeverSeen(), half_an_hour, "unseen"),
        (NeverSeen(final=True), SINCE + 30_000, "unseen"),
        (NeverSeen(final=True), half_an_hour, "never"),
    ):
        (receipt,) = receipts_of("http", DOUBT, answer, now)
        assert (receipt.status, receipt.missing, receipt.ref) == (Status.UNKNOWN, missing, "m")
        assert results_of("http", DOUBT, answer) == []


def test_what_the_carrier_has_is_a_receipt_and_where_it_gives_its_id_a_submit() -> None:
    seen = Seen(Status.DELIVERED, Cause.NONE, "DELIVRD", "000", "ab", SINCE + 9)
    (result,), (receipt,) = results_of("http", DOUBT, seen), receipts_of("http", DOUBT, seen, SINCE + 30_000)
    assert (result.outcome, result.attempt, result.carrier_id, result.parts, result.at) == (
        "submitted",
        2,
        "ab",
        3,
        SINCE,
    )
    assert (receipt.status, receipt.at, receipt.received_at, receipt.missing) == (
        Status.DELIVERED,
        SINCE + 9,
        SINCE + 30_000,
        None,
    )
    assert results_of("http", DOUBT, Seen(Status.DELIVERED, Cause.NONE, "DELIVRD")) == []
    assert results_of("http", DOUBT, Seen(Status.REJECTED, Cause.CONTENT, "REJECTD", "KEYWORD", "ab")) == []
    assert receipts_of("http", DOUBT, StillUnknown(), SINCE) == []
