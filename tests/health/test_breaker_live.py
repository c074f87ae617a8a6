"""A storm of complaints while a campaign is on its way, end to end over real processes.

They warn, stop it, hold what waits and divide its list; a person cleanses the list, lets a share go on, then all.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from gateway_rig import Gateway, at, gateway, numbers, shipping
from http_carrier import Carrier, carrier

pytestmark = pytest.mark.integration

CAMPAIGN, LIST = "spring", "fair-2019"
SCOPES = (f"campaign:acme/{CAMPAIGN}", f"list_source:acme/{LIST}", "port:10690001", "sender:acme")
SIZE, RATE, ENOUGH = 2_600, 250, 1_400
WARNING, COMPLAINTS = 4, 15
"""How many have complained when it warns, and when it opens: 4 of 1,400 and 4 of 2,600 are above half of the line and
below it, so it does not matter how far the campaign is when it is looked at."""


class Live:
    """The gateway, its carrier, and the campaign in it."""

    def __init__(self, gate: Gateway, there: Carrier, pool: Any) -> None:
        self.gate, self.carrier, self.pool = gate, there, pool
        self.people = numbers(SIZE)

    async def begin(self) -> None:
        await self.gate.orders(self.people)
        for first in range(0, SIZE, 1000):
            messages = [self.message(to) for to in self.people[first : first + 1000]]
            results = (await self.gate.ok("/v1/messages/batch", {"messages": messages}))["results"]
            assert {row["status"] for row in results} == {"accepted"}

    def message(self, to: str, **more: Any) -> dict[str, Any]:
        return shipping(to, campaign=CAMPAIGN, list_source=LIST, client_ref="live", **more)

    async def delivered(self) -> int:
        return int(await self.pool.fetchval("SELECT coalesce(sum(n), 0) FROM outcome_minutes WHERE status = 4"))

    async def complain(self, first: int, end: int) -> None:
        told = [
            {"source": "own", "reporter": one["to"], "port": one["from"], "at": at(), "text": one["text"]}
            for one in self.carrier.submits[first:end]
        ]
        results = (await self.gate.ok("/v1/complaints", {"complaints": told}))["results"]
        assert {one["match"] for one in results} == {"matched"}

    async def breakers(self) -> dict[str, Any]:
        found = (await self.gate.http.get("/v1/breakers")).json()["breakers"]
        return {one["scope"]: one for one in found}

    async def until(self, what: str, holds: Callable[[], Any], within_s: float = 20.0) -> None:
        end = time.monotonic() + within_s
        while not await holds():
            assert time.monotonic() < end, what
            await asyncio.sleep(0.05)

    async def alerts(self, kind: str) -> set[str]:
        """The scopes of which it was raised."""
        found = (await self.gate.http.get("/v1/alerts")).json()["alerts"]
        return {one["scope"] for one in found if one["kind"] == kind}

    async def cleansing(self, scope: str, state: str) -> dict[str, Any]:
        """The list's cleansing, once it is so far."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            nonlocal found
            found = (await self.gate.http.get("/v1/cleansings", params={"scope": scope})).json()["cleansings"]
            return bool(found) and found[0]["state"] == state

        await self.until(f"the cleansing is not {state}", there)
        return found[0]

    async def move(self, to: str, **more: Any) -> None:
        for scope in SCOPES:
            await self.gate.ok(f"/v1/breakers/{scope}/{to}", {"by": "Li Lei", "reason": "list cleaned", **more})

    async def settled(self, quiet_s: float) -> int:
        """How many reached the carrier, once nothing has for so long."""
        last = time.monotonic()
        while time.monotonic() - last < quiet_s:
            last = max(self.carrier.times[-1], last)
            await asyncio.sleep(0.05)
        return len(self.carrier.times)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def live(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Live]:
    async with (
        carrier() as there,
        asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool,
        gateway(
            tmp_path_factory.mktemp("live"),
            redis_url=redis_url,
            kafka=kafka_bootstrap,
            prefix=topic_prefix,
            database_url=database_url,
            carrier_url=there.url,
            carrier_rate=str(RATE),
            carrier_window="200",
        ) as gate,
    ):
        there.callback = gate.url
        yield Live(gate, there, pool)


@pytest.mark.asyncio(loop_scope="session")
async def test_complaints_stop_a_campaign_within_5_s_and_a_person_lets_it_go_on(live: Live) -> None:
    await live.begin()

    async def enough() -> bool:
        return await live.delivered() >= ENOUGH

    await live.until("the campaign is not delivered", enough, 40)
    live.carrier.pace_s = 0.01  # so that it is not over before it is stopped, however busy this machine is
    await live.complain(0, WARNING)

    async def warned() -> bool:
        return await live.alerts("breaker.warn") == set(SCOPES)

    await live.until("nobody is warned", warned)
    assert await live.alerts("breaker.open") == set()
    await live.complain(WARNING, COMPLAINTS)
    told = time.monotonic()
    reached = await live.settled(3.0)
    stopped_s = live.carrier.times[-1] - told
    print(f"last submission {stopped_s:.2f} s after the complaints were recorded, {SIZE - reached} held")
    live.carrier.pace_s = 0.0
    assert stopped_s < 5.0
    assert ENOUGH <= reached < SIZE - 100

    standing = await live.breakers()
    assert {scope for scope in SCOPES if standing[scope]["position"] == "open"} == set(SCOPES)
    assert f"{COMPLAINTS} complaints of" in standing[SCOPES[0]]["reason"]
    refused = await live.gate.post("/v1/messages", live.message(live.people[-1]))
    assert (refused.status_code, refused.json()["code"]) == (503, "breaker.open")

    async def waiting() -> bool:
        return bool(await live.pool.fetchval("SELECT count(*) = $1 FROM held", SIZE - reached))

    await live.until("what was not submitted is not held", waiting)
    summary = await live.pool.fetchval(
        "SELECT summary FROM alerts WHERE kind = 'breaker.open' AND scope = $1", SCOPES[3]
    )
    assert summary.endswith(f"Clean {SCOPES[1]} and {SCOPES[0]} first.")

    job = await live.cleansing(SCOPES[1], "ready")
    counted = {one["category"]: one["people"] for one in job["categories"]}
    assert (job["asked_by"], job["people"], counted["complained"]) == ("assent", SIZE, COMPLAINTS)
    assert sum(counted.values()) == SIZE
    decided = {
        "by": "Han Meimei",
        "reason": "whoever complained, and nobody else",
        "choices": {one: "leave" for one, people in counted.items() if people and one != "complained"},
    }
    await live.gate.ok(f"/v1/cleansings/{job['id']}/apply", decided)
    cleansed = await live.cleansing(SCOPES[1], "applied")
    assert cleansed["applied_by"] == "Han Meimei"
    assert sum(cleansed["outcomes"].values()) == COMPLAINTS

    await live.move("trickle", permille=200)

    async def trickled() -> bool:
        return len(live.carrier.times) > reached

    await live.until("nothing trickles", trickled)
    share = (await live.settled(2.0) - reached) / (SIZE - reached)
    assert 0.1 < share < 0.3, share

    seen = (await live.gate.http.get(f"/v1/breakers/{SCOPES[0]}")).json()
    assert (seen["breaker"]["position"], seen["breaker"]["permille"]) == ("trickle", 200)
    assert seen["now"]["level"] == "ok"  # what it was stopped for was before
    assert seen["breaker"]["figures"]["n"] == 15

    await live.move("close")

    async def complete() -> bool:
        return len(live.carrier.times) == SIZE

    await live.until("the rest does not go", complete, 30)
    assert set(live.carrier.refs.values()) == {1}  # nothing twice
    acts = (await live.gate.http.get(f"/v1/breakers/{SCOPES[0]}/acts")).json()["acts"]
    assert [(one["position"], one["acted_by"], one["recorded"]) for one in acts] == [
        ("closed", "Li Lei", True),
        ("trickle", "Li Lei", True),
        ("open", "assent", True),
    ]
    said = {"by": "Li Lei", "reason": "r"}
    for permille in (0, 1000):
        wrong = await live.gate.post("/v1/breakers/campaign:a/trickle", {**said, "permille": permille})
        assert wrong.status_code == 422
    odd = await live.gate.ok("/v1/breakers/campaign:2026/spring/open", said)  # a campaign may be called so
    assert (odd["scope"], odd["position"]) == ("campaign:2026/spring", "open")
    text = (await live.gate.http.get("/metrics")).text
    assert 'assent_breaker_opens_total{counts="complaints",kind="campaign"} 1.0' in text
