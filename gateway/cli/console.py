"""The console's process, and who may sign in to it."""

# ruff: noqa: PLC0415, D412 - imports wait until a command runs; examples are shown as they are written

import re
from typing import Annotated, NoReturn

import typer

from gateway.cli.command import HERE, Home, app, end, run_to_end, settings_of

consoles = typer.Typer(
    invoke_without_command=True, help="The board for operations and compliance, as web pages (控制台)."
)
app.add_typer(consoles, name="console")
people = typer.Typer(no_args_is_help=True, help="Who may sign in to the console (控制台用户).")
consoles.add_typer(people, name="user")

Name = Annotated[str, typer.Argument(help="The user's name: lower case, digits, `.`, `-`, `_`.")]
Ask = Annotated[bool, typer.Option("--ask", help="Type the password instead of having one made.")]


@consoles.callback()
def console(context: typer.Context) -> None:
    """Serve the console.

    Example:

        ASSENT_CONSOLE_HOST=0.0.0.0 ASSENT_CONSOLE_URL=https://console.example.com assent console
    """
    if context.invoked_subcommand is None:
        _serve()


def _serve() -> None:
    from gateway.assemble.console import console as run
    from gateway.assemble.faults import told

    settings = settings_of()
    try:
        run(settings)
    except Exception as fault:  # noqa: BLE001 - as in `run_to_end`
        end(fault, told(fault, brief=False))


@people.command("add")
def user_add(
    name: Name,
    role: Annotated[str, typer.Option(help="`viewer`, `compliance` or `operator`.")],
    ask: Ask = False,
    replace: Annotated[bool, typer.Option("--replace", help="Give one who is there a new password and role.")] = False,
    home: Home = HERE,
) -> None:
    """Add a user and print a password, this once; with `--ask`, the one you type.

    Examples:

        assent console user add li.wei --role compliance

        assent console user add noc --role viewer --ask
    """
    from gateway.assemble import console as work
    from gateway.contract.console import USER, Role

    if not re.fullmatch(USER, name):
        _wrong("a name is lower case letters, digits, `.`, `-`, `_`, 32 at most", "NAME")
    if role not in list(Role):
        _wrong(f"roles are {', '.join(Role)}", "--role")
    made = run_to_end(work.add_user(settings_of(home), name, role, _typed(ask=ask), replace=replace), brief=True)
    typer.echo(f"user {name} is there, as {role}", err=True)
    _say_once(made)


@people.command("password")
def user_password(name: Name, ask: Ask = False, home: Home = HERE) -> None:
    """Give a user a new password; every session of theirs ends.

    Example:

        assent console user password li.wei
    """
    from gateway.assemble import console as work

    _say_once(run_to_end(work.change_password(settings_of(home), name, _typed(ask=ask)), brief=True))


@people.command("disable")
def user_disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False,
    home: Home = HERE,
) -> None:
    """Keep a user out from now on; every session of theirs ends.

    Example:

        assent console user disable li.wei
    """
    from gateway.assemble import console as work

    run_to_end(work.disable_user(settings_of(home), name, disabled=not undo), brief=True)
    typer.echo(f"user {name} is {'enabled' if undo else 'disabled'}")


@people.command("list")
def user_list(home: Home = HERE) -> None:
    """List the users.

    Example:

        assent console user list
    """
    from gateway.assemble import console as work

    for user in run_to_end(work.listed(settings_of(home)), brief=True):
        typer.echo(f"{user.name}\t{user.role}\t{'disabled' if user.disabled else 'enabled'}")


def _typed(*, ask: bool) -> str | None:
    if not ask:
        return None
    given: str = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    return given


def _say_once(made: str | None) -> None:
    if made is not None:
        typer.echo("the password, shown this once:", err=True)
        typer.echo(made)


def _wrong(text: str, option: str) -> NoReturn:
    raise typer.BadParameter(text, param_hint=option)
