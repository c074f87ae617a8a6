"""Publishing to a real broker: order, coalescing, bounds, and topics that begin where they should."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from gateway.contract.decision import Class
from gateway.stream import OffsetsLost, Producer, Published, Reader, StreamBusy, Topics, ensure, partition_of
from gateway.stream.reader import Message, open_consumer

pytestmark = pytest.mark.integration
PARTITIONS = 3


@pytest.fixture(scope="module")
async def topics(kafka_bootstrap: str, topic_prefix: str) -> Topics:
    names = Topics(topic_prefix)
    assert set(await ensure(kafka_bootstrap, names, PARTITIONS, 1)) == set(names.all())
    return names


@pytest.fixture
async def producer(kafka_bootstrap: str, topics: Topics) -> AsyncIterator[Producer]:
    publishing = Producer(kafka_bootstrap, topics)
    assert await publishing.start()
    yield publishing
    await publishing.stop()


async def read_all(bootstrap: str, topics: Topics, topic: str, count: int) -> list[Message]:
    reader = Reader(bootstrap, [topic], topics, "test")
    try:
        for place in await reader.start():
            reader.seek(place, 0)
        found: list[Message] = []
        async with asyncio.timeout(10):
            while len(found) < count:
                for messages in (await reader.getmany(0.5, 500)).values():
                    found += messages
        return found
    finally:
        await reader.stop()


async def test_topics_are_made_once_with_explicit_settings(kafka_bootstrap: str, topics: Topics) -> None:
    assert await ensure(kafka_bootstrap, topics, 7, 1) == []
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        rows = await admin.describe_topics(list(topics.all()))
        assert {len(row["partitions"]) for row in rows} == {PARTITIONS}
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topics.held)])
        values = {row[0]: row[1] for row in answers[0].resources[0][4]}
    finally:
        await admin.close()
    assert values["retention.ms"] == str(72 * 3_600_000)
    assert values["min.insync.replicas"] == "1"
    assert values["message.timestamp.type"] == "LogAppendTime"


async def test_a_submitting_group_begins_with_its_topic(kafka_bootstrap: str, topics: Topics) -> None:
    for group, topic in topics.groups().items():
        consumer = open_consumer(kafka_bootstrap, group)
        await consumer.start()
        try:
            places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            consumer.assign(places)
            assert [await consumer.committed(place) for place in places] == [0] * PARTITIONS
        finally:
            await consumer.stop()


class Forgotten(Topics):
    """The same topics, with groups that Kafka knows nothing of."""

    def deliver_group(self, cls: Class) -> str:
        return self.group(f"another.{cls.value}")


async def test_an_offset_is_never_guessed_for_a_log_that_was_read_before(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    """A group that Kafka has forgotten: the log has lost its beginning, so 0 would be a lie."""
    names = Topics(f"{topic_prefix}lost.")
    topic = names.messages(Class.MARKETING)
    publishing = Producer(kafka_bootstrap, names)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await ensure(kafka_bootstrap, names, 1, 1)
    await admin.start()
    try:
        await publishing.start()
        assert (await publishing.publish(topic, [(b"k", b"v")] * 3))[2] == Published(0, 2)
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(2)})
    finally:
        await publishing.stop()
        await admin.close()
    assert await ensure(kafka_bootstrap, names, 1, 1) == []  # its commit is still there
    with pytest.raises(OffsetsLost):
        await ensure(kafka_bootstrap, Forgotten(names.prefix), 1, 1)


async def test_each_record_gets_its_place_and_keys_keep_their_order(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    """Twenty callers at once, each with its own keys, in several calls: nothing lost, doubled, moved or reordered."""
    topic = topics.messages(Class.TRANSACTIONAL)

    async def caller(number: int) -> list[tuple[tuple[bytes, bytes], Published]]:
        done = []
        for call in range(10):
            pairs = [(b"%d-%d" % (number, n % 3), b"%d" % (call * 10 + n)) for n in range(10)]
            answers = await producer.publish(topic, pairs)
            done += [(pair, place) for pair, place in zip(pairs, answers, strict=True) if place is not None]
        return done

    published = [row for rows in await asyncio.gather(*(caller(number) for number in range(20))) for row in rows]
    assert len(published) == 2000
    found = await read_all(kafka_bootstrap, topics, topic, 2000)
    assert len(found) == 2000
    at = {(message.place.partition, message.offset): (message.key, message.value) for message in found}
    for (key, value), place in published:
        assert at[place.partition, place.offset] == (key, value)
        assert place.partition == partition_of(key, PARTITIONS)
    order: dict[bytes | None, list[int]] = {}
    for message in found:
        order.setdefault(message.key, []).append(int(message.value or b""))
    assert len(order) == 60
    assert all(values == sorted(values) for values in order.values())


async def test_a_batch_larger_than_the_client_takes_is_cut(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    value = os.urandom(200_000)
    first, second = await asyncio.gather(
        producer.publish(topics.results, [(b"same", value)] * 9, deadline_s=5),
        producer.publish(topics.results, [(b"same", b"behind")], deadline_s=5),
    )
    assert [place.offset for place in first + second if place] == list(range(10))
    found = await read_all(kafka_bootstrap, topics, topics.results, 10)
    assert [message.value for message in found] == [value] * 9 + [b"behind"]


async def test_a_given_partition_is_used(topics: Topics, producer: Producer) -> None:
    answers = await producer.publish(topics.receipts, [(b"%d" % n, b"v") for n in range(6)], partition=2)
    assert [place.partition for place in answers if place] == [2] * 6
    assert await producer.partitions(topics.receipts) == PARTITIONS


async def test_nothing_and_too_much_are_answered_without_the_broker(topics: Topics, producer: Producer) -> None:
    assert await producer.publish(topics.receipts, []) == []
    with pytest.raises(ValueError, match="larger"):
        await producer.publish(topics.receipts, [(b"k", b"v" * 900_001)])


async def test_memory_is_bounded_per_topic(kafka_bootstrap: str, topics: Topics) -> None:
    publishing = Producer(kafka_bootstrap, topics, max_records=100, max_bytes=10_000)
    await publishing.start()
    try:
        marketing, transactional = topics.messages(Class.MARKETING), topics.messages(Class.TRANSACTIONAL)
        await publishing.publish(marketing, [(b"k", b"v")])
        full = asyncio.create_task(publishing.publish(marketing, [(b"k", b"v")] * 100))
        await asyncio.sleep(0)
        with pytest.raises(StreamBusy):
            await publishing.publish(marketing, [(b"k", b"v")])
        assert await publishing.publish(transactional, [(b"k", b"v")]) != [None]
        assert None not in await full
        with pytest.raises(StreamBusy):
            await publishing.publish(marketing, [(b"k", b"v" * 6_000)] * 2)
        for _ in range(5):  # what is answered is free again
            assert None not in await publishing.publish(marketing, [(b"k", b"v" * 80)] * 100)
    finally:
        await publishing.stop()


async def test_an_unknown_topic_is_not_acknowledged_in_time(topics: Topics, producer: Producer) -> None:
    async with asyncio.timeout(1.5):
        assert await producer.publish("nowhere", [(b"k", b"v")], deadline_s=0.5) == [None]
    assert None not in await producer.publish(topics.receipts, [(b"k", b"v")])


async def test_content_never_reaches_the_log(
    kafka_bootstrap: str, topics: Topics, producer: Producer, caplog: pytest.LogCaptureFixture
) -> None:
    """aiokafka's debug lines quote whole requests, so that level stays out of reach of the root logger's."""
    secret = b"+8613800138000"
    with caplog.at_level(logging.DEBUG):
        assert None not in await producer.publish(topics.replies, [(secret, b"text of " + secret)])
        found = await read_all(kafka_bootstrap, topics, topics.replies, 1)
        logging.getLogger("other").debug("seen")
    assert found[0].key == secret
    assert "seen" in caplog.text
    assert secret.decode() not in caplog.text


async def test_after_stop_nothing_is_taken(kafka_bootstrap: str, topics: Topics) -> None:
    publishing = Producer(kafka_bootstrap, topics)
    await publishing.start()
    await publishing.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        await publishing.publish(topics.receipts, [(b"k", b"v")])
