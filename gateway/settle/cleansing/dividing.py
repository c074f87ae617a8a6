"""The first two passes over a list: who is on it, and why each should be taken off.

**Gathering** walks the ids of messages from the oldest, a span at a time: as long a span as is read in about a second,
and none where the hours' buckets know of no message of the list. **Dividing** walks the people by their subjects, a
page at a time. Memory holds one page, however long the list; a crash repeats one step.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import Pool

from gateway.contract.registry import Sender
from gateway.ledger.many import Many
from gateway.records import cleansing_facts, cleansing_people
from gateway.records.cleansing import OUTCOMES
from gateway.records.cleansing_people import Work
from gateway.records.partitions import DAY_MS
from gateway.rules.cleansing import Category, category_of, mask_of, reasons, reasons_of
from gateway.rules.pack import Pack
from gateway.settle.cleansing.lists import facts_of, toward

PAGE = 1_000
"""People at once: what holds the process's loop for some tens of milliseconds."""
DIGEST_PAGE = 5_000
MINUTE_MS = 60_000
FIRST_SPAN_MS = 3_600_000
SPAN_S = 1.0

Counts = dict[str, dict[str, int]]


class Means(NamedTuple):
    """What the passes work with. `senders`: none while the registry has not been read."""

    pool: Pool[Any]
    many: Many
    senders: Callable[[], Mapping[str, Sender] | None]
    packs: Mapping[str, Pack]
    owner: UUID


class Spans:
    """How long a span of ids to read at once: as long as one takes about `SPAN_S`, a minute to a day."""

    def __init__(self) -> None:
        self.ms = FIRST_SPAN_MS

    def took(self, seconds: float) -> None:
        """Longer after a quick one, shorter after a slow one."""
        if seconds < SPAN_S / 2:
            self.ms = min(self.ms * 2, DAY_MS)
        elif seconds > SPAN_S * 2:
            self.ms = max(self.ms // 2, MINUTE_MS)

    def failed(self) -> None:
        """Much shorter after one that did not end in time."""
        self.ms = max(self.ms // 16, MINUTE_MS)


async def gather(means: Means, work: Work, spans: Spans) -> Work | None:
    """One span of ids more on the list; none when all are read."""
    end = work.until + 1
    if work.gathered_to >= end:
        return None
    began = time.monotonic()
    async with means.pool.acquire() as conn:
        found = await cleansing_facts.origins(conn, work.scope)
        low = work.gathered_to if work.gathered_to > work.since else work.since - cleansing_facts.BOUND_MS
        first = await cleansing_facts.following(conn, found, max(low, work.since), work.until)
        low = end if first is None else max(low, first)
        high = min(low + spans.ms, end)
        after = work._replace(gathered_to=max(high, work.since + 1))
        try:
            async with conn.transaction():
                new = await cleansing_facts.gather(conn, work, found, low, high) if low < high else 0
                await cleansing_people.move(conn, work, means.owner, after, people=new)
        except TimeoutError:
            spans.failed()
            raise
    spans.took(time.monotonic() - began)
    return after


async def divide(means: Means, work: Work) -> Work | None:
    """One page of people more divided; none when all are."""
    async with means.pool.acquire() as conn:
        rows = await cleansing_people.page(conn, work, work.place, PAGE)
        if not rows:
            return None
        found = await cleansing_facts.origins(conn, work.scope)
    senders = toward(found, means.senders() or {}, means.packs)
    facts = await facts_of(means.pool, means.many, rows, senders, work.until)
    divided = []
    for row, known in zip(rows, facts, strict=True):
        rule = senders[row.sender].rule
        why = reasons(known, rule, work.months or rule.engaged_months, work.until)
        divided.append((row, category_of(why).value, mask_of(why)))
    after = work._replace(place=rows[-1].place, done=work.done + len(rows))
    async with means.pool.acquire() as conn, conn.transaction():
        await cleansing_people.divided(conn, work, divided)
        await cleansing_people.move(conn, work, means.owner, after)
    return after


async def counted(means: Means, work: Work) -> tuple[Counts, bytes]:
    """How many are in which category, for which reasons and with which outcome, and a digest of who is where."""
    async with means.pool.acquire() as conn:
        found = await cleansing_people.counts(conn, work)
    categories, why, outcomes = Counter[int](), Counter[int](), Counter[int]()
    for category, mask, outcome, n in found:
        if category is not None:
            categories[category] += n
        for one in reasons_of(mask):
            why[one] += n
        if outcome is not None:
            outcomes[outcome] += n
    counts = {
        "categories": {Category(one).word: n for one, n in sorted(categories.items())},
        "reasons": {Category(one).word: n for one, n in sorted(why.items())},
        "outcomes": {OUTCOMES[one]: n for one, n in sorted(outcomes.items())},
    }
    return counts, await _digest(means, work)


async def _digest(means: Means, work: Work) -> bytes:
    """SHA-256 over `subject/sender/category/outcome` of everybody, by subject and sender: who was where."""
    digest, place = hashlib.sha256(), b""
    while True:
        async with means.pool.acquire() as conn:
            await cleansing_people.renew(conn, work, means.owner)
            rows = await cleansing_people.page(conn, work, place, DIGEST_PAGE)
        if not rows:
            return digest.digest()
        for row in rows:
            digest.update(f"{row.subject.hex()}/{row.sender}/{row.category or 0}/{row.outcome or 0}\n".encode())
        place = rows[-1].place
        await asyncio.sleep(0)
