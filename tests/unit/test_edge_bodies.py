"""Bodies: whatever bytes come in, a value or a refusal; a batch's items each as if alone; limits while reading."""

import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.contract.codes import Code
from gateway.contract.message import SendRequest
from gateway.edge import bodies
from gateway.edge.deadlines import Deadlines
from gateway.edge.problems import Refused

REQUESTS = TypeAdapter(list[SendRequest])
GOOD = {"to": "+8613800000000", "sender": "acme", "purpose": "transaction.shipping", "text": "hi"}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_refusal(body: bytes) -> None:
    assert outcome(body) in ("value", Code.REQUEST_INVALID)


def outcome(body: bytes) -> str:
    """`value`, or the code of the refusal, whose words hold nothing of the body."""
    try:
        bodies.parse(body)
    except Refused as refused:
        return refused.refusal.code if refused.refusal.detail in DETAILS else "quoted"
    return "value"


DETAILS = ("the body is not valid JSON in UTF-8", "a key appears twice in one object")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_json_writes_is_read_back(value: Any) -> None:
    assert bodies.parse(json.dumps(value).encode()) == value
    assert bodies.parse(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == value


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'[{"b":{"a":1,"a":1}}]'])
def test_a_repeated_key_is_refused_without_naming_it(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        bodies.parse(body)
    assert refused.value.refusal.detail == "a key appears twice in one object"


@given(st.lists(st.just(GOOD) | VALUES, min_size=1, max_size=6))
def test_each_item_is_decided_as_if_alone(items: list[Any]) -> None:
    body = json.dumps(items).encode()
    together = bodies.each(REQUESTS, SendRequest, items, body)
    alone = [bodies.each(REQUESTS, SendRequest, [item], json.dumps(item).encode())[0] for item in items]
    assert together == alone


def test_a_nul_is_one_items_fault_only() -> None:
    items = [GOOD, GOOD | {"text": "a\0b"}, GOOD | {"client_ref": "x"}]
    found = bodies.each(REQUESTS, SendRequest, items, json.dumps(items).encode())
    assert [isinstance(item, SendRequest) for item in found] == [True, False, True]


@pytest.mark.parametrize(
    "value", [[], 1, {}, {"items": []}, {"items": [1] * 1001}, {"items": [1], "x": 1}, {"items": 1}]
)
def test_a_batch_is_one_object_with_its_list(value: Any) -> None:
    with pytest.raises(Refused):
        bodies.batch(value, "items")


def test_a_batch_of_the_most_items() -> None:
    assert len(bodies.batch({"items": [1] * 1000}, "items")) == 1000


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({b"content-length": b"10"}, 10),
        ({b"content-length": b"100"}, 100),
        ({b"transfer-encoding": b"chunked"}, 100),
    ],
)
def test_the_bytes_to_expect(headers: dict[bytes, bytes], expected: int) -> None:
    assert bodies.declared(headers, 100) == expected


@pytest.mark.parametrize("length", [b"101", b"9" * 40, b"-1", b"ten", b"\xb2"])
def test_a_length_over_the_limit_or_none(length: bytes) -> None:
    with pytest.raises(Refused) as refused:
        bodies.declared({b"content-length": length}, 100)
    assert refused.value.refusal.code is Code.REQUEST_TOO_LARGE


class Stream:
    """What a server hands over, message by message; counts how much of it was taken."""

    def __init__(self, *parts: bytes, leaves: bool = False) -> None:
        self.messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if leaves:
            self.messages.append({"type": "http.disconnect"})
        else:
            self.messages[-1]["more_body"] = False
        self.taken = 0

    async def __call__(self) -> MutableMapping[str, Any]:
        self.taken += 1
        return self.messages[self.taken - 1]


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=6))
async def test_a_body_is_read_whole_or_not_past_its_limit(parts: list[bytes]) -> None:
    stream = Stream(*parts)
    whole = b"".join(parts)
    if len(whole) <= 50:
        assert await bodies.timely(stream, 50, Deadlines()) == whole
    else:
        with pytest.raises(Refused):
            await bodies.timely(stream, 50, Deadlines())
        assert sum(len(part) for part in parts[: stream.taken - 1]) <= 50


@pytest.mark.parametrize("parts", [(), (b"a",), (b"a", b"b")])
async def test_a_caller_that_leaves(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(bodies.Disconnected):
        await bodies.timely(Stream(*parts, leaves=True), 50, Deadlines())
