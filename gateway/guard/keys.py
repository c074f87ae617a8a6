"""The names of everything the guard keeps in Redis or Valkey, and which lane's slot each lives in.

A key is one letter, a hash tag in braces and raw bytes: `p{qn}:` + the 16-byte subject. The tag depends on the lane
alone, so that one lane is one cluster slot, and the sixteen tags are chosen so that their slots lie in the middle of
sixteen equal parts of the slot space: a cluster of 1, 2, 4, 8 or 16 masters gets equal shares.

Nothing here ever holds a number or a text: subjects and digests are keyed HMACs, ids are random.

| key | value | life |
|---|---|---|
| `i` binding | id (16 bytes) + fingerprint of the body | 24 h, never extended |
| `m` record | `record.py` | as long as bound, else 1 h after `done` |
| `p` person | `person.py`, absolute, guarded by `seq` | for ever |
| `b` provisional block | msgpack list of scopes | until settle replaces it, 7 days at most |
| `f` fence | Unix ms up to which a claimed message may still reach the wire | 2 s |
| `u` used request | the id that used it | the request's own life |
| `w` windows | hash: a field per window scope, `x` same texts, `e` when the key expires | the longest window + 1 h |
| `c` cursor | last event applied to the lane | for ever |
| `cfg`, `l`, `q:` | registry and beat; number of lanes; lease of a limit and period | see `cfg.py`, `lease.py` |
"""

from uuid import UUID

from gateway.contract.ids import LANES

TAGS = ("u0", "qp", "dj", "wz", "d2", "pv", "uh", "iy", "ly", "h9", "uv", "q6", "9s", "qn", "dt", "ha")
"""Cluster slots 511, 1535, 2562, 3603 … 15876: lane i owns the middle of part i of 16."""

CFG = b"cfg"
LANES_CHECK = b"l"


def _prefixes(letter: str) -> tuple[bytes, ...]:
    """The prefix of each of 256 first bytes of a subject or digest, so that a lookup replaces arithmetic."""
    return tuple(f"{letter}{{{TAGS[first % LANES]}}}:".encode() for first in range(256))


BINDING = _prefixes("i")
RECORD = _prefixes("m")
PERSON = _prefixes("p")
BLOCK = _prefixes("b")
FENCE = _prefixes("f")
REQUEST = _prefixes("u")
WINDOWS = _prefixes("w")
CURSOR = tuple(f"c{{{tag}}}".encode() for tag in TAGS)


def raw_id(message_id: str) -> bytes:
    """The 16 bytes of a message id; ValueError when it is not one."""
    return bytes.fromhex(message_id.replace("-", ""))


def text_id(raw: bytes) -> str:
    """The written form of a message id's 16 bytes."""
    return str(UUID(bytes=raw))


def record(raw: bytes) -> bytes:
    """The key of a message's record; the last hex digit of an id is its lane."""
    return RECORD[raw[15]] + raw


def quota(name: str, since_s: int) -> bytes:
    """The key of a name's lease counter in the period that began at `since_s`, Unix time."""
    return f"q:{name}:{since_s}".encode()
