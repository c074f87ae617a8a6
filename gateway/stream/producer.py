"""Publishing: many concurrent callers, one batch in flight per partition, every wait bounded.

Owns the records between `publish` and Kafka's acknowledgement. Promises:
- records of one key reach one partition in the order they were given;
- a record is Published only after all in-sync replicas have it (acks=all, idempotent);
- `publish` answers within its deadline: None says "not acknowledged", and the record may still land, because a batch
  handed to the client cannot be taken back; one still queued here at its deadline is dropped and never lands;
- memory is bounded per topic; beyond it `StreamBusy`, at once;
- topics that hold a campaign's backlog use a connection of their own (`Topics.bulk`).
On a crash, what was not Published may or may not be in Kafka: callers void or publish the same id again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from gateway.stream.link import Link
from gateway.stream.topics import MAX_RECORD_BYTES, Topics, partition_of
from gateway.telemetry import PUBLISH_BATCH, PUBLISH_FAILED, PUBLISH_SECONDS, logger

log = logger("stream")

Pair = tuple[bytes, bytes]


class StreamBusy(Exception):  # noqa: N818 - a condition callers answer with 503
    """Too much is waiting for this topic already; nothing of the call was taken."""


class Published(NamedTuple):
    """Where a record is. `offset` is -1 when the broker only confirms that it has the record already."""

    partition: int
    offset: int


class _Ticket:
    """One publish call: its answers, and how many records are still without one."""

    __slots__ = ("answers", "done", "expired", "missing")

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self.answers: list[Published | None] = [None] * size
        self.missing = size
        self.done = done
        self.expired = False

    def settle(self, count: int) -> None:
        """Count records that have their final answer."""
        self.missing -= count
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def expire(self) -> None:
        """The deadline: whatever has no answer keeps None."""
        self.expired = True
        if not self.done.done():
            self.done.set_result(None)


class _Slice:
    """The records of one call for one partition."""

    __slots__ = ("pairs", "positions", "ticket")

    def __init__(self, ticket: _Ticket) -> None:
        self.ticket = ticket
        self.positions: list[int] = []
        self.pairs: list[Pair] = []

    def cut(self, index: int) -> "_Slice":
        """Keep the records before `index`; the rest is returned."""
        rest = _Slice(self.ticket)
        rest.positions, rest.pairs = self.positions[index:], self.pairs[index:]
        del self.positions[index:], self.pairs[index:]
        return rest


@dataclass(slots=True, eq=False)
class _Queue:
    """What waits for one partition, in order, and whether somebody is sending it."""

    number: int
    slices: deque[_Slice] = field(default_factory=deque)
    sending: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class _Topic:
    """One topic's coalescer: its queues and what it holds in memory, in flight included."""

    name: str
    label: str
    link: Link
    queues: list[_Queue] = field(default_factory=list)
    records: int = 0
    bytes: int = 0


class Producer:
    """Publishes to the topics of one installation. One per process and event loop."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        *,
        max_records: int = 10_000,
        max_bytes: int = 32 << 20,
        batch_bytes: int = 512 << 10,
        stuck_s: float = 15.0,
    ) -> None:
        """Bounds are per topic. A batch unanswered for `stuck_s` is given up and its connection replaced."""
        self._names = topics
        self._bulk = topics.bulk()
        self._max_records, self._max_bytes = max_records, max_bytes
        self._stuck_s = stuck_s
        self._links = (Link(bootstrap, batch_bytes), Link(bootstrap, batch_bytes))
        self._topics: dict[str, _Topic] = {}
        self._stopping = False

    @property
    def connected(self) -> bool:
        """Whether both connections stand, as far as is known without asking."""
        return all(link.connected for link in self._links)

    async def answers(self) -> bool:
        """Whether Kafka answers over both connections now, for readiness; callers bring the deadline."""
        return all(await asyncio.gather(*(link.answers() for link in self._links)))

    async def start(self, *, deadline_s: float = 10.0) -> bool:
        """Connect; False when Kafka is not there yet, in which case connecting goes on in the background."""
        for link in self._links:
            link.start()
        waits = [asyncio.create_task(link.ready()) for link in self._links]
        _, late = await asyncio.wait(waits, timeout=deadline_s)
        for wait in late:
            wait.cancel()
        return not late

    async def stop(self, *, grace_s: float = 3.0) -> None:
        """Let what is queued go out for `grace_s`, then drop it; never hangs on a broker that is away."""
        self._stopping = True
        sending = [queue.sending for topic in self._topics.values() for queue in topic.queues if queue.sending]
        if sending:
            _, late = await asyncio.wait(sending, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for topic in self._topics.values():
            for queue in topic.queues:
                for piece in queue.slices:
                    piece.ticket.expire()
            self._purge(topic)
        await asyncio.gather(*(link.stop() for link in self._links))

    async def partitions(self, topic: str, *, deadline_s: float = 1.5) -> int | None:
        """How many partitions a topic has, learned once; None when Kafka does not answer in time."""
        entry = await self._entry(topic, deadline_s)
        return None if entry is None else len(entry.queues)

    async def publish(
        self, topic: str, records: Sequence[Pair], *, deadline_s: float = 1.5, partition: int | None = None
    ) -> list[Published | None]:
        """Publish (key, value) pairs; the answers are in their order. `partition` overrides the key's own.

        Raises StreamBusy, ValueError for a record that no topic takes, and RuntimeError after `stop`.
        """
        if self._stopping:
            raise RuntimeError("the producer is stopped")
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline_s
        entry = self._topics.get(topic) or await self._entry(topic, deadline_s)
        if entry is None:
            PUBLISH_FAILED.add(len(records), self._names.label(topic))
            return [None] * len(records)
        if not records:
            return []
        ticket = _Ticket(len(records), loop.create_future())
        self._accept(entry, ticket, records, partition)
        timer = loop.call_at(until, ticket.expire)
        try:
            await ticket.done
        finally:
            timer.cancel()
            ticket.expired = True
            if ticket.missing:
                self._purge(entry)
        failed = ticket.answers.count(None)
        if failed:
            PUBLISH_FAILED.add(failed, entry.label)
        return ticket.answers

    async def _entry(self, topic: str, deadline_s: float) -> _Topic | None:
        if (known := self._topics.get(topic)) is not None:
            return known
        link = self._links[topic in self._bulk]
        try:
            async with asyncio.timeout(deadline_s):
                count = await link.partitions(topic)
        except (TimeoutError, KafkaError):
            return None
        if topic not in self._topics:
            queues = [_Queue(number) for number in range(count)]
            self._topics[topic] = _Topic(topic, self._names.label(topic), link, queues)
        return self._topics[topic]

    def _accept(self, entry: _Topic, ticket: _Ticket, records: Sequence[Pair], partition: int | None) -> None:
        """Queue a call's records by partition, all of them or none."""
        sizes = [len(key) + len(value) for key, value in records]
        total = sum(sizes)
        if max(sizes) > MAX_RECORD_BYTES:
            raise ValueError("a record is larger than any topic takes")
        if entry.records + len(records) > self._max_records or entry.bytes + total > self._max_bytes:
            raise StreamBusy(entry.label)
        count = len(entry.queues)
        slices: dict[int, _Slice] = {}
        for position, pair in enumerate(records):
            number = partition_of(pair[0], count) if partition is None else partition
            piece = slices.get(number)
            if piece is None:
                piece = slices[number] = _Slice(ticket)
            piece.positions.append(position)
            piece.pairs.append(pair)
        entry.records += len(records)
        entry.bytes += total
        for number, piece in slices.items():
            queue = entry.queues[number]
            queue.slices.append(piece)
            if queue.sending is None:
                queue.sending = asyncio.create_task(self._send(entry, queue))

    async def _send(self, entry: _Topic, queue: _Queue) -> None:
        """Send one partition's queue, batch after batch, until it is empty. Runs in its own task."""
        try:
            while queue.slices:
                await entry.link.ready()
                batch, sent = self._fill(entry, queue)
                if not sent:
                    continue
                began = time.perf_counter()
                base = None
                try:
                    base = await entry.link.send(batch, entry.name, queue.number, stuck_s=self._stuck_s)
                except KafkaError as error:
                    log.warning("publish_failed", topic=entry.label, partition=queue.number, error=type(error).__name__)
                finally:
                    PUBLISH_SECONDS.observe(time.perf_counter() - began, entry.label)
                    self._answer(entry, queue.number, sent, base)
        finally:
            queue.sending = None

    def _fill(self, entry: _Topic, queue: _Queue) -> tuple[BatchBuilder, list[_Slice]]:
        """A batch of what waits and has not expired, cut where it is full; the rest stays first in the queue."""
        batch = entry.link.batch()
        sent: list[_Slice] = []
        append, now_ms = batch.append, time.time_ns() // 1_000_000
        while queue.slices:
            piece = queue.slices.popleft()
            if piece.ticket.expired:
                self._release(entry, piece)
                continue
            sent.append(piece)
            for index, (key, value) in enumerate(piece.pairs):
                if append(timestamp=now_ms, key=key, value=value) is None:
                    rest = piece.cut(index)
                    if not index:
                        sent.pop()
                    queue.slices.appendleft(rest)
                    return batch, sent
        return batch, sent

    def _answer(self, entry: _Topic, number: int, sent: list[_Slice], base: int | None) -> None:
        """Give the records of a batch their places, or None each when it failed."""
        total = 0
        for piece in sent:
            ticket, count = piece.ticket, len(piece.positions)
            if base is not None and not ticket.expired:
                first = base + total
                for index, position in enumerate(piece.positions):
                    ticket.answers[position] = Published(number, first + index if base >= 0 else -1)
            total += count
            ticket.settle(count)
            self._release(entry, piece)
        PUBLISH_BATCH.observe(total, entry.label)

    @staticmethod
    def _release(entry: _Topic, piece: _Slice) -> None:
        entry.records -= len(piece.pairs)
        entry.bytes -= sum([len(key) + len(value) for key, value in piece.pairs])

    def _purge(self, entry: _Topic) -> None:
        """After a deadline: free what waits at the heads of the queues and will never be sent."""
        for queue in entry.queues:
            while queue.slices and queue.slices[0].ticket.expired:
                self._release(entry, queue.slices.popleft())
