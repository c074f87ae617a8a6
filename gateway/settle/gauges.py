"""Each sender's health as Prometheus sees it, read from the buckets every five seconds.

Owns the gauges of `telemetry`'s section on health. Every settle process reads them, the one that settles and those that
stand by, so that none goes on showing what it knew last. Senders are a closed registry; campaigns are no labels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from asyncpg import Pool

from gateway import telemetry
from gateway.records import health
from gateway.records.connection import AWAY
from gateway.records.health import Totals
from gateway.records.spans import DAY, HOUR

log = telemetry.logger("settle")
EVERY_S = 5.0
DEADLINE_S = 5.0


async def run(pool: Pool[Any], senders: Callable[[], Collection[str]], clock: Callable[[], int]) -> None:
    """For ever; an outage is waited out. `senders`: those there are; `clock`: Unix milliseconds."""
    while True:
        try:
            await measure(pool, senders(), clock() // 60_000)
        except AWAY as fault:
            log.warning("health_waits", error=type(fault).__name__)
        except Exception as fault:
            log.exception("health_failed", error=type(fault).__name__)
        await asyncio.sleep(EVERY_S)


async def measure(pool: Pool[Any], senders: Collection[str], now: int) -> None:
    """Set the gauges of these senders as they stand at a Unix minute."""
    async with asyncio.timeout(DEADLINE_S), pool.acquire() as conn:
        found = await health.totals(conn, now - DAY, (now // HOUR + 1) * HOUR, by="sender")
    for sender in senders:
        of = found.get(sender, Totals())
        telemetry.SENDER_DELIVERED.set(of.delivered, sender)
        telemetry.SENDER_COMPLAINTS.set(of.complaints, sender)
        telemetry.SENDER_UNSUBSCRIBES.set(of.unsubscribes, sender)
        telemetry.SENDER_ENGAGED.set(of.engaged, sender)
        ppm = of.complaints * 1_000_000 / of.delivered if of.delivered else float("nan")
        telemetry.COMPLAINT_PPM.set(ppm, sender)
