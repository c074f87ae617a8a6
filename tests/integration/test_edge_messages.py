"""Sending over HTTP: what is accepted, held, refused; the same answer for the same key; batches; strict bodies."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from edge_app import Running, running

from gateway.contract.ids import new_id

pytestmark = pytest.mark.integration
_numbers = iter(range(10_000_000, 99_999_999))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        yield served


def number() -> str:
    return f"+86138{next(_numbers)}"


def now(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


async def order(edge: Running, to: str) -> None:
    body = {"recipient": to, "sender": "acme", "kind": "order", "ref": "o-1", "occurred_at": now()}
    answer = await edge.http.post("/v1/relationships", json=body)
    assert answer.status_code == 201, answer.text


def shipping(to: str, **more: Any) -> dict[str, Any]:
    return {"to": to, "sender": "acme", "purpose": "transaction.shipping", "text": "您的订单已发货", **more}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["trace"] == answer.headers["trace-id"]
    assert document["action"]
    assert document["action_zh"]
    return document


async def test_a_permitted_message_is_accepted(edge: Running) -> None:
    to = number()
    await order(edge, to)
    answer = await edge.http.post("/v1/messages", json=shipping(to))
    assert answer.status_code == 202, answer.text
    document = answer.json()
    assert document["status"] == "accepted"
    assert document["parts"] == 1
    assert document["decision"]["basis"] == "relationship"
    assert document["decision"]["ledger_entry"] > 0
    assert document["decision"]["pack"].startswith("cn@")
    assert answer.headers["trace-id"] == uuid.UUID(document["id"]).hex


async def test_a_callers_trace_is_kept(edge: Running) -> None:
    to = number()
    await order(edge, to)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    head = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = await edge.http.post("/v1/messages", json=shipping(to), headers=head)
    assert answer.headers["trace-id"] == trace
    refused = await edge.http.post("/v1/messages", json=shipping(number()), headers=head)
    assert problem(refused, 403, "relationship.missing")["trace"] == trace


async def test_without_permission_it_is_refused(edge: Running) -> None:
    problem(await edge.http.post("/v1/messages", json=shipping(number())), 403, "relationship.missing")
    promotion = shipping(number()) | {"purpose": "marketing.promotion", "text": "新品上市"}
    problem(await edge.http.post("/v1/messages", json=promotion), 403, "consent.missing")


async def test_the_same_key_and_body_give_the_same_answer(edge: Running) -> None:
    to, key = number(), uuid.uuid4().hex
    await order(edge, to)
    body = shipping(to, idempotency_key=key)
    first, *again = await asyncio.gather(*(edge.http.post("/v1/messages", json=body) for _ in range(8)))
    assert first.status_code == 202
    assert {answer.content for answer in again} == {first.content}
    by_header = await edge.http.post("/v1/messages", json=shipping(to), headers={"Idempotency-Key": key})
    assert by_header.content == first.content
    other = await edge.http.post("/v1/messages", json=shipping(to, idempotency_key=key, client_ref="x"))
    problem(other, 409, "idempotency.conflict")


async def test_a_key_in_the_header_and_another_in_the_body_is_an_error(edge: Running) -> None:
    body = shipping(number(), idempotency_key="one")
    answer = await edge.http.post("/v1/messages", json=body, headers={"Idempotency-Key": "two"})
    assert problem(answer, 422, "request.invalid")["errors"][0]["field"] == "idempotency_key"


async def test_a_batch_answers_each_item_in_order_as_if_alone(edge: Running) -> None:
    known = number()
    await order(edge, known)
    items: list[Any] = [
        shipping(known),
        shipping(number()),
        shipping("12"),
        {"to": known},
        7,
        shipping(known, text="nul \0 here"),
        shipping(known, text="包裹已签收", not_before=now(hours=1)),
    ]
    answer = await edge.http.post("/v1/messages/batch", json={"messages": items})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["accepted", *["refused"] * 5, "held"]
    assert [result.get("code") for result in results[1:6]] == [
        "relationship.missing",
        "request.invalid",
        "request.invalid",
        "request.invalid",
        "request.invalid",
    ]
    assert {error["field"] for error in results[3]["errors"]} == {"sender", "purpose"}
    assert results[6]["release_at"].endswith("Z")


@pytest.mark.parametrize("size", [0, 1001])
async def test_a_batch_has_1_to_1000_items(edge: Running, size: int) -> None:
    answer = await edge.http.post("/v1/messages/batch", json={"messages": [{}] * size})
    problem(answer, 422, "request.invalid")


async def test_a_batch_takes_no_key_of_its_own(edge: Running) -> None:
    body = {"messages": [shipping(number())]}
    answer = await edge.http.post("/v1/messages/batch", json=body, headers={"Idempotency-Key": "k"})
    problem(answer, 422, "request.invalid")


SECRET = "13812345678"
BAD_BODIES = {
    "nothing": b"",
    "no JSON": b"hello " + SECRET.encode(),
    "not an object": f'["{SECRET}"]'.encode(),
    "a number": SECRET.encode(),
    "two texts": b"{} {}",
    "key twice": f'{{"to":"{SECRET}","to":"{SECRET}"}}'.encode(),
    "NaN": b'{"to":NaN}',
    "infinity": b'{"to":1e999}',
    "lone surrogate": b'{"to":"\\ud800"}',
    "NUL": b'{"to":"\\u0000"}',
    "invalid UTF-8": b'{"to":"\xff\xfe"}',
    "nested bomb": b'{"to":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "object bomb": b'{"a":' * 8_000 + b"1" + b"}" * 8_000,
    "unknown field": f'{{"{SECRET}":"{SECRET}"}}'.encode(),
    "long integer": b'{"to":' + b"9" * 5_000 + b"}",
    "UTF-16": '{"to":"1"}'.encode("utf-16"),
    "wrong kinds": f'{{"to":{SECRET},"sender":{{}},"purpose":[1],"text":7,"expires_at":"{SECRET}"}}'.encode(),
    "bad choice": f'{{"to":"{SECRET}","sender":"acme","purpose":"a","text":"{SECRET}","on_quiet":"{SECRET}"}}'.encode(),
}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/check", "/v1/messages/batch", "/v1/consents"])
@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_body_is_a_problem_that_does_not_repeat_it(edge: Running, path: str, name: str) -> None:
    answer = await edge.http.post(path, content=BAD_BODIES[name])
    problem(answer, 422, "request.invalid")
    assert SECRET not in answer.text


async def test_the_content_type_is_not_looked_at(edge: Running) -> None:
    body = json.dumps(shipping(number())).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = await edge.http.post("/v1/messages", content=body, headers={"content-type": kind})
        problem(answer, 403, "relationship.missing")


@pytest.mark.parametrize(
    ("path", "size"), [("/v1/messages", 70_000), ("/v1/messages", 10_000_000), ("/v1/messages/batch", 5_000_000)]
)
async def test_a_large_body_is_refused_whether_declared_or_chunked(edge: Running, path: str, size: int) -> None:
    body = b'{"text":"' + b"x" * size + b'"}'
    problem(await edge.http.post(path, content=body), 413, "request.too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 64_000):
            yield body[start : start + 64_000]

    problem(await edge.http.post(path, content=chunks()), 413, "request.too_large")
    assert edge.gate.unanswered.bytes == 0


@pytest.mark.parametrize(
    "times",
    [
        {"expires_at": now(hours=-1)},
        {"not_before": now(hours=2), "expires_at": now(hours=1)},
        {"not_before": now(days=40)},
        {"expires_at": "2026-01-01T00:00:00"},
    ],
)
async def test_times_must_make_sense(edge: Running, times: dict[str, str]) -> None:
    to = number()
    await order(edge, to)
    problem(await edge.http.post("/v1/messages", json=shipping(to, **times)), 422, "request.invalid")


async def test_check_gives_every_rule_and_counts_nothing(edge: Running) -> None:
    to = number()
    await order(edge, to)
    for _ in range(12):  # one more than any window allows
        answer = await edge.http.post("/v1/messages/check", json=shipping(to))
        assert answer.status_code == 200, answer.text
        document = answer.json()
        assert document["status"] == "accepted"
        assert {row["rule"] for row in document["rules"] if row["verdict"] != "passed"} <= {"quota"}
        assert all(row["source"] for row in document["rules"])
        assert document["release_at"] is None
    later = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    held = (await edge.http.post("/v1/messages/check", json=shipping(to, not_before=later.isoformat()))).json()
    assert (held["status"], held["release_at"]) == ("held", later.strftime("%Y-%m-%dT%H:%M:%SZ"))
    refused = (await edge.http.post("/v1/messages/check", json=shipping(number()))).json()
    assert [row["code"] for row in refused["rules"] if row["verdict"] == "refused"] == ["relationship.missing"]


async def test_a_window_refuses_with_retry_after(edge: Running) -> None:
    to = number()
    await order(edge, to)
    answers = [await edge.http.post("/v1/messages", json=shipping(to, text=f"第{n}件包裹")) for n in range(11)]
    assert [answer.status_code for answer in answers] == [202] * 10 + [429]
    assert problem(answers[10], 429, "window.exceeded")["retry_after"] == int(answers[10].headers["retry-after"])


async def test_a_fresh_message_is_found_by_its_record(edge: Running) -> None:
    to = number()
    await order(edge, to)
    sent = (await edge.http.post("/v1/messages", json=shipping(to))).json()
    found = await edge.http.get(f"/v1/messages/{sent['id']}")
    assert found.status_code == 200, found.text
    assert found.json()["status"] == "queued"
    problem(await edge.http.get(f"/v1/messages/{uuid.uuid4()}"), 404, "not_found")
    problem(await edge.http.get("/v1/messages/batch"), 422, "request.invalid")
    page = await edge.http.get("/v1/messages", params={"to": to, "client_ref": "none"})
    assert page.json() == {"messages": []}
    problem(await edge.http.get("/v1/messages"), 422, "request.invalid")


async def test_a_page_holds_as_many_of_ones_own_as_there_are(edge: Running) -> None:
    """Newer messages of other clients to the same person take nobody's place; an operator sees all."""
    ref, pool, written = f"ref-{uuid.uuid4().hex}", edge.gate.pool, "2026-11-24T04:03:51.759000Z"
    ids: dict[str, list[str]] = {"reads": [], "sends": []}
    for turn, client in enumerate(("reads", "reads", "sends", "sends", "sends")):
        origin = await pool.fetchval(
            "INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis) "
            "VALUES ($1, $2, 'acme', 'transaction.shipping', 'transactional', '1', 'p', 'relationship') RETURNING id",
            uuid.uuid4().bytes,
            client,
        )
        ids[client].append(new_id(0, int(time.time() * 1000) + turn))
        await pool.execute(
            "INSERT INTO messages (id, origin, rank, status, client_ref, accepted_at, timeline) "
            "VALUES ($1, $2, 1, 2, $3, 1795493031759, '[[1795493031759,2,1]]')",
            ids[client][-1],
            origin,
            ref,
        )

    async def page(client: str, **more: str) -> tuple[list[str], str | None]:
        params = {"client_ref": ref, "limit": "2", **more}
        answer = (await edge.http.get("/v1/messages", params=params, headers=edge.as_(client))).json()
        for row in answer["messages"]:
            assert (row["accepted_at"], row["timeline"][0]["at"]) == (written, written)
        return [row["id"] for row in answer["messages"]], answer.get("next")

    own, oldest = ids["reads"][::-1], ids["reads"][0]
    assert await page("reads") == (own, oldest)
    assert await page("reads", before=oldest) == ([], None)
    assert (await page("head"))[0] == ids["sends"][:0:-1]


async def test_too_much_unanswered_is_refused_at_once(edge: Running) -> None:
    bound = edge.gate.unanswered
    bound.messages += bound.max_messages
    try:
        answer = await edge.http.post("/v1/messages", json=shipping(number()))
        assert answer.headers["retry-after"] == "1"
        problem(answer, 503, "unavailable")
        problem(await edge.http.post("/v1/messages/batch", json={"messages": [{}]}), 503, "unavailable")
    finally:
        bound.messages -= bound.max_messages
    assert (bound.messages, bound.bytes) == (0, 0)
