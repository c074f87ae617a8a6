"""Checkpoints (C2SP tlog-checkpoint) and proofs that stand alone (C2SP tlog-proof), both at commit 5ba5ee8. Pure.

A checkpoint is the signed note that says: the log of this origin has so many entries, and this root. A log's own
signature is a plain Ed25519 one whose key has the origin as its name; lines of witnesses come below it. A tlog-proof
is an index, an inclusion path and the checkpoint it leads to, in one text file (`.tlog-proof`).

Both are read strictly: whatever `text` or `encode` would not have written is refused.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.ledger import merkle
from gateway.ledger.note import Note, Verifier, open_note, plain_base64

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x1f]")
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_LEAST_LINES = 3
_LONGEST_PATH = 63


class CheckpointError(ValueError):
    """A checkpoint or a tlog-proof is malformed, of another log, or not signed by it; the text says which."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says about itself. `root` is 32 bytes. Raises CheckpointError when made of what cannot be written."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(line and not _CONTROL.search(line) for line in (self.origin, *self.extensions)):
            raise CheckpointError("the origin or an extension is empty or holds a control character")
        if not 0 <= self.size <= merkle.LARGEST or len(self.root) != merkle.HASH_BYTES:
            raise CheckpointError("an impossible size, or a root that is not 32 bytes")
        if not self.size and self.root != merkle.EMPTY_ROOT:
            raise CheckpointError("an empty log has another root")

    def text(self) -> str:
        """The text that is signed."""
        lines = (self.origin, str(self.size), _encoded(self.root), *self.extensions)
        return "\n".join(lines) + "\n"


def parse(text: str) -> Checkpoint:
    """The checkpoint that a note's text is. Raise CheckpointError for anything that `text` would not have written."""
    if not text.endswith("\n"):
        raise CheckpointError("a checkpoint ends in a newline")
    lines = text[:-1].split("\n")
    if len(lines) < _LEAST_LINES:
        raise CheckpointError("a checkpoint has three lines at least")
    origin, size, root, *extensions = lines
    return Checkpoint(origin, _decimal(size), plain_base64(root, CheckpointError), tuple(extensions))


def open_checkpoint(raw: bytes, origin: str, verifiers: Iterable[Verifier]) -> tuple[Checkpoint, Note]:
    """The checkpoint of this log, and who signed it: at least one key that has the origin as its name.

    Raise NoteError when the note is malformed, holds a signature that does not verify, or none of a known key;
    CheckpointError when it is no checkpoint of this origin or only others, such as witnesses, signed it.
    """
    note = open_note(raw, verifiers)
    checkpoint = parse(note.text)
    if checkpoint.origin != origin:
        raise CheckpointError("the checkpoint is of another log")
    if not any(line.name == origin and line.time_s is None for line in note.verified):
        raise CheckpointError("the log itself has not signed the checkpoint")
    return checkpoint, note


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That an entry is number `index` (from 0) of the log of a signed checkpoint.

    `checkpoint` is the whole signed note; `extra` is for the application and not authenticated by anything.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The tlog-proof."""
        lines = [_PROOF_HEADER]
        if self.extra is not None:
            lines.append(f"extra {_encoded(self.extra)}")
        lines += [f"index {self.index}", *map(_encoded, self.path), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def parse_proof(raw: bytes) -> InclusionProof:
    """What a tlog-proof says; nothing of it is verified. Raise CheckpointError for anything malformed."""
    head, blank, checkpoint = raw.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise CheckpointError("a tlog-proof is ASCII above its checkpoint") from None
    if lines.pop(0) != _PROOF_HEADER or not blank or not checkpoint:
        raise CheckpointError("this is no tlog-proof")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = plain_base64(lines.pop(0).removeprefix("extra "), CheckpointError)
    if not lines or not lines[0].startswith("index "):
        raise CheckpointError("a tlog-proof without its index line")
    return InclusionProof(_decimal(lines[0].removeprefix("index ")), _path(lines[1:]), checkpoint, extra)


def verify_proof(
    raw: bytes, leaf_hash: bytes, origin: str, verifiers: Iterable[Verifier]
) -> tuple[InclusionProof, Checkpoint, Note]:
    """Check a tlog-proof of the entry with this leaf hash.

    Which witnesses are enough is the caller's to decide, by `Note.verified`. Raise CheckpointError, NoteError or
    ProofError, whichever part fails first.
    """
    proof = parse_proof(raw)
    checkpoint, note = open_checkpoint(proof.checkpoint, origin, verifiers)
    merkle.verify_inclusion(leaf_hash, proof.index, checkpoint.size, proof.path, checkpoint.root)
    return proof, checkpoint, note


def _path(lines: Sequence[str]) -> tuple[bytes, ...]:
    path = tuple(plain_base64(line, CheckpointError) for line in lines)
    if len(path) > _LONGEST_PATH or any(len(one) != merkle.HASH_BYTES for one in path):
        raise CheckpointError("a path of too many hashes, or one that is not 32 bytes")
    return path


def _decimal(text: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > merkle.LARGEST:
        raise CheckpointError("a number that is not plainly decimal, or too large")
    return int(text)


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()
