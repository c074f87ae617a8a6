"""A lean HTTP load generator for the bench: keep-alive connections, prebuilt bodies, exact latencies.

It is not counted in any figure, so it only has to cost little: raw protocols, no client library. Loopback only.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What a run saw: answers by status line code, latencies in seconds, and how long it took."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    sample: bytes = b""

    @property
    def requests(self) -> int:
        """Answers received."""
        return len(self.latencies)

    def quantile(self, q: float) -> float:
        """The latency at quantile `q`, in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


class _Connection(asyncio.Protocol):
    """One keep-alive connection: sends the next request when the last is answered."""

    def __init__(self, requests: Iterator[bytes], outcome: Outcome, until: float, done: Callable[[], None]) -> None:
        self._requests, self._outcome, self._until, self._done = requests, outcome, until, done
        self._buffer = b""
        self._sent_at = 0.0
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = None if time.perf_counter() >= self._until else next(self._requests, None)
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lowered = self._buffer[:head].lower()
        at = lowered.find(b"content-length:")
        length = int(lowered[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        status = int(self._buffer[9:12])
        self._outcome.statuses[status] += 1
        self._outcome.latencies.append(time.perf_counter() - self._sent_at)
        self._outcome.sample = self._buffer[head + 4 : head + 4 + length]
        self._buffer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own signature
        if not self._closed:
            self._closed = True
            self._done()


async def drive(host: str, port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Outcome:
    """Closed loop over `connections` until the requests or the time run out."""
    outcome = Outcome()
    left = connections
    finished = asyncio.get_running_loop().create_future()

    def done() -> None:
        nonlocal left
        left -= 1
        if left == 0 and not finished.done():
            finished.set_result(None)

    start = time.perf_counter()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(requests, outcome, start + seconds, done), host, port)
    await asyncio.wait_for(finished, seconds + 30)
    outcome.seconds = time.perf_counter() - start
    return outcome


def post(path: str, body: bytes, key: str = "demo-key") -> bytes:
    """The bytes of one request."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
