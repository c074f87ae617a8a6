"""Makes a log's folder again from the database, when tiles or the log's own memory were lost: `assent ledger recover`.

The tiles are a function of the events, so they come out as they were or not at all: at the size of the last checkpoint
that anybody remembers, the root has to be that checkpoint's. Only then does the log remember it, and may sign again. A
database that was restored from a backup cannot come to that root; then this log has ended, and another one, with
another key and name, begins over what is there.

A crash leaves tiles that are right and a memory that is not there yet: run it again.
"""

import asyncio
from collections.abc import Callable

from gateway.ledger.checkpoint import Checkpoint, open_checkpoint
from gateway.ledger.growing import Edge, grow
from gateway.ledger.opening import HEAD, QUERY_S, TreeRefusedError, Why, leaves
from gateway.ledger.rows import Connection
from gateway.ledger.sequencer import CHECKPOINT, Log, replace
from gateway.ledger.tiles import TileConflictError

PAGE = 4_096
NOTE = "SELECT note FROM ledger_checkpoint WHERE origin = $1"

Progress = Callable[[int, int], None]
"""Entries done, of how many."""


class NothingSignedError(Exception):
    """Nobody remembers a signed checkpoint: there is nothing to hold the tiles against, and nothing to recover."""


async def regrow(connection: Connection, log: Log, progress: Progress, kept: bytes | None = None) -> Checkpoint:
    """Write every tile again and let the log remember its last checkpoint, which is returned.

    `kept`: a signed checkpoint from elsewhere, a backup or a witness. Raises TreeRefusedError where the events do not
    come to the newest one, NothingSignedError where there is none, or NoteError or CheckpointError for one that is not
    this log's.
    """
    memory = await asyncio.to_thread(log.signed.read, log.origin)
    notes = [one for one in (memory, kept, await connection.fetchval(NOTE, log.origin, timeout=QUERY_S)) if one]
    opened = [(open_checkpoint(one, log.origin, log.verifiers)[0], one) for one in notes]
    if not opened:
        raise NothingSignedError
    wanted, note = max(opened, key=lambda pair: pair[0].size)
    if await connection.fetchval(HEAD, timeout=QUERY_S) < wanted.size:
        raise TreeRefusedError(Why.DATABASE_BEHIND)
    edge = Edge()
    while edge.size < wanted.size:
        entries = await leaves(connection, edge.size, min(edge.size + PAGE, wanted.size))
        edge, writes = grow(edge, entries)
        full = [one for one in writes if edge.size == wanted.size or ".p/" not in one[0]]
        try:
            await asyncio.to_thread(log.tiles.write, full)
        except TileConflictError:
            raise TreeRefusedError(Why.TILES_DIFFER) from None
        progress(edge.size, wanted.size)
    if edge.root() != wanted.root:
        raise TreeRefusedError(Why.DATABASE_DIFFERS)
    if memory != note and not await asyncio.to_thread(log.signed.swap, log.origin, memory, note):
        raise TreeRefusedError(Why.MEMORY_ROLLED_BACK)
    await asyncio.to_thread(replace, log.folder / CHECKPOINT, note)
    return wanted
