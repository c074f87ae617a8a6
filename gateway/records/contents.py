"""What messages said and to which number: written once, opened by id, forgotten with the person.

Owns `message_contents` and `content_erasures`. The records process is the only writer (`archive`); what is stored is
sealed, and what seals and opens it is handed in (`ledger/sealing.py`). A row lives for a time of its own, at most as
long as the log's (`partitions`), and goes before it when its person is erased.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from asyncpg import Pool

from gateway.records import holds
from gateway.records.connection import Connection

Seal: TypeAlias = Callable[[bytes, str, str], bytes]
"""A row's sealed value, of a message id's 16 bytes, the number and the text."""
Open: TypeAlias = Callable[[bytes, bytes], "tuple[str, str] | None"]
"""Number and text, of a message id's 16 bytes and the sealed value; none when it does not open."""

_BY_ID = "SELECT id, sealed FROM message_contents WHERE id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3"

STORE_S = 25.0
"""How long a batch may take to be stored: longer than a query, for it is worth waiting for."""
_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS staged_contents (id uuid NOT NULL, sealed bytea NOT NULL) ON COMMIT DELETE ROWS
"""
_UNSTAGE = "INSERT INTO message_contents (id, sealed) SELECT id, sealed FROM staged_contents ON CONFLICT DO NOTHING"

_LOCK = 0x41535345_0020
"""Shared by whoever stores, exclusive to whoever forgets: no row of an erased person slips in between."""
_ERASED = "SELECT encode(subject, 'hex') AS subject, at FROM content_erasures"
_ERASE = """
INSERT INTO content_erasures AS e (subject, at) VALUES ($1, $2)
ON CONFLICT (subject) DO UPDATE SET at = greatest(e.at, excluded.at)
"""
_IDS = "SELECT id FROM messages WHERE subject = $1 AND (accepted_at IS NULL OR accepted_at <= $2)"
_DELETE = f"""
DELETE FROM message_contents AS c WHERE c.id = ANY($1::uuid[]) AND c.id BETWEEN $2 AND $3
AND NOT {holds.HELD["message_contents"]}
"""  # noqa: S608 - a constant
_LEFT = """
SELECT EXISTS (SELECT FROM message_contents WHERE id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3)
"""
LATE_MS = 8 * 86_400_000
"""Kafka keeps what was accepted for three days: after so long nothing of an erased person can arrive any more."""


class Content(NamedTuple):
    """The number (E.164) that a message went to, and its text as it was sent."""

    number: str
    text: str


async def contents(conn: Connection | Pool[Any], opened: Open, ids: Collection[str]) -> dict[str, Content]:
    """What is kept of these messages, by id; one call for many, at most some thousands.

    Left out: not archived yet (normally a second after acceptance), older than its time, of an erased person, or
    damaged. A person whose erasure waits is among them, whose records are used for nothing but what the law asks:
    whoever shows this to anybody asks the ledger first, and records the look.
    """
    if not ids:
        return {}
    rows = await conn.fetch(_BY_ID, list(ids), min(ids), max(ids))
    found: dict[str, Content] = {}
    for row in rows:
        known: UUID = row["id"]
        told = opened(known.bytes, row["sealed"])
        if told is not None:
            found[str(known)] = Content(*told)
    return found


async def texts(conn: Connection | Pool[Any], opened: Open, ids: Collection[str]) -> dict[str, str]:
    """The texts alone, as `contents` finds them."""
    return {known: content.text for known, content in (await contents(conn, opened, ids)).items()}


async def add(conn: Connection, rows: Sequence[tuple[str, bytes]]) -> int:
    """Store (id, sealed), inside the caller's transaction; how many were new. What is stored already stays as it is.

    A message comes again by its retries and its release from hold, each time with the same number and text.
    """
    await conn.execute(_STAGE)
    await conn.copy_records_to_table("staged_contents", columns=("id", "sealed"), records=rows, timeout=STORE_S)
    tag = await conn.execute(_UNSTAGE, timeout=STORE_S)
    return int(tag.rsplit(" ", 1)[1])


# --- erasure ---------------------------------------------------------------------------------------------------------


async def erased(conn: Connection) -> dict[str, int]:
    """Whose contents are not to be stored, by subject in hex: what was accepted up to a time (Unix ms).

    Inside the transaction that stores: until it ends, nobody forgets.
    """
    await conn.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
    return {row["subject"]: row["at"] for row in await conn.fetch(_ERASED)}


async def forget(conn: Connection, subject: bytes, at_ms: int) -> bool:
    """Delete what was said to a person up to a time; whether nothing is left. Runs its own transactions; repeatable.

    What a legal hold covers stays until it is released, and what comes from Kafka later is not stored (`erased`).
    """
    await conn.execute(_ERASE, subject, at_ms)
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        ids = [row["id"] for row in await conn.fetch(_IDS, subject, at_ms)]
        if not ids:
            return True
        await conn.execute(_DELETE, ids, min(ids), max(ids))
        return not await conn.fetchval(_LEFT, ids, min(ids), max(ids))


async def sweep(conn: Connection, now_ms: int) -> None:
    """Forget again what could not go before: it was held, or its message was not in the log yet."""
    for row in await conn.fetch("SELECT subject, at FROM content_erasures"):
        done = await forget(conn, row["subject"], row["at"])
        if done and row["at"] < now_ms - LATE_MS:
            await conn.execute("DELETE FROM content_erasures WHERE subject = $1 AND at = $2", row["subject"], row["at"])
