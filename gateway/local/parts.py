"""The embedded parts together: prepared in parallel, started from one thread, awaited as one.

Owns the order of a start and the choice of free ports. A part that cannot start within the deadline is an error that
shows the last lines it wrote; whatever was started by then is left to the caller to stop.
"""

import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from gateway.local.background import in_background
from gateway.local.child import POLL_S, Child
from gateway.local.kafka import Kafka
from gateway.local.postgres import Postgres
from gateway.local.valkey import Valkey

__all__ = ["Kafka", "Part", "PartError", "Postgres", "Valkey", "bring_up", "free_port", "free_ports"]


class Part(Protocol):
    """A server we run: prepared (slow, any thread), started (main thread), then polled until ready."""

    name: str
    child: Child

    @property
    def endpoint(self) -> str:
        """Its address for clients."""

    def prepare(self) -> None:
        """Make its files; may take minutes the first time, and be cut short at any line."""

    def start(self) -> None:
        """Start its process."""

    def ready(self) -> bool:
        """Whether it serves; answers within a second."""

    def stop(self) -> None:
        """Stop it within its grace."""


class PartError(RuntimeError):
    """A part did not start; the text says which, how it ended and what it said."""


def bring_up(
    parts: Sequence[Part],
    *,
    timeout_s: float = 60.0,
    prepare_timeout_s: float = 600.0,
    on_ready: Callable[[Part, float], None] = lambda _part, _seconds: None,
    on_start: Callable[[], None] = lambda: None,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Prepare all at once, start each once prepared, return when all are ready; `check` may raise to stop."""
    began = time.monotonic()
    preparing = {part.name: in_background(f"prepare {part.name}", part.prepare) for part in parts}
    started: dict[str, float] = {}
    waiting = list(parts)
    while waiting:
        check()
        for part in list(waiting):
            if part.name not in started:
                if preparing[part.name].done():
                    preparing[part.name].result()
                    part.start()
                    on_start()
                    started[part.name] = time.monotonic()
                elif time.monotonic() - began > prepare_timeout_s:
                    raise PartError(f"{part.name} could not be prepared within {prepare_timeout_s:.0f} s")
            elif part.ready():
                on_ready(part, time.monotonic() - began)
                waiting.remove(part)
            else:
                gone(part, started[part.name], timeout_s)
        time.sleep(POLL_S)


def gone(part: Part, started: float, timeout_s: float) -> None:
    """Raise when a part ended before it was ready, or is not ready in time."""
    how = part.child.ended()
    if how is None and time.monotonic() - started > timeout_s:
        how = f"not ready after {timeout_s:.0f} s"
    if how is not None:
        raise PartError(f"{part.name}: {how}\n{part.child.said()}")


def free_port() -> int:
    """A loopback port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(wanted: Iterable[int]) -> list[int]:
    """The wanted ports, each moved up to the next one nobody uses."""
    chosen: list[int] = []
    for port in wanted:
        while port in chosen or not is_free(port):
            port += 1  # noqa: PLW2901 - the search is the point
        chosen.append(port)
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def logs(home: Path, name: str) -> Path:
    """Where a child of `home` logs."""
    return home / "log" / f"{name.lower()}.log"
