"""Retention: what is older than its time is dropped, whole days at once.

Owns nothing but the decision of how old. Messages, the minutes they were counted in, and alerts stay for as long as
regulators may ask (Order 31: five months at least), what messages said for a time of its own; a carrier's ids and
unclaimed receipts, for as long as a receipt may come; an opt-in that nobody confirmed, for as long as it may be
confirmed; a person's words that wait to be told to a client, three days; the words of a complaint, as long as messages
after its case was closed. What a legal hold covers stays (`records.holds`).
Runs beside settlement on a connection of its own; what a reader holds at the moment is dropped the next time. A crash
leaves some days longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from asyncpg import Pool

from gateway.records import alerts, complaints, contents, doubts, forms, links, partitions, refusals, signals, webhooks
from gateway.records.connection import AWAY, Connection
from gateway.telemetry import logger

log = logger("settle")

RECEIPTS_DAYS = 8
"""Receipts are due within three days; the rest is for those that come later all the same."""
DOUBTS_DAYS = 3
"""A message is asked about within three hours; the rest is for outages of its carrier's answers."""
MINUTES_DAYS = 40
"""A rolling month is read by the minute at its ends."""
EVERY_S = 3_600.0
DEADLINE_S = 3_600.0
"""Dropping takes moments; copying what a legal hold covers of a large day may take minutes."""


class Tending:
    """Drops what is too old, once an hour. `clock` gives Unix milliseconds; contents stay no longer than records."""

    def __init__(self, pool: Pool[Any], records_days: int, clock: Callable[[], int], contents_days: int = 183) -> None:
        self._pool, self._clock = pool, clock
        # Contents go before the log: holds and erasures find them by it.
        self._days = {
            "message_contents": contents_days,
            "messages": records_days,
            "carrier_ids": RECEIPTS_DAYS,
            "orphans": RECEIPTS_DAYS,
        }

    async def run(self) -> None:
        """For ever; an outage is waited out."""
        while True:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self.tend()
            except AWAY as fault:
                log.warning("retention_waits", error=type(fault).__name__)
            except Exception as fault:
                log.exception("retention_failed", error=type(fault).__name__)
            await asyncio.sleep(EVERY_S)

    async def _tend_counts(self, conn: Connection, today: int) -> None:
        """Minutes as long as a rolling month needs them, hours and signals as long as messages, days for good."""
        minutes = today - min(MINUTES_DAYS, self._days["messages"])
        await partitions.drop_buckets_before(conn, "minute", minutes * partitions.MINUTES)
        await partitions.drop_buckets_before(conn, "hour", (today - self._days["messages"]) * 24)
        await links.purge(conn)
        await refusals.forget(conn, minutes * partitions.MINUTES)
        await signals.purge(conn, (today - self._days["messages"]) * partitions.MINUTES)

    async def tend(self) -> list[str]:
        """Drop what is too old now; the names of the partitions that went."""
        today = partitions.day_of(self._clock())
        dropped: list[str] = []
        async with self._pool.acquire() as conn:
            for table, days in self._days.items():
                dropped += await partitions.drop_before(conn, table, today - days)
            await self._tend_counts(conn, today)
            expired = await forms.purge(conn, self._clock())
            forgotten = await webhooks.purge(conn, self._clock(), self._days["messages"])
            before = datetime.fromtimestamp((today - self._days["messages"]) * partitions.DAY_MS / 1000, UTC)
            await alerts.purge(conn, before)
            await contents.sweep(conn, self._clock())
            await complaints.purge(conn, (today - self._days["messages"]) * partitions.DAY_MS)
            await doubts.purge(conn, (today - DOUBTS_DAYS) * partitions.DAY_MS)
        if expired:
            log.info("opt_ins_expired", n=expired)
        if forgotten:
            log.info("webhooks_expired", n=forgotten)
        if dropped:
            log.info("records_dropped", partitions=dropped)
        return dropped
