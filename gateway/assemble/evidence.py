"""Evidence from the command line: export a bundle from an installation, and check one anywhere."""

import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import asyncpg

from gateway.assemble.commands import Declined
from gateway.assemble.parts import guard_of, secrets
from gateway.contract.consent import Event, EventKind
from gateway.edge.evidence import case_of
from gateway.ledger.appender import Appender
from gateway.ledger.chain import Case
from gateway.ledger.evidence import Evidence, NothingError
from gateway.ledger.keys import Keys
from gateway.ledger.layout import WIDTH
from gateway.ledger.tiles import Tiles
from gateway.ledger.verify import Report, verify
from gateway.records import forms
from gateway.records.messages import Messages
from gateway.rules import numbers
from gateway.settings import Settings


def evidence_of(pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys, settings: Settings) -> Evidence:
    """What makes bundles of this installation."""

    async def text_of(sha256: bytes) -> bytes | None:
        async with pool.acquire(timeout=5.0) as connection:
            return await forms.text_of(connection, sha256)

    return Evidence(pool, keys, settings.ledger_dir, text_of)


async def export(
    settings: Settings,
    *,
    by: str,
    asked: str | None,
    recipient: str | None,
    port: str | None,
    at: datetime | None,
) -> bytes:
    """The bundle of a message or event, or of the message to a number nearest to a time. Raises Declined."""
    keys = secrets(settings)
    dsn = settings.database_url.get_secret_value()
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        made = evidence_of(pool, keys, settings)
        case = await (case_of(pool, made, asked) if asked else _by_number(pool, keys, recipient or "", port, at))
        if case is None:
            raise Declined("there is no message or event of this id, or its person was erased")
        await _looked(settings, pool, keys, case, by)
        try:
            return await made.bundle(case, _now_ms())
        except NothingError:
            raise Declined("nothing is recorded about this person") from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _by_number(
    pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys, recipient: str, port: str | None, at: datetime | None
) -> Case:
    number = numbers.parse(recipient)
    if number is None:
        raise Declined("--recipient is not a mobile number in E.164, like +8613800138000")
    subject, at_ms = keys.subject(number), _now_ms() if at is None else int(at.timestamp() * 1000)
    message = await Messages(pool).near(subject, port, at_ms)
    question = {"recipient": number, "port": port, "at": at_ms}
    if message is None:
        return Case(question, subject, None)
    return Case(question, subject, message.sender, message.told())


async def _looked(settings: Settings, pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys, case: Case, by: str) -> None:
    """A look at a person's data is an event before anything is shown."""
    guard = await guard_of(settings)
    try:
        appender = Appender(pool, keys, guard)
        await appender.start()
        event = Event(
            event_id=f"cli/{uuid.uuid4()}",
            kind=EventKind.ACCESS,
            number=None,
            subject=case.subject,
            occurred_at_ms=_now_ms(),
            data={"person": by, "what": "evidence"},
        )
        await appender.append([event])
        await appender.stop()
    finally:
        await guard.close()


def check(bundle: Path, vkeys: Sequence[str], authority: Path | None, tiles: Path | None) -> Report:
    """Check a bundle; needs no installation and no network. `vkeys`: verifier keys, or files that hold them."""
    named: list[str] = []
    for one in vkeys:
        path = Path(one)
        named += path.read_text("utf-8").split() if path.is_file() else [one]
    return verify(
        bundle.read_bytes(),
        named,
        authority=None if authority is None else authority.read_bytes(),
        leaves=None if tiles is None else lambda size: _entries(tiles, size),
    )


def _entries(folder: Path, size: int) -> Iterator[bytes]:
    """The entries in a log's folder, for a tree of this size."""
    held = Tiles(folder)
    for index in range(-(-size // WIDTH)):
        yield from held.entries(index, size)
