"""Roots and proofs against the definition itself (RFC 6962 §2.1, written as it stands there), and the entry's bytes."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger import leaf as entry
from gateway.ledger.leaf import LEAF_BYTES, Leaf, LeafError
from gateway.ledger.merkle import (
    EMPTY_ROOT,
    LARGEST,
    Frontier,
    Node,
    ProofError,
    consistency_proof,
    frontier_of,
    inclusion_proof,
    leaf_hash,
    node_hash,
    nodes_of,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SMALL = 40
"""Every index and every pair of sizes up to here."""


# --- the definition --------------------------------------------------------------------------------------------------


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


@cache
def tree_hash(begin: int, end: int) -> bytes:
    """MTH of the entries `begin` … `end` - 1; entry n is its number in decimal."""
    if begin == end:
        return sha256(b"").digest()
    if end - begin == 1:
        return sha256(b"\x00" + b"%d" % begin).digest()
    middle = begin + split(end - begin)
    return sha256(b"\x01" + tree_hash(begin, middle) + tree_hash(middle, end)).digest()


def path(index: int, begin: int, end: int) -> list[bytes]:
    """PATH(index, D[begin:end])."""
    if end - begin == 1:
        return []
    middle = begin + split(end - begin)
    if index < middle:
        return [*path(index, begin, middle), tree_hash(middle, end)]
    return [*path(index, middle, end), tree_hash(begin, middle)]


def subproof(old: int, begin: int, end: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF(old - begin, D[begin:end], whole)."""
    if old == end:
        return [] if whole else [tree_hash(begin, end)]
    middle = begin + split(end - begin)
    if old <= middle:
        return [*subproof(old, begin, middle, whole=whole), tree_hash(middle, end)]
    return [*subproof(old, middle, end, whole=False), tree_hash(begin, middle)]


def root(size: int) -> bytes:
    return tree_hash(0, size)


def leaf(index: int) -> bytes:
    return tree_hash(index, index + 1)


def read(nodes: Sequence[Node]) -> list[bytes]:
    return [tree_hash(index << level, (index + 1) << level) for level, index in nodes]


sizes = st.integers(1, 2000)


# --- roots -----------------------------------------------------------------------------------------------------------


def test_a_frontier_has_the_root_of_every_size() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT == root(0)
    for size in range(1, 600):
        frontier.append(leaf_hash(b"%d" % (size - 1)))
        assert (frontier.size, frontier.root()) == (size, root(size))
        assert len(frontier.hashes) == size.bit_count()
        assert frontier == frontier_of(size, read)


def test_a_frontier_goes_on_where_another_stopped_and_alone() -> None:
    first = frontier_of(7, read)
    other, again = first.copy(), Frontier(first.size, first.hashes)
    other.append(leaf(7))
    assert (first, first.root()) == (again, root(7))
    assert other.root() == root(8)


@pytest.mark.parametrize(
    ("size", "hashes"),
    [(1, []), (0, [EMPTY_ROOT]), (3, [EMPTY_ROOT]), (1, [b"short"]), (-1, []), (2**63, [EMPTY_ROOT])],
)
def test_a_frontier_of_another_number_of_hashes_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match="edge"):
        Frontier(size, hashes)


def test_a_frontier_of_the_largest_size_is_63_hashes() -> None:
    assert len(Frontier(LARGEST, [EMPTY_ROOT] * 63).hashes) == 63


@given(sizes)
def test_roots_come_from_complete_subtrees(size: int) -> None:
    assert root_of(size, read) == root(size)
    nodes = nodes_of((0, size))
    assert [1 << level for level, _ in nodes] == sorted({1 << level for level, _ in nodes}, reverse=True)
    assert all((index + 1) << level <= size for level, index in nodes)


# --- inclusion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, SMALL + 1))
def test_every_inclusion_proof_of_a_small_tree(size: int) -> None:
    for index in range(size):
        proof = inclusion_proof(index, size, read)
        assert proof == path(index, 0, size)
        verify_inclusion(leaf(index), index, size, proof, root(size))
        for other in range(size + 2):
            if other != index:
                with pytest.raises(ProofError):
                    verify_inclusion(leaf(index), other, size, proof, root(size))


@settings(max_examples=200)
@given(st.data(), sizes)
def test_what_is_changed_in_an_inclusion_proof_is_found(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, read)
    assert proof == path(index, 0, size)
    verify_inclusion(leaf(index), index, size, proof, root(size))
    for wrong in changed(data, [leaf(index), *proof, root(size)]):
        with pytest.raises(ProofError):
            verify_inclusion(wrong[0], index, size, wrong[1:-1], wrong[-1])
    if (other := data.draw(sizes)) != size:
        with pytest.raises(ProofError):
            verify_inclusion(leaf(index), index, other, proof, root(other))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 1), (5, 3), (0, 2**63)])
def test_no_proof_of_what_is_not_in_the_tree(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no entry"):
        inclusion_proof(index, size, read)
    with pytest.raises(ProofError, match="no entry"):
        verify_inclusion(EMPTY_ROOT, index, size, [], EMPTY_ROOT)


# --- consistency -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", range(1, SMALL + 1))
def test_every_consistency_proof_of_a_small_tree(new: int) -> None:
    for old in range(1, new + 1):
        proof = consistency_proof(old, new, read)
        assert proof == subproof(old, 0, new, whole=True)
        verify_consistency(old, new, proof, root(old), root(new))
        for other in range(new + 2):
            if other != old:
                with pytest.raises(ProofError):
                    verify_consistency(other, new, proof, root(other), root(new))


@settings(max_examples=200)
@given(st.data(), sizes)
def test_what_is_changed_in_a_consistency_proof_is_found(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(old, new, read)
    assert proof == subproof(old, 0, new, whole=True)
    verify_consistency(old, new, proof, root(old), root(new))
    for wrong in changed(data, [root(old), *proof, root(new)]):
        with pytest.raises(ProofError):
            verify_consistency(old, new, wrong[1:-1], wrong[0], wrong[-1])


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 1), (0, 9), (2, 1), (-1, 1), (1, 2**63)])
def test_no_consistency_from_nothing_or_backwards(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="no consistency proof"):
        consistency_proof(old, new, read)
    with pytest.raises(ProofError):
        verify_consistency(old, new, [], EMPTY_ROOT, EMPTY_ROOT)


def test_two_trees_of_one_size_are_one_tree() -> None:
    verify_consistency(5, 5, [], root(5), root(5))
    with pytest.raises(ProofError, match="different roots"):
        verify_consistency(5, 5, [], root(5), root(6))
    with pytest.raises(ProofError, match="too long"):
        verify_consistency(5, 5, [root(5)], root(5), root(5))


def changed(data: st.DataObject, hashes: list[bytes]) -> list[list[bytes]]:
    """The same with one bit flipped; with a hash of the proof (not the first and last) gone, doubled, cut or added."""
    at, bit = data.draw(st.integers(0, len(hashes) - 1)), data.draw(st.integers(0, 255))
    flipped = list(hashes)
    flipped[at] = (int.from_bytes(flipped[at], "big") ^ 1 << bit).to_bytes(32, "big")
    wrong = [flipped, [*hashes[:-1], hashes[0], hashes[-1]], [hashes[0], hashes[-1], *hashes[1:]]]
    for n in range(1, len(hashes) - 1):
        wrong += [hashes[:n] + hashes[n + 1 :], [*hashes[:n], hashes[n], *hashes[n:]]]
        wrong.append([*hashes[:n], hashes[n][:-1], *hashes[n + 1 :]])
    return wrong


# --- the entry -------------------------------------------------------------------------------------------------------

leaves = st.builds(
    Leaf,
    st.just(1),
    st.integers(0, 2**63 - 1),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
)


@given(leaves)
def test_an_entry_is_its_57_bytes(leaf: Leaf) -> None:
    content = entry.encode(leaf)
    assert len(content) == LEAF_BYTES
    assert content == b"\x01" + leaf.at_ms.to_bytes(8, "big") + leaf.tag + leaf.commitment
    assert entry.decode(content) == leaf


@pytest.mark.parametrize(
    "wrong",
    [
        Leaf(2, 0, b"t" * 16, b"c" * 32),
        Leaf(0, 0, b"t" * 16, b"c" * 32),
        Leaf(1, -1, b"t" * 16, b"c" * 32),
        Leaf(1, 2**63, b"t" * 16, b"c" * 32),
        Leaf(1, 0, b"t" * 15, b"c" * 32),
        Leaf(1, 0, b"t" * 17, b"c" * 32),
        Leaf(1, 0, b"t" * 16, b"c" * 31),
    ],
)
def test_fields_that_do_not_fit_are_refused(wrong: Leaf) -> None:
    with pytest.raises(LeafError):
        entry.encode(wrong)


@pytest.mark.parametrize("wrong", [b"", b"\x01" * 56, b"\x01" * 58, b"\x02" + b"\x01" * 56, b"\x01\xff" + b"\x01" * 55])
def test_bytes_that_are_no_entry_are_refused(wrong: bytes) -> None:
    with pytest.raises(LeafError):
        entry.decode(wrong)


def test_leaves_and_nodes_are_hashed_apart() -> None:
    assert leaf_hash(b"\x01" + bytes(64)) != node_hash(bytes(32), bytes(32))
