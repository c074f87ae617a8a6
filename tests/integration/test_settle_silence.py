"""Receipts that never come, and records whose time is over: by an injected clock, on the real store."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.contract.decision import Status
from gateway.contract.ids import new_id
from gateway.records import partitions
from gateway.settle import silence, tending
from gateway.settle.fold import LATE_MS
from gateway.settle.silence import AFTER_MS
from gateway.settle.tending import RECEIPTS_DAYS, Tending
from tests.integration.settle_world import HOUR_MS, World, a_world, accepted, now, receipt, submitted

pytestmark = pytest.mark.integration
DAY_MS = 24 * HOUR_MS
DUE_MS = AFTER_MS + LATE_MS + 60_000


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


def ahead(ms: int) -> Callable[[], int]:
    return lambda: now() + ms


async def test_what_stays_sent_for_72_hours_is_unknown_until_a_receipt_comes_after_all(world: World) -> None:
    silent, reported, waiting = accepted(), accepted(), accepted()
    async with world.settling():
        await world.accept(silent, reported, waiting)
        await world.say(world.names.results, submitted(silent.id), submitted(reported.id))
        await world.say(world.names.receipts, receipt(ref=reported.id))
        await world.becomes(silent.id, Status.SENT)
        await world.becomes(reported.id, Status.DELIVERED)
    async with world.settling(clock=ahead(AFTER_MS - 60_000)):
        await asyncio.sleep(0.5)
        await world.becomes(silent.id, Status.SENT)
    async with world.settling(clock=ahead(DUE_MS)):
        found = await world.becomes(silent.id, Status.UNKNOWN)
        await world.becomes(waiting.id, Status.QUEUED)
        await world.becomes(reported.id, Status.DELIVERED)
    assert (found.code, found.timeline[-1].status) == ("receipt.missing", Status.UNKNOWN)
    assert await world.counted() == {2: 3, 3: 2, 4: 1, 9: 1}
    async with world.settling(clock=ahead(DUE_MS)):
        await world.say(world.names.receipts, receipt(ref=silent.id))
        await world.becomes(silent.id, Status.DELIVERED)
    assert await world.counted() == {2: 3, 3: 2, 4: 2}


async def test_what_was_sent_long_after_its_acceptance_is_due_by_its_own_time(world: World) -> None:
    held = accepted(id=new_id(5, now() - 30 * HOUR_MS))
    async with world.settling():
        await world.accept(held)
        await world.say(world.names.results, submitted(held.id))
        await world.becomes(held.id, Status.SENT)
    async with world.settling(clock=ahead(AFTER_MS - HOUR_MS)):  # its acceptance is long past 72 h
        await asyncio.sleep(0.5)
        await world.becomes(held.id, Status.SENT)
    assert await world.value("SELECT count(*) FROM sent_late") == 1
    async with world.settling(clock=ahead(AFTER_MS + 60_000)):
        await world.becomes(held.id, Status.UNKNOWN)
    assert await world.value("SELECT count(*) FROM sent_late") == 0


async def test_many_are_found_a_stretch_at_a_time_and_a_crash_repeats_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "EXAMINED", 7)
    await world.pool.execute("DELETE FROM consumer_offsets WHERE topic = 'silence'")  # the tests' clock ran ahead
    before = await world.counted()
    messages = [accepted(id=new_id(n % 16, now() - 5 * n)) for n in range(60)]
    ids = [message.id for message in messages]
    async with world.settling():
        await world.accept(*messages)
        await world.say(world.names.results, *(submitted(one) for one in ids))
        await world.until(
            lambda: world.value("SELECT count(*) = 60 FROM messages WHERE id = ANY($1) AND status = 3", ids)
        )
    found = "SELECT count(*) FROM messages WHERE id = ANY($1) AND status = 9"
    for _ in range(6):
        task = asyncio.create_task(world.settle(clock=ahead(DUE_MS), flush_s=0.01).run(asyncio.Event()))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with world.settling(clock=ahead(DUE_MS)):
        await world.until(lambda: world.value(f"{found} HAVING count(*) = 60", ids))
    after = await world.counted()
    assert after[9] - before.get(9, 0) == 60


async def test_days_are_dropped_when_their_time_is_over_and_not_before(world: World) -> None:
    today = partitions.day_of(now())
    old, kept = today - 184, today - 183
    async with world.pool.acquire() as conn:
        await partitions.ensure(conn, [old, kept, today])
        for day in (old, kept):
            await conn.execute(
                "INSERT INTO messages (id, rank, status, timeline) VALUES ($1, 1, 2, '[]')", new_id(1, day * DAY_MS + 5)
            )
            await conn.execute("INSERT INTO outcome_hours VALUES ($1, 1, '', 2, 0, 1)", day * 24 + 23)
        for day in (today - 41, today - 40):
            await conn.execute("INSERT INTO outcome_minutes VALUES ($1, 1, '', 2, 0, 1)", day * 1440 + 1439)
        lost = new_id(1, (today - 400) * DAY_MS)
        await conn.execute("INSERT INTO messages (id, rank, status, timeline) VALUES ($1, 1, 2, '[]')", lost)
    names = await Tending(world.pool, 183, now).tend()
    assert partitions.name_of("messages", old) in names
    async with world.pool.acquire() as conn:
        left = await partitions.existing(conn)
    assert left >= {("messages", kept), ("message_contents", kept)}
    others = {day for table, day in left if table not in partitions.BY_ID}
    assert others >= {today}
    assert min(others) >= today - RECEIPTS_DAYS
    assert await world.value("SELECT min(hour) FROM outcome_hours") == kept * 24 + 23
    assert await world.value("SELECT min(minute) FROM outcome_minutes") == (today - 40) * 1440 + 1439
    assert await world.value("SELECT count(*) FROM messages WHERE id = $1", lost) == 0
    assert await Tending(world.pool, 183, now).tend() == []
    assert await Tending(world.pool, 183, now, 182).tend() == [partitions.name_of("message_contents", kept)]


async def test_retention_never_makes_settlement_wait_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader holds the table; the drop gives up, and comes back."""
    monkeypatch.setattr(partitions, "PATIENCE_MS", 200)
    monkeypatch.setattr(tending, "EVERY_S", 0.1)
    old = partitions.day_of(now()) - 300
    async with world.pool.acquire() as reader:
        await partitions.ensure(reader, [old])
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("SELECT count(*) FROM messages")
        async with world.settling():
            message = accepted()
            await world.accept(message)
            await world.becomes(message.id, Status.QUEUED)
            await reading.rollback()
            await world.until(lambda: gone(world, old))


async def gone(world: World, day: int) -> bool:
    async with world.pool.acquire() as conn:
        existing: Any = await partitions.existing(conn)
    return ("messages", day) not in existing
