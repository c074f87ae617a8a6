"""The `assent` command: one subcommand per process, and what an operator types.

Owns words and exit statuses only. Every command builds its process in `assemble` from the environment; imports wait
until a command runs, so `--help` answers at once.
"""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gateway

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

**On many:** one process each of `edge`, `deliver`, `settle`, `ledger` and `hold`, configured by `ASSENT_…` in the
environment (docs/settings.md); `assent prepare` once before.""",
)
clients = typer.Typer(no_args_is_help=True, help="Internal services that may send (内部业务方).")
app.add_typer(clients, name="client")

CLASSES = ("verification", "transactional", "marketing", "consent")


def _settings() -> "Settings":
    from gateway.settings import Settings

    return Settings()


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a process to its end on uvloop where there is one."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


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
    from gateway import assemble

    _run(assemble.prepare(_settings()))


@app.command()
def edge() -> None:
    """Take messages, consents, receipts and replies over HTTP (接入).

    Example:

        ASSENT_HOST=0.0.0.0 ASSENT_WORKERS=4 assent edge
    """
    from gateway import assemble

    assemble.edge(_settings())


@app.command()
def deliver(
    classes: Annotated[str, typer.Option(help="Classes to submit, comma-separated.")] = ",".join(CLASSES),
) -> None:
    """Check once more and submit to carriers (下发).

    Example:

        assent deliver --classes verification,transactional,consent
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in classes.split(",") if name.strip()))
    if not chosen or not set(chosen) <= set(CLASSES):
        raise typer.BadParameter(f"classes are {', '.join(CLASSES)}", param_hint="--classes")
    from gateway import assemble

    _run(assemble.deliver(_settings(), chosen))


@app.command()
def settle() -> None:
    """Turn submissions, receipts and replies into statuses, refunds and opt-outs (回执与退订).

    Example:

        assent settle
    """
    from gateway import assemble

    _run(assemble.settle(_settings()))


@app.command()
def ledger(
    with_hold: Annotated[bool, typer.Option("--with-hold", help="Release held messages in this process too.")] = False,
) -> None:
    """Carry consents and suppressions from PostgreSQL into Redis, and announce clients and breakers; run one.

    Example:

        assent ledger --with-hold
    """
    from gateway import assemble

    _run(assemble.ledger(_settings(), with_hold))


@app.command()
def hold() -> None:
    """Release held messages when they are due (静默时段与定时).

    Example:

        assent hold
    """
    from gateway import assemble

    _run(assemble.hold(_settings()))


@app.command()
def rebuild() -> None:
    """Fill an empty or doubtful Redis from PostgreSQL and Kafka (重建缓存); sending resumes when it is whole.

    Example:

        assent rebuild
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from gateway import assemble

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("recipients", total=None, rate="")

        def progress(done: int, total: int | None = None, per_s: float | None = None) -> None:
            rate = f"{per_s:,.0f}/s" if per_s else f"{bar.tasks[task].speed or 0:,.0f}/s"
            bar.update(task, completed=done, total=total, rate=rate)

        _run(assemble.rebuild(_settings(), progress))


@app.command()
def stop(
    scope: Annotated[
        str, typer.Argument(help="`all`, `class:marketing`, `sender:acme`, `campaign:x`, `port:1069…`, `list_source:x`")
    ],
    by: Annotated[str, typer.Option(help="Your name; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
) -> None:
    """Open a breaker: within seconds nothing more of the scope is admitted or submitted (熔断).

    Example:

        assent stop campaign:double11 --by 'Li Lei' --reason 'complaints on port 10690002'
    """
    from gateway import assemble

    _run(assemble.stop(_settings(), scope, by=by, reason=reason))
    typer.echo(f"{scope} is stopped")


@app.command()
def resume(
    scope: Annotated[str, typer.Argument(help="The scope that was stopped.")],
    by: Annotated[str, typer.Option(help="Your name; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why it is safe again; it is recorded.")],
) -> None:
    """Close a breaker: only a named person with a reason does (恢复发送).

    Example:

        assent resume campaign:double11 --by 'Li Lei' --reason 'list cleaned'
    """
    from gateway import assemble

    _run(assemble.resume(_settings(), scope, by=by, reason=reason))
    typer.echo(f"{scope} is resumed")


@clients.command("add")
def client_add(
    name: Annotated[str, typer.Argument(help="Its name: lower case, digits, `-`, `_`.")],
    senders: Annotated[str, typer.Option(help="Senders it may use, comma-separated, or `*`.")],
    purposes: Annotated[str, typer.Option(help="Purposes or topics, comma-separated, or `*`.")] = "*",
    roles: Annotated[
        str, typer.Option(help="`send`, `consent`, `read`, `suppress`, `operate`, `carrier:<name>`.")
    ] = "send",
    quota: Annotated[int, typer.Option(help="Messages a minute.", min=1)] = 1_000_000,
) -> None:
    """Add a client and print its key, this once: only the key's digest is kept.

    Example:

        assent client add shop --senders acme --purposes transaction,marketing --roles send,read
    """
    from gateway import assemble

    def words(text: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in text.split(",") if word.strip())

    key = _run(
        assemble.add_client(
            _settings(),
            name,
            senders=words(senders),
            purposes=words(purposes),
            roles=words(roles),
            quota_per_minute=quota,
        )
    )
    typer.echo(f"client {name} added; its key, shown this once:", err=True)
    typer.echo(key)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"assent {gateway.__version__} (Python {sys.version.split()[0]})")
