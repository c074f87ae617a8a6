"""A message's record: what was decided, how far it got, and what to give back if it never leaves.

A record moves `reserved -> taken@partition:offset -> done`, beside it `held -> reserved` (a release), `taken ->
unwritten` (an orderly revocation before the first byte) and `reserved | held -> void` (nothing will be sent; windows
given back). Written by the scripts; 29 bytes and the rest, all integers big endian:

    state 1 | flags 1 | attempt 2 | partition 4 | offset 6 | stamp ms 6 | basis 1 | entry + 1 6 |
    length of `consumed` 2 | consumed | answer

`consumed`: where flag TEXT is set 8 bytes of the text's hash, then the window fields that hold `stamp`, separated by
NUL. In a `void` record it is the code it was voided with. The answer is kept to the end: a repeated key gets it again.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

RESERVED, HELD, TAKEN, DONE, UNWRITTEN, VOID = "reserved", "held", "taken", "done", "unwritten", "void"
STATES = {ord(name[0]): name for name in (RESERVED, HELD, TAKEN, DONE, UNWRITTEN, VOID)}
BOUND, REFUNDED, TEXT, SHARED = 1, 2, 4, 8
_HEAD = struct.Struct(">BBHI")
_WHOLE = struct.Struct(">BBHIHIHIbHIH")  # six-byte numbers as their upper two and lower four
_LOWER = 0xFFFF_FFFF
HEAD_BYTES = 29


class RecordView(NamedTuple):
    """A record, read."""

    state: str
    attempt: int
    partition: int
    offset: int
    stamp_ms: int
    """When the windows were consumed; 0 while held."""
    entry: int | None
    """The ledger entry relied on at admission."""
    bound: bool
    refunded: bool
    fields: tuple[str, ...]
    """The window fields this message consumed."""
    answer: bytes
    code: str | None
    """Why it was voided."""


def encode(
    state: str,
    attempt: int,
    place: tuple[int, int],
    stamp_ms: int,
    *,
    entry: int | None,
    fields: Sequence[str],
    text_hash: bytes | None,
    bound: bool,
    answer: bytes,
    basis: int = 0,
    refunded: bool = False,
) -> bytes:
    """Write a record as the scripts do; only a rebuild needs to. `fields` of a void record: its code alone."""
    consumed = "\0".join(fields).encode()
    flags = (BOUND if bound else 0) | (REFUNDED if refunded else 0)
    if text_hash:
        consumed, flags = text_hash + consumed, flags | TEXT
    offset, known = place[1], 0 if entry is None else entry + 1
    head = _WHOLE.pack(
        ord(state[0]),
        flags,
        attempt,
        place[0],
        offset >> 32,
        offset & _LOWER,
        stamp_ms >> 32,
        stamp_ms & _LOWER,
        basis,
        known >> 32,
        known & _LOWER,
        len(consumed),
    )
    return head + consumed + answer


def decode(raw: bytes) -> RecordView:
    """Read a record."""
    state, flags, attempt, partition = _HEAD.unpack_from(raw)
    consumed_bytes = int.from_bytes(raw[27:29], "big")
    consumed = raw[HEAD_BYTES : HEAD_BYTES + consumed_bytes]
    rest = raw[HEAD_BYTES + consumed_bytes :]
    names = consumed[8:] if flags & TEXT else consumed
    void = STATES[state] == VOID
    return RecordView(
        state=STATES[state],
        attempt=attempt,
        partition=partition,
        offset=int.from_bytes(raw[8:14], "big"),
        stamp_ms=int.from_bytes(raw[14:20], "big"),
        entry=int.from_bytes(raw[21:27], "big") - 1 if any(raw[21:27]) else None,
        bound=bool(flags & BOUND),
        refunded=bool(flags & REFUNDED),
        fields=tuple(names.decode().split("\0")) if names and not void else (),
        answer=rest,
        code=names.decode() if void else None,
    )
