"""The seal over an export of records: a manifest that tells what was asked, and a signed note over file and manifest.

The note is by the key that seals evidence; `assent records verify` checks it. No seal before the log has begun.
"""

import asyncio
import hashlib
from typing import Any

import asyncpg
import orjson

from gateway.ledger.checkpoint import parse
from gateway.ledger.keys import Keys
from gateway.ledger.note import sign, split

FORMAT = "assent-records/1"
SEAL_HEAD = "assent records export v1"
SIGNED_WITHIN_S = 5.0
CHECKPOINT = "SELECT note FROM ledger_checkpoint ORDER BY signed_at DESC LIMIT 1"


async def checkpoint(pool: "asyncpg.Pool[asyncpg.Record]", entry: int) -> bytes | None:
    """The log's last checkpoint, if it can be with the export's own entry in it; none before the log has begun."""
    note: bytes | None = None
    for _ in range(int(SIGNED_WITHIN_S / 0.1)):
        note = await pool.fetchval(CHECKPOINT)
        if note is None or parse(split(note)[0]).size >= entry:
            break
        await asyncio.sleep(0.1)
    return note


def manifest(name: str, digest: str, told: dict[str, Any], note: bytes | None) -> bytes:
    """What is said about a file of this SHA-256. `told`: rows, asked, by, reason, made_at, ledger_entry."""
    head = {"format": FORMAT, "file": name, "sha256": digest}
    whole = {**head, **told, "checkpoint": None if note is None else note.decode()}
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n"


def seal(name: str, digest: str, told: bytes, keys: Keys, note: bytes | None) -> bytes | None:
    """The signed note over a file and its manifest."""
    if note is None:
        return None
    lines = [SEAL_HEAD, f"{digest}  {name}", f"{hashlib.sha256(told).hexdigest()}  {name}.manifest.json"]
    return sign("\n".join(lines) + "\n", [keys.record_signer(parse(split(note)[0]).origin)])
