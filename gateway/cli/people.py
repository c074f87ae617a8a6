"""A person's own rights: a copy of their data, and its erasure."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.command import HERE, Home, app, run_to_end, settings_of

people = typer.Typer(no_args_is_help=True, help="A person's own rights: a copy of their data, its erasure (个人权利).")
app.add_typer(people, name="person")

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
    work = personal.export(settings_of(home), _who(who), readable=readable, by=_by(by))
    _put(out, run_to_end(work, brief=True))


@people.command("erase")
def person_erase(who: Who, out: Out = None, by: By = None, home: Home = HERE) -> None:
    """Erase a person's data, or restrict it until the law lets go of it (删除); writes the signed certificate.

    Examples:

        assent person erase 2865a29cd48a2b5e70b63cc07cb5a0be --by 'Li Lei'

        assent person erase - --out certificate.html < number.txt
    """
    import json

    from gateway.assemble import personal

    signed, page = run_to_end(personal.erase(settings_of(home), _who(who), by=_by(by)), brief=True)
    if out is not None and out.suffix == ".html":
        _put(out, page)
    else:
        _put(out, json.dumps(signed._asdict(), ensure_ascii=False, indent=2))
