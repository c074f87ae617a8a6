"""Replies: what refuses becomes a withdrawal in the ledger, a solicited yes a grant; both, and HELP, are answered once.

Owns topic `replies`. Promises: what a carrier's callback took for a refusal and acknowledged is an event, once (the
event's id is made of the carrier's name and its id of the reply), and the provisional block set before that
acknowledgement is lifted only when the event holds. Waits for nothing of the messages' settlement: opt-outs have their
own reader, connection and offsets. A crash anywhere repeats the batch, and the ledger drops what it has.
A reply known already, by its carrier's id or, where there is none, by its content within seconds, changes nothing.
An affirmative word grants only where an opt-in of that number with the port's owner waits (`confirming`) or its
question is open (`asked`), after the batch's refusals, which end both: who refuses and then writes Y, or the other way
round, has refused. Answers are owed in the transaction that moves the offsets (`answering`).

The text of a reply is personal. That of a refusal or a yes is kept inside the event, encrypted under the person's key;
any other goes to the clients that follow the sender (`notices`), sealed until it is delivered or three days old. Of the
reply itself only what it meant is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from asyncpg import Pool

from gateway.contract.health import Act, Signal
from gateway.contract.health import key_of as signal_key
from gateway.contract.wire import Reply
from gateway.guard import Guard
from gateway.ledger.appender import Appender
from gateway.ledger.events import EventUnfitError
from gateway.records import inbound, settlement, signals
from gateway.records import registry as book
from gateway.records.connection import Connection
from gateway.records.inbound import Due
from gateway.rules import numbers
from gateway.rules.replies import Meaning
from gateway.settle.abreast import Abreast
from gateway.settle.answering import due_of
from gateway.settle.asked import Affirmed, grant_asked
from gateway.settle.confirming import Confirming
from gateway.settle.ending import Scope, event_of, name_of
from gateway.settle.notices import Heard, Notices
from gateway.settle.owed import Owed
from gateway.settle.owners import ENDS, Registry
from gateway.settle.taken import Taken, key_of, told_apart
from gateway.telemetry import REPLIES, SIGNALS, logger

log = logger("settle")
DEADLINE_S = 10.0
DUPLICATE = "duplicate"
MINUTE_MS = 60_000

Meant = Mapping[inbound.Key, tuple[str, str | None]]
"""What replies meant, and the scope each withdraws; what is not in it was not recognised."""


class Replies:
    """Settles batches of replies."""

    def __init__(
        self,
        pool: Pool[Any],
        guard: Guard,
        appender: Appender,
        registry: Callable[[], Registry | None],
        consumer: str,
        clock: Callable[[], int],
        abreast: Abreast,
    ) -> None:
        """`registry` answers none until the senders are known; nothing can be decided before. `clock`: Unix ms."""
        self._pool, self._guard, self._appender, self._abreast = pool, guard, appender, abreast
        self._registry, self._consumer, self._clock = registry, consumer, clock
        self._confirming, self._notices = Confirming(pool, appender), Notices(appender.keys)
        self._owed = Owed(pool, appender, clock)

    async def settle(self, replies: Sequence[Reply], moves: Mapping[settlement.Place, tuple[int, int]]) -> bool:
        """Append what ends or grants, lift provisional blocks, remember all, move the offsets.

        Says whether anything is to be answered. Repeatable at any point. Raises what the ledger, the guard or
        PostgreSQL raise, or LookupError before the senders, or the messages that are answered, are known.
        """
        registry = self._registry()
        if registry is None:
            raise LookupError("the senders are not known yet")
        async with asyncio.timeout(DEADLINE_S), self._pool.acquire() as conn:
            fresh, again = await told_apart(conn, replies)
            taken = await self._take(conn, fresh, registry)
        leaving = [one for one in taken if one.ends]
        ending = [(one, scope) for one in leaving for scope in one.scopes()]
        async with asyncio.timeout(DEADLINE_S):
            answers = await self._owed.acknowledgements(leaving)
        await self._withdraw(ending)
        for reply in again:
            if reply.blocked:
                await self._guard.unblock(bytes.fromhex(reply.subject), reply.token)
        async with asyncio.timeout(DEADLINE_S):
            await self._confirming.cancel([(one.reply, scope.sender) for one, scope in ending])
            granted = await self._grant(taken, ending)
        if nobody := sum(numbers.parse(one.reply.sender_number) is None for one in leaving):
            log.error("refusal_of_nobody", n=nobody)
        answers += self._helps(taken)
        meant: Meant = {one.key: (one.read.meaning.value, one.scope().text()) for one in leaving}
        meant = {**meant, **{key_of(reply): (Meaning.AFFIRMATION.value, None) for reply in granted}}
        meant = {**meant, **{one.key: (Meaning.HELP.value, None) for one in taken if one.asks_help}}
        await self._keep(taken, meant, answers, moves)
        for one in taken:
            REPLIES.add(1, meant.get(one.key, (Meaning.OTHER.value,))[0])
        REPLIES.add(len(again), DUPLICATE)
        return bool(answers)

    async def _take(self, conn: Connection, replies: Sequence[Reply], registry: Registry) -> list[Taken]:
        owners = [[(one, registry.pack(one)) for one in registry.owners(reply.port)] for reply in replies]
        asked = [
            (bytes.fromhex(reply.subject), named[0][0].port_named(reply.port) or reply.port if named else reply.port)
            for reply, named in zip(replies, owners, strict=True)
        ]
        taken = []
        for reply, named in zip(replies, owners, strict=True):
            owner, pack = named[0] if named else (None, None)
            taken.append(Taken(reply, registry.read(reply), owner, pack, (), named[1:]))
        depending = [one.reply.received_at for one in taken if one.depends]
        known = not depending or await self._abreast.of(conn, max(depending))
        sent = await inbound.sent(conn, asked, self._clock())
        return [
            one._replace(sent=before if known or not one.depends else ())
            for one, before in zip(taken, sent, strict=True)
        ]

    async def _keep(
        self,
        taken: Sequence[Taken],
        meant: Meant,
        answers: Sequence[Due],
        moves: Mapping[settlement.Place, tuple[int, int]],
    ) -> None:
        """One transaction: offsets, what replies meant, what is owed and told, which ports lead back, who engaged."""
        async with asyncio.timeout(DEADLINE_S), self._pool.acquire() as conn, conn.transaction():
            await settlement.move_offsets(conn, self._consumer, moves)
            await self._notices.replies(conn, [heard for one in taken if (heard := _heard(one, meant)) is not None])
            await inbound.keep(conn, [_values(one.reply, *meant.get(one.key, (Meaning.OTHER, None))) for one in taken])
            await inbound.owe(conn, answers)
            seen = {(one.owner.id, one.owner.port_named(one.reply.port)) for one in taken if one.owner is not None}
            now = datetime.fromtimestamp(self._clock() / 1000, UTC)
            for sender, port in sorted((sender, port) for sender, port in seen if port is not None):
                await book.renew(conn, sender, port, now)
            engaged = await signals.note(conn, [_engaged(one) for one in taken if one.sent and not one.ends])
        SIGNALS.add(len(engaged), "reply")

    # --- endings ---------------------------------------------------------------------------------------------------

    async def _withdraw(self, ending: Sequence[tuple[Taken, Scope]]) -> None:
        if not ending:
            return
        acts = [event_of(one.reply, one.read, scope) for one, scope in ending]
        try:
            answers = await self._appender.append(acts)
        except EventUnfitError:  # one of them: a number that is not the subject's says nothing, the subject still does
            answers = await self._appender.append([act.model_copy(update={"number": None}) for act in acts])
        for (one, _), act, answer in zip(ending, acts, answers, strict=True):
            if answer.refusal is not None:
                log.error("withdrawal_refused", code=answer.refusal.code.value)
            else:
                await self._guard.unblock(act.subject, one.reply.token)

    # --- grants and answers ----------------------------------------------------------------------------------------

    async def _grant(self, taken: Sequence[Taken], ending: Sequence[tuple[Taken, Scope]]) -> list[Reply]:
        affirmed: list[Affirmed] = [
            (one.reply, one.owner, one.pack, one.sent)
            for one in taken
            if one.read.meaning is Meaning.AFFIRMATION and one.owner is not None and one.pack is not None
        ]
        granted = await self._confirming.grant([(reply, owner.id) for reply, owner, _, _ in affirmed])
        rest = [one for one in affirmed if one[0] not in granted]
        ended = {(one.reply.subject, scope.sender) for one, scope in ending}
        return granted + await grant_asked(self._pool, self._appender, rest, ended)

    def _helps(self, taken: Sequence[Taken]) -> list[Due]:
        owed = []
        for one in taken:
            if one.owner is not None and one.pack is not None and one.asks_help:
                name = name_of(one.reply, "help")
                due = due_of(self._appender.keys, one.reply, "help", name, one.owner, one.pack, self._clock())
                owed += [] if due is None else [due]
        return owed


def _engaged(one: Taken) -> Signal:
    """Somebody answered the message, and not to end it: once a message, however often they write."""
    message, at = one.sent[0], one.reply.received_at
    subject = bytes.fromhex(one.reply.subject)
    return Signal(
        Act.REPLY, signal_key("message", message.id), at // MINUTE_MS, at, message.origin, message.id, subject
    )


def _values(reply: Reply, meaning: str, scope: str | None) -> tuple[Any, ...]:
    return *key_of(reply), reply.port, meaning, scope, reply.at, reply.received_at


def _heard(one: Taken, meant: Meant) -> Heard | None:
    """What clients that follow the sender are told of a reply; none where the port is nobody's."""
    if one.owner is None:
        return None
    meaning, scope = meant.get(one.key, (Meaning.OTHER.value, None))
    if Meaning(meaning) in ENDS:
        return Heard(one.reply, one.owner.id, "recipient.opted_out", scope)
    renewed = meaning == Meaning.AFFIRMATION.value
    return Heard(one.reply, one.owner.id, "recipient.renewed" if renewed else "recipient.reply")
