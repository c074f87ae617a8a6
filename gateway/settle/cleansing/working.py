"""The loop that takes cleansings and works on them, a pass at a time; any number of processes share the jobs.

A list whose breaker opens gets a job by itself, within seconds, and once an opening. Nothing is suppressed but by what
a named person chose. A crash or an outage leaves the job where its last step left it; whoever takes it next goes on
from there. A job is divided, cleansed or undone first, and recorded as a whole in the ledger before its state says so.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from asyncpg import Pool

from gateway.contract.registry import Sender
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.many import Many
from gateway.records import cleansing, cleansing_people
from gateway.records.cleansing_people import LeaseLost, Work
from gateway.records.connection import AWAY
from gateway.records.partitions import DAY_MS
from gateway.rules.pack import Pack
from gateway.settle.cleansing import acting, dividing
from gateway.settle.cleansing.dividing import Means, Spans
from gateway.telemetry import logger

log = logger("settle")

LOOK_S = 1.0
TEND_S = 60.0
KEPT_DAYS = 183
"""How long it is kept who was on a cleansed list, and why."""
NEXT = {"gathering": "dividing", "dividing": "ready", "applying": "applied", "undoing": "undone"}
RECORDED = {"dividing": "divided", "applying": "applied", "undoing": "undone"}
OUTAGES = (*AWAY, LedgerUnavailable)


class Cleansing:
    """Works on cleansings; `run` it once. `senders`: of the registry, none while it has not been read."""

    def __init__(
        self,
        pool: Pool[Any],
        appender: Appender,
        senders: Callable[[], Mapping[str, Sender] | None],
        packs: Mapping[str, Pack],
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._pool, self._appender, self._clock = pool, appender, clock
        self._means = Means(pool, Many(pool, appender.keys), senders, packs, uuid.uuid4())
        self._spans = Spans()
        self._tended = -TEND_S

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; the step it is in is finished, and what it has is given back."""
        while not stop.is_set():
            busy = False
            try:
                busy = await self.once(stop)
            except LeaseLost:
                log.info("cleansing_taken_over")
            except OUTAGES as fault:
                log.warning("cleansing_waits", error=type(fault).__name__)
                await self._give_back()
            except Exception as fault:  # its lease runs, so that other jobs come first
                log.exception("cleansing_failed", error=type(fault).__name__)
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await stop.wait()
        await self._give_back()

    async def _give_back(self) -> None:
        with suppress(*AWAY):
            async with self._pool.acquire() as conn:
                await cleansing_people.give_back(conn, self._means.owner)

    async def once(self, stop: asyncio.Event | None = None) -> bool:
        """Look for open breakers and old jobs, then work on the oldest job for a pass; False where there is none."""
        if self._means.senders() is None:
            return False
        now = self._clock()
        async with self._pool.acquire() as conn:
            for scope in await cleansing.ask_opened(conn, now - cleansing.PERIOD_DAYS * DAY_MS, now):
                log.info("cleansing_begins", scope=scope.partition(":")[0])
            if time.monotonic() - self._tended >= TEND_S:
                self._tended = time.monotonic()
                await cleansing_people.tend(conn, ready_days=cleansing.READY_DAYS, kept_days=KEPT_DAYS)
            work = await cleansing_people.take(conn, self._means.owner)
        if work is None:
            return False
        await self._pass(work, stop)
        return True

    async def _pass(self, work: Work, stop: asyncio.Event | None) -> None:
        """Step by step to the end of the job's present pass, or until told to stop."""
        after: Work | None = work
        while after is not None:
            if stop is not None and stop.is_set():
                return
            work, after = after, await self._step(after)
            await asyncio.sleep(0)
        counts: dividing.Counts = {}
        digest = None
        if act := RECORDED.get(work.state):
            counts, digest = await dividing.counted(self._means, work)
            await acting.record(self._appender, work, act, counts, digest)
        async with self._pool.acquire() as conn:
            await cleansing_people.passed(conn, work, self._means.owner, NEXT[work.state], counts, digest)
        log.info("cleansing_passed", state=NEXT[work.state])

    async def _step(self, work: Work) -> Work | None:
        match work.state:
            case "gathering":
                return await dividing.gather(self._means, work, self._spans)
            case "dividing":
                return await dividing.divide(self._means, work)
            case "applying":
                return await acting.apply(self._means, self._appender, work)
            case _:
                return await acting.undo(self._means, self._appender, work)
