"""The ledger process, and the transparency log that it signs: its key, its check, its recovery."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.command import HERE, Home, app, bar, run_to_end, settings_of

log = typer.Typer()
app.add_typer(log, name="ledger")


@log.callback(invoke_without_command=True)
def ledger(
    context: typer.Context,
    with_hold: Annotated[bool, typer.Option("--with-hold", help="Release held messages in this process too.")] = False,
) -> None:
    """Carry consents from PostgreSQL into Redis, sign the log over them, announce clients and breakers; run one (账本).

    Examples:

        assent ledger --with-hold

        assent ledger verify
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.assemble.ledger import ledger as run

    run_to_end(run(settings_of(), with_hold))


@log.command("verify")
def ledger_verify(
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint of this log kept elsewhere; may be repeated.")
    ] = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also open every body, and replay every person's events to the state in force."),
    ] = False,
    home: Home = HERE,
) -> None:
    """Hold the whole log against PostgreSQL, its tiles and its checkpoints (核验账本); exit status 1 when they differ.

    Examples:

        assent ledger verify

        assent ledger verify --deep --checkpoint kept-in-march
    """
    from gateway.assemble.tree import verify_log

    with bar() as progress:
        found = run_to_end(verify_log(settings_of(home), checkpoint or [], progress, deep=deep), brief=True)
    sizes = ", ".join(f"{size:,}" for size in dict.fromkeys(found.checkpoints))
    typer.echo(f"{found.entries:,} entries, {found.tiles:,} full tiles, checkpoints of {sizes or 'none'} entries")
    if deep:
        typer.echo(f"{found.bodies:,} bodies opened, {found.people:,} people's states replayed")
    for words in found.told:
        typer.echo(f"WRONG: {words}")
    if found.wrong:
        typer.echo(f"{found.wrong:,} differences: see docs/runbook.md, The log is refused")
        raise typer.Exit(1)
    typer.echo("all of it fits")


@log.command("recover")
def ledger_recover(
    checkpoint: Annotated[
        Path | None, typer.Option(help="The newest signed checkpoint that is kept elsewhere.")
    ] = None,
    home: Home = HERE,
) -> None:
    """Make a lost log's folder again from PostgreSQL; only what comes to the last signed root is taken (恢复日志).

    Example:

        assent ledger recover --checkpoint kept-in-march
    """
    from gateway.assemble.tree import recover_log

    with bar() as progress:
        work = recover_log(settings_of(home), checkpoint, lambda done, total: progress("tiles", done, total))
        signed = run_to_end(work, brief=True)
    typer.echo(f"the log of {signed.origin} is whole again, {signed.size:,} entries")


@log.command("key")
def ledger_key(
    name: Annotated[str, typer.Argument(help="The log's name for good, like a URL without scheme: example.com/log.")],
) -> None:
    """Make a signer key of a log and print it, this once; its verifier key goes to the error stream (生成日志签名密钥).

    Example:

        assent ledger key example.com/assent > ledger_key
    """
    from gateway.ledger.note import NoteError, generate

    try:
        skey, vkey = generate(name)
    except NoteError:
        raise typer.BadParameter("a name has no spaces and no plus sign") from None
    typer.echo(f"verifier key: {vkey}", err=True)
    typer.echo(skey)
