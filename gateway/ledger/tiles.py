"""The folder of tiles: durable, write-once files below `tile/`, and the hashes in them for proofs.

A file appears whole or not at all: it is written beside the tiles (`unfinished/`), synced, and linked to its place,
which fails where something is already. What is there with the same bytes is left alone; with other bytes nothing is
touched and `TileConflictError` is raised: the tree was grown from another history, and nothing may be signed. When
`write` returns, every file and every folder entry is on disk, what an earlier crash had left unsynced included.

A crash leaves files in `unfinished/`, which nobody reads and `sweep` removes, and perhaps some of a growth's tiles,
which the next growth from the last checkpoint writes again as they are.

Served is only what exists. A partial tile exists for every size that was grown to, until its tile is full; then `prune`
removes it, or a log that grows an entry at a time would keep 255 copies of everything. A width that no checkpoint ever
had is 404, as is a partial tile asked for by guessing; tlog-tiles obliges clients to ask for what a verified checkpoint
requires, and to fall back to the full tile.
"""

import os
import secrets
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from gateway.ledger.growing import Write
from gateway.ledger.layout import HEIGHT, WIDTH, LayoutError, Tile, entries_of, levels_of, parse_path, width_of
from gateway.ledger.merkle import HASH_BYTES, Node, Read

KEPT = 256
"""Tiles whose nodes a reader keeps: about 30 KiB each with Python's own share, so 8 MiB."""
UNFINISHED = "unfinished"


class TileConflictError(Exception):
    """A tile of this path exists with other bytes."""


class TileMissingError(Exception):
    """There is no such tile; the text is its path."""


class Tiles:
    """A folder of tiles. One process writes; any number read."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._levels = lru_cache(KEPT)(self._load)

    def __repr__(self) -> str:
        return f"Tiles({str(self._root)!r})"

    def read(self, path: str) -> bytes:
        """A tile's content. Raise LayoutError for a path that is none, TileMissingError where there is none."""
        tile = parse_path(path)
        try:
            content = (self._root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise TileMissingError(path) from None
        if tile.level is not None and len(content) != tile.width * HASH_BYTES:
            raise LayoutError(f"{path} has {len(content)} bytes, not {tile.width * HASH_BYTES}")
        return content

    def write(self, writes: Sequence[Write]) -> None:
        """Make these tiles durable. Raise TileConflictError, with nothing overwritten, where one differs.

        Nothing is undone by an exception: what was written stays, and is right.
        """
        folders: set[Path] = set()
        for path, content in writes:
            parse_path(path)
            place = self._root / path
            if not self._holds(place, content):
                place.parent.mkdir(parents=True, exist_ok=True)
                self._place(place, content)
            folders.update(self._above(place.parent))
        for folder in sorted(folders, reverse=True):
            _sync(folder)

    def prune(self, paths: Sequence[str]) -> None:
        """Remove the partial forms of those of these tiles that are full; once a checkpoint over them was signed.

        Not durable: what a crash leaves is merely superfluous.
        """
        for path in paths:
            if parse_path(path).width == WIDTH:
                shutil.rmtree(self._root / f"{path}.p", ignore_errors=True)

    def sweep(self) -> int:
        """Remove what crashes left in `unfinished/`; for the one writer, before it writes. The number of files."""
        left = list((self._root / UNFINISHED).glob("*"))
        for file in left:
            file.unlink(missing_ok=True)
        return len(left)

    def reader(self, size: int) -> Read:
        """The nodes of the tree of `size`, which the tiles were grown to (at some time: later growth does not matter).

        It raises TileMissingError or LayoutError, and never gives a hash that is not in a tile. Proofs for smaller
        trees can be made with it too.
        """

        def read(nodes: Sequence[Node]) -> list[bytes]:
            return [self._node(level, index, size) for level, index in nodes]

        return read

    def entries(self, index: int, size: int) -> list[bytes]:
        """The entries of a bundle as it is in a tree of `size`: numbers 256 * index and on. Raises as `reader` does."""
        width = width_of(0, index, size)
        tile = Tile(None, index, width)
        try:
            content = self.read(tile.path)
        except TileMissingError:
            if width == WIDTH:
                raise
            content = self.read(Tile(None, index).path)
        entries = entries_of(content)[:width]
        if len(entries) != width:
            raise LayoutError(f"{tile.path} has {len(entries)} entries")
        return entries

    def _node(self, level: int, index: int, size: int) -> bytes:
        if (index + 1) << level > size:
            raise LayoutError(f"node ({level}, {index}) is not complete in a tree of {size}")
        row, bit = divmod(level, HEIGHT)
        tile, at = index >> HEIGHT - bit, index & (WIDTH >> bit) - 1
        return self._nodes(row, tile, size)[bit][at]

    def _nodes(self, level: int, index: int, size: int) -> list[list[bytes]]:
        """The nodes of a tile as it is in a tree of `size`; of the full tile where the partial one is gone."""
        width = width_of(level, index, size)
        try:
            return self._levels(Tile(level, index, width))
        except TileMissingError:
            if width == WIDTH:
                raise
        return self._levels(Tile(level, index))

    def _load(self, tile: Tile) -> list[list[bytes]]:
        return levels_of(self.read(tile.path))

    @staticmethod
    def _holds(place: Path, content: bytes) -> bool:
        try:
            there = place.read_bytes()
        except FileNotFoundError:
            return False
        if there != content:
            raise TileConflictError(f"{place.name} in {place.parent} has other bytes")
        return True

    def _place(self, place: Path, content: bytes) -> None:
        aside = self._root / UNFINISHED / secrets.token_hex(16)
        aside.parent.mkdir(exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(aside, place)
        except FileExistsError:
            self._holds(place, content)
        finally:
            aside.unlink(missing_ok=True)

    def _above(self, folder: Path) -> list[Path]:
        """The folder and those above it, up to the one that has the root: a crash may have made all and synced none."""
        return [folder, *folder.parents[: len(folder.relative_to(self._root).parts) + 1]]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
