"""What an operator does beside running processes: refill the cache, stop and resume a scope."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from typing import Annotated

import typer

from gateway.cli.command import HERE, Home, app, bar, run_to_end, settings_of

audits = typer.Typer(no_args_is_help=True, help="Look whether two parts say the same (核对).")
app.add_typer(audits, name="audit")


@app.command()
def rebuild(home: Home = HERE) -> None:
    """Fill an empty or doubtful Redis from PostgreSQL and Kafka (重建缓存); sending resumes when it is whole.

    Example:

        assent rebuild
    """
    from gateway.assemble import commands

    with bar() as progress:
        filled = run_to_end(commands.rebuild(settings_of(home), progress), brief=True)
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

    with bar() as progress:
        found = run_to_end(commands.audit_cache(settings_of(home), progress, repair=repair), brief=True)
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


@audits.command("health")
def audit_health(
    day: Annotated[str | None, typer.Option(help="A day (UTC), like 2026-11-25; without it, today.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Write what differs anew; settlement waits.")] = False,
    home: Home = HERE,
) -> None:
    """Count a day's messages and signals again and compare the minutes, hours and days of health (核对健康度计数).

    Exit status 1 when something differs and was not repaired. Clicks are left out: nothing but their counts is kept.

    Examples:

        assent audit health

        assent audit health --day 2026-11-24 --repair
    """
    from datetime import UTC, date, datetime

    from gateway.assemble import commands

    try:
        asked = datetime.now(UTC).date() if day is None else date.fromisoformat(day)
    except ValueError:
        raise typer.BadParameter("write it like 2026-11-25", param_hint="--day") from None
    found = run_to_end(commands.audit_health(settings_of(home), asked, repair=repair), brief=True)
    typer.echo(f"{asked}: {found.messages:,} messages looked at, {found.acts:,} signals")
    for table, n in found.apart.items():
        typer.echo(f"{table}: {n:,} buckets {'were wrong and are written anew' if found.repaired else 'are wrong'}")
    if not found.apart:
        typer.echo("minutes, hours and days say what the records say")
    elif not found.repaired:
        raise typer.Exit(1)


@app.command()
def stop(
    scope: Annotated[
        str,
        typer.Argument(
            help="`all`, `class:marketing`, `sender:acme`, `campaign:acme/x`, `port:1069…`, `list_source:acme/x`"
        ),
    ],
    by: Annotated[str, typer.Option(help="Your name; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")],
    home: Home = HERE,
) -> None:
    """Open a breaker: within seconds nothing more of the scope is admitted or submitted (熔断).

    Example:

        assent stop campaign:acme/double11 --by 'Li Lei' --reason 'complaints on port 10690002'
    """
    from gateway.assemble import commands

    run_to_end(commands.stop(settings_of(home), scope, by=by, reason=reason), brief=True)
    typer.echo(f"{scope} is stopped")


@app.command()
def resume(
    scope: Annotated[str, typer.Argument(help="The scope that was stopped.")],
    by: Annotated[str, typer.Option(help="Your name; it is recorded.")],
    reason: Annotated[str, typer.Option(help="Why it is safe again; it is recorded.")],
    trickle: Annotated[
        bool, typer.Option("--trickle", help="Let a share of the recipients through first, always the same ones.")
    ] = False,
    permille: Annotated[int, typer.Option(min=1, max=999, help="How many in a thousand, with --trickle.")] = 10,
    home: Home = HERE,
) -> None:
    """Close a breaker, or let a share through first: only a named person with a reason does (恢复发送).

    Examples:

        assent resume campaign:acme/double11 --trickle --by 'Li Lei' --reason 'list cleaned, watching one in a hundred'

        assent resume campaign:acme/double11 --by 'Li Lei' --reason 'list cleaned'
    """
    from gateway.assemble import commands

    share = permille if trickle else None
    run_to_end(commands.resume(settings_of(home), scope, by=by, reason=reason, permille=share), brief=True)
    typer.echo(f"{scope} lets {permille} in 1,000 recipients through" if trickle else f"{scope} is resumed")
