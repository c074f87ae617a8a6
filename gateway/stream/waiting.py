"""What waits to be published: calls, their records by partition, and when each partition is to be sent.

Owns the bookkeeping only; `producer.py` decides and sends. A crash loses it with the calls that wait for it.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.stream.link import Link

Pair = tuple[bytes, bytes]

NOW, NEVER = 0.0, float("inf")


def moment(now: float, linger_s: float) -> float:
    """When a call that may wait so long is sent: at the next whole multiple, which others wait for too."""
    return (now // linger_s + 1) * linger_s if linger_s > 0 else NOW


class Published(NamedTuple):
    """Where a record is. `offset` is -1 when the broker only confirms that it has the record already."""

    partition: int
    offset: int


class Ticket:
    """One publish call: its answers, and how many records are still without one."""

    __slots__ = ("answers", "done", "expired", "missing")

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self.answers: list[Published | None] = [None] * size
        self.missing = size
        self.done = done
        self.expired = False

    def settle(self, count: int) -> None:
        """Count records that have their final answer."""
        self.missing -= count
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def expire(self) -> None:
        """The deadline: whatever has no answer keeps None."""
        self.expired = True
        if not self.done.done():
            self.done.set_result(None)


class Slice:
    """The records of one call for one partition."""

    __slots__ = ("pairs", "positions", "ticket")

    def __init__(self, ticket: Ticket) -> None:
        self.ticket = ticket
        self.positions: list[int] = []
        self.pairs: list[Pair] = []

    def cut(self, index: int) -> "Slice":
        """Keep the records before `index`; the rest is returned."""
        rest = Slice(self.ticket)
        rest.positions, rest.pairs = self.positions[index:], self.pairs[index:]
        del self.positions[index:], self.pairs[index:]
        return rest


@dataclass(slots=True, eq=False)
class Queue:
    """What waits for one partition, in order; when it is to be sent (loop time), and who is at it."""

    number: int
    slices: deque[Slice] = field(default_factory=deque)
    due: float = NEVER
    sending: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True, eq=False)
class Topic:
    """One topic's coalescer: its queues and what it holds in memory, in flight included."""

    name: str
    label: str
    link: Link
    queues: list[Queue] = field(default_factory=list)
    records: int = 0
    bytes: int = 0
