"""The command of a bench over so many rows: its options, how it ends, and its table."""

import argparse
import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import asyncpg
import httpx
import uvloop

from loadtests.bench import report
from loadtests.figures import Figure, failed
from loadtests.say import Teller

FAULTS = (RuntimeError, OSError, TimeoutError, asyncpg.PostgresError, httpx.HTTPError)


def command(
    name: str,
    doc: str | None,
    run: Callable[[int, Teller], Coroutine[Any, Any, list[Figure]]],
    *,
    rows: int,
    told: str,
    title: str,
    words: Sequence[str] | None,
) -> int:
    """Run it: 0; 1 when a gate is not reached and `--gate` was given; 2 when the run failed. `told`: what a row is."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=doc)
    parser.add_argument("--rows", type=int, default=rows, help=told)
    parser.add_argument("--gate", action="store_true", help="exit 1 when a gate is not reached")
    chosen = parser.parse_args(words)
    teller = Teller()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(run(chosen.rows, teller))
    except KeyboardInterrupt:
        teller.step("interrupted")
        return 2
    except FAULTS as fault:
        teller.step(f"the bench failed: {type(fault).__name__}: {fault}")
        return 2
    print(report(found, f"{chosen.rows:,} {title}"))
    return 1 if chosen.gate and failed(found) else 0
