"""`assent records export`: the log for a regulator, as a file with a manifest and a seal over both.

Order: the event in the ledger (who asked for what, and why), then the rows into `<file>.part`, which takes the file's
name when it is whole and on the disk; then the manifest, then the seal. A crash leaves at most the `.part` file, which
the next export of that name replaces; what fails otherwise removes it. A file without its seal is not finished.
"""

import asyncio
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import asyncpg

from gateway.assemble.commands import Declined, said
from gateway.assemble.parts import guard_of, secrets
from gateway.contract.consent import Event, EventKind
from gateway.contract.export import Asked, Line
from gateway.ledger import exported
from gateway.ledger.appender import Appender
from gateway.ledger.citing import Citing
from gateway.ledger.events import SYSTEM
from gateway.ledger.keys import Keys
from gateway.ledger.note import NoteError, Verifier, open_note
from gateway.ledger.sealing import Contents
from gateway.records import export, sheet
from gateway.records.export import Watch
from gateway.rules import numbers
from gateway.rules.pack import load, names
from gateway.settings import Settings

QUERY_S = 60.0
CHUNK = 1 << 20


class Office(NamedTuple):
    """What a command about records works with."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    keys: Keys
    appender: Appender


class Written(NamedTuple):
    """What was exported."""

    rows: int
    seconds: float
    files: list[Path]


class Asking(NamedTuple):
    """Who asks, why, and into which file; `.csv` and `.jsonl` are known."""

    by: str
    reason: str
    out: Path


def zone_of() -> ZoneInfo:
    """In which zone times are read and written: the first pack's."""
    return load(next(iter(names()))).zone


@asynccontextmanager
async def office(settings: Settings) -> AsyncIterator[Office]:
    """The parts of such a command, closed at its end."""
    keys, dsn = secrets(settings), settings.database_url.get_secret_value()
    guard = await guard_of(settings)
    try:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=3, command_timeout=QUERY_S) as pool:
            appender = Appender(pool, keys, guard)
            await appender.start()
            try:
                yield Office(pool, keys, appender)
            finally:
                await appender.stop()
    finally:
        await guard.close()


def subject_of(keys: Keys, who: str | None) -> bytes | None:
    """The subject of what was typed: a number, or 32 hex digits. Never repeats it: it may reach a log."""
    if who is None:
        return None
    with suppress(ValueError):
        if len(who) == 32:  # noqa: PLR2004 - hex digits of a subject
            return bytes.fromhex(who)
    number = numbers.parse(who)
    if number is None:
        raise Declined("neither a mobile number in E.164 nor a subject of 32 hex digits")
    return keys.subject(number)


async def record(at: Office, kind: EventKind, subject: bytes | None, data: dict[str, Any]) -> int:
    """Append an event; its place in the ledger."""
    event = Event(
        event_id=f"cli/{uuid.uuid4()}",
        kind=kind,
        number=None,
        subject=subject or SYSTEM,
        occurred_at_ms=_now_ms(),
        data=data,
    )
    (appended,) = await at.appender.append([event])
    return appended.seq or 0


async def export_records(settings: Settings, asked: Asked, who: str | None, asking: Asking, watch: Watch) -> Written:
    """Write the file, its manifest and its seal. `who`: a number or subject, for one person's. Raises Declined."""
    said(by=asking.by, reason=asking.reason)
    line = WRITERS.get(asking.out.suffix)
    if line is None:
        raise Declined("--out ends in .csv or .jsonl: that says which it is")
    async with office(settings) as at:
        asked = asked._replace(subject=subject_of(at.keys, who))
        began = time.monotonic()
        now = _now_ms()
        data: dict[str, Any] = {
            "person": asking.by.strip(),
            "what": "records",
            "why": asking.reason.strip(),
            "asked": asked.told(),
        }
        entry = await record(at, EventKind.ACCESS, asked.subject, data)
        note = await exported.checkpoint(at.pool, entry)
        rows = export.lines(at.pool, Contents(at.keys).open, Citing(at.pool, at.keys).cite, asked, now, watch)
        zone = zone_of()
        count, digest = await _write(asking.out, rows, lambda one: line(one, zone))
        told = {
            "rows": count,
            "asked": asked.told(),
            "by": asking.by.strip(),
            "reason": asking.reason.strip(),
            "made_at": sheet.moment(now, zone),
            "ledger_entry": entry,
        }
        files = [asking.out, *_seal(asking.out, told, digest, at.keys, note)]
        return Written(count, time.monotonic() - began, files)


WRITERS: dict[str, Callable[..., bytes]] = {".csv": sheet.csv_line, ".jsonl": sheet.json_line}


async def _write(out: Path, rows: AsyncIterator[Line], written: Callable[[Line], bytes]) -> tuple[int, str]:
    """The rows into a file that appears whole; how many, and its SHA-256."""
    part, count, digest = out.with_name(out.name + ".part"), 0, hashlib.sha256()
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            gathered = [sheet.csv_head()] if out.suffix == ".csv" else []
            async for one in rows:
                gathered.append(written(one))
                count += 1
                if count % export.PAGE == 0:
                    await asyncio.to_thread(_flush, file.write, digest.update, b"".join(gathered))
                    gathered = []
            _flush(file.write, digest.update, b"".join(gathered))
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return count, digest.hexdigest()


def _flush(write: Callable[[bytes], object], update: Callable[[bytes], object], raw: bytes) -> None:
    write(raw)
    update(raw)


def _seal(out: Path, told: dict[str, object], digest: str, keys: Keys, note: bytes | None) -> list[Path]:
    """The manifest, and the seal over both files; no seal before the log has begun."""
    manifest = exported.manifest(out.name, digest, told, note)
    sealed = exported.seal(out.name, digest, manifest, keys, note)
    files = {out.with_name(f"{out.name}.manifest.json"): manifest}
    if sealed is not None:
        files[out.with_name(f"{out.name}.seal")] = sealed
    for path, raw in files.items():
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
    return list(files)


def verify(file: Path, vkeys: Iterable[str]) -> list[str]:
    """What is wrong with an export (nothing: an empty list). Needs no installation and no network."""
    seal = file.with_name(f"{file.name}.seal")
    try:
        text = open_note(seal.read_bytes(), [Verifier(one) for one in vkeys]).text
    except OSError:
        return ["there is no seal beside it: the export was not finished, or the log had not begun"]
    except NoteError as fault:
        return [f"the seal does not hold: {fault}"]
    head, *lines = text.splitlines()
    if head != exported.SEAL_HEAD:
        return ["the seal is of something else"]
    wrong = []
    for name in (file.name, f"{file.name}.manifest.json"):
        path = file.with_name(name)
        if not path.is_file() or f"{_digest(path)}  {name}" not in lines:
            wrong.append(f"{name} is not what was sealed")
    return wrong


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
