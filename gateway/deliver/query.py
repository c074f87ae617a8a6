"""Asks carriers what became of messages whose end nobody knows, and says so on the topics that receipts take.

Owns nothing between two steps: what to ask about, and when, lies in `doubts` (records), leased while a carrier thinks.
Promises: what is learned is published before its row moves on, so a crash asks and says the same again, which settle
folds into nothing new; a message is never submitted again, whatever the answer; a carrier that fails is left alone for
longer each time, and its messages keep their place in the schedule (`carriers.query`).
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg

from gateway.carriers.carrier import Carrier, Known, NeverSeen, QueryFailed, Seen
from gateway.carriers.query import BELIEVE_AFTER_MS, NOT_FOUND, next_ask
from gateway.contract.decision import Status
from gateway.contract.wire import Receipt, Result
from gateway.deliver.means import wall_ms
from gateway.deliver.outbox import Outbox
from gateway.records import doubts
from gateway.records.connection import AWAY
from gateway.records.doubts import Doubt
from gateway.stream.codec import encode
from gateway.telemetry import QUERIES, logger

BATCH = 100
LEASE_MS = 60_000
"""Longer than a query may take; a row whose asker died is asked about again after it."""
EVERY_S = 0.2
"""Between two questions to one carrier: at most 500 messages a second and process."""
IDLE_S = 5.0
FAILED_S = (5.0, 300.0)
STEP_WITHIN_S = 30.0

_log = logger("deliver")


class Queries:
    """One loop a carrier that can be asked. `classes`: those that this process delivers."""

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        outbox: Outbox,
        carriers: Mapping[str, Carrier],
        classes: Sequence[str],
        *,
        idle_s: float = IDLE_S,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        self._pool, self._outbox, self._classes = pool, outbox, classes
        self._carriers = {name: carrier for name, carrier in carriers.items() if carrier.can_query}
        self._idle_s, self._now_ms = idle_s, now_ms

    async def run(self) -> None:
        """Ask for ever; outages are waited out."""
        async with asyncio.TaskGroup() as group:
            for name, carrier in self._carriers.items():
                group.create_task(self._repeat(name, carrier))
            if not self._carriers:
                await asyncio.Event().wait()

    async def _repeat(self, name: str, carrier: Carrier) -> None:
        failed_s = 0.0
        while True:
            try:
                async with asyncio.timeout(STEP_WITHIN_S):
                    asked = await self.step(name, carrier)
                failed_s, wait_s = 0.0, EVERY_S if asked else self._idle_s
            except QueryFailed as fault:
                failed_s = min(max(failed_s * 2, FAILED_S[0]), FAILED_S[1])
                wait_s = max(failed_s, fault.after_s or 0.0)
                QUERIES.add(1, name, "failed")
                _log.warning("query_failed", carrier=name, why=fault.why, again_s=wait_s)
            except AWAY as fault:
                wait_s = self._idle_s
                _log.warning("queries_wait", error=type(fault).__name__)
            await asyncio.sleep(wait_s)

    async def step(self, name: str, carrier: Carrier) -> int:
        """Ask about what is due, at most a batch; how many that were. Raises QueryFailed, or what PostgreSQL raises."""
        async with self._pool.acquire() as conn, conn.transaction():
            asked = await doubts.take(conn, name, self._classes, self._now_ms(), LEASE_MS, BATCH)
        if not asked:
            return 0
        known = await carrier.query([one.id for one in asked])
        began, now = time.monotonic(), self._now_ms()
        results, receipts, later, over = [], [], [], []
        for doubt, answer in zip(asked, known, strict=True):
            QUERIES.add(1, name, answer.answer)
            results += results_of(name, doubt, answer)
            receipts += receipts_of(name, doubt, answer, now)
            due = None if settled(doubt, answer, now) else next_ask(doubt.since, now)
            if due is None:
                over.append(doubt.id)
            else:
                later.append((doubt.id, due))
        await self._outbox.results(results)
        rows = [((receipt.ref or "").encode(), encode(receipt)) for receipt in receipts]
        await self._outbox.surely(self._outbox.topics.receipts, rows)
        async with self._pool.acquire() as conn, conn.transaction():
            await doubts.remove(conn, over)
            await doubts.ask_later(conn, later)
        _log.info("queried", carrier=name, messages=len(asked), learned=len(receipts), s=time.monotonic() - began)
        return len(asked)


def settled(doubt: Doubt, answer: Known, now_ms: int) -> bool:
    """Whether nothing is left to ask: the carrier has it, or has never had it and its word for that counts."""
    if isinstance(answer, NeverSeen):
        return answer.final and now_ms - doubt.since >= BELIEVE_AFTER_MS
    return isinstance(answer, Seen)


def results_of(carrier: str, doubt: Doubt, answer: Known) -> list[Result]:
    """That it was submitted after all, where the carrier gives its id: receipts to come may name nothing else."""
    if not isinstance(answer, Seen) or answer.carrier_id is None or answer.status is Status.REJECTED:
        return []
    return [
        Result(
            id=doubt.id,
            attempt=doubt.attempt,
            cls=doubt.cls,
            carrier=carrier,
            outcome="submitted",
            carrier_id=answer.carrier_id,
            parts=max(doubt.parts, 1),
            at=doubt.since,
            subject=doubt.subject,
        )
    ]


def receipts_of(carrier: str, doubt: Doubt, answer: Known, now_ms: int) -> list[Receipt]:
    """What the carrier said, as a receipt; nothing where it said nothing, or nothing new."""
    if isinstance(answer, Seen):
        return [
            Receipt(
                carrier=carrier,
                carrier_id=answer.carrier_id or "",
                ref=doubt.id,
                status=answer.status,
                cause=answer.cause,
                raw_status=answer.word,
                raw_code=answer.code,
                at=now_ms if answer.at_ms is None else answer.at_ms,
                received_at=now_ms,
            )
        ]
    if not isinstance(answer, NeverSeen):
        return []
    return [
        Receipt(
            carrier=carrier,
            carrier_id="",
            ref=doubt.id,
            status=Status.UNKNOWN,
            raw_status=NOT_FOUND,
            at=now_ms,
            received_at=now_ms,
            missing="never" if settled(doubt, answer, now_ms) else "unseen",
        )
    ]
