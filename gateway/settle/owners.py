"""Whose port a reply came to, and what the reply means by that owner's pack.

Pure. A port nobody owns is read by every pack: what refuses by any of them refuses, and nothing else means anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.rules.pack import Pack
from gateway.rules.replies import Meaning, Read, read

ENDS = (Meaning.REFUSAL, Meaning.KEEP)
"""Meanings that end something."""


class Registry(NamedTuple):
    """Who owns which port, and the words of each pack."""

    senders: Sequence[Sender]
    packs: Mapping[str, Pack]

    def owner(self, port: str) -> Sender | None:
        """The sender whose port it is; the most particular one where a carrier appended digits to it."""
        return next(iter(self.owners(port)), None)

    def owners(self, port: str) -> list[Sender]:
        """The same, and those that share the very port: none should, but whoever refuses there refuses them all."""
        named = {one.id: len(one.port_named(port) or "") for one in self.senders}
        longest = max(named.values(), default=0)
        return [one for one in self.senders if longest and named[one.id] == longest]

    def pack(self, owner: Sender) -> Pack | None:
        """The owner's pack, where this version knows it."""
        return self.packs.get(owner.pack)

    def read(self, reply: Reply) -> Read:
        """What a reply means to the port's owner.

        What the receiver took for a refusal, and blocked, is one: a block never ends without an event.
        """
        owner = self.owner(reply.port)
        pack = self.pack(owner) if owner is not None else None
        found = read(reply.text, pack) if pack is not None else by_any(reply.text, self.packs.values())
        if reply.blocked and found.meaning not in ENDS:
            return Read(Meaning.REFUSAL, inferred=True)
        return found


def by_any(text: str, packs: Iterable[Pack]) -> Read:
    """What a text ends by any of these packs, an exact word first; nothing else is certain enough."""
    found = [one for pack in packs if (one := read(text, pack)).meaning in ENDS]
    return min(found, key=lambda one: (one.meaning is not Meaning.REFUSAL, one.inferred), default=Read(Meaning.OTHER))
