"""The Merkle tree over the entries: hashes, roots, proofs and their verification. Pure; knows nothing of files.

The tree is RFC 6962 §2.1 (RFC 9162 §2.1 says the same): SHA-256, a zero byte before an entry, a one byte before two
children. A node is named (level, index): the root of the *complete* subtree over the entries
[index << level, (index + 1) << level); such a node never changes once its entries exist. Whoever stores nodes hands in
a `Read`, which is asked once per proof for everything it needs.

Sizes and indices are below 2^63. Making a proof of something outside of the tree is a ValueError of the caller;
a proof that does not hold is a ProofError, whose text says what is wrong with it.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Self

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of the tree without entries (RFC 6962 §2.1)."""
LARGEST = 2**63 - 1

Node = tuple[int, int]
"""(level, index) of a complete subtree."""
Read = Callable[[Sequence[Node]], Sequence[bytes]]
"""The hashes of these nodes, in their order; all are complete in a tree of the size that was asked about."""
Span = tuple[int, int]
"""Entries [begin, end) that are one subtree of some tree, perhaps its ragged right edge."""

_sha256 = hashlib.sha256


class ProofError(ValueError):
    """A proof does not show what it should; the text says why."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return _sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return _sha256(b"\1" + left + right).digest()


class Frontier:
    """The right edge of a tree: the roots of its complete subtrees, largest first, one for each bit set in `size`.

    At most 63 hashes, whatever the size; enough to append and to give the root. Appending costs one hash of two nodes
    on average.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Raise ValueError unless there is one hash of 32 bytes for each bit set in `size`."""
        if not 0 <= size <= LARGEST or len(hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} has another number of edge hashes than {len(hashes)}")
        if any(len(one) != HASH_BYTES for one in hashes):
            raise ValueError("an edge hash is not 32 bytes")
        self._size, self._hashes = size, list(hashes)

    def __repr__(self) -> str:
        return f"Frontier(size={self._size}, root={self.root().hex()})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frontier) and self._size == other._size and self._hashes == other._hashes

    __hash__ = None  # type: ignore[assignment] # it changes

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, largest (leftmost) first."""
        return tuple(self._hashes)

    def copy(self) -> Self:
        """Another one, which grows on its own."""
        return type(self)(self._size, self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add an entry by its leaf hash. Every bit that a binary increment carries over joins two subtrees."""
        hashes, carried = self._hashes, self._size
        while carried & 1:
            leaf = _sha256(b"\1" + hashes.pop() + leaf).digest()
            carried >>= 1
        hashes.append(leaf)
        self._size += 1

    def root(self) -> bytes:
        """The Merkle tree hash of all entries."""
        return _join(self._hashes) if self._hashes else EMPTY_ROOT


# --- making proofs ---------------------------------------------------------------------------------------------------


def frontier_of(size: int, read: Read) -> Frontier:
    """The right edge of the tree of the first `size` entries."""
    return Frontier(size, read(nodes_of((0, size))))


def root_of(size: int, read: Read) -> bytes:
    """The root of the tree of the first `size` entries."""
    return frontier_of(size, read).root()


def inclusion_proof(index: int, size: int, read: Read) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 §2.1.1: from the leaf's sibling up to the root's child."""
    if not 0 <= index < size <= LARGEST:
        raise ValueError(f"a tree of {size} has no entry {index}")
    spans: list[Span] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    return _hashes_of(spans[::-1], read)


def consistency_proof(old: int, new: int, read: Read) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 6962 §2.1.2; empty when the sizes are equal. There is none from the empty tree."""
    if not 0 < old <= new <= LARGEST:
        raise ValueError(f"there is no consistency proof from {old} to {new}")
    spans: list[Span] = []
    begin, end = 0, new
    while end > old:
        middle = begin + _split(end - begin)
        if old <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    if begin:
        spans.append((begin, end))
    return _hashes_of(spans[::-1], read)


def nodes_of(span: Span) -> list[Node]:
    """The complete subtrees that make up a subtree, largest first.

    `begin` is a multiple of a power of two that is at least the span's length, as in every subtree.
    """
    begin, end = span
    nodes: list[Node] = []
    for level in range((end - begin).bit_length() - 1, -1, -1):
        if (end - begin) >> level & 1:
            nodes.append((level, begin >> level))
            begin += 1 << level
    return nodes


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2."""
    return 1 << (count - 1).bit_length() - 1


def _hashes_of(spans: Sequence[Span], read: Read) -> list[bytes]:
    parts = [nodes_of(span) for span in spans]
    hashes = iter(read([node for nodes in parts for node in nodes]))
    return [_join([next(hashes) for _ in nodes]) for nodes in parts]


def _join(hashes: Sequence[bytes]) -> bytes:
    """The root over complete subtrees given largest first."""
    joined = hashes[-1]
    for left in reversed(hashes[:-1]):
        joined = node_hash(left, joined)
    return joined


# --- checking proofs -------------------------------------------------------------------------------------------------


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the entry with this leaf hash is number `index` (from 0) of the tree; RFC 9162 §2.1.3.2.

    Raise ProofError unless it is.
    """
    if not 0 <= index < size <= LARGEST:
        raise ProofError(f"a tree of {size} has no entry {index}")
    _check_hashes((leaf, root), proof)
    at, last, joined = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if at & 1 or at == last:
            joined = node_hash(sibling, joined)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            joined = node_hash(joined, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the inclusion proof is too short")
    if joined != root:
        raise ProofError(f"the entry is not number {index} of the tree of {size} with this root")


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Check that the tree of `old` entries is the beginning of the tree of `new` entries; RFC 9162 §2.1.4.2.

    Raise ProofError unless it is, and for an empty old tree, about which a proof says nothing.
    """
    if old == 0:
        raise ProofError("consistency with an empty tree proves nothing")
    if not 0 < old <= new <= LARGEST:
        raise ProofError(f"a tree of {old} is not the beginning of one of {new}")
    _check_hashes((old_root, new_root), proof)
    if old == new:
        if proof:
            raise ProofError("the consistency proof is too long")
        if old_root != new_root:
            raise ProofError(f"two trees of {old} have different roots")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise ProofError("the consistency proof is too short")
    before, after = _replay(old - 1, new - 1, path)
    if before != old_root:
        raise ProofError(f"the proof does not lead to the root of the tree of {old}")
    if after != new_root:
        raise ProofError(f"the tree of {new} does not begin with the tree of {old}")


def _replay(at: int, last: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The old and the new root that a consistency path leads to; `at` and `last` are the trees' last indices."""
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if at & 1 or at == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the consistency proof is too short")
    return before, after


def _check_hashes(given: Sequence[bytes], proof: Sequence[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in (*given, *proof)):
        raise ProofError("a hash is not 32 bytes")
