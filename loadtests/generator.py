"""A lean HTTP load generator for the bench: keep-alive connections, prebuilt bodies, exact latencies.

It is not counted in any figure, so it only has to cost little: raw protocols, no client library. Loopback only. An
answer without Content-Length, or a connection that the server closes before its answer, ends the run with `BrokenRun`:
a bench of a failing server says nothing.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

PAUSE_S = 0.01
END_S = 30.0


class BrokenRun(Exception):  # noqa: N818 - it names what happened
    """The server hung up, or did not answer in time."""


@dataclass
class Outcome:
    """What a run saw: answers by status line code, latencies in seconds, and how long it took."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    sample: bytes = b""
    lost: int = 0

    @property
    def requests(self) -> int:
        """Answers received."""
        return len(self.latencies)

    def quantile(self, q: float) -> float:
        """The latency at quantile `q`, in seconds."""
        return quantile(self.latencies, q)


def quantile(values: list[float], q: float) -> float:
    """The value at quantile `q`; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


@dataclass(slots=True)
class Feed:
    """What the connections of one run share."""

    requests: Iterator[bytes]
    outcome: Outcome
    until: float
    answered: Callable[[int, bytes], None] | None
    full: Callable[[], bool] | None
    done: Callable[[], None]


class _Connection(asyncio.Protocol):
    """One keep-alive connection: sends the next request when the last is answered."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._buffer = bytearray()
        self._whole = 0
        self._body = 0
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def _next(self) -> None:
        feed = self._feed
        if time.perf_counter() >= feed.until or self._transport.is_closing():
            self._transport.close()
            return
        if feed.full is not None and feed.full():
            asyncio.get_running_loop().call_later(PAUSE_S, self._next)
            return
        request = next(feed.requests, None)
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._whole:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            self._body = head + 4
            self._whole = self._body + length_of(bytes(self._buffer[:head]))
        if len(self._buffer) < self._whole:
            return
        status, body = int(self._buffer[9:12]), bytes(self._buffer[self._body : self._whole])
        outcome = self._feed.outcome
        outcome.statuses[status] += 1
        outcome.latencies.append(time.perf_counter() - self._sent_at)
        outcome.sample = body
        self._sent_at, self._whole = 0.0, 0
        self._buffer.clear()
        if self._feed.answered is not None:
            self._feed.answered(status, body)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own signature
        if self._sent_at:
            self._feed.outcome.lost += 1
        self._feed.done()


def length_of(head: bytes) -> int:
    """The Content-Length of an answer's head."""
    lowered = head.lower()
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        raise BrokenRun("an answer without Content-Length")
    return int(lowered[at + 17 :].split(b"\r\n", 1)[0])


async def drive(
    port: int,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float,
    answered: Callable[[int, bytes], None] | None = None,
    full: Callable[[], bool] | None = None,
) -> Outcome:
    """Closed loop over `connections` until the requests or the time run out; nothing is sent while `full()`."""
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    left = connections

    def done() -> None:
        nonlocal left
        left -= 1
        if left == 0 and not finished.done():
            finished.set_result(None)

    start = time.perf_counter()
    feed = Feed(requests, Outcome(), start + seconds, answered, full, done)
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(feed), "127.0.0.1", port)
    try:
        await asyncio.wait_for(finished, seconds + END_S)
    except TimeoutError:
        raise BrokenRun(f"no answer within {END_S:.0f} s of the end") from None
    feed.outcome.seconds = time.perf_counter() - start
    if feed.outcome.lost:
        raise BrokenRun(f"the server hung up on {feed.outcome.lost} requests")
    return feed.outcome


def post(path: str, body: bytes, key: str) -> bytes:
    """The bytes of one request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
