"""Publishing: many concurrent callers, one batch in flight per partition, every wait bounded.

Owns the records between `publish` and Kafka's acknowledgement. Promises:
- records of one key reach one partition in the order they were given;
- a record is Published only after all in-sync replicas have it (acks=all, idempotent);
- `publish` answers within its deadline: None says "not acknowledged", and the record may still land, because a batch
  handed to the client cannot be taken back; one still queued here at its deadline is dropped and never lands;
- memory is bounded per topic; beyond it `StreamBusy`, at once;
- who has time (`linger_s`) waits for the next moment that everybody with so much time shares: one request to the broker
  then carries what many calls brought, of every topic; order stays, for who has none takes along what waits before it;
- topics that hold a campaign's backlog use a connection of their own (`Topics.bulk`).
On a crash, what was not Published may or may not be in Kafka: callers void or publish the same id again.
"""

import asyncio
import time
from collections.abc import Sequence

from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from gateway.stream.link import Link
from gateway.stream.topics import MAX_RECORD_BYTES, Topics, partition_of
from gateway.stream.waiting import NEVER, NOW, Pair, Published, Queue, Slice, Ticket, Topic, moment
from gateway.telemetry import PUBLISH_BATCH, PUBLISH_FAILED, PUBLISH_SECONDS, logger

__all__ = ["Pair", "Producer", "Published", "StreamBusy"]

log = logger("stream")


class StreamBusy(Exception):  # noqa: N818 - a condition callers answer with 503
    """Too much is waiting for this topic already; nothing of the call was taken."""


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
        self._topics: dict[str, Topic] = {}
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
        for topic in self._topics.values():
            for queue in topic.queues:
                if queue.timer is not None:
                    queue.timer.cancel()
                    self._begin(topic, queue)
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
        self,
        topic: str,
        records: Sequence[Pair],
        *,
        deadline_s: float = 1.5,
        partition: int | None = None,
        linger_s: float = 0.0,
    ) -> list[Published | None]:
        """Publish (key, value) pairs; the answers are in their order. `partition` overrides the key's own.

        `linger_s` is how long the call may wait for company (at most half of its deadline); none sends at once.
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
        ticket = Ticket(len(records), loop.create_future())
        self._accept(entry, ticket, records, partition, moment(loop.time(), min(linger_s, deadline_s / 2)))
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

    async def _entry(self, topic: str, deadline_s: float) -> Topic | None:
        if (known := self._topics.get(topic)) is not None:
            return known
        link = self._links[topic in self._bulk]
        try:
            async with asyncio.timeout(deadline_s):
                count = await link.partitions(topic)
        except (TimeoutError, KafkaError):
            return None
        if topic not in self._topics:
            queues = [Queue(number) for number in range(count)]
            self._topics[topic] = Topic(topic, self._names.label(topic), link, queues)
        return self._topics[topic]

    def _accept(self, entry: Topic, ticket: Ticket, records: Sequence[Pair], partition: int | None, due: float) -> None:
        """Queue a call's records by partition, all of them or none."""
        sizes = [len(key) + len(value) for key, value in records]
        total = sum(sizes)
        if max(sizes) > MAX_RECORD_BYTES:
            raise ValueError("a record is larger than any topic takes")
        if entry.records + len(records) > self._max_records or entry.bytes + total > self._max_bytes:
            raise StreamBusy(entry.label)
        count = len(entry.queues)
        slices: dict[int, Slice] = {}
        for position, pair in enumerate(records):
            number = partition_of(pair[0], count) if partition is None else partition
            piece = slices.get(number)
            if piece is None:
                piece = slices[number] = Slice(ticket)
            piece.positions.append(position)
            piece.pairs.append(pair)
        entry.records += len(records)
        entry.bytes += total
        for number, piece in slices.items():
            queue = entry.queues[number]
            queue.slices.append(piece)
            self._arm(entry, queue, due)

    def _arm(self, entry: Topic, queue: Queue, due: float) -> None:
        """Have the queue sent at `due`, or sooner where that was wanted already."""
        if queue.due <= due:
            return
        queue.due = due
        if queue.sending is not None:
            return  # it looks at `due` when its batch is answered
        if queue.timer is not None:
            queue.timer.cancel()
        if due == NOW:
            self._begin(entry, queue)
        else:
            queue.timer = asyncio.get_running_loop().call_at(due, self._begin, entry, queue)

    def _begin(self, entry: Topic, queue: Queue) -> None:
        queue.due, queue.timer = NOW, None
        queue.sending = asyncio.create_task(self._send(entry, queue))

    async def _send(self, entry: Topic, queue: Queue) -> None:
        """Send one partition's queue, batch after batch, until nothing of it is due. Runs in its own task."""
        time_of = asyncio.get_running_loop().time
        try:
            while queue.slices and (self._stopping or queue.due <= time_of()):
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
            due, queue.due = queue.due, NEVER
            if queue.slices and not self._stopping:
                self._arm(entry, queue, due)

    def _fill(self, entry: Topic, queue: Queue) -> tuple[BatchBuilder, list[Slice]]:
        """A batch of what waits and has not expired, cut where it is full; the rest stays first in the queue."""
        batch = entry.link.batch()
        sent: list[Slice] = []
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
        queue.due = NEVER
        return batch, sent

    def _answer(self, entry: Topic, number: int, sent: list[Slice], base: int | None) -> None:
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
    def _release(entry: Topic, piece: Slice) -> None:
        entry.records -= len(piece.pairs)
        entry.bytes -= sum([len(key) + len(value) for key, value in piece.pairs])

    def _purge(self, entry: Topic) -> None:
        """After a deadline: free what waits at the heads of the queues and will never be sent."""
        for queue in entry.queues:
            while queue.slices and queue.slices[0].ticket.expired:
                self._release(entry, queue.slices.popleft())
