"""Tells the operators: queues each alert once as a webhook to their address, which the sender beside it calls.

Owns nothing: `alerts` and `webhooks` are rows. Promises: an alert is marked as told in the transaction that queues it,
so it is queued exactly once whatever dies, and called at least once under one `webhook-id`. Without an address, or
while it has answered 410, nothing is marked: what the last day raised is told once there is one. Any number of
processes share the work (SKIP LOCKED). PostgreSQL away: it waits, and what could not be raised was not either.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from asyncpg import Pool

from gateway.ledger.keys import Keys
from gateway.records import alerts, webhooks
from gateway.records.connection import AWAY
from gateway.records.registry import BUILT_IN
from gateway.settle.notices import Notices
from gateway.telemetry import ALERTS_OLDEST, ALERTS_RECENT, ALERTS_WAITING, logger

log = logger("settle")

OPERATORS = BUILT_IN.id
"""Whose webhook address and secret are the operators': the client that nobody can call as."""
LOOK_S = 0.5
MEASURE_S = 15.0
QUERY_S = 10.0
MOST = 100


class Telling:
    """The process's work; `run` it once, beside a `Sending`."""

    def __init__(self, pool: Pool[Any], keys: Keys, runbook: str) -> None:
        """`runbook`: the address that pages of the runbook lie under."""
        self._pool, self._notices, self._runbook = pool, Notices(keys), runbook
        self._shown: set[tuple[str, str]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Queue until `stop`; outages of PostgreSQL are waited out."""
        measured = -MEASURE_S
        while not stop.is_set():
            try:
                while await self.round() == MOST:
                    pass
                if (now := asyncio.get_running_loop().time()) - measured >= MEASURE_S:
                    await self.measure()
                    measured = now
            except AWAY as fault:
                log.warning("alerts_wait", error=type(fault).__name__)
            except Exception as fault:
                log.exception("alerts_fault", error=type(fault).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)

    async def round(self) -> int:
        """Queue what is not told yet, at most `MOST`; how many."""
        async with asyncio.timeout(QUERY_S), self._pool.acquire() as conn, conn.transaction():
            to = await alerts.address(conn, OPERATORS)
            if to is None:
                return 0
            found = await alerts.untold(conn, MOST)
            await webhooks.enqueue(conn, [self._notices.alert(one, to, self._runbook) for one in found])
            await alerts.mark_told(conn, [one.id for one in found])
        for one in found:
            log.info("alert_told", kind=one.kind, severity=one.severity, alert=str(one.id))
        return len(found)

    async def measure(self) -> None:
        """Show what waits, and what the last hour raised: a kind that is over goes back to nought."""
        async with asyncio.timeout(QUERY_S), self._pool.acquire() as conn:
            found = await alerts.levels(conn, OPERATORS)
        ALERTS_WAITING.set(found.waiting)
        ALERTS_OLDEST.set(max(0.0, (datetime.now(UTC) - found.oldest).total_seconds()) if found.oldest else 0)
        for kind, severity in self._shown - set(found.recent):
            ALERTS_RECENT.set(0, kind, severity)
        for (kind, severity), n in found.recent.items():
            ALERTS_RECENT.set(n, kind, severity)
        self._shown |= set(found.recent)
