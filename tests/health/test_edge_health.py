"""Health over HTTP, within what a client may see; campaign links, whose clicks count once and of people alone."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from gateway.contract.health import Act, Signal
from gateway.contract.ids import new_id
from gateway.edge.clicks import Clicks
from gateway.records import breakers, cleansing, links, partitions, registry, settlement, signals
from gateway.records.settlement import Minute
from gateway.settle import gauges
from gateway.telemetry import exposition
from tests.integration.edge_app import Running, running

pytestmark = pytest.mark.integration
NOW = int(time.time()) // 60
PHONE = (
    "Mozilla/5.0 (Linux; Android 14; PJD110) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36"
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        async with served.gate.pool.acquire() as conn:
            await fill(conn)
        yield served


async def fill(conn: Any) -> None:
    """Of acme 4,000 delivered and two complaints in campaign may, 1,000 in june; of bolt 500 and none."""
    for n, (sender, campaign, delivered) in enumerate(
        (("acme", "may", 4000), ("acme", "june", 1000), ("bolt", "b", 500))
    ):
        fields = ("shop", sender, "marketing.promotion", "marketing", "10690002", "cn@1", "consent", campaign, None)
        (origin,) = (await settlement.origin_ids(conn, [(n.to_bytes(16, "big"), fields)])).values()
        await settlement.count(
            conn,
            {
                Minute(NOW - 90, origin, "", 2, 0): delivered + 100,
                Minute(NOW - 30, origin, "sim", 4, 0): delivered,
                Minute(NOW - 30, origin, "sim", 5, 1): 100,
            },
        )
        acts = [Act.COMPLAINT, Act.COMPLAINT, Act.UNSUBSCRIBE, Act.REPLY] if campaign == "may" else []
        told = [Signal(act, bytes([n, k] * 8), NOW - 30, 0, origin) for k, act in enumerate(acts)]
        await signals.note(conn, told)


async def ask(edge: Running, client: str = "shop", **asked: Any) -> dict[str, Any]:
    answer = await edge.http.get("/v1/health", params=asked, headers=edge.as_(client))
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def test_rates_have_what_they_are_of_and_the_highest_comes_first(edge: Running) -> None:
    said = await ask(edge, sender="acme", by="campaign", step="hour")
    total = said["total"]
    assert (total["delivered"], total["complaints"], total["complaint_ppm"]) == (5000, 2, 400.0)
    assert (total["failed"], total["causes"], total["delivery_percent"]) == (200, {"dead_number": 200}, 96.154)
    assert (total["unsubscribe_ppm"], total["replied"], total["engagement_percent"]) == (200.0, 1, 0.02)
    assert total["read"] is None
    assert [(row["key"], row["complaint_ppm"]) for row in said["rows"]] == [("may", 500.0), ("june", 0.0)]
    assert sum(point["delivered"] for point in said["series"]) == 5000
    nothing = (await ask(edge, sender="acme", campaign="never"))["total"]
    assert (nothing["delivered"], nothing["complaint_ppm"], nothing["delivery_percent"]) == (0, None, None)


@pytest.mark.parametrize("step", ["minute", "day", "month"])
async def test_every_step_holds_the_same(edge: Running, step: str) -> None:
    since = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    said = await ask(edge, sender="acme", step=step, since=since)
    assert said["zone"] == "Asia/Shanghai"
    assert sum(point["delivered"] for point in said["series"]) == 5000


async def test_a_client_sees_its_own_senders_alone(edge: Running) -> None:
    assert (await ask(edge, "reads", by="sender"))["rows"][0]["key"] == "acme"
    assert {row["key"] for row in (await ask(edge, "head", by="sender"))["rows"]} == {"acme", "bolt"}
    other = await edge.http.get("/v1/health", params={"sender": "bolt"}, headers=edge.as_("reads"))
    assert (other.status_code, other.json()["code"]) == (403, "client.forbidden")
    assert (await ask(edge, "reads", campaign="b"))["total"]["delivered"] == 0
    assert (await edge.http.get("/v1/health", headers=edge.as_("sends"))).status_code == 403


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "2026-11-25T10:00:00Z", "until": "2026-11-25T09:00:00Z"},
        {"step": "minute", "since": "2026-01-01T00:00Z"},
        {"by": "nothing"},
        {"since": "yesterday"},
    ],
)
async def test_what_cannot_be_answered_is_422(edge: Running, asked: dict[str, str]) -> None:
    assert (await edge.http.get("/v1/health", params=asked)).status_code == 422


async def test_consent_age_is_read_from_the_records(edge: Running) -> None:
    pool, day = edge.gate.pool, 86_400_000
    at = NOW * 60_000 - day
    async with pool.acquire() as conn:
        await partitions.ensure(conn, [partitions.day_of(at)])
        fields = ("shop", "bolt", "marketing.promotion", "marketing", "10690004", "cn@1", "consent", "aged", "l-aged")
        (origin,) = (await settlement.origin_ids(conn, [(b"age" + bytes(13), fields)])).values()
        ids = [new_id(1, at) for _ in range(6)]
        for n, (age, one) in enumerate(zip((1, 40, 100, 400, 40, None), ids, strict=True)):
            if age is not None:
                await conn.execute(
                    "INSERT INTO consent_events (seq, event_id, at, kind, version, tag, commitment) "
                    "VALUES ($1, $2, to_timestamp($3 / 1000.0), 'grant', 1, $4, $5)",
                    1_000_000 + n, f"age-{n}", at - age * day, bytes(16), bytes(32),
                )  # fmt: skip
            await conn.execute(
                "INSERT INTO messages (id, origin, accepted_at, settled_at, entry, rank, status, carrier, timeline) "
                "VALUES ($1, $2, $3, $3, $4, 4000000, 4, 'sim', '[]')",
                one, origin, at, None if age is None else 1_000_000 + n,
            )  # fmt: skip
        await signals.note(conn, [Signal(Act.COMPLAINT, b"aged" * 4, at // 60_000, at, origin, ids[1])])
    since = datetime.fromtimestamp(at / 1000 - 60, UTC).isoformat()
    for asked in (
        {"sender": "bolt", "campaign": "aged"}, {"port": "10690004", "carrier": "sim"}, {"list_source": "l-aged"},
        {"purpose": "marketing.promotion", "campaign": "aged"},
    ):  # fmt: skip
        said = await ask(edge, "other", by="consent_age", since=since, **asked)
        rows = {row["key"]: (row["delivered"], row["complaints"]) for row in said["rows"]}
        assert rows == {
            "under_30_days": (1, 0), "under_90_days": (2, 1), "under_1_year": (1, 0), "older": (1, 0), "none": (1, 0),
        }, asked  # fmt: skip
        assert said["rows"][0]["key"] == "under_90_days"
    for nothing in ({"carrier": "http"}, {"port": "10690003"}, {"list_source": "x"}):
        said = await ask(edge, "other", by="consent_age", since=since, campaign="aged", **nothing)
        assert said["rows"] == []
    assert (await ask(edge, "reads", by="consent_age", since=since, port="10690004"))["rows"] == [], "others' messages"


async def test_breakers_and_cleansings_of_others_are_not_seen(edge: Running) -> None:
    found = {"n": 20, "clean": {"campaign": [{"name": "may"}]}}
    ours, both = (
        {"campaign:b", "campaign:bolt/b", "port:10690003", "all"},
        {"campaign:may", "campaign:acme/may", "sender:acme", "port:10690002", "list_source:x"},
    )
    async with edge.gate.pool.acquire() as conn:
        for scope in ours | both:
            await registry.set_breaker(conn, scope, is_open=False, by="Li Lei", reason="test")
        for scope in ("campaign:b", "campaign:bolt/b"):
            await registry.set_breaker(conn, scope, is_open=True, by="assent", reason="20 of 900", figures=found)
        await conn.execute("INSERT INTO breaker_warnings (scope, figures) VALUES ('sender:acme', '{}')")
        for scope in ("campaign:may", "campaign:b"):
            await cleansing.ask(conn, scope, since_ms=0, until_ms=1, months=None, by="Li Lei", reason="test")

    async def seen(path: str, client: str, status: int = 200) -> dict[str, Any]:
        answer = await edge.http.get(path, headers=edge.as_(client))
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    told, whole = await seen("/v1/breakers", "looks"), await seen("/v1/breakers", "head")
    assert ({one["scope"] for one in told["breakers"]}, told["warnings"]) == (ours, [])
    assert {one["scope"] for one in whole["breakers"]} == ours | both
    assert [one["scope"] for one in whole["warnings"]] == ["sender:acme"]
    for path, figures in (
        ("campaign:b", {"n": 20}), ("campaign:b/acts", {"n": 20}), ("campaign:bolt/b", found),
        ("campaign:bolt/b/acts", found),
    ):  # fmt: skip
        one = await seen(f"/v1/breakers/{path}", "looks")
        assert (one["acts"][0] if "acts" in one else one["breaker"])["figures"] == figures, (
            "others' campaigns are named"
        )
    for scope in both:
        await seen(f"/v1/breakers/{scope}", "looks", 404)
        await seen(f"/v1/breakers/{scope}/acts", "looks", 404)
    assert [one["scope"] for one in (await seen("/v1/cleansings", "looks"))["cleansings"]] == ["campaign:b"]
    assert len((await seen("/v1/cleansings", "head"))["cleansings"]) == 2
    assert await breakers_kept(edge, "campaign:b") == found


async def test_the_list_says_how_what_trickles_and_warns_is_judged_now(edge: Running) -> None:
    async with edge.gate.pool.acquire() as conn:
        for scope in ("campaign:acme/may", "campaign:acme/june"):
            await registry.set_breaker(conn, scope, is_open=True, by="assent", reason="r", figures={"n": 1})
        await registry.set_breaker(conn, "campaign:acme/may", is_open=True, by="Li Lei", reason="r", permille=10)
        await conn.execute("UPDATE breakers SET changed_at = changed_at - interval '1 hour' WHERE permille IS NOT NULL")
        await conn.execute("INSERT INTO breaker_warnings (scope, figures) VALUES ('sender:bolt', '{}')")
    said = (await edge.http.get("/v1/breakers")).json()
    trickling, stopped = [
        next(one for one in said["breakers"] if one["scope"] == scope)
        for scope in ("campaign:acme/may", "campaign:acme/june")
    ]
    assert stopped["now"] is None
    assert trickling["now"]["figures"]["n"] == 2
    assert trickling["now"] == (await edge.http.get("/v1/breakers/campaign:acme/may")).json()["now"]
    (warning,) = [one for one in said["warnings"] if one["scope"] == "sender:bolt"]
    assert (warning["now"]["level"], warning["now"]["figures"]["n"], warning["figures"]) == ("ok", 1, {})


async def breakers_kept(edge: Running, scope: str) -> dict[str, Any] | None:
    async with edge.gate.pool.acquire() as conn:
        return (await breakers.acts(conn, scope, None, 1))[0].figures


async def test_a_click_counts_once_a_minute_and_of_people_alone(edge: Running) -> None:
    url = "https://shop.example/may?from=sms"
    made = await edge.http.post("/v1/campaigns/may/links", json={"sender": "acme", "url": url})
    assert made.status_code == 201, made.text
    link = made.json()
    again = await edge.http.post("/v1/campaigns/may/links", json={"sender": "acme", "url": url})
    assert again.json()["id"] == link["id"]
    assert [one["url"] for one in (await edge.http.get("/v1/campaigns/may/links")).json()["links"]] == [url]
    async with httpx.AsyncClient(base_url=edge.url) as anybody:
        for agent in (PHONE, PHONE, PHONE + " MicroMessenger/8", "WhatsApp/2.23", "curl/8"):
            answer = await anybody.get(f"/l/{link['id']}", headers={"user-agent": agent})
            assert (answer.status_code, answer.headers["location"]) == (302, url)
            assert answer.headers["cache-control"] == "no-store"
        head = await anybody.head(f"/l/{link['id']}", headers={"user-agent": PHONE + " a"})
        assert (head.status_code, head.headers["location"]) == (302, url)
        assert (await anybody.get("/l/nothing-here")).status_code == 404
    async with asyncio.timeout(5):
        while (await ask(edge, sender="acme", campaign="may"))["total"]["clicks"] < 2:  # noqa: ASYNC110 - the worker adds them
            await asyncio.sleep(0.1)
    total = (await ask(edge, sender="acme", campaign="may"))["total"]
    assert (total["clicks"], total["engaged"]) == (2, 3)
    stored = await edge.gate.pool.fetch("SELECT * FROM signals WHERE signal = $1", Act.CLICK.value)
    assert stored == [], "nothing of a visitor is kept"


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://",
        "//shop.example/x",
        "https://user@shop.example/",
        "http://shop.example:x/",
        "a",
    ],
)
async def test_a_link_leads_to_an_address_of_the_web(edge: Running, url: str) -> None:
    answer = await edge.http.post("/v1/campaigns/may/links", json={"sender": "acme", "url": url})
    assert answer.status_code == 422
    forbidden = {"sender": "bolt", "url": "https://shop.example/1"}
    assert (await edge.http.post("/v1/campaigns/may/links", json=forbidden)).status_code == 403


async def test_the_first_links_of_a_campaign_may_be_made_at_once(edge: Running) -> None:
    async def one(n: int) -> str:
        body = {"sender": "acme", "url": f"https://shop.example/{n % 4}"}
        answer = await edge.http.post(f"/v1/campaigns/many{n // 8}/links", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    assert len(set(await asyncio.gather(*map(one, range(32))))) == 16


async def test_an_addition_that_is_made_again_counts_once_and_one_that_failed_is_made_again(
    edge: Running, database_url: str
) -> None:
    pool, worker = edge.gate.pool, str(uuid.uuid4())
    counted = "SELECT sum(n) FROM signal_days WHERE origin = $1"
    async with pool.acquire() as conn:
        link = await links.make(conn, "acme", "lost", "https://shop.example/", "shop")
        assert await links.add_clicks(conn, worker, 1, {(NOW, link.origin): 3})
        assert not await links.add_clicks(conn, worker, 1, {(NOW, link.origin): 3})
        assert await links.add_clicks(conn, worker, 2, {(NOW, link.origin): 1})
    assert await pool.fetchval(counted, link.origin) == 4
    clicks = Clicks()
    assert clicks.visit(link, "192.0.2.1", PHONE, NOW)
    assert not clicks.visit(link, "192.0.2.1", PHONE, NOW)
    assert clicks.visit(link, "192.0.2.1", PHONE, NOW + 1)
    async with asyncpg.create_pool(database_url, min_size=0) as gone:
        pass
    with pytest.raises(asyncpg.InterfaceError):
        await clicks.add(gone)
    assert clicks.visit(link, "192.0.2.2", PHONE, NOW + 1)
    await clicks.add(pool)
    await clicks.add(pool)
    await clicks.add(pool)
    assert await pool.fetchval(counted, link.origin) == 7


async def test_prometheus_shows_each_senders_health(edge: Running) -> None:
    await gauges.measure(edge.gate.pool, ["acme", "quiet"], NOW)
    shown = exposition(None).decode()
    assert 'assent_complaint_ppm{sender="acme"} 400.0' in shown
    assert 'assent_complaint_ppm{sender="quiet"} NaN' in shown
    assert 'assent_sender_delivered{sender="acme"} 5000.0' in shown
