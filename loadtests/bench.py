"""`make bench`: what a message costs, in one run, on real parts, as ratios and CPU µs per message.

Starts its own stack in a temporary home, measures, prints a table, ends every child and removes the home. Exit status:
0; 1 when a gate is not reached and `--gate` was given; 2 when the run itself failed. Ctrl-C ends it cleanly.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from loadtests import cache
from loadtests.figures import Figure, failed, table
from loadtests.front import Front
from loadtests.generator import BrokenRun
from loadtests.life import Life
from loadtests.meter import Meter, machine, rss_mb
from loadtests.people import Messages
from loadtests.say import Teller
from loadtests.stack import Stack

T = TypeVar("T")
RESULTS = Path(__file__).with_name("RESULTS.md")
PHASES = ("life", "edge", "redis")
SETTLE_S = 2.0
IDLE = 0.3
"""Cores that everything may use when the measuring begins, and how long it may take to come down to that. At first the
ledger signs what was put in, and settlement reads it: work of the seeding, not of the messages."""
IDLE_WITHIN_S = 240.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done."""

    recipients: int
    ordering: int
    life_s: float
    rounds: int
    round_s: float
    admissions: int
    taken: int
    """Messages one edge worker takes before its memory is read again."""


FULL = Scale(1_000_000, 300_000, 60.0, 3, 4.0, 80_000, 1_000_000)
QUICK = Scale(100_000, 80_000, 15.0, 2, 2.0, 20_000, 200_000)


class Bench:
    """One run: the stack, the phases, the figures."""

    def __init__(self, scale: Scale, phases: Sequence[str], teller: Teller) -> None:
        self._scale, self._phases, self._teller = scale, phases, teller
        self._messages = Messages(scale.ordering)
        self._stack = Stack(teller.step)
        self.figures: list[Figure] = []

    def run(self) -> None:
        """Everything, in order; the stack is gone afterwards, whatever happens."""
        try:
            self._teller.step(f"starting Valkey, PostgreSQL and Kafka in {self._stack.home}")
            self._stack.start_parts()
            scale = self._scale
            memory = self._do(cache.fill(self._stack, self._teller, scale.recipients, scale.ordering))
            self._start()
            at_rest = rss_mb(self._stack.pids()["edge"])
            warm = self._life(at_rest) if "life" in self._phases else at_rest
            if "edge" in self._phases:
                self._front(at_rest, warm)
            if "redis" in self._phases:
                self.figures.append(self._do(cache.admissions(self._stack, self._teller, scale.admissions)))
            self.figures += memory
        except BaseException:
            for words in self._stack.dead():
                self._teller.step(words)
            raise
        finally:
            self._teller.step("stopping")
            self._stack.stop()

    @staticmethod
    def _do(work: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)

    def _start(self) -> None:
        if "life" in self._phases:
            self._stack.start_all()
        else:
            self._stack.start("ledger", "edge")
        self._teller.step("process ids: " + ", ".join(f"{name} {pid}" for name, pid in self._stack.pids().items()))
        until = time.monotonic() + IDLE_WITHIN_S
        while (busy := self._busy()) > IDLE:
            if time.monotonic() > until:
                msg = f"everything together still uses {busy:.1%} of a core after {IDLE_WITHIN_S:.0f} s at rest"
                raise BrokenRun(msg)
            self._teller.step(f"the ledger signs what was put in: {busy:.1%} of a core")
        self._teller.step(f"idle, everything together uses {busy:.1%} of a core")

    def _busy(self) -> float:
        """Cores that everything uses together."""
        meter = Meter(self._stack.pids())
        time.sleep(SETTLE_S)
        return sum(meter.spent().values()) / SETTLE_S

    def _life(self, at_rest: float) -> float:
        """The whole life; the edge's memory once it was warm. The other processes are ended: edge figures follow."""
        scale = self._scale
        life = Life(self._stack, self._messages, self._teller, seconds=scale.life_s, warm_at=scale.taken // 10)
        self._teller.step(f"whole life, {scale.life_s:.0f} s of 500-batches")
        self.figures += self._do(life.run())
        self._stack.end(*(name for name in self._stack.processes if name not in {"edge", "ledger"}))
        return life.warm_mb or at_rest

    def _front(self, at_rest: float, warm: float) -> None:
        scale = self._scale
        front = Front(self._stack, self._messages, self._teller, rounds=scale.rounds, seconds=scale.round_s)
        self.figures += self._do(front.singles())
        self.figures += self._do(front.batches())
        self.figures += self._do(front.memory(at_rest, warm, scale.taken))


def report(figures: Sequence[Figure], mode: str) -> str:
    """What is printed, and with `--write` kept: the machine, the date, the table."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    python = f"Python {sys.version.split()[0]}"
    return "\n".join([f"## {when}, {mode}", "", f"{machine()}, {python}", "", *table(figures), ""])


def keep(text: str) -> None:
    """Put a run's table on top of the results, under their heading."""
    head, mark, older = RESULTS.read_text(encoding="utf-8").partition("\n## ")
    RESULTS.write_text(f"{head.rstrip()}\n\n{text}{mark}{older}", encoding="utf-8")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter and smaller; for a look, not for the record")
    parser.add_argument("--gate", action="store_true", help="exit 1 when a gate is not reached")
    parser.add_argument("--write", action="store_true", help="put the table into loadtests/RESULTS.md")
    parser.add_argument("--only", choices=PHASES, action="append", help="some phases only; may be repeated")
    words = parser.parse_args()
    teller = Teller()
    bench = Bench(QUICK if words.quick else FULL, words.only or PHASES, teller)
    try:
        bench.run()
    except KeyboardInterrupt:
        teller.step("interrupted")
        return 2
    except (BrokenRun, RuntimeError, OSError) as fault:
        teller.step(f"the bench failed: {fault}")
        return 2
    mode = f"{'quick' if words.quick else 'full'} run" + (f", only {' and '.join(words.only)}" if words.only else "")
    text = report(bench.figures, mode)
    print(text)
    if words.write:
        keep(text)
    for figure in failed(bench.figures):
        teller.step(f"gate not reached: {figure.name}")
    return 1 if words.gate and failed(bench.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
