"""What settlement owes the cache and the ledger: refunds of window slots, and suppressions a carrier demands.

Owns the rows of `refunds_due` and `suppressions_due` after the flush that wrote them. Promises: each is done at least
once and removed only then; doing one again changes nothing (a record is refunded once by its flag, an event's id is
the message's). A crash or an outage leaves the rows, and they are done later; settlement does not wait for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asyncpg import Pool

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Reason
from gateway.guard import Guard, VoidAsk
from gateway.ledger.appender import Appender
from gateway.ledger.events import suppression
from gateway.records import settlement
from gateway.telemetry import REFUNDS

AT_ONCE = 500
DEADLINE_S = 10.0


class Debts:
    """Pays what is due."""

    def __init__(self, pool: Pool[Any], guard: Guard, appender: Appender) -> None:
        self._pool, self._guard, self._appender = pool, guard, appender

    async def pay(self) -> None:
        """Pay until nothing is due. Raises what the guard, the ledger or PostgreSQL raise; the rest stays due."""
        while await self._refund():
            pass
        while await self._suppress():
            pass

    async def _refund(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            async with self._pool.acquire() as conn:
                due = await settlement.refunds_due(conn, AT_ONCE)
            if not due:
                return False
            given = await self._guard.refund([VoidAsk(message_id, subject) for message_id, subject in due])
            async with self._pool.acquire() as conn:
                await settlement.paid(conn, "refunds_due", [message_id for message_id, _ in due])
        REFUNDS.add(sum(given))
        return len(due) == AT_ONCE

    async def _suppress(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            async with self._pool.acquire() as conn:
                due = await settlement.suppressions_due(conn, AT_ONCE)
            if not due:
                return False
            await self._appender.append(
                [
                    Event(
                        event_id=f"carrier:{message_id}",
                        kind=EventKind.SUPPRESSION,
                        number=None,
                        subject=subject,
                        occurred_at_ms=at,
                        data=suppression(scope, Reason.CARRIER, message=message_id),
                    )
                    for message_id, subject, scope, at in due
                ]
            )
            async with self._pool.acquire() as conn:
                await settlement.paid(conn, "suppressions_due", [one[0] for one in due])
        return len(due) == AT_ONCE
