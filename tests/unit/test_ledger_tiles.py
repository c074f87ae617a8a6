"""Tiles: their names, their contents as tlog-tiles defines them however a log grew, and a write-once folder."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.growing import Edge, Write, edge_of, grow
from gateway.ledger.layout import (
    LayoutError,
    Tile,
    bundle,
    entries_of,
    entries_path,
    parse_path,
    tile_path,
    width_of,
)
from gateway.ledger.merkle import (
    Frontier,
    consistency_proof,
    frontier_of,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from gateway.ledger.tiles import UNFINISHED, TileConflictError, TileMissingError, Tiles

MOST = 66_000
"""Entries: 257 full tiles at level 0, one at level 1, one hash at level 2."""
ENTRIES = [b"%d" % n for n in range(MOST)]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/000", Tile(0, 0)),
        ("tile/0/x001/067", Tile(0, 1067)),
        ("tile/0/x001/x234/067", Tile(0, 1234067)),
        ("tile/2/999.p/1", Tile(2, 999, 1)),
        ("tile/63/x001/000.p/255", Tile(63, 1000, 255)),
        ("tile/entries/x012/345", Tile(None, 12345)),
        ("tile/entries/000.p/17", Tile(None, 0, 17)),
    ],
)
def test_names(path: str, tile: Tile) -> None:
    assert parse_path(path) == tile
    assert tile.path == path
    named = (
        entries_path(tile.index, tile.width) if tile.level is None else tile_path(tile.level, tile.index, tile.width)
    )
    assert named == path


@pytest.mark.parametrize(
    "path",
    [
        *("", "tile", "tile/0", "tile/0/", "/tile/0/000", "tile/0/000/", "tile/0/000\n", "tile//000", "checkpoint"),
        *("tile/00/000", "tile/01/000", "tile/64/000", "tile/-1/000", "tile/100/000", "tile/entry/000"),
        *("tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/x000/067", "tile/0/x001", "tile/0/001/067", "tile/0/x01/067"),
        *("tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000.p", "tile/0/000.p/1/"),
        *("tile/0/../000", "tile/0/..", "tile/entries/../../secret", "tile/0/\u0660\u0660\u0660", "tile/\u0660/000"),
        *("tile/0/x999/x999/x999/x999/x999/999", "tile/0/" + "x001/" * 2000 + "000", "TILE/0/000", "tile/0/X001/000"),
    ],
)
def test_other_spellings_are_refused(path: str) -> None:
    with pytest.raises(LayoutError):
        parse_path(path)


@given(st.integers(0, 63) | st.none(), st.integers(0, 2**55 - 1), st.integers(1, 256))
def test_a_name_comes_back(level: int | None, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_path(tile.path) == tile


@pytest.mark.parametrize("wrong", [(-1, 0, 256), (64, 0, 256), (0, -1, 256), (0, 2**55, 256), (0, 0, 0), (0, 0, 257)])
def test_impossible_tiles_have_no_name(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(LayoutError):
        tile_path(*wrong)


def test_the_specifications_example_of_widths() -> None:
    def partial(level: int) -> int:
        return width_of(level, 70_000 >> 8 * (level + 1), 70_000)

    assert [partial(level) for level in range(4)] == [112, 17, 1, 0]
    assert width_of(0, 272, 70_000) == 256
    assert (width_of(0, 0, 256), width_of(0, 1, 256), width_of(1, 0, 256)) == (256, 0, 1)


# --- contents --------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_a_bundle_comes_back(entries: list[bytes]) -> None:
    content = bundle(entries)
    assert content == b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    assert entries_of(content) == entries
    if content:
        with pytest.raises(LayoutError, match="cut short"):
            entries_of(content[:-1] if entries[-1] else content + b"\x00")


def test_bundles_have_limits() -> None:
    assert entries_of(bundle([bytes(0xFFFF)])) == [bytes(0xFFFF)]
    with pytest.raises(LayoutError, match="65535"):
        bundle([bytes(0x10000)])
    with pytest.raises(LayoutError, match="more entries"):
        entries_of(bytes(2 * 257))


def defined(size: int) -> dict[str, bytes]:
    """Every tile of a tree of `size`, by the definition."""
    tiles, level, row = {}, 0, [leaf_hash(entry) for entry in ENTRIES[:size]]
    for at in range(0, size, 256):
        part = ENTRIES[at : min(size, at + 256)]
        tiles[Tile(None, at // 256, len(part)).path] = bundle(part)
    while row:
        above = []
        for at in range(0, len(row), 256):
            part = row[at : at + 256]
            tiles[Tile(level, at // 256, len(part)).path] = b"".join(part)
            if len(part) == 256:
                frontier = Frontier()
                for one in part:
                    frontier.append(one)
                above.append(frontier.root())
        level, row = level + 1, above
    return tiles


def grown(steps: list[int]) -> tuple[Edge, list[Write]]:
    """The log grown by these numbers of entries, and every write of it."""
    edge, written = Edge(), []
    for step in steps:
        edge, writes = grow(edge, ENTRIES[edge.size : edge.size + step])
        written += writes
    return edge, written


@settings(max_examples=60)
@given(st.lists(st.integers(0, 300) | st.sampled_from([1, 255, 256, 257, 512]), min_size=1, max_size=8))
def test_however_a_log_grew_it_has_the_tiles_of_its_size(steps: list[int]) -> None:
    edge, written = grown(steps)
    tiles = dict(written)
    assert all(tiles[path] == content for path, content in written), "one path, two contents"
    needed = defined(edge.size)
    assert {path: tiles[path] for path in needed} == needed
    assert edge == grow(Edge(), ENTRIES[: edge.size])[0]
    frontier = Frontier()
    for entry in ENTRIES[: edge.size]:
        frontier.append(leaf_hash(entry))
    assert edge.frontier() == frontier
    assert edge_of(edge.size, tiles.__getitem__) == edge


def test_partial_tiles_are_written_for_the_sizes_grown_to_and_no_others() -> None:
    _, written = grown([300, 20, 192])
    assert {path for path, _ in written if ".p/" in path} == {
        *("tile/entries/001.p/44", "tile/0/001.p/44", "tile/1/000.p/1"),
        *("tile/entries/001.p/64", "tile/0/001.p/64"),
        "tile/1/000.p/2",
    }


def test_a_tree_of_three_levels() -> None:
    edge, written = grown([65_535, 1, MOST - 65_536])
    tiles = dict(written)
    needed = defined(MOST)
    assert {path: tiles[path] for path in needed} == needed
    assert {"tile/2/000.p/1", "tile/1/000", "tile/1/001.p/1", "tile/0/257.p/208"} <= needed.keys()
    assert edge_of(MOST, tiles.__getitem__) == edge
    assert edge_of(65_536, tiles.__getitem__) == grown([65_536])[0]


def test_nothing_new_writes_nothing() -> None:
    edge, _ = grown([300])
    assert grow(edge, []) == (edge, [])


def test_an_edge_is_refused_whose_tiles_do_not_belong_together() -> None:
    tiles = dict(grown([300])[1])
    for path, wrong in (
        ("tile/0/001.p/44", bytes(44 * 32)),
        ("tile/0/001.p/44", tiles["tile/0/001.p/44"][:-32]),
        ("tile/1/000.p/1", b""),
        ("tile/entries/001.p/44", bundle(ENTRIES[:44])),
    ):
        with pytest.raises(LayoutError):
            edge_of(300, (tiles | {path: wrong}).__getitem__)


# --- the folder ------------------------------------------------------------------------------------------------------


def files(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_what_is_written_is_there_and_nothing_else(tmp_path: Path) -> None:
    _, written = grown([300, 300])
    tiles = Tiles(tmp_path / "log")
    tiles.write(written)
    assert files(tmp_path / "log") == dict(written)
    assert all(tiles.read(path) == content for path, content in written)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.p/*")}
    tiles.write(written)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.p/*")}


def test_a_tile_is_never_replaced(tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    tiles.write([("tile/0/000.p/1", b"a" * 32)])
    with pytest.raises(TileConflictError, match="other bytes"):
        tiles.write([("tile/0/001.p/1", b"c" * 32), ("tile/0/000.p/1", b"b" * 32)])
    assert tiles.read("tile/0/000.p/1") == b"a" * 32


def test_of_two_histories_at_once_one_is_kept_and_the_other_told(tmp_path: Path) -> None:
    paths = [tile_path(0, n, 1) for n in range(60)]

    def write(content: bytes) -> list[str]:
        tiles, refused = Tiles(tmp_path), []
        for path in paths:
            try:
                tiles.write([(path, content)])
            except TileConflictError:
                refused.append(path)
        return refused

    with ThreadPoolExecutor(2) as pool:
        left, right = pool.map(write, (b"a" * 32, b"b" * 32))
    assert sorted(left + right) == paths
    for path in paths:
        assert Tiles(tmp_path).read(path) == (b"a" if path in right else b"b") * 32


def test_only_tiles_are_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    tiles = Tiles(tmp_path / "log")
    for path in ("../secret", "tile/0/../../../secret", "checkpoint"):
        with pytest.raises(LayoutError):
            tiles.read(path)
        with pytest.raises(LayoutError):
            tiles.write([(path, b"x")])


def test_a_missing_and_a_cut_tile_are_named(tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    with pytest.raises(TileMissingError, match="tile/0/000"):
        tiles.read("tile/0/000")
    tiles.write(grown([256])[1])
    with pytest.raises(TileMissingError):
        tiles.read("tile/0/000.p/17")
    (tmp_path / "tile/0/000").write_bytes(bytes(8191))
    with pytest.raises(LayoutError, match="8191"):
        tiles.read("tile/0/000")


def test_what_a_crash_left_is_swept_and_was_never_served(tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    assert tiles.sweep() == 0
    tiles.write(grown([1])[1])
    (tmp_path / UNFINISHED / "half").write_bytes(b"x")
    assert tiles.sweep() == 1
    assert list((tmp_path / UNFINISHED).iterdir()) == []
    assert tiles.read("tile/0/000.p/1") == leaf_hash(b"0")


def test_proofs_come_from_tiles(tmp_path: Path) -> None:
    steps = [1, 254, 1, 1, 300, 700]
    edge, written = grown(steps)
    tiles = Tiles(tmp_path)
    tiles.write(written)
    read, newest = tiles.reader(edge.size), edge.root()
    assert frontier_of(edge.size, read) == edge.frontier()
    for index in range(0, edge.size, 11):
        verify_inclusion(leaf_hash(ENTRIES[index]), index, edge.size, inclusion_proof(index, edge.size, read), newest)
    sizes = [sum(steps[: n + 1]) for n in range(len(steps))]
    for old, new in pairwise(sizes):
        proof = consistency_proof(old, new, tiles.reader(new))
        assert proof == consistency_proof(old, new, read)
        verify_consistency(old, new, proof, root_of(old, read), root_of(new, tiles.reader(new)))


def test_a_reader_falls_back_to_the_full_tile_and_never_beyond_its_size(tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    tiles.write(grown([300, 400])[1])
    (tmp_path / "tile/0/001.p/44").unlink()
    assert root_of(300, tiles.reader(300)) == grown([300])[0].root()
    (tmp_path / "tile/0/002.p/188").unlink()
    with pytest.raises(TileMissingError):
        root_of(700, Tiles(tmp_path).reader(700))
    with pytest.raises(LayoutError, match="not complete"):
        tiles.reader(300)([(2, 75)])


def test_entries_come_from_bundles(tmp_path: Path) -> None:
    tiles = Tiles(tmp_path)
    tiles.write(grown([300, 400])[1])
    assert [entry for index in range(3) for entry in tiles.entries(index, 700)] == ENTRIES[:700]
    assert tiles.entries(1, 300) == ENTRIES[256:300]
    (tmp_path / "tile/entries/001.p/44").unlink()
    assert tiles.entries(1, 300) == ENTRIES[256:300]
    for index, size in ((3, 700), (2, 600), (3, 1024)):
        with pytest.raises((LayoutError, TileMissingError)):
            tiles.entries(index, size)
    (tmp_path / "tile/entries/000").write_bytes(bundle(ENTRIES[:255]))
    with pytest.raises(LayoutError, match="255 entries"):
        tiles.entries(0, 700)
