"""The sender of webhooks, what it gave up on, and what a client is told at an address of its own."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from gateway.cli.command import HERE, Home, app, run_to_end, settings_of, words_of
from gateway.cli.registering import clients

hooks = typer.Typer()
app.add_typer(hooks, name="webhooks")

OfClient = Annotated[str | None, typer.Option("--client", help="Only this client's.")]


@hooks.callback(invoke_without_command=True)
def webhooks(context: typer.Context) -> None:
    """Call clients: status changes and replies, from the queue in PostgreSQL; run any number (回调通知).

    Examples:

        assent webhooks

        assent webhooks dead --client shop
    """
    if context.invoked_subcommand is not None:
        return
    from gateway.assemble.webhooks import send_webhooks

    run_to_end(send_webhooks(settings_of()))


@hooks.command("dead")
def webhooks_dead(client: OfClient = None, home: Home = HERE) -> None:
    """List what was given up on (失败通知): id, client, type, age, tries, what the last one came to.

    Example:

        assent webhooks dead --client shop
    """
    from gateway.assemble.webhooks import dead

    for one in run_to_end(dead(settings_of(home), client), brief=True):
        at = datetime.fromtimestamp(one.made_at / 1000, UTC).isoformat(timespec="seconds")
        kept = "" if one.kept else "  its content is deleted"
        typer.echo(f"{one.id}  {one.client}  {one.kind}  {at}  {one.attempts} tries  {one.last or '-'}{kept}")


@hooks.command("replay")
def webhooks_replay(
    one: Annotated[UUID | None, typer.Argument(help="The id of a dead webhook; none: all of --client.")] = None,
    client: OfClient = None,
    every: Annotated[bool, typer.Option("--all", help="Everything, of every client.")] = False,
    home: Home = HERE,
) -> None:
    """Send again what was given up on, under the same ids (重新投递).

    Examples:

        assent webhooks replay --client shop

        assent webhooks replay --all
    """
    from gateway.assemble.webhooks import replay

    if one is None and client is None and not every:
        raise typer.BadParameter("give an id, --client or --all")
    count = run_to_end(replay(settings_of(home), client, one), brief=True)
    typer.echo(f"{count:,} will be sent again")


@clients.command("webhook")
def client_webhook(
    name: Annotated[str, typer.Argument(help="The client.")],
    url: Annotated[
        str | None, typer.Option(help="Where to tell it of messages that name no callback_url, and of replies.")
    ] = None,
    statuses: Annotated[
        bool | None, typer.Option("--statuses/--no-statuses", help="Tell it there of its messages; at first: yes.")
    ] = None,
    replies: Annotated[
        str | None, typer.Option(help="Senders whose replies it is told of there, comma-separated, `*`, or ''.")
    ] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="A new signing secret; the old one signs too for 24 hours.")
    ] = False,
    off: Annotated[bool, typer.Option("--off", help="It has no address of its own any more.")] = False,
    home: Home = HERE,
) -> None:
    """Set, or show, what a client is told by webhook (回调地址与签名密钥). A new secret is printed, this once.

    Examples:

        assent client webhook shop --url https://shop.example/hooks --replies acme

        assent client webhook shop --rotate
    """
    from gateway.assemble.webhooks import set_webhook

    work = set_webhook(
        settings_of(home),
        name,
        url=url,
        statuses=statuses,
        replies=None if replies is None else words_of(replies),
        rotate=rotate,
        off=off,
    )
    told = run_to_end(work, brief=True)
    what = [
        word
        for word, on in (("statuses", told.statuses), (f"replies to {', '.join(told.replies)}", told.replies))
        if on
    ]
    where = f"{told.origin}: {', '.join(what) or 'nothing'}" if told.origin else "no address of its own"
    typer.echo(f"client {name}: {where}{', which answered 410 Gone' if told.gone else ''}", err=True)
    if told.secret is not None:
        typer.echo("its webhook secret, shown this once:", err=True)
        typer.echo(told.secret)
