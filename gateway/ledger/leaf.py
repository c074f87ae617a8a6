"""The entry of the log: what of an event anybody may read. Nothing here names a person without the person's keys.

Version 1, 57 bytes, integers big-endian:

| bytes | is |
|---|---|
| 0 | the version, 1: of this layout, the event's canonical form, its commitment and its encryption |
| 1-8 | when the event was recorded, Unix milliseconds, below 2^63; never before the entry ahead of it |
| 9-24 | the tag, 16 bytes: HMAC of the person's count of events under the person's tag key (`keys.PersonKeys.tag`) |
| 25-56 | the commitment, 32 bytes: HMAC-SHA256 of the event's canonical body under its own random salt |

They are the columns `version`, `at`, `tag` and `commitment` of `consent_events`; entry `index` of the log (from 0) is
the event with `seq = index + 1`. With the salt and the body anybody can recompute the commitment; without the salt,
which erasure destroys, it says nothing.
"""

import struct
from typing import NamedTuple

VERSION = 1
LEAF_BYTES = 57

_LAYOUT = struct.Struct(">BQ16s32s")
_TAG_BYTES, _COMMITMENT_BYTES = 16, 32
_LATEST_MS = 2**63 - 1


class LeafError(ValueError):
    """These are not the bytes, or not the fields, of an entry."""


class Leaf(NamedTuple):
    """An entry's fields."""

    version: int
    at_ms: int
    tag: bytes
    commitment: bytes


def encode(leaf: Leaf) -> bytes:
    """The 57 bytes. Raise LeafError for fields that do not fit: struct would cut or pad them."""
    version, at_ms, tag, commitment = leaf
    if version != VERSION or not 0 <= at_ms <= _LATEST_MS:
        raise LeafError("an entry of an unknown version or an impossible time")
    if len(tag) != _TAG_BYTES or len(commitment) != _COMMITMENT_BYTES:
        raise LeafError("a tag is 16 bytes, a commitment 32")
    return _LAYOUT.pack(version, at_ms, tag, commitment)


def decode(entry: bytes) -> Leaf:
    """The fields; `encode` of them gives the same bytes. Raise LeafError for anything but an entry."""
    if len(entry) != LEAF_BYTES:
        raise LeafError(f"an entry is {LEAF_BYTES} bytes, not {len(entry)}")
    leaf = Leaf(*_LAYOUT.unpack(entry))
    if leaf.version != VERSION or leaf.at_ms > _LATEST_MS:
        raise LeafError("an entry of an unknown version or an impossible time")
    return leaf
