"""How the generic HTTP carrier's answers are read; its faults on the wire are in tests/integration."""

from datetime import UTC, datetime

import pytest

from gateway.carriers.carrier import Doubtful, Rejected, Retry, Submit, Submitted, Taken
from gateway.carriers.http import read_results, read_retry_after, read_status
from gateway.contract.decision import Cause

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
TWO = [Submit("a", "+1", "1", "x"), Submit("b", "+1", "1", "x")]


@pytest.mark.parametrize(
    ("item", "answer"),
    [
        ('{"ref": "a", "carrier_id": "X9z", "code": "0"}', Taken("X9z")),
        ('{"ref": "a", "carrier_id": "00FF", "code": "0"}', Taken("ff")),
        ('{"ref": "a", "carrier_id": 17, "code": 0}', Taken("17")),
        ('{"ref": "a", "carrier_id": "", "code": "0"}', Doubtful("answer.no_id")),
        ('{"ref": "a", "code": "0"}', Doubtful("answer.no_id")),
        ('{"ref": "a", "carrier_id": "x"}', Doubtful("answer.malformed")),
        ('{"ref": "a", "carrier_id": "x", "code": null}', Doubtful("answer.malformed")),
        ('{"ref": "a", "carrier_id": "x", "code": true}', Doubtful("answer.malformed")),
        ('{"ref": "a", "carrier_id": "x", "code": {}}', Doubtful("answer.malformed")),
        ('{"ref": "a", "carrier_id": "x", "code": ""}', Doubtful("answer.malformed")),
        ('{"ref": "a", "carrier_id": "x", "code": "KEYWORD"}', Rejected("KEYWORD", Cause.CONTENT)),
        ('{"ref": "a", "carrier_id": "x", "code": "black"}', Rejected("black", Cause.CARRIER_OPT_OUT)),
        ('{"ref": "a", "carrier_id": "x", "code": "9999"}', Rejected("9999", Cause.OTHER)),
        ('{"ref": "a", "carrier_id": "x", "code": "OK"}', Rejected("OK", Cause.OTHER)),
        ('{"ref": "a", "carrier_id": "x", "code": "THROTTLED"}', Retry("THROTTLED", Cause.FLOW)),
        ('{"ref": "a", "carrier_id": "x", "code": "MK:0010"}', Retry("MK:0010", Cause.TRANSIENT)),
        ('{"ref": "a", "carrier_id": "x", "code": "LIMIT"}', Retry("LIMIT", Cause.FREQUENCY)),
        ('{"ref": 1, "carrier_id": "x", "code": "0"}', Doubtful("answer.missing")),
        ('{"ref": "z", "carrier_id": "x", "code": "0"}', Doubtful("answer.missing")),
        ('"a"', Doubtful("answer.missing")),
    ],
)
def test_one_item(item: str, answer: Submitted) -> None:
    first, second = read_results(TWO, b'{"results": [%s]}' % item.encode(), "http")
    assert first == answer
    assert second == Doubtful("answer.missing")


def test_items_are_matched_by_ref_not_by_place() -> None:
    body = b'{"results": [{"ref":"b","carrier_id":"2x","code":"0"},{"ref":"a","carrier_id":"1x","code":"0"}]}'
    assert read_results(TWO, body, "http") == [Taken("1x"), Taken("2x")]


def test_a_contradiction_is_doubtful_and_a_repetition_is_not() -> None:
    taken, refused = '{"ref":"a","carrier_id":"1x","code":"0"}', '{"ref":"a","carrier_id":"1x","code":"BLACK"}'
    body = f'{{"results": [{taken},{taken},{refused.replace("a", "b", 1)},{taken.replace("a", "b", 1)}]}}'.encode()
    assert read_results(TWO, body, "http") == [Taken("1x"), Doubtful("answer.contradicted")]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"results": {}}', b'{"results": null}', b"\xff\xfe", b"<html>"]
)
def test_what_cannot_be_read_is_doubtful(body: bytes) -> None:
    assert read_results(TWO, body, "http") == [Doubtful("answer.malformed")] * 2


@pytest.mark.parametrize(
    ("status", "after_s", "answer"),
    [
        (400, None, Rejected("http 400", Cause.OTHER)),
        (413, None, Rejected("http 413", Cause.OTHER)),
        (422, None, Rejected("http 422", Cause.OTHER)),
        (301, None, Retry("http 301", Cause.FLOW)),
        (401, None, Retry("http 401", Cause.FLOW)),
        (404, None, Retry("http 404", Cause.FLOW)),
        (429, None, Retry("http 429", Cause.FLOW)),
        (429, 7.0, Retry("http 429", Cause.FLOW, 7.0)),
        (503, 2.0, Retry("http 503", Cause.FLOW, 2.0)),
        (503, None, Doubtful("http 503")),
        (500, 2.0, Doubtful("http 500")),
        (502, None, Doubtful("http 502")),
        (504, None, Doubtful("http 504")),
        (202, None, Doubtful("http 202")),
        (204, None, Doubtful("http 204")),
    ],
)
def test_other_statuses(status: int, after_s: float | None, answer: Submitted) -> None:
    assert read_status(status, after_s) == answer


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        ("0", 0.0),
        ("99999", 3600.0),
        ("Tue, 24 Nov 2026 10:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert read_retry_after(value, NOW) == seconds
