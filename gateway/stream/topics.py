"""The topics, their settings and where their consumers begin.

Owns every topic name and the only code that makes topics. Promises: a topic is made with explicit retention,
replication and `min.insync.replicas`, never by a broker's default; the groups that submit messages have their offsets
initialised together with their topic, so that they can run with `auto_offset_reset=none`. On a crash half-way `ensure`
simply runs again: an offset is set only where the group has none *and* the log still begins at 0. A log that begins
later has been consumed before, so a missing offset means the broker forgot it, and guessing would lose messages or
send them twice: `OffsetsLost` is left to a person.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError, KafkaError, TopicAlreadyExistsError, for_code

from gateway.contract.decision import Class

HOUR_MS = 3_600_000
MAX_RECORD_BYTES = 900_000
"""A record's key and value together; the topics take batches of 1 MiB."""

_RETENTION_HOURS = {"messages": 72, "results": 72, "receipts": 7 * 24, "replies": 7 * 24, "dead": 30 * 24}
"""By a topic's first word. A rebuild reads 24 h of messages and results; the rest is room for a weekend's outage.

Messages must be gone before Kafka forgets the offsets of an idle group (7 days by default): see the module's promise.
"""


class OffsetsLost(Exception):  # noqa: N818 - it names what happened
    """The group's place in this topic is unknown and cannot be guessed; its arguments are group and topic."""


class Topics:
    """The names of one installation's topics and consumer groups, each behind the same prefix."""

    __slots__ = ("_messages", "dead", "held", "prefix", "receipts", "replies", "results")

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self._messages = {cls: f"{prefix}messages.{cls.value}" for cls in Class}
        self.held = f"{prefix}messages.held"
        self.results = f"{prefix}results"
        self.receipts = f"{prefix}receipts"
        self.replies = f"{prefix}replies"
        self.dead = f"{prefix}dead"

    def messages(self, cls: Class) -> str:
        """The topic of accepted messages of a class."""
        return self._messages[cls]

    def all(self) -> tuple[str, ...]:
        """Every topic."""
        return (*self._messages.values(), self.held, self.results, self.receipts, self.replies, self.dead)

    def bulk(self) -> frozenset[str]:
        """The topics that may hold a campaign's backlog; they never share a connection with the others."""
        return frozenset((self._messages[Class.MARKETING], self.held))

    def group(self, name: str) -> str:
        """A consumer group's full name."""
        return f"{self.prefix}{name}"

    def deliver_group(self, cls: Class) -> str:
        """The group that submits messages of a class."""
        return self.group(f"deliver.{cls.value}")

    def hold_group(self) -> str:
        """The group that stores held messages."""
        return self.group("hold")

    def groups(self) -> dict[str, str]:
        """Each group whose offsets are initialised with its topic."""
        return {self.deliver_group(cls): name for cls, name in self._messages.items()} | {self.hold_group(): self.held}

    def label(self, topic: str) -> str:
        """A topic's name without the installation's prefix, as metrics show it."""
        return topic.removeprefix(self.prefix)


def partition_of(key: bytes, partitions: int) -> int:
    """Where records of a key go: CRC-32 of the key, so the same key always shares a partition with itself."""
    return zlib.crc32(key) % partitions


def partition_by_class(cls: Class, key: bytes, partitions: int) -> int:
    """Where a result goes: each class has partitions of its own while there are enough, so none waits for another."""
    share, index = partitions // len(_ORDER), _ORDER[cls]
    if share == 0:
        return index % partitions
    first = index * share
    width = partitions - first if index == len(_ORDER) - 1 else share
    return first + zlib.crc32(key) % width


_ORDER = {cls: index for index, cls in enumerate(Class)}


def settings_of(label: str, replication: int) -> dict[str, str]:
    """The explicit settings of a topic, by its name without prefix."""
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(_RETENTION_HOURS[label.split(".", 1)[0]] * HOUR_MS),
        "retention.bytes": "-1",
        "segment.ms": str(6 * HOUR_MS),
        "max.message.bytes": str(1 << 20),
        "min.insync.replicas": str(max(1, replication - 1)),
        "unclean.leader.election.enable": "false",
        # The broker's clock decides retention: a client whose clock is wrong cannot make its records vanish early.
        "message.timestamp.type": "LogAppendTime",
    }


async def ensure(
    bootstrap: str, topics: Topics, partitions: int, replication: int, *, timeout_s: float = 30.0
) -> list[str]:
    """Make the missing topics, then give each submitting group its first offsets. Returns the topics made.

    Raises TimeoutError, aiokafka's KafkaError, or OffsetsLost.
    """
    async with asyncio.timeout(timeout_s):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
        try:
            await admin.start()
            made = await _create(admin, topics, partitions, replication)
            counts = await _counts(admin, topics.all())
        finally:
            await admin.close()
        for group, topic in topics.groups().items():
            await _initialise(bootstrap, group, [TopicPartition(topic, number) for number in range(counts[topic])])
    return made


async def _create(admin: AIOKafkaAdminClient, topics: Topics, partitions: int, replication: int) -> list[str]:
    present = set(await admin.list_topics())
    missing = [name for name in topics.all() if name not in present]
    if not missing:
        return []
    response = await admin.create_topics(
        [
            NewTopic(name, partitions, replication, topic_configs=settings_of(topics.label(name), replication))
            for name in missing
        ]
    )
    for error in _errors(response.to_object()):
        if not isinstance(error, TopicAlreadyExistsError):  # another process of ours was quicker
            raise error
    return missing


async def _counts(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Each topic's number of partitions; a fresh topic is not in every broker's metadata at once."""
    while True:
        rows = await admin.describe_topics(list(names))
        ready = {
            row["topic"]: len(row["partitions"])
            for row in rows
            if not row["error_code"] and all(part["leader"] >= 0 for part in row["partitions"])
        }
        if len(ready) == len(names):
            return ready
        await asyncio.sleep(0.05)


def _errors(response: Mapping[str, list[dict[str, int | str]]]) -> Iterator[KafkaError]:
    for row in response["topic_errors"]:
        if row["error_code"]:
            yield for_code(row["error_code"])(f"{row['topic']}: {row.get('error_message')}")


async def _initialise(bootstrap: str, group: str, places: list[TopicPartition]) -> None:
    """Offset 0 where the group has none and the log still begins there."""
    async with _outside(bootstrap, group, places) as consumer:
        missing = await _missing(consumer, places)
        begins = await consumer.beginning_offsets(missing)
        if any(begins.values()):
            raise OffsetsLost(group, places[0].topic)
        await _place(consumer, dict.fromkeys(missing, 0))


async def begin_at_beginning(bootstrap: str, group: str, topics: Sequence[str], *, timeout_s: float = 30.0) -> None:
    """The log's beginning where the group has no offset: for work that may be repeated, before the group is joined.

    Raises TimeoutError or KafkaError.
    """
    async with asyncio.timeout(timeout_s):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
        try:
            await admin.start()
            counts = await _counts(admin, topics)
        finally:
            await admin.close()
        places = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
        async with _outside(bootstrap, group, places) as consumer:
            missing = await _missing(consumer, places)
            await _place(consumer, await consumer.beginning_offsets(missing))


@asynccontextmanager
async def _outside(bootstrap: str, group: str, places: list[TopicPartition]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that sees a group's offsets without being a member; its commits are taken while nobody is."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="none"
    )
    try:
        await consumer.start()
        consumer.assign(places)
        yield consumer
    finally:
        await consumer.stop()


async def _missing(consumer: AIOKafkaConsumer, places: list[TopicPartition]) -> list[TopicPartition]:
    known = await asyncio.gather(*(consumer.committed(place) for place in places))
    return [place for place, offset in zip(places, known, strict=True) if offset is None]


async def _place(consumer: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> None:
    try:
        if offsets:
            await consumer.commit(offsets)
    except CommitFailedError:
        if await _missing(consumer, list(offsets)):  # else a process of ours placed the group and joined it meanwhile
            raise
