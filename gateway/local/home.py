"""The folder of one installation: its lock, its ports, its secrets, and the record of what runs in it.

Owns `<home>/lock` (held by `assent up` and inherited by every child, so it stays held while any of them lives),
`ports.json`, `secrets/` and `run.json`. When the last run was killed, the lock may be held by orphans: those whose
process id *and* start time are recorded are ended, nobody else is touched.
"""

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gateway.ledger import note
from gateway.local.child import started_at
from gateway.local.parts import free_ports, is_free
from gateway.local.postgres import write_private

ORPHAN_GRACE_S = 6.0


class HomeError(RuntimeError):
    """This home cannot be used now; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens; all but the edge follow from it and move when taken."""

    edge: int
    console: int
    valkey: int
    postgres: int
    kafka: int
    controller: int


class Home:
    """One installation's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock_fd = -1

    def take(self) -> None:
        """Hold the lock, ending a killed run's orphans first; raises HomeError when somebody holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        self.lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if self._locked():
            self._end_orphans()
            return
        holder = self._run()
        if alive(holder):
            raise HomeError(
                f"{self.path} is in use by `assent up`, process {holder['pid']}, {holder.get('edge', '')}. "
                "Stop it first, or give another --home (and --port)."
            )
        self._end_orphans()
        until = time.monotonic() + ORPHAN_GRACE_S
        while not self._locked():
            if time.monotonic() > until:
                raise HomeError(
                    f"{self.path}/lock is held by a process that nobody recorded: see `fuser {self.path}/lock`"
                )
            time.sleep(0.1)

    def _locked(self) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _run(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            found = json.loads((self.path / "run.json").read_text())
            return found if isinstance(found, dict) else {}
        return {}

    def _end_orphans(self) -> None:
        """End the recorded children that still live: asked, then killed with their sessions."""
        orphans = [child for child in self._run().get("children", []) if alive(child)]
        for orphan in reversed(orphans):
            send(orphan, signal.SIGTERM)
        until = time.monotonic() + ORPHAN_GRACE_S
        while time.monotonic() < until and any(alive(orphan) for orphan in orphans):
            time.sleep(0.05)
        for orphan in filter(alive, orphans):
            send(orphan, signal.SIGKILL, session=True)

    def record(self, edge: str, children: Iterable[dict[str, Any] | None]) -> None:
        """Write down who runs here, for the next `up` to find."""
        me = {"pid": os.getpid(), "started": started_at(os.getpid()), "edge": edge}
        write_private(self.path / "run.json", json.dumps(me | {"children": [child for child in children if child]}))

    def release(self) -> None:
        """Forget the run and let the lock go."""
        (self.path / "run.json").unlink(missing_ok=True)
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def ports(self, edge: int) -> Ports:
        """The edge's port as given, the others where they were last time or else above it, moved when taken."""
        if not is_free(edge):
            raise HomeError(f"port {edge} on 127.0.0.1 is taken: give another with --port")
        file, wanted = self.path / "ports.json", [edge + n for n in range(1, 6)]
        with suppress(OSError, ValueError, TypeError):
            known = Ports(**json.loads(file.read_text()))
            if known.edge == edge:
                wanted = [known.console, known.valkey, known.postgres, known.kafka, known.controller]
        ports = Ports(edge, *free_ports(wanted))
        write_private(file, json.dumps(asdict(ports)))
        return ports

    def secret(self, name: str, size: int = 32) -> str:
        """A generated secret in hex, made once and kept."""
        file = self.path / "secrets" / name
        if not file.exists():
            write_private(file, secrets.token_hex(size))
            file.parent.chmod(0o700)
        return file.read_text().strip()

    def ledger_key(self) -> Path:
        """The file of the transparency log's key, made once and kept. Its name says which log it is."""
        file = self.path / "secrets" / "ledger_key"
        if not file.exists():
            write_private(file, note.generate(f"assent.local/{secrets.token_hex(4)}")[0])
            file.parent.chmod(0o700)
        return file

    def keep_environment(self, env: Mapping[str, str]) -> None:
        """Keep how this home's processes are configured, for commands that an operator types beside them."""
        ours = {name: value for name, value in env.items() if name.startswith("ASSENT_")}
        write_private(self.path / "env.json", json.dumps(ours, indent=1))

    def environment(self) -> dict[str, str]:
        """What `keep_environment` kept; empty where nothing ever ran."""
        with suppress(FileNotFoundError):
            kept: dict[str, str] = json.loads((self.path / "env.json").read_text())
            return kept
        return {}

    def log(self, name: str) -> Path:
        """Where a child logs."""
        return self.path / "log" / f"{name}.log"

    def rotate_logs(self) -> None:
        """Keep the last run's logs as `.log.1`."""
        (self.path / "log").mkdir(mode=0o700, exist_ok=True)
        for log in (self.path / "log").glob("*.log"):
            log.replace(log.with_suffix(".log.1"))


def alive(recorded: dict[str, Any]) -> bool:
    """Whether a recorded process still runs, and is not another with its id."""
    now = started_at(recorded["pid"]) if isinstance(recorded.get("pid"), int) else None
    return now is not None and abs(now - float(recorded.get("started") or 0)) < 1.0


def send(recorded: dict[str, Any], number: signal.Signals, *, session: bool = False) -> None:
    """Signal a recorded process, or all of its session."""
    with suppress(ProcessLookupError, PermissionError):
        (os.killpg if session else os.kill)(recorded["pid"], number)
