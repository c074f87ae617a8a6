"""The last day of Kafka, put back into emptied lanes: results, then holds, then the class topics, as they come.

Promises bounded memory: held are the outcomes (see `outcomes.py`), the last seconds of each partition, and the ids of
what may be copies in the backlog; the rest streams, a fetch at a time, with a few writes under way. Nothing is decided
here (see `returning.py`). Whatever fails is raised, and everything is begun again; repeating is harmless.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from gateway import telemetry
from gateway.contract.decision import Class
from gateway.contract.ids import LANES, id_time_ms
from gateway.guard import Guard, Rebound, Restored
from gateway.ledger.outcomes import Outcomes
from gateway.ledger.returning import Place, Returning
from gateway.stream import Past, Topics
from gateway.stream import Place as Partition
from gateway.stream.past import Span

Progress = Callable[[str, int, int], None]
"""(stage, done, in all). Stages: `recipients`, `landing` (s), `messages` (records read), `long windows`, `replies`."""

MESSAGES = "messages"
BACK_MS = 26 * 3_600_000
"""A rolling day, or a calendar day of 25 hours, and an hour for clocks that differ."""
NEAR_MS = 20_000
"""Records of one millisecond's admissions lie in a partition within this of each other."""
COPY_MS = 60_000
"""A record appended so long after its id was made may be a copy of one below the commit."""
CHUNK = 2048
STRETCH = 256
"""Records decoded between two turns of the loop: what is being written goes on meanwhile."""
WRITING = 3
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)

_log = telemetry.logger("ledger")


class Day:
    """One reading; used once."""

    def __init__(
        self, guard: Guard, past: Past, topics: Topics, outcomes: Outcomes, returning: Returning, progress: Progress
    ) -> None:
        self._past, self._topics, self._outcomes, self._returning = past, topics, outcomes, returning
        self._writer, self._progress = _Writer(guard), progress
        self._lanes: frozenset[int] = frozenset()
        self._done = self._total = 0

    async def put_back(self, lanes: frozenset[int], now_ms: int) -> None:
        """Everything of these lanes since `BACK_MS` before `now_ms`."""
        began, topics, since, self._lanes = time.monotonic(), self._topics, now_ms - BACK_MS, lanes
        committed: dict[Partition, int] = {}
        for cls in Class:
            committed |= await self._past.committed(topics.deliver_group(cls), topics.messages(cls))
        messages = await self._past.spans([topics.messages(cls) for cls in Class], since)
        held = await self._past.spans([topics.held], since)
        results = await self._past.spans([topics.results], since)
        backlog = {place: (max(first, committed[place]), end) for place, (first, end) in messages.items()}
        spans = (results, held, backlog, messages)
        self._total = sum(max(0, end - first) for some in spans for first, end in some.values())
        self._tell(0)
        try:
            await self._read_results(results)
            await self._read_held(held)
            await self._read_backlog(backlog)
            await self._read_messages(messages, committed)
            await self._writer.finish()
        finally:
            await self._writer.stop()
        seconds = time.monotonic() - began
        _log.info("day_put_back", records=self._done, outcomes=len(self._outcomes), seconds=round(seconds, 1))

    async def _read_results(self, spans: Mapping[Partition, Span]) -> None:
        lanes = frozenset(f"{lane:x}".encode()[0] for lane in self._lanes)
        take = self._outcomes.take
        async for _, records in self._past.read(spans):
            for record in records:
                if record.key and record.value and record.key[-1] in lanes:
                    take(record.key, record.value, record.timestamp)
            self._tell(len(records))

    async def _read_held(self, spans: Mapping[Partition, Span]) -> None:
        held = self._returning.held
        async for _, records in self._past.read(spans):
            items = list(self._made(records, lambda said, _: held(said)))
            for start in range(0, len(items), CHUNK):
                await self._writer.messages(items[start : start + CHUNK])
            await self._writer.bindings()
            self._tell(len(records))
        await self._writer.settle()  # a release must find its hold

    async def _read_backlog(self, spans: Mapping[Partition, Span]) -> None:
        """Ids of what waits above the commit and may be below it too; holds release a bounded number at a time."""
        async for _, records in self._past.read(spans):
            for record in records:
                if record.value and self._ours(record.key):
                    self._note(record)
            self._tell(len(records))

    def _note(self, record: Any) -> None:
        try:
            name = orjson.loads(record.value)["id"]
            if record.timestamp - id_time_ms(name) > COPY_MS:
                self._returning.waiting.add(name)
        except UNREADABLE:
            return

    async def _read_messages(self, spans: Mapping[Partition, Span], committed: Mapping[Partition, int]) -> None:
        gathered = {place: _Gathered() for place in spans}
        published = self._returning.published
        async for place, records in self._past.read(spans):
            number, commit = place.partition, committed[place]
            for start in range(0, len(records), STRETCH):
                stretch = records[start : start + STRETCH]
                items = self._made(stretch, partial(_published, published, number, commit))
                for chunk in gathered[place].add(items, last=stretch[-1].offset + 1 >= spans[place][1]):
                    await self._writer.messages(chunk)
                await self._writer.bindings()
                self._tell(len(stretch))
                await asyncio.sleep(0)

    def _made(
        self, records: Sequence[Any], make: Callable[[Mapping[str, Any], int], Restored | None]
    ) -> Iterator[Restored]:
        """What records of these lanes become; bindings are noted. What cannot be read is a dead letter's affair."""
        loads, binding, ours = orjson.loads, self._returning.binding, self._ours
        for record in records:
            value, mine = record.value, ours(record.key)
            if not value or not (mine or b'"bound":"' in value):
                continue
            try:
                said = loads(value)
                self._writer.bind(binding(said))
                item = make(said, record.offset) if mine else None
            except UNREADABLE:
                continue
            if item is not None:
                yield item

    def _ours(self, key: bytes | None) -> bool:
        """Whether a record, by its key, belongs to these lanes. Without a key it may."""
        return len(self._lanes) == LANES or not key or key[0] & 15 in self._lanes

    def _tell(self, records: int) -> None:
        self._done += records
        self._progress(MESSAGES, self._done, self._total)


def _published(
    make: Callable[[Mapping[str, Any], Place], Restored | None],
    number: int,
    committed: int,
    said: Mapping[str, Any],
    offset: int,
) -> Restored | None:
    return make(said, Place(number, offset, committed))


class _Gathered:
    """One partition's messages until their neighbours in time have been read, so that equal stamps go together."""

    def __init__(self) -> None:
        self._items: list[Restored] = []
        self._enough = CHUNK

    def add(self, items: Iterator[Restored], *, last: bool) -> list[list[Restored]]:
        """Whole chunks to write now; everything with the `last`."""
        self._items += items
        if not last and len(self._items) < self._enough:
            return []
        ready, self._items = self._items, []
        if not last:
            edge = max(item.stamp_ms for item in ready) - NEAR_MS
            self._items = [item for item in ready if item.stamp_ms > edge]
            ready = [item for item in ready if item.stamp_ms <= edge]
        self._enough = len(self._items) + CHUNK
        return [ready] if ready else []


class _Writer:
    """Writes to the guard beside the reading, a few chunks at a time."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._running: list[asyncio.Task[Any]] = []
        self._noted: list[Rebound] = []

    async def messages(self, items: Sequence[Restored]) -> None:
        """Begin to write; waits while too much is under way. Raises what an earlier write raised."""
        await self._begin(self._guard.restore(items))

    def bind(self, binding: Rebound | None) -> None:
        """Note a binding to put back."""
        if binding is not None:
            self._noted.append(binding)

    async def bindings(self) -> None:
        """Write the bindings noted, once they are worth a call."""
        if len(self._noted) >= CHUNK:
            noted, self._noted = self._noted, []
            await self._begin(self._guard.rebind(noted))

    async def settle(self) -> None:
        """Wait for what is under way."""
        while self._running:
            await self._running.pop(0)

    async def finish(self) -> None:
        """Write all that is left, and wait."""
        noted, self._noted = self._noted, []
        await self._guard.rebind(noted)
        await self.settle()

    async def stop(self) -> None:
        """Give up what is still under way."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _begin(self, work: Any) -> None:
        if len(self._running) >= WRITING:
            await self._running.pop(0)
        self._running.append(asyncio.ensure_future(work))
