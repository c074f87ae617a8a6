"""Replies: a refusal becomes a withdrawal in the ledger, a Y to one's own opt-in a grant; the rest is only remembered.

Owns topic `replies`. Promises: an exact refusal word that a carrier's callback acknowledged is an event, once (the
event's id is made of the carrier's name and its id of the reply), and the provisional block set before that
acknowledgement is lifted only when the event holds. Waits for nothing of the messages' settlement: opt-outs have their
own reader, connection and offsets. A crash anywhere repeats the batch, and the ledger drops what it has.
An affirmative word grants only while an opt-in of that number with the port's owner waits (`confirming.py`), after the
batch's refusals, which end what waits: who refuses and then writes Y, or the other way round, has refused.

The text of a reply is personal. A refusal's is kept inside the event, encrypted under the person's key; any other goes
to the clients that follow the sender (`notices.py`), sealed until it is delivered or three days old. Of the reply
itself only what it meant is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from asyncpg import Pool

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Class
from gateway.contract.registry import Sender
from gateway.contract.webhook import RecipientKind
from gateway.contract.wire import Reply
from gateway.guard import Guard
from gateway.ledger.appender import Appender
from gateway.ledger.events import EventUnfitError, scope_of, withdrawal
from gateway.records import settlement
from gateway.rules.pack import Pack
from gateway.rules.replies import affirmation, refusal
from gateway.settle.confirming import Confirming
from gateway.settle.notices import Heard, Notices
from gateway.telemetry import REPLIES, logger

log = logger("settle")
REFUSAL, AFFIRMATION, OTHER = "refusal", "affirmation", "other"
KINDS: Mapping[str, RecipientKind] = {
    REFUSAL: "recipient.opted_out",
    AFFIRMATION: "recipient.renewed",
    OTHER: "recipient.reply",
}
"""What clients are told of each."""
QUOTED = 200
DEADLINE_S = 10.0

Meant = dict[tuple[str, str, str], tuple[str, str | None]]
"""What each reply meant, and the scope it withdraws, by carrier, id and subject."""


class Scope(NamedTuple):
    """What a refusal withdraws: everything of a class, a topic, or everything, of a sender or of everybody."""

    sender: str | None
    topics: tuple[str, ...] = ()
    cls: Class | None = None

    def text(self) -> str:
        """The suppression scope it comes to."""
        return scope_of(self.sender, self.cls, self.topics[0] if self.topics else None)


class Registry(NamedTuple):
    """Who owns which port, and the refusal words of each pack."""

    senders: Sequence[Sender]
    packs: Mapping[str, Pack]

    def owner(self, port: str) -> Sender | None:
        """The sender whose port it is; the most particular one where a carrier appended digits to it."""
        named = [one for one in self.senders if one.port_named(port) is not None]
        return max(named, key=lambda one: len(one.port_named(port) or ""), default=None)

    def refuses(self, reply: Reply) -> bool:
        """Whether it is an exact refusal: by the words of the port's owner, or anyone's when the port is nobody's.

        What the receiver took for one, and blocked, is one: a block never ends without an event.
        """
        owner = self.owner(reply.port)
        packs = [self.packs[owner.pack]] if owner is not None and owner.pack in self.packs else self.packs.values()
        return reply.blocked or any(refusal(reply.text, pack) for pack in packs)

    def asks(self, owner: Sender, purpose: str) -> bool:
        """Whether a purpose asks about consent: a refusal of the question is one of what was asked about."""
        known = self.packs[owner.pack].purposes.get(purpose) if owner.pack in self.packs else None
        return known is not None and known.cls is Class.CONSENT

    def affirmed(self, reply: Reply) -> Sender | None:
        """The port's owner, where the reply is an exact affirmative word of the owner's pack and no refusal."""
        owner = self.owner(reply.port)
        if owner is None or owner.pack not in self.packs or self.refuses(reply):
            return None
        return owner if affirmation(reply.text, self.packs[owner.pack]) else None


def scope_for(reply: Reply, owner: Sender | None, last: tuple[str, str] | None) -> Scope:
    """What a refusal withdraws. `last`: sender and purpose of the last message to the person from that port.

    A marketing port: marketing of its sender. A service port: that purpose, or all of the sender where none is known.
    A port nobody owns: marketing of everybody, for who was meant cannot be told.
    """
    if owner is None:
        return Scope(None, cls=Class.MARKETING)
    if owner.port_named(reply.port) != owner.service_port:
        return Scope(owner.id, cls=Class.MARKETING)
    return Scope(owner.id, (last[1],)) if last is not None and last[0] == owner.id else Scope(owner.id)


def event_of(reply: Reply, scope: Scope) -> Event:
    """The withdrawal to append. It holds from when we received it: a carrier's clock may be hours off.

    Person and scope are part of the event's id: a carrier that gives an id twice must not lose anyone's refusal.
    """
    who_and_what = f"{reply.reply_id}\0{reply.subject}\0{scope.text()}"
    return Event(
        event_id=f"reply:{reply.carrier}:{hashlib.sha256(who_and_what.encode()).hexdigest()[:32]}",
        kind=EventKind.WITHDRAWAL,
        number=reply.sender_number,
        subject=bytes.fromhex(reply.subject),
        occurred_at_ms=reply.received_at,
        data=withdrawal(
            scope.sender,
            scope.topics,
            scope.cls,
            why="reply",
            channel="sms",
            text=reply.text[:QUOTED],
            port=reply.port,
            carrier=reply.carrier,
            reply_id=reply.reply_id,
            written_at=reply.at,
        ),
    )


class Replies:
    """Settles batches of replies."""

    def __init__(
        self, pool: Pool[Any], guard: Guard, appender: Appender, registry: Callable[[], Registry | None], consumer: str
    ) -> None:
        """`registry` answers none until the senders are known; nothing can be decided before."""
        self._pool, self._guard, self._appender = pool, guard, appender
        self._registry, self._consumer = registry, consumer
        self._confirming, self._notices = Confirming(pool, appender), Notices(appender.keys)

    async def settle(self, replies: Sequence[Reply], moves: Mapping[settlement.Place, tuple[int, int]]) -> None:
        """Append what refuses, lift provisional blocks, remember all, move the offsets. Repeatable at any point.

        Raises what the ledger, the guard or PostgreSQL raise, or LookupError before the senders are known.
        """
        registry = self._registry()
        if registry is None:
            raise LookupError("the senders are not known yet")
        async with asyncio.timeout(DEADLINE_S):
            refused = [(reply, await self._scope(reply, registry)) for reply in replies if registry.refuses(reply)]
        await self._withdraw(refused)
        async with asyncio.timeout(DEADLINE_S):
            await self._confirming.cancel([(reply, scope.sender) for reply, scope in refused])
            asked = [(reply, owner) for reply in replies if (owner := registry.affirmed(reply)) is not None]
            granted = await self._confirming.grant([(reply, owner.id) for reply, owner in asked])
        meant: Meant = {_key(reply): (REFUSAL, scope.text()) for reply, scope in refused}
        meant |= {_key(reply): (AFFIRMATION, None) for reply in granted}
        heard = [one for reply in replies if (one := _heard(reply, registry.owner(reply.port), meant)) is not None]
        async with asyncio.timeout(DEADLINE_S), self._pool.acquire() as conn, conn.transaction():
            await settlement.move_offsets(conn, self._consumer, moves)
            await self._notices.replies(conn, heard)
            await settlement.keep_replies(conn, [_values(reply, meant) for reply in replies])
        REPLIES.add(len(refused), REFUSAL)
        REPLIES.add(len(granted), AFFIRMATION)
        REPLIES.add(len(replies) - len(refused) - len(granted), OTHER)

    async def _scope(self, reply: Reply, registry: Registry) -> Scope:
        owner, last = registry.owner(reply.port), None
        if owner is not None and owner.port_named(reply.port) == owner.service_port:
            async with self._pool.acquire() as conn:
                last = await settlement.last_purpose(conn, bytes.fromhex(reply.subject), owner.service_port)
            if last is not None and last[0] == owner.id and registry.asks(owner, last[1]):
                return Scope(owner.id, cls=Class.MARKETING)
        return scope_for(reply, owner, last)

    async def _withdraw(self, refused: Sequence[tuple[Reply, Scope]]) -> None:
        if not refused:
            return
        acts = [event_of(reply, scope) for reply, scope in refused]
        try:
            answers = await self._appender.append(acts)
        except EventUnfitError:  # one of them: a number that is not the subject's says nothing, the subject still does
            answers = await self._appender.append([act.model_copy(update={"number": None}) for act in acts])
        for (reply, _), act, answer in zip(refused, acts, answers, strict=True):
            if answer.refusal is not None:
                log.error("withdrawal_refused", code=answer.refusal.code.value)
            else:
                await self._guard.unblock(act.subject, reply.token)


def _key(reply: Reply) -> tuple[str, str, str]:
    return reply.carrier, reply.reply_id, reply.subject


def _heard(reply: Reply, owner: Sender | None, meant: Meant) -> Heard | None:
    """What those who follow the port's owner are told; nobody follows a port that is nobody's."""
    meaning, scope = meant.get(_key(reply), (OTHER, None))
    return None if owner is None else Heard(reply, owner.id, KINDS[meaning], scope)


def _values(reply: Reply, meant: Meant) -> tuple[Any, ...]:
    meaning, scope = meant.get(_key(reply), (OTHER, None))
    subject = bytes.fromhex(reply.subject)
    return reply.carrier, reply.reply_id, subject, reply.port, meaning, scope, reply.at, reply.received_at
