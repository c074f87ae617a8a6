"""One clock for every request's deadline: a timer for each would cost a message 4 µs.

Each watched task is cancelled within `TICK_S` after its deadline, and told apart from any other cancellation. A crash
of the clock would leave requests without a deadline, so its loop does nothing that can fail.
"""

import asyncio
from typing import Any

TICK_S = 0.05


class Deadlines:
    """The deadlines of the tasks of one event loop."""

    __slots__ = ("_due", "_expired", "_ticking")

    def __init__(self) -> None:
        self._due: dict[asyncio.Task[Any] | None, float] = {}
        self._expired: set[asyncio.Task[Any] | None] = set()
        self._ticking: asyncio.TimerHandle | None = None

    def watch(self, seconds: float) -> None:
        """Cancel the current task in so many seconds; replaces the deadline it had."""
        loop = asyncio.get_running_loop()
        self._due[asyncio.current_task()] = loop.time() + seconds
        if self._ticking is None:
            self._ticking = loop.call_later(TICK_S, self._tick, loop)

    def forget(self) -> bool:
        """Stop watching the current task. True when it was cancelled from here: the cancellation is taken back."""
        task = asyncio.current_task()
        self._due.pop(task, None)
        if task is None or task not in self._expired:
            return False
        self._expired.discard(task)
        task.uncancel()
        return True

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task in [task for task, due in self._due.items() if due <= now]:
            del self._due[task]
            if task is not None:
                self._expired.add(task)
                task.cancel()
        self._ticking = loop.call_later(TICK_S, self._tick, loop) if self._due else None
