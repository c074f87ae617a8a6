"""Records to bytes and back, and what an undecodable record says about itself."""

from typing import Any

import orjson
import pytest

from gateway.contract.decision import Basis, Class, Status
from gateway.contract.wire import Accepted, Receipt, Result
from gateway.stream.codec import (
    AcceptedFields,
    Undecodable,
    accepted_bytes,
    accepted_head,
    decode,
    encode,
    encode_fields,
)

COMMON: dict[str, Any] = {
    "client": "demo",
    "sender": "acme",
    "purpose": "transaction.shipping",
    "cls": Class.TRANSACTIONAL,
    "port": "10690001",
    "pack": "cn@2026.11",
}
FIELDS: AcceptedFields = {
    "id": "01930000-0000-7000-8000-00000000000a",
    "subject": "ab" * 16,
    "to": "+8613800138000",
    "text": "【Acme】您的订单已发出",
    "parts": 1,
    "basis": Basis.RELATIONSHIP,
    "accepted_at": 1,
    "expires_at": 2,
    "long_windows": [("year/acme", 5)],
}


def test_the_fast_path_writes_what_the_model_would() -> None:
    model = Accepted.model_validate({**COMMON, **FIELDS})
    written = accepted_bytes(accepted_head(**COMMON), FIELDS)
    assert decode(Accepted, written) == model == decode(Accepted, encode(model))
    assert orjson.loads(written) == orjson.loads(encode(model))


def test_the_fast_path_knows_every_field_of_the_model() -> None:
    assert AcceptedFields.__annotations__.keys() | COMMON.keys() | {"v", "attempt"} == Accepted.model_fields.keys()
    required = {name for name, info in Accepted.model_fields.items() if info.is_required()}
    assert AcceptedFields.__required_keys__ | COMMON.keys() == required


def test_fields_as_a_dict_are_a_record() -> None:
    fields = {"id": "x", "attempt": 1, "cls": Class.MARKETING, "carrier": "c", "outcome": "submitted", "at": 3}
    assert decode(Result, encode_fields(fields)) == Result.model_validate(fields)


def test_unknown_fields_are_ignored_and_absent_ones_are_left_out() -> None:
    receipt = Receipt(carrier="c", carrier_id="1", status=Status.DELIVERED, raw_status="DELIVRD", at=1, received_at=2)
    raw = orjson.loads(encode(receipt))
    assert "ref" not in raw
    assert decode(Receipt, orjson.dumps(raw | {"later": 1})) == receipt


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b'{"v":1}', b'{"v":2,"text":"secret +8613800138000"}', b"\xff\xfe"]
)
def test_what_does_not_fit_says_only_its_model(value: bytes | None) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(Accepted, value)
    assert str(caught.value) == "Accepted"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
