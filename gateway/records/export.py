"""The log as a regulator asks for it: message by message, with what it said and the permission it relied on.

Reads only, in pages of ids: no transaction stays open, for one that reads `messages` for hours would keep a new day's
partition from being made, and settlement from going on. Each page is what stands when it is read; what is accepted
after the export began is not asked for. Memory is one page's. What the ledger says is handed in (`ledger/citing.py`),
and so is what opens contents. Whoever exports records it in the ledger first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any, TypeAlias
from uuid import UUID

from asyncpg import Pool, Record

from gateway.contract.decision import Cause, Status
from gateway.contract.export import Asked, Cites, Line, Person
from gateway.contract.ids import id_time_ms
from gateway.records.connection import Connection
from gateway.records.contents import Content, Open, contents
from gateway.records.messages import SELECT, Message, message_of
from gateway.records.partitions import lowest_id
from gateway.rules.standing import standing

Cite: TypeAlias = Callable[[Collection[int], Collection[bytes]], Awaitable[Cites]]
"""What the ledger says about entries and subjects."""
Watch: TypeAlias = Callable[[int, int], None]
"""Told now and then how much time of the log (ms) has been read, of how much."""

PAGE = 1_000
SPAN_MS = 3_600_000
"""Of how much time one query reads the log at most, however few of its rows are asked for."""
_ORIGINS = """
SELECT id FROM message_origins WHERE ($1::text IS NULL OR sender = $1) AND ($2::text IS NULL OR campaign = $2)
"""
_ALL = SELECT + "WHERE m.id > $1 AND m.id < $2 AND ($4::int[] IS NULL OR m.origin = ANY($4)) ORDER BY m.id LIMIT $3"
_OF_PERSON = (
    SELECT
    + """WHERE m.subject = $5 AND m.id > $1 AND m.id < $2 AND ($4::int[] IS NULL OR m.origin = ANY($4))
ORDER BY m.id LIMIT $3"""
)
_NEXT = "SELECT id FROM messages WHERE id > $1 ORDER BY id LIMIT 1"
# A page begins in an index where the last one ended; no estimate may talk the planner into sorting the hour instead.
_SESSION = """
SET enable_sort = off; SET enable_bitmapscan = off; SET enable_seqscan = off; SET enable_hashjoin = off;
SET enable_mergejoin = off; SET jit = off;
"""
_HANDED = frozenset({Status.SENT, Status.DELIVERED, Status.UNDELIVERED})


async def lines(
    pool: Pool[Any], opened: Open, cite: Cite, asked: Asked, now_ms: int, watch: Watch | None = None
) -> AsyncIterator[Line]:
    """Every message asked for, in the order of acceptance."""
    async with pool.acquire() as conn:
        await conn.execute(_SESSION)
        async for page in _pages(conn, asked, now_ms, watch):
            told = await contents(conn, opened, [one.id for one in page])
            entries = {one.decision.ledger_entry for one in page if one.decision and one.decision.ledger_entry}
            cites = await cite(entries, {one.subject for one in page if one.subject})
            for one in page:
                yield _line(one, told.get(one.id), cites, now_ms)


async def _pages(conn: Connection, asked: Asked, now_ms: int, watch: Watch | None) -> AsyncIterator[list[Message]]:
    """The log page by page; a query covers `SPAN_MS`, or of one person everything."""
    until_ms = min(now_ms + 1, asked.until_ms or now_ms + 1)
    until = lowest_id(until_ms)
    origins = None
    if asked.sender is not None or asked.campaign is not None:
        origins = [row["id"] for row in await conn.fetch(_ORIGINS, asked.sender, asked.campaign)]
    after, first_ms = lowest_id(asked.from_ms or 0), asked.from_ms or 0
    while after < until:
        end = until
        if asked.subject is None:
            following = await _following(conn, after)
            if following is None or following >= until:
                break
            first_ms = first_ms or id_time_ms(following)
            end = min(until, lowest_id(id_time_ms(following) + SPAN_MS))
        page = await _page(conn, (after, end), origins, asked.subject)
        after = str(page[-1]["id"]) if len(page) == PAGE else end
        if page:
            yield [message_of(row) for row in page]
        if watch is not None:
            watch(id_time_ms(after) - first_ms, until_ms - first_ms)


async def _following(conn: Connection, after: str) -> str | None:
    """The first message after an id: the log may have long gaps."""
    found: UUID | None = await conn.fetchval(_NEXT, after)
    return None if found is None else str(found)


async def _page(
    conn: Connection, ids: tuple[str, str], origins: list[int] | None, subject: bytes | None
) -> list[Record]:
    if subject is None:
        return await conn.fetch(_ALL, *ids, PAGE, origins)
    return await conn.fetch(_OF_PERSON, *ids, PAGE, origins, subject)


def _line(one: Message, told: Content | None, cites: Cites, now_ms: int) -> Line:
    decision = one.decision
    entry = None if decision is None else decision.ledger_entry
    permission = None if entry is None else cites.permissions.get(entry)
    person = Person() if one.subject is None else cites.people.get(one.subject, Person())
    cls = None if one.cls is None else one.cls.value
    sent_at, receipt_at = _times(one)
    return Line(
        message_id=one.id,
        sender=one.sender,
        port=one.port,
        recipient=told.number if told is not None else person.number,
        subject=None if one.subject is None else one.subject.hex(),
        text=None if told is None else told.text,
        text_kept=told is not None,
        accepted_at=one.accepted_at,
        sent_at=sent_at,
        receipt_at=receipt_at,
        status=one.status.value,
        cause=None if one.cause is Cause.NONE else one.cause.value,
        code=one.code,
        carrier=one.carrier,
        carrier_id=one.carrier_id,
        parts=one.parts,
        purpose=one.purpose,
        message_class=cls,
        campaign=one.campaign,
        list_source=one.list_source,
        client=one.client,
        client_ref=one.client_ref,
        basis=None if decision is None else decision.basis.value,
        pack=None if decision is None else decision.pack,
        ledger_entry=entry,
        permission=None if permission is None else permission.kind,
        permitted_at=None if permission is None else permission.at,
        permission_recorded_at=None if permission is None else permission.recorded_at,
        evidence_id=None if permission is None else permission.evidence_id,
        channel=None if permission is None else permission.channel,
        subscription=standing(person, one.sender, one.purpose, cls, now_ms).value,
    )


def _times(one: Message) -> tuple[int | None, int | None]:
    """When a carrier first had it, and when the last of its receipts says that it ended."""
    handed = [entry.at for entry in one.timeline if entry.status in _HANDED]
    receipts = [entry.at for entry in one.receipts]
    return min(handed, default=None), max(receipts, default=None)
