"""Publishing by who has time: company is waited for, but never past an urgent record, a deadline or the end."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from gateway.stream import Producer, Published, Reader, Topics, ensure
from gateway.stream.waiting import NOW, moment

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
async def topics(kafka_bootstrap: str, topic_prefix: str) -> Topics:
    names = Topics(topic_prefix)
    await ensure(kafka_bootstrap, names, 2, 1)
    return names


@pytest.fixture
async def producer(kafka_bootstrap: str, topics: Topics) -> AsyncIterator[Producer]:
    publishing = Producer(kafka_bootstrap, topics)
    assert await publishing.start()
    assert await publishing.partitions(topics.results) == 2
    yield publishing
    await publishing.stop()


async def batches(bootstrap: str, topics: Topics, placed: list[Published | None]) -> int:
    """How many batches these records came in: the broker stamps a batch, not a record."""
    wanted = {(place.partition, place.offset) for place in placed if place is not None}
    stamps: dict[tuple[int, int], int] = {}
    reader = Reader(bootstrap, [topics.results], topics, "test")
    try:
        for place in await reader.start():
            reader.seek(place, 0)
        async with asyncio.timeout(10):
            while not wanted <= stamps.keys():
                for place, messages in (await reader.getmany(0.3, 500)).items():
                    stamps |= {(place.partition, one.offset): one.at_ms for one in messages}
    finally:
        await reader.stop()
    return len({(place[0], stamps[place]) for place in wanted})


async def callers(producer: Producer, topic: str, linger_s: float) -> list[Published | None]:
    """Forty calls, three milliseconds apart, to one partition."""
    calls = []
    for n in range(40):
        calls.append(asyncio.create_task(producer.publish(topic, [(b"k", b"%d" % n)], partition=0, linger_s=linger_s)))
        await asyncio.sleep(0.003)
    return [answer for answers in await asyncio.gather(*calls) for answer in answers]


async def test_calls_with_time_share_a_batch_in_their_order(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    hasty = await callers(producer, topics.results, 0.0)
    patient = await callers(producer, topics.results, 0.2)
    offsets = [place.offset for place in patient if place is not None]
    assert offsets == list(range(offsets[0], offsets[0] + 40))
    assert await batches(kafka_bootstrap, topics, hasty) >= 10
    assert await batches(kafka_bootstrap, topics, patient) <= 3


async def test_an_urgent_record_takes_along_what_waits_before_it(topics: Topics, producer: Producer) -> None:
    began = time.monotonic()
    waiting = asyncio.create_task(
        producer.publish(topics.results, [(b"k", b"first")], partition=1, deadline_s=9, linger_s=4)
    )
    await asyncio.sleep(0)
    urgent = await producer.publish(topics.results, [(b"k", b"second")], partition=1)
    before = await waiting
    assert time.monotonic() - began < 2
    assert urgent[0] is not None
    assert before == [Published(1, urgent[0].offset - 1)]


async def test_waiting_ends_well_before_the_deadline(topics: Topics, producer: Producer) -> None:
    began = time.monotonic()
    assert None not in await producer.publish(topics.results, [(b"k", b"v")], deadline_s=1.0, linger_s=60.0)
    assert time.monotonic() - began < 0.9


async def test_time_is_kept_while_another_batch_is_under_way(topics: Topics, producer: Producer) -> None:
    for _ in range(5):
        urgent = asyncio.create_task(producer.publish(topics.results, [(b"k", b"v")] * 50, partition=0))
        await asyncio.sleep(0.001)
        assert None not in await producer.publish(topics.results, [(b"k", b"v")], partition=0, linger_s=0.05)
        assert None not in await urgent


async def test_the_end_waits_for_nobody_and_drops_nothing(kafka_bootstrap: str, topics: Topics) -> None:
    publishing = Producer(kafka_bootstrap, topics)
    await publishing.start()
    await publishing.partitions(topics.results)
    waiting = asyncio.create_task(publishing.publish(topics.results, [(b"k", b"v")], deadline_s=20, linger_s=9))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    await publishing.stop()
    assert None not in await waiting
    assert time.monotonic() - began < 3


def test_a_moment_is_shared_and_ahead() -> None:
    assert moment(123.4, 0.0) == NOW
    times = [100 + n / 1000 for n in range(60)]
    moments = [moment(now, 0.02) for now in times]
    assert all(now - 1e-6 < at <= now + 0.020001 for now, at in zip(times, moments, strict=True))
    assert len(list(itertools.groupby(moments))) <= 4
