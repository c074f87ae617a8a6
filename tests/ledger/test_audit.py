"""The audit of the cache on real parts: what is tampered with, deleted, stale or nobody's is found and put right."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from gateway.contract.consent import Event, EventKind, State
from gateway.guard import Guard, keys, person
from gateway.ledger import audit, events
from gateway.ledger.appender import Appender
from gateway.ledger.audit import Verdict, agrees
from gateway.ledger.keys import Keys
from gateway.ledger.rebuild import rebuild

pytestmark = pytest.mark.integration

KEYS = Keys(b"m" * 32, b"p" * 32)
_serial = iter(range(1, 10_000_000))


@dataclass
class World:
    dsn: str
    pool: Any
    guard: Guard
    appender: Appender
    people: list[str]

    def name(self, at: int) -> bytes:
        subject = KEYS.subject(self.people[at])
        return keys.PERSON[subject[0]] + subject

    async def held(self, at: int) -> bytes:
        raw: bytes = await self.guard.server.command("GET", self.name(at))
        return raw

    async def put(self, at: int, raw: bytes) -> None:
        await self.guard.server.command("SET", self.name(at), raw)


def grant(to: str, topic: str = "marketing") -> Event:
    serial, data = next(_serial), events.grant("acme", [topic], lifts=True)
    return Event(
        event_id=f"a{serial}",
        kind=EventKind.GRANT,
        number=to,
        subject=KEYS.subject(to),
        occurred_at_ms=serial,
        data=data,
    )


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as made:
        yield made


@pytest.fixture(params=["standalone", "cluster"])
async def world(
    request: pytest.FixtureRequest, redis_url: str, cluster_url: str, database_url: str, pool: Any
) -> AsyncIterator[World]:
    url = redis_url if request.param == "standalone" else cluster_url
    guard = await Guard.connect(url, timeout_s=5)
    await guard.server.primaries("FLUSHDB")
    appender = Appender(pool, KEYS, guard)
    await appender.start()
    people = [f"+86136{next(_serial):08d}" for _ in range(300)]
    await appender.append([grant(to) for to in people])
    await rebuild(database_url, guard, lambda *_told: None)
    yield World(database_url, pool, guard, appender, people)
    await guard.server.primaries("FLUSHDB")
    await guard.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else runs: what is not there at once never will be."""
    monkeypatch.setattr(audit, "WAITS_S", (0.0, 0.05))


async def counted(pool: Any) -> int:
    count: int = await pool.fetchval("SELECT count(*) FROM subject_states")
    return count


async def test_what_is_the_same_agrees(world: World) -> None:
    told: list[tuple[str, int, int]] = []
    found = await audit.audit(world.dsn, world.guard, lambda *step: told.append(step))
    everybody = await counted(world.pool)
    assert found.agrees
    assert (found.recipients, found.equal, found.cold, found.ahead, found.copies) == (everybody, everybody, [], [], 0)
    assert {stage: done for stage, done, _ in told} == {"recipients": everybody, "cache entries": everybody}


async def test_each_kind_of_wrong_is_found_and_repaired(world: World, soon: None) -> None:
    own = await world.held(0)
    await world.put(0, person.tombstone(person.seq_of(own)))
    await world.put(1, await world.held(5))
    await world.put(2, b"\x01")
    await world.put(3, person.tombstone(1))
    await world.guard.server.command("DEL", world.name(4))
    stranger = os.urandom(16)
    unknown = keys.PERSON[stranger[0]] + stranger
    await world.guard.server.command("SET", unknown, own)
    wrong = {Verdict.DIFFERENT: 3, Verdict.BEHIND: 1, Verdict.MISSING: 1, Verdict.UNKNOWN: 1}

    found = await agrees(world.dsn, world.guard)
    assert (found.wrong, found.repaired, found.agrees) == (wrong, 0, False)
    assert found.equal == found.recipients - 5
    assert await world.held(0) != own

    found = await audit.audit(world.dsn, world.guard, repair=True)
    assert (found.wrong, found.repaired, found.agrees) == (wrong, 6, True)
    assert await world.guard.server.command("GET", unknown) is None
    assert await world.held(0) == own
    found = await agrees(world.dsn, world.guard)
    assert (found.agrees, found.equal) == (True, found.recipients)


async def test_an_emptied_cache_is_all_missing_and_its_lanes_are_named(world: World, soon: None) -> None:
    await world.guard.server.primaries("FLUSHDB")
    found = await agrees(world.dsn, world.guard)
    assert found.wrong[Verdict.MISSING] == found.recipients == await counted(world.pool)
    assert (found.equal, found.cold, found.agrees) == (0, list(range(16)), False)
    assert (await audit.audit(world.dsn, world.guard, repair=True)).agrees
    assert (await agrees(world.dsn, world.guard)).cold == list(range(16)), "cursors are not the audit's to move"


async def test_a_cursor_ahead_of_postgresql_is_never_agreed_to(world: World) -> None:
    await world.guard.set_cursors(10**9, [3])
    stale = person.tombstone(1)
    await world.put(0, stale)
    found = await audit.audit(world.dsn, world.guard, repair=True)
    assert (found.ahead, found.equal, found.repaired, found.agrees) == ([3], found.recipients - 1, 0, False)
    assert await world.held(0) == stale


async def test_what_claims_more_than_postgresql_has_is_told_and_left(world: World, soon: None) -> None:
    """After a restore it may be all that is known of an opt-out; `apply` would not write over it either."""
    claim, stranger = person.encode(State(seq=2**38)), os.urandom(16)
    unknown = keys.PERSON[stranger[0]] + stranger
    await world.put(0, claim)
    await world.guard.server.command("SET", unknown, claim)
    found = await audit.audit(world.dsn, world.guard, repair=True)
    assert (found.wrong[Verdict.DIFFERENT], found.wrong[Verdict.UNKNOWN]) == (1, 1)
    assert (found.beyond, found.repaired, found.agrees) == (2, 0, False)
    assert await world.held(0) == await world.guard.server.command("GET", unknown) == claim


async def test_a_busy_system_shows_nothing(world: World) -> None:
    """Acts of the same few people all the while, newcomers among them; nothing waits for the audit."""
    busy = True

    async def keep_acting(at: int) -> None:
        while busy:
            await world.appender.append([grant(world.people[at]), grant(f"+86135{next(_serial):08d}")])

    acting = [asyncio.create_task(keep_acting(at)) for at in range(8)]
    try:
        for _ in range(3):
            found = await audit.audit(world.dsn, world.guard, repair=True)
            assert (found.wrong, found.repaired) == (dict.fromkeys(Verdict, 0), 0)
            assert found.agrees
    finally:
        busy = False
        await asyncio.gather(*acting)
    assert (await agrees(world.dsn, world.guard)).agrees


async def test_a_copy_that_lies_is_found_before_a_rebuild_believes_it(world: World) -> None:
    subject = KEYS.subject(world.people[7])
    lie = person.encode(State(seq=person.seq_of(await world.held(7))))
    await world.pool.execute("UPDATE subject_states SET encoded = $2 WHERE subject = $1", subject, lie)
    bare = KEYS.subject(world.people[8])
    await world.pool.execute("UPDATE subject_states SET encoded = NULL, form = NULL WHERE subject = $1", bare)
    found = await agrees(world.dsn, world.guard)
    assert (found.copies, found.copied, found.equal, found.agrees) == (1, 0, found.recipients, False)
    found = await audit.audit(world.dsn, world.guard, repair=True)
    assert (found.copies, found.copied, found.agrees) == (1, 2, True)
    assert await world.pool.fetchval("SELECT encoded FROM subject_states WHERE subject = $1", subject) == (
        await world.held(7)
    )
    assert (await agrees(world.dsn, world.guard)).copies == 0
