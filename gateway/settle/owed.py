"""Which acknowledgements a batch of refusals owes: one for each opt-out, and none for one said again lately.

Owns nothing: what it finds owed is written with the batch (`records.inbound.owe`) and sent by `answering`. Asked before
the events are appended, and again after a crash, when some of them may stand already: an event of our own, appended
before the crash, is no earlier opt-out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from asyncpg import Pool

from gateway.contract.consent import EventKind
from gateway.contract.decision import Reason
from gateway.ledger.appender import Appender
from gateway.records import inbound
from gateway.records.inbound import Due
from gateway.rules import shape
from gateway.rules.replies import Meaning
from gateway.settle.answering import due_of
from gateway.settle.ending import name_of
from gateway.settle.taken import Taken

LIFTS = frozenset({EventKind.GRANT.value, EventKind.UNSUPPRESSION.value})


class Owed:
    """Asks what was confirmed before. `clock` gives Unix milliseconds."""

    def __init__(self, pool: Pool[Any], appender: Appender, clock: Callable[[], int]) -> None:
        self._pool, self._appender, self._clock = pool, appender, clock

    async def acknowledgements(self, ending: Sequence[Taken]) -> list[Due]:
        """One for each scope that was not confirmed a while ago and still stands. Raises what PostgreSQL raises."""
        owed, said = list[Due](), set[tuple[str, str]]()
        for one, last in zip(ending, await self._confirmed(ending), strict=True):
            scope = one.scope()
            told = (one.reply.subject, scope.text())
            if one.owner is None or one.pack is None or told in said:
                continue
            if last is not None and await self._stood(one, scope.text(), last):
                continue
            said.add(told)
            kind = "keep" if one.read.meaning is Meaning.KEEP else scope.kind()
            name = name_of(one.reply, scope.text())
            due = due_of(self._appender.keys, one.reply, kind, name, one.owner, one.pack, self._clock())
            owed += [] if due is None else [due]
        return owed

    async def _confirmed(self, ending: Sequence[Taken]) -> list[int | None]:
        """When each of them was last told so, within the time after which it is told again.

        Two machines that answer each other end here.
        """
        asked = [
            (
                bytes.fromhex(one.reply.subject),
                one.scope().text(),
                one.reply.received_at - (shape.period_ms(one.pack.table.answers.life) if one.pack is not None else 0),
            )
            for one in ending
        ]
        async with self._pool.acquire() as conn:
            return await inbound.confirmed(conn, asked)

    async def _stood(self, one: Taken, scope: str, since: int) -> bool:
        """Whether the opt-out that was confirmed at a time stood until this reply came."""
        subject = bytes.fromhex(one.reply.subject)
        state = await self._appender.state(subject)
        if state is None or not any(each.reason == Reason.OPT_OUT for each in state.suppressions.get(scope, ())):
            return False
        if state.opt_outs.get(scope) != one.reply.received_at:
            return True
        lifted = (
            row["data"].get("lifts") is True and row["occurred_at"] > since
            for row in await self._appender.history(subject)
            if row["kind"] in LIFTS and "data" in row
        )
        return not any(lifted)
