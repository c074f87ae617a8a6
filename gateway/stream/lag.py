"""How far a group is behind on a topic, asked from outside the group.

Owns a consumer that reads nothing. Promises an answer or None within the deadline. Holds nothing a crash could lose.
"""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gateway.stream.reader import close_consumer, open_consumer, partitions_of


class GroupLag:
    """The lag of one group on one topic; connects when first asked, and again after a fault."""

    def __init__(self, bootstrap: str, group: str, topic: str) -> None:
        self._bootstrap, self._group, self._topic = bootstrap, group, topic
        self._consumer: AIOKafkaConsumer | None = None

    async def records(self, *, deadline_s: float = 3.0) -> int | None:
        """Records between the group's commits and the topic's end; None when Kafka does not say in time."""
        try:
            async with asyncio.timeout(deadline_s):
                consumer = self._consumer or await self._open()
                return await _behind(consumer)
        except (TimeoutError, KafkaError, OSError):
            await self.stop()
            return None

    async def stop(self) -> None:
        """Close; bounded."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer, 1.0)

    async def _open(self) -> AIOKafkaConsumer:
        self._consumer = consumer = open_consumer(self._bootstrap, self._group)
        await consumer.start()
        consumer.assign(await partitions_of(consumer, [self._topic]))
        return consumer


async def _behind(consumer: AIOKafkaConsumer) -> int:
    places: list[TopicPartition] = sorted(consumer.assignment())
    committed = await asyncio.gather(*(consumer.committed(place) for place in places))
    ends = await consumer.end_offsets(places)
    if None in committed:
        begins = await consumer.beginning_offsets(places)
        committed = [begins[place] if at is None else at for place, at in zip(places, committed, strict=True)]
    return sum(max(0, ends[place] - at) for place, at in zip(places, committed, strict=True))
