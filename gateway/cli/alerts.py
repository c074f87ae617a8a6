"""Alerts: where they are told, and which were raised."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.command import HERE, Home, app, run_to_end, settings_of

if TYPE_CHECKING:
    from gateway.assemble.alerts import Told

alerts = typer.Typer(no_args_is_help=True, help="What a person must look at, and where it is told (告警).")
app.add_typer(alerts, name="alerts")
LISTED = 1_000


@alerts.command("to")
def alerts_to(
    url: Annotated[str | None, typer.Argument(help="An https address; none: show where they go now.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Tell them nowhere any more.")] = False,
    home: Home = HERE,
) -> None:
    """Tell every alert at this address, signed as Standard Webhooks says (告警推送地址).

    The first time, a secret is printed. What was raised in the last day and told nobody is told at once.

    Examples:

        assent alerts to https://oncall.example/assent

        assent alerts to
    """
    from gateway.assemble.alerts import send_to, where

    if off and url is not None:
        raise typer.BadParameter("give an address or --off")
    work = send_to(settings_of(home), url) if off or url is not None else where(settings_of(home))
    _say(run_to_end(work, brief=True))


@alerts.command("secret")
def alerts_secret(home: Home = HERE) -> None:
    """Make and print a new signing secret; the one before signs too for 24 hours (轮换签名密钥).

    Example:

        assent alerts secret
    """
    from gateway.assemble.alerts import rotate

    _say(run_to_end(rotate(settings_of(home)), brief=True))


@alerts.command("list")
def alerts_list(
    hours: Annotated[float, typer.Option(min=0.01, help="Of the last so many hours.")] = 24.0,
    kind: Annotated[str | None, typer.Option(help="Only this kind: `breaker.open`.")] = None,
    home: Home = HERE,
) -> None:
    """List what was raised: when, how bad, kind, what about, in a sentence, and whether it was told (告警列表).

    Example:

        assent alerts list --hours 72
    """
    from gateway.assemble.alerts import listed

    since = datetime.now(UTC) - timedelta(hours=hours)
    for one in run_to_end(listed(settings_of(home), since, kind, LISTED), brief=True):
        at = one.at.isoformat(timespec="seconds")
        told = "" if one.told else "  (not told)"
        typer.echo(f"{at}  {one.severity:8}  {one.kind}  {one.scope}  {one.summary}{told}")


@alerts.command("test")
def alerts_test(by: Annotated[str, typer.Option(help="Your name; it stands in the alert.")], home: Home = HERE) -> None:
    """Raise an alert that says nothing, to see that it arrives (测试告警).

    Example:

        assent alerts test --by 'Li Lei'
    """
    from gateway.assemble.alerts import test

    run_to_end(test(settings_of(home), by), brief=True)
    typer.echo("raised: it is told within seconds, while a `webhooks` process runs and an address is set")


def _say(told: "Told") -> None:
    gone = ", which answered 410 Gone: set it again to go on" if told.gone else ""
    typer.echo(f"alerts go to {told.origin}{gone}" if told.origin else "alerts go nowhere yet", err=True)
    if told.secret is not None:
        typer.echo("the secret they are signed with, shown this once:", err=True)
        typer.echo(told.secret)
