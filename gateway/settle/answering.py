"""What is answered to a reply: the one acknowledgement of an opt-out, and the answer to HELP.

Owns the rows of `answers_due` once the batch that wrote them is settled. An answer is sent as any message is, by the
built-in client through `Intake`, under an idempotency key made of its id: a crash after sending and before the row goes
sends the same message id again, which the claim drops. So an event is acknowledged once, however often its reply is
delivered or this process dies. What cannot be sent for now (a part away, a breaker open) waits for as long as the pack
says; what is refused for good (a complaint stands, the window of HELP is used up) is dropped. Opt-outs wait for none of
this: they are recorded before an answer is owed. Number and text are sealed while they wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from asyncpg import Pool

from gateway.contract.codes import Code
from gateway.contract.message import PersonRequest, SendRequest
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.intake import Answer, Intake
from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.records import inbound
from gateway.records.inbound import Due
from gateway.records.registry import BUILT_IN
from gateway.rules import answers, numbers, shape
from gateway.rules.answers import Kind
from gateway.rules.pack import Pack
from gateway.telemetry import ANSWERS, logger

log = logger("settle")
AT_ONCE = 200
DEADLINE_S = 10.0
LATER = frozenset(
    {Code.UNAVAILABLE, Code.CACHE_COLD, Code.BREAKER_OPEN, Code.CLIENT_QUOTA, Code.INTERNAL, Code.QUIET_HOURS}
)
"""Refusals that say nothing about the person."""


def due_of(keys: Keys, reply: Reply, kind: Kind, name: str, owner: Sender, pack: Pack, now_ms: int) -> Due | None:
    """An answer to owe, sealed; none to what is no number. What it says is the same whenever the reply is read."""
    if numbers.parse(reply.sender_number) is None:
        return None
    table = pack.table.answers
    text = answers.answer(kind, owner, answers.language_of(reply.text, pack), pack)
    held = {"to": reply.sender_number, "text": text, "at": reply.received_at}
    sealed = keys.seal_pending(orjson.dumps(held), name.encode())
    purpose = table.help if kind == "help" else table.opt_out
    return Due(name, bytes.fromhex(reply.subject), owner.id, purpose, sealed, now_ms)


class Answering:
    """Sends what is owed. `clock` gives Unix milliseconds."""

    def __init__(self, pool: Pool[Any], intake: Intake, keys: Keys, clock: Callable[[], int]) -> None:
        self._pool, self._intake, self._keys, self._clock = pool, intake, keys, clock

    async def pay(self) -> None:
        """Try every answer that is owed, once. Raises what PostgreSQL raises; the rest stays owed."""
        after = (0, "")
        while True:
            async with asyncio.timeout(DEADLINE_S), self._pool.acquire() as conn:
                owed = await inbound.due(conn, AT_ONCE, after)
            if not owed:
                return
            after = (owed[-1].at, owed[-1].id)
            gone = await self._send(owed)
            async with asyncio.timeout(DEADLINE_S), self._pool.acquire() as conn:
                await inbound.done(conn, gone)

    async def _send(self, owed: Sequence[Due]) -> list[str]:
        """Send these; the ids of those that are over."""
        timely = [one for one in owed if self._clock() - one.at <= self._life_ms(one.sender)]
        requests = {one.id: request for one in timely if (request := self._request(one)) is not None}
        asked = [one for one in owed if one.id in requests]
        given = await self._intake.send(BUILT_IN, [requests[one.id] for one in asked])
        over = [one.id for one in owed if one.id not in requests]
        for one, answer in zip(asked, given, strict=True):
            if isinstance(answer, Answer):
                ANSWERS.add(1, one.purpose, "sent")
                over.append(one.id)
            elif answer.code not in LATER:
                ANSWERS.add(1, one.purpose, answer.code.value)
                log.info("answer_not_sent", purpose=one.purpose, code=answer.code.value)
                over.append(one.id)
        return over

    def _life_ms(self, sender: str) -> int:
        known = self._intake.cfg.sender(sender)
        packs = self._intake.packs
        pack = packs[known.pack] if known is not None and known.pack in packs else next(iter(packs.values()))
        return shape.period_ms(pack.table.answers.life)

    def _request(self, one: Due) -> SendRequest | None:
        try:
            held = orjson.loads(self._keys.open_pending(one.sealed, one.id.encode()))
        except KeyMismatchError:
            log.exception("answer_unreadable", purpose=one.purpose)
            return None
        return SendRequest(
            to=held["to"],
            sender=one.sender,
            purpose=one.purpose,
            text=held["text"],
            request=PersonRequest(ref=one.id, occurred_at=datetime.fromtimestamp(held["at"] / 1000, UTC)),
            idempotency_key=one.id,
        )
