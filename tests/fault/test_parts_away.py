"""Redis, Kafka and PostgreSQL stopped, killed and started again under load; every process killed under load.

The parts are this module's own. A carrier over HTTP writes down what reaches it, so that twice and never are seen.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from agreement import agreement
from gateway_rig import EVERY, Gateway, gateway, number, numbers, shipping
from http_carrier import Carrier, carrier
from load import Load, load
from three import three_parts

from gateway.guard import Guard
from gateway.local.parts import Part

pytestmark = pytest.mark.fault

AWAY_S = 3.0
RECOVERY_S = 20.0
PROBES = {"valkey": "redis", "kafka": "kafka", "postgres": "postgresql"}
"""What `/readyz` calls a part."""


@dataclass
class World:
    gate: Gateway
    carrier: Carrier
    parts: dict[str, Part]
    people: list[str]

    def pids(self) -> dict[str, int | None]:
        return {name: process.child.pid for name, process in self.gate.processes.items() if process.child.alive()}


@pytest.fixture(scope="module")
def parts(parts_dir: Path) -> Iterator[dict[str, Part]]:
    with three_parts(parts_dir, "away") as own:
        yield own


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(parts: dict[str, Part], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with (
        carrier() as there,
        gateway(
            tmp_path_factory.mktemp("away"),
            redis_url=parts["valkey"].endpoint,
            kafka=parts["kafka"].endpoint,
            prefix="",
            database_url=parts["postgres"].endpoint,
            carrier_url=there.url,
            log_level="info",
        ) as gate,
    ):
        there.callback = gate.url
        people = numbers(1500)
        await gate.orders(people)
        yield World(gate, there, parts, people)


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def agreed(world: World) -> AsyncIterator[None]:
    """Whatever was taken away, afterwards Redis and PostgreSQL agree about everybody."""
    yield
    guard = await Guard.connect(world.parts["valkey"].endpoint)
    try:
        await agreement(world.parts["postgres"].endpoint, guard)
    finally:
        await guard.close()


# --- taking a part away ----------------------------------------------------------------------------------------------


def processes_of(part: Part) -> list[psutil.Process]:
    assert part.child.pid is not None
    root = psutil.Process(part.child.pid)
    return [root, *root.children(recursive=True)]


@contextmanager
def stopped(part: Part) -> Iterator[None]:
    """Frozen: it holds its connections and answers nothing."""
    frozen = processes_of(part)
    for process in frozen:
        process.suspend()
    try:
        yield
    finally:
        for process in frozen:
            process.resume()


@asynccontextmanager
async def away(part: Part, way: str) -> AsyncIterator[None]:
    if way == "stopped":
        with stopped(part):
            yield
        return
    children = processes_of(part)[1:]
    part.child.kill()
    await asyncio.to_thread(psutil.wait_procs, children, timeout=10)
    try:
        yield
    finally:
        part.start()
        until = time.monotonic() + 60
        while not part.ready():
            assert part.child.alive(), part.child.said()
            assert time.monotonic() < until
            await asyncio.sleep(0.05)


async def unready(gate: Gateway, name: str) -> None:
    """`/readyz` names the part that is away, in time; the process itself is alive."""
    answer = await gate.http.get("/readyz")
    assert answer.status_code == 503, answer.text
    part = answer.json()["parts"][PROBES[name]]
    assert not part["ready"]
    assert part["problems"]
    assert answer.elapsed.total_seconds() < 2
    assert (await gate.http.get("/healthz")).status_code == 200


async def ready_again(gate: Gateway) -> None:
    until = time.monotonic() + 10
    while (answer := await gate.http.get("/readyz")).status_code != 200:
        assert time.monotonic() < until, answer.text
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("way", ["stopped", "killed"])
@pytest.mark.parametrize("name", ["valkey", "kafka"])
async def test_a_part_away_is_answered_in_time_and_nothing_is_lost(world: World, name: str, way: str) -> None:
    before = world.pids()
    async with load(world.gate, world.carrier, world.people) as shots:
        async with away(world.parts[name], way):
            gone = time.monotonic()
            await asyncio.sleep(AWAY_S)
            await unready(world.gate, name)
            back = time.monotonic()
        recovered_s = await shots.until_it_flows(RECOVERY_S)
        await ready_again(world.gate)
    shots.check_answers()
    during = shots.messages(gone + 0.5, back - 2.0)
    assert during
    assert {shot.status for shot in during} == {503}
    if name == "valkey":  # nothing can be recorded that does not hold at once
        assert {shot.status for shot in shots.consents(gone + 0.5, back - 2.0)} <= {503}
    else:
        assert {shot.status for shot in shots.consents(gone, back)} == {201}
    ends = await shots.check_ends()
    assert world.pids() == before
    report(shots, f"{name} {way}", recovered_s, ends)


async def test_without_postgresql_messages_go_on_until_the_beat_is_old(world: World) -> None:
    before = world.pids()
    async with load(world.gate, world.carrier, world.people) as shots:
        async with away(world.parts["postgres"], "stopped"):
            gone = time.monotonic()
            await asyncio.sleep(13.0)
            await unready(world.gate, "postgres")
            back = time.monotonic()
        recovered_s = await shots.until_it_flows(RECOVERY_S)
        await ready_again(world.gate)
    shots.check_answers()
    assert {shot.status for shot in shots.messages(gone, gone + 6)} == {202}
    assert {shot.status for shot in shots.messages(gone + 11.5, back)} == {503}
    assert {shot.status for shot in shots.consents(gone, back - 2.0)} == {503}
    report(shots, "postgres stopped", recovered_s, await shots.check_ends())
    assert world.pids() == before


async def test_a_killed_postgresql_comes_back_to_all_it_had(world: World) -> None:
    before = world.pids()
    async with load(world.gate, world.carrier, world.people) as shots:
        async with away(world.parts["postgres"], "killed"):
            gone = time.monotonic()
            await asyncio.sleep(AWAY_S)
            back = time.monotonic()
        recovered_s = await shots.until_it_flows(RECOVERY_S)
    shots.check_answers()
    assert {shot.status for shot in shots.messages(gone, back)} == {202}
    refused = shots.consents(gone, back)
    assert {shot.status for shot in refused} == {503}
    assert max(shot.took_s for shot in refused) < 1 + shots.late_s
    report(shots, "postgres killed", recovered_s, await shots.check_ends())
    assert world.pids() == before


async def test_a_withdrawal_that_could_not_be_recorded_is_not_acknowledged_and_then_is(world: World) -> None:
    """While PostgreSQL is away a person cannot leave; they are told so, and the next try holds at once."""
    gate = world.gate
    to = number()
    await gate.orders([to])
    leave = {"sender": "acme", "reason": "asked"}
    key = {"Idempotency-Key": "leave-1"}
    async with away(world.parts["postgres"], "stopped"):
        began = time.monotonic()
        answer = await gate.post(f"/v1/recipients/{to}/withdraw", leave, headers=key)
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"]
        assert time.monotonic() - began < 2.2
    until = time.monotonic() + RECOVERY_S
    while (answer := await gate.post(f"/v1/recipients/{to}/withdraw", leave, headers=key)).status_code == 503:
        assert time.monotonic() < until
        await asyncio.sleep(0.2)
    assert answer.status_code == 200, answer.text
    refused = await gate.post("/v1/messages", shipping(to))
    assert (refused.status_code, refused.json()["code"]) == (403, "suppressed")


async def test_processes_that_start_while_kafka_is_away_wait_for_it(world: World) -> None:
    """The ledger process, whose beat lets anything be sent at all, and deliver: neither gives up at once."""
    gate = world.gate
    for name in ("ledger", "deliver"):
        gate.processes[name].stop()
    async with away(world.parts["kafka"], "killed"):
        gate.start("ledger", "deliver")
        await asyncio.sleep(4.0)
        assert world.pids().keys() == set(EVERY)
        to = number()
        await gate.orders([to])  # permissions do not need Kafka
    await gate.ready("ledger", "deliver")
    until = time.monotonic() + RECOVERY_S
    while (answer := await gate.post("/v1/messages", shipping(to))).status_code == 503:
        assert time.monotonic() < until
        await asyncio.sleep(0.2)
    assert answer.status_code == 202, answer.text
    await gate.until(answer.json()["id"], "delivered", within_s=20)


# --- killing our own processes ---------------------------------------------------------------------------------------


async def test_every_process_killed_under_load_loses_and_doubles_nothing(world: World) -> None:
    """kill -9 and a restart, one process after another, in one stream of messages."""
    gate = world.gate
    world.carrier.answer_s = 0.1  # so that something is always between its submit and its answer
    async with load(gate, world.carrier, world.people) as shots:
        for name in EVERY:
            gate.kill(name)
            await asyncio.sleep(0.2)
            await gate.restart(name)
            await asyncio.sleep(1.0)
        recovered_s = await shots.until_it_flows(RECOVERY_S)
    world.carrier.answer_s = 0.0
    broken = [shot for shot in shots.shots if shot.status == 0]
    assert broken, "killing the edge broke no connection"
    assert {shot.status for shot in shots.shots} <= {0, 201, 202, 403, 503}
    assert not [shot for shot in shots.shots if shot.stranger and shot.status == 202]
    ends = await shots.check_ends(("delivered", "unknown", "cancelled"), within_s=60)
    assert ends["cancelled"] == 0
    assert ends["delivered"] > 0
    unknown = ends["unknown"]
    report(shots, f"processes killed, {unknown} unknown", recovered_s, ends)


def report(shots: Load, what: str, recovered_s: float, ends: object) -> None:
    counts = dict(Counter(shot.status for shot in shots.shots))
    slowest = max(shot.took_s for shot in shots.shots)
    times = f"slowest {slowest:.2f} s (we late {shots.late_s:.2f}), again after {recovered_s:.1f} s"
    print(f"{what}: {counts}, {times}, {ends}")
