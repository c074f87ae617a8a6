"""Clicks of campaign links that this worker has seen and not yet added to the buckets.

Owns the counts of at most a second, and who was counted this minute: digests under a key that this process drew and
never tells, so no address is kept and none can be guessed from them. The same address and browser counts once a minute
for a link, in each worker. A crash loses the second that was gathered; an addition whose answer was lost is made again
under its number, and counts once (`records.links`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections import Counter, OrderedDict
from typing import Any

from asyncpg import Pool

from gateway.records import links
from gateway.records.connection import AWAY
from gateway.records.links import Link
from gateway.telemetry import SIGNALS, logger

log = logger("edge")
EVERY_S = 1.0
DEADLINE_S = 5.0
MOST_SEEN = 100_000
"""Visitors told apart in a minute; whoever comes after them is left out, and a flood with them."""
MOST_LINKS = 4_096
MOST_WAITING = 64
NOTHING_S = 60.0
"""How long it is believed that there is no link of a name; a link, once found, never changes."""


class Clicks:
    """What one worker gathers."""

    def __init__(self) -> None:
        self._key, self._worker, self._n = os.urandom(32), str(uuid.uuid4()), 0
        self._minute, self._seen = 0, set[bytes]()
        self._counts: Counter[tuple[int, int]] = Counter()
        self._adding: Counter[tuple[int, int]] = Counter()
        self._links: OrderedDict[str, Link] = OrderedDict()
        self._nothing, self._nothing_since = set[str](), 0.0
        self._looking, self._waiting = asyncio.Lock(), 0

    def __repr__(self) -> str:
        return "Clicks(…)"

    def visit(self, link: Link, ip: str, agent: str, minute: int) -> bool:
        """Count a person's visit; False when the same one was counted this minute."""
        if minute != self._minute:
            self._minute, self._seen = minute, set()
        told = f"{link.id}\0{ip}\0{agent}".encode("utf-8", "surrogatepass")
        name = hashlib.blake2b(told, digest_size=16, key=self._key).digest()
        if name in self._seen or len(self._seen) >= MOST_SEEN:
            return False
        self._seen.add(name)
        self._counts[minute, link.origin] += 1
        return True

    async def link(self, pool: Pool[Any], name: str, now_s: float) -> Link | None:
        """The link of a public name. Raises TimeoutError where too many ask for names that are not known here.

        One name is looked up at a time: whoever tries names holds up others that do, and no message.
        """
        if now_s - self._nothing_since > NOTHING_S or len(self._nothing) >= MOST_LINKS:
            self._nothing, self._nothing_since = set(), now_s
        if name in self._links or name in self._nothing:
            return self._links.get(name)
        if self._waiting >= MOST_WAITING:
            raise TimeoutError
        self._waiting += 1
        try:
            async with asyncio.timeout(DEADLINE_S), self._looking, pool.acquire() as conn:
                found = await links.find(conn, name)
        finally:
            self._waiting -= 1
        if found is None:
            self._nothing.add(name)
            return None
        self._links[name] = found
        if len(self._links) > MOST_LINKS:
            self._links.popitem(last=False)
        return found

    async def add(self, pool: Pool[Any]) -> None:
        """Add what was gathered to the buckets; what could not be is added under its number the next time."""
        if not self._adding:
            if not self._counts:
                return
            self._adding, self._counts, self._n = self._counts, Counter(), self._n + 1
        async with asyncio.timeout(DEADLINE_S), pool.acquire() as conn:
            await links.add_clicks(conn, self._worker, self._n, self._adding)
        SIGNALS.add(self._adding.total(), "click")
        self._adding = Counter()

    async def run(self, pool: Pool[Any]) -> None:
        """Add for ever; cancelled, once more."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                await self._tried(pool)
        finally:
            await asyncio.shield(asyncio.create_task(self._tried(pool)))

    async def _tried(self, pool: Pool[Any]) -> None:
        try:
            await self.add(pool)
        except AWAY as fault:
            log.warning("clicks_wait", error=type(fault).__name__)
        except Exception as fault:
            log.exception("clicks_failed", error=type(fault).__name__)
