"""The sender of webhooks: takes what is due, calls, marks. Any number of processes share the queue.

Owns what is under way in this process. A row is taken with a lease longer than a call may last, sent, and marked with
whatever else ended meanwhile. Promises: at least once, always under the same `webhook-id`; after a crash between the
call and its mark the row is sent again when its lease is over. A receiver that fails or hangs has one place of `MOST`
(`lanes.py`), and waits longer between the tries of each row (`schedule.py`): nobody waits for it. PostgreSQL away: what
ended is kept in memory, bounded by what may be under way, and marked when it is back.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from asyncpg import Pool

from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.records import webhooks
from gateway.records.connection import AWAY
from gateway.records.webhooks import Due
from gateway.settle.seals import open_address, open_body
from gateway.settle.webhooks.lanes import NEW, Lanes
from gateway.settle.webhooks.schedule import DELIVERED, EXPIRED, GONE, MOST_AGE_MS, UNSIGNED, Outcome, wait_s
from gateway.settle.webhooks.signing import headers, secrets_of
from gateway.settle.webhooks.wire import Wire
from gateway.telemetry import WEBHOOK_SECONDS, WEBHOOKS, WEBHOOKS_DEAD, WEBHOOKS_OLDEST, WEBHOOKS_WAITING, logger

log = logger("settle")

MOST = 512
"""Calls at once in one process."""
LEASE_MS = 30_000
LOOK_S = 0.5
GATHER_S = 0.02
MEASURE_S = 15.0
QUERY_S = 10.0
GRACE_S = 8.0
"""What is under way when it is told to stop may end within this; the rest is sent again by somebody."""


class Ended(NamedTuple):
    """A call that ended and is not marked yet."""

    due: Due
    outcome: Outcome


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


class Sending:
    """The process's work; `run` it once."""

    def __init__(
        self,
        pool: Pool[Any],
        keys: Keys,
        wire: Wire,
        *,
        clock: Callable[[], int] = wall_ms,
        draw: Callable[[], float] = random.random,
        lease_ms: int = LEASE_MS,
    ) -> None:
        """`clock`: Unix milliseconds. `draw`: uniform in [0, 1), spreads the tries."""
        self._pool, self._keys, self._wire = pool, keys, wire
        self._clock, self._draw, self._lease_ms = clock, draw, lease_ms
        self._lanes = Lanes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[Ended] = []
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`; outages of PostgreSQL are waited out."""
        measuring = asyncio.create_task(self._measure())
        try:
            while not stop.is_set():
                try:
                    more = await self.round()
                except AWAY as fault:
                    log.warning("webhooks_wait", error=type(fault).__name__)
                    more = False
                await self._pause(stop, GATHER_S if more else LOOK_S)
        finally:
            measuring.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=GRACE_S)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(measuring, *self._tasks, return_exceptions=True)
            await asyncio.gather(self._settle(), return_exceptions=True)

    async def round(self) -> bool:
        """Mark what ended, take what is due and begin to send it. True when there may be more at once."""
        self._wake.clear()
        await self._settle()
        room = MOST - self._lanes.under_way
        if room <= 0:
            return False
        async with asyncio.timeout(QUERY_S), self._pool.acquire() as conn:
            taken = await webhooks.take(
                conn, self._clock(), lease_ms=self._lease_ms, most=room, each=NEW, rooms=self._lanes.rooms()
            )
        for due in taken:
            self._lanes.begin(due.lane)
            task = asyncio.create_task(self._send(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(taken)

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        """Until a call ended and a moment more, the time is over, or `stop`."""
        waiting = [asyncio.create_task(self._wake.wait()), asyncio.create_task(stop.wait())]
        done, pending = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if done and not stop.is_set():
            await asyncio.sleep(GATHER_S)

    # --- one call ----------------------------------------------------------------------------------------------------

    async def _send(self, due: Due) -> None:
        began, outcome = time.monotonic(), Outcome("unreachable", "fault")
        try:
            outcome = await self._call(due)
        except KeyMismatchError:
            outcome = Outcome("unsigned", "key")
        except Exception as fault:
            log.exception("webhook_fault", error=type(fault).__name__)
        finally:
            self._lanes.end(due.lane, answered=outcome is DELIVERED)
        WEBHOOK_SECONDS.observe(time.monotonic() - began)
        WEBHOOKS.add(1, outcome.label)
        self._ended.append(Ended(due, outcome))
        self._wake.set()

    async def _call(self, due: Due) -> Outcome:
        now_ms = self._clock()
        if due.gone:
            return GONE
        if due.sealed is None or now_ms - due.made_at >= MOST_AGE_MS:
            return EXPIRED
        secrets = secrets_of(self._keys, due, now_ms)
        if not secrets:
            return UNSIGNED
        body, url = open_body(self._keys, due.id, due.sealed), open_address(self._keys, due.address, due.url)
        return await self._wire.post(url, headers(due.id, body, secrets, now_ms), body, due.attempts)

    # --- marks -------------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Mark everything that ended, in one transaction."""
        if not self._ended:
            return
        ended, now_ms = list(self._ended), self._clock()
        again, dead = [], []
        for due, outcome in ended:
            wait = (
                None if outcome in (DELIVERED, GONE, EXPIRED) else wait_s(due.attempts, outcome.after_s, self._draw())
            )
            if wait is not None:
                again.append((due.id, due.attempts, now_ms + int(wait * 1000), outcome.last()))
            elif outcome is not DELIVERED:
                dead.append((due.id, due.attempts, outcome.last()))
        async with asyncio.timeout(QUERY_S), self._pool.acquire() as conn, conn.transaction():
            await webhooks.delivered(conn, [one.due.id for one in ended if one.outcome is DELIVERED])
            await webhooks.again(conn, again)
            await webhooks.dead(conn, dead, now_ms)
            await webhooks.gone(conn, {one.due.address for one in ended if one.outcome is GONE}, now_ms)
        del self._ended[: len(ended)]
        if dead:
            log.warning("webhooks_dead", n=len(dead))

    async def _measure(self) -> None:
        while True:
            try:
                async with asyncio.timeout(QUERY_S), self._pool.acquire() as conn:
                    found = await webhooks.levels(conn)
            except AWAY:
                pass
            else:
                WEBHOOKS_WAITING.set(found.waiting)
                WEBHOOKS_OLDEST.set(max(0, self._clock() - found.oldest) / 1000 if found.oldest else 0)
                WEBHOOKS_DEAD.set(found.dead)
            await asyncio.sleep(MEASURE_S)
