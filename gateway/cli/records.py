"""The records process, and what a regulator and a court ask of records: an export, a legal hold."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import HERE, Home, app, bar, run_to_end, settings_of

if TYPE_CHECKING:
    from gateway.contract.export import Asked

kept = typer.Typer()
app.add_typer(kept, name="records")
holding = typer.Typer(no_args_is_help=True, help="Legal holds: what may not be dropped (法律保全).")
kept.add_typer(holding, name="hold")

Sender = Annotated[str | None, typer.Option(help="Only this sender's messages.")]
Campaign = Annotated[str | None, typer.Option(help="Only this campaign's.")]
Subject = Annotated[
    str | None, typer.Option("--subject", help="Only one person's: a subject, a number, or `-` to read one from stdin.")
]
From = Annotated[str | None, typer.Option("--from", help="Accepted from then on: 2026-06-01, or with a time.")]
To = Annotated[str | None, typer.Option("--to", help="Accepted before then; a date alone counts to its end.")]
By = Annotated[str, typer.Option(help="Your name; it is recorded.")]
Reason = Annotated[str, typer.Option(help="Why: the case, the authority that asks; it is recorded.")]


@kept.callback(invoke_without_command=True)
def records(context: typer.Context) -> None:
    """Keep what messages said and to which number, sealed, from Kafka in PostgreSQL (内容留存); run one.

    Examples:

        assent records

        assent records export --sender acme --from 2026-06-01 --to 2026-06-30 --by 'Li Lei' --reason 'MIIT letter 12'
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.assemble.records import archive

    run_to_end(archive(settings_of()))


@kept.command("export")
def records_export(
    by: By,
    reason: Reason,
    sender: Sender = None,
    campaign: Campaign = None,
    subject: Subject = None,
    from_: From = None,
    to: To = None,
    out: Annotated[Path, typer.Option(help="The file to write, `.csv` or `.jsonl`.")] = Path("records.csv"),
    home: Home = HERE,
) -> None:
    """Write the log for a regulator: who, when, what, on which permission; one row a message (监管导出).

    The export is recorded in the ledger before it begins. Beside the file lie its manifest and, over both, a seal.

    Examples:

        assent records export --sender acme --from 2026-06-01 --to 2026-06-30 --by 'Li Lei' --reason 'MIIT letter 12'

        assent records export --subject - --out person.jsonl --by 'Li Lei' --reason 'complaint 88' < number.txt
    """
    from gateway.assemble.exporting import Asking, export_records

    with bar() as progress:

        def watch(done_ms: int, total_ms: int) -> None:
            progress("minutes of the log", done_ms // 60_000, total_ms // 60_000)

        asked, asking = _asked(sender, campaign, from_, to), Asking(by, reason, out)
        written = run_to_end(export_records(settings_of(home), asked, _who(subject), asking, watch), brief=True)
    rate = written.rows / written.seconds if written.seconds else written.rows
    typer.echo(f"{written.rows:,} messages, {rate:,.0f} a second: {', '.join(map(str, written.files))}")


@kept.command("verify")
def records_verify(
    file: Annotated[Path, typer.Argument(help="The exported file; its manifest and seal lie beside it.", exists=True)],
    key: Annotated[
        list[str], typer.Option(help="A verifier key, or a file of them (GET /v1/ledger/keys); repeatable.")
    ],
) -> None:
    """Check that an export is what was sealed; needs no installation and no network (核验导出).

    Example:

        assent records verify records.csv --key keys.txt
    """
    from gateway.assemble.exporting import verify

    keys = [word for one in key for word in (Path(one).read_text("utf-8").split() if Path(one).is_file() else [one])]
    wrong = verify(file, keys)
    for line in wrong:
        typer.echo(line, err=True)
    if wrong:
        raise typer.Exit(1)
    typer.echo(f"{file} is what was sealed")


@holding.command("add")
def hold_add(
    by: By,
    reason: Reason,
    sender: Sender = None,
    campaign: Campaign = None,
    subject: Subject = None,
    from_: From = None,
    to: To = None,
    home: Home = HERE,
) -> None:
    """Keep what is named, whatever its age, until the hold is released (保全); several conditions narrow it.

    Examples:

        assent records hold add --sender acme --from 2026-06-01 --to 2026-06-30 --by 'Li Lei' --reason 'case 2026/88'

        assent records hold add --subject - --by 'Li Lei' --reason 'case 2026/88' < number.txt
    """
    from gateway.assemble.holding import add_hold

    asked = _asked(sender, campaign, from_, to)
    hold = run_to_end(add_hold(settings_of(home), asked, _who(subject), by=by, reason=reason), brief=True)
    typer.echo(f"hold {hold} stands")


@holding.command("release")
def hold_release(
    hold: Annotated[int, typer.Argument(help="The hold's number.")], by: By, reason: Reason, home: Home = HERE
) -> None:
    """End a hold: what is past its time goes within the hour (解除保全).

    Example:

        assent records hold release 3 --by 'Li Lei' --reason 'case closed'
    """
    from gateway.assemble.holding import release_hold

    run_to_end(release_hold(settings_of(home), hold, by=by, reason=reason), brief=True)
    typer.echo(f"hold {hold} is released")


@holding.command("list")
def hold_list(
    every: Annotated[bool, typer.Option("--all", help="Released ones too.")] = False, home: Home = HERE
) -> None:
    """List holds: number, what is held, since when, by whom and why (保全列表).

    Example:

        assent records hold list
    """
    from gateway.assemble.holding import list_holds

    for one in run_to_end(list_holds(settings_of(home), standing=not every), brief=True):
        what = " ".join(f"{name}={_shown(name, value)}" for name, value in one.scope.told().items())
        ended = f"  released {one.released_at:%Y-%m-%d} by {one.released_by}" if one.released_at else ""
        typer.echo(f"{one.id}  {what}  {one.added_at:%Y-%m-%d}  {one.added_by}: {one.reason}{ended}")


def _shown(name: str, value: str | int) -> str:
    """A part of a hold's scope as it was typed."""
    if name not in ("from", "until"):
        return str(value)
    from gateway.assemble.exporting import zone_of

    return datetime.fromtimestamp(int(value) / 1000, zone_of()).isoformat(timespec="minutes")


def _asked(sender: str | None, campaign: str | None, from_: str | None, to: str | None) -> "Asked":
    from gateway.contract.export import Asked

    return Asked(sender, campaign, None, _moment(from_, "--from"), _moment(to, "--to", whole=True))


def _moment(text: str | None, option: str, *, whole: bool = False) -> int | None:
    """Unix milliseconds of what was typed; without an offset it is of the first pack's zone."""
    if text is None:
        return None
    from gateway.assemble.exporting import zone_of

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("write it like 2026-06-01 or 2026-06-01T10:30:00+08:00", param_hint=option) from None
    if whole and len(text) == len("2026-06-01"):
        at += timedelta(days=1)
    return int((at if at.tzinfo else at.replace(tzinfo=zone_of())).timestamp() * 1000)


def _who(given: str | None) -> str | None:
    """Who is meant. An argument stays in the shell's history and in the list of processes; stdin stays nowhere."""
    return sys.stdin.readline().strip() if given == "-" else given
