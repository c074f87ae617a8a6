"""Carriers' callbacks: durable before they are acknowledged; refusals in force before they are acknowledged."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from edge_app import PEPPER, Running, running
from guard_asks import a_plan, an_ask

from gateway.carriers.receipts import ReplyIn
from gateway.contract.decision import Basis, Cause, Status
from gateway.contract.ids import subject_of
from gateway.contract.wire import Receipt, Reply
from gateway.edge.callbacks import refused_scopes
from gateway.guard import Claim, Outcome
from gateway.stream.codec import decode

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        yield served


async def stored(bootstrap: str, topic: str, n: int) -> list[bytes]:
    """The first `n` values of a topic, by offset within each partition."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(10):
            return [(await consumer.getone()).value for _ in range(n)]
    finally:
        await consumer.stop()


async def call(edge: Running, what: str, body: Any) -> httpx.Response:
    headers = edge.as_("carrier-http")
    if isinstance(body, bytes):
        return await edge.http.post(f"/v1/carriers/http/{what}", content=body, headers=headers)
    return await edge.http.post(f"/v1/carriers/http/{what}", json=body, headers=headers)


async def test_receipts_are_stored_before_200_and_bad_neighbours_cost_none(edge: Running, kafka_bootstrap: str) -> None:
    good = {"carrier_id": "00AB", "status": "DELIVRD", "code": "000", "at": "2026-11-24T10:00:00+08:00", "vendor": 1}
    dead = {"carrier_id": 77, "status": "UNDELIV", "code": "MK:0001"}
    answer = await call(edge, "receipts", {"receipts": [good, {"status": "DELIVRD"}, 7, dead]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"taken": 2, "unreadable": 2}
    found = [decode(Receipt, value) for value in await stored(kafka_bootstrap, edge.gate.topics.receipts, 2)]
    by_id = {receipt.carrier_id: receipt for receipt in found}
    assert by_id["ab"].status is Status.DELIVERED
    assert by_id["ab"].at == 1_795_485_600_000
    assert by_id["77"].cause is Cause.DEAD_NUMBER


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"receipts":[]}', b'{"receipts":[{}]}', {"receipts": [{"carrier_id": "1"}] * 1001}]
)
async def test_receipts_of_which_nothing_can_be_read(edge: Running, body: Any) -> None:
    answer = await call(edge, "receipts", body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "request.invalid"


async def test_a_nul_character_loses_no_receipt(edge: Running) -> None:
    answer = await call(edge, "receipts", b'{"receipts":[{"carrier_id":"9","status":"DEL\\u0000IVRD"}]}')
    assert answer.json() == {"taken": 1, "unreadable": 0}


async def test_an_exact_refusal_is_in_force_before_the_carrier_is_answered(edge: Running, kafka_bootstrap: str) -> None:
    to, kind = "+8613700000001", "order"
    head = edge.as_("shop")
    grant = {
        "recipient": to,
        "sender": "acme",
        "topics": ["marketing"],
        "action": "grant",
        "channel": "web",
        "occurred_at": "2026-11-24T00:00:00Z",
        "evidence": {"checkbox_checked": True, "form_version": "1"},
    }
    order = {"recipient": to, "sender": "acme", "kind": kind, "ref": "1", "occurred_at": "2026-11-24T00:00:00Z"}
    assert (await edge.http.post("/v1/consents", json=grant, headers=head)).status_code == 201
    assert (await edge.http.post("/v1/relationships", json=order, headers=head)).status_code == 201
    replies = [
        {"id": "r1", "from": "tel:13700000001", "to": "1069000299", "text": " ｔ。", "at": "2026-11-24T10:00:00+08:00"},
        {"id": "r2", "from": "8613700000002", "to": "10690002", "text": "什么时候到货"},
    ]
    answer = await call(edge, "replies", {"replies": replies})
    assert answer.json() == {"taken": 2, "unreadable": 0}
    promotion = {"to": to, "sender": "acme", "purpose": "marketing.promotion", "text": "新品上市"}
    refused = await edge.http.post("/v1/messages", json=promotion, headers=head)
    assert refused.status_code == 403, refused.text
    shipping = {"to": to, "sender": "acme", "purpose": "transaction.shipping", "text": "已发货"}
    assert (await edge.http.post("/v1/messages", json=shipping, headers=head)).status_code == 202
    found = {
        r.reply_id: r for r in [decode(Reply, v) for v in await stored(kafka_bootstrap, edge.gate.topics.replies, 2)]
    }
    assert found["r1"].blocked
    assert found["r1"].sender_number == to
    assert found["r1"].subject == subject_of(PEPPER, to).hex()
    assert not found["r2"].blocked


async def test_a_thousand_refusals_at_once_are_all_in_force_and_taken(edge: Running) -> None:
    replies = [{"id": f"many{n}", "from": f"138{n:08d}", "to": "10690002", "text": "R"} for n in range(1000)]
    answer = await call(edge, "replies", {"replies": replies})
    assert answer.json() == {"taken": 1000, "unreadable": 0}


async def test_what_was_claimed_before_a_refusal_has_gone_out_when_the_carrier_is_answered(edge: Running) -> None:
    subject = subject_of(PEPPER, "+8613700000009")
    plan = a_plan(basis=Basis.REQUEST, relationships=())
    ask = an_ask(subject, plan, request=subject[:1] + b"r" * 15, request_ttl_ms=60_000)
    claim = Claim(ask.id, 1, subject, plan, 0, 1)
    assert [c.kind for c in await edge.gate.guard.claim([claim], 0)] == [Outcome.GO]
    claimed = time.monotonic()
    reply = {"id": "late", "from": "13700000009", "to": "10690001", "text": "R"}
    assert (await call(edge, "replies", {"replies": [reply]})).status_code == 200
    assert time.monotonic() - claimed >= 1.0


@pytest.mark.parametrize(
    ("port", "scopes"),
    [
        ("10690002", ["acme#marketing"]),
        ("1069000277", ["acme#marketing"]),
        ("10690001", ["acme"]),  # settle will find which notice was meant; until then, all of them
        ("1069000177", ["acme"]),
        ("12345", ["*#marketing"]),
    ],
)
async def test_a_refusal_stops_at_least_what_its_record_will(edge: Running, port: str, scopes: list[str]) -> None:
    for text in ("退订", "别再给我发了", "Please stop texting me"):
        assert refused_scopes(edge.gate, item_of(port, text)) == scopes
    keeps = "*#marketing" if port == "12345" else "acme#marketing"
    assert refused_scopes(edge.gate, item_of(port, "Ａ")) == [keeps]
    for text in ("Y", "HELP", "不退订", "don't stop", "什么时候到货"):
        assert refused_scopes(edge.gate, item_of(port, text)) == []


def item_of(port: str, text: str) -> ReplyIn:
    return ReplyIn.model_validate({"from": "13700000003", "to": port, "text": text})


class _Unacknowledging:
    async def publish(self, _topic: str, records: list[Any], **_more: Any) -> list[None]:
        return [None] * len(records)


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("receipts", {"receipts": [{"carrier_id": "1", "status": "DELIVRD"}]}),
        ("replies", {"replies": [{"id": "1", "from": "13700000004", "to": "10690002", "text": "hi"}]}),
    ],
)
async def test_what_kafka_did_not_acknowledge_is_not_acknowledged(edge: Running, what: str, body: Any) -> None:
    real = edge.gate.producer
    object.__setattr__(edge.gate, "producer", _Unacknowledging())
    try:
        answer = await call(edge, what, body)
    finally:
        object.__setattr__(edge.gate, "producer", real)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
