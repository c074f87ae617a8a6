"""The clocks of complaints: cases that nobody answers in time, days that nobody signs off, acts the ledger has not yet.

Owns no table. A case becomes overdue in the transaction that raises its alert, once; a missing day's alert has a key of
its date and source, and days that nobody looked at are made up for. An act is written into the ledger after it was
done, as an event whose id is the act's own, and the act then learns its place: a crash in between appends the same
event again, which changes nothing. Several processes may run this at once. Outages are waited out; the clocks of cases
go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from asyncpg import Pool

from gateway.contract.consent import Event, EventKind
from gateway.contract.health import Alert
from gateway.intake.complaints import Means
from gateway.intake.resolving import rematch
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.events import SYSTEM
from gateway.records import alerts, figures
from gateway.records.connection import AWAY
from gateway.records.figures import Late, Untold
from gateway.rules.complaint_days import bounds, due, missing
from gateway.telemetry import CASES_OVERDUE, FIGURES_MISSING, logger

log = logger("settle")

EVERY_S = 5.0
DEADLINE_S = 10.0
PAGE = 500
MINUTE_MS = 60_000
OVERDUE = "case.overdue"
MISSING = "complaints.file_missing"


class Cases:
    """Looks every few seconds. `expected`: the sources of daily files; `clock` gives Unix milliseconds.

    `means`: what complaints are matched with again; none while the registry has not been read.
    """

    def __init__(
        self,
        pool: Pool[Any],
        appender: Appender,
        zone: ZoneInfo,
        expected: Sequence[str],
        clock: Callable[[], int],
        means: Callable[[], Means | None] = lambda: None,
    ) -> None:
        self._pool, self._appender, self._zone = pool, appender, zone
        self._expected, self._clock, self._means = expected, clock, means
        self._after: str | None = None

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await self.look()
            except (*AWAY, LedgerUnavailable) as fault:
                log.warning("cases_wait", error=type(fault).__name__)
            except Exception as fault:
                log.exception("cases_failed", error=type(fault).__name__)
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Everything that is due now."""
        while await self.overdue() == PAGE:
            pass
        async with self._pool.acquire() as conn:
            CASES_OVERDUE.set(await figures.late(conn, self._clock()))
        await self.figures_missing()
        while await self.tell() == PAGE:
            pass
        await self.rematch()

    async def rematch(self) -> int:
        """Match what nothing matched when it came, its message's row being late; how many found theirs."""
        means = self._means()
        if means is None:
            return 0
        found, self._after = await rematch(means, self._clock(), self._after)
        if found:
            log.info("complaints_rematched", n=found)
        return found

    async def overdue(self) -> int:
        """Raise the alerts of cases that were not answered in time; how many."""
        now = self._clock()
        async with self._pool.acquire() as conn, conn.transaction():
            late = await figures.overdue(conn, now, PAGE)
            for case in late:
                await alerts.put(conn, _overdue(case, now))
        return len(late)

    async def figures_missing(self) -> list[tuple[date, str]]:
        """Raise the alerts of days and sources whose figures are due and missing; which were raised now."""
        if not self._expected:
            return []
        days = due(self._clock(), self._zone)
        keys = {_key(day, source): (day, source) for day in days for source in self._expected}
        async with self._pool.acquire() as conn:
            stated = await figures.stated(conn, days[-1], days[0])
            # Nobody knows a day that goes on: what was stated before its end is no sign-off.
            signed = {(one.date, one.source) for one in stated if one.at >= bounds(one.date, self._zone)[1]}
            told = {keys[key] for key in await alerts.known(conn, keys)}
            found = missing(days, self._expected, signed | told)
            raised = [one for one in found if await alerts.put(conn, _missing(*one))]
        unsigned = [source for _, source in {*told, *found} - signed]
        for source in self._expected:
            FIGURES_MISSING.set(unsigned.count(source), source)
        return raised

    async def tell(self) -> int:
        """Write acts and statements into the ledger; how many."""
        async with self._pool.acquire() as conn:
            untold = await figures.untold(conn, PAGE)
        if not untold:
            return 0
        appended = await self._appender.append([_event(one) for one in untold])
        told = [(one, done.seq) for one, done in zip(untold, appended, strict=True) if done.seq is not None]
        async with self._pool.acquire() as conn:
            await figures.tell(conn, told)
        return len(told)


def _key(day: date, source: str) -> str:
    return f"{MISSING}/{source}/{day.isoformat()}"


def _missing(day: date, source: str) -> Alert:
    return Alert(
        key=_key(day, source),
        kind=MISSING,
        severity="warning",
        scope=source,
        summary=f"Nobody signed off the complaints of {source} for {day.isoformat()}",
        detail={"date": day.isoformat(), "source": source},
    )


def _overdue(case: Late, now_ms: int) -> Alert:
    late = max(0, now_ms - case.due_at) // MINUTE_MS
    return Alert(
        key=f"{OVERDUE}/{case.id}",
        kind=OVERDUE,
        severity="critical",
        scope=case.id,
        summary=f"A complaint from {case.source} was not answered in time",
        detail={"source": case.source, "sender": case.sender, "state": case.state, "minutes_late": late},
    )


def _event(one: Untold) -> Event:
    return Event(
        event_id=one.name,
        kind=EventKind.CASE,
        number=None,
        subject=SYSTEM,
        occurred_at_ms=one.at,
        data={**one.data, "by": "assent"},
    )
