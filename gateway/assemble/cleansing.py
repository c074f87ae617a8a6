"""Cleansings as an operator types them: asked for, followed while settle works on them, decided and undone.

Writes and reads rows only; without a settle process nothing moves, and that is said.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from uuid import UUID

from gateway.assemble.commands import Declined, connection_of, said
from gateway.ledger.day import Progress
from gateway.records import cleansing
from gateway.records.cleansing import Job
from gateway.records.connection import Connection
from gateway.records.partitions import DAY_MS
from gateway.rules.cleansing import Category, Choice, chosen
from gateway.settings import Settings

Words = tuple[str, ...]
POLL_S = 0.3
PATIENCE_S = 30.0
"""How long a job may stand still before somebody is told that nobody works on it."""
LATE = {
    "late": "it is too late: a division is applied within 7 days, a cleansing undone within 24 hours of its end",
    "state": "it is {state}: it is applied once it is ready, and undone once it is applied",
}


async def preview(
    settings: Settings,
    scope: str,
    *,
    days: int,
    months: int | None,
    by: str,
    reason: str,
    begun: Callable[[UUID], None],
    progress: Progress,
) -> Job:
    """Have a list divided, and follow it to the end. Raises Declined."""
    said(by=by, reason=reason)
    if not re.fullmatch(cleansing.SCOPES, scope):
        raise Declined(f"{scope!r} is no list; write campaign:, list_source:, sender: or port: and a name")
    now = time.time_ns() // 1_000_000
    async with connection_of(settings) as connection:
        job = await cleansing.ask(
            connection, scope, since_ms=now - days * DAY_MS, until_ms=now, months=months, by=by, reason=reason
        )
        begun(job.id)
        return await _followed(connection, job.id, progress)


async def show(settings: Settings, name: UUID, progress: Progress) -> Job:
    """A cleansing as it stands; where work is under way, once it has ended."""
    async with connection_of(settings) as connection:
        return await _followed(connection, name, progress)


async def planned(
    settings: Settings, name: UUID, suppress: Words, repermission: Words, leave: Words
) -> tuple[Job, dict[Category, Choice]]:
    """A cleansing as it stands now, and what would be done about each category. Raises Declined."""
    table = table_of(suppress, repermission, leave)
    async with connection_of(settings) as connection:
        return await _job(connection, name), table


def table_of(suppress: Words, repermission: Words, leave: Words) -> dict[Category, Choice]:
    """What is done about each category; what is named nowhere gets what is proposed. Raises Declined."""
    asked: dict[Category, Choice] = {}
    for words, choice in ((suppress, Choice.SUPPRESS), (repermission, Choice.REPERMISSION), (leave, Choice.LEAVE)):
        for word in words:
            category = next((one for one in Category if one.word == word), None)
            if category is None:
                raise Declined(f"no category {word!r}; there are {', '.join(one.word for one in Category)}")
            if asked.setdefault(category, choice) is not choice:
                raise Declined(f"{word} is named twice")
    try:
        return chosen(asked)
    except ValueError as fault:
        raise Declined(str(fault)) from fault


async def apply(
    settings: Settings, name: UUID, table: Mapping[Category, Choice], *, by: str, reason: str, progress: Progress
) -> Job:
    """Have it done, and follow it to the end. Raises Declined."""
    said(by=by, reason=reason)
    async with connection_of(settings) as connection:
        if not await cleansing.apply(connection, name, table, by=by, reason=reason):
            _decline(await _job(connection, name))
        return await _followed(connection, name, progress)


async def undo(settings: Settings, name: UUID, *, by: str, reason: str, progress: Progress) -> Job:
    """Have it undone, and follow it to the end. Raises Declined."""
    said(by=by, reason=reason)
    async with connection_of(settings) as connection:
        if not await cleansing.undo(connection, name, by=by, reason=reason):
            job = await _job(connection, name)
            if job.state not in ("undoing", "undone"):
                _decline(job)
        return await _followed(connection, name, progress)


def _decline(job: Job) -> None:
    raise Declined(LATE[cleansing.why_not(job, datetime.now(UTC))].format(state=job.state))


async def _job(connection: Connection, name: UUID) -> Job:
    job = await cleansing.get(connection, name)
    if job is None:
        raise Declined(f"there is no cleansing {name}")
    return job


async def _followed(connection: Connection, name: UUID, progress: Progress) -> Job:
    """Until nobody works on it any more."""
    seen, since = ("", -1, -1), time.monotonic()
    while True:
        job = await _job(connection, name)
        if job.state not in cleansing.WORKING:
            return job
        if job.progress() != seen:
            seen, since = job.progress(), time.monotonic()
            progress(*seen)
        elif time.monotonic() - since > PATIENCE_S:
            raise Declined(f"nobody works on it: does settle run? It goes on by itself; assent cleanse show {name}")
        await asyncio.sleep(POLL_S)
