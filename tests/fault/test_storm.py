"""Never lost, never twice, never after an opt-out: real processes on real parts in a storm of faults, reconciled.

A short seed runs with the other tests. `make fault` runs the long ones: 100,000 messages and 50 faults a seed.
"""

import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway_rig import Gateway, gateway
from http_carrier import Carrier, carrier
from storm import Storm, reconcile, schedule
from three import three_parts

from gateway.guard.guard import Guard
from gateway.ledger.audit import agrees
from gateway.local.parts import Part

pytestmark = pytest.mark.fault

LONG = bool(os.environ.get("ASSENT_LONG"))
SEEDS = [int(one) for one in os.environ.get("ASSENT_SEEDS", "1 2 3" if LONG else "1").split()]
MESSAGES = int(os.environ.get("ASSENT_STORM_MESSAGES", "100000" if LONG else "3000"))
FAULTS = int(os.environ.get("ASSENT_STORM_FAULTS", "50" if LONG else "6"))
PACE_S = 4.0
LEAVING_THEN = 20 if LONG else 6
"""One person in so many leaves in a storm."""
RACING, LEAVING, RACE_S = (100_000, 2, 60.0) if LONG else (4_000, 2, 4.0)


@pytest.fixture
def parts(parts_dir: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Part]]:
    with three_parts(parts_dir, re.sub(r"\W", "-", request.node.name)) as own:
        yield own


@asynccontextmanager
async def standing(parts: dict[str, Part], folder: Path) -> AsyncIterator[tuple[Gateway, Carrier]]:
    """The gateway over these parts, and a carrier that writes down what reaches it."""
    async with (
        carrier() as there,
        gateway(
            folder,
            redis_url=parts["valkey"].endpoint,
            kafka=parts["kafka"].endpoint,
            prefix="",
            database_url=parts["postgres"].endpoint,
            carrier_url=there.url,
            log_level="info",
        ) as gate,
    ):
        there.callback = gate.url
        yield gate, there


async def agree(parts: dict[str, Part]) -> bool:
    """Whether Redis says of everybody what PostgreSQL says."""
    guard = await Guard.connect(parts["valkey"].endpoint)
    try:
        return (await agrees(parts["postgres"].endpoint, guard)).agrees
    finally:
        await guard.close()


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_storm_loses_nothing_doubles_nothing_and_stops_for_whoever_leaves(
    parts: dict[str, Part], seed: int, tmp_path: Path
) -> None:
    async with standing(parts, tmp_path) as (gate, there):
        storm = Storm(gate, there, parts, seed, MESSAGES, schedule(seed, FAULTS, FAULTS // 16), PACE_S, LEAVING_THEN)
        async with storm.resuming():
            await storm.run()
            found = reconcile(storm, await storm.drained())
            unanswered = await storm.unanswered()
        assert await agree(parts)
    print(f"seed {seed}: {dict(storm.struck)}")
    print(f"seed {seed}: {found}; {len(storm.replied):,} left by a reply, {len(unanswered)} not answered exactly once")
    assert found.good, found
    assert not unanswered
    assert there.put_off, "nothing was tried again"
    assert found.accepted + sum(found.refused.values()) == MESSAGES


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", SEEDS[:1])
async def test_nothing_follows_an_opt_out_out_of_a_backlog(parts: dict[str, Part], seed: int, tmp_path: Path) -> None:
    """All is accepted and waits in Kafka; then it drains while half the people leave, half of them by a reply."""
    async with standing(parts, tmp_path) as (gate, there):
        storm = Storm(gate, there, parts, seed, RACING, (), 0.0, leaving=LEAVING)
        async with storm.resuming():
            await storm.race(RACE_S)
            found = reconcile(storm, await storm.drained())
            unanswered = await storm.unanswered()
    print(f"race: {found}; {storm.resumed} breakers let go on")
    print(f"race: {len(storm.replied):,} left by a reply, {len(unanswered)} not answered exactly once")
    assert found.good, found
    assert not unanswered
    assert found.ends.get("cancelled", 0) > 0
    assert found.closest_s is not None, "nobody left while their messages went out"
    assert found.opted_out == len(storm.people[::LEAVING])
