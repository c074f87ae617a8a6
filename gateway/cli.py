"""The `assent` command: one subcommand per process, and what an operator types.

Owns words and exit statuses only. Every command builds its process in `assemble` from the environment; imports wait
until a command runs, so `--help` answers at once.
"""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

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
senders = typer.Typer(no_args_is_help=True, help="Brands messages are sent for (签名与端口).")
app.add_typer(senders, name="sender")
audits = typer.Typer(no_args_is_help=True, help="Look whether two parts say the same (核对).")
app.add_typer(audits, name="audit")

CLASSES = ("verification", "transactional", "marketing", "consent")


Home = Annotated[
    Path, typer.Option(help="The home of `assent up` to work on, unless ASSENT_DATABASE_URL names an installation.")
]
HERE = Path(".assent")


def _settings(home: Path | None = None) -> "Settings":
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


def _run(work: Coroutine[Any, Any, Any], *, brief: bool = False) -> Any:
    """Run to the end. A fault that was foreseen is one line and status 1; any other is logged by its place.

    `brief`: an operator's command, whose parts may be away. A process waits for them, and its log says where it ended.
    """
    import uvloop

    from gateway.assemble.faults import told

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except Exception as fault:  # noqa: BLE001 - its own text may quote a person
        _end(fault, told(fault, brief=brief))


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
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
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=None, rate="")
            speed = bar.tasks[tasks[stage]].speed or 0
            bar.update(tasks[stage], completed=done, total=total or None, rate=f"{speed:,.0f}/s")

        yield progress


def _end(fault: Exception, said: str | None) -> NoReturn:
    if said is not None:
        typer.echo(f"assent: {said}", err=True)
    else:
        from gateway import telemetry

        telemetry.configure_logging("info")
        telemetry.logger("cli").error("ended", exc_info=fault)
    raise typer.Exit(1) from None


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
    from gateway.assemble import commands

    _run(commands.prepare(_settings()), brief=True)


@app.command()
def edge() -> None:
    """Take messages, consents, receipts and replies over HTTP (接入).

    Example:

        ASSENT_HOST=0.0.0.0 ASSENT_WORKERS=4 assent edge
    """
    from gateway.assemble.edge import edge as run
    from gateway.assemble.faults import told

    settings = _settings()
    try:
        run(settings)
    except Exception as fault:  # noqa: BLE001 - as in _run
        _end(fault, told(fault, brief=False))


@app.command()
def deliver(
    classes: Annotated[str, typer.Option(help="Classes to submit, comma-separated.")] = ",".join(CLASSES),
) -> None:
    """Check once more and submit to carriers (下发).

    Example:

        assent deliver --classes verification,transactional,consent
    """
    chosen = _words(classes)
    if not chosen or not set(chosen) <= set(CLASSES):
        raise typer.BadParameter(f"classes are {', '.join(CLASSES)}", param_hint="--classes")
    from gateway.assemble.deliver import deliver as run

    _run(run(_settings(), chosen))


@app.command()
def settle() -> None:
    """Turn submissions, receipts and replies into statuses, refunds and opt-outs (回执与退订).

    Example:

        assent settle
    """
    from gateway.assemble.settle import settle as run

    _run(run(_settings()))


@app.command()
def ledger(
    with_hold: Annotated[bool, typer.Option("--with-hold", help="Release held messages in this process too.")] = False,
) -> None:
    """Carry consents and suppressions from PostgreSQL into Redis, and announce clients and breakers; run one.

    Example:

        assent ledger --with-hold
    """
    from gateway.assemble.ledger import ledger as run

    _run(run(_settings(), with_hold))


@app.command()
def hold() -> None:
    """Release held messages when they are due (静默时段与定时).

    Example:

        assent hold
    """
    from gateway.assemble.hold import hold as run

    _run(run(_settings()))


@app.command()
def rebuild(home: Home = HERE) -> None:
    """Fill an empty or doubtful Redis from PostgreSQL and Kafka (重建缓存); sending resumes when it is whole.

    Example:

        assent rebuild
    """
    from gateway.assemble import commands

    with _bar() as progress:
        filled = _run(commands.rebuild(_settings(home), progress), brief=True)
    for n, seconds, what in (
        (filled.recipients, filled.recipients_s, "recipients from PostgreSQL"),
        (filled.messages, filled.messages_s, "records of the last day from Kafka"),
    ):
        typer.echo(f"{n:,} {what}, {n / seconds if seconds else n:,.0f} a second")


@audits.command("cache")
def audit_cache(
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what is wrong; entries of nobody PostgreSQL knows are removed.")
    ] = False,
    home: Home = HERE,
) -> None:
    """Compare every recipient's permissions in Redis with PostgreSQL, traffic going on (核对缓存).

    Exit status 1 when something differs and was not repaired. An empty Redis is filled faster by `assent rebuild`.

    Examples:

        assent audit cache

        assent audit cache --repair
    """
    from gateway.assemble import commands

    with _bar() as progress:
        found = _run(commands.audit_cache(_settings(home), progress, repair=repair), brief=True)
    rate = found.recipients / found.seconds if found.seconds else found.recipients
    typer.echo(f"{found.recipients:,} recipients in PostgreSQL, {rate:,.0f} a second")
    counts = {"equal": found.equal} | {verdict.value: count for verdict, count in found.wrong.items()}
    typer.echo("Redis: " + ", ".join(f"{count:,} {word}" for word, count in counts.items()))
    for count, what in (
        (found.beyond, "of them claim an event that PostgreSQL does not have: docs/runbook.md, The cache differs"),
        (found.copies, "encoded copies in PostgreSQL are not what their state says"),
        (len(found.ahead), "lanes are ahead of PostgreSQL, nothing is repaired: see docs/runbook.md before any flush"),
        (len(found.cold), "lanes are empty or being filled: the ledger process fills them, or `assent rebuild`"),
        (found.repaired, "repaired"),
        (found.copied, "encoded copies written"),
    ):
        if count:
            typer.echo(f"{count:,} {what}")
    if not found.agrees:
        raise typer.Exit(1)


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

    _run(commands.stop(_settings(home), scope, by=by, reason=reason), brief=True)
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

    _run(commands.resume(_settings(home), scope, by=by, reason=reason), brief=True)
    typer.echo(f"{scope} is resumed")


@clients.command("add")
def client_add(
    name: Annotated[str, typer.Argument(help="Its name: lower case, digits, `-`, `_`.")],
    senders: Annotated[str, typer.Option(help="Senders it may use, comma-separated, or `*`.")] = "",
    purposes: Annotated[str, typer.Option(help="Purposes or topics, comma-separated, or `*`.")] = "*",
    roles: Annotated[
        str, typer.Option(help="`send`, `consent`, `read`, `suppress`, `operate`, `carrier:<name>`.")
    ] = "send",
    quota: Annotated[int, typer.Option(help="Messages a minute.", min=1)] = 1_000_000,
    replace: Annotated[bool, typer.Option("--replace", help="Let it take the place of the one of this name.")] = False,
    home: Home = HERE,
) -> None:
    """Add a client and print its key, this once: only the key's digest is kept.

    Examples:

        assent client add shop --senders acme --purposes transaction,marketing --roles send,read

        assent client add carrier-http --roles carrier:http
    """
    from gateway.assemble import registering

    work = registering.add_client(
        _settings(home),
        name,
        senders=_words(senders),
        purposes=_words(purposes),
        roles=_words(roles),
        quota_per_minute=quota,
        replace=replace,
    )
    key = _run(work, brief=True)
    typer.echo(f"client {name} is there; its key, shown this once:", err=True)
    typer.echo(key)


@senders.command("add")
def sender_add(
    name: Annotated[str, typer.Argument(help="Its name: lower case, digits, `-`, `_`.")],
    signature: Annotated[str, typer.Option(help="Its registered signature, without brackets.")],
    service_port: Annotated[str, typer.Option(help="The port registered for service messages.")],
    marketing_port: Annotated[str, typer.Option(help="The port registered for marketing.")],
    pack: Annotated[str, typer.Option(help="The rules it is under.")] = "cn",
    cap_per_day: Annotated[int | None, typer.Option(help="Messages a day at most; none: no cap.", min=1)] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Let it take the place of the one of this name.")] = False,
    home: Home = HERE,
) -> None:
    """Add a sender.

    Example:

        assent sender add acme --signature Acme --service-port 10690001 --marketing-port 10690002
    """
    from gateway.assemble import registering

    fields = {
        "signature": signature,
        "service_port": service_port,
        "marketing_port": marketing_port,
        "pack": pack,
        "cap_per_day": cap_per_day,
    }
    _run(registering.add_sender(_settings(home), name, fields, replace=replace), brief=True)
    typer.echo(f"sender {name} is there")


def _words(text: str) -> tuple[str, ...]:
    """Comma-separated words."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"assent {gateway.__version__} (Python {sys.version.split()[0]})")
