"""The gateway's processes, one command each, and `up`, which runs all of them."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import sys
from pathlib import Path
from typing import Annotated

import typer

import gateway
from gateway.cli.command import app, end, run_to_end, settings_of, words_of

CLASSES = ("verification", "transactional", "marketing", "consent")


@app.command()
def up(
    home: Annotated[Path, typer.Option(help="Where data, logs and secrets stay between runs.")] = Path(".assent"),
    port: Annotated[int, typer.Option(help="The edge's port; the parts take the next ones.", min=1, max=65000)] = 8080,
) -> None:
    """Run everything on this machine, on real embedded servers, until Ctrl-C (单机启动).

    Examples:

        assent up

        assent up --home /data/assent --port 9000

        ASSENT_REDIS_URL=redis://10.0.0.5:6379/0 assent up
    """
    try:
        from gateway.local.up import up as run
    except ModuleNotFoundError as missing:
        typer.echo(
            f"assent up needs package {missing.name}: install requirements.lock, or run the processes alone", err=True
        )
        raise typer.Exit(1) from None

    raise typer.Exit(run(home, port, lambda text: print(text, flush=True)))  # noqa: T201 - this is its output


@app.command()
def prepare() -> None:
    """Bring the database's schema and Kafka's topics to this version; in the local profile, add the demo client.

    Example:

        ASSENT_DATABASE_URL=postgresql://… ASSENT_KAFKA_BOOTSTRAP=… assent prepare
    """
    from gateway.assemble import preparing

    run_to_end(preparing.prepare(settings_of()), brief=True)


@app.command()
def edge() -> None:
    """Take messages, consents, receipts and replies over HTTP (接入).

    Example:

        ASSENT_HOST=0.0.0.0 ASSENT_WORKERS=4 assent edge
    """
    from gateway.assemble.edge import edge as run
    from gateway.assemble.faults import told

    settings = settings_of()
    try:
        run(settings)
    except Exception as fault:  # noqa: BLE001 - as in _run
        end(fault, told(fault, brief=False))


@app.command()
def deliver(
    classes: Annotated[str, typer.Option(help="Classes to submit, comma-separated.")] = ",".join(CLASSES),
) -> None:
    """Check once more and submit to carriers (下发).

    Example:

        assent deliver --classes verification,transactional,consent
    """
    chosen = words_of(classes)
    if not chosen or not set(chosen) <= set(CLASSES):
        raise typer.BadParameter(f"classes are {', '.join(CLASSES)}", param_hint="--classes")
    from gateway.assemble.deliver import deliver as run

    run_to_end(run(settings_of(), chosen))


@app.command()
def settle(
    with_webhooks: Annotated[
        bool, typer.Option("--with-webhooks", help="Send clients' webhooks in this process too.")
    ] = False,
) -> None:
    """Turn submissions, receipts and replies into statuses, refunds and opt-outs (回执与退订).

    Examples:

        assent settle

        assent settle --with-webhooks
    """
    from gateway.assemble.settle import settle as run

    run_to_end(run(settings_of(), with_webhooks))


@app.command()
def hold() -> None:
    """Release held messages when they are due (静默时段与定时).

    Example:

        assent hold
    """
    from gateway.assemble.hold import hold as run

    run_to_end(run(settings_of()))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"assent {gateway.__version__} (Python {sys.version.split()[0]})")
