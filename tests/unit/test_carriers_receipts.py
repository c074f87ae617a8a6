"""What carriers' words mean: every row of the tables, and everything a carrier may write instead."""

import pytest
from pydantic import ValidationError

from gateway.carriers.receipts import CAUSES, STATUSES, ReceiptsIn, RepliesIn, fold_id, known_cause, meaning, normalise
from gateway.contract.decision import Cause, Status


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("ENROUTE", Status.SENT),
        ("ACCEPTD", Status.SENT),
        ("DELIVRD", Status.DELIVERED),
        ("EXPIRED", Status.EXPIRED),
        ("UNDELIV", Status.UNDELIVERED),
        ("DELETED", Status.UNDELIVERED),
        ("REJECTD", Status.REJECTED),
        ("UNKNOWN", Status.UNKNOWN),
        ("delivrd", Status.DELIVERED),
        ("gibberish", Status.UNKNOWN),
        ("", Status.UNKNOWN),
        ("0", Status.UNKNOWN),
    ],
)
def test_status_words(word: str, status: Status) -> None:
    assert meaning("http", word, "")[0] is status


@pytest.mark.parametrize(
    ("connector", "code", "cause"),
    [
        ("http", "MK:0001", Cause.DEAD_NUMBER),
        ("cmpp", "CB:0053", Cause.DEAD_NUMBER),
        ("http", "MK:0005", Cause.SUSPENDED),
        ("http", "MK:0010", Cause.TRANSIENT),
        ("http", "BLACK", Cause.CARRIER_OPT_OUT),
        ("http", "black", Cause.CARRIER_OPT_OUT),
        ("http", "BEYONDN", Cause.FREQUENCY),
        ("http", "SIGFAIL", Cause.CONTENT),
        ("http", "MB:1048", Cause.PORTED),
        ("sgip", "29", Cause.DEAD_NUMBER),
        ("sgip", "26", Cause.TRANSIENT),
        ("twilio", "30005", Cause.DEAD_NUMBER),
        ("tencent", "1025", Cause.FREQUENCY),
        ("tencent", "1029", Cause.QUIET_HOURS),
        ("http", "30005", Cause.OTHER),  # a vendor's number means nothing elsewhere
        ("smpp", "29", Cause.OTHER),
        ("http", "", Cause.OTHER),
        ("http", "000", Cause.OTHER),
    ],
)
def test_causes_are_keyed_by_connector_and_code(connector: str, code: str, cause: Cause) -> None:
    assert meaning(connector, "UNDELIV", code) == (Status.UNDELIVERED, cause)


def test_a_network_code_in_the_place_of_the_status_word() -> None:
    assert meaning("cmpp", "MK:0001", "") == (Status.UNDELIVERED, Cause.DEAD_NUMBER)
    assert meaning("cmpp", "MK:0001", "000") == (Status.UNDELIVERED, Cause.DEAD_NUMBER)


def test_no_cause_where_nothing_failed() -> None:
    assert meaning("http", "DELIVRD", "MK:0001") == (Status.DELIVERED, Cause.NONE)
    assert meaning("http", "EXPIRED", "") == (Status.EXPIRED, Cause.TRANSIENT)


def test_the_tables_are_upper_case_and_every_cause_is_met() -> None:
    causes = {cause for rows in CAUSES.values() for cause in rows.values()}
    assert causes == set(Cause) - {Cause.OTHER}
    assert all(word == word.upper() for word in STATUSES)
    assert all(code == code.upper() for rows in CAUSES.values() for code in rows)
    assert known_cause("smpp", "0X58") is known_cause("smpp", "88") is Cause.FLOW


@pytest.mark.parametrize(
    ("given", "folded"),
    [
        ("00AbC", "abc"),
        ("abc", "abc"),
        ("0", "0"),
        ("000", "0"),
        ("0191E7F0-0000-7000-8000-00000000000A", "191e7f0-0000-7000-8000-00000000000a"),
        ("aB3xYz", "aB3xYz"),
        ("00msg-1", "00msg-1"),
    ],
)
def test_ids_that_are_numerals_match_however_written(given: str, folded: str) -> None:
    assert fold_id(given) == folded


def test_normalise_keeps_the_raw_words_and_the_order() -> None:
    body = ReceiptsIn.model_validate_json(
        b"""{"receipts": [
        {"carrier_id": "00FF", "ref": "r1", "status": "delivrd", "code": 0, "at": "2026-11-24T10:00:00+08:00", "x": 1},
        {"carrier_id": 17, "status": "UNDELIV", "code": "MK:0001", "at": 1795485600},
        {"carrier_id": "zz", "status": "SOMETHING", "at": "2026-11-24T10:00:00", "part": 2}]}"""
    )
    first, second, third = normalise("http", body, 1_000)
    assert (first.carrier_id, first.given_id, first.ref) == ("ff", "00FF", "r1")
    assert (first.status, first.raw_status, first.raw_code, first.at) == (
        Status.DELIVERED, "delivrd", "0", 1_795_485_600_000,
    )  # fmt: skip
    assert (second.carrier_id, second.given_id, second.cause, second.at) == (
        "17", None, Cause.DEAD_NUMBER, 1_795_485_600_000,
    )  # fmt: skip
    assert (third.status, third.cause, third.at, third.part) == (Status.UNKNOWN, Cause.NONE, 1_000, 2)
    assert {receipt.received_at for receipt in (first, second, third)} == {1_000}


def test_a_carrier_may_use_another_connectors_table() -> None:
    body = ReceiptsIn.model_validate({"receipts": [{"carrier_id": "1", "status": "UNDELIV", "code": "29"}]})
    assert normalise("east", body, 0)[0].cause is Cause.OTHER
    assert normalise("east", body, 0, connector="sgip")[0].cause is Cause.DEAD_NUMBER


@pytest.mark.parametrize(
    "body", ["{}", '{"receipts": []}', '{"receipts": [{"status": "DELIVRD"}]}', '{"receipts": {}}', "[]", "nonsense"]
)
def test_what_names_no_message_is_not_a_receipt(body: str) -> None:
    with pytest.raises(ValidationError):
        ReceiptsIn.model_validate_json(body)


def test_replies() -> None:
    body = RepliesIn.model_validate_json('{"replies": [{"id": 7, "from": "13800000000", "to": 1069, "text": "TD"}]}')
    reply = body.replies[0]
    assert (reply.id, reply.sender, reply.port, reply.text, reply.at) == ("7", "13800000000", "1069", "TD", None)


ODD = ["24/11/2026 10:00", "99999999999999999999", [], {}, True, "", "0000-00-00 00:00:00"]


@pytest.mark.parametrize("odd", ODD)
def test_what_can_be_done_without_costs_no_refusal_where_it_cannot_be_read(odd: object) -> None:
    one = {"from": "13800000000", "to": "10690002", "text": "T", "at": odd, "id": odd if isinstance(odd, list) else "7"}
    (reply,) = RepliesIn.model_validate({"replies": [one]}).replies
    assert reply.text == "T"
    assert reply.id == (None if isinstance(odd, list) else "7")


def test_a_long_text_or_id_costs_no_refusal() -> None:
    one = {"from": "13800000000", "to": "10690002", "text": "别再发了。" + "x" * 9_000, "id": "i" * 129}
    (reply,) = RepliesIn.model_validate({"replies": [one]}).replies
    assert (reply.text[:5], len(reply.text), reply.id) == ("别再发了。", 4_000, None)


@pytest.mark.parametrize("odd", ODD)
def test_what_can_be_done_without_costs_no_receipt(odd: object) -> None:
    one = {"carrier_id": "1", "status": "DELIVRD", "at": odd, "part": "one of two", "ref": "r" * 65, "code": None}
    (receipt,) = normalise("http", ReceiptsIn.model_validate({"receipts": [one]}), 1_000)
    assert (receipt.status, receipt.ref, receipt.part, receipt.raw_code) == (Status.DELIVERED, None, None, "")


def test_a_carriers_long_words_are_cut_and_known_ones_known() -> None:
    long = {"carrier_id": "1", "status": " UNDELIV ", "code": "the handset was not reached in time " * 3}
    (receipt,) = normalise("http", ReceiptsIn.model_validate({"receipts": [long]}), 1_000)
    assert (receipt.status, receipt.cause, len(receipt.raw_code)) == (Status.UNDELIVERED, Cause.OTHER, 64)
    wordy = {"carrier_id": "1", "status": "message was delivered to the handset of the subscriber, finally, at night"}
    assert normalise("http", ReceiptsIn.model_validate({"receipts": [wordy]}), 1_000)[0].status is Status.UNKNOWN


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z"])
def test_a_time_that_was_never_set_is_the_time_of_receipt(at: str) -> None:
    """Settlement has no row for such a time: the report would be a dead letter."""
    one = {"carrier_id": "1", "status": "DELIVRD", "at": at}
    assert normalise("http", ReceiptsIn.model_validate({"receipts": [one]}), 1_000)[0].at == 1_000
