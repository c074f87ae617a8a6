"""The settle process: reads what happened to messages and writes it down, exactly once.

Owns one connection to PostgreSQL for as long as it settles (its *tenure*: an advisory lock that lives and dies with the
connection; further processes stand by), two Kafka readers, and everything between. Promises:
- offsets live in PostgreSQL and move in the transaction that writes what was read: after a crash at any line the same
  records are read again and nothing counts twice;
- memory is bounded: at most two buffers of `most_records`, one filling while the other is written; when PostgreSQL is
  slow, reading waits;
- PostgreSQL, Kafka or the cache away: the tenure ends, what is in memory is thrown away, and a new one begins after a
  growing pause. Refusals (replies) have their own reader and connection and wait for no backlog.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Coroutine
from typing import Any

from asyncpg import Pool, UniqueViolationError

from gateway.guard import Guard, GuardUnavailable
from gateway.intake import Intake
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.records import partitions, settlement, subscriptions
from gateway.records.connection import Connection
from gateway.records.offsets import Offsets
from gateway.records.tenure import OUTAGES, pause, turns
from gateway.settle.abreast import Abreast
from gateway.settle.answering import Answering
from gateway.settle.buffer import LATEST_MS, Buffer
from gateway.settle.debts import Debts
from gateway.settle.flush import Flush, Outcome
from gateway.settle.inbox import Inbox
from gateway.settle.known import MOST_ORPHANS, TOLD_S, Known
from gateway.settle.notices import Notices
from gateway.settle.owners import Registry
from gateway.settle.replies import Replies
from gateway.settle.silence import Silence
from gateway.settle.tending import Tending
from gateway.settle.withdrawals import Withdrawals
from gateway.stream import Producer, Reader, Topics, bury
from gateway.telemetry import ORPHANS, SETTLE_BATCH, SETTLE_SECONDS, logger

log = logger("settle")

CONSUMER = "settle"
FLUSH_S = 0.3
"""How long a record waits for others before it is written; busier means fuller, not more often."""
GATHER_S = 0.05
MOST_RECORDS = 20_000
LEAST_RECORDS = 250
"""What PostgreSQL does not take in time is tried by half as much, down to this, and then by a little more."""
DEADLINE_S = 30.0
STANDBY_S = 1.0
AGAIN_S = 1.0
DEBTS_S = 5.0


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Settle:
    """The process's work; `run` it once."""

    def __init__(
        self,
        pool: Pool[Any],
        records: Reader,
        replies: Reader,
        producer: Producer,
        names: Topics,
        guard: Guard,
        appender: Appender,
        registry: Callable[[], Registry | None],
        *,
        intake: Intake | None = None,
        flush_s: float = FLUSH_S,
        most_records: int = MOST_RECORDS,
        records_days: int = 183,
        contents_days: int = 183,
        asked: Container[str] = (),
        clock: Callable[[], int] = wall_ms,
    ) -> None:
        """`records` reads `Settle.topics(names)`, `replies` the topic of replies; both are started and stopped here.

        `intake` sends acknowledgements and answers; without one they stay owed. `asked`: the carriers that deliver can
        ask about a message. `records_days`: how long messages are kept, `contents_days`: what they said. `clock`: Unix
        milliseconds.
        """
        self._pool, self._records, self._replies = pool, records, replies
        self._producer, self._names = producer, names
        self._flush_s, self._most_records, self._clock = flush_s, most_records, clock
        self._most = most_records
        self._asked = asked
        self._tending = Tending(pool, records_days, clock, contents_days)
        self._debts = Debts(pool, guard, appender)
        self._notices = Notices(appender.keys)
        settling = Replies(pool, guard, appender, registry, "settle.replies", clock, Abreast(records, names, CONSUMER))
        self._withdrawals = Withdrawals(pool, appender.keys, clock)
        self._inbox = Inbox(pool, replies, producer, names, settling)
        self._answering = None if intake is None else Answering(pool, intake, appender.keys, clock)
        self._owing = asyncio.Event()
        self._stop = asyncio.Event()

    @staticmethod
    def topics(names: Topics) -> list[str]:
        """What the reader of records reads."""
        return [name for name in names.all() if name not in (names.replies, names.dead)]

    async def run(self, stop: asyncio.Event) -> None:
        """Settle until `stop`, write what was read, return. Outages are waited out; other faults too, loudly."""
        self._stop = stop
        try:
            await turns(self._pool, stop, self._stand, log=log, name="settle")
        finally:
            await asyncio.gather(self._records.stop(), self._replies.stop(), return_exceptions=True)

    async def _stand(self, conn: Connection) -> None:
        """Settle if nobody else does, else wait a moment."""
        async with asyncio.timeout(DEADLINE_S):
            mine = await settlement.prepare(conn)
        if mine:
            await self._tenure(conn)
        else:
            await pause(self._stop, STANDBY_S)

    async def _tenure(self, conn: Connection) -> None:
        """Settle on this connection until stopped or anything fails."""
        known = Known()
        async with asyncio.timeout(DEADLINE_S):
            known.set_orphans(await settlement.orphan_keys(conn, MOST_ORPHANS))
        log.info("settling")
        work: list[Coroutine[Any, Any, None]] = [
            self._settle(conn, known),
            self._inbox.run(self._stop),
            self._pay(),
            self._tending.run(),
            self._withdrawals.run(),
            self._answer(),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            pending = set(tasks)
            while pending:  # again, for asyncio.wait_for may lose a cancellation (Python before 3.12)
                for task in pending:
                    task.cancel()
                _, pending = await asyncio.wait(pending, timeout=AGAIN_S)

    async def _settle(self, conn: Connection, known: Known) -> None:
        """Read and flush, one buffer filling while the other is written."""
        offsets, silence = Offsets(self._records, self._names, CONSUMER), Silence(CONSUMER, self._clock)
        async with asyncio.timeout(DEADLINE_S):
            await offsets.begin(conn)
            await silence.begin(conn)
        buffer, filled_at = Buffer(self._names), 0.0
        flushing: asyncio.Task[None] | None = None
        try:
            while not self._stop.is_set():
                for place, messages in (await offsets.read(0.1, max(1, self._most - len(buffer)))).items():
                    offsets.took(place, buffer.add(place.topic, place.partition, messages, offsets.next(place)))
                    filled_at = filled_at or time.monotonic()
                if flushing is not None and (flushing.done() or len(buffer) >= self._most):
                    await flushing
                    flushing = None
                if flushing is None and len(buffer) < self._most // 2 and silence.due(time.monotonic()):
                    async with asyncio.timeout(DEADLINE_S):
                        await silence.look(conn, buffer, time.monotonic())
                due = len(buffer) >= self._most or time.monotonic() - filled_at >= self._flush_s
                if flushing is None and buffer.moves and due:
                    flushing = asyncio.create_task(self._flush(conn, known, buffer))
                    buffer, filled_at = Buffer(self._names), 0.0
                elif buffer.moves:
                    await asyncio.sleep(GATHER_S)
            if flushing is not None:
                await flushing
            if buffer.moves:
                await self._flush(conn, known, buffer)
        finally:
            if flushing is not None and not flushing.done():
                flushing.cancel()
                await asyncio.gather(flushing, return_exceptions=True)

    async def _flush(self, conn: Connection, known: Known, buffer: Buffer) -> None:
        began = time.perf_counter()
        if buffer.dead:
            at_ms = self._clock()
            async with asyncio.timeout(DEADLINE_S):
                await bury(self._producer, self._names, buffer.dead, consumer=CONSUMER, at_ms=at_ms)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self._ensure_days(conn, known, buffer)
                await self._learn_told(conn, known)
                outcome = await self._write(conn, known, buffer)
        except TimeoutError:
            self._most = max(min(LEAST_RECORDS, self._most_records), len(buffer) // 2)
            raise
        self._most = min(self._most_records, self._most + self._most // 8 + 1)
        SETTLE_SECONDS.observe(time.perf_counter() - began)
        SETTLE_BATCH.observe(outcome.rows)
        ORPHANS.set(MOST_ORPHANS if known.orphans is None else len(known.orphans))
        if outcome.owes:
            self._owing.set()

    async def _write(self, conn: Connection, known: Known, buffer: Buffer) -> Outcome:
        try:
            return await Flush(
                conn, known, buffer, CONSUMER, self._notices, now_ms=self._clock(), asked=self._asked
            ).run()
        except UniqueViolationError:  # a row taken for new was there: what is remembered was changed, so look at all
            known.rows.clear()
            return await Flush(conn, known, buffer, CONSUMER, self._notices, now_ms=LATEST_MS, asked=self._asked).run()

    async def _learn_told(self, conn: Connection, known: Known) -> None:
        """Who wants to know of all of its messages; a change counts within a second."""
        now_s = time.monotonic()
        if now_s - known.told_at >= TOLD_S:
            wanted = await subscriptions.subscriptions(conn)
            known.told, known.told_at = {one.client: one.address for one in wanted if one.statuses}, now_s

    async def _ensure_days(self, conn: Connection, known: Known, buffer: Buffer) -> None:
        """Partitions for today, tomorrow and the day after, and for what is late by up to a week."""
        today = partitions.day_of(self._clock())
        wanted = buffer.days(today - 7, today) | {today, today + 1, today + 2}
        if not wanted <= known.days:
            await partitions.ensure(conn, wanted)
            known.days |= wanted

    async def _answer(self) -> None:
        """Send what is owed when a batch of replies says so, and now and then whatever an outage left."""
        while self._answering is not None:
            self._inbox.owing.clear()
            try:
                await self._answering.pay()
            except OUTAGES as fault:
                log.warning("answers_wait", error=type(fault).__name__)
            except Exception as fault:
                log.exception("answers_failed", error=type(fault).__name__)
            try:
                async with asyncio.timeout(DEBTS_S):
                    await self._inbox.owing.wait()
            except TimeoutError:
                pass

    async def _pay(self) -> None:
        """Pay what is owed when a flush says so, and now and then whatever an outage left."""
        while True:
            try:
                await self._debts.pay()
            except (*OUTAGES, GuardUnavailable, LedgerUnavailable) as fault:
                log.warning("debts_wait", error=type(fault).__name__)
            except Exception as fault:
                log.exception("debts_failed", error=type(fault).__name__)
            self._owing.clear()
            try:
                async with asyncio.timeout(DEBTS_S):
                    await self._owing.wait()
            except TimeoutError:
                pass
