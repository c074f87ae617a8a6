"""A message's whole life under sustained load: POST in batches, until the carrier's receipt has made it `delivered`.

Every process and part is counted, from the first POST until the last message is delivered; the generator is not. The
feed keeps a bounded number of messages under way, so the rate is what the slowest step sustains, not what the edge can
push into Kafka. The run counts only when every accepted id is `delivered` in PostgreSQL afterwards.
"""

import asyncio
import re
import time

import asyncpg

from gateway.contract.decision import Status
from gateway.records.timeline import STATUS_NUMBERS
from loadtests.figures import Figure
from loadtests.front import BATCH, BATCH_CONNECTIONS
from loadtests.generator import BrokenRun, drive
from loadtests.meter import Meter, rss_mb
from loadtests.people import Messages
from loadtests.say import Teller
from loadtests.stack import Stack

UNDER_WAY = 20_000
STALLED_S = 30.0
LOOK_S = 0.5
LIFE_US = 350
LIFE_S = 4_000
DELIVERED = STATUS_NUMBERS[Status.DELIVERED]
ID = re.compile(rb'"id":"([0-9a-f-]{36})"')
COUNT = "SELECT coalesce(sum(n), 0)::bigint FROM outcome_minutes WHERE status = $1"
MISSING = """
SELECT count(*) FROM bench_accepted a LEFT JOIN messages m USING (id) WHERE m.status IS DISTINCT FROM $1
"""
LATENCY = """
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY m.settled_at - m.accepted_at)
FROM bench_accepted a JOIN messages m USING (id)
"""


class Life:
    """One run of the whole gateway."""

    def __init__(self, stack: Stack, messages: Messages, teller: Teller, *, seconds: float, warm_at: int) -> None:
        self._stack, self._messages, self._teller = stack, messages, teller
        self._seconds, self._warm_at = seconds, warm_at
        self._accepted: list[bytes] = []
        self._refused = 0
        self._delivered = 0
        self.warm_mb = 0.0

    async def run(self) -> list[Figure]:
        """Feed, drain, verify."""
        connection = await asyncpg.connect(self._stack.postgres.endpoint)
        try:
            meter, start = Meter(self._stack.pids()), time.perf_counter()
            watching = asyncio.create_task(self._watch(connection))
            await drive(
                self._stack.port,
                self._messages.batches(BATCH),
                connections=BATCH_CONNECTIONS,
                seconds=self._seconds,
                answered=self._take,
                full=lambda: len(self._accepted) - self._delivered >= UNDER_WAY,
            )
            drained = await watching
            took, spent = time.perf_counter() - start, meter.spent()
            return [
                *self._costs(spent),
                Figure(
                    "whole life, sustained",
                    self._delivered / took,
                    "/s",
                    LIFE_S,
                    least=True,
                    note=f"{self._delivered:,} messages, first POST to last receipt, {took:.0f} s",
                ),
                *await self._verified(connection, drained),
            ]
        finally:
            await connection.close()

    def _take(self, status: int, body: bytes) -> None:
        ids = ID.findall(body)
        if status != 200 and not self._refused:
            self._teller.step(f"the edge answered {status}: {body[:300]!r}")
        self._refused += BATCH - len(ids)
        self._accepted += ids
        if not self.warm_mb and len(self._accepted) >= self._warm_at:
            self.warm_mb = rss_mb(self._stack.pids()["edge"])

    async def _watch(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        """Follow what is delivered until it is everything (true), or nothing moves any more."""
        start = moved_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            now, delivered = time.monotonic(), await connection.fetchval(COUNT, DELIVERED, timeout=30)
            if delivered != self._delivered:
                self._delivered, moved_at = delivered, now
            accepted = len(self._accepted)
            self._teller.progress(f"{accepted:,} accepted, {delivered:,} delivered after {now - start:.0f} s")
            if now - start >= self._seconds and delivered >= accepted:
                return True
            if dead := self._stack.dead():
                raise BrokenRun(dead[0])
            if now - moved_at > STALLED_S:
                return False

    def _costs(self, spent: dict[str, float]) -> list[Figure]:
        messages = max(1, len(self._accepted))
        us = {name: seconds / messages * 1e6 for name, seconds in spent.items()}
        whole = Figure("whole life, CPU per message, everything", sum(us.values()), "µs", LIFE_US)
        return [whole, *(Figure(f"· of it {name}", value, "µs") for name, value in sorted(us.items()))]

    async def _verified(self, connection: "asyncpg.Connection[asyncpg.Record]", drained: bool) -> list[Figure]:
        self._teller.step(f"looking for each of {len(self._accepted):,} accepted messages in PostgreSQL")
        await connection.execute("CREATE TEMP TABLE bench_accepted (id uuid PRIMARY KEY)")
        rows = [(one.decode(),) for one in self._accepted]
        await connection.copy_records_to_table("bench_accepted", records=rows, columns=["id"], timeout=60)
        missing = await connection.fetchval(MISSING, DELIVERED, timeout=60)
        p50, p99 = (await connection.fetchval(LATENCY, timeout=60)) or (float("nan"),) * 2
        if not drained:
            self._teller.step(f"nothing was delivered any more for {STALLED_S:.0f} s")
        return [
            Figure("POST to delivered, p50, full load", p50 / 1000, "s"),
            Figure("POST to delivered, p99, full load", p99 / 1000, "s"),
            Figure("accepted and not delivered", float(missing), "messages", 0, gates=True),
            Figure("refused or unavailable", float(self._refused), "messages", 0, gates=True),
        ]
