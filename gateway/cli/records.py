"""The records process, and what a regulator and a court ask of records: an export, a legal hold."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import typer

from gateway.cli.command import app, run_to_end, settings_of

kept = typer.Typer()
app.add_typer(kept, name="records")


@kept.callback(invoke_without_command=True)
def records(context: typer.Context) -> None:
    """Keep what messages said and to which number, sealed, from Kafka in PostgreSQL (内容留存); run one.

    Example:

        assent records
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.assemble.records import archive

    run_to_end(archive(settings_of()))
