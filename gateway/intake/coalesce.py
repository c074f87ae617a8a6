"""One call for whatever gathered while the last one was in flight (MECHANISMS 1, DESIGN: hot path).

At rest a group goes out in the next turn of the loop; under load groups grow by themselves, so that throughput rises
with pressure and nothing waits on a timer. A fault of the call is raised to every caller whose items it carried.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Got = TypeVar("Got")


class Coalescer(Generic[Item, Got]):
    """Gathers groups of items; one call is under way, and up to `flights` while more than `most` items wait.

    A group larger than `most` goes out whole: its receiver splits it. Order is kept within a call.
    """

    def __init__(self, call: Callable[[list[Item]], Awaitable[list[Got]]], *, most: int = 64, flights: int = 2) -> None:
        self._call, self._most, self._flights = call, most, flights
        self._waiting: deque[tuple[Sequence[Item], asyncio.Future[list[Got]]]] = deque()
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Coalescer waiting={len(self._waiting)} under_way={len(self._tasks)}>"

    def ask(self, items: Sequence[Item]) -> asyncio.Future[list[Got]]:
        """A future of the answers to `items`, in order."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Got]] = loop.create_future()
        self._waiting.append((items, future))
        self._queued += len(items)
        if not self._tasks or (self._queued >= self._most and len(self._tasks) < self._flights):
            task = loop.create_task(self._pump())
            self._tasks.add(task)
        return future

    async def _pump(self) -> None:
        """Call until nothing waits. Nothing is awaited between that and leaving: whoever asks next starts a new one."""
        try:
            while self._waiting:
                await self._call_once()
        finally:
            self._tasks.discard(asyncio.current_task())

    async def _call_once(self) -> None:
        items, futures = self._gather()
        try:
            got = await self._call(items)
        except Exception as fault:  # noqa: BLE001 - every caller gets it
            for _, future in futures:
                if not future.done():
                    future.set_exception(fault)
            return
        at = 0
        for size, future in futures:
            if not future.done():
                future.set_result(got[at : at + size])
            at += size

    def _gather(self) -> tuple[list[Item], list[tuple[int, asyncio.Future[list[Got]]]]]:
        items: list[Item] = []
        futures: list[tuple[int, asyncio.Future[list[Got]]]] = []
        while self._waiting and len(items) < self._most:
            group, future = self._waiting.popleft()
            self._queued -= len(group)
            if not future.cancelled():
                items.extend(group)
                futures.append((len(group), future))
        return items, futures
