"""Whether settlement knows every message that a reply may answer: messages and replies have readers of their own.

Owns how long it has been waited. After a start, or behind a backlog, replies are read before the messages they answer
are written, and a refusal would end what was sent before those. So a batch that depends on it waits, its people's
provisional blocks in force meanwhile; after `MOST_S` it does not: what a port has sent is then as good as unknown, and
a refusal ends everything of the sender. It waits no more until settlement has caught up once. A crash begins the wait
anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.contract.decision import Class
from gateway.records import settlement
from gateway.records.connection import Connection
from gateway.stream import Reader, Topics

MOST_S = 15.0
SOONEST_MS = 1_000
"""Nobody answers a message sooner than this after it was accepted; settlement is mostly so far behind."""


class NotYetError(LookupError):
    """Messages from before a reply are not written yet."""


class Abreast:
    """Looks at where settlement of messages stands. `consumer`: whose offsets those are."""

    def __init__(
        self, reader: Reader, names: Topics, consumer: str, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._reader, self._label, self._consumer, self._monotonic = reader, names.label, consumer, monotonic
        self._topics = [names.messages(cls) for cls in Class if cls is not Class.MARKETING]
        self._since: float | None = None

    async def of(self, conn: Connection, at_ms: int) -> bool:
        """Whether all that was sent from service ports before this time (Unix ms) is written.

        Raises NotYetError where it is not and may soon be, or what PostgreSQL raises.
        """
        if await self._written(conn, at_ms - SOONEST_MS):
            self._since = None
            return True
        now = self._monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since < MOST_S:
            raise NotYetError
        return False

    async def _written(self, conn: Connection, at_ms: int) -> bool:
        wanted = await self._reader.since(at_ms, self._topics)
        if wanted is None:
            return False
        stored = await settlement.offsets(conn, self._consumer)
        return all(stored.get((self._label(place.topic), place.partition), 0) >= at for place, at in wanted.items())
