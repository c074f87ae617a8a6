"""What the cache holds of persons, as it is: for an audit. Nothing here decides, and nothing waits for a sign of life.

Every call raises GuardUnavailable. Reading changes nothing; `mend` is the one write, by compare-and-set, and does no
harm when it is begun again.
"""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from gateway.contract.ids import lane_of
from gateway.guard import keys
from gateway.guard.link import Argument
from gateway.guard.scripts import script
from gateway.guard.server import Server
from gateway.guard.slices import sliced

READ = 512
"""Persons in one MGET, and about as many keys looked at in one SCAN: a fifth of a millisecond of the server."""
PATTERN = b"p{??}:*"
SUBJECT_AT = 6


class Wrong(NamedTuple):
    """A person to put right: what was found, none where nothing was, and what is right, none for nothing at all."""

    subject: bytes
    found: bytes | None
    right: bytes | None


class Inspection:
    """Reads and mends what one server, or every primary of a cluster, holds of persons."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def states(self, subjects: Sequence[bytes]) -> list[bytes | None]:
        """The state (`person.py`) held of each, in order."""

        async def call(part: Sequence[bytes]) -> list[bytes | None]:
            found: list[bytes | None] = await self._server.command("MGET", *map(_name, part))
            return found

        return await sliced(subjects, lane_of, call, most=READ, mixes_lanes=self._server.mixes_lanes)

    async def subjects(self) -> AsyncIterator[list[bytes]]:
        """Everybody who is there from the beginning to the end of this, in parts; some more than once.

        A slot that moves to another primary meanwhile may be missed.
        """
        async for names in self._server.scan(PATTERN, READ):
            subjects = [name[SUBJECT_AT:] for name in names]
            yield [subject for subject, name in zip(subjects, names, strict=True) if subject and _name(subject) == name]

    async def mend(self, persons: Sequence[Wrong]) -> list[bool]:
        """Replace what was found, or remove it; of each whether it still was what was found.

        Of a person of whom nothing was found nothing is written here: that is `Guard.apply_encoded`.
        """

        async def call(part: Sequence[Wrong]) -> list[bool]:
            args: list[Argument] = []
            for one in part:
                args += (one.found or b"", one.right or b"")
            names = [_name(one.subject) for one in part]
            return [done == 1 for done in await self._server.run_replicated(script("mend"), names, args)]

        return await sliced(persons, lambda one: lane_of(one.subject), call, mixes_lanes=self._server.mixes_lanes)


def _name(subject: bytes) -> bytes:
    return keys.PERSON[subject[0]] + subject
