"""What a long run says while it works: one line a step, and a line that moves where there is a terminal."""

import sys
import time

EVERY_S = 2.0


class Teller:
    """Steps on stderr, so that the table alone is on stdout."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._told_at = 0.0
        self._moving = False

    def step(self, text: str) -> None:
        """A line that stays."""
        self._end_line()
        print(f"[{time.monotonic() - self._began:5.0f} s] {text}", file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        """A line that is written over, or at most one each two seconds where there is no terminal."""
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if now - self._told_at < (0.2 if terminal else EVERY_S):
            return
        self._told_at = now
        if terminal:
            print(f"\r\x1b[K[{now - self._began:5.0f} s]   {text}", end="", file=sys.stderr, flush=True)
            self._moving = True
        else:
            print(f"[{now - self._began:5.0f} s]   {text}", file=sys.stderr, flush=True)

    def _end_line(self) -> None:
        if self._moving:
            print("\r\x1b[K", end="", file=sys.stderr)
            self._moving = False
