"""The `assent` command itself, and what all of its commands share: settings, the run to the end, and how it is told.

Owns words and exit statuses only. Every command builds its process in `assemble` from the environment; imports wait
until a command runs, so `--help` answers at once.
"""

# ruff: noqa: PLC0415 - imports wait until a command runs; examples are shown as they are written

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from gateway.settings import Settings


app = typer.Typer(
    name="assent",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="""A permission-first message gateway (先有同意，再有消息).

**On one machine:** `assent up`

**On many:** one process each of `edge`, `deliver`, `settle`, `records`, `webhooks`, `ledger`, `hold` and `console`,
configured by `ASSENT_…` in the environment (docs/settings.md); `assent prepare` once before.""",
)


Home = Annotated[
    Path, typer.Option(help="The home of `assent up` to work on, unless ASSENT_DATABASE_URL names an installation.")
]


HERE = Path(".assent")


def settings_of(home: Path | None = None) -> "Settings":
    """Settings from the environment; for an operator's command, of the home where the environment names nothing."""
    from pydantic import ValidationError

    from gateway.settings import Settings

    if home is not None and not os.environ.get("ASSENT_DATABASE_URL"):
        from gateway.local.home import Home

        os.environ.update(Home(home).environment())
    try:
        return Settings()
    except ValidationError as wrong:  # its own text would quote what was given, which may be a secret
        for error in wrong.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in error["loc"]).upper()
            typer.echo(f"assent: ASSENT_{name}: {error['msg']}", err=True)
        raise typer.Exit(1) from None


def run_to_end(work: Coroutine[Any, Any, Any], *, brief: bool = False) -> Any:
    """Run to the end. A fault that was foreseen is one line and status 1; any other is logged by its place.

    `brief`: an operator's command, whose parts may be away. A process waits for them, and its log says where it ended.
    """
    import uvloop

    from gateway.assemble.faults import told

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except Exception as fault:  # noqa: BLE001 - its own text may quote a person
        end(fault, told(fault, brief=brief))


def end(fault: Exception, said: str | None) -> NoReturn:
    """Say what went wrong in its line, or log its place where nobody foresaw it; exit status 1."""
    if said is not None:
        typer.echo(f"assent: {said}", err=True)
    else:
        from gateway import telemetry

        telemetry.configure_logging("info")
        telemetry.logger("cli").error("ended", exc_info=fault)
    raise typer.Exit(1) from None


def words_of(text: str) -> tuple[str, ...]:
    """Comma-separated words."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


@contextmanager
def bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage of a long command: what it is told is the stage, how much is done, how much there is."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as shown:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=None, rate="")
            speed = shown.tasks[tasks[stage]].speed or 0
            shown.update(tasks[stage], completed=done, total=total or None, rate=f"{speed:,.0f}/s")

        yield progress
