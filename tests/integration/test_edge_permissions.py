"""Recording permissions over HTTP: what counts as consent, what ends it, what may be seen, and by whom."""

import asyncio
import uuid
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


def at(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


EVIDENCE = {"checkbox_checked": True, "form_version": "f-3", "method": "web_form", "ip": "192.0.2.1"}


def grant(to: str, **more: Any) -> dict[str, Any]:
    return {
        "recipient": to,
        "sender": "acme",
        "topics": ["marketing"],
        "action": "grant",
        "channel": "web",
        "occurred_at": at(),
        "evidence": EVIDENCE,
        **more,
    }


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    return document


async def post(edge: Running, path: str, body: dict[str, Any], **more: Any) -> httpx.Response:
    return await edge.http.post(path, json=body, **more)


async def promote(edge: Running, to: str) -> httpx.Response:
    """What a promotion to the person would be answered; quiet hours only hold it."""
    body = {"to": to, "sender": "acme", "purpose": "marketing.promotion", "text": f"新品 {uuid.uuid4()}"}
    return await edge.http.post("/v1/messages", json=body)


async def test_a_grant_permits_and_a_withdrawal_ends_it(edge: Running) -> None:
    to = number()
    granted = await post(edge, "/v1/consents", grant(to))
    assert granted.status_code == 201, granted.text
    assert granted.json()["seq"] > 0
    assert (await promote(edge, to)).status_code == 202
    left = await post(edge, f"/v1/recipients/{to}/withdraw", {"sender": "acme", "reason": "asked by phone"})
    assert left.status_code == 200, left.text
    problem(await promote(edge, to), 403, "consent.withdrawn")
    problem(await post(edge, "/v1/consents", grant(to)), 409, "consent.opted_out")
    problem(await post(edge, "/v1/consents", grant(to, occurred_at=at(days=-30))), 409, "consent.opted_out")


@pytest.mark.parametrize(
    ("evidence", "field"),
    [
        (None, "evidence"),
        ({}, "evidence.checkbox_checked"),
        ({"form_version": "f"}, "evidence.checkbox_checked"),
        ({"checkbox_checked": False, "form_version": "f"}, "evidence.checkbox_checked"),
        ({"checkbox_checked": True}, "evidence.form_version"),
        ({"checkbox_checked": True, "form_version": "  "}, "evidence.form_version"),
        (EVIDENCE | {"default_checked": True}, "evidence.default_checked"),
        *(
            (EVIDENCE | {"method": method}, "evidence.method")
            for method in (
                "registration",
                "Sign-Up",
                "ＳＩＬＥＮＣＥ",
                "purchase",
                "会员注册",
                "默认同意",
                "沉默",
                "购买商品",
            )
        ),
    ],
)
async def test_evidence_that_shows_no_consent(edge: Running, evidence: dict[str, Any] | None, field: str) -> None:
    answer = await post(edge, "/v1/consents", grant(number(), evidence=evidence))
    assert problem(answer, 422, "evidence.insufficient")["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"occurred_at": at(days=1)}, "occurred_at"),  # made when the tests are collected, long before this one runs
        ({"topics": ["marketing", "nonsense"]}, "topics.1"),
        ({"topics": ["transaction.shipping"]}, "topics.0"),
        ({"terms": {"valid_until": at(days=-1)}}, "terms.valid_until"),
        ({"evidence": EVIDENCE | {"deep": [[[[[[[[[[1]]]]]]]]]]}}, "evidence"),
        ({"occurred_at": "2026-11-24T10:00:00"}, "occurred_at"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
async def test_a_consent_that_does_not_fit(edge: Running, change: dict[str, Any], field: str) -> None:
    answer = await post(edge, "/v1/consents", grant(number(), **change))
    assert problem(answer, 422, "request.invalid")["errors"][0]["field"] == field


async def test_a_number_that_is_none(edge: Running) -> None:
    problem(await post(edge, "/v1/consents", grant("12345")), 422, "recipient.invalid")
    problem(await edge.http.get("/v1/recipients/12345"), 422, "recipient.invalid")


async def test_another_clients_sender_is_forbidden_everywhere(edge: Running) -> None:
    to, headers = number(), edge.as_("other")
    relationship = {"recipient": to, "sender": "acme", "kind": "order", "ref": "1", "occurred_at": at()}
    answers = [
        await post(edge, "/v1/consents", grant(to), headers=headers),
        await post(edge, "/v1/relationships", relationship, headers=headers),
        await post(edge, f"/v1/recipients/{to}/withdraw", {"sender": "acme", "reason": "x"}, headers=headers),
        await edge.http.put(f"/v1/recipients/{to}/preferences", json={"sender": "acme"}, headers=headers),
        await edge.http.put(f"/v1/recipients/{to}/preferences", json={}, headers=headers),
        await post(
            edge,
            "/v1/suppressions",
            {"recipient": to, "scope": "sender", "sender": "acme", "reason": "manual"},
            headers=headers,
        ),
        await edge.http.get("/v1/suppressions", params={"sender": "acme"}, headers=headers),
        await edge.http.get("/v1/purposes", params={"sender": "acme"}, headers=headers),
    ]
    for answer in answers:
        problem(answer, 403, "client.forbidden")
    problem(await edge.http.get(f"/v1/recipients/{to}"), 404, "not_found")


async def test_the_same_event_id_is_one_act(edge: Running) -> None:
    to, key = number(), uuid.uuid4().hex
    body = grant(to, event_id=key)
    first, second = [(await post(edge, "/v1/consents", body)).json() for _ in range(2)]
    assert second == first | {"duplicate": True}
    by_header = await post(edge, "/v1/consents", grant(to), headers={"Idempotency-Key": key})
    assert by_header.json()["seq"] == first["seq"]
    problem(await post(edge, "/v1/consents", body | {"action": "withdraw"}), 409, "idempotency.conflict")
    relationship = {"recipient": to, "sender": "acme", "kind": "order", "ref": "1", "occurred_at": at()}
    nightly = [(await post(edge, "/v1/relationships", relationship)).json()["seq"] for _ in range(3)]
    assert len(set(nightly)) == 1


async def test_a_batch_answers_each_as_if_alone(edge: Running) -> None:
    gone = number()
    await post(edge, f"/v1/recipients/{gone}/withdraw", {"reason": "no more"})
    items = [grant(number()), grant(gone), grant(number(), evidence={}), grant("1"), "nonsense", grant(number())]
    answer = await post(edge, "/v1/consents/batch", {"consents": items})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    codes = [result.get("code") for result in results]
    assert codes == [None, "consent.opted_out", "evidence.insufficient", "request.invalid", "request.invalid", None]
    assert results[0]["seq"] < results[5]["seq"]
    many = [grant(number()) for _ in range(1000)]
    wide = (await post(edge, "/v1/consents/batch", {"consents": many})).json()["results"]
    assert [result["status"] for result in wide] == ["recorded"] * 1000
    problem(await post(edge, "/v1/consents/batch", {"consents": many + many[:1]}), 422, "request.invalid")


async def test_relationships_live_as_long_as_their_kind(edge: Running) -> None:
    to = number()
    day = timedelta(days=1)
    booked = datetime.now(UTC) + 20 * day
    for kind, when in (("order", datetime.now(UTC)), ("booking", booked), ("membership", datetime.now(UTC))):
        body = {"recipient": to, "sender": "acme", "kind": kind, "ref": kind, "occurred_at": when.isoformat()}
        assert (await post(edge, "/v1/relationships", body)).status_code == 201
    seen = (await edge.http.get(f"/v1/recipients/{to}")).json()["relationships"]
    ends = {kind: datetime.fromisoformat(one["expires"]) for kind, one in seen.items() if "expires" in one}
    assert ends.keys() == {"acme/order", "acme/booking"}
    assert abs(ends["acme/order"] - datetime.now(UTC) - 180 * day) < timedelta(minutes=1)
    assert abs(ends["acme/booking"] - booked - 7 * day) < timedelta(minutes=1)
    ended = {
        "recipient": to,
        "sender": "acme",
        "kind": "membership",
        "ref": "m",
        "occurred_at": at(),
        "expires_at": at(),
    }
    assert (await post(edge, "/v1/relationships", ended)).status_code == 201
    assert "acme/membership" not in (await edge.http.get(f"/v1/recipients/{to}")).json()["relationships"]


async def test_preferences_tighten(edge: Running) -> None:
    to = number()
    await post(edge, "/v1/consents", grant(to))
    path = f"/v1/recipients/{to}/preferences"
    wanted = {"sender": "acme", "topics": ["invite"], "max_per_week": 1, "hours": {"start": "10:00", "end": "12:00"}}
    assert (await edge.http.put(path, json=wanted)).status_code == 200
    problem(await promote(edge, to), 403, "preference.unwanted")
    backwards = {"sender": "acme", "hours": {"start": "12:00", "end": "10:00"}}
    problem(await edge.http.put(path, json=backwards), 422, "request.invalid")
    assert (await edge.http.put(path, json={"sender": "acme"})).status_code == 200
    assert (await promote(edge, to)).status_code == 202


async def test_suppressions_by_hand_end_by_hand_and_no_others(edge: Running) -> None:
    to = number()
    await post(edge, "/v1/consents", grant(to))
    manual = {"recipient": to, "scope": "class", "sender": "acme", "class": "marketing", "reason": "manual"}
    assert (await post(edge, "/v1/suppressions", manual)).status_code == 201
    problem(await promote(edge, to), 403, "suppressed")
    seen = (await edge.http.get("/v1/suppressions", params={"recipient": to})).json()["suppressions"]
    assert [(one["scope"], one["reason"]) for one in seen] == [("acme#marketing", "manual")]
    query = {"recipient": to, "scope": "class", "sender": "acme", "class": "marketing"}
    assert (await edge.http.delete("/v1/suppressions", params=query)).status_code == 200
    problem(await edge.http.delete("/v1/suppressions", params=query), 404, "not_found")
    assert (await promote(edge, to)).status_code == 202
    for reason, status, code in (("opt_out", 409, "consent.opted_out"), ("regulator", 403, "suppressed")):
        body = {"recipient": to, "scope": "all", "reason": reason}
        assert (await post(edge, "/v1/suppressions", body)).status_code == 201
        ending = await edge.http.delete(
            "/v1/suppressions", params={"recipient": to, "reason": reason}, headers=edge.as_("head")
        )
        problem(ending, status, code)
    listed = (await edge.http.get("/v1/suppressions", params={"reason": "regulator"})).json()["suppressions"]
    assert [one["scope"] for one in listed] == ["*"]


@pytest.mark.parametrize("cls", [None, "marketing"])
async def test_what_stops_every_sender_is_not_ended_by_a_client_of_one(edge: Running, cls: str | None) -> None:
    scope = {"scope": "all"} if cls is None else {"scope": "class", "class": cls}
    query = {"recipient": number(), **scope}
    assert (await post(edge, "/v1/suppressions", {**query, "reason": "manual"})).status_code == 201
    for client in ("shop", "other"):
        ending = await edge.http.delete("/v1/suppressions", params=query, headers=edge.as_(client))
        problem(ending, 403, "client.forbidden")
    ending = await edge.http.delete("/v1/suppressions", params=query, headers=edge.as_("head"))
    assert ending.status_code == 200


@pytest.mark.parametrize(
    "body", [{"scope": "sender"}, {"scope": "class"}, {"scope": "all", "sender": "acme"}, {"class": "marketing"}]
)
async def test_a_suppressions_scope_must_fit(edge: Running, body: dict[str, str]) -> None:
    answer = await post(edge, "/v1/suppressions", {"recipient": number(), "reason": "manual", **body})
    problem(answer, 422, "request.invalid")


async def test_a_look_is_recorded_and_shows_only_ones_own_senders(edge: Running) -> None:
    to = number()
    await post(edge, "/v1/consents", grant(to))
    await post(edge, "/v1/consents", grant(to, sender="bolt"), headers=edge.as_("head"))
    seen = (await edge.http.get(f"/v1/recipients/{to}")).json()
    assert list(seen["consents"]) == ["acme/marketing"]
    assert [event["kind"] for event in seen["history"]] == ["grant", "access"]
    assert seen["number"] == f"{to[:4]}{'*' * 8}{to[-2:]}"
    whole = (await edge.http.get(f"/v1/recipients/{seen['subject']}", headers=edge.as_("head"))).json()
    assert list(whole["consents"]) == ["acme/marketing", "bolt/marketing"]
    assert [event["kind"] for event in whole["history"]] == ["grant", "grant", "access", "access"]
    assert [event["data"]["by"] for event in whole["history"]] == ["shop", "head", "shop", "head"]


async def test_times_are_written_in_utc(edge: Running) -> None:
    to, given = number(), datetime.now(UTC).replace(microsecond=0)
    terms = {"valid_until": (given + timedelta(days=30)).isoformat()}
    await post(edge, "/v1/consents", grant(to, occurred_at=given.isoformat(), terms=terms))
    await post(edge, "/v1/suppressions", {"recipient": to, "scope": "all", "reason": "manual"})
    seen = (await edge.http.get(f"/v1/recipients/{to}")).json()
    listed = (await edge.http.get("/v1/suppressions", params={"reason": "manual", "limit": 1000})).json()
    consent, first = seen["consents"]["acme/marketing"], seen["history"][0]
    assert consent.keys() == {"at", "until", "entry"}
    assert datetime.fromisoformat(consent["at"]) == datetime.fromisoformat(first["occurred_at"]) == given
    assert datetime.fromisoformat(consent["until"]) == given + timedelta(days=30)
    found = [one["at"] for one in listed["suppressions"] if one["subject"] == seen["subject"]]
    assert found == [one["at"] for one in seen["suppressions"]]
    assert all(written.endswith("Z") for written in (*found, consent["at"], first["occurred_at"], first["recorded_at"]))


async def test_a_withdrawal_by_subject_and_of_topics(edge: Running) -> None:
    to = number()
    subject = (await post(edge, "/v1/consents", grant(to, topics=["marketing", "invite"]))).json()["subject"]
    path = f"/v1/recipients/{subject}/withdraw"
    problem(await post(edge, path, {"topics": ["marketing"], "reason": "x"}), 422, "request.invalid")
    body = {"sender": "acme", "topics": ["marketing"], "reason": "only this"}
    assert (await post(edge, path, body)).status_code == 200
    seen = (await edge.http.get(f"/v1/recipients/{subject}")).json()
    assert list(seen["consents"]) == ["acme/invite"]


async def test_a_breaker_needs_a_name_and_a_reason_and_stops_within_seconds(edge: Running) -> None:
    to = number()
    await post(edge, "/v1/consents", grant(to))
    path = "/v1/breakers/sender:acme"
    for body in ({}, {"by": " ", "reason": "x"}, {"by": "Li Lei"}):
        problem(await post(edge, f"{path}/open", body), 422, "request.invalid")
    problem(await post(edge, "/v1/breakers/nonsense/open", {"by": "a", "reason": "b"}), 422, "request.invalid")
    assert (await post(edge, f"{path}/open", {"by": "Li Lei", "reason": "complaints"})).json()["is_open"] is True
    await _until(edge, to, stopped=True)
    problem(await promote(edge, to), 503, "breaker.open")
    listed = (await edge.http.get("/v1/breakers")).json()["breakers"]
    assert [(one["scope"], one["changed_by"]) for one in listed] == [("sender:acme", "Li Lei")]
    assert (await post(edge, f"{path}/close", {"by": "Han Mei", "reason": "list cleaned"})).json()["is_open"] is False
    await _until(edge, to, stopped=False)


async def _until(edge: Running, to: str, *, stopped: bool) -> None:
    async with asyncio.timeout(5):
        while ((await promote(edge, to)).json().get("code") == "breaker.open") is not stopped:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
