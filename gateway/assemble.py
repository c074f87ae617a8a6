"""Puts one process together from plain values, and takes it apart in reverse.

The only reader of `Settings` beside `local`. Each `async def` here is one process of ARCHITECTURE.md: it opens its
parts, says `ready`, works until SIGTERM or SIGINT, and closes them. A part that is away at start is waited for, within
`PATIENCE_S`; away later, the rooms' own deadlines and back-offs hold.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import uvicorn
import uvloop
from fastapi import FastAPI

from gateway import telemetry
from gateway.carriers.carrier import Carrier
from gateway.carriers.http import HttpCarrier
from gateway.carriers.simulator import Profile, Simulator
from gateway.contract.decision import Class
from gateway.contract.wire import Receipt
from gateway.guard import Cfg, Guard, Lease
from gateway.intake import Intake
from gateway.ledger import Appender, Keys, Projection
from gateway.records import migrate, registry
from gateway.rules.pack import Pack, load
from gateway.settings import Settings
from gateway.stream import Producer, Topics, encode, ensure

PATIENCE_S = 60.0
PACKS = ("cn",)
POOL_MOST = 8
COMMAND_S = 5.0

log = telemetry.logger("assemble")


class Misconfigured(Exception):  # noqa: N818 - it names what is wrong
    """A setting is missing or contradicts what the stores were made with; the text says which and what to do."""


def run(process: Coroutine[Any, Any, None]) -> None:
    """Run one process's coroutine to its end on uvloop."""
    uvloop.run(process)


# --- parts ---------------------------------------------------------------------------------------------------------


def packs() -> Mapping[str, Pack]:
    """Every rule pack in the package, validated."""
    return {name: load(name) for name in PACKS}


def secrets(settings: Settings) -> Keys:
    """The installation's secrets; says which is missing, never what it is."""
    try:
        master = bytes.fromhex(settings.master_key.get_secret_value())
        pepper = bytes.fromhex(settings.pepper.get_secret_value())
        return Keys(master, pepper)
    except ValueError:
        raise Misconfigured(
            "ASSENT_PEPPER (at least 64 hex digits) and ASSENT_MASTER_KEY (64 hex digits) are needed; make each with "
            'python3 -c "import secrets; print(secrets.token_hex(32))" and keep them for ever'
        ) from None


def pepper_of(settings: Settings) -> bytes:
    """The pepper's bytes."""
    return bytes.fromhex(settings.pepper.get_secret_value())


@asynccontextmanager
async def _beating(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run background loops while the body runs; the metrics flush is always one of them."""
    tasks = [asyncio.create_task(loop) for loop in (*loops, _flushing())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _flushing() -> None:
    while True:
        await asyncio.sleep(1)
        telemetry.flush()
