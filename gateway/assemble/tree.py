"""The transparency log of the settings: its folder, keys, witnesses and time-stamping authority."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.assemble.commands import connection_of
from gateway.assemble.parts import Misconfigured, secrets
from gateway.ledger.attesting import Attesting
from gateway.ledger.checking import Checking, Findings
from gateway.ledger.checkpoint import Checkpoint
from gateway.ledger.note import NoteError, Signer
from gateway.ledger.regrowing import regrow
from gateway.ledger.sequencer import Log
from gateway.ledger.timestamps import Timestamps
from gateway.ledger.witness import Witness
from gateway.settings import Settings


def log_of(settings: Settings) -> Log:
    """The log that this process may sign. Raises Misconfigured, which never holds a key."""
    try:
        signers = [Signer(skey) for skey in _keys(settings).split()]
        return Log(settings.ledger_dir, signers, settings.ledger_retired.split())
    except ValueError as wrong:
        raise Misconfigured(
            f"ASSENT_LEDGER_KEYS or ASSENT_LEDGER_RETIRED: {wrong}. Make a key with `assent ledger key NAME`, once for "
            "an installation, and keep it: the log's name is part of it."
        ) from None


def attesting_of(settings: Settings, log: Log) -> Attesting | None:
    """Who attests the log, if anybody was named."""
    witnesses = []
    for written in settings.witnesses.split():
        url, equals, vkey = written.partition("=")
        try:
            witnesses.append(Witness(url, vkey))
        except NoteError as wrong:
            raise Misconfigured(f"ASSENT_WITNESSES: {wrong}; write <submission prefix>=<verifier key>") from None
        if not equals:
            raise Misconfigured("ASSENT_WITNESSES: write <submission prefix>=<verifier key>")
    authority = Timestamps(settings.timestamp_url) if settings.timestamp_url else None
    if not witnesses and authority is None:
        return None
    dsn = settings.database_url.get_secret_value()
    return Attesting(dsn, log, witnesses, authority, settings.attest_s)


def _keys(settings: Settings) -> str:
    if settings.ledger_keys_file is None:
        return settings.ledger_keys.get_secret_value()
    try:
        return settings.ledger_keys_file.read_text("utf-8")
    except OSError as fault:
        raise Misconfigured(f"ASSENT_LEDGER_KEYS_FILE cannot be read ({type(fault).__name__})") from None


async def verify_log(
    settings: Settings, others: Sequence[Path], progress: Callable[[str, int, int], None], *, deep: bool
) -> Findings:
    """Hold the whole log against the database; `others`: files of checkpoints kept elsewhere."""
    log, notes = log_of(settings), [one.read_bytes() for one in others]
    async with connection_of(settings) as connection:
        checking = Checking(connection, log, progress)
        found = await checking.run(notes)
        return await checking.deep(secrets(settings)) if deep else found


async def recover_log(settings: Settings, kept: Path | None, progress: Callable[[int, int], None]) -> Checkpoint:
    """Make the log's folder again from the database."""
    note = None if kept is None else await asyncio.to_thread(kept.read_bytes)
    async with connection_of(settings) as connection:
        return await regrow(connection, log_of(settings), progress, note)
