"""A reply with everything that decides what follows from it, and which replies of a batch are new.

Pure but for what is asked about in PostgreSQL; owns nothing. A reply is known by its carrier's id or, where there is
none, by its content within seconds. An id that its carrier gave to another reply before is not believed where this one
refuses: a refusal read twice is recorded once, one that is taken for another's copy is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract.ids import CONTENT
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.records import inbound
from gateway.records.connection import Connection
from gateway.records.inbound import Sent
from gateway.rules.pack import Pack
from gateway.rules.replies import Meaning, Read
from gateway.settle.ending import Scope, answered, scope_for
from gateway.settle.owners import ENDS

ENDED = frozenset(meaning.value for meaning in ENDS)


class Taken(NamedTuple):
    """A reply, how it was read, whose port it came to, and what was sent to the person from there."""

    reply: Reply
    read: Read
    owner: Sender | None
    pack: Pack | None
    sent: Sequence[Sent]
    """The latest messages to the person from that port, newest first."""
    others: Sequence[tuple[Sender, Pack | None]] = ()
    """Senders beside the owner that have the very port, where the registry was given such."""

    @property
    def key(self) -> inbound.Key:
        """What tells it from others."""
        return key_of(self.reply)

    @property
    def ends(self) -> bool:
        """Whether it ends anything."""
        return self.read.meaning in ENDS

    @property
    def depends(self) -> bool:
        """Whether what it does depends on what was sent to the person from a service port."""
        service = self.owner is not None and self.owner.port_named(self.reply.port) == self.owner.service_port
        return service and self.read.meaning in (Meaning.REFUSAL, Meaning.AFFIRMATION)

    @property
    def asks_help(self) -> bool:
        """Whether it is a call for help to somebody."""
        return self.read.meaning is Meaning.HELP and self.owner is not None

    def scope(self) -> Scope:
        """What it withdraws of the port's owner, where it ends anything."""
        return self._scope(self.owner, self.pack)

    def scopes(self) -> list[Scope]:
        """All that it withdraws."""
        return [self.scope(), *(self._scope(sender, pack) for sender, pack in self.others)]

    def _scope(self, sender: Sender | None, pack: Pack | None) -> Scope:
        last = None if sender is None else answered(self.sent, sender, pack, self.reply.received_at)
        return scope_for(self.reply, self.read.meaning, sender, pack, last)


def key_of(reply: Reply) -> inbound.Key:
    """What tells a reply from others."""
    return reply.carrier, reply.reply_id, bytes.fromhex(reply.subject)


async def told_apart(conn: Connection, replies: Sequence[Reply]) -> tuple[list[Reply], list[Reply]]:
    """Those that are new, and those known already or earlier in the batch."""
    ended = {key: meaning in ENDED for key, meaning in (await inbound.known(conn, {*map(key_of, replies)})).items()}
    fresh, again = list[Reply](), list[Reply]()
    for reply in replies:
        key = key_of(reply)
        twice = key in ended and (ended[key] or not reply.blocked)
        if not twice and reply.reply_id.startswith(CONTENT):
            twice = any(_same_content(reply, other) for other in fresh)
            twice = twice or await inbound.said(conn, key, reply.port, reply.at)
        (again if twice else fresh).append(reply)
        ended[key] = ended.get(key, False) or reply.blocked
    return fresh, again


def _same_content(one: Reply, other: Reply) -> bool:
    """Whether two replies without a carrier's id are one: their ids begin with the same digest."""
    same = key_of(one)[::2] == key_of(other)[::2] and one.port == other.port
    digest = one.reply_id.rpartition(":")[0]
    return same and other.reply_id.startswith(f"{digest}:") and abs(one.at - other.at) <= inbound.SAME_CONTENT_MS
