"""Names and contents of tiles, C2SP tlog-tiles at commit 5ba5ee8. Pure.

`tile/<level>/<index>[.p/<width>]` is a row of up to 256 hashes: at level 0 the leaf hashes, above it the roots of full
tiles of the level below. `tile/entries/<index>[.p/<width>]` holds the entries themselves, each behind its length as two
big-endian bytes. An index is written in groups of three digits, all but the last behind an `x`: `x001/x234/067`. A
width is written only for a partial tile, the right edge of a tree at some size.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.ledger.merkle import HASH_BYTES, node_hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
ENTRIES = "entries"
LONGEST_ENTRY = 0xFFFF

_LARGEST_LEVEL = 63
_INDICES = 1 << 55
"""Entries are fewer than 2^63, so tiles fewer than this."""
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


class LayoutError(ValueError):
    """A path or a content that is none of tlog-tiles; the text says why."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's name; `level` is none for a bundle of entries."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """The path below the log's prefix."""
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        index = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        row = ENTRIES if self.level is None else self.level
        return f"tile/{row}/{index}" + ("" if self.width == WIDTH else f".p/{self.width}")


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """The path of a tile of hashes. Raise LayoutError for one that cannot exist."""
    return _checked(Tile(level, index, width)).path


def entries_path(index: int, width: int = WIDTH) -> str:
    """The path of a bundle of entries. Raise LayoutError for one that cannot exist."""
    return _checked(Tile(None, index, width)).path


def parse_path(path: str) -> Tile:
    """The tile of a path; LayoutError for any spelling that `Tile.path` would not have given."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise LayoutError("no path of a tile")
    row, index, width = found.groups()
    level = None if row == ENTRIES else int(row)
    digits = index.replace("x", "").replace("/", "")
    tile = _checked(Tile(level, int(digits), int(width or WIDTH)))
    if tile.path != path:
        raise LayoutError("a path of a tile in another spelling than its own")
    return tile


def width_of(level: int, index: int, size: int) -> int:
    """How many hashes (or, at level 0, entries) this tile has in a tree of `size`; 0 where there is no such tile."""
    return min(WIDTH, max(0, (size >> HEIGHT * level) - index * WIDTH))


def bundle(entries: Sequence[bytes]) -> bytes:
    """The content of a bundle. Raise LayoutError for an entry of more than 65,535 bytes."""
    if any(len(entry) > LONGEST_ENTRY for entry in entries):
        raise LayoutError(f"an entry of more than {LONGEST_ENTRY} bytes")
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def entries_of(content: bytes) -> list[bytes]:
    """The entries in a bundle. Raise LayoutError when it is cut short or holds more than 256."""
    entries, at = [], 0
    while at < len(content):
        begin = at + 2
        at = begin + int.from_bytes(content[at:begin], "big")
        if begin > len(content) or at > len(content):
            raise LayoutError("the bundle is cut short")
        entries.append(content[begin:at])
    if len(entries) > WIDTH:
        raise LayoutError("the bundle has more entries than a tile")
    return entries


def hashes_of(row: bytes) -> list[bytes]:
    """The hashes of a tile's row."""
    return [row[at : at + HASH_BYTES] for at in range(0, len(row), HASH_BYTES)]


def levels_of(row: bytes) -> list[list[bytes]]:
    """All complete nodes over a tile's row, lowest level first; nine levels when it is full, the last its root."""
    levels = [hashes_of(row)]
    while len(levels[-1]) > 1:
        nodes = levels[-1]
        levels.append([node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes) - 1, 2)])
    return levels


def _checked(tile: Tile) -> Tile:
    if not 0 <= (tile.level or 0) <= _LARGEST_LEVEL or not 0 <= tile.index < _INDICES or not 0 < tile.width <= WIDTH:
        raise LayoutError("no such tile")
    return tile
