"""How a breaker's scope is written, and whose it is: `<kind>:<name>`, of one sender's list `<kind>:<sender>/<name>`.

What a campaign or a list is called is its sender's affair, and two senders may call theirs alike. What opens by itself
therefore carries the sender (`of_sender`), so that nobody's complaints stop another's campaign, and nobody's deliveries
hide another's complaints. By hand `campaign:double11` still stops it whoever sends it (`whoever`).

A sender's name holds no slash, so the first slash ends it. A campaign may be called `acme/double11` all the same: what
stops acme's `double11` stops that one too, whoever's it is. Nothing that happens to it stops acme's.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

SHARED: Final = ("campaign", "list_source")
"""Kinds whose names are each sender's own."""


class Part(NamedTuple):
    """What a scope covers: everything of that name, or what of it one sender sends."""

    kind: str
    name: str
    sender: str | None = None


def of_sender(kind: str, sender: str, name: str) -> str:
    """The scope of one sender's campaign or list."""
    return f"{kind}:{sender}/{name}"


def part(scope: str, senders: Collection[str] | None = None) -> Part:
    """A scope's part of the traffic. `senders`: those there are; none: a name with a slash begins with a sender."""
    kind, _, name = scope.partition(":")
    sender, slash, rest = name.partition("/")
    if kind in SHARED and slash and rest and (senders is None or sender in senders):
        return Part(kind, rest, sender)
    return Part(kind, name)


def whoever(scope: str) -> str | None:
    """The scope that stops the same campaign or list whoever sends it; none where this one carries no sender."""
    found = part(scope)
    return None if found.sender is None else f"{found.kind}:{found.name}"
