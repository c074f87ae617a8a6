"""The records process: every accepted message's content once, through redelivery, kills and erasures; sealed."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from gateway.contract.decision import Class
from gateway.contract.ids import new_id
from gateway.contract.wire import Accepted
from gateway.ledger.sealing import Contents
from gateway.records import contents, settlement
from gateway.records.archive import Archive
from gateway.records.personal import Personal
from gateway.stream import Producer, Reader, Topics, encode, ensure
from gateway.telemetry import ARCHIVED
from tests.integration.gateway_rig import Process, environment
from tests.integration.settle_world import KEYS, PEPPER, accepted, now

pytestmark = pytest.mark.integration

SEALING = Contents(KEYS)
DAY_MS = 86_400_000
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND datname = current_database()
"""


class World:
    """Topics, a database, and archives over them."""

    def __init__(self, bootstrap: str, names: Topics, pool: Any) -> None:
        self.bootstrap, self.names, self.pool = bootstrap, names, pool
        self.producer = Producer(bootstrap, names)

    async def accept(self, *records: Accepted | bytes, topic: str | None = None) -> None:
        pairs = [(b"k", one if isinstance(one, bytes) else encode(one)) for one in records]
        topic = topic or self.names.messages(Class.MARKETING)
        assert None not in await self.producer.publish(topic, pairs, deadline_s=10)

    def archive(self, **more: Any) -> Archive:
        reader = Reader(self.bootstrap, Archive.topics(self.names), self.names, "records")
        return Archive(self.pool, reader, self.producer, self.names, SEALING.seal, **{"flush_s": 0.02, **more})

    @asynccontextmanager
    async def archiving(self, **more: Any) -> AsyncIterator[None]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.archive(**more).run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    async def caught_up(self) -> None:
        """Until PostgreSQL's offsets are the ends of the topics."""
        reader = Reader(self.bootstrap, Archive.topics(self.names), self.names, "test")
        await reader.start()
        ends = await reader.ends()
        await reader.stop()
        assert ends is not None
        wanted = {(self.names.label(place.topic), place.partition): end for place, end in ends.items()}
        async with asyncio.timeout(20):
            while await settlement.offsets(self.pool, "records") != wanted:  # noqa: ASYNC110 - PostgreSQL tells nobody
                await asyncio.sleep(0.03)

    async def stored(self, *messages: Accepted) -> dict[str, str]:
        return await contents.texts(self.pool, SEALING.open, [one.id for one in messages])

    async def cut(self) -> int:
        """End whatever holds the archive's lock; how many."""
        return int(await self.pool.fetchval(CUT))


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[World]:
    names = Topics(topic_prefix)
    await ensure(kafka_bootstrap, names, 2, 1)
    async with asyncpg.create_pool(database_url, min_size=0, max_size=10, timeout=5, command_timeout=20) as pool:
        made = World(kafka_bootstrap, names, pool)
        await made.producer.start()
        yield made
        await made.producer.stop()


def said(n: int, **more: Any) -> Accepted:
    return accepted(text=f"【Acme】第{n}条，回复R退订", to=f"+861380013{n:04d}", subject=f"{n:032x}", **more)


def counted() -> Iterator[tuple[str, float]]:
    return ((labels[0], n) for labels, n in ARCHIVED._pending.items())


async def test_a_message_is_stored_once_however_often_it_comes_and_shows_nothing(world: World) -> None:
    one, two, parked = said(1), said(2), said(3, due=now() + 5_000)
    await world.accept(parked, topic=world.names.held)
    await world.accept(one, two, one.model_copy(update={"attempt": 2}))
    before = dict(counted())
    async with world.archiving():
        await world.caught_up()
        await world.accept(parked.model_copy(update={"due": None}), two)
        await world.caught_up()
    gained = {name: n - before.get(name, 0) for name, n in counted()}
    assert {name: n for name, n in gained.items() if n} == {"stored": 3, "known": 3}
    assert await world.stored(one, two, parked) == {each.id: each.text for each in (one, two, parked)}
    raw = b"".join([row["sealed"] for row in await world.pool.fetch("SELECT sealed FROM message_contents")])
    assert not any(word.encode() in raw for word in ("Acme", "退订", "+861380013", "1380013"))
    assert await world.pool.fetchval("SELECT count(*) FROM ONLY message_contents_other") == 0


async def test_nothing_is_lost_or_doubled_by_kills_at_any_moment_and_a_new_one_goes_on(world: World) -> None:
    rng, messages = random.Random(5), [said(100 + n) for n in range(400)]

    async def speak() -> None:
        for first in range(0, len(messages), 25):
            await world.accept(*messages[first : first + 25], messages[rng.randrange(first + 1)])
            await asyncio.sleep(0.05)

    speaking = asyncio.create_task(speak())
    for attempt in range(4):
        task = asyncio.create_task(world.archive(most_records=40).run(asyncio.Event()))
        await asyncio.sleep(rng.uniform(0.2, 0.4))
        if attempt % 2:
            await world.cut()
            await asyncio.sleep(rng.uniform(0.0, 0.2))
        while not task.done():  # a connection that breaks meanwhile may swallow a cancellation
            task.cancel()
            await asyncio.wait([task], timeout=1)
        with suppress(asyncio.CancelledError):
            task.result()
    await speaking
    async with world.archiving(), world.archiving():
        await world.caught_up()
    assert await world.stored(*messages) == {one.id: one.text for one in messages}


async def test_a_process_killed_again_and_again_stores_each_message_once(
    world: World, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    """kill -9 of `assent records` while messages come, and come twice."""
    env = environment(
        tmp_path, 0, redis_url="redis://127.0.0.1:1/0", kafka=kafka_bootstrap, prefix=topic_prefix,
        database_url=database_url, pepper=PEPPER.hex(), master_key="6d" * 32,
    )  # fmt: skip
    rng, messages = random.Random(7), [said(2_000 + n) for n in range(900)]
    process = Process("records", env, tmp_path / "records.log")
    before = await world.pool.fetchval("SELECT count(*) FROM message_contents")

    async def speak(some: list[Accepted]) -> None:
        for first in range(0, len(some), 20):
            await world.accept(*some[first : first + 20], *some[first : first + 20 : 7])
            await asyncio.sleep(0.03)

    try:
        for first in range(0, 900, 300):
            process.start()
            while not process.ready():  # noqa: ASYNC110 - its pipe tells nobody
                await asyncio.sleep(0.02)
            speaking = asyncio.create_task(speak(messages[first : first + 300]))
            await asyncio.sleep(rng.uniform(0.1, 0.6))
            process.child.kill()
            await speaking
        process.start()
        await world.caught_up()
    finally:
        await asyncio.to_thread(process.stop)
    assert await world.stored(*messages) == {one.id: one.text for one in messages}
    assert await world.pool.fetchval("SELECT count(*) FROM message_contents") == before + len(messages)


async def test_kafka_away_is_waited_for_and_is_no_fault(world: World) -> None:
    nowhere = Reader("127.0.0.1:1", Archive.topics(world.names), world.names, "records")
    stop = asyncio.Event()
    with capture_logs() as said:
        task = asyncio.create_task(Archive(world.pool, nowhere, world.producer, world.names, SEALING.seal).run(stop))
        async with asyncio.timeout(15):
            while not said or said[-1]["event"] != "archive_waits":  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.02)
        stop.set()
        await asyncio.wait_for(task, 20)
    assert "archive_failed" not in {line["event"] for line in said}


SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
SLOW_COMMIT = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON consumer_offsets DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION slowly();
"""


async def test_a_connection_cut_between_the_copy_and_its_commit_leaves_nothing_and_the_next_stores_it(
    world: World,
) -> None:
    message = said(600)
    await world.pool.execute(SLOW_COMMIT)
    async with world.archiving():
        await world.accept(message)
        async with asyncio.timeout(10):
            while not await world.pool.fetchval(SLEEPS):  # noqa: ASYNC110 - PostgreSQL tells nobody
                await asyncio.sleep(0.02)
        assert await world.cut() >= 1
        assert await world.stored(message) == {}
        await world.pool.execute("DROP TRIGGER slow ON consumer_offsets")
        await world.caught_up()
    assert await world.stored(message) == {message.id: message.text}


async def test_what_nobody_can_read_is_a_dead_letter_and_what_is_too_old_is_left_out(world: World) -> None:
    old, good = said(700, id=new_id(1, now() - 11 * DAY_MS)), said(701)
    await world.accept(b'{"id": "x"}', b"[]", encode(good).replace(b"-7", b"-4", 1), old, good)
    async with world.archiving(contents_days=10):
        await world.caught_up()
    assert await world.stored(old, good) == {good.id: good.text}
    dead = Reader(world.bootstrap, [world.names.dead], world.names, "test")
    for place in await dead.start():
        dead.seek(place, 0)
    letters: list[Any] = []
    until = time.monotonic() + 10
    while len(letters) < 3 and time.monotonic() < until:
        letters += [row for rows in (await dead.getmany(0.2, 100)).values() for row in rows]
    await dead.stop()
    assert len(letters) == 3


async def test_an_erased_persons_contents_go_and_later_ones_from_before_are_not_stored(world: World) -> None:
    here, late, other = said(800), said(800, id=new_id(1)), said(801)
    await world.accept(here, other)
    async with world.archiving():
        await world.caught_up()
        fields = {"subject": bytes.fromhex(here.subject), "accepted_at": here.accepted_at, "rank": 3, "status": 2}
        fields |= {"cause": 0, "attempt": 1, "parts": 1, "parts_delivered": 0, "timeline": "[]", "id": here.id}
        async with world.pool.acquire() as conn:
            await settlement.insert(conn, [tuple(fields.get(name) for name in settlement.COLUMNS)])
        await Personal(world.pool).forget(bytes.fromhex(here.subject))
        assert await world.stored(here, other) == {other.id: other.text}
        back = said(800, id=new_id(1), accepted_at=now() + 1)
        await world.accept(late, here, back)
        await world.caught_up()
        assert await world.stored(here, late, back) == {back.id: back.text}
    async with world.pool.acquire() as conn:
        await contents.sweep(conn, now() + contents.LATE_MS - 60_000)
        assert await conn.fetchval("SELECT count(*) FROM content_erasures") == 1
        await contents.sweep(conn, now() + contents.LATE_MS + 60_000)
        assert await conn.fetchval("SELECT count(*) FROM content_erasures") == 0
    assert await world.stored(back) == {back.id: back.text}
