"""The bench's own gateway: real parts and processes on free loopback ports, in a temporary home that goes with them.

The parts are those of `assent up`, with its durability: PostgreSQL fsyncs, Valkey's append-only file is on, producers
wait for all acknowledgements. The processes are the real commands with the real settings. Nothing of an environment
meant for another gateway is used. Every child ends with this process however it ends; `stop` ends them in order.
"""

import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from gateway.ledger import note
from gateway.local.child import Child
from gateway.local.parts import Kafka, Part, Postgres, Valkey, bring_up, free_port
from gateway.local.processes import COMMANDS, Process, command, environment

PREFIX = "assent-bench-"
READY_S = 60.0
PREPARE_S = 90.0

Say = Callable[[str], None]


class Stack:
    """Parts, then processes by name; `pids` is what a meter reads."""

    def __init__(self, say: Say) -> None:
        for name in [name for name in os.environ if name.startswith("ASSENT_")]:
            del os.environ[name]
        self._say = say
        _sweep()
        self.home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.home.chmod(0o711)  # PostgreSQL may run as another user
        self._lock_fd = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        log = self.home / "log"
        self.valkey = Valkey(self.home / "valkey", free_port(), log / "valkey.log")
        self.postgres = Postgres(self.home / "postgres", free_port(), log / "postgres.log")
        self.kafka = Kafka(self.home / "kafka", free_port(), free_port(), log / "kafka.log", say)
        self.parts: list[Part] = [self.valkey, self.postgres, self.kafka]
        self.processes: dict[str, Process] = {}
        self.others: list[Child] = []
        self.port = free_port()
        self.pepper = secrets.token_bytes(32)
        self._env: dict[str, str] = {}

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return self.kafka.endpoint

    @property
    def environment(self) -> dict[str, str]:
        """What every process is started with, its secrets included."""
        return dict(self._env)

    def start_parts(self) -> None:
        """Start the parts; make schema, topics and the demo's rows."""
        bring_up(self.parts, on_ready=lambda part, seconds: self._say(f"{part.name} ready after {seconds:.1f} s"))
        metrics = self.home / "metrics"
        metrics.mkdir()
        self._env = environment(
            port=self.port,
            console=free_port(),
            metrics=metrics,
            redis_url=self.valkey.endpoint,
            kafka=self.kafka.endpoint,
            database=self.postgres.endpoint,
            pepper=self.pepper.hex(),
            master_key=secrets.token_hex(32),
            ledger=self.home / "ledger",
            ledger_keys=self._ledger_key(),
        )
        child = Child("prepare", command("prepare"), log=self.home / "log/prepare.log", env=self._env)
        child.start()
        until = time.monotonic() + PREPARE_S
        while child.ended() is None and time.monotonic() < until:
            time.sleep(0.05)
        child.stop()
        if child.ended() != "exit 0":
            raise RuntimeError(f"prepare: {child.ended()}\n{child.said()}")

    def _ledger_key(self) -> Path:
        file = self.home / "ledger_key"
        file.write_text(note.generate("assent.bench")[0])
        return file

    def start(self, *names: str) -> None:
        """Start processes of the gateway and wait until they are ready."""
        made = {name: Process(name, self._env, self.home / f"log/{name}.log", self._lock_fd) for name in names}
        self.processes |= made
        bring_up(
            list(made.values()),
            timeout_s=READY_S,
            on_ready=lambda part, seconds: self._say(f"{part.name} ready after {seconds:.1f} s"),
        )

    def start_all(self) -> None:
        """Every process that `assent up` runs, but for the console, which no message passes."""
        self.start(*(name for name in COMMANDS if name != "console"))

    def end(self, *names: str) -> None:
        """Stop processes."""
        ending = [self.processes.pop(name) for name in names]
        for process in ending:
            process.child.ask()
        for process in ending:
            process.stop()

    def floor(self, *words: str) -> tuple[int, int]:
        """Start a bare echo; its port and process id. `log`: with the access log that uvicorn writes by default."""
        port = free_port()
        name = "-".join(("echo", *words))
        command = [sys.executable, "-m", "loadtests.echo", str(port), *words]
        child = Child(name, command, log=self.home / f"log/{name}.log")
        child.start()
        self.others.append(child)
        return port, _pid(child)

    def pids(self) -> dict[str, int]:
        """The process id of every part and process."""
        children = {part.name: part.child for part in self.parts}
        children |= {name: process.child for name, process in self.processes.items()}
        return {name: _pid(child) for name, child in children.items()}

    def dead(self) -> list[str]:
        """What ended by itself, with its last words: a bench of half a gateway says nothing."""
        running = [part.child for part in self.parts] + [process.child for process in self.processes.values()]
        return [f"{child.name}: {child.ended()}\n{child.said()}" for child in running if child.ended() is not None]

    def stop(self) -> None:
        """End everything and remove the home."""
        self.end(*reversed(list(self.processes)))
        for child in self.others:
            child.stop()
        for part in reversed(self.parts):
            part.child.ask()
        for part in reversed(self.parts):
            part.stop()
        os.close(self._lock_fd)
        _remove(self.home)


def _pid(child: Child) -> int:
    if child.pid is None:
        raise RuntimeError(f"{child.name} is not running")
    return child.pid


def _remove(home: Path) -> None:
    """A home, and the data that PostgreSQL had to keep elsewhere."""
    elsewhere = home / "postgres/elsewhere"
    if elsewhere.exists():
        shutil.rmtree(elsewhere.read_text().strip(), ignore_errors=True)
    shutil.rmtree(home, ignore_errors=True)


def _sweep() -> None:
    """Remove the homes of runs that were killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        word = left.name.split("-")[2]
        if word.isdigit() and not psutil.pid_exists(int(word)):
            _remove(left)
