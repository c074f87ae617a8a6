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


# --- cases ----------------------------------------------------------------------------------------------------------


async def opened(edge: Running, **more: Any) -> tuple[str, str]:
    """A case, and its reporter."""
    who = number()
    return (await post(edge, told(who, **more))).json()["id"], who


async def test_a_case_is_seen_by_its_senders_clients_and_acted_on_by_operators(edge: Running) -> None:
    case, who = await opened(edge)
    path = f"/v1/complaints/{case}"
    assert (await edge.http.get(path, headers=edge.as_("other"))).status_code == 200  # an operator sees all
    assert (await edge.http.get(path, headers=edge.as_("reads"))).json()["id"] == case
    assert (await edge.http.get(path, headers=edge.as_("sends"))).status_code == 403
    bolts, _ = await opened(edge, port="10690004")
    assert (await edge.http.get(f"/v1/complaints/{bolts}", headers=edge.as_("reads"))).status_code == 404
    listed = (await edge.http.get("/v1/complaints", params={"limit": 200}, headers=edge.as_("reads"))).json()
    assert {one["sender"] for one in listed["complaints"]} == {"acme"}
    asked = {"sender": "bolt"}
    assert (await edge.http.get("/v1/complaints", params=asked, headers=edge.as_("reads"))).status_code == 403
    for act, body in (("assign", {"to": "Han Mei", "by": "Li Lei"}), ("answer", {"by": "x"})):
        denied = await edge.http.post(f"{path}/{act}", json=body, headers=edge.as_("reads"))
        assert (denied.status_code, denied.json()["code"]) == (403, "client.forbidden")
    early = await edge.http.post(f"{path}/close", json={"by": "Li Lei", "outcome": "resolved"})
    assert (early.status_code, early.json()["code"]) == (409, "case.state")
    assert (await edge.http.post(f"{path}/assign", json={"to": "Han Mei", "by": "Li Lei"})).json()[
        "state"
    ] == "assigned"
    answered = await edge.http.post(f"{path}/answer", json={"by": "Han Mei", "note": "已致电张女士道歉"})
    assert answered.json()["state"] == "answered"
    for wrong in ({"by": "Li Lei"}, {"by": "Li Lei", "outcome": "fine"}, {"by": " ", "outcome": "resolved"}):
        assert (await edge.http.post(f"{path}/close", json=wrong)).status_code == 422
    closed = (await edge.http.post(f"{path}/close", json={"by": "Li Lei", "outcome": "apologised"})).json()
    assert (closed["state"], closed["outcome"]) == ("closed", "apologised")
    shown = await edge.http.get(path)
    assert [one["act"] for one in shown.json()["timeline"]] == ["recorded", "assigned", "answered", "closed"]
    assert shown.json()["evidence"]["bundle"] == f"/v1/evidence/{closed['evidence']['suppression']}"
    for secret in (who, who[3:], "骚扰", "张女士"):
        assert secret not in shown.text


async def test_reading_the_words_is_recorded_before_they_are_shown(edge: Running) -> None:
    case, who = await opened(edge, text="我叫李四，别再发了", ref="12321-77")
    path = f"/v1/complaints/{case}"
    denied = await edge.http.get(path, params={"text": True}, headers=edge.as_("reads"))
    assert (denied.status_code, denied.json()["code"]) == (403, "client.forbidden")
    await edge.http.post(f"{path}/answer", json={"by": "Han Mei", "note": "已道歉"})
    shown = (await edge.http.get(path, params={"text": True})).json()
    assert (shown["text"], shown["ref"]) == ("我叫李四，别再发了", "12321-77")
    assert shown["reporter"].startswith("+861")
    assert "*" in shown["reporter"]
    assert shown["timeline"][1]["note"] == "已道歉"
    history = (await edge.http.get(f"/v1/recipients/{who}")).json()["history"]
    looks = [one["data"]["seen"] for one in history if one["kind"] == "access"]
    assert ["complaint"] in looks


async def test_pages_of_the_queue_follow_each_other(edge: Running) -> None:
    who = number()
    ids = [(await post(edge, told(who, ref=f"page-{n}-{who}"))).json()["id"] for n in range(5)]
    found: list[str] = []
    asked: dict[str, Any] = {"reporter": who, "queue": True, "limit": 2}
    while True:
        page = (await edge.http.get("/v1/complaints", params=asked)).json()
        found += [one["id"] for one in page["complaints"]]
        if "next" not in page:
            break
        asked["after"] = page["next"]
    assert sorted(found) == sorted(ids)
    decided = await edge.http.post(f"/v1/complaints/{ids[0]}/match", json={"message": "none", "by": "Li Lei"})
    assert decided.json()["resolved_by"] == "Li Lei"
    left = (await edge.http.get("/v1/complaints", params={"reporter": who, "queue": True})).json()["complaints"]
    assert sorted(one["id"] for one in left) == sorted(ids[1:])
    lost = {"message": "01a20bb9-6f46-7968-9bca-a20bd03a9f18", "by": "Li Lei"}
    answer = await edge.http.post(f"/v1/complaints/{ids[1]}/match", json=lost)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "message")
    absent = "/v1/complaints/01a20bb9-6f46-7968-9bca-a20bd03a9f18"
    for path in (absent, f"{absent}/match"):
        answer = await (edge.http.get(path) if path == absent else edge.http.post(path, json=lost))
        assert answer.status_code == 404


async def test_an_officer_signs_off_a_day(edge: Running) -> None:
    today = datetime.now(UTC).date()
    body = {"date": (today - timedelta(days=40)).isoformat(), "source": "12321", "count": 0, "by": "Li Lei"}
    stated = await edge.http.post("/v1/complaints/figures", json=body)
    assert (stated.status_code, stated.json()["agrees"]) == (201, True)
    more = await edge.http.post("/v1/complaints/figures", json=body | {"count": 2})
    assert more.json()["agrees"] is False
    found = (await edge.http.get("/v1/complaints/figures", params={"since": body["date"]})).json()["figures"]
    assert [(one["stated"], one["by"]) for one in found] == [(2, "Li Lei")]
    for wrong in ({"date": (today + timedelta(days=3)).isoformat()}, {"count": -1}, {"by": ""}, {"source": "press"}):
        assert (await edge.http.post("/v1/complaints/figures", json=body | wrong)).status_code == 422
    denied = await edge.http.post("/v1/complaints/figures", json=body, headers=edge.as_("reads"))
    assert denied.status_code == 403
