"""Reading messages: one by its id, or the newest of a recipient or of a caller's own reference.

Owns no writes (`settlement` has them). A row that settle knows only from a result or a receipt, because its message has
not been read from Kafka yet, is answered with `client` none; the caller must not show it to any client.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from asyncpg import Pool, Record

from gateway.contract.decision import Basis, Cause, Class, Decision, Status
from gateway.records import timeline
from gateway.records.timeline import CAUSES, STATUSES, Entry

DEADLINE_S = 2.0
MAX_ROWS = 200


class Message(NamedTuple):
    """A message as it stands. Times are Unix milliseconds; the text and the number are not kept here."""

    id: str
    subject: bytes | None
    status: Status
    cause: Cause
    code: str | None
    client: str | None
    sender: str | None
    purpose: str | None
    cls: Class | None
    port: str | None
    campaign: str | None
    list_source: str | None
    client_ref: str | None
    decision: Decision | None
    carrier: str | None
    carrier_id: str | None
    attempt: int
    parts: int
    parts_delivered: int
    accepted_at: int | None
    settled_at: int | None
    """When we learned the present status."""
    timeline: list[Entry]

    def told(self) -> dict[str, Any]:
        """As evidence tells it: plain values, times in Unix milliseconds."""
        decision = self.decision
        steps = [
            entry._asdict() | {"status": entry.status.value, "cause": entry.cause.value} for entry in self.timeline
        ]
        return {
            "id": self.id,
            "status": self.status.value,
            "code": self.code,
            "sender": self.sender,
            "purpose": self.purpose,
            "class": None if self.cls is None else self.cls.value,
            "port": self.port,
            "campaign": self.campaign,
            "list_source": self.list_source,
            "carrier": self.carrier,
            "parts": self.parts,
            "accepted_at": self.accepted_at,
            "decision": None if decision is None else decision.model_dump(mode="json"),
            "timeline": steps,
        }

    @property
    def receipts(self) -> list[Entry]:
        """The carrier's delivery reports among the timeline: the entries with a raw status word."""
        return [entry for entry in self.timeline if entry.raw is not None]


SELECT = """
SELECT m.id, m.subject, m.accepted_at, m.settled_at, m.entry, m.status, m.cause, m.attempt, m.parts,
       m.parts_delivered, m.code, m.carrier, m.carrier_id, m.client_ref, m.timeline,
       o.client, o.sender, o.purpose, o.class, o.port, o.pack, o.basis, o.campaign, o.list_source
FROM messages m LEFT JOIN message_origins o ON o.id = m.origin
"""
_BY_ID = SELECT + "WHERE m.id = $1"
_PAGE = " AND m.id < $2 AND ($3::text IS NULL OR o.client = $3) ORDER BY m.id DESC LIMIT $4"
_BY_SUBJECT = SELECT + "WHERE m.subject = $1" + _PAGE
_BY_CLIENT_REF = SELECT + "WHERE m.client_ref = $1" + _PAGE
_BY_BOTH = SELECT + "WHERE m.subject = $1 AND m.client_ref = $5" + _PAGE
_NEAR = (
    SELECT
    + """WHERE m.subject = $1 AND m.accepted_at IS NOT NULL AND ($2::text IS NULL OR starts_with($2, o.port))
ORDER BY abs(m.accepted_at - $3) LIMIT 1"""
)
_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


class Messages:
    """The readers over one pool; every call ends within `deadline_s` or raises TimeoutError."""

    def __init__(self, pool: Pool[Any], deadline_s: float = DEADLINE_S) -> None:
        self._pool = pool
        self._deadline_s = deadline_s

    async def by_id(self, message_id: str) -> Message | None:
        """One message, or none when settle has not written it (yet). The id must be a UUID."""
        rows = await self._fetch(_BY_ID, message_id)
        return message_of(rows[0]) if rows else None

    async def near(self, subject: bytes, port: str | None, at_ms: int) -> Message | None:
        """The message to a recipient, from a port (or one that a carrier made of it), accepted nearest to a time."""
        rows = await self._fetch(_NEAR, subject, port, at_ms)
        return message_of(rows[0]) if rows else None

    async def search(
        self,
        *,
        subject: bytes | None = None,
        client_ref: str | None = None,
        client: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Message]:
        """The newest first, by subject, reference or both; only one client's when `client` is given.

        `before` is the last id of the page before.
        """
        page = (before or _LAST_ID, client, max(1, min(limit, MAX_ROWS)))
        if subject is not None and client_ref is not None:
            rows = await self._fetch(_BY_BOTH, subject, *page, client_ref)
        elif subject is not None:
            rows = await self._fetch(_BY_SUBJECT, subject, *page)
        elif client_ref is not None:
            rows = await self._fetch(_BY_CLIENT_REF, client_ref, *page)
        else:
            raise ValueError("search needs a subject or a client_ref")
        return [message_of(row) for row in rows]

    async def _fetch(self, query: str, *args: object) -> list[Record]:
        async with asyncio.timeout(self._deadline_s), self._pool.acquire() as conn:
            return await conn.fetch(query, *args)


def message_of(row: Record) -> Message:
    """The message of a row that `SELECT` selects."""
    known = row["client"] is not None
    return Message(
        id=str(row["id"]),
        subject=row["subject"],
        status=STATUSES[row["status"]],
        cause=CAUSES[row["cause"]],
        code=row["code"],
        client=row["client"],
        sender=row["sender"],
        purpose=row["purpose"],
        cls=Class(row["class"]) if known else None,
        port=row["port"],
        campaign=row["campaign"],
        list_source=row["list_source"],
        client_ref=row["client_ref"],
        decision=Decision(basis=Basis(row["basis"]), ledger_entry=row["entry"], pack=row["pack"]) if known else None,
        carrier=row["carrier"],
        carrier_id=row["carrier_id"],
        attempt=row["attempt"],
        parts=row["parts"],
        parts_delivered=row["parts_delivered"].bit_count(),
        accepted_at=row["accepted_at"],
        settled_at=row["settled_at"],
        timeline=timeline.decode(row["timeline"]),
    )
