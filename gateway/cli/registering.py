"""Who may send and in whose name, and what people are asked to agree to."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.command import HERE, Home, app, run_to_end, settings_of, words_of

clients = typer.Typer(no_args_is_help=True, help="Internal services that may send (内部业务方).")
app.add_typer(clients, name="client")
senders = typer.Typer(no_args_is_help=True, help="Brands messages are sent for (签名与端口).")
app.add_typer(senders, name="sender")
consent_forms = typer.Typer(no_args_is_help=True, help="What people are asked to agree to (授权表单).")
app.add_typer(consent_forms, name="form")


@clients.command("add")
def client_add(
    name: Annotated[str, typer.Argument(help="Its name: lower case, digits, `-`, `_`.")],
    senders: Annotated[str, typer.Option(help="Senders it may use, comma-separated, or `*`.")] = "",
    purposes: Annotated[str, typer.Option(help="Purposes or topics, comma-separated, or `*`.")] = "*",
    roles: Annotated[
        str, typer.Option(help="`send`, `consent`, `read`, `suppress`, `complain`, `operate`, `carrier:<name>`.")
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
        settings_of(home),
        name,
        senders=words_of(senders),
        purposes=words_of(purposes),
        roles=words_of(roles),
        quota_per_minute=quota,
        replace=replace,
    )
    key, secret = run_to_end(work, brief=True)
    if secret is not None:
        typer.echo(f"its webhook secret, shown this once: {secret}", err=True)
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
    run_to_end(registering.add_sender(settings_of(home), name, fields, replace=replace), brief=True)
    typer.echo(f"sender {name} is there")


@senders.command("attest")
def sender_attest(
    name: Annotated[str, typer.Argument(help="The sender.")],
    port: Annotated[str, typer.Option(help="Its port that was tested.")],
    by: Annotated[str, typer.Option(help="Who attests it.")],
    tested_at: Annotated[datetime | None, typer.Option(help="When a reply to it arrived (UTC); none: now.")] = None,
    free: Annotated[bool, typer.Option("--free/--not-free", help="Whether a reply costs the person nothing.")] = True,
    home: Home = HERE,
) -> None:
    """Attest that replies to a port are free and arrive (回复通道). Marketing needs it, renewed within 30 days.

    Every reply that arrives renews the time; that it is free stands until somebody attests otherwise.

    Example:

        assent sender attest acme --port 10690002 --by li.lei
    """
    from gateway.assemble import registering

    work = registering.attest_route(settings_of(home), name, port, free=free, tested_at=tested_at, by=by)
    run_to_end(work, brief=True)
    typer.echo(f"sender {name}: replies to {port} are attested {'free' if free else 'not free'}")


@consent_forms.command("add")
def form_add(
    file: Annotated[Path, typer.Argument(help="The form, as TOML.", exists=True, dir_okay=False)],
    home: Home = HERE,
) -> None:
    """Store a consent form's next version; people see it at /c/NAME from now on (授权表单).

    A file that says what the latest version says changes nothing. gateway/assemble/acme.toml is an example.

    Example:

        assent form add acme.toml
    """
    from gateway.assemble import registering

    form = run_to_end(registering.add_form(settings_of(home), file.read_bytes()), brief=True)
    typer.echo(f"form {form.id} is there, version {form.version}: /c/{form.id}")
