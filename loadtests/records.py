"""`make bench-records`: how fast what messages said is archived and exported, and at what cost.

Starts its own stack in a temporary home, fills Kafka, lets the real records process work its backlog off, reads all of
it again as a crash would, exports, prints a table, ends every child and removes the home. Exit status: 0; 1 when a gate
is not reached and `--gate` was given; 2 when the run itself failed.

The gate is CPU a row of the records process, PostgreSQL and Kafka together: 100 µs of it are 20,000 rows a second on
two cores, however busy the machine is meanwhile. Rows a second are printed beside it, for a quiet one.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median

import asyncpg

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Basis, Class, Status
from gateway.contract.export import Asked
from gateway.contract.ids import lane_of, new_id, subject_of
from gateway.contract.wire import Accepted
from gateway.guard import Guard
from gateway.ledger import events
from gateway.ledger.appender import Appender
from gateway.ledger.citing import Citing
from gateway.ledger.keys import Keys
from gateway.ledger.sealing import Contents
from gateway.records import contents, export, partitions, settlement, sheet, timeline
from gateway.records.timeline import STATUS_NUMBERS, Entry
from gateway.rules.pack import load
from gateway.stream import Producer, Topics, encode
from loadtests import people
from loadtests.figures import Figure
from loadtests.meter import Meter, rss_mb
from loadtests.rows import command
from loadtests.say import Teller
from loadtests.stack import Stack

CHUNK = 2_000
REPEATED = 10
"""Of so many messages one comes again at once, as a retry does."""
PEOPLE = 5_000
LOGGED = 50_000
"""Messages that are in the log too, and exported."""
CPU_US = 100.0
RATE = 20_000.0
GROWTH_MB = 150.0
WITHIN_S = 600.0
TRIALS = 15
AT = "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offsets WHERE consumer = 'records'"
WAL = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"


@dataclass(frozen=True, slots=True)
class Drained:
    """One backlog worked off."""

    rate: float
    us: dict[str, float]
    """CPU µs a row, by process."""
    wal: float


class Bench:
    """One run."""

    def __init__(self, rows: int, teller: Teller) -> None:
        self._rows, self._teller = rows, teller
        self._stack = Stack(teller.step)
        self._topics = Topics("")

    async def run(self) -> list[Figure]:
        """Everything, in order; the stack is gone afterwards, whatever happens."""
        try:
            self._stack.start_parts()
            connection = await asyncpg.connect(self._stack.postgres.endpoint)
            try:
                messages = await self._publish()
                return await self._measure(connection, messages)
            finally:
                await connection.close()
        except BaseException:
            for words in self._stack.dead():
                self._teller.step(words)
            raise
        finally:
            self._teller.step("stopping")
            self._stack.stop()

    async def _measure(
        self, connection: "asyncpg.Connection[asyncpg.Record]", messages: list[Accepted]
    ) -> list[Figure]:
        total = self._rows + self._rows // REPEATED
        first = await self._drain(connection, total, "stored for the first time")
        rss = rss_mb(self._stack.pids()["records"])
        self._stack.end("records")
        stored = await connection.fetchval("SELECT count(*) FROM message_contents")
        disk = await self._disk(connection)
        await connection.execute("DELETE FROM consumer_offsets WHERE consumer = 'records'")
        again = await self._drain(connection, total, "read again, all of it known")
        doubled = await connection.fetchval("SELECT count(*) FROM message_contents") - self._rows
        self._stack.end("records")
        keys = Keys(bytes.fromhex(self._stack.environment["ASSENT_MASTER_KEY"]), self._stack.pepper)
        texts_ms = await self._texts(connection, keys, messages)
        exported, export_us = await self._export(keys, messages)
        return [
            Figure("archived, a backlog", first.rate, "rows/s", RATE, least=True, note="on a quiet machine"),
            Figure("CPU a row, all three", sum(first.us.values()), "µs", CPU_US, gates=True),
            *(Figure(f"· of it {name}", us, "µs") for name, us in first.us.items()),
            Figure("read again after a crash, nothing new", again.rate, "rows/s"),
            Figure("CPU a row, read again", sum(again.us.values()), "µs", CPU_US, gates=True),
            Figure("rows lost", float(self._rows - stored), "", 0, gates=True),
            Figure("rows doubled", float(doubled), "", 0, gates=True),
            Figure("records process, resident", rss, "MB", GROWTH_MB, gates=True),
            Figure("disk a row", disk / self._rows, "B", note="table and index"),
            Figure("WAL a row", first.wal, "B"),
            Figure("1,000 texts by id", texts_ms, "ms"),
            Figure("exported as CSV", exported, "rows/s", note="texts opened, consents cited"),
            Figure("CPU a row exported", export_us, "µs"),
        ]

    async def _publish(self) -> list[Accepted]:
        """Fill the topics; the first messages, for what is read later."""
        self._teller.step(f"{self._rows:,} messages into Kafka, every {REPEATED}th twice")
        producer = Producer(self._stack.bootstrap, self._topics, max_records=100_000, max_bytes=200 << 20)
        await producer.start()
        kept: list[Accepted] = []
        made = 0
        while made < self._rows:
            some = [self._message(made + n) for n in range(min(CHUNK, self._rows - made))]
            made += len(some)
            kept += some[: max(0, LOGGED - len(kept))]
            pairs = [(one.subject.encode(), encode(one)) for one in (*some, *some[::REPEATED])]
            topic = self._topics.messages(some[0].cls)
            if None in await producer.publish(topic, pairs, deadline_s=60):
                raise RuntimeError("Kafka did not take the messages")
            self._teller.progress(f"{made:,} of {self._rows:,}")
        await producer.stop()
        return kept

    def _message(self, n: int) -> Accepted:
        number = people.number(n % PEOPLE)
        subject = subject_of(self._stack.pepper, number)
        now = time.time_ns() // 1_000_000
        text = f"【Acme】您的订单 {n:012d} 已发货，预计明天送达，请保持电话畅通，感谢您的信任与支持。回复R退订"
        return Accepted(
            id=new_id(lane_of(subject)), client="bench", sender="acme", purpose="marketing.promotion",
            cls=(Class.MARKETING, Class.TRANSACTIONAL)[n // CHUNK % 2], subject=subject.hex(), to=number, text=text,
            parts=1, port="10690002", pack="cn@1", basis=Basis.CONSENT, entry=n % PEOPLE + 1, accepted_at=now,
            expires_at=now + 86_400_000, campaign="double11", client_ref=f"records-{n}",
        )  # fmt: skip

    async def _drain(self, connection: "asyncpg.Connection[asyncpg.Record]", total: int, what: str) -> Drained:
        """Let the process work a backlog off, measured from the first batch that it stored to the last."""
        self._stack.start("records")
        pids = {name: pid for name, pid in self._stack.pids().items() if name != "Valkey"}
        before = 0
        async with asyncio.timeout(WITHIN_S):
            while not before:
                await asyncio.sleep(0.02)
                before = await connection.fetchval(AT)
            meter, began, wal = Meter(pids), time.perf_counter(), await connection.fetchval(WAL)
            while (at := await connection.fetchval(AT)) < total:
                self._teller.progress(f"{at:,} of {total:,} {what}")
                await asyncio.sleep(0.1)
        took, rows = time.perf_counter() - began, total - before
        spent = {name: seconds * 1e6 / rows for name, seconds in meter.spent().items()}
        self._teller.step(f"{rows:,} rows {what} in {took:.1f} s")
        return Drained(rows / took, spent, float(await connection.fetchval(WAL) - wal) / rows)

    async def _disk(self, connection: "asyncpg.Connection[asyncpg.Record]") -> float:
        return float(
            await connection.fetchval(
                "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits "
                "WHERE inhparent = 'message_contents'::regclass"
            )
        )

    async def _texts(
        self, connection: "asyncpg.Connection[asyncpg.Record]", keys: Keys, messages: Sequence[Accepted]
    ) -> float:
        opened, took = Contents(keys).open, []
        ids = [one.id for one in islice(messages, 0, None, max(1, len(messages) // 1_000))][:1_000]
        for _ in range(TRIALS):
            began = time.perf_counter()
            found = await contents.texts(connection, opened, ids)
            took.append((time.perf_counter() - began) * 1e3)
            if len(found) != len(ids):
                raise RuntimeError("texts are missing")
        return median(took)

    async def _export(self, keys: Keys, messages: Sequence[Accepted]) -> tuple[float, float]:
        """Rows a second as CSV, and this process's CPU µs a row; log and consents are written first."""
        self._teller.step(f"{len(messages):,} messages in the log, {PEOPLE:,} consents in the ledger")
        async with asyncpg.create_pool(self._stack.postgres.endpoint, min_size=1, max_size=3) as pool:
            await self._consents(pool, keys)
            async with pool.acquire() as conn:
                await partitions.ensure(conn, [partitions.day_of(time.time_ns() // 1_000_000)])
                named = ("bench", "acme", "marketing.promotion", "marketing", "10690002", "cn@1", "consent", "d", None)
                origin = (await settlement.origin_ids(conn, [(b"bench", named)]))[b"bench"]
                for first in range(0, len(messages), CHUNK):
                    await settlement.insert(conn, [_row(one, origin) for one in messages[first : first + CHUNK]])
            zone, rows, now = load("cn").zone, 0, time.time_ns() // 1_000_000
            began, spent = time.perf_counter(), time.process_time()
            async for line in export.lines(pool, Contents(keys).open, Citing(pool, keys).cite, Asked(), now):
                rows += bool(sheet.csv_line(line, zone))
            took, spent = time.perf_counter() - began, time.process_time() - spent
        if rows != len(messages):
            raise RuntimeError("rows are missing from the export")
        return rows / took, spent * 1e6 / rows

    async def _consents(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys) -> None:
        guard = await Guard.connect(self._stack.valkey.endpoint)
        appender = Appender(pool, keys, guard)
        await appender.start()
        now = time.time_ns() // 1_000_000
        for first in range(0, PEOPLE, 500):
            acts = []
            for n in range(first, first + 500):
                number = people.number(n)
                who = {"number": number, "subject": keys.subject(number), "occurred_at_ms": now}
                data = events.grant("acme", ["marketing"], evidence={"form_version": "web.v1"})
                acts.append(Event(event_id=f"bench/{n}", kind=EventKind.GRANT, data=data, **who))
            await appender.append(acts)
        await appender.stop()
        await guard.close()


def _row(one: Accepted, origin: int) -> tuple[object, ...]:
    at = one.accepted_at
    steps = [
        Entry(at, Status.QUEUED),
        Entry(at + 40, Status.SENT, 1, "simulator", "0"),
        Entry(at + 900, Status.DELIVERED, 0, "simulator", "000", raw="DELIVRD"),
    ]
    fields: dict[str, object] = {
        "id": one.id, "subject": bytes.fromhex(one.subject), "origin": origin, "accepted_at": at,
        "settled_at": at + 950, "entry": one.entry, "rank": 9, "status": STATUS_NUMBERS[Status.DELIVERED], "cause": 0,
        "attempt": 1, "parts": 1, "parts_delivered": 1, "code": "000", "carrier": "simulator", "carrier_id": one.id[:8],
        "client_ref": one.client_ref, "timeline": timeline.encode(steps),
    }  # fmt: skip
    return tuple(fields[name] for name in settlement.COLUMNS)


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    return command(
        "loadtests.records",
        __doc__,
        lambda rows, teller: Bench(rows, teller).run(),
        rows=500_000,
        told="messages in the backlog",
        title="messages archived",
        words=words,
    )


if __name__ == "__main__":
    sys.exit(main())
