"""Settlement under faults: killed at any moment, superseded, behind, without PostgreSQL. Each statement counts once."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway.contract.decision import Cause, Status
from gateway.contract.ids import new_id
from gateway.contract.wire import Accepted, Receipt, Result
from gateway.local.parts import Part
from gateway.records import migrate, subscriptions
from gateway.records.timeline import STATUSES
from gateway.rules.reach import Reach
from gateway.settle.seals import seal_secret
from gateway.settle.settle import Settle
from gateway.settle.webhooks.sending import Sending
from gateway.settle.webhooks.wire import Resolver, Wire
from gateway.stream import Reader
from tests.integration.hook_receiver import receiving
from tests.integration.settle_world import DELIVERED, KEYS, World, a_world, accepted, receipt, submitted

pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


def lives(count: int, run: str) -> tuple[list[Accepted], list[Result], list[Receipt]]:
    """Messages of which a tenth is rejected, a tenth has no receipt, and every seventh receipt comes twice."""
    messages = [accepted(id=new_id(n % 16), subject=random.randbytes(16).hex()) for n in range(count)]
    results, receipts = [], []
    for n, message in enumerate(messages):
        if n % 10 == 3:
            results.append(submitted(message.id, outcome="rejected", code="8", cause=Cause.CONTENT))
            continue
        results.append(submitted(message.id, carrier_id=f"{run}{n:06x}"))
        if n % 10 != 7:
            one = receipt(ref=message.id if n % 2 else None, carrier_id=f"{run}{n:06X}")
            receipts += [one, one] if n % 7 == 0 else [one]
    random.Random(7).shuffle(receipts)
    return messages, results, receipts


async def test_kafka_away_is_an_outage_and_not_a_fault(world: World) -> None:
    nowhere = Reader("127.0.0.1:1", Settle.topics(world.names), world.names, "settle")
    settling = world.settle()
    settling._records = nowhere
    stop = asyncio.Event()
    with capture_logs() as said:
        task = asyncio.create_task(settling.run(stop))
        await world.until(lambda: waited(said))
        stop.set()
        await asyncio.wait_for(task, 20)
    assert "settle_failed" not in {line["event"] for line in said}


async def waited(said: Sequence[Mapping[str, Any]]) -> bool:
    return any(line["event"] == "settle_waits" for line in said)


async def killed_again_and_again(world: World, rng: random.Random, times: int) -> None:
    """Settle begins and ends at any moment; every second time PostgreSQL has first ended what holds its lock."""
    for attempt in range(times):
        task = asyncio.create_task(world.settle(flush_s=0.01).run(asyncio.Event()))
        await asyncio.sleep(rng.uniform(0.2, 0.5))
        if attempt % 2:
            await world.value(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                "WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND datname = current_database()"
            )
            await asyncio.sleep(rng.uniform(0.0, 0.3))
        while not task.done():  # a connection that breaks meanwhile may swallow a cancellation
            task.cancel()
            await asyncio.wait([task], timeout=1)
        with suppress(asyncio.CancelledError):
            task.result()


async def test_each_statement_counts_once_through_kills_at_any_moment(world: World) -> None:
    before, count = await world.counted(), 600
    messages, results, receipts = lives(count, "d1")
    rng = random.Random(11)

    async def speak() -> None:
        for index in range(0, count, 50):
            await world.accept(*messages[index : index + 50])
            await world.say(world.names.receipts, *receipts[index : index + 50])
            await world.say(world.names.results, *results[index : index + 50])
        await world.say(world.names.receipts, *receipts[count:])

    speaking = asyncio.create_task(speak())
    await killed_again_and_again(world, rng, 8)
    await speaking
    ids = [message.id for message in messages]
    async with world.settling():
        await world.until(lambda: world.value(DELIVERED, ids, count * 8 // 10))
        await world.until(lambda: world.value("SELECT count(*) = 0 FROM orphans"))
    rows = await world.pool.fetch("SELECT status, count(*) AS n FROM messages WHERE id = ANY($1) GROUP BY status", ids)
    assert {row["status"]: row["n"] for row in rows} == {3: count // 10, 4: count * 8 // 10, 7: count // 10}
    after = await world.counted()
    gained = {status: n - before.get(status, 0) for status, n in after.items() if n != before.get(status, 0)}
    assert gained == {2: count, 3: count * 9 // 10, 4: count * 8 // 10, 7: count // 10}
    assert await world.value("SELECT count(DISTINCT key) = count(*) FROM carrier_ids WHERE key LIKE 'sim/d1%'")


async def test_what_is_told_is_told_once_through_kills_at_any_moment(world: World) -> None:
    """Settle is killed over and over while a sender empties the queue: a change written twice would arrive twice."""
    count, rng = 300, random.Random(13)
    async with receiving() as receiver:
        url = receiver.url("/ok")
        messages, results, receipts = lives(count, "a1")
        messages = [one.model_copy(update={"callback_url": url}) for one in messages]
        async with world.pool.acquire() as conn:
            await subscriptions.put_secret(conn, "demo", seal_secret(KEYS, "demo", "whsec_" + "QUJD" * 8), None)
        stop = asyncio.Event()
        wire = Wire(Reach(local=True), resolve=Resolver())
        sending = asyncio.create_task(Sending(world.pool, KEYS, wire).run(stop))

        async def speak() -> None:
            for index in range(0, count, 30):
                await world.accept(*messages[index : index + 30])
                await world.say(world.names.results, *results[index : index + 30])
                await world.say(world.names.receipts, *receipts[index : index + 30])
                await asyncio.sleep(0.1)
            await world.say(world.names.receipts, *receipts[count:])

        speaking = asyncio.create_task(speak())
        await killed_again_and_again(world, rng, 6)
        await speaking
        ids = [message.id for message in messages]
        async with world.settling():
            await world.until(lambda: world.value(DELIVERED, ids, count * 8 // 10))
            await world.until(lambda: world.value("SELECT count(*) = 0 FROM orphans"))
            await world.until(lambda: world.value("SELECT count(*) = 0 FROM webhooks"), 30)
        stop.set()
        await asyncio.wait_for(sending, 20)
        told: dict[str, list[tuple[int, str]]] = {}
        for got in receiver.got:
            told.setdefault(got.data["id"], []).append((got.data["rank"], got.data["status"]))
        assert set(told) == set(ids)
        assert all(len({status for _, status in said}) == len(said) for said in told.values())
        rows = await world.pool.fetch("SELECT id, status FROM messages WHERE id = ANY($1)", ids)
        stand = {str(row["id"]): STATUSES[row["status"]].value for row in rows}
        assert {name: max(said)[1] for name, said in told.items()} == stand
        assert len({got.id for got in receiver.got}) == len(receiver.got)


async def test_two_settle_one_at_a_time_and_the_second_takes_over(world: World) -> None:
    first = asyncio.create_task(world.settle().run(asyncio.Event()))
    before = accepted()
    await world.accept(before)
    await world.becomes(before.id, Status.QUEUED)
    async with world.settling():
        await asyncio.sleep(0.2)
        holders = await world.value(
            "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE locktype = 'advisory' AND granted AND datname = current_database()"
        )
        assert holders == 1
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        after = accepted()
        await world.accept(after)
        await world.becomes(after.id, Status.QUEUED)


async def test_offsets_moved_by_another_make_it_start_over_and_count_nothing_twice(world: World) -> None:
    counted = await world.counted()
    messages = [accepted() for _ in range(3)]
    async with world.settling():
        await world.accept(messages[0])
        await world.becomes(messages[0].id, Status.QUEUED)
        await world.value(
            "UPDATE consumer_offsets SET next_offset = next_offset - 1 "
            "WHERE topic = 'messages.marketing' AND next_offset > 0"
        )
        await world.accept(*messages[1:])
        for message in messages:
            await world.becomes(message.id, Status.QUEUED)
    assert await world.counted() == {**counted, 2: counted[2] + 3}


async def test_a_backlog_is_settled_in_bounded_pieces(world: World) -> None:
    messages, results, receipts = lives(2_000, "e5")
    await world.accept(*messages)
    await world.say(world.names.results, *results)
    await world.say(world.names.receipts, *receipts)
    sizes: list[int] = []
    settle = world.settle(most_records=400)
    flush = settle._flush

    async def measured(conn: Any, known: Any, buffer: Any) -> None:
        sizes.append(len(buffer))
        await flush(conn, known, buffer)

    settle._flush = measured  # type: ignore[method-assign]
    stop = asyncio.Event()
    task = asyncio.create_task(settle.run(stop))
    ids = [message.id for message in messages]
    await world.until(lambda: world.value(DELIVERED, ids, 1_600))
    stop.set()
    await task
    assert max(sizes) <= 400


async def test_postgresql_away_for_a_while_loses_nothing(
    kafka_bootstrap: str, topic_prefix: str, redis_url: str, own_part: Callable[[str], Part]
) -> None:
    server = own_part("postgres")
    await migrate.migrate(server.endpoint)
    messages = [accepted() for _ in range(20)]
    async with a_world(kafka_bootstrap, f"{topic_prefix}away.", redis_url, server.endpoint) as world, world.settling():
        await world.accept(messages[0])
        await world.becomes(messages[0].id, Status.QUEUED)
        await asyncio.to_thread(server.stop)
        await world.accept(*messages[1:])
        await asyncio.sleep(0.6)
        await asyncio.to_thread(server.start)

        async def all_there() -> bool:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                return bool(await world.value("SELECT count(*) = 20 FROM messages WHERE accepted_at IS NOT NULL"))
            return False

        await world.until(all_there, 20)
        assert await world.counted() == {2: 20}
