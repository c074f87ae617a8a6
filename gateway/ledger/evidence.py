"""Gathers the evidence for one message, or one person and sender: everything a regulator or a court may ask for.

The person's whole chain of events in order, each with its proof that the log held it; bodies and salts of those that
concern the sender (others show that they exist, and nothing else); the person's tag key, so that anybody with the log's
tiles sees that no later event, a withdrawal say, was left out; the rules and the forms that were in force, as recorded;
what became of the message. Reads only: whoever asks appends an ACCESS event first.

The checkpoint is the last attested one when it covers the chain, else the last signed one, which is waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from gateway.contract.consent import EventKind
from gateway.contract.record import receipt
from gateway.ledger import rows
from gateway.ledger.attesting import ATTESTED, ATTESTED_TIME
from gateway.ledger.bundle import seal
from gateway.ledger.checkpoint import InclusionProof, parse
from gateway.ledger.events import SYSTEM, canonical
from gateway.ledger.keys import Keys, PersonKeys
from gateway.ledger.merkle import inclusion_proof
from gateway.ledger.note import NoteError, split
from gateway.ledger.report import page
from gateway.ledger.sequencer import CHECKPOINT
from gateway.ledger.tiles import Tiles

FORMAT = "assent-evidence/1"
QUERY_S = 10.0
SIGNED_WITHIN_S = 5.0
CHAIN = """
SELECT seq, at, kind, version, tag, commitment, salt, body FROM consent_events
WHERE subject = $1 OR (seq = $2 AND subject IS NULL) ORDER BY seq
"""
PACKS = """
SELECT seq, at, kind, version, tag, commitment, salt, body FROM consent_events
WHERE subject = $1 AND kind = 'pack' ORDER BY seq DESC
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


class Case(NamedTuple):
    """What is asked: a message (as `records` tells it), or an event's place, or a person and a sender."""

    question: Mapping[str, Any]
    subject: bytes
    sender: str | None
    message: Mapping[str, Any] | None = None


@dataclass(slots=True)
class _Gathered:
    """A chain with its bodies, ready to be proved."""

    entries: list[dict[str, Any]]
    bodies: dict[int, dict[str, Any]]
    tag_key: bytes | None
    number: str | None


class Evidence:
    """Makes bundles from one installation's database and log folder."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys, folder: Path, text_of: TextOf) -> None:
        self._pool, self._keys, self._folder, self._text_of = pool, keys, folder, text_of

    async def place(self, event_id: str) -> tuple[int, bytes | None] | None:
        """The `seq` and subject of an event by its number in the ledger or its id; none where there is none."""
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            if event_id.isdigit() and len(event_id) <= 18:  # noqa: PLR2004 - digits of a bigint
                row = await connection.fetchrow(EVENT, int(event_id), timeout=QUERY_S)
                return None if row is None else (int(event_id), row["subject"])
            row = await connection.fetchrow(EVENT_NAMED, self._keys.event_name(event_id), timeout=QUERY_S)
        return None if row is None else (row["seq"], row["subject"])

    async def bundle(self, case: Case, made_at_ms: int) -> bytes:
        """The sealed bundle. Raises NothingError, NoLogError, or what the database raises."""
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            relied_on = ((case.message or {}).get("decision") or {}).get("ledger_entry")  # whose person may be erased
            chain = await connection.fetch(CHAIN, case.subject, relied_on, timeout=QUERY_S)
            holders = {row["subject"]: row for row in await connection.fetch(HOLDERS, [case.subject, SYSTEM])}
            packs = await connection.fetch(PACKS, SYSTEM, timeout=QUERY_S)
        if not chain and case.message is None:
            raise NothingError
        gathered = self._gather(case, chain, holders)
        files, named = await self._sources(case, gathered, packs, holders)
        seqs = [row["seq"] for row in chain] + [one["seq"] for one in named["packs"]]
        note, stamped = await self._checkpoint(max(seqs, default=0))
        files |= await asyncio.to_thread(self._proofs, seqs, note)
        files["checkpoint"] = note
        if stamped is not None:
            files["checkpoint.tsr"] = stamped
        told = self._told(case, gathered, named, note, made_at_ms)
        files["bundle.json"] = canonical(told)
        files["report.html"] = page(told, [gathered.bodies[seq] for seq in sorted(gathered.bodies)])
        return seal(files, self._keys.record_signer(told["origin"]))

    def _gather(
        self, case: Case, chain: Sequence[asyncpg.Record], holders: Mapping[bytes, asyncpg.Record]
    ) -> _Gathered:
        held = holders.get(case.subject)
        own = None if held is None or held["key"] is None else self._keys.unwrap(case.subject, held["key"])
        system = self._system(holders)
        entries, bodies = [_entry(row) for row in chain], {}
        for entry, row in zip(entries, chain, strict=True):
            opener = system if rows.key_holder(row["kind"], case.subject) == SYSTEM else own
            if opener is None or row["body"] is None:
                continue
            body = rows.open_body(opener, row["seq"], row["version"], row["body"])
            if _concerns(body, case.sender):
                bodies[row["seq"]] = body | {"seq": row["seq"], "recorded_at": entry["at"]}
                entry.update(_disclosed(row, body))
        if own is None or held is None:
            return _Gathered(entries, bodies, None, None)
        _number(entries, own, held["counter"])
        number = None if held["number"] is None else rows.open_number(own, held["number"])
        return _Gathered(entries, bodies, own.tag_key(), number)

    def _system(self, holders: Mapping[bytes, asyncpg.Record]) -> PersonKeys | None:
        row = holders.get(SYSTEM)
        return None if row is None or row["key"] is None else self._keys.unwrap(SYSTEM, row["key"])

    async def _sources(
        self,
        case: Case,
        gathered: _Gathered,
        packs: Sequence[asyncpg.Record],
        holders: Mapping[bytes, asyncpg.Record],
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """The rules in force and the texts shown, as files, and how the bundle names them."""
        files: dict[str, bytes] = {}
        named: dict[str, Any] = {"packs": [], "texts": []}
        found = self._pack(case.message or {}, packs, self._system(holders))
        if found is not None:
            entry, text = found
            files[entry["file"]] = text
            named["packs"].append(entry)
        for digest, name in sorted({one for body in gathered.bodies.values() if (one := _text_of(body))}):
            text_ = await self._text_of(bytes.fromhex(digest))
            if text_ is not None:
                files[f"texts/{name}"] = text_
                named["texts"].append({"file": f"texts/{name}", "sha256": digest})
        return files, named

    @staticmethod
    def _pack(
        message: Mapping[str, Any], packs: Sequence[asyncpg.Record], system: PersonKeys | None
    ) -> tuple[dict[str, Any], bytes] | None:
        """The recorded text of the pack that decided the message, as it was then; without a message, the newest."""
        wanted, then = (message.get("decision") or {}).get("pack"), message.get("accepted_at") or 2**62
        found = []
        if system is None:
            return None
        for row in packs:
            body = rows.open_body(system, row["seq"], row["version"], row["body"])
            if wanted in (None, body["data"]["pack"]):
                found.append((row, body))
        chosen = next((one for one in found if rows.ms_of(one[0]["at"]) <= then), found[-1] if found else None)
        if chosen is None:
            return None
        row, body = chosen
        data = body["data"]
        named = {"pack": data["pack"], "sha256": data["sha256"], "file": f"packs/{data['pack']}.toml"}
        return _entry(row) | _disclosed(row, body) | named, data["text"].encode()

    async def _checkpoint(self, last: int) -> tuple[bytes, bytes | None]:
        """A signed checkpoint that covers event `last`, with the authority's reply where there is one over it."""
        for _ in range(int(SIGNED_WITHIN_S / 0.1)):
            for name in (ATTESTED, CHECKPOINT):
                note = await asyncio.to_thread(_read, self._folder / name)
                if note is not None and _size(note) >= max(last, 1):
                    stamped = await asyncio.to_thread(_read, self._folder / ATTESTED_TIME) if name == ATTESTED else None
                    return note, stamped
            await asyncio.sleep(0.1)
        raise NoLogError

    def _proofs(self, seqs: Sequence[int], note: bytes) -> dict[str, bytes]:
        size = _size(note)
        read = Tiles(self._folder).reader(size)
        return {
            f"proofs/{seq}.tlog-proof": InclusionProof(
                seq - 1, tuple(inclusion_proof(seq - 1, size, read)), note
            ).encode()
            for seq in seqs
        }

    def _told(
        self, case: Case, gathered: _Gathered, named: Mapping[str, Any], note: bytes, made_at_ms: int
    ) -> dict[str, Any]:
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


def _entry(row: asyncpg.Record) -> dict[str, Any]:
    """What anybody may read of an event: its leaf, and its kind."""
    return {
        "seq": row["seq"],
        "at": rows.ms_of(row["at"]),
        "version": row["version"],
        "kind": row["kind"],
        "tag": row["tag"].hex(),
        "commitment": row["commitment"].hex(),
    }


def _disclosed(row: asyncpg.Record, body: Mapping[str, Any]) -> dict[str, str]:
    return {"salt": row["salt"].hex(), "body": canonical(body).decode()}


def _number(entries: Sequence[dict[str, Any]], own: PersonKeys, last: int) -> None:
    """Write to each entry which of the person's it is, from the last one back; those of an erased key have none."""
    for entry in reversed(entries):
        if entry["tag"] == own.tag(last).hex():
            entry["count"] = last
            last -= 1


def _concerns(body: Mapping[str, Any], sender: str | None) -> bool:
    """Whether an event is shown: it is about the sender asked for, or about all."""
    data = body["data"]
    owner = data.get("sender") or str(data.get("scope", "*")).partition("/")[0].partition("#")[0]
    if body["event_type"] == EventKind.ACCESS:
        return False
    return sender is None or owner in (sender, "*")


def _text_of(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The digest of the text that a grant's first record names (`two_records`), and a name for its file."""
    first = ((body["data"].get("evidence") or {}).get("first") or {}).get("record") or {}
    notice = (first.get("proof") or {}).get("notice")
    if not notice:
        return None
    return str(notice["sha256"]), f"{notice['id']}.v{notice['version']}.{notice['language']}.json"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _size(note: bytes) -> int:
    try:
        return parse(split(note)[0]).size
    except (NoteError, ValueError):
        raise NoLogError from None
