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
from typing import Any, NamedTuple

from asyncpg import Pool

from gateway.contract.decision import Reason
from gateway.contract.health import Act, Signal
from gateway.contract.health import key_of as signal_key
from gateway.contract.ids import CONTENT
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.guard import Guard
from gateway.ledger.appender import Appender
from gateway.ledger.events import EventUnfitError
from gateway.records import inbound, settlement, signals
from gateway.records import registry as book
from gateway.records.connection import Connection
from gateway.records.inbound import Due, Sent
from gateway.rules import shape
from gateway.rules.pack import Pack
from gateway.rules.replies import Meaning, Read
from gateway.settle.answering import due_of
from gateway.settle.asked import Affirmed, grant_asked
from gateway.settle.confirming import Confirming
from gateway.settle.ending import Scope, event_of, name_of, scope_for
from gateway.settle.notices import Heard, Notices
from gateway.settle.owners import ENDS, Registry
from gateway.telemetry import REPLIES, SIGNALS, logger

log = logger("settle")
DEADLINE_S = 10.0
DUPLICATE = "duplicate"
MINUTE_MS = 60_000

Meant = Mapping[inbound.Key, tuple[str, str | None]]
"""What replies meant, and the scope each withdraws; what is not in it was not recognised."""


class Taken(NamedTuple):
    """A reply with everything that decides what follows from it."""

    reply: Reply
    read: Read
    owner: Sender | None
    pack: Pack | None
    sent: Sequence[Sent]
    """The latest messages to the person from that port, newest first."""

    @property
    def key(self) -> inbound.Key:
        """What tells it from others."""
        return key_of(self.reply)

    def scope(self) -> Scope:
        """What it withdraws, where it does."""
        last = self.sent[0] if self.sent else None
        return scope_for(self.reply, self.read.meaning, self.owner, self.pack, last)


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
    ) -> None:
        """`registry` answers none until the senders are known; nothing can be decided before. `clock`: Unix ms."""
        self._pool, self._guard, self._appender = pool, guard, appender
        self._registry, self._consumer, self._clock = registry, consumer, clock
        self._confirming, self._notices = Confirming(pool, appender), Notices(appender.keys)

    async def settle(self, replies: Sequence[Reply], moves: Mapping[settlement.Place, tuple[int, int]]) -> bool:
        """Append what ends or grants, lift provisional blocks, remember all, move the offsets.

        Says whether anything is to be answered. Repeatable at any point. Raises what the ledger, the guard or
        PostgreSQL raise, or LookupError before the senders are known.
        """
        registry = self._registry()
        if registry is None:
            raise LookupError("the senders are not known yet")
        async with asyncio.timeout(DEADLINE_S), self._pool.acquire() as conn:
            fresh, again = await _told_apart(conn, replies)
            taken = await self._take(conn, fresh, registry)
        ending = [(one, one.scope()) for one in taken if one.read.meaning in ENDS]
        async with asyncio.timeout(DEADLINE_S):
            answers = await self._confirmations(ending)
        await self._withdraw(ending)
        for reply in again:
            if reply.blocked:
                await self._guard.unblock(bytes.fromhex(reply.subject), reply.token)
        async with asyncio.timeout(DEADLINE_S):
            await self._confirming.cancel([(one.reply, scope.sender) for one, scope in ending])
            granted = await self._grant(taken, ending)
        answers += self._helps(taken)
        meant: Meant = {one.key: (one.read.meaning.value, scope.text()) for one, scope in ending}
        meant = {**meant, **{key_of(reply): (Meaning.AFFIRMATION.value, None) for reply in granted}}
        meant = {**meant, **{one.key: (Meaning.HELP.value, None) for one in taken if _asks_help(one)}}
        await self._keep(taken, meant, answers, moves)
        for one in taken:
            REPLIES.add(1, meant.get(one.key, (Meaning.OTHER.value,))[0])
        REPLIES.add(len(again), DUPLICATE)
        return bool(answers)

    async def _take(self, conn: Connection, replies: Sequence[Reply], registry: Registry) -> list[Taken]:
        owners = [registry.owner(reply.port) for reply in replies]
        asked = [
            (bytes.fromhex(reply.subject), reply.port if owner is None else owner.port_named(reply.port) or reply.port)
            for reply, owner in zip(replies, owners, strict=True)
        ]
        sent = await inbound.sent(conn, asked, self._clock())
        return [
            Taken(reply, registry.read(reply), owner, None if owner is None else registry.pack(owner), before)
            for reply, owner, before in zip(replies, owners, sent, strict=True)
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
            engaged = await signals.note(conn, [_engaged(one) for one in taken if one.sent and not _ends(one)])
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

    async def _confirmations(self, ending: Sequence[tuple[Taken, Scope]]) -> list[Due]:
        """The acknowledgements to owe: one for each scope that was not confirmed a while ago and still stands."""
        owed, said = list[Due](), set[tuple[str, str]]()
        for one, scope in ending:
            told = (one.reply.subject, scope.text())
            if one.owner is None or one.pack is None or told in said or await self._confirmed(one, scope):
                continue
            said.add(told)
            kind = "keep" if one.read.meaning is Meaning.KEEP else scope.kind()
            name = name_of(one.reply, scope.text())
            due = due_of(self._appender.keys, one.reply, kind, name, one.owner, one.pack, self._clock())
            owed += [] if due is None else [due]
        return owed

    async def _confirmed(self, one: Taken, scope: Scope) -> bool:
        """Whether the person was told so lately, and nothing has changed since.

        Two machines that answer each other end here. Our own event, appended before a crash, is no earlier opt-out.
        """
        if one.pack is None:
            return True
        subject, text = bytes.fromhex(one.reply.subject), scope.text()
        since = one.reply.received_at - shape.period_ms(one.pack.table.answers.life)
        async with self._pool.acquire() as conn:
            if not await inbound.confirmed(conn, subject, text, since):
                return False
        state = await self._appender.state(subject)
        stands = state is not None and any(each.reason == Reason.OPT_OUT for each in state.suppressions.get(text, ()))
        return stands and state is not None and state.opt_outs.get(text) != one.reply.received_at

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
            if one.owner is not None and one.pack is not None and _asks_help(one):
                name = name_of(one.reply, "help")
                due = due_of(self._appender.keys, one.reply, "help", name, one.owner, one.pack, self._clock())
                owed += [] if due is None else [due]
        return owed


def _ends(one: Taken) -> bool:
    return one.read.meaning in ENDS


def _engaged(one: Taken) -> Signal:
    """Somebody answered the message, and not to end it: once a message, however often they write."""
    message, at = one.sent[0], one.reply.received_at
    subject = bytes.fromhex(one.reply.subject)
    return Signal(
        Act.REPLY, signal_key("message", message.id), at // MINUTE_MS, at, message.origin, message.id, subject
    )


def _asks_help(one: Taken) -> bool:
    return one.read.meaning is Meaning.HELP and one.owner is not None


async def _told_apart(conn: Connection, replies: Sequence[Reply]) -> tuple[list[Reply], list[Reply]]:
    """Those that are new, and those known already or earlier in the batch."""
    known = await inbound.known(conn, {key_of(reply) for reply in replies})
    fresh, again = list[Reply](), list[Reply]()
    for reply in replies:
        key = key_of(reply)
        twice = key in known
        if not twice and reply.reply_id.startswith(CONTENT):
            twice = any(_same_content(reply, other) for other in fresh)
            twice = twice or await inbound.said(conn, key, reply.port, reply.at)
        (again if twice else fresh).append(reply)
        known.add(key)
    return fresh, again


def _same_content(one: Reply, other: Reply) -> bool:
    """Whether two replies without a carrier's id are one: their ids begin with the same digest."""
    same = key_of(one)[::2] == key_of(other)[::2] and one.port == other.port
    digest = one.reply_id.rpartition(":")[0]
    return same and other.reply_id.startswith(f"{digest}:") and abs(one.at - other.at) <= inbound.SAME_CONTENT_MS


def key_of(reply: Reply) -> inbound.Key:
    """What tells a reply from others."""
    return reply.carrier, reply.reply_id, bytes.fromhex(reply.subject)


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
