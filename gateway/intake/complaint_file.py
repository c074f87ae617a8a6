"""A file of complaints taken in as its bytes come: a few batches at a time, in bounded memory.

While one batch waits for the ledger another is matched and a third recorded; their answers are counted in the order of
the lines. A file that breaks off, or a process that dies, leaves the batches taken in so far; the whole file again
completes it, for what is recorded already is recognised.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from gateway.contract.codes import MEANINGS
from gateway.contract.complaint import Matching
from gateway.contract.decision import Refusal
from gateway.intake.complaints import Means, Taken, take
from gateway.ledger.appender import LedgerUnavailable
from gateway.records.connection import AWAY
from gateway.rules.complaint_file import Bad, File, Line

BATCH = 250
"""Small enough that what several of them append together is answered in time by a busy ledger too."""
MOST_TOLD = 100
"""Rejected lines that are told; of the others only the number is."""


@dataclass(slots=True)
class Counts:
    """What became of a file's lines; the header and empty lines are not counted."""

    lines: int = 0
    recorded: int = 0
    duplicates: int = 0
    rejected: int = 0
    matches: dict[Matching, int] = field(default_factory=lambda: dict.fromkeys(Matching, 0))
    """Of those recorded now."""
    rejects: list[Bad] = field(default_factory=list)
    """The first ones."""


class Importing:
    """One file. `told` hears of each rejected line; `tries`: how often a batch is tried while a part is away.

    `at_once`: batches under way together; each takes a connection or two of the pool.
    """

    def __init__(
        self,
        means: Means,
        file: File,
        by: str,
        clock: Callable[[], int],
        told: Callable[[Bad], None] = lambda _: None,
        tries: int = 1,
        at_once: int = 2,
    ) -> None:
        self._means, self._file, self._by, self._clock = means, file, by, clock
        self._told, self._tries, self._at_once = told, tries, at_once
        self._waiting: list[Line] = []
        self._going: deque[tuple[list[Line], asyncio.Task[list[Taken | Refusal]]]] = deque()
        self.counts = Counts()

    async def run(self, pieces: AsyncIterator[bytes]) -> Counts:
        """Take in everything. Raises HeaderError, and what the ledger and the database raise when away."""
        try:
            async for piece in pieces:
                for one in self._file.push(piece):
                    await self._add(one)
            for one in self._file.close():
                await self._add(one)
            await self._take()
            while self._going:
                await self._counted()
        except asyncio.CancelledError:
            for _, task in self._going:
                task.cancel()
            raise
        finally:  # where the file breaks off, what came of it is taken in all the same
            await asyncio.gather(*(task for _, task in self._going), return_exceptions=True)
        return self.counts

    async def _add(self, one: Line | Bad) -> None:
        self.counts.lines += 1
        if isinstance(one, Bad):
            self._reject(one)
            return
        self._waiting.append(one)
        if len(self._waiting) == BATCH:
            await self._take()

    async def _take(self) -> None:
        """Begin with what waits, once there is room."""
        if not self._waiting:
            return
        while len(self._going) >= self._at_once:
            await self._counted()
        lines, self._waiting = self._waiting, []
        self._going.append((lines, asyncio.create_task(self._patiently(lines))))

    async def _counted(self) -> None:
        """Wait for the oldest batch under way, and count what became of it."""
        lines, task = self._going[0]
        answers = await task
        self._going.popleft()
        counts = self.counts
        for line, taken in zip(lines, answers, strict=True):
            if isinstance(taken, Refusal):
                why = taken.detail or MEANINGS[taken.code].title
                self._reject(Bad(line.line, "ref" if line.told.ref else None, why))
            elif taken.duplicate:
                counts.duplicates += 1
            else:
                counts.recorded += 1
                counts.matches[taken.match] += 1

    async def _patiently(self, lines: list[Line]) -> list[Taken | Refusal]:
        for tried in range(1, self._tries + 1):
            try:
                return await take(self._means, [one.told for one in lines], self._by, self._clock())
            except (*AWAY, LedgerUnavailable):
                if tried == self._tries:
                    raise
                await asyncio.sleep(tried)
        raise AssertionError

    def _reject(self, bad: Bad) -> None:
        self.counts.rejected += 1
        if len(self.counts.rejects) < MOST_TOLD:
            self.counts.rejects.append(bad._replace(cells=()))
        self._told(bad)
