"""Reading partitions from given offsets: what any reader shares, and the reader whose offsets live in PostgreSQL.

Owns the aiokafka consumer and its end. Promises: positions are never guessed (`auto_offset_reset=none`), a lost one is
`OffsetsLost`; a call returns within its timeout and a second; a client that fails is replaced and goes on where the
last one stopped; closing never waits for a broker that is away. A crash leaves nothing behind: `Reader` commits
nothing anywhere.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError, UnknownTopicOrPartitionError

from gateway.stream.topics import OffsetsLost, Topics
from gateway.telemetry import CONSUMED, LAG, logger

log = logger("stream")

RETRY_S = 0.5


class Place(NamedTuple):
    """A topic's partition."""

    topic: str
    partition: int


class Message(NamedTuple):
    """A record as read."""

    place: Place
    offset: int
    key: bytes | None
    value: bytes | None
    at_ms: int
    """When the broker appended it."""


Batch = dict[Place, list[Message]]


def open_consumer(bootstrap: str, group: str | None, **settings: Any) -> AIOKafkaConsumer:
    """A consumer that never commits or repositions by itself."""
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id="assent",
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        request_timeout_ms=15_000,
        fetch_max_wait_ms=250,
        max_partition_fetch_bytes=1 << 20,
        fetch_max_bytes=8 << 20,
        metadata_max_age_ms=60_000,
        **settings,
    )


async def close_consumer(consumer: AIOKafkaConsumer, grace_s: float) -> None:
    """Leave the group and close; when the broker does not answer within `grace_s`, break the connections instead."""
    ending = asyncio.create_task(consumer.stop())
    _, late = await asyncio.wait([ending], timeout=grace_s)
    if late:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await consumer._client.close()  # noqa: SLF001 - stop() has no deadline of its own
        _, late = await asyncio.wait([ending], timeout=1.0)
        for task in late:
            task.cancel()
    await asyncio.gather(ending, return_exceptions=True)


async def fetch(consumer: AIOKafkaConsumer, timeout_s: float, max_records: int, places: Collection[Place]) -> Batch:
    """At most `max_records` records, or none within `timeout_s`. Raises KafkaError, or OffsetsLost.

    aiokafka waits for a rebalance without a deadline, so one is put around it; it takes records out of its buffer
    without awaiting in between, so that a cancelled call loses none.
    """
    try:
        async with asyncio.timeout(timeout_s + 1.0):
            found = await consumer.getmany(
                *(TopicPartition(*place) for place in places),
                timeout_ms=int(timeout_s * 1000),
                max_records=max_records,
            )
    except TimeoutError:
        return {}
    except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
        raise OffsetsLost(consumer._group_id, _topic_in(error)) from None  # noqa: SLF001
    batch: Batch = {}
    for tp, records in found.items():
        place = Place(tp.topic, tp.partition)
        batch[place] = [Message(place, row.offset, row.key, row.value, row.timestamp) for row in records]
    return batch


def _topic_in(error: KafkaError) -> str:
    """The topic an offset error is about: aiokafka gives the partition, or a dict by partition."""
    about = error.args[0] if error.args else None
    if isinstance(about, dict):
        about = next(iter(about), None)
    return str(getattr(about, "topic", "?"))


def lag_of(consumer: AIOKafkaConsumer, places: Iterable[Place]) -> dict[Place, int]:
    """Records between the position and the end last seen by a fetch; a partition not fetched yet is left out."""
    lags: dict[Place, int] = {}
    assignment = consumer._subscription.subscription and consumer._subscription.subscription.assignment  # noqa: SLF001
    for place in places:
        state = assignment.state_value(TopicPartition(*place)) if assignment else None
        if state is not None and state.has_valid_position and state.highwater is not None:
            lags[place] = max(0, state.highwater - state.position)
    return lags


class Tally:
    """What a reader reports: records taken and lag, by topic without prefix."""

    def __init__(self, names: Topics, consumer: str) -> None:
        self._names, self._consumer = names, consumer

    def took(self, batch: Batch) -> None:
        """Count the records handed out."""
        for place, messages in batch.items():
            CONSUMED.add(len(messages), self._names.label(place.topic), self._consumer)

    def lag(self, lags: dict[Place, int]) -> None:
        """Report the lag, summed over a topic's partitions."""
        sums: dict[str, int] = {}
        for place, records in lags.items():
            sums[place.topic] = sums.get(place.topic, 0) + records
        for topic, records in sums.items():
            LAG.set(records, self._names.label(topic), self._consumer)


async def offsets(
    consumer: AIOKafkaConsumer, which: str, places: Iterable[Place], deadline_s: float
) -> dict[Place, int] | None:
    """`beginning_offsets` or `end_offsets`, or None when Kafka does not answer in time."""
    try:
        async with asyncio.timeout(deadline_s):
            found = await getattr(consumer, which)([TopicPartition(*place) for place in places])
    except (TimeoutError, KafkaError):
        return None
    return {Place(tp.topic, tp.partition): at for tp, at in found.items()}


class Reader:
    """Every partition of some topics, from the offsets the caller gives; for offsets kept in PostgreSQL."""

    def __init__(self, bootstrap: str, topics: Sequence[str], names: Topics, consumer: str) -> None:
        """`consumer` labels the metrics."""
        self._bootstrap, self._topics = bootstrap, tuple(topics)
        self._tally = Tally(names, consumer)
        self._consumer: AIOKafkaConsumer | None = None
        self._asking: AIOKafkaConsumer | None = None
        self._next: dict[Place, int] = {}
        self._paused: set[Place] = set()

    async def start(self, *, deadline_s: float = 15.0) -> list[Place]:
        """Connect; every partition, none of which is read before its `seek`. Raises KafkaError or TimeoutError."""
        self._consumer = await self._open(deadline_s)
        return self.places

    @property
    def places(self) -> list[Place]:
        """Every partition of the topics, in order."""
        if self._consumer is None:
            return sorted(self._next)
        return sorted(Place(tp.topic, tp.partition) for tp in self._consumer.assignment())

    async def stop(self, *, grace_s: float = 2.0) -> None:
        """Close; bounded."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer, grace_s)
        await self._ask_no_more(grace_s)

    def seek(self, place: Place, offset: int) -> None:
        """Read this partition from `offset` on."""
        self._next[place] = offset
        if self._consumer is not None:
            self._consumer.seek(TopicPartition(*place), offset)

    def pause(self, places: Iterable[Place]) -> None:
        """Hand out nothing of these partitions until `resume`."""
        self._paused.update(places)
        if self._consumer is not None:
            self._consumer.pause(*(TopicPartition(*place) for place in self._paused))

    def resume(self, places: Iterable[Place]) -> None:
        """End a pause."""
        chosen = [place for place in places if place in self._paused]
        self._paused.difference_update(chosen)
        if self._consumer is not None:
            self._consumer.resume(*(TopicPartition(*place) for place in chosen))

    async def getmany(self, timeout_s: float, max_records: int, places: Collection[Place] = ()) -> Batch:
        """Records in order per partition, of `places` only when given. Raises OffsetsLost; reconnects by itself."""
        try:
            if self._consumer is None:
                self._consumer = await self._open(15.0)
            batch = await fetch(self._consumer, timeout_s, max_records, places)
        except (KafkaError, TimeoutError, OSError) as error:
            log.warning("read_failed", error=type(error).__name__)
            await self.stop()
            await asyncio.sleep(RETRY_S)
            return {}
        for place, messages in batch.items():
            self._next[place] = messages[-1].offset + 1
        self._tally.took(batch)
        self._tally.lag(lag_of(self._consumer, self._next))
        return batch

    async def begins(self, *, deadline_s: float = 5.0) -> dict[Place, int] | None:
        """Each partition's first offset; None when Kafka does not answer."""
        return await self._offsets("beginning_offsets", deadline_s)

    async def ends(self, *, deadline_s: float = 5.0) -> dict[Place, int] | None:
        """Each partition's next offset to be written; None when Kafka does not answer."""
        return await self._offsets("end_offsets", deadline_s)

    async def since(self, at_ms: int, topics: Sequence[str], *, deadline_s: float = 5.0) -> dict[Place, int] | None:
        """Of each partition of some topics the first offset appended at a time (Unix ms) or later, else its end.

        None when Kafka does not answer. Asked over a connection of its own: on the other it would wait behind a fetch.
        """
        try:
            async with asyncio.timeout(deadline_s):
                asking = self._asking
                if asking is None:
                    self._asking = asking = open_consumer(self._bootstrap, None)
                    await asking.start()
                tps = await partitions_of(asking, topics)
                found, ends = await asyncio.gather(
                    asking.offsets_for_times(dict.fromkeys(tps, at_ms)), asking.end_offsets(tps)
                )
        except (TimeoutError, KafkaError, OSError):
            await self._ask_no_more(0.5)
            return None
        return {Place(*tp): end if found[tp] is None else found[tp].offset for tp, end in ends.items()}

    async def _ask_no_more(self, grace_s: float) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            await close_consumer(asking, grace_s)

    async def _offsets(self, which: str, deadline_s: float) -> dict[Place, int] | None:
        return None if self._consumer is None else await offsets(self._consumer, which, self.places, deadline_s)

    async def _open(self, deadline_s: float) -> AIOKafkaConsumer:
        consumer = open_consumer(self._bootstrap, None)
        try:
            async with asyncio.timeout(deadline_s):
                await consumer.start()
                consumer.assign(await partitions_of(consumer, self._topics))
        except BaseException:
            await close_consumer(consumer, 0.5)
            raise
        for place, offset in self._next.items():
            consumer.seek(TopicPartition(*place), offset)
        consumer.pause(*(TopicPartition(*place) for place in self._paused))
        return consumer


async def partitions_of(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Every partition of the topics; waits for a topic just made. Raises KafkaError for an unknown one."""
    found: list[TopicPartition] = []
    for topic in topics:
        numbers = await consumer._client._wait_on_metadata(topic)  # noqa: SLF001 - the public call knows no new topic
        if not numbers:
            raise UnknownTopicOrPartitionError
        found += [TopicPartition(topic, number) for number in sorted(numbers)]
    return found
