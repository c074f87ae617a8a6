"""The console: its parts, its server, and the users an operator adds.

It needs PostgreSQL and Redis (an act of the ledger is applied to the guard before it is answered), and no Kafka.
NiceGUI is an optional package: without it this says which extra to install.
"""

import asyncio
import os
import secrets as random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import start_http_server

from gateway import telemetry
from gateway.assemble.commands import Declined, connection_of
from gateway.assemble.evidence import evidence_of
from gateway.assemble.parts import (
    GRACE_S,
    Misconfigured,
    beside,
    flushing,
    guard_of,
    open_pool,
    patiently,
    say_ready,
    secrets,
)
from gateway.contract.console import Role
from gateway.ledger.appender import Appender
from gateway.ledger.reading import Reading
from gateway.records import users
from gateway.records.cleansing import BY_ITSELF
from gateway.records.connection import Connection
from gateway.rules import passwords
from gateway.rules.pack import load, names
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.console.app import Console
    from gateway.console.desk import Desk

DEMO = "demo"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}
FRAME = 1_000_000
"""Bytes of a message from a page."""


def console(settings: Settings) -> None:
    """Serve the console until told to stop."""
    if settings.local and settings.console_host not in LOOPBACK:
        raise Misconfigured("the local profile has a well-known user: its console listens on loopback only")
    asyncio.run(_tried(settings))
    uvicorn.run(
        "gateway.assemble.console:console_app",
        factory=True,
        host=settings.console_host,
        port=settings.console_port,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=FRAME,
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_config=None,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
    )


async def _tried(settings: Settings) -> None:
    """Open the parts once: what is wrong is then a line and an exit status."""
    async with open_desk(settings):
        pass


def console_app() -> "Console":
    """The application."""
    os.environ.setdefault("MATPLOTLIB", "false")  # the library would load it, where it happens to be installed
    from gateway.console.app import Console  # noqa: PLC0415 - an optional package stands behind it

    settings = Settings()

    @asynccontextmanager
    async def opened() -> AsyncIterator["Desk"]:
        async with open_desk(settings) as desk:
            if settings.metrics_port and settings.metrics_dir is None:
                start_http_server(settings.metrics_port, registry=telemetry.REGISTRY)
            say_ready()
            yield desk

    return Console(opened)


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator["Desk"]:
    """What stands behind the pages."""
    if find_spec("nicegui") is None:
        raise Misconfigured("the console needs package nicegui: install the extra `console`")
    from gateway.console.desk import Desk  # noqa: PLC0415 - an optional package stands behind its room

    telemetry.configure_logging(settings.log_level)
    keys = secrets(settings)
    async with open_pool(settings) as pool:
        guard = await guard_of(settings)
        try:
            if problems := await patiently("Redis", guard.verify):
                raise Misconfigured(f"this Redis may not hold permissions: {'; '.join(problems)}")
            appender = Appender(pool, keys, guard)
            await appender.start()
            async with beside(flushing()):
                yield Desk(
                    pool=pool,
                    appender=appender,
                    reading=Reading(pool, keys),
                    pepper=bytes.fromhex(settings.pepper.get_secret_value()),
                    packs={name: load(name) for name in names()},
                    evidence=evidence_of(pool, keys, settings),
                    answer_h=settings.complaint_answer_h,
                    runbook=settings.runbook_url,
                    public_url=settings.console_url,
                    demo=settings.local,
                )
            await appender.stop()
        finally:
            await guard.close()


# --- users -----------------------------------------------------------------------------------------------------------


async def add_user(settings: Settings, name: str, role: str, password: str | None, *, replace: bool) -> str | None:
    """Add a user; returns the password where it was made here."""
    if name == BY_ITSELF:
        raise Declined(f"{name} is what the ledger calls the gateway itself")
    made = None if password is not None else random.token_urlsafe(15)
    stored = _stored(password or made or "")
    async with connection_of(settings) as connection:
        if not replace and await users.kept(connection, name) is not None:
            raise Declined(f"user {name} is there already: --replace gives a new password and role")
        await users.put(connection, name, stored, Role(role), by=_who())
    return made


async def disable_user(settings: Settings, name: str, *, disabled: bool) -> None:
    """Keep a user out, or let one in again; the sessions end."""
    async with connection_of(settings) as connection:
        if not await users.disable(connection, name, disabled=disabled, by=_who()):
            raise Declined(f"there is no user {name}")


async def change_password(settings: Settings, name: str, password: str | None) -> str | None:
    """Give a user a new password; returns it where it was made here. The sessions end."""
    made = None if password is not None else random.token_urlsafe(15)
    async with connection_of(settings) as connection:
        if not await users.set_password(connection, name, _stored(password or made or ""), by=_who()):
            raise Declined(f"there is no user {name}")
    return made


async def listed(settings: Settings) -> list[users.User]:
    """Every user."""
    async with connection_of(settings) as connection:
        return await users.users(connection)


async def seed_demo(connection: Connection) -> None:
    """The local profile's user, once: a changed password stays. For loopback only."""
    if await users.kept(connection, DEMO) is None:
        await users.put(connection, DEMO, _hashed(DEMO), Role.COMPLIANCE, by="assent prepare")


def _stored(password: str) -> str:
    if not passwords.LEAST <= len(password) <= passwords.MOST:
        raise Declined(f"a password has {passwords.LEAST} to {passwords.MOST} characters")
    return _hashed(password)


def _hashed(password: str) -> str:
    return passwords.hashed(password, random.token_bytes(passwords.SALT))


def _who() -> str:
    return "command line"
