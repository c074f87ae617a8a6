"""What a reply that refuses ends, and the event that says so.

Pure. The scope follows the port the person wrote to and, on a service port, the message they answer: a marketing port
ends its sender's marketing; a service port what the answered message's purpose says in the pack (its own purpose, the
sender's marketing, or everything), or everything of the sender where no message is known; a port nobody owns marketing
of everybody, for who was meant cannot be told. `A` ends the sender's marketing wherever it is written.

Answered is the latest message before the reply that a refusal can stop. What came after the reply was not meant by it,
however late the reply is settled; and a code comes as it is asked for, whatever was refused: whoever refuses after one
means what else they are sent.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Class, Reason
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.ledger.events import scope_of, withdrawal
from gateway.records.inbound import Sent
from gateway.rules.answers import Kind
from gateway.rules.pack import Pack, Purpose
from gateway.rules.replies import Meaning, Read

QUOTED = 200
SKEW_MS = 5_000
"""How far the clocks of two edges may be apart."""


class Scope(NamedTuple):
    """What a refusal withdraws: everything of a class, a topic, or everything, of a sender or of everybody."""

    sender: str | None
    topics: tuple[str, ...] = ()
    cls: Class | None = None

    def text(self) -> str:
        """The suppression scope it comes to."""
        return scope_of(self.sender, self.cls, self.topics[0] if self.topics else None)

    def kind(self) -> Kind:
        """How it is confirmed."""
        return "purpose" if self.topics else "marketing" if self.cls is not None else "sender"


def answered(sent: Sequence[Sent], owner: Sender, pack: Pack | None, at_ms: int) -> Sent | None:
    """The message of the owner's that a refusal received at a time answers; `sent`: the port's, newest first."""
    for one in sent:
        purpose = pack.purposes.get(one.purpose) if pack is not None else None
        told = one.sender == owner.id and one.accepted_at <= at_ms + SKEW_MS
        if told and not (purpose is not None and _unstoppable(purpose)):
            return one
    return None


def _unstoppable(purpose: Purpose) -> bool:
    """Whether ending the purpose itself would end nothing."""
    return purpose.refused == "purpose" and bool(purpose.ignored_reasons & 1 << Reason.OPT_OUT)


def scope_for(reply: Reply, meaning: Meaning, owner: Sender | None, pack: Pack | None, last: Sent | None) -> Scope:
    """What it withdraws. `last`: the message that it answers."""
    if owner is None or meaning is Meaning.KEEP:
        return Scope(None if owner is None else owner.id, cls=Class.MARKETING)
    if owner.port_named(reply.port) != owner.service_port:
        return Scope(owner.id, cls=Class.MARKETING)
    if last is None or last.sender != owner.id:
        return Scope(owner.id)
    purpose = pack.purposes.get(last.purpose) if pack is not None else None
    if purpose is None or purpose.refused == "purpose":
        return Scope(owner.id, (last.purpose,))
    return Scope(owner.id, cls=Class.MARKETING) if purpose.refused == "marketing" else Scope(owner.id)


def name_of(reply: Reply, what: str) -> str:
    """The id of what follows from a reply; the same again is the same.

    Person and effect are part of it: a carrier that gives an id twice must not lose anyone's refusal.
    """
    told = f"{reply.reply_id}\0{reply.subject}\0{what}"
    return f"reply:{reply.carrier}:{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def told_by(reply: Reply) -> dict[str, object]:
    """What an event keeps of the reply itself."""
    return {
        "text": reply.text[:QUOTED],
        "port": reply.port,
        "carrier": reply.carrier,
        "reply_id": reply.reply_id,
        "written_at": reply.at,
    }


def event_of(reply: Reply, read: Read, scope: Scope) -> Event:
    """The withdrawal to append. It holds from when we received it: a carrier's clock may be hours off."""
    more: dict[str, object] = {"why": "reply", "channel": "sms", **told_by(reply)}
    if read.inferred:
        more["inferred"] = True
    if read.meaning is Meaning.KEEP:
        more["keeps"] = [Class.TRANSACTIONAL.value]
    return Event(
        event_id=name_of(reply, scope.text()),
        kind=EventKind.WITHDRAWAL,
        number=reply.sender_number,
        subject=bytes.fromhex(reply.subject),
        occurred_at_ms=reply.received_at,
        data=withdrawal(scope.sender, scope.topics, scope.cls, **more),
    )
