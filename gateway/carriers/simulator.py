"""A carrier that needs no network: answers after a seeded latency and emits its receipts itself.

One wheel of 10 ms slots and one task hold every receipt to come, so a message costs a list append, never a task.
On a crash the receipts still in the wheel are lost, as a real carrier's would be if nobody asked: those messages stay
`sent` until settle makes them `unknown`. The wheel is bounded; a full one throttles submits (`Retry`).

It can be asked about the messages whose answers it lost: a bounded memory of them goes with the process, and what it
does not remember is `StillUnknown`, never `NeverSeen`.
"""

import asyncio
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Sequence

from gateway.carriers.carrier import (
    Doubtful,
    Known,
    NeverSeen,
    Retry,
    Seen,
    StillUnknown,
    Submit,
    Submitted,
    Taken,
    Unwritten,
)
from gateway.carriers.outcomes import CONNECTOR, SIMULATOR_NUMBERS, Profile, Report, answer, draw, outcome_of, reports
from gateway.carriers.receipts import meaning
from gateway.contract.decision import Cause
from gateway.contract.wire import Receipt
from gateway.telemetry import logger

__all__ = ["SIMULATOR_NUMBERS", "Emit", "Profile", "Simulator"]

Emit = Callable[[Sequence[Receipt]], Awaitable[None]]

TICK_S = 0.01
EMIT_AT_MOST = 500
WHEEL_AT_MOST = 500_000
CLOSE_WITHIN_S = 2.0
REMEMBERED = 10_000

_log = logger("carriers")


class Simulator:
    """`emit` is awaited with receipts, in batches; it retries its own faults and is called by one task at a time."""

    def __init__(self, emit: Emit, *, seed: int = 1, profile: Profile | None = None, name: str = "simulator") -> None:
        self._emit = emit
        self._seed = seed.to_bytes(16, "big", signed=True)
        self._profile = profile or Profile()
        self._shares = self._profile.shares()
        self._name = name
        self._wheel: defaultdict[int, list[tuple[Report, str, str]]] = defaultdict(list)
        self._waiting = 0
        self._tick = self._tick_now()
        self._turning: asyncio.Task[None] | None = None
        self._lost: OrderedDict[str, Known] = OrderedDict()

    @property
    def name(self) -> str:
        """The name in routes, results, receipts and metrics."""
        return self._name

    @property
    def waiting(self) -> int:
        """Receipts still to come."""
        return self._waiting

    async def submit(self, messages: Sequence[Submit], *, write_by: float | None = None) -> list[Submitted]:
        """Answer after the latency of the batch's first message. Nothing is late here: the wire is this process."""
        if write_by is not None and time.monotonic() > write_by:
            return [Unwritten()] * len(messages)
        if self._turning is None:
            self._turning = asyncio.create_task(self._turn(), name="simulator-receipts")
        if self._waiting + 3 * len(messages) > WHEEL_AT_MOST:
            return [Retry("THROTTLED", Cause.FLOW)] * len(messages)
        answers: list[Submitted] = []
        slowness = 1.0
        early: list[Receipt] = []
        for message in messages:
            chance = draw(self._seed, message.ref, message.attempt)
            slowness = chance.slowness
            outcome = outcome_of(message.to, chance.point, self._shares)
            answered = answer(outcome, chance.carrier_id, message.attempt)
            answers.append(answered)
            if isinstance(answered, Doubtful):
                self._remember(message.ref, chance.carrier_id, outcome)
            if isinstance(answered, Taken | Doubtful):
                self._schedule(message.ref, chance.carrier_id, outcome, chance.slowness, early)
        if early:
            await self._emit_surely(early)
        await asyncio.sleep(self._profile.latency_s * slowness)
        return answers

    @property
    def can_query(self) -> bool:
        """It can be asked."""
        return True

    async def query(self, refs: Sequence[str]) -> list[Known]:
        """What became of messages whose answers were lost; one that vanished was never seen."""
        return [self._lost.get(ref, StillUnknown()) for ref in refs]

    def _remember(self, ref: str, carrier_id: str, outcome: str) -> None:
        known: Known = NeverSeen()
        for report in reports(outcome, 0.0)[:1]:
            status, cause = meaning(CONNECTOR, report.word, report.code)
            known = Seen(status, cause, report.word, report.code, carrier_id)
        self._lost[ref] = known
        if len(self._lost) > REMEMBERED:
            self._lost.popitem(last=False)

    def _schedule(self, ref: str, carrier_id: str, outcome: str, slowness: float, early: list[Receipt]) -> None:
        for report in reports(outcome, self._profile.receipt_s * slowness):
            if report.after_s < 0:
                early.append(self._receipt(report, ref, carrier_id, _now_ms()))
                continue
            tick = max(self._tick_now(self._profile.latency_s + report.after_s), self._tick + 1)
            self._wheel[tick].append((report, ref, carrier_id))
            self._waiting += 1

    def _receipt(self, report: Report, ref: str, carrier_id: str, now_ms: int) -> Receipt:
        status, cause = meaning(CONNECTOR, report.word, report.code)
        return Receipt(
            carrier=self._name,
            carrier_id=carrier_id,
            ref=ref if report.ref else None,
            status=status,
            cause=cause,
            raw_status=report.word,
            raw_code=report.code,
            at=now_ms,
            received_at=now_ms,
        )

    async def _turn(self) -> None:
        """Emit what is due, of however many ticks an `emit` took; its faults are retried with the same receipts."""
        while True:
            now = self._tick_now()
            due: list[tuple[Report, str, str]] = []
            while self._tick < now:
                self._tick += 1
                due += self._wheel.pop(self._tick, ())
            for start in range(0, len(due), EMIT_AT_MOST):
                await self._report(due[start : start + EMIT_AT_MOST])
            await asyncio.sleep(TICK_S)

    async def _report(self, due: Sequence[tuple[Report, str, str]]) -> None:
        now_ms = _now_ms()
        await self._emit_surely([self._receipt(report, ref, carrier_id, now_ms) for report, ref, carrier_id in due])
        self._waiting -= len(due)

    async def _emit_surely(self, receipts: Sequence[Receipt]) -> None:
        while True:
            try:
                await self._emit(receipts)
            except Exception as fault:  # noqa: BLE001 - whatever the topic's fault is, the receipts must not be lost
                _log.warning("receipts_not_emitted", error=type(fault).__name__, receipts=len(receipts))
                await asyncio.sleep(0.2)
            else:
                return

    @staticmethod
    def _tick_now(ahead_s: float = 0.0) -> int:
        return int((time.monotonic() + ahead_s) / TICK_S)

    async def close(self) -> None:
        """Emit what is due soon, then stop."""
        if self._turning is None:
            return
        for _ in range(int(CLOSE_WITHIN_S / TICK_S)):
            if not self._waiting:
                break
            await asyncio.sleep(TICK_S)
        self._turning.cancel()
        await asyncio.gather(self._turning, return_exceptions=True)
        self._turning = None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
