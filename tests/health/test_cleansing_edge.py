"""Cleansings over HTTP, on a real edge: asked for, looked at by those who may, decided, undone, and refused."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from cleansing_rig import DELIVERED, NONE, TICKED, Lists, days_ago, number
from edge_app import SENDERS, Running, running

from gateway.contract.consent import Event, EventKind
from gateway.contract.ids import subject_of
from gateway.ledger import events
from gateway.settle.cleansing.working import Cleansing

pytestmark = pytest.mark.integration
ACT = {"by": "Li Lei", "reason": "complaints"}


@pytest.fixture(scope="module")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        yield served


@pytest.fixture(scope="module")
async def work(edge: Running) -> Cleansing:
    gate = edge.gate
    return Cleansing(gate.pool, gate.appender, lambda: {one.id: one for one in SENDERS}, gate.packs)


async def a_list(edge: Running, name: str, agreed_days_ago: int, n: int = 3) -> list[str]:
    gate, people = edge.gate, [number() for _ in range(n)]
    made = Lists(gate.pool, gate.guard, gate.appender)
    origin = await made.origin(name)
    who = {one: subject_of(gate.pepper, one) for one in people}
    await made.sent(origin, [(subject, days_ago(2), DELIVERED, NONE) for subject in who.values()])
    data = events.grant("acme", ["marketing"], evidence=TICKED)
    at = days_ago(agreed_days_ago)
    await gate.appender.append(
        [
            Event(
                event_id=str(uuid.uuid4()),
                kind=EventKind.GRANT,
                number=one,
                subject=subject,
                occurred_at_ms=at,
                data=data,
            )
            for one, subject in who.items()
        ]
    )
    return people


async def post(edge: Running, path: str, body: dict[str, Any], status: int = 202, who: str = "shop") -> dict[str, Any]:
    answer = await edge.http.post(f"/v1/cleansings{path}", json=body, headers=edge.as_(who))
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def get(edge: Running, path: str, status: int = 200, who: str = "shop", **params: Any) -> dict[str, Any]:
    answer = await edge.http.get(f"/v1/cleansings{path}", params=params, headers=edge.as_(who))
    assert answer.status_code == status, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def ready(edge: Running, work: Cleansing, scope: str, **more: Any) -> dict[str, Any]:
    made = await post(edge, "", {"scope": scope, **ACT, **more})
    assert (made["state"], made["progress"]["stage"]) == ("gathering", "gathering")
    while await work.once():
        pass
    return await get(edge, f"/{made['id']}")


def choices(told: dict[str, Any]) -> dict[str, tuple[int, str]]:
    return {one["category"]: (one["people"], one["choice"]) for one in told["categories"] if one["people"]}


async def test_a_list_is_previewed_decided_and_undone(edge: Running, work: Cleansing) -> None:
    people = await a_list(edge, "http", 300)
    told = await ready(edge, work, "campaign:http")
    name = told["id"]
    assert (told["state"], told["people"], choices(told)) == ("ready", 3, {"never_engaged": (3, "repermission")})
    assert not any("examples" in one for one in told["categories"])
    shown = {one["category"]: one["examples"] for one in (await get(edge, f"/{name}", examples=True))["categories"]}
    subjects = sorted(subject_of(edge.gate.pepper, one).hex() for one in people)
    assert shown == {category: subjects if category == "never_engaged" else [] for category in shown}
    page = await get(edge, f"/{name}/people", category="never_engaged", limit=2)
    rest = await get(edge, f"/{name}/people", category="never_engaged", limit=2, after=page["next"])
    assert [one["subject"] for one in page["people"] + rest["people"]] == subjects
    assert page["people"][0]["reasons"] == ["never_engaged"]
    seen = [one["data"]["seen"] for one in await edge.gate.appender.history(events.SYSTEM) if one["kind"] == "access"]
    assert seen == [[f"cleansing {name}"], *[[f"cleansing {name} never_engaged"]] * 2]

    body = {"choices": {"never_engaged": "suppress"}, **ACT}
    assert (await post(edge, f"/{name}/apply", body))["state"] == "applying"
    assert (await post(edge, f"/{name}/apply", body))["state"] == "applying", "said twice"
    assert (await post(edge, f"/{name}/apply", {**body, "by": "Han"}, 409))["code"] == "cleansing.state"
    assert (await post(edge, f"/{name}/undo", ACT, 409))["code"] == "cleansing.state"
    await work.once()
    told = await get(edge, f"/{name}")
    assert (told["state"], told["outcomes"], told["applied_by"]) == ("applied", {"suppressed": 3}, "Li Lei")
    assert choices(told) == {"never_engaged": (3, "suppress")}
    message = {"to": people[0], "sender": "acme", "purpose": "marketing.promotion", "text": "新品上市"}
    refused = await edge.http.post("/v1/messages/check", json=message)
    assert '"code":"suppressed"' in refused.text.replace(" ", ""), refused.text

    assert (await post(edge, f"/{name}/undo", ACT))["state"] == "undoing"
    await work.once()
    assert (await post(edge, f"/{name}/undo", ACT))["outcomes"] == {"lifted": 3}, "said twice"
    lifted = await edge.http.post("/v1/messages/check", json=message)
    assert '"code":"suppressed"' not in lifted.text.replace(" ", ""), lifted.text
    assert [one["id"] for one in (await get(edge, "", scope="campaign:http", who="reads"))["cleansings"]] == [name]


async def test_what_is_too_late_is_said(edge: Running, work: Cleansing) -> None:
    await a_list(edge, "late", 30)
    told = await ready(edge, work, "campaign:late")
    name, move = uuid.UUID(told["id"]), "UPDATE cleansings SET {0} = {0} - $2::interval WHERE id = $1"
    await edge.gate.pool.execute(move.format("ready_at"), name, timedelta(days=8))
    assert (await post(edge, f"/{name}/apply", ACT, 409))["code"] == "cleansing.late"
    await edge.gate.pool.execute(move.format("ready_at"), name, timedelta(days=-8))
    await post(edge, f"/{name}/apply", ACT)
    await work.once()
    await edge.gate.pool.execute(move.format("applied_at"), name, timedelta(hours=25))
    assert (await post(edge, f"/{name}/undo", ACT, 409))["code"] == "cleansing.late"


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "all"}, {"scope": "class:marketing"}, {"scope": "campaign:"}, {"by": ""}, {"reason": " "},
        {"months": 0}, {"since": "2999-01-01T00:00:00Z"}, {"since": "2026-01-01T00:00:00"}, {"more": 1},
    ],
)  # fmt: skip
async def test_what_cannot_be_meant_is_refused(edge: Running, wrong: dict[str, Any]) -> None:
    assert (await post(edge, "", {"scope": "campaign:x", **ACT, **wrong}, 422))["code"] == "request.invalid"


async def test_who_may_not_decide_is_refused(edge: Running, work: Cleansing) -> None:
    told = await ready(edge, work, "campaign:nobody")
    assert (told["people"], choices(told)) == (0, {})
    for who in ("reads", "sends"):
        await post(edge, "", {"scope": "campaign:x", **ACT}, 403, who)
        await post(edge, f"/{told['id']}/apply", ACT, 403, who)
        await get(edge, f"/{told['id']}/people", 403, who, category="dead")
    await get(edge, f"/{uuid.uuid4()}", 404)
    await post(edge, f"/{uuid.uuid4()}/undo", ACT, 404)
    body = {"choices": {"complained": "repermission"}, **ACT}
    assert (await post(edge, f"/{told['id']}/apply", body, 422))["errors"][0]["field"] == "choices"
