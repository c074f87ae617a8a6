"""Gathers the evidence for one message, or one person and sender: everything a regulator or a court may ask for.

The person's whole chain of events in order, each with its proof that the log held it; bodies and salts of those that
concern the sender (others show that they exist, and nothing else); the person's tag key, so that anybody with the log's
tiles sees that no later event, a withdrawal say, was left out; the rules and the forms that were in force, as recorded;
what became of the message. Reads only: whoever asks appends an ACCESS event first.

The checkpoint is chosen first: the last attested one when it covers what is recorded about the person, else the last
signed one, which is waited for. The chain is what the database holds up to that very checkpoint, read in one snapshot,
so an act that arrives meanwhile is not missing from the bundle. Opening, proving and sealing are done beside the loop.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from gateway.contract.record import receipt
from gateway.ledger.attesting import ATTESTED, ATTESTED_TIME
from gateway.ledger.bundle import seal
from gateway.ledger.chain import Case, Gathered, Holder, gather, pack_of, text_of
from gateway.ledger.checkpoint import InclusionProof, parse
from gateway.ledger.events import SYSTEM, canonical
from gateway.ledger.keys import Keys, PersonKeys
from gateway.ledger.layout import LayoutError
from gateway.ledger.merkle import inclusion_proof
from gateway.ledger.note import NoteError, split
from gateway.ledger.report import page
from gateway.ledger.sequencer import CHECKPOINT
from gateway.ledger.tiles import TileMissingError, Tiles

FORMAT = "assent-evidence/1"
QUERY_S = 10.0
SIGNED_WITHIN_S = 5.0
LAST = """
SELECT greatest($3::bigint, (SELECT max(seq) FROM consent_events WHERE subject = $1),
    (SELECT max(seq) FROM consent_events WHERE subject = $2 AND kind = 'pack'))
"""
CHAIN = """
SELECT seq, at, kind, version, tag, commitment, salt, body FROM consent_events
WHERE (subject = $1 OR (seq = $2 AND subject IS NULL)) AND seq <= $3 ORDER BY seq
"""
PACKS = """
SELECT seq, at, kind, version, tag, commitment, salt, body FROM consent_events
WHERE subject = $1 AND kind = 'pack' AND seq <= $2 ORDER BY seq DESC
"""
HOLDERS = "SELECT subject, counter, key, number FROM subjects WHERE subject = ANY($1::bytea[])"
EVENT = "SELECT subject FROM consent_events WHERE seq = $1"
EVENT_NAMED = "SELECT seq, subject FROM consent_events WHERE event_id = $1"

TextOf = Callable[[bytes], Awaitable[bytes | None]]
"""The text that people were shown, by its SHA-256; none where it is not there."""


class NoLogError(Exception):
    """The log cannot be read here, or its checkpoint does not come: evidence would prove nothing."""


class NothingError(LookupError):
    """There is no such message or event, or nothing readable about the person."""


class Evidence:
    """Makes bundles from one installation's database and log folder."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys, folder: Path, text_of: TextOf) -> None:
        self._pool, self._keys, self._folder, self._text_of = pool, keys, folder, text_of

    async def place(self, event_id: str) -> tuple[int, bytes | None] | None:
        """The `seq` and subject of an event by its number in the ledger or its id; none where there is none."""
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            if event_id.isascii() and event_id.isdigit() and len(event_id) <= 18:  # noqa: PLR2004 - digits of a bigint
                row = await connection.fetchrow(EVENT, int(event_id), timeout=QUERY_S)
                return None if row is None else (int(event_id), row["subject"])
            row = await connection.fetchrow(EVENT_NAMED, self._keys.event_name(event_id), timeout=QUERY_S)
        return None if row is None else (row["seq"], row["subject"])

    async def bundle(self, case: Case, made_at_ms: int) -> bytes:
        """The sealed bundle. Raises NothingError, NoLogError, or what the database raises."""
        note, stamped = await self._checkpoint(await self._last(case))
        chain, packs, holders = await self._read(case, _size(note))
        if not chain and case.message is None:
            raise NothingError
        own, system = (self._opener(holders, subject) for subject in (case.subject, SYSTEM))
        gathered = await asyncio.to_thread(gather, case, chain, Holder(own, system, holders.get(case.subject)))
        files, named = await self._sources(case, gathered, packs, system)
        files["checkpoint"] = note
        if stamped is not None:
            files["checkpoint.tsr"] = stamped
        seqs = [row["seq"] for row in chain] + [one["seq"] for one in named["packs"]]
        told = await asyncio.to_thread(_told, case, gathered, named, note, made_at_ms)
        return await asyncio.to_thread(self._sealed, files, told, seqs, gathered)

    async def _last(self, case: Case) -> int:
        """The last entry that the bundle has to prove, as of now."""
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            last = await connection.fetchval(LAST, case.subject, SYSTEM, _relied_on(case), timeout=QUERY_S)
        return last or 1

    async def _read(
        self, case: Case, size: int
    ) -> tuple[list[asyncpg.Record], list[asyncpg.Record], dict[bytes, asyncpg.Record]]:
        """The chain and the packs in a log of this size, newest pack first, and who holds their keys: one snapshot."""
        async with (
            self._pool.acquire(timeout=QUERY_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            chain = await connection.fetch(CHAIN, case.subject, _relied_on(case), size, timeout=QUERY_S)
            packs = await connection.fetch(PACKS, SYSTEM, size, timeout=QUERY_S)
            holders = await connection.fetch(HOLDERS, [case.subject, SYSTEM], timeout=QUERY_S)
        return chain, packs, {row["subject"]: row for row in holders}

    def _opener(self, holders: Mapping[bytes, asyncpg.Record], subject: bytes) -> PersonKeys | None:
        row = holders.get(subject)
        return None if row is None or row["key"] is None else self._keys.unwrap(subject, row["key"])

    async def _sources(
        self,
        case: Case,
        gathered: Gathered,
        packs: Sequence[asyncpg.Record],
        system: PersonKeys | None,
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The rules in force and the texts shown, as files, and how the bundle names them."""
        files: dict[str, bytes] = {}
        named: dict[str, Any] = {"packs": [], "texts": []}
        found = await asyncio.to_thread(pack_of, case.message or {}, packs, system)
        if found is not None:
            entry, text = found
            files[entry["file"]] = text
            named["packs"].append(entry)
        for digest, name in sorted({one for body in gathered.bodies.values() if (one := text_of(body))}):
            text_ = await self._text_of(bytes.fromhex(digest))
            if text_ is not None:
                files[f"texts/{name}"] = text_
                named["texts"].append({"file": f"texts/{name}", "sha256": digest})
        return files, named

    async def _checkpoint(self, last: int) -> tuple[bytes, bytes | None]:
        """A signed checkpoint that covers event `last`, with the authority's reply where there is one over it."""
        for _ in range(int(SIGNED_WITHIN_S / 0.1)):
            for name in (ATTESTED, CHECKPOINT):
                note = await asyncio.to_thread(_read, self._folder / name)
                if note is not None and _size(note) >= last:
                    return note, await asyncio.to_thread(self._stamp, note) if name == ATTESTED else None
            await asyncio.sleep(0.1)
        raise NoLogError

    def _stamp(self, note: bytes) -> bytes | None:
        """The authority's reply over these very bytes; the one that is there may be over the attested one before."""
        reply = _read(self._folder / ATTESTED_TIME)
        return reply if reply is not None and hashlib.sha256(note).digest() in reply else None

    def _sealed(self, files: dict[str, bytes], told: dict[str, Any], seqs: Sequence[int], gathered: Gathered) -> bytes:
        try:
            files |= self._proofs(seqs, files["checkpoint"])
        except (TileMissingError, LayoutError, OSError):
            raise NoLogError from None  # the checkpoint is seen here sooner than its tiles
        files["bundle.json"] = canonical(told)
        files["report.html"] = page(told, [gathered.bodies[seq] for seq in sorted(gathered.bodies)])
        return seal(files, self._keys.record_signer(told["origin"]))

    def _proofs(self, seqs: Sequence[int], note: bytes) -> dict[str, bytes]:
        size = _size(note)
        read = Tiles(self._folder).reader(size)
        return {
            f"proofs/{seq}.tlog-proof": InclusionProof(
                seq - 1, tuple(inclusion_proof(seq - 1, size, read)), note
            ).encode()
            for seq in seqs
        }


def _relied_on(case: Case) -> int | None:
    """The entry that a message names: its person may be erased since."""
    named: int | None = ((case.message or {}).get("decision") or {}).get("ledger_entry")
    return named


def _told(case: Case, gathered: Gathered, named: Mapping[str, Any], note: bytes, made_at_ms: int) -> dict[str, Any]:
    checkpoint = parse(split(note)[0])
    told: dict[str, Any] = {
        "format": FORMAT,
        "made_at": made_at_ms,
        "origin": checkpoint.origin,
        "tree_size": checkpoint.size,
        "question": dict(case.question),
        "subject": case.subject.hex(),
        "sender": case.sender,
        "entries": gathered.entries,
        "receipts": [receipt(body) for _, body in sorted(gathered.bodies.items())],
        "message": dict(case.message) if case.message is not None else None,
        **named,
    }
    if gathered.number is not None:
        told["number"] = gathered.number
    if gathered.tag_key is not None:
        told["tag_key"] = gathered.tag_key.hex()
    return told


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _size(note: bytes) -> int:
    """Of a checkpoint; 0 of what is none."""
    try:
        return parse(split(note)[0]).size
    except (NoteError, ValueError):
        return 0
