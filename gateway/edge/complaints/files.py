"""A file of complaints by HTTP: read piece by piece, answered with counts and the first rejected lines at its end.

What is answered quotes nothing of the file. A file that breaks off, or is refused half-way, has left what was taken in
so far; sent again, it completes itself.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import Request
from pydantic import BaseModel, StringConstraints

from gateway.contract.complaint import Matching, Source
from gateway.contract.message import Strict
from gateway.edge import acts
from gateway.edge.bodies import SLOW
from gateway.edge.callers import Caller
from gateway.edge.gate import Gate
from gateway.edge.problems import Refused, wrong
from gateway.intake.complaint_file import Counts, Importing
from gateway.intake.complaints import Means
from gateway.ledger.sealing import Contents
from gateway.rules.complaint_file import Columns, File, HeaderError, columns, mapping

PIECE = 64 * 1024


class FileGiven(Strict):
    """How a CSV file is read; JSON bodies need none of it."""

    mapping: Literal["12321", "carrier", "own"] | None = None
    """Whose files look like this; `own` where nothing is given."""
    columns: Annotated[str, StringConstraints(max_length=1000)] | None = None
    """`reporter:举报号码,at:举报时间,…`: instead of the mapping's own headers."""
    source: Source | None = None
    """Where the complaints come from; needed where there is no mapping."""
    encoding: Annotated[str, StringConstraints(max_length=20)] | None = None
    """`utf-8`, `utf-8-sig`, `gb18030`, `gbk`; else it is found out."""


class Rejected(BaseModel):
    """A line that is no complaint, and why."""

    line: int
    field: str | None = None
    message: str


class FileTaken(BaseModel):
    """What became of a file."""

    status: Literal["imported"] = "imported"
    lines: int
    recorded: int
    duplicates: int
    rejected: int
    matches: dict[Matching, int]
    """Of those recorded now, by whether their message is known."""
    rejects: list[Rejected]
    """The first rejected lines."""
    more_rejects: int
    """How many more there were."""

    @classmethod
    def of(cls, counts: Counts) -> "FileTaken":
        """As it was counted."""
        told = [Rejected(line=one.line, field=one.field, message=one.message) for one in counts.rejects]
        return cls(
            lines=counts.lines,
            recorded=counts.recorded,
            duplicates=counts.duplicates,
            rejected=counts.rejected,
            matches=counts.matches,
            rejects=told,
            more_rejects=counts.rejected - len(told),
        )


def means_of(gate: Gate) -> Means:
    """What a gate takes complaints with."""
    registry = gate.cfg.registry
    senders = () if registry is None else registry.senders
    zone = next(iter(gate.packs.values())).zone
    opened = Contents(gate.appender.keys).open
    return Means(gate.pool, gate.appender, senders, opened, zone, gate.answer_h)


def meant(given: FileGiven) -> Columns:
    """Which columns mean what. Raises HeaderError."""
    base = mapping(given.mapping) if given.mapping else None
    if given.columns is not None:
        return columns(given.columns, given.source, base)
    found = base or mapping("own")
    return found if given.source is None else found._replace(source=given.source)


async def taken_file(caller: Caller, request: Request, given: FileGiven) -> FileTaken:
    """Take in a file. `Refused` where it cannot be read as complaints at all."""
    means = means_of(caller.gate)
    try:
        file = File(meant(given), means.zone, acts.now_ms(), given.encoding)
        importing = Importing(means, file, caller.client.id, acts.now_ms)
        return FileTaken.of(await importing.run(_pieces(request)))
    except HeaderError as fault:
        raise wrong("file", str(fault)) from None


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body, in pieces of at most `PIECE`; each is worked on before the next is read."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Refused(SLOW)  # nobody is there to read it, and nothing is wrong with us
        body: bytes = message.get("body", b"")
        for first in range(0, len(body), PIECE):
            yield body[first : first + PIECE]
        if not message.get("more_body", False):
            return
