"""What an operator types: rebuild, stop and resume. Clients, senders, forms: `registering.py`; `preparing.py`."""

import gc
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date

import asyncpg

from gateway.assemble.parts import COLLECT, COMMAND_S, Misconfigured, guard_of, secrets
from gateway.assemble.recovering import recovery
from gateway.contract.consent import Event, EventKind
from gateway.contract.registry import SCOPE, SCOPE_FORMS
from gateway.ledger.appender import Appender
from gateway.ledger.audit import Report, audit
from gateway.ledger.day import Progress
from gateway.ledger.events import SYSTEM
from gateway.ledger.rebuild import Filled
from gateway.ledger.rebuild import rebuild as refill
from gateway.records import registry
from gateway.records.connection import Connection
from gateway.rules.pack import load, names
from gateway.settings import Settings
from gateway.settle.recount import Recount, recount

MOST_WORDS = 500


async def rebuild(settings: Settings, progress: Progress) -> Filled:
    """Fill the guard's cache from PostgreSQL and Kafka."""
    gc.set_threshold(*COLLECT)
    guard = await guard_of(settings, timeout_s=5.0)
    try:
        if problems := await guard.verify():
            raise Misconfigured("; ".join(problems))
        packs = {name: load(name) for name in names()}
        dsn = settings.database_url.get_secret_value()
        return await refill(dsn, guard, progress, recovery(settings, guard, packs))
    finally:
        await guard.close()


async def audit_cache(settings: Settings, progress: Progress, *, repair: bool) -> Report:
    """Compare the guard's cache with PostgreSQL."""
    gc.set_threshold(*COLLECT)
    guard = await guard_of(settings, timeout_s=5.0)
    try:
        return await audit(settings.database_url.get_secret_value(), guard, progress, repair=repair)
    finally:
        await guard.close()


async def audit_health(settings: Settings, day: date, *, repair: bool) -> Recount:
    """Count a day (UTC) again from the records of messages and signals, and compare."""
    async with connection_of(settings) as connection:
        return await recount(connection, (day - date(1970, 1, 1)).days, repair=repair)


@asynccontextmanager
async def connection_of(settings: Settings) -> AsyncIterator[Connection]:
    """One connection to PostgreSQL, for a command."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value(), timeout=COMMAND_S)
    try:
        yield connection
    finally:
        await connection.close()


class Declined(Exception):  # noqa: N818 - it says what happened
    """What was typed would do the wrong thing, or nothing; the text says why and what to type instead."""


async def stop(settings: Settings, scope: str, *, by: str, reason: str) -> None:
    """Open a breaker. It waits for nothing: settlement tells the ledger of it, within seconds."""
    _checked(scope, by, reason)
    await _move(settings, scope, by, reason, is_open=True)


async def resume(settings: Settings, scope: str, *, by: str, reason: str, permille: int | None = None) -> None:
    """Close a breaker, or let a share through: recorded first, so that nothing goes on without a name and a reason."""
    _checked(scope, by, reason)
    async with connection_of(settings) as connection:
        open_now = [row.scope for row in await registry.breakers(connection) if row.is_open]
    if scope not in open_now:
        raise Declined(f"{scope} is not stopped; stopped: {', '.join(open_now) or 'nothing'}")
    still = permille is not None
    await _record(settings, scope, by, reason, is_open=still, permille=permille)
    await _move(settings, scope, by, reason, is_open=still, permille=permille)


def _checked(scope: str, by: str, reason: str) -> None:
    if not re.fullmatch(SCOPE, scope):
        raise Declined(f"{scope!r} is not a scope; write one of: {'; '.join(SCOPE_FORMS)}")
    said(by=by, reason=reason)


def said(**texts: str) -> None:
    """Raises Declined for a name or reason that says nothing, or too much."""
    for option, text in texts.items():
        if not 0 < len(text.strip()) <= MOST_WORDS:
            raise Declined(f"--{option} must say something, in at most {MOST_WORDS} characters: it is recorded")


async def _move(
    settings: Settings, scope: str, by: str, reason: str, *, is_open: bool, permille: int | None = None
) -> None:
    async with connection_of(settings) as connection:
        await registry.set_breaker(
            connection, scope, is_open=is_open, by=by.strip(), reason=reason.strip(), permille=permille
        )


async def _record(
    settings: Settings, scope: str, by: str, reason: str, *, is_open: bool, permille: int | None = None
) -> None:
    dsn = settings.database_url.get_secret_value()
    guard = await guard_of(settings)
    try:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            appender = Appender(pool, secrets(settings), guard)
            await appender.start()
            data = {"scope": scope, "open": is_open, "person": by.strip(), "why": reason.strip()}
            if permille is not None:
                data["permille"] = permille
            event = Event(
                event_id=f"cli/{uuid.uuid4()}",
                kind=EventKind.BREAKER,
                number=None,
                subject=SYSTEM,
                occurred_at_ms=time.time_ns() // 1_000_000,
                data=data,
            )
            await appender.append([event])
            await appender.stop()
    finally:
        await guard.close()
