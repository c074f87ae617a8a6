"""Client quotas: each process prepays chunks of a client's minute from one counter.

Never over the quota, slightly under it: what a process leased and did not use in its minute is lost. A chunk is 1 % of
the quota (0.6 s of it), or what one call asks for where that is more. A crash loses at most a chunk.
"""

import asyncio
import time
from collections.abc import Callable

from gateway.guard import keys
from gateway.guard.scripts import script
from gateway.guard.server import Server

CHUNKS = 100
LIFE_S = 120
KEPT_CLIENTS = 10_000


class _Held:
    """What this process holds of one client's current minute."""

    __slots__ = ("left", "lock", "minute")

    def __init__(self) -> None:
        self.minute = -1
        self.left = 0
        self.lock = asyncio.Lock()


class Lease:
    """The quotas of one process."""

    def __init__(self, server: Server, *, now_s: Callable[[], float] = time.time) -> None:
        self._server = server
        self._now_s = now_s
        self._held: dict[str, _Held] = {}

    async def take(self, client_id: str, quota_per_minute: int, n: int = 1) -> float | None:
        """Take `n` at once: none when they fit, else seconds until the next minute. Raises GuardUnavailable."""
        held = self._held.get(client_id)
        if held is None:
            if len(self._held) >= KEPT_CLIENTS:
                self._held.clear()
            held = self._held[client_id] = _Held()
        now = self._now_s()
        minute = int(now // 60)
        if held.minute == minute and held.left >= n:
            held.left -= n
            return None
        async with held.lock:
            return await self._refill(held, client_id, quota_per_minute, n)

    async def _refill(self, held: _Held, client_id: str, quota: int, n: int) -> float | None:
        now = self._now_s()
        minute = int(now // 60)
        if held.minute != minute:
            held.minute, held.left = minute, 0
        if held.left < n:
            wanted = max(n - held.left, quota // CHUNKS)
            held.left += await self._server.run(
                script("lease"), [keys.quota(client_id, minute)], [wanted, quota, LIFE_S]
            )
        if held.left < n:
            return 60.0 - now % 60
        held.left -= n
        return None
