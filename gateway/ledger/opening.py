"""Opening the log: nothing is signed before what was signed last is still true of the tiles and of the database.

The checkpoint in `signed` is held against everything that could have been lost, restored or changed beside it: the
database's own memory of it, the number of events, the tiles, and the last events. A backup that was restored and has
grown again differs in the last event that was signed, for its tag and commitment are random; so comparing the last tile
is enough to notice any restored backup, and `checking` compares the whole.

What does not fit is a `TreeRefusedError`: nothing is signed, and the ledger process gives no sign of life, since
opt-outs may be missing from the database. docs/runbook.md says what to do about each code.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import asyncpg

from gateway.ledger import leaf, rows
from gateway.ledger.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from gateway.ledger.growing import Edge, edge_of
from gateway.ledger.layout import HEIGHT, WIDTH, LayoutError
from gateway.ledger.note import NoteError, Verifier
from gateway.ledger.rows import Connection
from gateway.ledger.signed import Signed
from gateway.ledger.tiles import TileMissingError, Tiles

QUERY_S = 5.0
HEAD = "SELECT seq FROM ledger_head"
RECORDED = "SELECT size, root FROM ledger_checkpoint WHERE origin = $1"
LEAVES = """
SELECT seq, version, at, tag, commitment FROM consent_events WHERE seq > $1 AND seq <= $2 ORDER BY seq
"""


class Why(StrEnum):
    """Why a log is not opened."""

    MEMORY_LOST = "memory.lost"
    MEMORY_ROLLED_BACK = "memory.rolled_back"
    KEY_UNKNOWN = "key.unknown"
    DATABASE_BEHIND = "database.behind"
    DATABASE_DIFFERS = "database.differs"
    TILES_LOST = "tiles.lost"
    TILES_DIFFER = "tiles.differ"


WORDS = {
    Why.MEMORY_LOST: "the database knows a signed checkpoint, but the log's own memory of it is gone",
    Why.MEMORY_ROLLED_BACK: "the log's memory is older than, or other than, the checkpoint that the database knows",
    Why.KEY_UNKNOWN: "the last checkpoint is not signed by any of the configured keys",
    Why.DATABASE_BEHIND: "the database has fewer events than were signed: a backup was restored, or a failover",
    Why.DATABASE_DIFFERS: "events in the database are not those that were signed",
    Why.TILES_LOST: "tiles of the last checkpoint are missing",
    Why.TILES_DIFFER: "the tiles are not those of the last checkpoint",
}


class TreeRefusedError(Exception):
    """The log may not be signed further; `why` is the code, the text its words."""

    def __init__(self, why: Why) -> None:
        super().__init__(WORDS[why])
        self.why = why


class Tree(NamedTuple):
    """A log that may grow: its right edge, and the note that was signed last (none before the first)."""

    edge: Edge
    signed: bytes | None


async def open_tree(
    connection: Connection, tiles: Tiles, signed: Signed, origin: str, verifiers: Sequence[Verifier]
) -> Tree:
    """The log as it was signed last. Raises TreeRefusedError, or what the database and the disk raise."""
    recorded = await connection.fetchrow(RECORDED, origin, timeout=QUERY_S)
    note = signed.read(origin)  # after the record, which follows it: who signs meanwhile makes it no older than that
    if note is None:
        if recorded is not None:
            raise TreeRefusedError(Why.MEMORY_LOST)
        return Tree(Edge(), None)
    checkpoint = _signed(note, origin, verifiers)
    if recorded is not None and _newer(recorded, checkpoint):
        raise TreeRefusedError(Why.MEMORY_ROLLED_BACK)
    if await connection.fetchval(HEAD, timeout=QUERY_S) < checkpoint.size:
        raise TreeRefusedError(Why.DATABASE_BEHIND)
    edge = _edge(tiles, checkpoint)
    first = max(0, checkpoint.size - 1 >> HEIGHT) * WIDTH
    if checkpoint.size and await leaves(connection, first, checkpoint.size) != _last_bundle(tiles, checkpoint.size):
        raise TreeRefusedError(Why.DATABASE_DIFFERS)
    return Tree(edge, note)


async def leaves(connection: Connection, after: int, to: int) -> list[bytes]:
    """The log's entries of the events in (after, to]. Raises TreeRefusedError where one is missing."""
    found = await connection.fetch(LEAVES, after, to, timeout=QUERY_S)
    if len(found) != to - after:
        raise TreeRefusedError(Why.DATABASE_DIFFERS)
    return [encode(row) for row in found]


def encode(row: asyncpg.Record) -> bytes:
    """The entry of a row of `consent_events`."""
    return leaf.encode(leaf.Leaf(row["version"], rows.ms_of(row["at"]), row["tag"], row["commitment"]))


def _signed(note: bytes, origin: str, verifiers: Sequence[Verifier]) -> Checkpoint:
    try:
        return open_checkpoint(note, origin, verifiers)[0]
    except (NoteError, CheckpointError):
        raise TreeRefusedError(Why.KEY_UNKNOWN) from None


def _newer(recorded: asyncpg.Record, checkpoint: Checkpoint) -> bool:
    if recorded["size"] == checkpoint.size:
        return bool(recorded["root"] != checkpoint.root)
    return bool(recorded["size"] > checkpoint.size)


def _edge(tiles: Tiles, checkpoint: Checkpoint) -> Edge:
    try:
        edge = edge_of(checkpoint.size, tiles.read)
    except TileMissingError:
        raise TreeRefusedError(Why.TILES_LOST) from None
    except LayoutError:
        raise TreeRefusedError(Why.TILES_DIFFER) from None
    if edge.root() != checkpoint.root:
        raise TreeRefusedError(Why.TILES_DIFFER)
    return edge


def _last_bundle(tiles: Tiles, size: int) -> list[bytes]:
    try:
        return tiles.entries(size - 1 >> HEIGHT, size)
    except TileMissingError:
        raise TreeRefusedError(Why.TILES_LOST) from None
    except LayoutError:
        raise TreeRefusedError(Why.TILES_DIFFER) from None
