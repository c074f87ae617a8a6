"""A broker that freezes, stops and comes back, under the same producer and readers."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.contract.decision import Class
from gateway.local.parts import Kafka, Part, bring_up, free_port
from gateway.stream import GroupReader, Place, Producer, Reader, StreamBusy, Topics, ensure

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def broker(parts_dir: Path) -> Iterator[Part]:
    """One for this module, which may freeze and kill it as long as it leaves it running."""
    part = Kafka(parts_dir / "faults", free_port(), free_port(), parts_dir / "log/faults.log")
    bring_up([part])
    yield part
    part.stop()


@pytest.fixture
async def topics(broker: Part) -> Topics:
    names = Topics(f"{uuid.uuid4().hex[:6]}.")
    await ensure(broker.endpoint, names, 1, 1)
    return names


@contextmanager
def frozen(broker: Part) -> Iterator[None]:
    assert broker.child.pid is not None
    os.kill(broker.child.pid, signal.SIGSTOP)
    try:
        time.sleep(0.05)  # each of its threads stops by itself
        yield
    finally:
        os.kill(broker.child.pid, signal.SIGCONT)


@contextmanager
def takes(least_s: float, most_s: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert least_s <= time.monotonic() - began <= most_s


async def nothing(_places: frozenset[Place], _epoch: int) -> None: ...


def member(bootstrap: str, topics: Topics) -> GroupReader:
    return GroupReader(
        bootstrap,
        topics.deliver_group(Class.TRANSACTIONAL),
        [topics.messages(Class.TRANSACTIONAL)],
        topics,
        consumer="t",
        on_assigned=nothing,
        on_revoked=nothing,
    )


async def values(bootstrap: str, topics: Topics, topic: str) -> list[bytes | None]:
    reader = Reader(bootstrap, [topic], topics, "t")
    for place in await reader.start():
        reader.seek(place, 0)
    ends = await reader.ends()
    assert ends is not None
    found: list[bytes | None] = []
    while len(found) < sum(ends.values()):
        found += [row.value for rows in (await reader.getmany(1.0, 500)).values() for row in rows]
    await reader.stop()
    return found


async def acknowledged(producer: Producer, topic: str, value: bytes, within_s: float) -> None:
    """Publishes until Kafka says yes, each time with a value of its own."""
    async with asyncio.timeout(within_s):
        tries = 0
        while (await producer.publish(topic, [(b"k", b"%s-%d" % (value, tries))], deadline_s=0.5))[0] is None:
            tries += 1


async def test_a_frozen_broker_holds_nobody_up(broker: Part, topics: Topics) -> None:
    topic = topics.messages(Class.TRANSACTIONAL)
    producer = Producer(broker.endpoint, topics, max_records=20)
    assert await producer.start()
    reader = member(broker.endpoint, topics)
    await reader.start()
    try:
        assert await producer.publish(topic, [(b"k", b"before")]) != [None]
        read = await reader.getmany(2.0, 10)
        with frozen(broker):
            with takes(0.4, 0.9):
                assert await producer.publish(topic, [(b"k", b"sent")], deadline_s=0.5) == [None]
            with takes(0.4, 0.9):  # behind the unanswered batch: dropped at its deadline, so it never lands
                assert await producer.publish(topic, [(b"k", b"queued")] * 3, deadline_s=0.5) == [None] * 3
            with pytest.raises(StreamBusy):  # what is unanswered still counts
                await producer.publish(topic, [(b"k", b"more")] * 20)
            with takes(0.0, 2.5):
                assert (await reader.getmany(0.5, 10)).batch == {}
            with takes(0.4, 0.9):
                assert not await reader.commit({Place(topic, 0): 1}, read.epoch, deadline_s=0.5)
        await acknowledged(producer, topic, b"after", 5.0)
        assert (await values(broker.endpoint, topics, topic))[:2] == [b"before", b"sent"]
        assert b"queued" not in await values(broker.endpoint, topics, topic)
        assert await reader.commit({Place(topic, 0): 2}, reader.epoch)
        with frozen(broker):
            late = asyncio.create_task(producer.publish(topic, [(b"k", b"last")], deadline_s=30))
            await asyncio.sleep(0.1)
            with takes(0.0, 6.0):
                await asyncio.gather(producer.stop(grace_s=0.5), reader.stop(grace_s=0.5))
            assert await asyncio.wait_for(late, 1.0) == [None]
    finally:
        await asyncio.gather(producer.stop(grace_s=0.1), reader.stop(grace_s=0.1))


async def test_a_stuck_connection_is_replaced(broker: Part, topics: Topics) -> None:
    """Also from the start: a producer that began without a broker connects when there is one."""
    topic = topics.messages(Class.TRANSACTIONAL)
    producer = Producer(broker.endpoint, topics, stuck_s=1.0)
    try:
        with frozen(broker):
            with takes(0.4, 0.9):
                assert not await producer.start(deadline_s=0.5)
            with takes(0.2, 0.6):
                assert await producer.publish(topic, [(b"k", b"v")], deadline_s=0.3) == [None]
        await acknowledged(producer, topic, b"first", 8.0)
        with frozen(broker):
            assert await producer.publish(topic, [(b"k", b"stuck")], deadline_s=0.3) == [None]
            await asyncio.sleep(1.2)
            assert not producer.connected
        await acknowledged(producer, topic, b"second", 8.0)
        assert producer.connected
    finally:
        await producer.stop(grace_s=0.1)


async def test_a_broker_that_stops_and_starts_is_found_again(broker: Part, topics: Topics) -> None:
    """Nothing acknowledged is lost, and the group member reads on, without a restart of ours."""
    topic = topics.messages(Class.TRANSACTIONAL)
    producer = Producer(broker.endpoint, topics)
    await producer.start()
    reader = member(broker.endpoint, topics)
    await reader.start()
    found: list[bytes | None] = []
    try:
        sent = [b"%d" % n for n in range(50)]
        assert None not in await producer.publish(topic, [(b"k", value) for value in sent])
        read = await reader.getmany(2.0, 20)
        found += [row.value for rows in read.batch.values() for row in rows]
        assert await reader.commit({Place(topic, 0): 20}, read.epoch)
        broker.child.kill()
        with takes(0.4, 0.9):
            assert await producer.publish(topic, [(b"k", b"lost")], deadline_s=0.5) == [None]
        with takes(0.0, 2.5):
            read = await reader.getmany(0.5, 20)  # from memory, or nothing
        found += [row.value for rows in read.batch.values() for row in rows]
        await asyncio.to_thread(bring_up, [broker])
        await acknowledged(producer, topic, b"back", 10.0)
        async with asyncio.timeout(15):
            while not any(value and value.startswith(b"back") for value in found):
                read = await reader.getmany(0.5, 100)
                found += [row.value for rows in read.batch.values() for row in rows]
        assert found[:50] == sent
        assert await reader.commit({Place(topic, 0): 50}, reader.epoch)
    finally:
        await asyncio.gather(producer.stop(grace_s=0.1), reader.stop())
