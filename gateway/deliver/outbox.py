"""What deliver reports: results, retries and parkings, dead letters. Never dropped.

`surely` returns only when Kafka has acknowledged every record, however long that takes; a caller that is cancelled
meanwhile leaves its claims `taken`, which the next owner reports as doubtful. A record may land twice (an
acknowledgement lost): settle and the due table take the second for the first.
"""

import asyncio
from collections.abc import Sequence

from gateway.contract.wire import Accepted, Result
from gateway.stream.codec import encode
from gateway.stream.dead import bury
from gateway.stream.producer import Pair, Producer, StreamBusy
from gateway.stream.reader import Message
from gateway.stream.topics import Topics, partition_by_class
from gateway.telemetry import logger

DEADLINE_S = 3.0
LINGER_S = 0.02
"""Who is reported to waits for nobody in particular: reports of many batches share a request to the broker."""
AGAIN_S = (0.05, 1.0)

_log = logger("deliver")


class Outbox:
    """Publishes surely."""

    def __init__(self, producer: Producer, topics: Topics) -> None:
        self._producer, self.topics = producer, topics

    async def results(self, results: Sequence[Result]) -> None:
        """Publish to `results`, keyed by message id, in the class's own partitions."""
        if not results:
            return
        count = await self._partitions(self.topics.results)
        by_partition: dict[int, list[Pair]] = {}
        for result in results:
            key = result.id.encode()
            by_partition.setdefault(partition_by_class(result.cls, key, count), []).append((key, encode(result)))
        await asyncio.gather(
            *(self.surely(self.topics.results, rows, part, LINGER_S) for part, rows in by_partition.items())
        )

    async def held(self, rows: Sequence[tuple[bytes, Accepted]]) -> None:
        """Publish to `messages.held`: retries with `due`, parkings with `parked`."""
        if rows:
            await self.surely(self.topics.held, [(key, encode(accepted)) for key, accepted in rows])

    async def dead(self, message: Message, consumer: str, error: str, at: int) -> None:
        """Publish a record nobody can read, with where it came from."""
        await bury(self._producer, self.topics, [(message, error)], consumer=consumer, at_ms=at)

    async def surely(
        self, topic: str, rows: Sequence[Pair], partition: int | None = None, linger_s: float = 0.0
    ) -> None:
        """Publish until every record is acknowledged."""
        wait_s, most_s = AGAIN_S
        while rows:
            try:
                answers = await self._producer.publish(
                    topic, rows, deadline_s=DEADLINE_S, partition=partition, linger_s=linger_s
                )
            except StreamBusy:
                answers = [None] * len(rows)
            rows = [row for row, answer in zip(rows, answers, strict=True) if answer is None]
            if rows:
                _log.warning("not_acknowledged", topic=self.topics.label(topic), records=len(rows))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, most_s)

    async def _partitions(self, topic: str) -> int:
        while (count := await self._producer.partitions(topic)) is None:  # noqa: ASYNC110 - Kafka is away
            await asyncio.sleep(AGAIN_S[1])
        return count
