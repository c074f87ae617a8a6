"""How a tree grows: from its right edge and new entries to the tiles to write and the next edge. Pure.

An `Edge` is everything of a tree that growing needs: the partial rows of hashes, one per level, and the partial bundle
of entries; at most 8 rows of 8 KiB and 255 entries, whatever the size. `grow` gives the tiles of the tree that it
leads to: each tile that became full, and the partial right edge at every level, which is what a checkpoint of that size
obliges a log to serve. The tiles of the edges of sizes in between, which no checkpoint has, are never made.

Growing the same tree by the same entries gives the same bytes, however the entries are cut into growths: after a crash
the sequencer begins again at the edge of its last checkpoint, and what was written already is written again unchanged.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.ledger.layout import HEIGHT, WIDTH, LayoutError, Tile, bundle, entries_of, levels_of, width_of
from gateway.ledger.merkle import HASH_BYTES, LARGEST, Frontier, leaf_hash

ROW_BYTES = WIDTH * HASH_BYTES

Write = tuple[str, bytes]
"""A path below the log's prefix, and the content that it has for ever."""


class Edge(NamedTuple):
    """The right edge of a tree of `size` entries. `rows[level]` are the hashes of that level's partial tile."""

    size: int = 0
    rows: tuple[bytes, ...] = ()
    entries: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Edge(size={self.size})"

    def frontier(self) -> Frontier:
        """The same edge as roots of complete subtrees; at most 127 hashes of two nodes a level."""
        hashes: list[bytes] = []
        for level in range(len(self.rows) - 1, -1, -1):
            nodes, width, at = levels_of(self.rows[level]), len(self.rows[level]) // HASH_BYTES, 0
            for bit in range(HEIGHT - 1, -1, -1):
                if width >> bit & 1:
                    hashes.append(nodes[bit][at >> bit])
                    at += 1 << bit
        return Frontier(self.size, hashes)

    def root(self) -> bytes:
        """The root of the tree."""
        return self.frontier().root()


def grow(edge: Edge, entries: Sequence[bytes]) -> tuple[Edge, list[Write]]:
    """The edge with these entries appended, and the tiles to write, lowest level first. No entries: no tiles.

    The tiles have to be durable before a checkpoint of the new size is signed.
    """
    if not entries:
        return edge, []
    size = edge.size + len(entries)
    if size > LARGEST:
        raise ValueError("the tree is full")
    kept, writes = _bundles(edge, entries)
    rows, level, hashes = [], 0, [leaf_hash(entry) for entry in entries]
    while hashes or level < len(edge.rows):
        row, hashes = _raise_row(level, edge, hashes, writes)
        rows.append(row)
        level += 1
    return Edge(size, tuple(rows), kept), writes


def edge_of(size: int, read: Callable[[str], bytes]) -> Edge:
    """The edge of a tree that was grown to this size, from its partial tiles.

    `read` gives a tile by its path. Raise LayoutError when the tiles are not of this size or do not belong together;
    whether they are the tree of a checkpoint only its root can say: compare `Edge.root`.
    """
    rows: list[bytes] = []
    while size >> HEIGHT * len(rows):
        level = len(rows)
        index = size >> HEIGHT * (level + 1)
        width = width_of(level, index, size)
        rows.append(read(Tile(level, index, width).path) if width else b"")
    width = width_of(0, size >> HEIGHT, size)
    entries = entries_of(read(Tile(None, size >> HEIGHT, width).path)) if width else []
    edge = Edge(size, tuple(rows), tuple(entries))
    _check(edge)
    return edge


def _check(edge: Edge) -> None:
    for level, row in enumerate(edge.rows):
        if len(row) != width_of(level, edge.size >> HEIGHT * (level + 1), edge.size) * HASH_BYTES:
            raise LayoutError(f"the partial tile of level {level} is not as wide as a tree of {edge.size} has it")
    if b"".join(leaf_hash(entry) for entry in edge.entries) != (edge.rows[0] if edge.rows else b""):
        raise LayoutError("the partial bundle does not hash to the partial tile")


def _bundles(edge: Edge, entries: Sequence[bytes]) -> tuple[tuple[bytes, ...], list[Write]]:
    """The entries of the new partial bundle, and the bundles to write."""
    pending, index, writes = [*edge.entries, *entries], edge.size >> HEIGHT, []
    for at in range(0, len(pending), WIDTH):
        some = pending[at : at + WIDTH]
        writes.append((Tile(None, index, len(some)).path, bundle(some)))
        index += 1
    return tuple(pending[len(pending) // WIDTH * WIDTH :]), writes


def _raise_row(level: int, edge: Edge, hashes: Sequence[bytes], writes: list[Write]) -> tuple[bytes, list[bytes]]:
    """Append hashes to a level's row: its new partial row, and the roots of the tiles that became full."""
    if not hashes:
        return edge.rows[level], []
    row = (edge.rows[level] if level < len(edge.rows) else b"") + b"".join(hashes)
    index, roots = edge.size >> HEIGHT * (level + 1), []
    for at in range(0, len(row), ROW_BYTES):
        part = row[at : at + ROW_BYTES]
        writes.append((Tile(level, index, len(part) // HASH_BYTES).path, part))
        index += 1
        if len(part) == ROW_BYTES:
            roots.append(levels_of(part)[-1][0])
    return row[len(row) // ROW_BYTES * ROW_BYTES :], roots
