"""The records process: what was accepted, from Kafka into `message_contents`, exactly once.

Owns one connection to PostgreSQL for as long as it archives (its *tenure*: an advisory lock that lives and dies with
the connection; further processes stand by) and one Kafka reader. Promises:
- offsets live in PostgreSQL (consumer `records`) and move, by compare-and-set, in the transaction that stores what was
  read: after a crash at any line the same records are read again, and all of a batch is stored or nothing;
- a message that comes again, by a retry, a release from hold or a second publish, is stored once (`contents.add`);
- memory is bounded: two batches of `MOST_RECORDS` records or `MOST_BYTES`, one filling while the other is written; what
  they hold is sealed already. When PostgreSQL is slow, reading waits;
- PostgreSQL or Kafka away: the tenure ends, what is in memory is thrown away, and a new one begins after a growing
  pause. Nothing is lost while Kafka keeps it (72 h).
What nobody can read is a dead letter; what is older than contents are kept, or of a person erased since, is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from asyncpg import Pool

from gateway.records import contents, partitions, settlement
from gateway.records.connection import Connection
from gateway.records.contents import Seal
from gateway.records.gathering import Batch
from gateway.records.offsets import Offsets
from gateway.records.tenure import pause, turns
from gateway.stream import Producer, Reader, Topics, bury
from gateway.telemetry import ARCHIVE_AGE, ARCHIVE_SECONDS, ARCHIVED, logger

log = logger("records")

CONSUMER = "records"
LOCK = 0x41535345_5245  # one archiver at a time; the others stand by
FLUSH_S = 0.5
"""How long a record waits for others before it is written."""
GATHER_S = 0.05
MOST_RECORDS = 10_000
MOST_BYTES = 16 << 20
DEADLINE_S = 30.0
STANDBY_S = 1.0
_SESSION = "SET jit = off; SET idle_in_transaction_session_timeout = '30s'"


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Archive:
    """The process's work; `run` it once."""

    def __init__(
        self,
        pool: Pool[Any],
        reader: Reader,
        producer: Producer,
        names: Topics,
        seal: Seal,
        *,
        contents_days: int = 183,
        flush_s: float = FLUSH_S,
        most_records: int = MOST_RECORDS,
        clock: Callable[[], int] = wall_ms,
    ) -> None:
        """`reader` reads `Archive.topics(names)` and is started and stopped here. `clock`: Unix milliseconds."""
        self._pool, self._reader, self._producer, self._names, self._seal = pool, reader, producer, names, seal
        self._days, self._flush_s, self._most_records, self._clock = contents_days, flush_s, most_records, clock
        self._stop = asyncio.Event()
        self._made: set[int] = set()
        self._oldest_ms = 0
        """When Kafka took the oldest record that was read and is not stored; 0 for none."""

    @staticmethod
    def topics(names: Topics) -> list[str]:
        """What the reader reads: everything accepted, held messages included."""
        return [name for name in names.all() if names.label(name).startswith("messages.")]

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until `stop`, store what was read, return. Outages are waited out; other faults too, loudly."""
        self._stop = stop
        try:
            await turns(self._pool, stop, self._stand, log=log, name="archive", away=self._report)
        finally:
            await asyncio.gather(self._reader.stop(), return_exceptions=True)

    async def _stand(self, conn: Connection) -> None:
        """Archive if nobody else does, else wait a moment."""
        async with asyncio.timeout(DEADLINE_S):
            await conn.execute(_SESSION)
            mine = await conn.fetchval("SELECT pg_try_advisory_lock($1)", LOCK)
        if mine:
            log.info("archiving")
            await self._tenure(conn)
        else:
            self._oldest_ms = 0
            await pause(self._stop, STANDBY_S)

    async def _tenure(self, conn: Connection) -> None:
        """Read and store on this connection until stopped or anything fails; one batch fills while another goes."""
        offsets = Offsets(self._reader, self._names, CONSUMER)
        async with asyncio.timeout(DEADLINE_S):
            await offsets.begin(conn)
        batch = self._batch()
        storing: asyncio.Task[None] | None = None
        try:
            while not self._stop.is_set():
                room = self._most_records - len(batch)
                for place, messages in (await offsets.read(0.1, max(1, room))).items():
                    offsets.took(place, batch.add(place, messages, offsets.next(place)))
                self._report(batch)
                full = len(batch) >= self._most_records or batch.bytes >= MOST_BYTES
                if storing is not None and (storing.done() or full):
                    await storing
                    storing = None
                if storing is None and batch.moves and (full or batch.waited() >= self._flush_s):
                    storing = asyncio.create_task(self._store(conn, batch))
                    batch = self._batch()
                elif batch.moves:
                    await asyncio.sleep(GATHER_S)
            if storing is not None:
                await storing
            if batch.moves:
                await self._store(conn, batch)
        finally:
            if storing is not None and not storing.done():
                storing.cancel()
                await asyncio.gather(storing, return_exceptions=True)

    def _batch(self) -> Batch:
        return Batch(self._names, self._seal, partitions.day_of(self._clock()) - self._days)

    async def _store(self, conn: Connection, batch: Batch) -> None:
        """All of a batch and its offsets, or nothing. Raises Superseded when somebody else has stored it."""
        began = time.perf_counter()
        async with asyncio.timeout(DEADLINE_S):
            if batch.dead:
                await bury(self._producer, self._names, batch.dead, consumer=CONSUMER, at_ms=self._clock())
            await self._ensure_days(conn, batch)
            async with conn.transaction():
                await settlement.move_offsets(conn, CONSUMER, batch.moves)
                rows = batch.rows_but(await contents.erased(conn))
                new = await contents.add(conn, rows) if rows else 0
        for n, outcome in (
            (new, "stored"),
            (len(rows) - new, "known"),
            (len(batch.rows) - len(rows), "erased"),
            (batch.old, "old"),
        ):
            if n:
                ARCHIVED.add(n, outcome)
        ARCHIVE_SECONDS.observe(time.perf_counter() - began)
        self._oldest_ms = 0

    async def _ensure_days(self, conn: Connection, batch: Batch) -> None:
        """Partitions for today, tomorrow and the day after, and for what is late by up to a week."""
        today = partitions.day_of(self._clock())
        late = {day for day in batch.days if today - 7 <= day <= today + 2}
        wanted = late | {today, today + 1, today + 2}
        if not wanted <= self._made:
            await partitions.ensure(conn, wanted)
            self._made |= wanted

    def _report(self, batch: Batch | None = None) -> None:
        """How old the oldest record is that is read and not stored."""
        if batch is not None and batch.oldest_ms and not self._oldest_ms:
            self._oldest_ms = batch.oldest_ms
        age_s = (self._clock() - self._oldest_ms) / 1000 if self._oldest_ms else 0.0
        ARCHIVE_AGE.set(max(0.0, age_s))
