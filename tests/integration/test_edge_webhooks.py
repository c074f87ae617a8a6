"""Callback addresses at the door, and webhooks that were given up on over HTTP: whose they are, and their replay."""

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from edge_app import MASTER, PEPPER, Running, running

from gateway.contract.health import Alert
from gateway.ledger.keys import Keys
from gateway.records import alerts, webhooks
from gateway.settle.notices import Notices

pytestmark = pytest.mark.integration
KEYS = Keys(MASTER, PEPPER)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        yield served


async def dead(edge: Running, client: str, n: int, **more: Any) -> list[str]:
    """So many that were given up on."""
    address, now = Notices(KEYS).address(client, "https://hooks.example/x"), time.time_ns() // 1_000_000
    fields = {"kind": "message.status", "message": str(uuid.uuid4()), "subject": None, "made_at": now, "sealed": b"x"}
    rows = [webhooks.Row(uuid.uuid4(), address.name, **{**fields, **more}) for _ in range(n)]
    async with edge.gate.pool.acquire() as conn:
        await webhooks.remember(conn, [address], now)
        await webhooks.enqueue(conn, rows)
        await webhooks.dead(conn, [(row.id, 0, "refused 500") for row in rows], now)
    return sorted(str(row.id) for row in rows)


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def empty(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM webhooks")
    await connection.close()


BODY = {"to": "+8613900000001", "sender": "acme", "purpose": "transaction.shipping", "text": "已发货"}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/x", "must be https"),
        ("https://127.0.0.1/x", "points into a network we do not call"),
        ("https://[::ffff:10.0.0.1]/x", "points into a network we do not call"),
        ("https://169.254.169.254/latest", "points into a network we do not call"),
        ("https://hooks.example:22/x", "port must be one of 443, 8443"),
        ("https://user:secret@hooks.example/x", "not an address we call"),
        ("https://0x7f000001/x", "not an address we call"),
    ],
)
async def test_an_address_we_would_not_call_is_refused_with_its_message(edge: Running, url: str, why: str) -> None:
    for path, body in (
        ("/v1/messages", {**BODY, "callback_url": url}),
        ("/v1/messages/check", {**BODY, "callback_url": url}),
    ):
        answer = await edge.http.post(path, json=body)
        assert answer.status_code == 422, answer.text
        document = answer.json()
        assert document["code"] == "request.invalid"
        assert document["detail"].startswith("callback_url: " + why)
        assert "secret" not in answer.text
    batch = {"messages": [{**BODY, "callback_url": url}, {**BODY, "callback_url": "https://hooks.example/x"}]}
    first, second = (await edge.http.post("/v1/messages/batch", json=batch)).json()["results"]
    assert first["code"] == "request.invalid"
    assert second["code"] == "relationship.missing"


async def test_a_client_sees_its_own_and_an_operator_everybodys(edge: Running) -> None:
    reads, sends = await dead(edge, "reads", 3), await dead(edge, "sends", 2)
    own = (await edge.http.get("/v1/webhooks/dead", headers=edge.as_("reads"))).json()
    assert [one["id"] for one in own["webhooks"]] == reads
    assert own["webhooks"][0]["last"] == "refused 500"
    assert own["webhooks"][0]["replayable"] is True
    assert "hooks.example" not in str(own)
    other = await edge.http.get("/v1/webhooks/dead?client=sends", headers=edge.as_("reads"))
    assert (other.status_code, other.json()["code"]) == (403, "client.forbidden")
    everybodys = (await edge.http.get("/v1/webhooks/dead", headers=edge.as_("head"))).json()
    assert {one["id"] for one in everybodys["webhooks"]} == {*reads, *sends}
    one_client = (await edge.http.get("/v1/webhooks/dead?client=sends", headers=edge.as_("head"))).json()
    assert [one["id"] for one in one_client["webhooks"]] == sends
    page = (await edge.http.get("/v1/webhooks/dead?limit=2", headers=edge.as_("reads"))).json()
    rest = (await edge.http.get(f"/v1/webhooks/dead?after={page['next']}", headers=edge.as_("reads"))).json()
    assert [one["id"] for one in page["webhooks"] + rest["webhooks"]] == reads
    assert (await edge.http.get("/v1/webhooks/dead", headers={"authorization": "Bearer x"})).status_code == 401


async def test_replaying_one_and_all(edge: Running) -> None:
    reads, sends = await dead(edge, "reads", 3), await dead(edge, "sends", 1)
    head = edge.as_("reads")
    answer = await edge.http.post(f"/v1/webhooks/{sends[0]}/replay", headers=head)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await edge.http.post(f"/v1/webhooks/{reads[0]}/replay", headers=head)).json() == {"replayed": 1}
    assert (await edge.http.post(f"/v1/webhooks/{reads[0]}/replay", headers=head)).status_code == 404
    assert (await edge.http.post("/v1/webhooks/nonsense/replay", headers=head)).status_code == 422
    assert (await edge.http.post("/v1/webhooks/replay?client=sends", headers=head)).status_code == 403
    assert (await edge.http.post("/v1/webhooks/replay", headers=head)).json() == {"replayed": 2}
    assert (await edge.http.post("/v1/webhooks/replay", headers=edge.as_("head"))).json() == {"replayed": 1}
    assert await edge.gate.pool.fetchval("SELECT count(*) FROM webhooks WHERE dead_at IS NOT NULL") == 0


async def test_an_operator_reads_what_was_raised_page_by_page_and_nobody_else_does(edge: Running) -> None:
    for n in range(3):
        said = {"severity": "critical", "scope": "sender:acme", "summary": "Acme is stopped.", "detail": {"ppm": n}}
        alert = Alert.model_validate({"key": f"http/{n}", "kind": "breaker.open", **said})
        async with edge.gate.pool.acquire() as conn:
            await alerts.put(conn, alert)
    first = (await edge.http.get("/v1/alerts", params={"limit": 2})).json()
    assert [one["detail"]["ppm"] for one in first["alerts"]] == [0, 1]
    assert (first["alerts"][0]["kind"], first["alerts"][0]["told"]) == ("breaker.open", False)
    rest = (await edge.http.get("/v1/alerts", params={"after": first["next"]})).json()
    assert [one["detail"]["ppm"] for one in rest["alerts"]] == [2]
    assert "next" not in rest
    none = {"since": "2099-01-01T00:00:00Z"}
    assert (await edge.http.get("/v1/alerts", params=none)).json()["alerts"] == []
    assert (await edge.http.get("/v1/alerts", params={"kind": "case.overdue"})).json()["alerts"] == []
    assert (await edge.http.get("/v1/alerts", params={"since": "2026-01-01T00:00:00"})).status_code == 422
    refused = await edge.http.get("/v1/alerts", headers=edge.as_("reads"))
    assert (refused.status_code, refused.json()["code"]) == (403, "client.forbidden")
