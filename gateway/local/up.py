"""`assent up`: the whole gateway on one machine, on real embedded parts, until it is told to stop.

Owns the order of start and stop, and the restart of what crashes. One thread starts and watches every child; Ctrl-C or
SIGTERM ends them in reverse order, a second signal at once. Killed outright, the kernel ends the children and the next
`up` on the same home sees to what is left. Data stays in the home.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from gateway.local.banner import banner
from gateway.local.child import Child
from gateway.local.home import Home, HomeError
from gateway.local.parts import Kafka, Part, PartError, Postgres, Valkey, bring_up
from gateway.local.processes import Process, command, environment, runnable
from gateway.local.restart import Restarts

PREPARE_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 60.0
WATCH_S = 0.1

Say = Callable[[str], None]


class StopAskedError(Exception):
    """A signal came while starting."""


def up(home: Path, port: int, say: Say) -> int:
    """Run until stopped; returns the exit status."""
    place = Home(home)
    try:
        place.take()
    except HomeError as refusal:
        say(f"assent up: {refusal}")
        return 1
    run = Up(place, port, say)
    try:
        return run.run()
    finally:
        place.release()


class Up:
    """One run over one home."""

    def __init__(self, home: Home, port: int, say: Say) -> None:
        self.home, self.port, self.say = home, port, say
        self.parts: list[Part] = []
        self._signals = 0

    def run(self) -> int:
        """Start everything, watch it, stop everything."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked)
        try:
            self._start()
            self._watch()
        except StopAskedError:
            return 0
        except (HomeError, PartError, OSError, RuntimeError) as fault:
            self.say(f"assent up: {fault}")
            return 1
        finally:
            self._stop()
        return 0

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            for part in self.parts:
                part.child.kill()

    def _check(self) -> None:
        if self._signals:
            raise StopAskedError

    def _start(self) -> None:
        began = time.monotonic()
        self._record()
        ports = self.home.ports(self.port)
        self.home.rotate_logs()
        self.say(f"Assent · home {self.home.path}")
        path, log = self.home.path, self.home.log
        valkey = Valkey(path / "valkey", ports.valkey, log("valkey"), fds=(self.home.lock_fd,))
        postgres = Postgres(path / "postgres", ports.postgres, log("postgres"), fds=(self.home.lock_fd,))
        kafka = Kafka(path / "kafka", ports.kafka, ports.controller, log("kafka"), self.say, fds=(self.home.lock_fd,))
        replaced: dict[str, Part] = {
            "ASSENT_REDIS_URL": valkey,
            "ASSENT_DATABASE_URL": postgres,
            "ASSENT_KAFKA_BOOTSTRAP": kafka,
        }
        for variable, part in replaced.items():
            if os.environ.get(variable):
                self.say(f"  {part.name:<18} as given in {variable}")
        self._bring_up([part for variable, part in replaced.items() if not os.environ.get(variable)], began)
        if postgres.note:
            self.say(f"  {postgres.note}")

        metrics = path / "metrics"
        shutil.rmtree(metrics, ignore_errors=True)
        metrics.mkdir(parents=True)
        env = environment(
            port=ports.edge,
            console=ports.console,
            metrics=metrics,
            redis_url=valkey.endpoint,
            kafka=kafka.endpoint,
            database=postgres.endpoint,
            pepper=self.home.secret("pepper"),
            master_key=self.home.secret("master_key"),
            ledger=path / "ledger",
            ledger_keys=self.home.ledger_key(),
        )
        self.home.keep_environment(env)
        self._prepare(env)
        self.say(f"  {'schema and topics':<18} in place {time.monotonic() - began:5.1f} s")
        processes = [Process(name, env, log(name), self.home.lock_fd) for name in runnable()]
        self._bring_up(processes, began)
        console = next((one.endpoint for one in processes if one.name == "console"), None)
        self.say(f"ready in {time.monotonic() - began:.1f} s")
        self.say(banner(self._edge, console, str(self.home.path), datetime.now(UTC)))

    @property
    def _edge(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _bring_up(self, parts: Sequence[Part], began: float) -> None:
        """Start these together; they are recorded as they start, so that an orphan is always known."""
        before = time.monotonic() - began
        self.parts.extend(parts)

        def ready(part: Part, seconds: float) -> None:
            self.say(f"  {part.name:<18} ready    {before + seconds:5.1f} s")

        bring_up(parts, timeout_s=READY_TIMEOUT_S, on_ready=ready, on_start=self._record, check=self._check)

    def _record(self) -> None:
        self.home.record(self._edge, [part.child.identity() for part in self.parts])

    def _prepare(self, env: dict[str, str]) -> None:
        """Bring the schema, the topics and the demo data to what this version wants."""
        child = Child(
            "prepare", command("prepare"), log=self.home.log("prepare"), env=env, fds=(self.home.lock_fd,), grace_s=2.0
        )
        child.start()
        until = time.monotonic() + PREPARE_TIMEOUT_S
        try:
            while (how := child.ended()) is None:
                self._check()
                if time.monotonic() > until:
                    raise PartError(f"prepare: not done after {PREPARE_TIMEOUT_S:.0f} s\n{child.said()}")
                time.sleep(0.02)
        finally:
            child.stop()
        if how != "exit 0":
            raise PartError(f"prepare: {how}\n{child.said()}")

    def _watch(self) -> None:
        """Restart what ends, until a signal comes."""
        restarts = {part.name: Restarts() for part in self.parts}
        while not self._signals:
            now = time.monotonic()
            for part in self.parts:
                self._look_after(part, restarts[part.name], now)
            time.sleep(WATCH_S)

    def _look_after(self, part: Part, restarts: Restarts, now: float) -> None:
        how = part.child.ended()
        if how is None:
            if restarts.returning and part.ready():
                self.say(f"  {part.name:<18} ready again, {restarts.back(now):.1f} s after it ended")
        elif restarts.due_at is None:
            delay = restarts.ended(now)
            self.say(
                f"  {part.name} ended ({how}); it starts again in {delay:g} s; its last words:\n{part.child.said()}"
            )
            part.child.kill()
        elif now >= restarts.due_at:
            part.start()
            restarts.started(now)
            self._record()

    def _stop(self) -> None:
        """Edge first, then the other processes together, then the parts."""
        began = time.monotonic()
        self.say("stopping")
        processes = [part for part in self.parts if isinstance(part, Process)]
        others = [part for part in processes if part.name != "edge"]
        for group in (
            [part for part in processes if part.name == "edge"],
            others,
            [part for part in reversed(self.parts) if not isinstance(part, Process)],
        ):
            for part in group:
                part.child.ask()
            for part in group:
                part.stop()
        self.say(f"stopped in {time.monotonic() - began:.1f} s")
        sys.stdout.flush()
