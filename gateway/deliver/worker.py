"""Delivery of one class: a member of its group that hands each partition's records to that partition.

Promises (MECHANISMS 5, 6): nothing is submitted without a claim made within the second before; each message at most
once through any crash; a partition that goes to another member is given up in order. On a crash the group hands the
partitions on after its session's end, and the next owner reviews what was under way.
"""

import asyncio

from gateway.deliver.means import Means
from gateway.deliver.partition import WINDOW, Partition
from gateway.stream.group import GroupReader
from gateway.stream.reader import Place
from gateway.telemetry import logger

READ_AT_MOST = 1000
BUSY_POLL_S, IDLE_POLL_S = 0.05, 0.25

_log = logger("deliver")


class Deliver:
    """One class. `start`, then `run` until `stop`; several classes may share one process and its slots.

    `session_s`: how long the group waits for a member that died before it gives its partitions to others.
    """

    def __init__(self, means: Means, bootstrap: str, *, window: int = WINDOW, session_s: float = 10.0) -> None:
        topics = means.outbox.topics
        self._means, self._window = means, window
        self._partitions: dict[Place, Partition] = {}
        self._paused: set[Place] = set()
        self._stopping = False
        self._fault: BaseException | None = None
        self._reader = GroupReader(
            bootstrap,
            topics.deliver_group(means.cls),
            [topics.messages(means.cls)],
            topics,
            consumer="deliver",
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            session_s=session_s,
        )

    async def start(self, *, deadline_s: float = 30.0) -> None:
        """Join the group. Raises KafkaError or TimeoutError."""
        await self._reader.start(deadline_s=deadline_s)

    async def run(self) -> None:
        """Deliver until `stop`. Raises OffsetsLost, and any fault of our own: the process is then to be restarted."""
        while not self._stopping:
            self._pace()
            read = await self._reader.getmany(BUSY_POLL_S if self._paused else IDLE_POLL_S, READ_AT_MOST)
            if self._fault is not None:
                raise self._fault
            if read.epoch != self._reader.epoch:
                continue
            for place, messages in read.batch.items():
                partition = self._partitions.get(place)
                if partition is not None:
                    partition.feed(messages)

    async def stop(self) -> None:
        """Give the partitions up in order and leave the group; bounded."""
        self._stopping = True
        await self._reader.stop()

    def _pace(self) -> None:
        """Read on only where records are waited for."""
        full = {place for place, partition in self._partitions.items() if not partition.hungry}
        self._reader.pause(full - self._paused)
        self._reader.resume(self._paused - full)
        self._paused = full

    async def _assigned(self, places: frozenset[Place], epoch: int) -> None:
        begins = await self._reader.begins()
        if begins is None:
            raise TimeoutError
        self._paused = set()
        for place in sorted(places):
            committed, begin = await self._reader.committed(place), begins[place]
            if begin > committed:
                _log.error("records_expired_undelivered", partition=place.partition, records=begin - committed)
            self._reader.seek(place, max(begin, committed - self._window))
            self._partitions[place] = Partition(
                self._means, self._reader, place, epoch, committed, window=self._window, failed=self._failed
            )

    async def _revoked(self, _places: frozenset[Place], _epoch: int) -> None:
        partitions, self._partitions = list(self._partitions.values()), {}
        await asyncio.gather(*(partition.close() for partition in partitions))

    def _failed(self, fault: BaseException) -> None:
        _log.error("partition_failed", cls=self._means.cls.value, error=type(fault).__name__)
        self._fault = self._fault or fault
