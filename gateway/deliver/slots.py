"""How much may be in flight to one carrier: a window of messages and a rate, 30 % of both kept for urgent classes.

Verification and transactional messages may use everything and are served first; marketing and consent messages may use
70 %, so a campaign that fills the carrier still leaves room for a code. One object per carrier and process, one event
loop. Nothing survives a crash, and nothing needs to: what was in flight is for the next owner's review.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.contract.decision import Class
from gateway.telemetry import SLOTS

URGENT = frozenset({Class.VERIFICATION, Class.TRANSACTIONAL})
RESERVED = 0.3
BATCH = 64
BURST_S = 0.25
BACK_OFF_FIRST_S = 0.1
BACK_OFF_MOST_S = 5.0


@dataclass(slots=True)
class Bucket:
    """Tokens of one rate. A take may overdraw it once; the next waits until the debt is paid, so the rate holds."""

    rate: float
    tokens: float
    at: float

    def wait_s(self, now: float) -> float:
        """Seconds until something may be taken."""
        self.tokens = min(self.tokens + (now - self.at) * self.rate, self.rate * BURST_S)
        self.at = now
        return 0.0 if self.tokens > 0 else (1e-4 - self.tokens) / self.rate


@dataclass(eq=False, slots=True)
class _Waiter:
    n: int
    granted: asyncio.Future[None]


class Slots:
    """Slots of one carrier. `window`: most messages in flight; `rate`: messages a second; both of this process."""

    def __init__(self, carrier: str, *, window: int, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._carrier = carrier
        self._clock = clock
        self._window, self._share = window, max(1, int(window * (1 - RESERVED)))
        now = clock()
        self._all = Bucket(rate, rate * BURST_S, now)
        self._rest = Bucket(rate * (1 - RESERVED), rate * (1 - RESERVED) * BURST_S, now)
        self._used = self._used_by_rest = 0
        self._urgent: deque[_Waiter] = deque()
        self._patient: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._quiet_until = 0.0
        self._back_off_s = 0.0

    @property
    def used(self) -> int:
        """Messages in flight."""
        return self._used

    def most(self, cls: Class) -> int:
        """The most that one `take` may ask for: a batch, or less where window or rate are small."""
        window, rate = (self._window, self._all.rate) if cls in URGENT else (self._share, self._rest.rate)
        return max(1, min(BATCH, window, int(rate * BURST_S)))

    async def take(self, n: int, cls: Class) -> None:
        """Wait for `n` slots (at most `most(cls)`), first come first served within a rank, urgent classes first."""
        queue = self._urgent if cls in URGENT else self._patient
        waiter = _Waiter(n, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        self._serve()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.free(n, cls)
            elif waiter in queue:
                queue.remove(waiter)
            raise

    def free(self, n: int, cls: Class) -> None:
        """Give `n` slots back."""
        self._used -= n
        if cls not in URGENT:
            self._used_by_rest -= n
        self._serve()

    def back_off(self, after_s: float | None = None) -> None:
        """The carrier took nothing of a whole batch: grant nothing for a while, longer each time in a row."""
        self._back_off_s = min(max(self._back_off_s * 2, BACK_OFF_FIRST_S), BACK_OFF_MOST_S)
        wait_s = max(self._back_off_s, min(after_s or 0.0, BACK_OFF_MOST_S))
        self._quiet_until = max(self._quiet_until, self._clock() + wait_s)

    def recovered(self) -> None:
        """The carrier took something."""
        self._back_off_s = 0.0

    def _serve(self) -> None:
        """Grant to waiters in order until one must wait; the urgent queue first."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock()
        wait_s = self._quiet_until - now
        if wait_s <= 0:
            wait_s = self._grant(self._urgent, now, urgent=True)
            if not self._urgent:
                wait_s = self._grant(self._patient, now, urgent=False)
        if wait_s > 0 and (self._urgent or self._patient):
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._serve)
        SLOTS.set(self._used, self._carrier)

    def _grant(self, queue: deque[_Waiter], now: float, *, urgent: bool) -> float:
        """Grant from one queue; seconds until the rate lets the next one through, 0 when only `free` can."""
        while queue:
            n = queue[0].n
            if queue[0].granted.done():  # cancelled while it waited
                queue.popleft()
                continue
            if self._used + n > self._window or (not urgent and self._used_by_rest + n > self._share):
                return 0.0
            wait_s = self._all.wait_s(now) if urgent else max(self._all.wait_s(now), self._rest.wait_s(now))
            if wait_s > 0:
                return wait_s
            waiter = queue.popleft()
            self._used += n
            self._all.tokens -= n
            if not urgent:
                self._used_by_rest += n
                self._rest.tokens -= n
            waiter.granted.set_result(None)
        return 0.0
