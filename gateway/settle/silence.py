"""Receipts that never came: a message that is only `sent` 72 h after it was becomes `unknown`.

Owns the place up to which acceptances have been looked at, a time kept among the consumer's offsets: it moves in the
transaction that writes what was found, like any partition's, so that a crash looks again and changes nothing twice. A
look is one bounded query; nothing is looked for while records wait to be settled, for the receipt may be among them.
`unknown` is not final: a receipt that comes after all replaces it.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.contract.ids import id_time_ms
from gateway.records import settlement, silence
from gateway.records.connection import Connection
from gateway.settle.buffer import Buffer
from gateway.settle.fold import LATE_MS

AFTER_MS = 72 * 3_600_000
"""How long a receipt may take (FACTS, Receipts)."""
EXAMINED = 10_000
"""Rows a look, more than ever share a millisecond."""
EVERY_S = 60.0
PLACE = ("silence", 0)
"""Where the position is kept; no topic has this name."""


class Silence:
    """The position of one tenure. `clock` gives Unix milliseconds."""

    def __init__(self, consumer: str, clock: Callable[[], int]) -> None:
        self._consumer, self._clock = consumer, clock
        self._at_ms = 0
        self._next_s = 0.0

    async def begin(self, conn: Connection) -> None:
        """Go on where PostgreSQL says; at first with the oldest messages there are."""
        stored = await settlement.offsets(conn, self._consumer)
        if PLACE not in stored:
            oldest = await silence.first_ms(conn)
            start = max(0, self._clock() - AFTER_MS - LATE_MS if oldest is None else oldest)
            await settlement.begin_offsets(conn, self._consumer, {PLACE: start})
            stored = await settlement.offsets(conn, self._consumer)
        self._at_ms = stored[PLACE]

    def due(self, now_s: float) -> bool:
        """Whether to look again (monotonic seconds)."""
        return now_s >= self._next_s

    async def look(self, conn: Connection, buffer: Buffer, now_s: float) -> None:
        """Say in the buffer what has been silent for too long."""
        now_ms = self._clock()
        sent_by_ms, until_ms = now_ms - AFTER_MS, now_ms - AFTER_MS - LATE_MS
        more = False
        if until_ms > self._at_ms:
            found = await silence.look(conn, self._at_ms, until_ms, sent_by_ms, EXAMINED)
            more = found.examined == EXAMINED and found.last is not None
            following = max(self._at_ms + 1, id_time_ms(found.last)) if more and found.last else until_ms
            buffer.silent(found.silent, now_ms, sent_by_ms)
            buffer.move(PLACE, self._at_ms, following)
            self._at_ms = following
        if not more and (late := await silence.late(conn, sent_by_ms, EXAMINED)):
            buffer.silent(late, now_ms, sent_by_ms)
            buffer.looked_at += late
            buffer.move(PLACE, self._at_ms, self._at_ms)
        self._next_s = now_s + (0.0 if more else EVERY_S)
