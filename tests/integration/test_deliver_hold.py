"""The hold process on real PostgreSQL, Kafka and Valkey: everything that waits comes back once, permitted anew."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from gateway.contract.codes import Code
from gateway.contract.consent import State
from gateway.contract.decision import Basis, Class
from gateway.contract.ids import lane_of, new_id
from gateway.contract.wire import Accepted
from gateway.deliver.hold import Hold, row_of
from gateway.deliver.means import wall_ms
from gateway.deliver.outbox import Outbox
from gateway.guard import VoidAsk
from gateway.records import held
from gateway.rules import hours
from gateway.stream.codec import encode
from tests.integration.deliver_rig import Rig, rigged

pytestmark = pytest.mark.integration

_counter = iter(range(1, 1_000_000))


def numbers(n: int) -> list[str]:
    return [f"+86139{next(_counter):08d}" for _ in range(n)]


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
async def rig(redis_url: str, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[Rig]:
    async with rigged(redis_url, kafka_bootstrap, f"{topic_prefix}{next(_counter)}.") as made:
        yield made


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as made:
        await made.execute("TRUNCATE held")
        yield made


@asynccontextmanager
async def holding(rig: Rig, pool: asyncpg.Pool, now_ms: Callable[[], int] = wall_ms) -> AsyncIterator[Hold]:
    hold = Hold(
        pool=pool, intake=rig.intake, guard=rig.guard, cfg=rig.cfg, outbox=Outbox(rig.producer, rig.topics),
        bootstrap=rig.kafka, now_ms=now_ms,
    )  # fmt: skip
    await hold.start()
    running = asyncio.create_task(hold.run())
    try:
        yield hold
    finally:
        await hold.stop()
        await running


async def waiting(pool: asyncpg.Pool, count: int, within_s: float = 8.0) -> None:
    until = time.monotonic() + within_s
    while await held.count(pool) != count:  # type: ignore[arg-type]
        assert time.monotonic() < until, await held.count(pool)  # type: ignore[arg-type]
        await asyncio.sleep(0.05)


async def test_a_message_for_later_goes_at_its_time_and_not_before(rig: Rig, pool: asyncpg.Pool) -> None:
    due = soon(1.5)
    ids = await rig.send(numbers(300), not_before=due)
    async with holding(rig, pool), rig.delivering():
        await waiting(pool, 300)
        assert rig.wire == []
        assert datetime.now(UTC) < due
        found = await rig.results(lambda found: len(found) == 300)
        assert datetime.now(UTC) >= due
        await waiting(pool, 0)
    assert {results[0].outcome for results in found.values()} == {"submitted"}
    assert sorted(message.ref for message in rig.wire) == sorted(ids)


async def test_permission_is_asked_again_at_release(rig: Rig, pool: asyncpg.Pool) -> None:
    people = numbers(4)
    ids = await rig.send(people, not_before=soon(1))
    rig.seq += 1
    await rig.guard.apply([(rig.subject(number), State(seq=rig.seq)) for number in people[:2]])
    async with holding(rig, pool), rig.delivering():
        found = await rig.results(lambda found: len(found) == 4)
    assert [(found[one][0].outcome, found[one][0].code) for one in ids[:2]] == [
        ("cancelled", "relationship.missing")
    ] * 2
    assert sorted(message.ref for message in rig.wire) == sorted(ids[2:])


async def test_a_refusal_whose_report_a_crash_swallowed_is_reported_by_the_next(rig: Rig, pool: asyncpg.Pool) -> None:
    (number,) = numbers(1)
    (one,) = await rig.send([number], not_before=soon(0.5))
    assert await rig.guard.void([VoidAsk(one, rig.subject(number))], Code.RELATIONSHIP_MISSING) == ["void"]
    async with holding(rig, pool), rig.delivering():
        found = await rig.results(lambda found: one in found)
        await waiting(pool, 0)
    assert [(result.outcome, result.code) for result in found[one]] == [("cancelled", "relationship.missing")]
    assert rig.wire == []


async def test_retries_come_back_as_the_next_attempt(rig: Rig, pool: asyncpg.Pool) -> None:
    (one,) = await rig.send(["+8619900000005"])
    async with holding(rig, pool), rig.delivering(chance=lambda: 16.0):
        found = await rig.results(lambda found: found[one] != [] and found[one][-1].outcome == "submitted")
    assert [(r.outcome, r.attempt) for r in found[one]] == [("retrying", 1), ("retrying", 2), ("submitted", 3)]
    assert [message.attempt for message in rig.wire] == [1, 2, 3]


async def test_parked_messages_wait_for_their_breaker(rig: Rig, pool: asyncpg.Pool) -> None:
    ids = await rig.send(numbers(20))
    await rig.stop_sender()
    async with holding(rig, pool), rig.delivering():
        await waiting(pool, 20)
        await asyncio.sleep(1.2)
        assert rig.wire == []
        rig.registry = rig.registry.model_copy(update={"breakers": ()})
        found = await rig.results(lambda found: sum(r[-1].outcome == "submitted" for r in found.values()) == 20)
    assert sorted(message.ref for message in rig.wire) == sorted(ids)
    assert {message.attempt for message in rig.wire} == {2}
    assert {tuple(r.outcome for r in results) for results in found.values()} == {("parked", "submitted")}


@pytest.mark.parametrize(
    ("opens", "a_day_earlier"),
    [
        ("2027-03-14T12:00:00+00:00", "2027-03-13T13:00:00+00:00"),  # clocks went forward that night
        ("2027-11-07T13:00:00+00:00", "2027-11-06T12:00:00+00:00"),  # and back
    ],
)
async def test_what_is_due_in_quiet_hours_goes_when_they_end_by_the_local_clock_or_never(
    rig: Rig, pool: asyncpg.Pool, opens: str, a_day_earlier: str
) -> None:
    """08:00 in New York, on the days its clocks change; what may not live that long expires instead of going late."""
    pack = rig.intake.packs["cn"]
    rig.intake.packs = {"cn": replace(pack, zone=ZoneInfo("America/New_York"), zone_name="America/New_York")}
    open_ms, before_ms = (int(datetime.fromisoformat(at).timestamp() * 1000) for at in (opens, a_day_earlier))
    assert hours.minute_of_day(ZoneInfo("America/New_York"), before_ms) == 8 * 60
    people = numbers(2)
    await rig.know(people)
    due_ms = open_ms - 4 * 3_600_000
    patient, hurried = (
        a_care_message(rig, to, due_ms, expires_ms)
        for to, expires_ms in zip(people, (due_ms + 86_400_000, open_ms - 60_000), strict=True)
    )
    async with pool.acquire() as conn:
        await held.add(conn, [row_of(one, encode(one), due_ms) for one in (patient, hurried)])  # type: ignore[arg-type]
    async with holding(rig, pool, now_ms=lambda: open_ms - 30 * 60_000):
        async with asyncio.timeout(8):
            while await pool.fetchval("SELECT count(*) FROM held WHERE due = $1", open_ms) != 2:  # noqa: ASYNC110 - PostgreSQL says it
                await asyncio.sleep(0.05)
    async with holding(rig, pool, now_ms=lambda: open_ms - 1):
        await waiting(pool, 1)
        await asyncio.sleep(0.5)
        assert await held.count(pool) == 1, "not a millisecond before"  # type: ignore[arg-type]
    async with holding(rig, pool, now_ms=lambda: open_ms):
        await waiting(pool, 0)
    found = await rig.results(lambda found: hurried.id in found)
    assert {one: [result.outcome for result in results] for one, results in found.items()} == {hurried.id: ["expired"]}
    async with rig.delivering(now_ms=lambda: open_ms + 1):
        found = await rig.results(lambda found: patient.id in found)
    assert [message.ref for message in rig.wire] == [patient.id]


def a_care_message(rig: Rig, to: str, due_ms: int, expires_ms: int) -> Accepted:
    subject = rig.subject(to)
    return Accepted(
        id=new_id(lane_of(subject)), client="shop", sender="acme", purpose="transaction.after_sales",
        cls=Class.TRANSACTIONAL, subject=subject.hex(), to=to, text="【Acme】x", parts=1, port="10690001", pack="cn@1",
        basis=Basis.RELATIONSHIP, accepted_at=due_ms, expires_at=expires_ms, not_before=due_ms, due=due_ms,
    )  # fmt: skip


async def test_what_waits_beyond_its_life_expires(rig: Rig, pool: asyncpg.Pool) -> None:
    ids = await rig.send(numbers(5), not_before=soon(3600))
    async with holding(rig, pool, now_ms=lambda: wall_ms() + 2 * 86_400_000), rig.delivering():
        found = await rig.results(lambda found: len(found) == 5)
        await waiting(pool, 0)
    assert {(results[0].outcome, results[0].code) for results in found.values()} == {("expired", "message.expired")}
    assert rig.wire == []
    view = await rig.guard.record(ids[0])
    assert view is not None
    assert view.state == "void"
