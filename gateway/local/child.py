"""One child process: started so that it cannot outlive us, watched, and ended.

Owns the process handle, its log file and how it is asked to stop. A child runs in a session of its own, so Ctrl-C in a
terminal reaches only the supervisor, which then stops children in order. If the supervisor is killed, the kernel sends
each child its stop signal (see `launch`). Start children from the main thread only: the kernel ties them to the thread.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

LAUNCH = str(Path(__file__).with_name("launch.py"))
POLL_S = 0.02


class Child:
    """A command, its log and its process once started."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        uid: int = -1,
        stop_signal: int = signal.SIGTERM,
        grace_s: float = 8.0,
        fds: Sequence[int] = (),
    ) -> None:
        self.name, self.command, self.log = name, [str(word) for word in command], log
        self.grace_s, self.stop_signal = grace_s, stop_signal
        self._env, self._cwd, self._uid, self._fds = env, cwd, uid, tuple(fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._mark = 0

    def __repr__(self) -> str:
        """Show name, process and state."""
        return f"Child({self.name}, pid={self.pid}, {'alive' if self.alive() else 'ended'})"

    def start(self) -> None:
        """Start it; its output is appended to the log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        launcher = [sys.executable, "-I", "-S", LAUNCH, str(os.getpid()), str(int(self.stop_signal)), str(self._uid)]
        with self.log.open("ab") as out:
            self._mark = out.tell()
            self._process = subprocess.Popen(  # noqa: S603 - commands come from this room
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=None if self._env is None else dict(self._env),
                cwd=self._cwd,
                pass_fds=self._fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """Its process id, or None before the first start."""
        return None if self._process is None else self._process.pid

    def alive(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    def ended(self) -> str | None:
        """How it ended (`exit 1`, `signal 9`), or None while it runs."""
        code = None if self._process is None else self._process.poll()
        return None if code is None else f"exit {code}" if code >= 0 else f"signal {-code}"

    def identity(self) -> dict[str, float | str] | None:
        """What tells this process from a later one with the same id."""
        pid = self.pid
        started = None if pid is None else started_at(pid)
        return None if pid is None or started is None else {"name": self.name, "pid": pid, "started": started}

    def ask(self) -> None:
        """Ask it to stop, without waiting."""
        if self._process is not None and self.alive():
            self._process.send_signal(self.stop_signal)

    def stop(self) -> None:
        """Ask it to stop, wait for its grace, then kill its whole session."""
        self.ask()
        self.join(time.monotonic() + self.grace_s)

    def join(self, until: float) -> None:
        """Wait until the monotonic time `until`, then kill what is left of its session."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(until - time.monotonic(), 0.0))
        self.kill()

    def kill(self) -> None:
        """End it and everything in its session at once."""
        if self._process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def said(self, lines: int = 12) -> str:
        """The last lines it wrote since its last start."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._mark)
                return "\n".join(log.read()[-20_000:].decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


def started_at(pid: int) -> float | None:
    """When the process with this id started, or None when there is none (or only its remains)."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.NoSuchProcess:
        return None
