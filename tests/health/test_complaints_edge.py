"""Complaints over HTTP: one, a batch, a file; who may bring them, see them and act on their cases."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
from edge_app import Running, running

from gateway.edge import bodies

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
    last = await edge.http.get("/v1/complaints/figures", params={"since": "9999-12-31"})
    assert last.json() == {"figures": []}, last.text
    denied = await edge.http.post("/v1/complaints/figures", json=body, headers=edge.as_("reads"))
    assert denied.status_code == 403


# --- files ----------------------------------------------------------------------------------------------------------


def export(numbers: list[str], ref: str, junk: int = 0) -> str:
    at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    head = "举报编号,举报号码,被举报号码,举报时间,举报内容"
    lines = [f"{ref}-{n},{who},10690002,{at},骚扰" for n, who in enumerate(numbers)]
    return "\r\n".join([head, *lines, *["不是号码,x,y,z,w"] * junk]) + "\r\n"


async def send_file(edge: Running, body: Any, kind: str = "text/csv", **asked: Any) -> httpx.Response:
    return await edge.http.post(
        "/v1/complaints", content=body, params=asked, headers={"content-type": kind}, timeout=60
    )


async def test_a_file_is_taken_in_with_its_bad_lines_told_and_again_changes_nothing(edge: Running) -> None:
    people = [number() for _ in range(620)]
    data = export(people, "f1", junk=130).encode("gb18030")
    first = await send_file(edge, data, "text/csv; charset=gb18030", mapping="12321")
    assert first.status_code == 200, first.text
    taken = first.json()
    assert (taken["lines"], taken["recorded"], taken["duplicates"], taken["rejected"]) == (750, 620, 0, 130)
    assert (len(taken["rejects"]), taken["more_rejects"]) == (100, 30)
    assert taken["rejects"][0] == {"line": 622, "field": "reporter", "message": "not a mobile number"}
    assert taken["matches"] == {"matched": 0, "ambiguous": 0, "unmatched": 620}
    again = (await send_file(edge, data, mapping="12321")).json()
    assert (again["recorded"], again["duplicates"]) == (0, 620)
    alone = await post(edge, told(people[7], ref="f1-7"))
    assert (alone.status_code, alone.json()["duplicate"]) == (200, True)
    state = (await edge.http.get(f"/v1/recipients/{people[619]}")).json()
    assert [one["reason"] for one in state["suppressions"]] == ["complaint"]


async def test_a_file_of_any_size_passes_in_bounded_memory(edge: Running) -> None:
    who = number()
    piece = ("不是号码,x,y,z," + "w" * 180 + "\n").encode() * 320
    sent = 0
    room = edge.gate.unanswered.bytes

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        yield export([who], "big").encode()
        for _ in range(120):  # 8 MB: twice what any other body may have
            yield piece
            sent += len(piece)

    taken = (await send_file(edge, pieces(), mapping="12321")).json()
    assert sent > 4 * 1024 * 1024
    assert (taken["recorded"], taken["rejected"], taken["lines"]) == (1, 120 * 320, 120 * 320 + 1)
    assert edge.gate.unanswered.bytes == room


async def test_a_file_that_stops_coming_is_ended_and_what_came_is_kept(
    edge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.3)
    people = [number() for _ in range(500)]

    async def pieces() -> AsyncIterator[bytes]:
        yield export(people, "slow").encode()
        await asyncio.sleep(1.5)
        yield b"never"

    answer = await send_file(edge, pieces(), mapping="12321")
    assert (answer.status_code, answer.json()["code"]) == (408, "request.timeout")
    again = (await send_file(edge, export(people, "slow"), mapping="12321")).json()
    assert again["duplicates"] == 500


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("a,b\n1,2\n", {"mapping": "12321"}),
        ("", {}),
        (export([], "x"), {"mapping": "press"}),
        (export([], "x"), {"columns": "reporter:举报号码,at:举报时间"}),
        (export([], "x"), {"columns": "who:举报号码", "source": "own"}),
        (export([], "x"), {"mapping": "12321", "encoding": "utf-16"}),
        (export([], "x"), {"mapping": "12321", "nonsense": "1"}),
    ],
)
async def test_what_is_no_file(edge: Running, body: str, asked: dict[str, str]) -> None:
    answer = await send_file(edge, body.encode(), **asked)
    assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid")


async def test_columns_are_named_and_only_this_path_takes_files(edge: Running) -> None:
    data = export([number()], "named").encode()
    named = {"columns": "reporter:举报号码,at:举报时间,ref:举报编号", "source": "own"}
    assert (await send_file(edge, data, **named)).json()["recorded"] == 1
    elsewhere = await edge.http.post("/v1/consents", content=data, headers={"content-type": "text/csv"})
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (422, "request.invalid")
    denied = await edge.http.post(
        "/v1/complaints", content=data, headers={"content-type": "text/csv"} | edge.as_("reads")
    )
    assert denied.status_code == 403


async def test_a_persons_file_holds_their_complaints_until_they_are_erased(edge: Running) -> None:
    case, who = await opened(edge, text="我叫赵六，别再发了")
    await opened(edge, port="10690004")
    path = f"/v1/recipients/{who}/personal-data"
    file = (await edge.http.get(path)).json()
    assert [(one["id"], one["text"], one["state"]) for one in file["complaints"]] == [
        (case, "我叫赵六，别再发了", "open")
    ]
    page = await edge.http.get(path, params={"format": "html"})
    assert "我叫赵六" in page.text
    other = (await edge.http.get(path, headers=edge.as_("other"))).json()
    assert other["complaints"] == []


async def test_a_thousand_at_once_are_taken_in(edge: Running) -> None:
    people = [number() for _ in range(1000)]
    answer = await edge.http.post("/v1/complaints", json={"complaints": [told(who) for who in people]}, timeout=30)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len({one["id"] for one in results}) == 1000
    assert {one["status"] for one in results} == {"recorded"}


async def test_without_postgresql_it_is_unavailable_and_nothing_is_said_to_be_done(edge: Running) -> None:
    nowhere = asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=1)
    async with nowhere:
        door, real = edge.app.door, edge.gate
        door.gate = dataclasses.replace(real, pool=nowhere)
        try:
            one = await post(edge, told())
            many = await post(edge, {"complaints": [told(), told()]})
            file = await send_file(edge, export([number()], "away"), mapping="12321")
            listed = await edge.http.get("/v1/complaints")
        finally:
            door.gate = real
    for answer in (one, many, file, listed):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"]
