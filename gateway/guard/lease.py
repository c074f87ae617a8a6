"""Client quotas and sender caps: each process prepays chunks of a period from one counter.

Never over the limit, slightly under it: what a process leased and did not use in its period is lost. A chunk is 1 % of
the limit, or what one call asks for where that is more. A crash loses at most a chunk. What a message paid and then did
not use, because it was refused for another reason, is given back to the process's own stock.
"""

import asyncio
import time
from collections.abc import Callable

from gateway.guard import keys
from gateway.guard.scripts import script
from gateway.guard.server import Server

CHUNKS = 100
MINUTE_S = 60
LIFE_S = 60
"""How long a counter outlives its period."""
KEPT_NAMES = 10_000


class _Held:
    """What this process holds of one name's current period."""

    __slots__ = ("left", "lock", "since_s")

    def __init__(self) -> None:
        self.since_s = -1
        self.left = 0
        self.lock = asyncio.Lock()


class Lease:
    """The quotas and caps of one process, by name: a client's id, or `sender/` and a sender's."""

    def __init__(self, server: Server, *, now_s: Callable[[], float] = time.time) -> None:
        self._server = server
        self._now_s = now_s
        self._held: dict[str, _Held] = {}

    def at_hand(self, name: str, n: int) -> bool:
        """Take `n` of what this process holds of this minute already, if that is enough: most calls need no more."""
        held = self._held.get(name)
        if held is None or held.left < n or held.since_s != int(self._now_s() // MINUTE_S) * MINUTE_S:
            return False
        held.left -= n
        return True

    async def take(self, name: str, limit: int, n: int = 1, *, day: tuple[int, int] | None = None) -> float | None:
        """Take `n` at once: none when they fit, else seconds until the next period. Raises GuardUnavailable.

        The period is this minute, or `day`: the Unix seconds at which it begins and ends.
        """
        held = self._held.get(name)
        if held is None:
            if len(self._held) >= KEPT_NAMES:
                self._held.clear()
            held = self._held[name] = _Held()
        since_s = day[0] if day is not None else int(self._now_s() // MINUTE_S) * MINUTE_S
        if held.since_s == since_s and held.left >= n:
            held.left -= n
            return None
        async with held.lock:
            return await self._refill(held, name, limit, n, (since_s, day[1] if day else since_s + MINUTE_S))

    def give(self, name: str, n: int, taken_after_s: float) -> None:
        """Give back what was taken and not used, where the period it was taken from is still the one held.

        `taken_after_s`: a time at or before the taking. What was taken from an earlier period is lost: nobody leased it
        in this one.
        """
        held = self._held.get(name)
        if held is not None and held.since_s <= taken_after_s:
            held.left += n

    async def _refill(self, held: _Held, name: str, limit: int, n: int, period: tuple[int, int]) -> float | None:
        since_s, until_s = period
        if held.since_s != since_s:
            held.since_s, held.left = since_s, 0
        if held.left < n:
            wanted = max(n - held.left, limit // CHUNKS)
            life_s = until_s - since_s + LIFE_S
            taken: int = await self._server.run(script("lease"), [keys.quota(name, since_s)], [wanted, limit, life_s])
            held.left += taken
        if held.left < n:
            return max(1.0, until_s - self._now_s())
        held.left -= n
        return None
