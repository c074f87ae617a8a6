"""Complaints as an operator brings and handles them: a file taken in, cases listed and acted on, a day signed off.

The same steps as behind the API, over connections of the command's own; who did it is the name that was typed. Nothing
of a file is printed: rejected lines go to the file that was named for them, and only there.
"""

import asyncio
import csv
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self, TextIO

import asyncpg
import orjson

from gateway.assemble.commands import Declined, connection_of
from gateway.assemble.parts import COMMAND_S, guard_of, secrets
from gateway.contract.consent import Event, EventKind
from gateway.intake.complaint_file import Counts, Importing
from gateway.intake.complaints import Means, bound
from gateway.intake.resolving import resolve
from gateway.ledger.appender import Appender
from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.ledger.sealing import Contents
from gateway.records import cases, figures, registry, sheet
from gateway.records.cases import Acted, Case, CaseStateError, NoCaseError
from gateway.records.connection import Connection
from gateway.records.figures import Figures
from gateway.rules.complaint_days import bounds, yesterday
from gateway.rules.complaint_file import Bad, Columns, File, HeaderError, columns, mapping
from gateway.rules.pack import load, names
from gateway.settings import Settings

PIECE = 256 * 1024
TRIES = 5
AT_ONCE = 4
"""Batches of a file under way together: the next is matched while one waits for the ledger."""
MOST_NAME = 100
Progress = Callable[[str, int, int], None]
Step = Callable[[Connection, bytes | None], Awaitable[Case]]


class FileMeant(NamedTuple):
    """How a file is to be read, as it was typed."""

    mapping: str | None
    columns: str | None
    source: str | None
    encoding: str | None


class Shown(NamedTuple):
    """A case with its words, for whoever asked by name."""

    case: Case
    acts: list[tuple[Acted, str | None]]
    text: str | None
    ref: str | None


async def import_file(
    settings: Settings, path: Path, meant: FileMeant, by: str, rejects: Path | None, progress: Progress
) -> Counts:
    """Take a file in. Raises Declined where it cannot be read as complaints."""
    async with means_of(settings) as means:
        try:
            file = File(_columns(meant), means.zone, now_ms(), meant.encoding)
            with _Rejects(rejects, file) as told:
                importing = Importing(means, file, f"cli/{by}", now_ms, told, TRIES, AT_ONCE)
                return await importing.run(_pieces(path, progress))
        except HeaderError as fault:
            raise Declined(f"{path.name}: {fault}") from None
        except OSError as fault:
            if fault.filename is None:
                raise
            raise Declined(f"{fault.filename}: {fault.strerror}") from None


async def listed(settings: Settings, asked: cases.Filter, limit: int) -> list[Case]:
    """Cases, the newest received first."""
    async with connection_of(settings) as connection:
        return await cases.page(connection, asked, limit)


async def shown(settings: Settings, case: str, by: str) -> Shown:
    """A case with its words; the look is recorded first."""
    named(by)
    async with means_of(settings) as means:
        async with means.pool.acquire() as connection:
            found = await cases.one(connection, case)
            if found is None:
                raise Declined(_NO_CASE)
            acts = await cases.acts(connection, case)
            sealed = None if found.subject is None else await cases.words(connection, case)
        if found.subject is not None:
            await means.appender.append([_look(found.subject, by)])
        keys = means.appender.keys
        said: dict[str, Any] = {} if sealed is None else orjson.loads(keys.open_case(sealed, bound(case)))
        notes = [(one, _opened(keys, case, one.sealed)) for one in acts]
        return Shown(found, notes, said.get("text"), said.get("ref"))


async def act(settings: Settings, case: str, by: str, note: str | None, step: Step) -> Case:
    """Act on a case. Raises Declined where there is none, or it does not stand where that is possible."""
    named(by)
    sealed = None if note is None else secrets(settings).seal_case(note.encode(), bound(case))
    async with connection_of(settings) as connection:
        try:
            return await step(connection, sealed)
        except NoCaseError:
            raise Declined(_NO_CASE) from None
        except CaseStateError as fault:
            raise Declined(f"{fault}; `assent complaints show` says where it stands") from None


async def decide(settings: Settings, case: str, message: str | None, by: str) -> Case:
    """Decide which message a complaint is about. Raises Declined."""
    named(by)
    async with means_of(settings) as means:
        try:
            return await resolve(means, case, message, by, "cli", now_ms())
        except NoCaseError:
            raise Declined("there is no such case, or no such message that went to its person") from None
        except CaseStateError as fault:
            raise Declined(str(fault)) from None


async def sign_off(settings: Settings, day: date, source: str, stated: int, by: str) -> Figures:
    """State a day's figures. Raises Declined for a day that has not begun."""
    named(by)
    zone = load(names()[0]).zone
    if day > datetime.now(zone).date():
        raise Declined("that day has not begun")
    async with connection_of(settings) as connection:
        return await figures.state(connection, day, source, stated, by, now_ms(), bounds(day, zone))


def named(by: str) -> None:
    """What somebody does is recorded under their name. Raises Declined for none."""
    if not 0 < len(by.strip()) <= MOST_NAME:
        raise Declined(f"--by must be a name, of at most {MOST_NAME} characters: it is recorded")


def due_day() -> date:
    """The day whose figures are due now."""
    return yesterday(now_ms(), load(names()[0]).zone)


@asynccontextmanager
async def means_of(settings: Settings) -> AsyncIterator[Means]:
    """What complaints are taken in with, closed at the end."""
    keys, dsn, zone = secrets(settings), settings.database_url.get_secret_value(), load(names()[0]).zone
    guard = await guard_of(settings)
    try:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=AT_ONCE + 2, command_timeout=COMMAND_S) as pool:
            async with pool.acquire() as connection:
                known = await registry.load(connection)
            appender = Appender(pool, keys, guard)
            await appender.start()
            try:
                answer_h = settings.complaint_answer_h
                yield Means(pool, appender, known.senders, Contents(keys).open, zone, answer_h)
            finally:
                await appender.stop()
    finally:
        await guard.close()


class _Rejects:
    """The report of rejected lines: each with its number and why, readable by its owner alone.

    Strangers wrote what is in it: no cell is a formula, and a file that is made of it is read as the first one was.
    """

    def __init__(self, path: Path | None, file: File) -> None:
        self._path, self._file = path, file
        self._out: TextIO | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.touch(mode=0o600)
            self._path.chmod(0o600)
            self._out = self._path.open("w", encoding="utf-8-sig", newline="")
        return self

    def __call__(self, bad: Bad) -> None:
        if self._out is None:
            return
        if self._writer is None:
            self._writer = csv.writer(self._out)
            self._writer.writerow(("line", "field", "reason", *map(sheet.shielded, self._file.header)))
        self._writer.writerow((bad.line, bad.field or "", bad.message, *map(sheet.shielded, bad.cells)))

    def __exit__(self, *_: object) -> None:
        if self._out is not None:
            self._out.close()


async def _pieces(path: Path, progress: Progress) -> AsyncIterator[bytes]:
    total, read = path.stat().st_size, 0  # noqa: ASYNC240 - a command, and nothing else waits
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
            read += len(piece)
            progress("bytes taken in", read, total)


def _columns(meant: FileMeant) -> Columns:
    base = mapping(meant.mapping) if meant.mapping else None
    if meant.columns is not None:
        return columns(meant.columns, meant.source, base)
    found = base or mapping("own")
    return found if meant.source is None else columns("", meant.source, found)


def _look(subject: bytes, by: str) -> Event:
    return Event(
        event_id=f"cli/{time.time_ns()}/{subject.hex()}",
        kind=EventKind.ACCESS,
        number=None,
        subject=subject,
        occurred_at_ms=now_ms(),
        data={"by": f"cli/{by}", "seen": ["complaint"]},
    )


def _opened(keys: Keys, case: str, sealed: bytes | None) -> str | None:
    try:
        return None if sealed is None else keys.open_case(sealed, bound(case)).decode()
    except KeyMismatchError:
        return None


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


_NO_CASE = "there is no such case: `assent complaints list` shows them"
