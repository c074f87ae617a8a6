"""The single sequencer: committed events become entries of the log, tiles and signed checkpoints.

    database commit (the appender's) -> tiles durable -> sign -> compare-and-set of what was signed last -> publish

A crash after any step leaves what the next one finds: tiles that nobody signed are written again with the same bytes;
a checkpoint that was swapped and not published is published at the next opening. So there are never two signed trees
of one size: the swap refuses whoever did not grow from the last signed checkpoint, and tiles never change.

Its memory is the tree's right edge, whatever the size. It runs beside the projection, under its lock. What passes (a
full disk, PostgreSQL away) is tried again each second, and events wait unsigned; what does not fit together is a
`TreeRefusedError` (`opening`), and `trusted` turns false, upon which the ledger process gives no sign of life.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from gateway import telemetry
from gateway.ledger.checkpoint import Checkpoint
from gateway.ledger.growing import Edge, Write, grow
from gateway.ledger.note import Signer, Verifier, sign
from gateway.ledger.opening import HEAD, QUERY_S, TreeRefusedError, Why, leaves, open_tree
from gateway.ledger.rows import AWAY, Connection
from gateway.ledger.signed import Signed
from gateway.ledger.tiles import UNFINISHED, TileConflictError, Tiles

T = TypeVar("T")

EVERY_S = 0.1
AGAIN_S = 1.0
MOST = 4_096
"""Entries of one checkpoint."""
CHECKPOINT, KEYS = "checkpoint", "keys"
RECORD = """
INSERT INTO ledger_checkpoint AS held (origin, size, root, note) VALUES ($1, $2, $3, $4)
ON CONFLICT (origin) DO UPDATE SET size = EXCLUDED.size, root = EXCLUDED.root, note = EXCLUDED.note,
    signed_at = clock_timestamp() WHERE held.size <= EXCLUDED.size
"""

_log = telemetry.logger("ledger")


class OvertakenError(Exception):
    """Another sequencer signed meanwhile; the log is opened again."""


class Log:
    """A log's folder and keys. `signers`: every current key, all of the same name, which is the log's origin."""

    def __init__(self, folder: Path, signers: Sequence[Signer], retired: Sequence[str] = ()) -> None:
        """`retired`: verifier keys that signed once; published, and good for opening. Raises ValueError."""
        names = {one.name for one in signers} | {vkey.partition("+")[0] for vkey in retired}
        if not signers or len(names) != 1:
            raise ValueError("a log has one key at least, and all of its keys have its name")
        self.folder, self.signers, self.origin = folder, tuple(signers), signers[0].name
        self.vkeys = tuple(dict.fromkeys([*(one.vkey() for one in signers), *retired]))
        self.verifiers = tuple(Verifier(vkey) for vkey in self.vkeys)
        self.tiles = Tiles(folder)
        self.signed = Signed(folder / "state" / "signed.sqlite3")

    def sign(self, edge: Edge) -> bytes:
        """The signed checkpoint of a tree."""
        return sign(Checkpoint(self.origin, edge.size, edge.root()).text(), self.signers)


class Sequencer:
    """One process's sequencer; `run` until cancelled."""

    def __init__(self, dsn: str, log: Log, also: Sequence[str] = ()) -> None:
        """`also`: further verifier keys to publish, such as that of the records."""
        self._dsn, self.log, self._also = dsn, log, also
        self._disk = ThreadPoolExecutor(1, "tiles")
        self._edge = Edge()
        self._last: bytes | None = None
        self.trusted = False
        """Whether the log was opened, and nothing since then has contradicted it."""

    @property
    def size(self) -> int:
        """Entries in the last checkpoint."""
        return self._edge.size

    async def run(self) -> None:
        """Sequence until cancelled."""
        while True:
            try:
                await self._open_and_sequence()
            except TreeRefusedError as refusal:
                self.trusted = False
                telemetry.TREE_REFUSED.set(1)
                _log.error("tree_refused", why=refusal.why.value, words=str(refusal))
            except (*AWAY, OvertakenError) as fault:
                _log.warning("sequencing_interrupted", error=type(fault).__name__)
            await asyncio.sleep(AGAIN_S)

    async def _open_and_sequence(self) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=QUERY_S)
        try:
            await self.open(connection)
            while True:
                if not await self.sequence(connection):
                    await asyncio.sleep(EVERY_S)
        finally:
            connection.terminate()

    async def open(self, connection: Connection) -> None:
        """Take up the log where it was signed last. Raises TreeRefusedError."""
        log = self.log
        await self._on_disk(log.tiles.sweep)
        tree = await open_tree(connection, log.tiles, log.signed, log.origin, log.verifiers)
        self._edge, self._last = tree
        await self._on_disk(self._publish_keys)
        if self._last is not None:
            await self._tell(connection)
        self.trusted = True
        telemetry.TREE_REFUSED.set(0)
        telemetry.TREE_SIZE.set(self.size)
        _log.info("log_opened", size=self.size)

    async def sequence(self, connection: Connection) -> bool:
        """One checkpoint over what was committed since the last; whether there was anything.

        Raises TreeRefusedError, OvertakenError, or what the database and the disk raise; the log may be opened again.
        """
        head: int = await connection.fetchval(HEAD, timeout=QUERY_S)
        if head < self.size:
            raise TreeRefusedError(Why.DATABASE_BEHIND)
        telemetry.TREE_UNSIGNED.set(head - self.size)
        if head == self.size and self._last is not None:
            return False
        began = time.perf_counter()
        entries = await leaves(connection, self.size, min(head, self.size + MOST))
        edge, writes = grow(self._edge, entries)
        await self._write(writes)
        note = self.log.sign(edge)
        if not await self._on_disk(self.log.signed.swap, self.log.origin, self._last, note):
            raise OvertakenError
        self._edge, self._last = edge, note
        await self._tell(connection)
        await self._on_disk(self.log.tiles.prune, [path for path, _ in writes])
        telemetry.TREE_SIZE.set(edge.size)
        telemetry.SEQUENCE_SECONDS.observe(time.perf_counter() - began)
        return True

    async def _write(self, writes: Sequence[Write]) -> None:
        try:
            await self._on_disk(self.log.tiles.write, writes)
        except TileConflictError:
            raise TreeRefusedError(Why.DATABASE_DIFFERS) from None

    async def _tell(self, connection: Connection) -> None:
        """Let the database remember the last checkpoint, then everybody see it."""
        note, edge = self._last or b"", self._edge
        await connection.execute(RECORD, self.log.origin, edge.size, edge.root(), note, timeout=QUERY_S)
        await self._on_disk(replace, self.log.folder / CHECKPOINT, note)

    def _publish_keys(self) -> None:
        text = "".join(f"{vkey}\n" for vkey in (*self.log.vkeys, *self._also))
        replace(self.log.folder / KEYS, text.encode())

    async def _on_disk(self, work: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work, *values)


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of another, whole and durable: a reader sees the old one or the new one."""
    aside = path.parent / UNFINISHED / secrets.token_hex(16)
    aside.parent.mkdir(parents=True, exist_ok=True)
    with aside.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
