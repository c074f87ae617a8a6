"""Reading a stretch of the past: from a time to where topics end now, from outside every group, as fast as it goes.

Owns the consumers it opens and their end; commits and joins nothing, so it disturbs nobody and a crash leaves nothing.
Promises: all records between the offsets it was asked for, in order per partition, or `PastUnreadable`; nothing waits
longer than `STALLED_S` for a broker that says nothing. What a partition's end is, is asked once (`spans`): what is
appended later is not read.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.stream.reader import Place, close_consumer, open_consumer, partitions_of

STALLED_S = 15.0
CLOSE_S = 1.0
FETCH_BYTES = 4 << 20

Span = tuple[int, int]
"""From an offset to before another."""
Record = Any
"""aiokafka's own, not wrapped: there are millions. `offset`, `key`, `value`, `timestamp` (Unix ms of the append)."""


class PastUnreadable(Exception):  # noqa: N818 - it says what is the case
    """Kafka does not answer, or has lost what was asked for; try again later."""


class Past:
    """`async with`; calls one after another."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._consumer: AIOKafkaConsumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id="assent",
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=10_000,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=8 * FETCH_BYTES,
        )

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            async with _answered():
                await self._consumer.start()
        except BaseException:
            await close_consumer(self._consumer, CLOSE_S)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; bounded."""
        await close_consumer(self._consumer, CLOSE_S)

    async def spans(self, topics: Sequence[str], since_ms: int) -> dict[Place, Span]:
        """Each partition from its first record appended at or after `since_ms` to its present end."""
        async with _answered():
            tps = await partitions_of(self._consumer, topics)
            ends = await self._consumer.end_offsets(tps)
            firsts = await self._consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
        begins = {tp: ends[tp] if firsts[tp] is None else firsts[tp].offset for tp in tps}
        return {Place(tp.topic, tp.partition): (min(begins[tp], ends[tp]), ends[tp]) for tp in tps}

    async def committed(self, group: str, topic: str) -> dict[Place, int]:
        """Where a group stands; 0 where it never committed."""
        consumer = open_consumer(self._bootstrap, group)
        try:
            async with _answered():
                await consumer.start()
                tps = await partitions_of(consumer, [topic])
                consumer.assign(tps)
                found = await asyncio.gather(*(consumer.committed(tp) for tp in tps))
        finally:
            await close_consumer(consumer, CLOSE_S)
        return {Place(tp.topic, tp.partition): at or 0 for tp, at in zip(tps, found, strict=True)}

    async def read(self, spans: Mapping[Place, Span]) -> AsyncIterator[tuple[Place, list[Record]]]:
        """Everything in the spans, a run of one partition at a time."""
        consumer, left = self._consumer, {place: span for place, span in spans.items() if span[0] < span[1]}
        if not left:
            return
        consumer.assign([TopicPartition(*place) for place in left])
        for place, (first, _) in left.items():
            consumer.seek(TopicPartition(*place), first)
        while left:
            for tp, records in (await self._fetch(left)).items():
                place = Place(tp.topic, tp.partition)
                if place not in left:
                    continue
                end = left[place][1]
                last: int = records[-1].offset + 1
                if last >= end:
                    del left[place]
                    consumer.pause(tp)
                    records = [record for record in records if record.offset < end]  # noqa: PLW2901 - cut at the end
                if records:
                    yield place, records

    async def _fetch(self, places: Iterable[Place]) -> dict[TopicPartition, list[Record]]:
        """The next records; some, or PastUnreadable."""
        tps = [TopicPartition(*place) for place in places]
        async with _answered():
            found: dict[TopicPartition, list[Record]] = await self._consumer.getmany(
                *tps, timeout_ms=int(STALLED_S * 1000 - 1000)
            )
        if not found:
            raise PastUnreadable("nothing came")
        return found


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Within the deadline, and its faults without their text."""
    try:
        async with asyncio.timeout(STALLED_S):
            yield
    except (KafkaError, TimeoutError, OSError) as fault:
        raise PastUnreadable(type(fault).__name__) from None
