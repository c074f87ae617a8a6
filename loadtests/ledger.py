"""`make bench-ledger`: what the ledger does a second and what it costs, on real PostgreSQL (fsync on) and Valkey.

Starts both in a temporary home, runs the phases, prints a table, ends them and removes the home. A phase is one
function in PHASES: it is given the ground it stands on and returns its figures; it makes its own database, so phases do
not meet. Exit status: 0; 1 when a gate is not reached and `--gate` was given; 2 when the run itself failed.
"""

import argparse
import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import uvloop

from gateway.assemble.parts import COLLECT
from gateway.guard import Guard
from gateway.ledger.audit import audit
from gateway.ledger.rebuild import rebuild
from gateway.local.parts import bring_up
from gateway.records.migrate import migrate
from loadtests import appends, people, tree
from loadtests.bench import report
from loadtests.figures import Figure, failed
from loadtests.say import Teller
from loadtests.stack import Stack

DOCUMENT = Path(__file__).parents[1] / "docs/ledger.md"
HEADING = "## Figures\n"
REBUILD_S = 150_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done."""

    recipients: int
    appending: int
    """People who act."""
    append_s: float


FULL = Scale(1_000_000, 200_000, 20.0)
QUICK = Scale(100_000, 50_000, 4.0)


class Ground:
    """What a phase stands on: the parts, how much to do, and whom to tell."""

    def __init__(self, stack: Stack, scale: Scale, teller: Teller) -> None:
        self.stack, self.scale, self.teller = stack, scale, teller

    async def database(self, name: str) -> str:
        """The address of a new database of this version's tables."""
        endpoint = self.stack.postgres.endpoint
        connection = await asyncpg.connect(endpoint)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        dsn = urlunsplit(urlsplit(endpoint)._replace(path=f"/{name}"))
        await migrate(dsn)
        return dsn

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[Guard]:
        """A guard on an emptied Valkey."""
        guard = await Guard.connect(self.stack.valkey.endpoint, timeout_s=5.0)
        try:
            await guard.server.command("FLUSHALL")
            yield guard
        finally:
            await guard.close()

    @property
    def pids(self) -> dict[str, int]:
        """`valkey` and `postgres`, for a meter."""
        return {name.lower().replace("postgresql", "postgres"): pid for name, pid in self.stack.pids().items()}


async def appended(ground: Ground) -> list[Figure]:
    """Events a second, how long an answer takes, CPU per event."""
    dsn, scale = await ground.database("appended"), ground.scale
    async with ground.guard() as guard:
        return await appends.measure(
            dsn, guard, ground.pids, ground.teller, people=scale.appending, seconds=scale.append_s
        )


async def cached(ground: Ground) -> list[Figure]:
    """The cache rebuilt from PostgreSQL, and audited against it."""
    dsn, count, teller = await ground.database("cached"), ground.scale.recipients, ground.teller

    def tell(stage: str, done: int, total: int) -> None:
        teller.progress(f"{done:,} of {total:,} {stage}")

    teller.step(f"{count:,} recipients with one consent each, into PostgreSQL")
    connection = await asyncpg.connect(dsn)
    try:
        rows = people.consenting(count)
        await people.put(connection, rows, count, lambda done, total: tell("copied", done, total))
        await connection.execute("VACUUM ANALYZE subject_states")
    finally:
        await connection.close()

    async with ground.guard() as guard:
        teller.step("the cache, rebuilt from PostgreSQL")
        filled = await rebuild(dsn, guard, tell)
        teller.step("the cache, audited against PostgreSQL")
        found = await audit(dsn, guard, tell)
    if not (found.agrees and found.equal == filled.recipients == count):
        raise RuntimeError(f"what was rebuilt is not what PostgreSQL says: {found}")
    rebuilt = filled.recipients / filled.recipients_s
    note = f"{count:,} recipients"
    return [
        Figure("cache rebuilt", rebuilt, "recipients/s", REBUILD_S, least=True, gates=True, note=note),
        Figure("cache audited, nothing differing", count / found.seconds, "recipients/s", note=note),
    ]


async def logged(ground: Ground) -> list[Figure]:
    """The transparency log: grown, checked whole, proved from."""
    return await tree.measure(
        await ground.database("logged"), ground.stack.home / "ledger", ground.scale.recipients, ground.teller
    )


PHASES: dict[str, Callable[[Ground], Coroutine[Any, Any, list[Figure]]]] = {
    "append": appended,
    "cache": cached,
    "log": logged,
}


def run(scale: Scale, phases: Sequence[str], teller: Teller) -> list[Figure]:
    """Everything, in order; the parts are gone afterwards, whatever happens."""
    stack = Stack(teller.step)
    stack.parts = [stack.valkey, stack.postgres]
    figures: list[Figure] = []
    try:
        teller.step(f"starting Valkey and PostgreSQL in {stack.home}")
        bring_up(stack.parts, on_ready=lambda part, seconds: teller.step(f"{part.name} ready after {seconds:.1f} s"))
        ground = Ground(stack, scale, teller)
        gc.set_threshold(*COLLECT)
        for name in phases:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                figures += runner.run(PHASES[name](ground))
    except BaseException:
        for words in stack.dead():
            teller.step(words)
        raise
    finally:
        teller.step("stopping")
        stack.stop()
    return figures


def keep(text: str, document: Path = DOCUMENT) -> None:
    """Put a run's table under the document's heading, in the place of the one before."""
    before, _, after = document.read_text(encoding="utf-8").partition(HEADING)
    words, mark, rest = after.partition("\n## ")
    own = words.partition("\n### ")[0].rstrip()
    document.write_text(f"{before}{HEADING}{own}\n\n#{text.rstrip()}\n{mark}{rest}", encoding="utf-8")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.ledger", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter and smaller; for a look, not for the record")
    parser.add_argument("--gate", action="store_true", help="exit 1 when a gate is not reached")
    parser.add_argument("--write", action="store_true", help="put the table into docs/ledger.md")
    parser.add_argument("--only", choices=PHASES, action="append", help="some phases only; may be repeated")
    words = parser.parse_args()
    teller = Teller()
    try:
        figures = run(QUICK if words.quick else FULL, words.only or list(PHASES), teller)
    except KeyboardInterrupt:
        teller.step("interrupted")
        return 2
    except (RuntimeError, OSError) as fault:
        teller.step(f"the bench failed: {fault}")
        return 2
    mode = f"{'quick' if words.quick else 'full'} run" + (f", only {' and '.join(words.only)}" if words.only else "")
    text = report(figures, mode)
    print(text)
    if words.write:
        keep(text)
    for figure in failed(figures):
        teller.step(f"gate not reached: {figure.name}")
    return 1 if words.gate and failed(figures) else 0


if __name__ == "__main__":
    sys.exit(main())
