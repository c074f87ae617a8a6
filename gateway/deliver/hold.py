"""Messages that wait: for their time, for a retry's, or for a breaker to close (MECHANISMS 7).

`messages.held` is copied into the due table of `records`; offsets move only after PostgreSQL has committed. Due rows go
back through the same admission and publish as any other message, inside the transaction that deletes them: a crash
before its commit releases them again, and the claim drops the second copy. Several holders share the work (SKIP
LOCKED). Nothing is released to a class whose deliverers are more than `LAG_MOST` behind, so a morning's campaign does
not bury what comes after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from gateway.contract.codes import Code
from gateway.contract.decision import Class
from gateway.contract.wire import Accepted, Result
from gateway.deliver.means import wall_ms
from gateway.deliver.outbox import Outbox
from gateway.deliver.reports import not_sent
from gateway.deliver.unparking import Unparking
from gateway.guard import Cfg, Guard, GuardUnavailable, VoidAsk
from gateway.intake import Intake, Released, release
from gateway.records import held
from gateway.records.connection import AWAY
from gateway.records.held import Held
from gateway.stream.codec import Undecodable, decode
from gateway.stream.group import GroupReader, Read
from gateway.stream.lag import GroupLag
from gateway.stream.reader import Message, Place
from gateway.telemetry import HELD, RELEASED, logger

LAG_MOST = 10_000
LAG_FOR_S = 0.5
"""How long one answer about the lag is believed."""
BATCH = 256
READ_AT_MOST = 1000
IDLE_S = 0.2
PAUSE_S = 1.0
STEP_WITHIN_S = 20.0
FAULTS = (*AWAY, GuardUnavailable)

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]

_log = logger("deliver")


class Hold:
    """The hold process: `start`, then `run` until `stop`."""

    def __init__(
        self,
        *,
        pool: asyncpg.Pool[Any],
        intake: Intake,
        guard: Guard,
        cfg: Cfg,
        outbox: Outbox,
        bootstrap: str,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        topics = outbox.topics
        self._pool, self._intake, self._guard, self._cfg, self._outbox = pool, intake, guard, cfg, outbox
        self._now_ms = now_ms
        self._stopping = False
        self._unparking = Unparking(cfg, self._transaction)
        self._lags = {cls: GroupLag(bootstrap, topics.deliver_group(cls), topics.messages(cls)) for cls in Class}
        self._lag: dict[Class, tuple[float, int | None]] = {}
        self._reader = GroupReader(
            bootstrap,
            topics.hold_group(),
            [topics.held],
            topics,
            consumer="hold",
            on_assigned=self._moved,
            on_revoked=self._moved,
        )

    async def start(self, *, deadline_s: float = 30.0) -> None:
        """Join the group. Raises KafkaError or TimeoutError."""
        await self._reader.start(deadline_s=deadline_s)

    async def run(self) -> None:
        """Hold and release until `stop`. Raises OffsetsLost, and any fault of our own."""
        loops: list[Callable[[], Awaitable[float]]] = [self._expire, self._unparking.step]
        loops += [partial(self._release, cls) for cls in Class]
        async with asyncio.TaskGroup() as group:
            group.create_task(self._filling())
            for loop in loops:
                group.create_task(self._repeat(loop))

    async def stop(self) -> None:
        """Let each loop end its step, then leave the group; bounded."""
        self._stopping = True
        await self._reader.stop()
        await asyncio.gather(*(lag.stop() for lag in self._lags.values()))

    async def _repeat(self, step: Callable[[], Awaitable[float]]) -> None:
        """Run a step, wait as long as it says, run it again; outages are waited out."""
        while not self._stopping:
            try:
                async with asyncio.timeout(STEP_WITHIN_S):
                    wait_s = await step()
            except FAULTS as fault:
                _log.warning("hold_waits", error=type(fault).__name__)
                wait_s = PAUSE_S
            if wait_s:
                await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._pool.acquire() as conn, conn.transaction():
            yield cast("Connection", conn)

    async def _moved(self, _places: frozenset[Place], _epoch: int) -> None:
        """Reading begins at the commit; what was read and not committed is read again by the next owner."""

    # --- in --------------------------------------------------------------------------------------------------------

    async def _filling(self) -> None:
        """From the topic into the table, then commit. What was read is tried until PostgreSQL has it: nothing skips."""
        while not self._stopping:
            read = await self._reader.getmany(IDLE_S, READ_AT_MOST)
            rows = [row for batch in read.batch.values() for message in batch if (row := await self._row(message))]
            if await self._stored(rows, read.epoch):
                await self._commit(read)

    async def _stored(self, rows: Sequence[Held], epoch: int) -> bool:
        """Whether the rows are in the table; false when their partitions are somebody else's now."""
        while rows:
            if epoch != self._reader.epoch or self._stopping:
                return False
            try:
                async with asyncio.timeout(STEP_WITHIN_S), self._transaction() as conn:
                    await held.add(conn, rows)
                break
            except FAULTS as fault:
                _log.warning("hold_waits", error=type(fault).__name__)
                await asyncio.sleep(PAUSE_S)
        return True

    async def _commit(self, read: Read) -> None:
        ends = {place: messages[-1].offset + 1 for place, messages in read.batch.items() if messages}
        if ends:
            await self._reader.commit(ends, read.epoch)

    async def _row(self, message: Message) -> Held | None:
        try:
            accepted = decode(Accepted, message.value)
        except Undecodable as fault:
            await self._outbox.dead(message, "hold", type(fault).__name__, self._now_ms())
            return None
        return row_of(accepted, message.value or b"", self._now_ms())

    # --- out -------------------------------------------------------------------------------------------------------

    async def _release(self, cls: Class) -> float:
        """Release what is due of one class, at most a batch; then how long to wait."""
        if not self._cfg.fresh:
            return PAUSE_S
        async with self._transaction() as conn:
            now = self._now_ms()
            rows = [row for row in await held.due(conn, cls, now, BATCH) if row.expires_at > now]
            if not rows:
                return IDLE_S
            behind = await self._behind(cls)
            if behind is None or behind > LAG_MOST:
                return PAUSE_S
            outcomes = await release(self._intake, [_accepted(row) for row in rows], now)
            await self._settle(conn, rows, outcomes)
        for outcome in outcomes:
            RELEASED.add(1, outcome.kind)
        if any(outcome.kind == "unavailable" for outcome in outcomes):
            return PAUSE_S
        return 0.0 if len(rows) == BATCH else IDLE_S

    async def _settle(self, conn: Connection, rows: Sequence[Held], outcomes: Sequence[Released]) -> None:
        """Remove what went or ended, move what waits on; what is `unavailable` stays as it is."""
        gone, later, results = [], [], []
        parked: dict[str, list[str]] = {}
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome.kind in ("published", "cancelled"):
                gone.append(row.id)
                if outcome.kind == "cancelled" and outcome.code is not None:
                    results.append(not_sent(_accepted(row), outcome.code or "", self._now_ms()))
            elif outcome.kind == "later":
                later.append(row._replace(due=outcome.due_ms))
            elif outcome.kind == "parked":
                parked.setdefault(outcome.scope or "all", []).append(row.id)
        await self._outbox.results(results)
        await held.delete(conn, [*gone, *(row.id for row in later)])
        await held.add(conn, later)
        for scope, ids in parked.items():
            await held.park(conn, ids, scope)

    async def _behind(self, cls: Class) -> int | None:
        """The lag of a class's deliverers, asked at most twice a second; None when Kafka does not say."""
        now = time.monotonic()
        at, records = self._lag.get(cls, (0.0, None))
        if records is None or now - at > LAG_FOR_S:
            records = await self._lags[cls].records()
            self._lag[cls] = (now, records)
        return records

    async def _expire(self) -> float:
        """End what waited longer than its life, parked or not."""
        async with self._transaction() as conn:
            rows = await held.expired(conn, self._now_ms(), BATCH)
            if rows:
                await self._outbox.results(await self._void(rows))
                await held.delete(conn, [row.id for row in rows])
                RELEASED.add(len(rows), "expired")
            HELD.set(await held.count(conn))
        return 0.0 if len(rows) == BATCH else PAUSE_S

    async def _void(self, rows: Sequence[Held]) -> list[Result]:
        """Void reservations and holds; the results of those that nobody else settles."""
        messages = [_accepted(row) for row in rows]
        asks = [VoidAsk(message.id, bytes.fromhex(message.subject)) for message in messages]
        states = await self._guard.void(asks, Code.MESSAGE_EXPIRED)
        return [
            not_sent(message, Code.MESSAGE_EXPIRED, self._now_ms())
            for message, state in zip(messages, states, strict=True)
            if state in ("void", "absent")
        ]


def row_of(accepted: Accepted, payload: bytes, now_ms: int) -> Held:
    """The table's row of a held record; one without a time is due at once."""
    return Held(
        id=accepted.id,
        due=now_ms if accepted.due is None else accepted.due,
        expires_at=accepted.expires_at,
        attempt=accepted.attempt,
        cls=accepted.cls,
        scope=accepted.parked,
        payload=payload,
    )


def _accepted(row: Held) -> Accepted:
    return decode(Accepted, row.payload)
