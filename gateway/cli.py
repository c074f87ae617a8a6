"""The `assent` command: one subcommand per process, and what an operator types.

Owns words and exit statuses only. Every command builds its process in `assemble` from the environment; imports wait
until a command runs, so `--help` answers at once.
"""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import asyncio
import os
import sys
from collections.abc import Coroutine
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
people = typer.Typer(no_args_is_help=True, help="A person's own rights: a copy of their data, its erasure (个人权利).")
app.add_typer(people, name="person")

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

        filled = _run(commands.rebuild(_settings(home), progress), brief=True)
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


Who = Annotated[str, typer.Argument(help="A subject (32 hex digits), a number, or `-` to read one from stdin.")]
By = Annotated[str | None, typer.Option(help="Your name; it is recorded. None: your login.", show_default=False)]
Out = Annotated[Path | None, typer.Option(help="The file to write; `.html` makes a page. None: JSON on stdout.")]


def _who(given: str) -> str:
    """Who is meant. An argument stays in the shell's history and in the list of processes; stdin stays nowhere."""
    return sys.stdin.readline().strip() if given == "-" else given.strip()


def _by(given: str | None) -> str:
    import getpass

    return (given or getpass.getuser()).strip()[:100]


def _put(out: Path | None, text: str) -> None:
    """Write it for its owner's eyes alone, or print it."""
    if out is None:
        typer.echo(text)
        return
    out.touch(mode=0o600)
    out.chmod(0o600)
    out.write_text(text + "\n", encoding="utf-8")
    typer.echo(f"written to {out}", err=True)


@people.command("export")
def person_export(who: Who, out: Out = None, by: By = None, home: Home = HERE) -> None:
    """A copy of everything held about a person (个人信息副本). The look is recorded.

    While an erasure waits for the end of what the law asks to keep, the copy says that and nothing more.

    Examples:

        assent person export 2865a29cd48a2b5e70b63cc07cb5a0be --out person.json

        assent person export - --out person.html < number.txt
    """
    from gateway.assemble import personal

    readable = out is not None and out.suffix == ".html"
    work = personal.export(_settings(home), _who(who), readable=readable, by=_by(by))
    _put(out, _run(work, brief=True))


@people.command("erase")
def person_erase(who: Who, out: Out = None, by: By = None, home: Home = HERE) -> None:
    """Erase a person's data, or restrict it until the law lets go of it (删除); writes the signed certificate.

    Examples:

        assent person erase 2865a29cd48a2b5e70b63cc07cb5a0be --by 'Li Lei'

        assent person erase - --out certificate.html < number.txt
    """
    import json

    from gateway.assemble import personal

    signed, page = _run(personal.erase(_settings(home), _who(who), by=_by(by)), brief=True)
    if out is not None and out.suffix == ".html":
        _put(out, page)
    else:
        _put(out, json.dumps(signed._asdict(), ensure_ascii=False, indent=2))


def _words(text: str) -> tuple[str, ...]:
    """Comma-separated words."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"assent {gateway.__version__} (Python {sys.version.split()[0]})")
