"""Evidence: a bundle written from an installation, and one checked anywhere."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.command import HERE, Home, app, run_to_end, settings_of

proof = typer.Typer(no_args_is_help=True, help="Evidence for regulators and courts (存证).")
app.add_typer(proof, name="evidence")


@proof.command("export")
def evidence_export(
    by: Annotated[str, typer.Option(help="Your name: a look at a person's data is recorded.")],
    id: Annotated[str | None, typer.Argument(help="A message's id, or an event's id or place in the ledger.")] = None,  # noqa: A002
    recipient: Annotated[str | None, typer.Option(help="The number, or - to read it from standard input.")] = None,
    port: Annotated[str | None, typer.Option(help="The port the message came from.")] = None,
    at: Annotated[str | None, typer.Option(help="When it came, like 2026-11-25T10:30:00+08:00.")] = None,
    out: Annotated[Path, typer.Option(help="The bundle to write.")] = Path("evidence.zip"),
    home: Home = HERE,
) -> None:
    """Write the sealed evidence for one message, or for the one a number got from a port at a time (导出证据).

    Examples:

        assent evidence export 01a20bb9-6f46-7968-9bca-a20bd03a9f18 --by 'Li Lei'

        assent evidence export --recipient +8613800138000 --port 10690002 --at 2026-11-25T10:30:00+08:00 --by 'Li Lei'
    """
    from datetime import datetime

    from gateway.assemble.evidence import export

    if (id is None) == (recipient is None):
        raise typer.BadParameter("give an id, or --recipient with --port and --at")
    try:
        when = None if at is None else datetime.fromisoformat(at).astimezone()
    except ValueError:
        raise typer.BadParameter("write it like 2026-11-25T10:30:00+08:00", param_hint="--at") from None
    number = sys.stdin.readline().strip() if recipient == "-" else recipient
    raw = run_to_end(export(settings_of(home), by=by, asked=id, recipient=number, port=port, at=when), brief=True)
    out.touch(mode=0o600)  # it holds a number and what its owner did
    out.chmod(0o600)
    out.write_bytes(raw)
    typer.echo(f"{out}: {len(raw):,} bytes; check it with: assent evidence verify {out} --key KEYS")


@proof.command("verify")
def evidence_verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle.", exists=True, dir_okay=False)],
    key: Annotated[
        list[str], typer.Option(help="A verifier key, or a file of them (GET /v1/ledger/keys); repeatable.")
    ],
    authority: Annotated[Path | None, typer.Option(help="The time-stamping authority's certificate, PEM.")] = None,
    tiles: Annotated[
        Path | None, typer.Option(help="A copy of the log's folder, to see that nothing was left out.")
    ] = None,
) -> None:
    """Check a bundle offline, in words (离线核验证据); exit status 1 when anything does not hold.

    Get the keys from somewhere else than the bundle's own sender: an old copy, a witness, a contract.

    Example:

        assent evidence verify evidence.zip --key keys.txt --tiles ./ledger
    """
    from gateway.assemble.evidence import check
    from gateway.ledger.note import NoteError

    try:
        report = check(bundle, key, authority, tiles)
    except NoteError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--key") from None
    for one in report.checks:
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[one.ok]
        typer.echo(f"{mark} {one.name:<11} {one.en}\n     {'':<11} {one.zh}")
    if not report.good:
        typer.echo("the evidence does NOT hold (证据无效)")
        raise typer.Exit(1)
    if message := report.told.get("message"):
        named = ", ".join(str(message[name]) for name in ("id", "sender", "purpose"))
        told = "".join(c for c in named if c.isprintable())
        typer.echo(
            f"about message (所涉短信): {told}; report.html was made by its sender, these checks are of bundle.json"
        )
    if open_ := [one.name for one in report.checks if one.ok is None]:
        typer.echo(f"not checked, see above (未核验): {', '.join(open_)}")
    typer.echo("the evidence holds (证据有效)")
