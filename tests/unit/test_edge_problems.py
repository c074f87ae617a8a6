"""Problem documents: every code has one, nothing the caller sent is in them, every fault becomes one."""

import json
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.contract.codes import MEANINGS, Code
from gateway.contract.consent import ConsentRequest
from gateway.contract.decision import Refusal
from gateway.contract.message import SendRequest
from gateway.edge import faults
from gateway.edge.problems import Problem, Refused, RefusedItem, body_of, fields, item_of, new_trace, trace_of
from gateway.guard import GuardUnavailable
from gateway.ledger.appender import LedgerUnavailable
from gateway.stream.producer import StreamBusy

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_document(code: Code) -> None:
    status, headers, body = body_of(Refusal(code), TRACE)
    document = Problem.model_validate_json(body)
    assert (document.code, document.status, document.trace) == (code, status, TRACE)
    assert status == MEANINGS[code].status
    head = dict(headers)
    assert head[b"content-type"] == b"application/problem+json"
    assert int(head[b"content-length"]) == len(body)
    assert (b"retry-after" in head) == (status == 503)
    assert (b"www-authenticate" in head) == (status == 401)
    assert RefusedItem.of(Refusal(code)).model_dump(exclude_none=True) == item_of(Refusal(code))


def test_retry_after_is_told_in_both_places() -> None:
    _, headers, body = body_of(Refusal(Code.WINDOW_EXCEEDED, "window: x", 77), TRACE)
    assert dict(headers)[b"retry-after"] == b"77"
    assert json.loads(body)["retry_after"] == 77
    assert item_of(Refusal(Code.WINDOW_EXCEEDED, "", 77))["retry_after"] == 77


SECRET = "s3cr3t-13812345678"
ODD = st.sampled_from([SECRET, 13812345678, [SECRET], {SECRET: SECRET}, 1.5, True, None])


@given(st.dictionaries(st.sampled_from([*SendRequest.model_fields, SECRET]), ODD))
def test_what_is_wrong_is_told_without_what_was_sent(value: dict[str, Any]) -> None:
    for model in (SendRequest, ConsentRequest):
        with pytest.raises(ValidationError) as error:  # each has required fields that ODD never fits
            model.model_validate(value)
        found = fields(error.value)
        assert 1 <= len(found) <= 32
        assert "s3cr3t" not in json.dumps(found)
        assert "13812345678" not in json.dumps(found)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"to": 1}, "to"),
        ({"request": {"ref": 1}}, "request.ref"),
        ({"13812345678": 1}, "?"),
        ({"params": {"x y": 1}}, "params.?"),
    ],
)
def test_the_place_is_told(value: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as error:
        SendRequest.model_validate(value)
    assert place in {one["field"] for one in fields(error.value)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01".encode(), TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-more".encode(), TRACE),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01".encode(), None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01".encode(), None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_a_trace_is_taken_where_it_is_one(given: bytes, expected: str | None) -> None:
    assert trace_of({b"traceparent": given}) == expected
    assert trace_of({}) is None
    assert len(new_trace()) == 32


@pytest.mark.parametrize(
    "fault",
    [GuardUnavailable(""), LedgerUnavailable(""), StreamBusy(), TimeoutError(), ConnectionResetError(),
     asyncpg.AdminShutdownError(""), asyncpg.TooManyConnectionsError(""), asyncpg.InterfaceError(""),
     asyncpg.ReadOnlySQLTransactionError(""), asyncpg.QueryCanceledError("")],
)  # fmt: skip
def test_a_part_that_is_away_is_unavailable(fault: Exception) -> None:
    refused = faults.refused(fault, "x", TRACE)
    assert refused.refusal == Refusal(Code.UNAVAILABLE, "", 1)


@pytest.mark.parametrize("fault", [ValueError(SECRET), asyncpg.UniqueViolationError(SECRET), KeyError(SECRET)])
def test_a_fault_of_ours_is_logged_without_its_words(fault: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise fault
    except type(fault) as raised:
        refused = faults.refused(raised, "messages", TRACE)
    assert refused.refusal.code is Code.INTERNAL
    told = "".join(capfd.readouterr())
    assert type(fault).__name__ in told
    assert TRACE in told
    assert "test_edge_problems.py" in told
    assert SECRET not in told


def test_a_refusal_stays_what_it_is() -> None:
    fault = Refused(Refusal(Code.CONSENT_MISSING))
    assert faults.refused(fault, "x", TRACE) is fault
