"""Complaints: a file of them taken in, their cases, and the figures of a day."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from gateway.cli.command import HERE, Home, app, bar, run_to_end, settings_of
from gateway.contract.complaint import OUTCOMES, CaseState

if TYPE_CHECKING:
    from gateway.records.cases import Case

complaints = typer.Typer(no_args_is_help=True, help="Complaints and their cases (投诉).")
app.add_typer(complaints, name="complaints")


class Source(StrEnum):
    """Where complaints come from."""

    CENTRE = "12321"
    CARRIER = "carrier"
    OWN = "own"


Outcome = StrEnum("Outcome", {one.upper(): one for one in OUTCOMES})  # type: ignore[misc]
CaseId = Annotated[UUID, typer.Argument(help="The case's id, as `assent complaints list` shows it.")]
By = Annotated[str, typer.Option(help="Your name; it is recorded.")]
Note = Annotated[str | None, typer.Option(help="Words that go with it; they are sealed.")]


@complaints.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV file, in UTF-8 or GB18030.", exists=True, dir_okay=False)],
    mapping: Annotated[Source | None, typer.Option(help="Whose files look like this. None: `own`.")] = None,
    columns: Annotated[str | None, typer.Option(help="`reporter:举报号码,at:举报时间,…`: columns by name.")] = None,
    source: Annotated[
        Source | None, typer.Option(help="Where they come from, where that is not the mapping's.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="`utf-8`, `gb18030`; none: it is found out.")] = None,
    rejects: Annotated[Path | None, typer.Option(help="Write rejected lines here, with why.", dir_okay=False)] = None,
    by: Annotated[str | None, typer.Option(help="Your name; it is recorded. None: your login.")] = None,
    home: Home = HERE,
) -> None:
    """Take complaints in: each suppresses its reporter at once and opens a case (导入投诉).

    May be run again, or after it broke off: what is recorded already changes nothing. Exit status 2 when lines were
    rejected.

    Examples:

        assent complaints import 12321.csv --mapping 12321 --rejects rejected.csv

        assent complaints import list.csv --source carrier --columns reporter:号码,at:时间,text:内容
    """
    import getpass

    from gateway.assemble.complaints import FileMeant
    from gateway.assemble.complaints import import_file as work

    meant = FileMeant(mapping and mapping.value, columns, source and source.value, encoding)
    with bar() as progress:
        name = (by or getpass.getuser()).strip()[:100]
        counts = run_to_end(work(settings_of(home), file, meant, name, rejects, progress), brief=True)
    typer.echo(f"{counts.lines:,} lines: {counts.recorded:,} recorded, {counts.duplicates:,} known already")
    typer.echo(", ".join(f"{n:,} {matching.value}" for matching, n in counts.matches.items()))
    if counts.rejected:
        where = f"; see {rejects}" if rejects else ""
        typer.echo(f"{counts.rejected:,} rejected{where}", err=True)
        for one in counts.rejects[:10]:
            typer.echo(f"  line {one.line}: {one.field or 'line'}: {one.message}", err=True)
        raise typer.Exit(2)


@complaints.command("list")
def list_cases(
    state: Annotated[CaseState | None, typer.Option(help="Only cases that stand there.")] = None,
    source: Annotated[Source | None, typer.Option(help="Only complaints from there.")] = None,
    sender: Annotated[str | None, typer.Option(help="Only complaints about this sender.")] = None,
    queue: Annotated[bool, typer.Option("--queue", help="Only those whose message you have to decide about.")] = False,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those that nobody answered in time.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    home: Home = HERE,
) -> None:
    """Cases, the newest received first (投诉工单列表). Neither numbers nor words are shown.

    Examples:

        assent complaints list --state open

        assent complaints list --queue
    """
    from gateway.assemble.complaints import listed
    from gateway.records.cases import Filter

    senders = None if sender is None else [sender]
    asked = Filter(state, source and source.value, senders, queue=queue, overdue=overdue)
    for case in run_to_end(listed(settings_of(home), asked, limit), brief=True):
        typer.echo(_line(case))


@complaints.command("show")
def show(case: CaseId, by: By, home: Home = HERE) -> None:
    """A case with its words and what was done about it (查看投诉). The look is recorded.

    Example:

        assent complaints show 5e1f… --by 'Han Mei'
    """
    from gateway.assemble.complaints import shown

    found = run_to_end(shown(settings_of(home), str(case), by), brief=True)
    typer.echo(_line(found.case))
    bundle = found.case.bundle
    told = {"ref": found.ref, "text": found.text, "evidence": bundle and f"assent evidence export {bundle}"}
    for name, value in told.items():
        if value:
            typer.echo(f"{name}: {value}")
    for acted, note in found.acts:
        words = " ".join(filter(None, (acted.act.value, acted.detail, f"by {acted.by}", note and f"({note})")))
        typer.echo(f"  {_time(acted.at)}  {words}")


@complaints.command("assign")
def assign(
    case: CaseId,
    to: Annotated[str, typer.Option(help="Who takes it on.")],
    by: By,
    note: Note = None,
    home: Home = HERE,
) -> None:
    """Hand a case to somebody (派单).

    Example:

        assent complaints assign 5e1f… --to 'Han Mei' --by 'Li Lei'
    """
    from gateway.assemble.complaints import act, now_ms
    from gateway.records import cases

    work = act(
        settings_of(home), str(case), by, note, lambda c, words: cases.assign(c, str(case), to, by, now_ms(), words)
    )
    typer.echo(_line(run_to_end(work, brief=True)))


@complaints.command("answer")
def answer(case: CaseId, by: By, note: Note = None, home: Home = HERE) -> None:
    """Record that the person was answered; the first time stops the clock (首次答复).

    Example:

        assent complaints answer 5e1f… --by 'Han Mei' --note '已致电道歉'
    """
    from gateway.assemble.complaints import act, now_ms
    from gateway.records import cases

    work = act(settings_of(home), str(case), by, note, lambda c, words: cases.answer(c, str(case), by, now_ms(), words))
    typer.echo(_line(run_to_end(work, brief=True)))


@complaints.command("close")
def close(
    case: CaseId,
    by: By,
    outcome: Annotated[Outcome, typer.Option(help="What it came to.")],
    note: Note = None,
    home: Home = HERE,
) -> None:
    """Close an answered case (结案).

    Example:

        assent complaints close 5e1f… --by 'Li Lei' --outcome apologised
    """
    from gateway.assemble.complaints import act, now_ms
    from gateway.records import cases

    work = act(
        settings_of(home),
        str(case),
        by,
        note,
        lambda c, words: cases.close(c, str(case), outcome.value, by, now_ms(), words),
    )
    typer.echo(_line(run_to_end(work, brief=True)))


@complaints.command("match")
def match(
    case: CaseId,
    message: Annotated[str, typer.Argument(help="The id of the message that caused it, or `none`.")],
    by: By,
    home: Home = HERE,
) -> None:
    """Decide which message a complaint is about (人工关联短信); where it counts moves with it.

    Example:

        assent complaints match 5e1f… none --by 'Li Lei'
    """
    from gateway.assemble.complaints import decide

    try:
        chosen = None if message == "none" else str(UUID(message))
    except ValueError:
        raise typer.BadParameter("give a message's id, or none") from None
    typer.echo(_line(run_to_end(decide(settings_of(home), str(case), chosen, by), brief=True)))


@complaints.command("sign-off")
def sign_off(
    source: Annotated[Source, typer.Option(help="Whose figures.")],
    by: By,
    count: Annotated[int, typer.Option(min=0, help="How many the source says there were.")],
    date: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day; none: yesterday.")] = None,
    home: Home = HERE,
) -> None:
    """State a day's complaints by name, beside what was imported (每日签核). Again is a correction; both are kept.

    Exit status 2 when the figures differ.

    Example:

        assent complaints sign-off --date 2026-11-24 --source 12321 --by 'Li Lei' --count 3
    """
    from gateway.assemble.complaints import due_day
    from gateway.assemble.complaints import sign_off as work

    day = due_day() if date is None else date.date()
    done = run_to_end(work(settings_of(home), day, source.value, count, by), brief=True)
    typer.echo(f"{done.date} {done.source}: {done.stated:,} stated, {done.imported:,} imported, by {done.by}")
    if done.stated != done.imported:
        typer.echo("the figures differ: look for a file that is missing, or for rejected lines", err=True)
        raise typer.Exit(2)


def _line(case: "Case") -> str:
    due = f"due {_time(case.due_at)}" if case.answered_at is None else f"answered {_time(case.answered_at)}"
    about = case.campaign or case.sender or case.port or "nobody of ours"
    parts = (
        case.id,
        case.source,
        case.state.value,
        case.match.value,
        about,
        due + (" OVERDUE" if case.overdue else ""),
    )
    return "  ".join((*parts, case.outcome or case.assigned_to or "-"))


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
