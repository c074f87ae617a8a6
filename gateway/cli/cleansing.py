"""Cleansing a list: who on it should be taken off and why, and what a named person decides about them."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from typer.core import TyperGroup

from gateway.cli.command import HERE, Home, app, bar, run_to_end, settings_of, words_of

if TYPE_CHECKING:
    from gateway.records.cleansing import Job


class _Lists(TyperGroup):
    """`assent cleanse campaign:x` means `assent cleanse preview campaign:x`: a scope has a colon, a command none."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, ["preview", *args] if ":" in args[0] else args)


cleanse = typer.Typer(
    cls=_Lists,
    no_args_is_help=True,
    help="""Cleanse a list (名单清理): see who should be taken off and why, decide, undo within a day.

    Examples:

        assent cleanse campaign:acme/double11 --by 'Li Lei' --reason 'the breaker opened'

        assent cleanse apply ID --by 'Li Lei' --reason 'as agreed with compliance'

        assent cleanse undo ID --by 'Li Lei' --reason 'the wrong list'""",
)
app.add_typer(cleanse, name="cleanse")

Id = Annotated[UUID, typer.Argument(metavar="ID", help="The cleansing's id, as the preview prints it.")]
By = Annotated[str, typer.Option(help="Your name; it is recorded.")]
Why = Annotated[str, typer.Option(help="Why; it is recorded.")]


@cleanse.command("preview")
def preview(
    scope: Annotated[
        str, typer.Argument(help="`campaign:acme/x`, `list_source:acme/x`, `sender:acme` or `port:1069…`")
    ],
    by: By,
    reason: Why,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Whose messages: of so many days.")] = 180,
    months: Annotated[
        int | None,
        typer.Option(min=1, max=120, help="No reply for so many months: never engaged; else as the pack has it."),
    ] = None,
    home: Home = HERE,
) -> None:
    """Divide a list and show the counts (预览). Nobody is suppressed.

    Examples:

        assent cleanse campaign:acme/double11 --by 'Li Lei' --reason 'the breaker opened'

        assent cleanse preview list_source:fair-2025 --months 3 --by 'Li Lei' --reason 'the yearly look'
    """
    from gateway.assemble import cleansing

    def begun(name: UUID) -> None:
        typer.echo(f"cleansing {name} of {scope}", err=True)

    with bar() as progress:
        work = cleansing.preview(
            settings_of(home), scope, days=days, months=months, by=by, reason=reason, begun=begun, progress=progress
        )
        job = run_to_end(work, brief=True)
    _table(job)


@cleanse.command("show")
def show(name: Id, home: Home = HERE) -> None:
    """Show a cleansing; while it is being worked on, follow it to the end (查看).

    Example:

        assent cleanse show ID
    """
    from gateway.assemble import cleansing

    with bar() as progress:
        job = run_to_end(cleansing.show(settings_of(home), name, progress), brief=True)
    _table(job)


@cleanse.command("apply")
def apply(
    name: Id,
    by: By,
    reason: Why,
    suppress: Annotated[str, typer.Option(help="Categories to suppress, comma-separated.")] = "",
    repermission: Annotated[str, typer.Option(help="Categories to queue, to be asked again later.")] = "",
    leave: Annotated[str, typer.Option(help="Categories to leave as they are.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    home: Home = HERE,
) -> None:
    """Do what was proposed, or what you choose, by category (执行). It can be undone for 24 hours.

    Examples:

        assent cleanse apply ID --by 'Li Lei' --reason 'as proposed'

        assent cleanse apply ID --leave never_engaged --by 'Li Lei' --reason 'new to us'
    """
    from gateway.assemble import cleansing

    settings = settings_of(home)
    work = cleansing.planned(settings, name, words_of(suppress), words_of(repermission), words_of(leave))
    job, table = run_to_end(work, brief=True)
    if not yes:
        _table(job, table)
        typer.confirm("Do it?", abort=True)
    with bar() as progress:
        job = run_to_end(cleansing.apply(settings, name, table, by=by, reason=reason, progress=progress), brief=True)
    _table(job)
    typer.echo(f"assent cleanse undo {name} takes it back until {job.undo_until:%Y-%m-%d %H:%M} UTC", err=True)


@cleanse.command("undo")
def undo(name: Id, by: By, reason: Why, home: Home = HERE) -> None:
    """Lift what a cleansing suppressed, within 24 hours; complaints, opt-outs and what others set stay (撤销).

    Example:

        assent cleanse undo ID --by 'Li Lei' --reason 'the wrong list'
    """
    from gateway.assemble import cleansing

    with bar() as progress:
        work = cleansing.undo(settings_of(home), name, by=by, reason=reason, progress=progress)
        job = run_to_end(work, brief=True)
    _table(job)


def _table(job: "Job", table: Any = None) -> None:
    from rich.console import Console
    from rich.table import Table

    from gateway.rules.cleansing import PROPOSED, Category

    shown = Table(title=f"{job.scope}: {job.people:,} people, {job.state}", title_justify="left")
    for head, justify in (("category", "left"), ("people", "right"), ("with this reason", "right"), ("choice", "left")):
        shown.add_column(head, justify=justify)  # type: ignore[arg-type]
    people, reasons = job.counts.get("categories", {}), job.counts.get("reasons", {})
    for one in Category:
        choice = (job.choices or {}).get(one.word) or (table or PROPOSED)[one]
        n = people.get(one.word, 0)
        shown.add_row(one.word, f"{n:,}", f"{reasons.get(one.word, n):,}", str(choice))
    Console().print(shown)
    outcomes = job.counts.get("outcomes", {})
    if outcomes:
        typer.echo(", ".join(f"{n:,} {word}" for word, n in outcomes.items()))
