"""The gateway's own processes as `assent up` runs them: command, environment and readiness.

A process says that it is ready by writing `ready` to the file descriptor named in `ASSENT_READY_FD`; the edge is asked
over HTTP, because `/readyz` also speaks for what it depends on. Every process gets its whole configuration in its
environment, so each runs exactly as it would alone on another machine.
"""

import http.client
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import gateway
from gateway.local.child import Child

COMMANDS: dict[str, tuple[str, ...]] = {
    "ledger": ("ledger", "--with-hold"),
    "settle": ("settle", "--with-webhooks"),
    "records": ("records",),
    "deliver-prompt": ("deliver", "--classes", "verification,transactional,consent"),
    "deliver-marketing": ("deliver", "--classes", "marketing"),
    "console": ("console",),
    "edge": ("edge",),
}
"""In the order they are listed; they start together and stop in reverse, the edge first. The console is left out where
its package is not installed."""

PORTS = {"edge": "ASSENT_PORT", "console": "ASSENT_CONSOLE_PORT"}
"""Those that serve HTTP, which are asked whether they are ready; the others say it."""


class Process:
    """One process of the gateway."""

    def __init__(self, name: str, env: Mapping[str, str], log: Path, lock_fd: int) -> None:
        self.name, self._env, self._log, self._lock_fd = name, dict(env), log, lock_fd
        self.child = Child(name, [], log=log)
        self._pipe = -1

    @property
    def endpoint(self) -> str:
        """The edge's address, and the console's; the other processes have none."""
        port = PORTS.get(self.name)
        return "" if port is None else f"http://127.0.0.1:{self._env[port]}"

    def prepare(self) -> None:
        """Nothing to make."""

    def start(self) -> None:
        """Start it with a fresh pipe for its readiness."""
        self._close()
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        self.child = Child(
            self.name,
            command(*COMMANDS[self.name]),
            log=self._log,
            env=self._env | {"ASSENT_READY_FD": str(theirs)},
            fds=(self._lock_fd, theirs),
            stop_signal=signal.SIGTERM,
        )
        self.child.start()
        os.close(theirs)

    def ready(self) -> bool:
        """Whether it does its work now."""
        port = PORTS.get(self.name)
        return self._said_so() if port is None else answers(int(self._env[port]))

    def _said_so(self) -> bool:
        if self._pipe < 0:
            return True
        with suppress(BlockingIOError):
            if os.read(self._pipe, 16).startswith(b"ready"):
                self._close()
                return True
        return False

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def stop(self) -> None:
        """Stop it: it finishes what it took in, within its grace."""
        self.child.stop()
        self._close()


def runnable() -> list[str]:
    """The processes that this installation's packages can run."""
    return [name for name in COMMANDS if name != "console" or find_spec("nicegui") is not None]


def command(*words: str) -> list[str]:
    """The command line of a gateway process, in this same Python."""
    return [sys.executable, "-m", "gateway", *words]


def answers(port: int) -> bool:
    """Whether `/readyz` answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def environment(
    *,
    port: int,
    console: int,
    metrics: Path,
    redis_url: str,
    kafka: str,
    database: str,
    pepper: str,
    master_key: str,
    ledger: Path,
    ledger_keys: Path,
) -> dict[str, str]:
    """The environment of every gateway process: ours below what the user gave, loopback and local above it."""
    root = str(Path(gateway.__file__).parent.parent)
    ours = {
        "ASSENT_REDIS_URL": redis_url,
        "ASSENT_KAFKA_BOOTSTRAP": kafka,
        "ASSENT_DATABASE_URL": database,
        "ASSENT_PEPPER": pepper,
        "ASSENT_MASTER_KEY": master_key,
        "ASSENT_LEDGER_DIR": str(ledger),
        "ASSENT_LEDGER_KEYS_FILE": str(ledger_keys),
        "ASSENT_PARTITIONS": "2",
        "ASSENT_REPLICATION": "1",
    }
    fixed = {
        "ASSENT_LOCAL": "true",
        "ASSENT_HOST": "127.0.0.1",
        "ASSENT_PORT": str(port),
        "ASSENT_CONSOLE_HOST": "127.0.0.1",
        "ASSENT_CONSOLE_PORT": str(console),
        "ASSENT_CONSOLE_URL": "",
        "ASSENT_METRICS_DIR": str(metrics),
        "ASSENT_METRICS_PORT": "0",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
    }
    return ours | {name: value for name, value in os.environ.items() if value} | fixed
