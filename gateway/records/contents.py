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

from gateway.records.connection import Connection

Seal: TypeAlias = Callable[[bytes, str, str], bytes]
"""A row's sealed value, of a message id's 16 bytes, the number and the text."""
Open: TypeAlias = Callable[[bytes, bytes], "tuple[str, str] | None"]
"""Number and text, of a message id's 16 bytes and the sealed value; none when it does not open."""

_BY_ID = "SELECT id, sealed FROM message_contents WHERE id = ANY($1::uuid[]) AND id BETWEEN $2 AND $3"

_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS staged_contents (id uuid NOT NULL, sealed bytea NOT NULL) ON COMMIT DELETE ROWS
"""
_UNSTAGE = "INSERT INTO message_contents (id, sealed) SELECT id, sealed FROM staged_contents ON CONFLICT DO NOTHING"


class Content(NamedTuple):
    """The number (E.164) that a message went to, and its text as it was sent."""

    number: str
    text: str


async def contents(conn: Connection | Pool[Any], opened: Open, ids: Collection[str]) -> dict[str, Content]:
    """What is kept of these messages, by id; one call for many, at most some thousands.

    Left out: not archived yet (normally a second after acceptance), older than its time, of an erased person, or
    damaged. A caller that shows it to anybody records the look first.
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
    await conn.copy_records_to_table("staged_contents", columns=("id", "sealed"), records=rows)
    tag = await conn.execute(_UNSTAGE)
    return int(tag.rsplit(" ", 1)[1])
