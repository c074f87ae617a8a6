"""Work on records one by one: bounded, in order per key, committed only past finished work, dead letters never silent.

Owns the records between reading and commit. Promises: at most `in_flight` records are taken at once; a record's
offset is committed only when it and everything before it is finished; a record that cannot be decoded, or whose work
fails `attempts` times, is published to topic `dead` and acknowledged there before its offset moves; an outage
(`outages`) is waited out instead. A crash repeats the records that were not committed: work must be idempotent.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from gateway.contract.wire import Record
from gateway.stream.codec import Undecodable, decode
from gateway.stream.dead import bury
from gateway.stream.group import GroupReader
from gateway.stream.producer import Producer
from gateway.stream.progress import Progress
from gateway.stream.reader import Message, Place
from gateway.stream.topics import Topics, begin_at_beginning
from gateway.telemetry import logger

log = logger("stream")
R = TypeVar("R", bound=Record)

COMMIT_EVERY_S = 0.2
DRAIN_S = 5.0
"""How long a revocation lets begun work finish."""
IDLE_S = 60.0
"""A member that reads nothing for minutes is put out of its group, so a full one still asks now and then."""
BACKOFF_S = (0.1, 5.0)


class Consumer(Generic[R]):
    """A group's member that calls `work` with each record of its topics."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        names: Topics,
        *,
        model: type[R],
        work: Callable[[R, Message], Awaitable[None]],
        producer: Producer,
        consumer: str,
        in_flight: int = 256,
        attempts: int = 3,
        outages: tuple[type[Exception], ...] = (OSError, TimeoutError),
    ) -> None:
        """`consumer` labels metrics and dead letters; a group without offsets begins at the topic's beginning."""
        self._names, self._model, self._work, self._producer = names, model, work, producer
        self._name, self._in_flight, self._attempts, self._outages = consumer, in_flight, attempts, outages
        self._first = (bootstrap, group, topics)
        self._reader = GroupReader(
            bootstrap, group, topics, names, consumer=consumer, on_assigned=self._assigned, on_revoked=self._revoked
        )
        self._progress: dict[Place, Progress] = {}
        self._committed: dict[Place, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._tails: dict[tuple[Place, bytes | None], asyncio.Task[None]] = {}
        self._stopping = False
        self._next_commit = 0.0

    async def start(self, *, deadline_s: float = 30.0) -> None:
        """Join the group. Raises KafkaError or TimeoutError."""
        async with asyncio.timeout(deadline_s):
            await begin_at_beginning(*self._first)
            await self._reader.start()

    async def run(self) -> None:
        """Work until `stop`. Raises OffsetsLost."""
        while not self._stopping:
            free = self._in_flight - len(self._tasks)
            if free <= 0:
                await self._await_slot()
                continue
            read = await self._reader.getmany(0.05 if self._tasks else 0.25, free)
            if read.epoch == self._reader.epoch:
                for messages in read.batch.values():
                    for message in messages:
                        self._begin(message)
            await self._commit_when_due(read.epoch)

    async def stop(self) -> None:
        """Finish or cancel what is begun, commit, leave the group; bounded."""
        self._stopping = True
        await self._reader.stop()

    def _begin(self, message: Message) -> None:
        place, key = message.place, (message.place, message.key)
        self._progress[place].begin(message.offset)
        task = asyncio.create_task(self._one(message, self._tails.get(key)))
        self._tasks.add(task)
        self._tails[key] = task
        task.add_done_callback(lambda done: self._forget(key, done))

    def _forget(self, key: tuple[Place, bytes | None], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._tails.get(key) is task:
            del self._tails[key]

    async def _one(self, message: Message, before: asyncio.Task[None] | None) -> None:
        """One record to its end; the one before it with the same key ends first."""
        progress = self._progress[message.place]
        if before is not None:
            await asyncio.wait([before])
        error = await self._attempt(message)
        if error is not None:
            at_ms = time.time_ns() // 1_000_000
            await bury(self._producer, self._names, [(message, error)], consumer=self._name, at_ms=at_ms)
        progress.finish(message.offset)

    async def _attempt(self, message: Message) -> str | None:
        """None when the work is done, else the class of what stopped it for good."""
        try:
            record = decode(self._model, message.value)
        except Undecodable as fault:
            return type(fault).__name__
        failures, delay_s = 0, BACKOFF_S[0]
        while True:
            try:
                await self._work(record, message)
            except self._outages as fault:
                log.warning("work_waits", consumer=self._name, error=type(fault).__name__)
            except Exception as fault:  # noqa: BLE001 - the work's own fault: counted, then buried
                failures += 1
                log.warning("work_failed", consumer=self._name, error=type(fault).__name__, failures=failures)
                if failures >= self._attempts:
                    return type(fault).__name__
            else:
                return None
            await asyncio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            delay_s = min(delay_s * 2, BACKOFF_S[1])

    async def _await_slot(self) -> None:
        done, _ = await asyncio.wait(self._tasks, timeout=COMMIT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        await self._commit_when_due(self._reader.epoch)
        if not done and time.monotonic() - self._next_commit > IDLE_S:
            places = self._reader.places
            self._reader.pause(places)
            await self._reader.getmany(0.0, 1)
            self._reader.resume(places)
            self._next_commit = time.monotonic()

    async def _commit_when_due(self, epoch: int) -> None:
        if time.monotonic() >= self._next_commit and await self._commit(epoch):
            self._next_commit = time.monotonic() + COMMIT_EVERY_S

    async def _commit(self, epoch: int) -> bool:
        """Commit what moved; whether anything did."""
        moved = {
            place: at
            for place, progress in self._progress.items()
            if (at := progress.position) is not None and at != self._committed.get(place)
        }
        if moved and await self._reader.commit(moved, epoch):
            self._committed.update(moved)
        return bool(moved)

    async def _assigned(self, places: frozenset[Place], _epoch: int) -> None:
        self._progress = {place: Progress() for place in places}
        self._committed = {}

    async def _revoked(self, _places: frozenset[Place], epoch: int) -> None:
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._commit(epoch)
        self._progress, self._committed = {}, {}
