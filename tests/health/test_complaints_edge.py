"""Complaints over HTTP: one, a batch, a file; who may bring them, see them and act on their cases."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from edge_app import Running, running

pytestmark = pytest.mark.integration
_numbers = iter(range(10_000_000, 99_999_999))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        yield served


def number() -> str:
    return f"+86139{next(_numbers)}"


def told(reporter: str | None = None, **more: Any) -> dict[str, Any]:
    at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    who = reporter or number()
    return {"source": "12321", "reporter": who, "port": "10690002", "at": at, "text": "骚扰短信", **more}


async def post(edge: Running, body: dict[str, Any], **more: Any) -> httpx.Response:
    return await edge.http.post("/v1/complaints", json=body, **more)


async def test_one_is_recorded_and_suppresses_before_it_is_answered(edge: Running) -> None:
    who = number()
    first = await post(edge, told(who))
    assert first.status_code == 201, first.text
    taken = first.json()
    assert (taken["status"], taken["match"], taken["suppressed"], taken["state"]) == (
        "recorded",
        "unmatched",
        "acme",
        "open",
    )
    body = {"to": who, "sender": "acme", "purpose": "transaction.shipping", "text": "您的订单已发货"}
    refused = await edge.http.post("/v1/messages", json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "suppressed")
    again = await post(edge, told(who))
    assert (again.status_code, again.json()["duplicate"], again.json()["id"]) == (200, True, taken["id"])


async def test_a_batch_is_answered_in_order_each_as_if_alone(edge: Running) -> None:
    who = number()
    late = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    items = [told(who), told("12345"), told(at=late), {"source": "press"}, told(who), told(source="carrier", ref="k1")]
    answer = await post(edge, {"complaints": items})
    assert answer.status_code == 200, answer.text
    found = answer.json()["results"]
    assert [one.get("code", one["status"]) for one in found] == [
        "recorded", "recipient.invalid", "request.invalid", "request.invalid", "recorded", "recorded",
    ]  # fmt: skip
    assert [found[n]["duplicate"] for n in (0, 4, 5)] == [False, True, False]
    assert "12345" not in answer.text


async def test_only_who_has_the_role_brings_complaints(edge: Running) -> None:
    for client in ("reads", "sends"):
        answer = await post(edge, told(), headers=edge.as_(client))
        assert (answer.status_code, answer.json()["code"]) == (403, "client.forbidden")
    assert (await post(edge, {}, headers={"authorization": "Bearer none"})).status_code == 401


@pytest.mark.parametrize(
    "body", [[], {}, {"complaints": []}, {"complaints": [{}] * 1001}, told(port="12a"), told(text=1)]
)
async def test_what_is_no_complaint(edge: Running, body: Any) -> None:
    answer = await post(edge, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")
