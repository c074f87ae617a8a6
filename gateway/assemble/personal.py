"""A person's own rights as an operator carries them out: the file exported, the erasure asked for or carried out.

What is typed may be a number, or the subject that stands for it everywhere else. A look is recorded in the ledger
before anything is written, under the name of who typed it. The certificate and the file are the ones the API answers.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

from gateway.assemble.commands import Declined
from gateway.assemble.parts import COMMAND_S, Parts, guard_of, secrets
from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Refusal
from gateway.contract.registry import Client, Registry
from gateway.edge.acts import Person
from gateway.edge.personal import pages
from gateway.edge.personal.export import Sources, gather
from gateway.edge.personal.parts import rules_of
from gateway.ledger.appender import Appender
from gateway.ledger.certificate import Signed, certify
from gateway.ledger.erasing import Erasures, Others
from gateway.ledger.keys import Keys
from gateway.ledger.reading import Reading
from gateway.records import registry as registered
from gateway.records.messages import Messages
from gateway.records.personal import Personal
from gateway.rules import numbers
from gateway.rules.pack import Pack, load, names
from gateway.settings import Settings

OPERATOR = Client(id="cli", senders=("*",), roles=("operate",))
FILE_S = 30.0
NOTHING = "nothing is recorded about this recipient"


class Desk(NamedTuple):
    """What a command about one person works with."""

    keys: Keys
    reading: Reading
    appender: Appender
    erasures: Erasures
    sources: Sources
    packs: dict[str, Pack]


def erasures(parts: Parts) -> Erasures:
    """Demands for erasure over a process's parts."""
    personal = Personal(parts.pool)
    others = Others(
        lambda: rules_of(parts.packs, parts.cfg.registry),
        personal.last_message_ms,
        personal.forget,
        personal.cancel,
        personal.held,
    )
    return Erasures(parts.pool, parts.appender, Reading(parts.pool, parts.keys), others)


async def export(settings: Settings, who: str, *, readable: bool, by: str) -> str:
    """A person's file, as JSON or as a page. Raises Declined where nothing is known of them."""
    async with desk(settings) as at, asyncio.timeout(FILE_S):
        person = _person(at.keys, who)
        file = await at.erasures.file(person.subject)
        if not file.known:
            raise Declined(NOTHING)
        await _looked(at.appender, person.subject, by)
        known = person.number or await at.reading.number(person.subject)
        data = await gather(OPERATOR, person, known, file, _now_ms(), at.sources)
        if readable:
            return pages.file_page(data, known, next(iter(at.packs.values())).zone)
        return data.model_dump_json(indent=2, exclude_none=True)


async def erase(settings: Settings, who: str, *, by: str) -> tuple[Signed, str]:
    """Erase a person, or restrict them until the law lets go; the certificate, also as a page. Raises Declined."""
    async with desk(settings) as at:
        person = _person(at.keys, who)
        done = await at.erasures.request(person.subject, f"{OPERATOR.id}/{by}", _event_id())
        if done is None or isinstance(done, Refusal):
            raise Declined(NOTHING)
        signed = certify(at.keys, done)
        return signed, pages.certificate_page(signed, next(iter(at.packs.values())).zone)


@asynccontextmanager
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    """The parts of such a command, closed at its end."""
    keys, dsn = secrets(settings), settings.database_url.get_secret_value()
    packs = {name: load(name) for name in names()}
    guard = await guard_of(settings)
    try:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=2, command_timeout=COMMAND_S) as pool:
            async with pool.acquire() as connection:
                known: Registry = await registered.load(connection)
            reading, appender, personal = Reading(pool, keys), Appender(pool, keys, guard), Personal(pool)
            await appender.start()
            others = Others(
                lambda: rules_of(packs, known),
                personal.last_message_ms,
                personal.forget,
                personal.cancel,
                personal.held,
            )
            sources = Sources(Messages(pool), personal, packs, known, keys)
            try:
                yield Desk(keys, reading, appender, Erasures(pool, appender, reading, others), sources, packs)
            finally:
                await appender.stop()
    finally:
        await guard.close()


def _person(keys: Keys, who: str) -> Person:
    """Never repeats what was typed: it may be a number, and this text may reach a log."""
    if re.fullmatch(r"[0-9a-f]{32}", who):
        return Person(None, bytes.fromhex(who))
    number = numbers.parse(who)
    if number is None:
        raise Declined("neither a mobile number in E.164 nor a subject of 32 hex digits")
    return Person(number, keys.subject(number))


async def _looked(appender: Appender, subject: bytes, by: str) -> None:
    data = {"by": f"{OPERATOR.id}/{by}", "seen": ["state", "history", "messages", "replies", "complaints"]}
    event = Event(
        event_id=_event_id(),
        kind=EventKind.ACCESS,
        number=None,
        subject=subject,
        occurred_at_ms=_now_ms(),
        data=data,
    )
    await appender.append([event])


def _event_id() -> str:
    return f"cli/{uuid.uuid4()}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
