"""A member of a consumer group that commits by hand, ahead of its work where it must.

Owns the membership. Promises:
- nothing of an assignment is handed out before `on_assigned` has returned, and the group does not move on before
  `on_revoked` has (keep it under 8 s, or the group goes on without this member);
- a commit made for an earlier assignment is refused here; one by a member that the group has replaced is refused by
  the broker, whose generation number it carries. A refused commit is False, never an exception;
- a failed client is replaced, which is a revocation and a new assignment.
A crash leaves the last commit; the group gives the partitions to others after `session_s`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from gateway.stream.reader import RETRY_S, Batch, Place, Tally, close_consumer, fetch, lag_of, offsets, open_consumer
from gateway.stream.topics import OffsetsLost, Topics
from gateway.telemetry import logger

log = logger("stream")

CALLBACK_S = 8.0
"""How long `on_assigned` and `on_revoked` may take; the group waits 10 s for its members."""

Moved = Callable[[frozenset[Place], int], Awaitable[None]]
"""Called with the partitions and the assignment's epoch."""


class Read(NamedTuple):
    """Records and the epoch of the assignment they were read in."""

    epoch: int
    batch: Batch


class GroupReader(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads the partitions that the group gives to this member."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        names: Topics,
        *,
        consumer: str,
        on_assigned: Moved,
        on_revoked: Moved,
        session_s: float = 10.0,
    ) -> None:
        """`consumer` labels the metrics. Every partition must have a committed offset, see `topics.ensure`."""
        self._bootstrap, self._group, self._topics = bootstrap, group, tuple(topics)
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._session_s = session_s
        self._tally = Tally(names, consumer)
        self._consumer: AIOKafkaConsumer | None = None
        self._places: frozenset[Place] = frozenset()
        self._epoch = 0
        self._generation = -1
        self._paused: set[Place] = set()
        self._commits: set[asyncio.Task[None]] = set()
        self._fault: Exception | None = None
        self._turn = asyncio.Lock()
        self._leaving = False
        self._closed = False

    @property
    def places(self) -> frozenset[Place]:
        """The partitions of the present assignment; empty between two."""
        return self._places

    @property
    def epoch(self) -> int:
        """A number that each assignment and each revocation moves on."""
        return self._epoch

    def still_owned(self, place: Place, epoch: int) -> bool:
        """Whether the partition is still of the assignment that `epoch` names, as far as this member can know."""
        return epoch == self._epoch and place in self._places and self._generation == self._member_generation()

    async def start(self, *, deadline_s: float = 30.0) -> None:
        """Join the group and wait for the first assignment. Raises KafkaError or TimeoutError."""
        await self._open(deadline_s)

    async def stop(self, *, grace_s: float = 3.0) -> None:
        """Revoke in order, leave the group, close; bounded by `on_revoked` and `grace_s`."""
        self._closed = True
        await self._revoke()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer, grace_s)

    async def getmany(self, timeout_s: float, max_records: int, places: Collection[Place] = ()) -> Read:
        """Records in order per partition, of `places` only when given. Raises OffsetsLost; rejoins by itself."""
        try:
            if self._consumer is None:
                await self._open(30.0)
            self._raise_fault()
            if self._consumer is None:
                return Read(self._epoch, {})
            batch = await fetch(self._consumer, timeout_s, max_records, places)
        except OffsetsLost:
            raise
        except Exception as error:  # noqa: BLE001 - of Kafka or of on_assigned: either way leave, and join again
            log.warning("read_failed", group=self._group, error=type(error).__name__)
            await self._rejoin_later()
            return Read(self._epoch, {})
        if self._leaving:  # whoever gets the partitions reads these again
            return Read(self._epoch, {})
        self._tally.took(batch)
        self._tally.lag(self.lag())
        return Read(self._epoch, batch)

    async def committed(self, place: Place, *, deadline_s: float = 5.0) -> int:
        """The group's committed offset. Raises OffsetsLost when there is none, TimeoutError when Kafka is away."""
        if self._consumer is None:
            raise TimeoutError
        async with asyncio.timeout(deadline_s):
            offset = await self._consumer.committed(TopicPartition(*place))
        if offset is None:
            raise OffsetsLost(self._group, place.topic)
        return int(offset)

    async def commit(self, offsets: Mapping[Place, int], epoch: int, *, deadline_s: float = 3.0) -> bool:
        """Commit the next offsets to read. True: the broker has them, and the partitions are still this member's.

        False: not known to be committed. It may have landed when the deadline passed, so commit again or give up.
        """
        consumer = self._consumer
        if consumer is None or not all(self.still_owned(place, epoch) for place in offsets):
            return False
        task = asyncio.create_task(consumer.commit({TopicPartition(*place): at for place, at in offsets.items()}))
        self._commits.add(task)
        try:
            await asyncio.wait([task], timeout=deadline_s)
        finally:
            self._commits.discard(task)
            if not task.done():
                task.cancel()
        done = await asyncio.gather(task, return_exceptions=True)
        if isinstance(done[0], BaseException):
            if not isinstance(done[0], asyncio.CancelledError):
                log.warning("commit_refused", group=self._group, error=type(done[0]).__name__)
            return False
        return all(self.still_owned(place, epoch) for place in offsets)

    def seek(self, place: Place, offset: int) -> None:
        """Go on reading at `offset`; only for a partition of the present assignment."""
        if self._consumer is not None:
            self._consumer.seek(TopicPartition(*place), offset)

    def pause(self, places: Iterable[Place]) -> None:
        """Hand out nothing of these partitions until `resume` or the next assignment."""
        chosen = self._places.intersection(places)
        self._paused.update(chosen)
        if self._consumer is not None:
            self._consumer.pause(*(TopicPartition(*place) for place in chosen))

    def resume(self, places: Iterable[Place]) -> None:
        """End a pause."""
        chosen = self._paused.intersection(places)
        self._paused -= chosen
        if self._consumer is not None:
            self._consumer.resume(*(TopicPartition(*place) for place in chosen & self._places))

    def lag(self) -> dict[Place, int]:
        """Records between what was handed out and the end last seen, per partition."""
        return {} if self._consumer is None else lag_of(self._consumer, self._places)

    async def begins(self, *, deadline_s: float = 5.0) -> dict[Place, int] | None:
        """The first offset of each partition of the assignment; None when Kafka does not answer."""
        return await self._offsets("beginning_offsets", deadline_s)

    async def ends(self, *, deadline_s: float = 5.0) -> dict[Place, int] | None:
        """The next offset to be written of each partition of the assignment; None when Kafka does not answer."""
        return await self._offsets("end_offsets", deadline_s)

    async def _offsets(self, which: str, deadline_s: float) -> dict[Place, int] | None:
        return None if self._consumer is None else await offsets(self._consumer, which, self._places, deadline_s)

    # --- membership ------------------------------------------------------------------------------------------------

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Called by aiokafka, which swallows what this raises: a fault is kept for the next `getmany` instead.

        The partitions are paused before anything is awaited, so none is read before `on_assigned` has placed it.
        """
        consumer, tps = self._consumer, tuple(assigned)
        if consumer is None:
            return
        consumer.pause(*tps)
        async with self._turn:
            if not self._closed:
                await self._take(consumer, tps)

    async def _take(self, consumer: AIOKafkaConsumer, tps: tuple[TopicPartition, ...]) -> None:
        self._paused.clear()
        self._epoch += 1
        self._leaving = False
        self._generation = self._member_generation()
        self._places = frozenset(Place(tp.topic, tp.partition) for tp in tps)
        try:
            async with asyncio.timeout(CALLBACK_S):
                await self._on_assigned(self._places, self._epoch)
        except Exception as fault:  # noqa: BLE001 - kept, see above
            self._fault = fault
            return
        consumer.resume(*(tp for tp in tps if Place(tp.topic, tp.partition) not in self._paused))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002 - always all
        """Called by aiokafka before the group moves on."""
        await self._revoke()

    async def _revoke(self) -> None:
        async with self._turn:
            if not self._places:
                return
            self._leaving = True
            try:
                async with asyncio.timeout(CALLBACK_S):
                    await self._on_revoked(self._places, self._epoch)
            except Exception as fault:  # noqa: BLE001 - the partitions go, whatever the owner makes of it
                log.error("revocation_failed", group=self._group, error=type(fault).__name__)  # noqa: TRY400 - may quote
            self._places = frozenset()
            self._epoch += 1
            self._generation = -1
            for task in tuple(self._commits):
                task.cancel()

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _member_generation(self) -> int:
        """The group generation that aiokafka's next commit would carry: negative once the group has dropped us."""
        coordinator = self._consumer and self._consumer._coordinator  # noqa: SLF001 - no public name
        return coordinator.generation if coordinator else -2

    async def _open(self, deadline_s: float) -> None:
        self._consumer = consumer = open_consumer(
            self._bootstrap,
            self._group,
            session_timeout_ms=int(self._session_s * 1000),
            heartbeat_interval_ms=int(self._session_s * 1000 / 4),
            rebalance_timeout_ms=10_000,
        )
        consumer.subscribe(self._topics, listener=self)
        try:
            async with asyncio.timeout(deadline_s):
                await consumer.start()
        except BaseException:
            await self._revoke()
            self._consumer = None
            await close_consumer(consumer, 0.5)
            raise

    async def _rejoin_later(self) -> None:
        await self._revoke()
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer, 1.0)
        await asyncio.sleep(RETRY_S)
