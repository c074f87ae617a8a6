"""A slow carrier, a greedy client, a hot recipient, a campaign's backlog, a full disk: bounded, refused honestly, kept.

Real processes, classes apart as `assent up` runs them, and a Kafka of this module's own. CI runs small sizes;
`ASSENT_LONG=1` (`make fault`) runs the large ones and gates what small samples cannot. Figures are printed (`-s`).
"""

import asyncio
import os
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import pytest_asyncio
from gateway_rig import Gateway, gateway, numbers, shipping
from http_carrier import Carrier, carrier
from pressure import (
    Greedy,
    Posts,
    accept,
    arrived,
    consent_all,
    noon_in_shanghai,
    out_of_order,
    percentile,
    promotion,
    rss,
)

from gateway.local.parts import Kafka, Part, bring_up, free_port

LONG = bool(os.environ.get("ASSENT_LONG"))
pytestmark = [pytest.mark.fault, pytest.mark.timeout(3600 if LONG else 120)]

SLOW = 100_000 if LONG else 1_500
"""Messages that wait for a carrier that takes one a second."""
EACH = 5
GROWTH_MIB = 32.0
HOT, HOT_ROUNDS = (20_000, 4) if LONG else (1_000, 2)
MOST_A_DAY = 10
BACKLOG = 1_000_000 if LONG else 1_500
ROUNDS, PHASE_S = (6, 6.0) if LONG else (2, 1.5)
RATIO = 1.5 if LONG else 4.0
"""The p99 of a hundred messages is nearly their slowest; only the long run has enough for the promise itself."""
NOISE_S = 0.05
"""Below this, a ratio says more about the machine than about the gateway."""
QUOTA = 120
PROCESSES = ("ledger", "settle", "urgent", "marketing", "edge")


@dataclass
class World:
    gate: Gateway
    there: Carrier
    kafka: Part


@pytest.fixture(scope="module")
def kafka(parts_dir: Path) -> Iterator[Part]:
    part = Kafka(parts_dir / "pressed", free_port(), free_port(), parts_dir / "log/pressed-kafka.log")
    try:
        bring_up([part])
        yield part
    finally:
        part.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    redis_url: str, database_url: str, kafka: Part, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("pressed")
    with noon_in_shanghai(folder / "zones"):
        async with (
            carrier() as there,
            gateway(
                folder,
                PROCESSES,
                redis_url=redis_url,
                kafka=kafka.endpoint,
                prefix="",
                database_url=database_url,
                carrier_url=there.url,
                carrier_query_url=there.query_url,
                carrier_window="24",
                log_level="info",
            ) as gate,
        ):
            there.callback = gate.url
            yield World(gate, there, kafka)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def greedy(world: World) -> AsyncIterator[Greedy]:
    """Has eaten ten times its quota while the first test sent its own, and waits for its time."""
    words = ("client", "add", "greedy", "--senders", "acme", "--quota", str(QUOTA))
    added = await asyncio.to_thread(world.gate.command, *words)
    assert added.returncode == 0, added.stderr
    people = numbers(10 * QUOTA)
    await world.gate.orders(people)
    key = added.stdout.split()[-1]
    http = httpx.AsyncClient(base_url=world.gate.url, headers={"authorization": f"Bearer {key}"}, timeout=10)
    one = Greedy(http, QUOTA, people)
    yield one
    await one.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def doubted(world: World) -> dict[str, str]:
    """Two messages whose answers were lost before the other tests began: one that reached the carrier, one that not."""
    gate, there = world.gate, world.there
    there.reporting = False
    found = {}
    for name, lost in (("had", "losing"), ("never", "deaf")):
        to = await gate.customer()
        setattr(there, lost, True)
        found[name] = (await gate.send(shipping(to)))["id"]
        await gate.until(found[name], "unknown")
        setattr(there, lost, False)
    there.reporting = True
    return found


async def test_a_client_at_ten_times_its_quota_is_told_when_to_come_again_and_others_are_not(
    world: World, greedy: Greedy, doubted: dict[str, str]
) -> None:
    assert set(doubted) == {"had", "never"}
    others = Posts(world.gate, world.there, numbers(100))
    await world.gate.orders(others.people)
    await others.run(1.0)
    alone = percentile(others.answered_s, 0.95)
    others.answered_s.clear()
    _, _ = await asyncio.gather(greedy.devour(), others.run(1.0))
    beside = percentile(others.answered_s, 0.95)
    print(
        f"a greedy client: {dict(greedy.codes)}; the others' p95 {alone * 1e3:.0f} ms alone, {beside * 1e3:.0f} beside"
    )
    assert greedy.codes["client.quota"] > 0
    assert 0 < greedy.codes["accepted"] <= QUOTA * len(greedy.minutes)
    assert 0 < greedy.told_s <= 60
    await others.waits_s()


async def test_a_carrier_at_one_message_a_second_costs_no_memory_and_nothing_is_lost(world: World) -> None:
    gate, there = world.gate, world.there
    people = numbers(SLOW // EACH)
    await gate.orders(people)
    bodies = [shipping(people[n % len(people)]) for n in range(SLOW)]
    there.pace_s = 1.0
    try:
        ids = await accept(gate, bodies[: SLOW // 3])
        before = rss(gate, "edge", "urgent")
        ids += await accept(gate, bodies[SLOW // 3 :])
        await asyncio.sleep(600 if LONG else 3)
        after = rss(gate, "edge", "urgent")
        waiting = len(ids) - len({one["ref"] for one in there.submits} & set(ids))
    finally:
        there.pace_s = 0.0
    print(f"one a second, {waiting:,} waiting: MiB before {before}, after {after}")
    assert waiting > SLOW * 0.9
    for name, mib in after.items():
        assert mib - before[name] < GROWTH_MIB, (name, before, after)
    await arrived(there, ids, within_s=30 + SLOW / 100)
    assert out_of_order(there, ids) == 0
    assert {there.refs[one] for one in ids} == {1}


async def test_a_hot_recipient_fills_its_own_windows_and_nobody_elses_time(world: World) -> None:
    """Beside as many to many people, in turn: what is compared is whom they go to, not how many they are."""
    gate, there = world.gate, world.there
    others = Posts(gate, there, numbers(100))
    await gate.orders(others.people)
    took: dict[str, list[float]] = {"spread": [], "hot": []}
    hot = numbers(HOT_ROUNDS)
    for to in hot:
        people = numbers(HOT // MOST_A_DAY)
        await gate.orders([to, *people])
        for name in took:
            bodies = [shipping(to if name == "hot" else people[n % len(people)]) for n in range(HOT)]
            others.answered_s.clear()
            codes, _ = await asyncio.gather(flooded(gate, bodies), others.run(1.0))
            took[name] += others.answered_s
        assert codes == {"accepted": MOST_A_DAY, "window.exceeded": HOT - MOST_A_DAY}
    spread, beside = (percentile(took[name], 0.5) for name in ("spread", "hot"))
    print(f"others' p50 beside {HOT:,} to many {spread * 1e3:.0f} ms, to one number {beside * 1e3:.0f} ms")
    assert beside <= max(spread * 2, NOISE_S)
    await others.waits_s(30)
    assert Counter(one["to"] for one in there.submits if one["to"] in hot) == dict.fromkeys(hot, MOST_A_DAY)


async def flooded(gate: Gateway, bodies: list[dict[str, str]]) -> Counter[str]:
    """What became of all of them, two batches at a time."""
    codes: Counter[str] = Counter()
    batches = iter([bodies[first : first + 100] for first in range(0, len(bodies), 100)])

    async def feed() -> None:
        for batch in batches:
            results = (await gate.ok("/v1/messages/batch", {"messages": batch}))["results"]
            codes.update(row.get("code", row["status"]) for row in results)

    await asyncio.gather(feed(), feed())
    return codes


async def test_transactional_messages_do_not_wait_behind_a_campaign(world: World) -> None:
    """202 to the carrier, with the campaign frozen and draining in turn; its backlog outlasts the measuring."""
    gate, there = world.gate, world.there
    people = numbers(BACKLOG)
    campaign = gate.processes["marketing"].child.pid
    assert campaign is not None
    draining = psutil.Process(campaign)
    draining.suspend()
    try:
        for first in range(0, BACKLOG, 10_000):
            part = people[first : first + 10_000]
            await consent_all(gate, part, ["marketing"])
            await accept(gate, [promotion(to, f"新品上市第{first + n}款") for n, to in enumerate(part)])
        waits: dict[str, list[float]] = {"idle": [], "busy": []}
        for _ in range(ROUNDS):
            for name in waits:
                if name == "busy":
                    draining.resume()
                    await asyncio.sleep(0.2)
                posts = Posts(gate, there, people=numbers(100))
                await gate.orders(posts.people)
                await posts.run(PHASE_S)
                waits[name] += await posts.waits_s()
                if name == "busy":
                    draining.suspend()
    finally:
        draining.resume()
    went = sum(one["from"] == "10690002" for one in there.submits)
    idle, busy = (percentile(waits[name], 0.99) for name in ("idle", "busy"))
    print(f"{BACKLOG:,} of marketing, {went:,} went meanwhile; 202 to submit of {len(waits['busy']):,} messages each:")
    print(f"p99 idle {idle * 1e3:.0f} ms, busy {busy * 1e3:.0f} ms, {busy / idle:.2f} x")
    assert went > 0
    assert busy <= max(idle * RATIO, NOISE_S), (idle, busy)


async def test_a_full_kafka_disk_is_503_within_two_seconds_and_nothing_accepted_is_lost(world: World) -> None:
    gate, there = world.gate, world.there
    people = numbers(2_000)
    await gate.orders(people)
    shots: list[tuple[float, httpx.Response]] = []
    with full(world.kafka):
        until, n = time.monotonic() + 20, 0
        while sum(answer.status_code == 503 for _, answer in shots) < 3:
            assert time.monotonic() < until, "the disk never was full"
            began = time.monotonic()
            body = shipping(people[n % len(people)], "满" * 400 + str(n), idempotency_key=f"full-{n}-{people[0]}")
            answer = await gate.post("/v1/messages", body)
            shots.append((time.monotonic() - began, answer))
            n += 1
    for took, answer in shots:
        assert answer.status_code in {202, 503}, answer.text
        assert took < 2.3, took
        assert answer.status_code == 202 or (answer.json()["code"], "retry-after" in answer.headers) == (
            "unavailable",
            True,
        )
    with suppress(psutil.NoSuchProcess):
        world.kafka.child.kill()
    world.kafka.start()  # as `assent up`'s supervisor does, once there is room
    again = shipping(people[0], "腾出空间之后", idempotency_key=f"room-{people[0]}")
    until = time.monotonic() + 40
    while (answer := await gate.post("/v1/messages", again)).status_code != 202:
        assert time.monotonic() < until, answer.text
        await asyncio.sleep(0.3)
    kept = [answer.json()["id"] for _, answer in shots if answer.status_code == 202] + [answer.json()["id"]]
    await arrived(there, kept, within_s=40)
    assert {there.refs[one] for one in kept} == {1}
    slowest = max(took for took, _ in shots)
    print(f"a full disk: {len(kept) - 1} accepted before it, all submitted; slowest answer {slowest:.2f} s")


@contextmanager
def full(part: Part) -> Iterator[None]:
    """The broker may write no file beyond the size of its largest log: its appends fail as on a full disk."""
    pid = part.child.pid
    assert pid is not None
    logs = [file.stat().st_size for file in part.home.rglob("messages.transactional-*/*.log")]  # type: ignore[attr-defined]
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (max(logs) + 100_000, hard))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


async def test_the_greedy_client_is_let_through_when_it_was_told(greedy: Greedy) -> None:
    assert greedy.coming is not None
    assert await greedy.coming == 202


async def test_answers_that_were_lost_meanwhile_were_asked_for_and_nothing_was_sent_again(
    world: World, doubted: dict[str, str]
) -> None:
    """Half a minute after the doubt, by the running processes themselves."""
    gate, there = world.gate, world.there
    found = await gate.until(doubted["had"], "delivered", within_s=60)
    assert found["carrier"] == "http"
    async with asyncio.timeout(60):
        while (found := await gate.view(doubted["never"])).get("code") != "carrier.not_found":  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    assert found["status"] == "unknown"
    assert (there.refs[doubted["had"]], there.refs[doubted["never"]]) == (1, 0)
