"""Legal holds: what may not be dropped, whatever its age, until a named person releases it.

Owns `legal_holds`. A hold names a sender, a campaign, a person or a time, or several at once; what it leaves open it
holds whole. It keeps rows of `messages` and `message_contents` from retention (`partitions`) and from erasure
(`contents`). A message whose sender is not known (yet) counts as held by every hold that its time falls under: what is
dropped is gone, what is kept too long goes at the next look. Whoever adds or releases one writes the ledger's event
first or last as `assemble/holding.py` says.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from gateway.contract.ids import id_time_ms
from gateway.records.connection import Connection

_OF = """
h.released_at IS NULL
AND (h.from_id IS NULL OR {row}.id >= h.from_id) AND (h.until_id IS NULL OR {row}.id < h.until_id)
AND (h.subject IS NULL OR m.subject IS NULL OR h.subject = m.subject)
AND (o.id IS NULL OR ((h.sender IS NULL OR h.sender = o.sender) AND (h.campaign IS NULL OR h.campaign = o.campaign)))
"""
HELD = {
    "messages": "EXISTS (SELECT FROM legal_holds h LEFT JOIN message_origins o ON o.id = m.origin WHERE "
    + _OF.format(row="m")
    + ")",
    "message_contents": "EXISTS (SELECT FROM legal_holds h LEFT JOIN messages m ON m.id = c.id "
    "LEFT JOIN message_origins o ON o.id = m.origin WHERE " + _OF.format(row="c") + ")",
}
"""Whether a row is held, by its table."""
ALIAS = {"messages": "m", "message_contents": "c"}
"""What the row is called in `HELD`."""
_PERSON = f"""
SELECT EXISTS (SELECT FROM legal_holds WHERE released_at IS NULL AND subject = $1)
    OR EXISTS (SELECT FROM messages m WHERE m.subject = $1 AND {HELD["messages"]})
"""  # noqa: S608 - a constant
_COLUMNS = """
id, sender, campaign, subject, from_id, until_id, added_by, reason, added_at, released_by, released_reason, released_at
"""
_ADD = """
INSERT INTO legal_holds (sender, campaign, subject, from_id, until_id, added_by, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
"""
_RELEASE = """
UPDATE legal_holds SET released_by = $2, released_reason = $3, released_at = clock_timestamp()
WHERE id = $1 AND released_at IS NULL RETURNING id
"""
_THESE = """
SELECT h.*, ARRAY(
    SELECT o.id FROM message_origins o
    WHERE (h.sender IS NULL OR h.sender = o.sender) AND (h.campaign IS NULL OR h.campaign = o.campaign)
) AS origins FROM legal_holds h WHERE h.id = ANY($1::bigint[])
"""
_TOUCHING = """
SELECT id FROM legal_holds WHERE released_at IS NULL
AND (from_id IS NULL OR from_id < $2) AND (until_id IS NULL OR until_id > $1) ORDER BY id
"""


class Scope(NamedTuple):
    """What is held: everything that all given ones apply to. Ids are the first of a time (`partitions.lowest_id`)."""

    sender: str | None = None
    campaign: str | None = None
    subject: bytes | None = None
    from_id: str | None = None
    until_id: str | None = None
    """The first id that is not held any more."""

    def told(self) -> dict[str, str | int]:
        """As the ledger's event tells it; times in Unix milliseconds."""
        told: dict[str, str | int | None] = {
            "sender": self.sender,
            "campaign": self.campaign,
            "subject": None if self.subject is None else self.subject.hex(),
            "from": None if self.from_id is None else id_time_ms(self.from_id),
            "until": None if self.until_id is None else id_time_ms(self.until_id),
        }
        return {name: value for name, value in told.items() if value is not None}


class Hold(NamedTuple):
    """A hold, standing while `released_at` is none."""

    id: int
    scope: Scope
    added_by: str
    reason: str
    added_at: datetime
    released_by: str | None
    released_reason: str | None
    released_at: datetime | None


async def add(conn: Connection, scope: Scope, by: str, reason: str) -> int:
    """Hold from now on; the hold's number."""
    return int(await conn.fetchval(_ADD, *scope, by, reason))


async def release(conn: Connection, hold: int, by: str, reason: str) -> bool:
    """End a hold; False where there is none standing of this number. What is too old goes at the next look."""
    return await conn.fetchval(_RELEASE, hold, by, reason) is not None


async def listed(conn: Connection, *, standing: bool = True) -> list[Hold]:
    """The holds, oldest first; released ones too unless only `standing` ones are wanted."""
    where = "WHERE released_at IS NULL" if standing else ""
    return [_hold(row) for row in await conn.fetch(f"SELECT {_COLUMNS} FROM legal_holds {where} ORDER BY id")]  # noqa: S608 - constants


async def touching(conn: Connection, low_id: str, high_id: str) -> list[int]:
    """The standing holds that ids from `low_id` up to `high_id` may fall under."""
    return [row["id"] for row in await conn.fetch(_TOUCHING, low_id, high_id)]


async def condition(conn: Connection, holding: Collection[int], row: str) -> str:
    """SQL that is true of what these holds cover, for going through a whole day: `HELD` looks rows up one by one.

    `row`: the alias whose `id` counts; `m` is the message, all null where the log does not have it. What is put into
    the text are ids, numbers and hex digits of the database's own.
    """
    covered = []
    for one in await conn.fetch(_THESE, list(holding)):
        parts = [f"{row}.id {sign} '{one[end]}'" for end, sign in (("from_id", ">="), ("until_id", "<")) if one[end]]
        if one["subject"] is not None:
            parts.append(f"(m.subject IS NULL OR m.subject = '\\x{one['subject'].hex()}')")
        if one["sender"] is not None or one["campaign"] is not None:
            parts.append(f"(m.origin IS NULL OR m.origin = ANY('{{{','.join(map(str, one['origins']))}}}'::int[]))")
        covered.append(" AND ".join(parts) or "true")
    return " OR ".join(f"({one})" for one in covered) or "false"


async def of_person(conn: Connection, subject: bytes) -> bool:
    """Whether a hold names this person, or covers a message to them: what proves its permission is held too."""
    return bool(await conn.fetchval(_PERSON, subject))


def _hold(row: Record) -> Hold:
    ends: list[UUID | None] = [row["from_id"], row["until_id"]]
    first, until = (None if end is None else str(end) for end in ends)
    return Hold(
        row["id"],
        Scope(row["sender"], row["campaign"], row["subject"], first, until),
        row["added_by"],
        row["reason"],
        row["added_at"],
        row["released_by"],
        row["released_reason"],
        row["released_at"],
    )
