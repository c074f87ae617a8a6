"""What an operator does beside running processes: refill the cache, stop and resume a scope."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from typing import Annotated

import typer

from gateway.cli.command import HERE, Home, app, run_to_end, settings_of


@app.command()
def rebuild(home: Home = HERE) -> None:
    """Fill an empty or doubtful Redis from PostgreSQL and Kafka (重建缓存); sending resumes when it is whole.

    Example:

        assent rebuild
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from gateway.assemble import commands

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=None, rate="")
            speed = bar.tasks[tasks[stage]].speed or 0
            bar.update(tasks[stage], completed=done, total=total or None, rate=f"{speed:,.0f}/s")

        filled = run_to_end(commands.rebuild(settings_of(home), progress), brief=True)
    for n, seconds, what in (
        (filled.recipients, filled.recipients_s, "recipients from PostgreSQL"),
        (filled.messages, filled.messages_s, "records of the last day from Kafka"),
    ):
        typer.echo(f"{n:,} {what}, {n / seconds if seconds else n:,.0f} a second")


@app.command()
def stop(
    scope: Annotated[
        str, typer.Argument(help="`all`, `class:marketing`, `sender:acme`, `campaign:x`, `port:1069…`, `list_source:x`")
    ],
    by: Annotated[str, typer.Option(help="Your name; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    home: Home = HERE,
) -> None:
    """Open a breaker: within seconds nothing more of the scope is admitted or submitted (熔断).

    Example:

        assent stop campaign:double11 --by 'Li Lei' --reason 'complaints on port 10690002'
    """
    from gateway.assemble import commands

    run_to_end(commands.stop(settings_of(home), scope, by=by, reason=reason), brief=True)
    typer.echo(f"{scope} is stopped")


@app.command()
def resume(
    scope: Annotated[str, typer.Argument(help="The scope that was stopped.")],
    by: Annotated[str, typer.Option(help="Your name; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why it is safe again; it is recorded.")],
    home: Home = HERE,
) -> None:
    """Close a breaker: only a named person with a reason does (恢复发送).

    Example:

        assent resume campaign:double11 --by 'Li Lei' --reason 'list cleaned'
    """
    from gateway.assemble import commands

    run_to_end(commands.resume(settings_of(home), scope, by=by, reason=reason), brief=True)
    typer.echo(f"{scope} is resumed")
