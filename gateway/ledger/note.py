r"""Signed notes, C2SP signed-note at commit 5ba5ee8: a text, and lines that say who signed it.

Two kinds of key: Ed25519 (type 0x01), which signs the text as it is, and the timestamped cosignature of C2SP
tlog-cosignature (type 0x04), which signs `cosignature/v1\ntime <t>\n` and the text. A note is read strictly: what is
not exactly of the form is refused as a whole, so no two readers can see different texts in the same bytes.

Keys are texts: a verifier key (vkey) is `<name>+<key id, 8 hex>+<base64 of type and public key>`, a signer key (skey)
`PRIVATE+KEY+<name>+<key id>+<base64 of type and seed>`. No repr and no text of an exception holds an skey.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = 0x01
COSIGNATURE = 0x04
LARGEST_NOTE = 1_000_000
MOST_SIGNATURES = 100

_ALGORITHMS = frozenset({ED25519, COSIGNATURE})
_PRIVATE = "PRIVATE+KEY+"
_DASH = "\u2014 "
_KEY_BYTES = 32
_ID_BYTES = 4
_SIGNATURE_BYTES = 64
_TIME_BYTES = 8
_LATEST_S = 2**63 - 1
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_ID = re.compile(r"[0-9a-f]{8}")


class NoteError(ValueError):
    """A note or a key is malformed, or nobody known has signed; the text says which."""


class Signature(NamedTuple):
    """A line below a note. `key_id` is the number whose hex is in the vkey, `raw` what follows it in the line."""

    name: str
    key_id: int
    raw: bytes
    time_s: int | None = None
    """When a verified cosignature was made, Unix seconds; none for any other."""

    def line(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {_base64(self.key_id.to_bytes(_ID_BYTES, 'big') + self.raw)}\n"


class Note(NamedTuple):
    """A text that somebody known has signed. `unverified` are lines of unknown keys: they say nothing."""

    text: str
    verified: tuple[Signature, ...]
    unverified: tuple[Signature, ...]


class Verifier:
    """A public key under a name, from its vkey."""

    __slots__ = ("_public", "algorithm", "key_id", "name")

    def __init__(self, vkey: str) -> None:
        """Raise NoteError unless the vkey is whole, of a known type, and its id is its own."""
        name, key_id, key = _parts(vkey, "a verifier key")
        self.name, self.key_id, self.algorithm = name, key_id, key[0]
        if key_id != _key_id(name, key):
            raise NoteError(f"the verifier key of {name} does not have the id it states")
        self._public = Ed25519PublicKey.from_public_bytes(key[1:])

    def __repr__(self) -> str:
        return f"Verifier({str(self)!r})"

    def __str__(self) -> str:
        return _vkey(self.name, bytes([self.algorithm]) + self._public.public_bytes_raw())

    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public.public_bytes_raw()

    def verify(self, text: str, raw: bytes) -> int | None:
        """The time of a cosignature, none for a plain signature. Raise NoteError unless this key signed the text."""
        time_s, signature = None, raw
        if self.algorithm == COSIGNATURE:
            time_s, signature = int.from_bytes(raw[:_TIME_BYTES], "big"), raw[_TIME_BYTES:]
        if len(signature) != _SIGNATURE_BYTES or (time_s or 0) > _LATEST_S:
            raise NoteError(f"a signature of {self.name} is malformed")
        try:
            self._public.verify(signature, _message(text, time_s))
        except InvalidSignature:
            raise NoteError(f"a signature of {self.name} does not verify") from None
        return time_s


class Signer:
    """A private key under a name, from its skey."""

    __slots__ = ("_private", "algorithm", "key_id", "name")

    def __init__(self, skey: str) -> None:
        """Raise NoteError, which never holds the key, unless it is whole, of a known type, and its id is its own."""
        if not skey.startswith(_PRIVATE):
            raise NoteError("a signer key begins with PRIVATE+KEY+")
        self.name, self.key_id, key = _parts(skey.removeprefix(_PRIVATE), "a signer key")
        self.algorithm = key[0]
        self._private = Ed25519PrivateKey.from_private_bytes(key[1:])
        if self.key_id != _key_id(self.name, self._public()):
            raise NoteError(f"the signer key of {self.name} does not have the id it states")

    def __repr__(self) -> str:
        return f"Signer({self.name!r}, …)"

    def vkey(self) -> str:
        """The verifier key, which is public."""
        return _vkey(self.name, self._public())

    def sign(self, text: str, time_s: int | None = None) -> Signature:
        """A signature of the text; `time_s`, Unix seconds, for a cosigner and for nobody else (else ValueError)."""
        if (time_s is None) == (self.algorithm == COSIGNATURE):
            raise ValueError("a cosignature, and nothing else, has a time")
        if time_s is not None and not 0 <= time_s <= _LATEST_S:
            raise ValueError("a time before 1970, or impossibly late")
        stamp = b"" if time_s is None else time_s.to_bytes(_TIME_BYTES, "big")
        return Signature(self.name, self.key_id, stamp + self._private.sign(_message(text, time_s)), time_s)

    def _public(self) -> bytes:
        return bytes([self.algorithm]) + self._private.public_key().public_bytes_raw()


def generate(name: str, algorithm: int = ED25519, seed: bytes | None = None) -> tuple[str, str]:
    """A new key as (skey, vkey). The seed, 32 bytes, comes from the system unless one is given."""
    if not valid_name(name) or algorithm not in _ALGORITHMS:
        raise NoteError("no name or no type of a key")
    private = Ed25519PrivateKey.from_private_bytes(os.urandom(_KEY_BYTES) if seed is None else seed)
    kind = bytes([algorithm])
    public = kind + private.public_key().public_bytes_raw()
    skey = f"{_PRIVATE}{name}+{_key_id(name, public):08x}+{_base64(kind + private.private_bytes_raw())}"
    return skey, _vkey(name, public)


def sign(text: str, signers: Sequence[Signer]) -> bytes:
    """The note with these (plain, not timestamped) signatures. The text ends in a newline."""
    _check_text(text)
    if not signers:
        raise NoteError("a note has a signature")
    return f"{text}\n{''.join(signer.sign(text).line() for signer in signers)}".encode()


def add_signature(raw: bytes, signatures: Iterable[Signature]) -> bytes:
    """The note with further lines, in this order; a line of a name and key id that it has already is left out."""
    _, lines = split(raw)
    known = {(line.name, line.key_id) for line in lines}
    for one in signatures:
        if (one.name, one.key_id) not in known:
            known.add((one.name, one.key_id))
            raw += one.line().encode()
    return raw


def open_note(raw: bytes, verifiers: Iterable[Verifier]) -> Note:
    """The text, and who signed it.

    Raise NoteError when the note is malformed, when a known key's signature does not verify, and when no known key
    signed. A second line of the same name and key id is not looked at.
    """
    known = _by_id(verifiers)
    text, lines = split(raw)
    verified: dict[tuple[str, int], Signature] = {}
    unverified: dict[Signature, None] = {}
    for line in lines:
        verifier = known.get((line.name, line.key_id))
        if verifier is None:
            unverified[line] = None
        elif (line.name, line.key_id) not in verified:
            verified[line.name, line.key_id] = line._replace(time_s=verifier.verify(text, line.raw))
    if not verified:
        raise NoteError("the note has no signature of a known key")
    return Note(text, tuple(verified.values()), tuple(unverified))


def split(raw: bytes) -> tuple[str, list[Signature]]:
    """The text of a note and its lines, none of them verified. Raise NoteError for anything malformed."""
    if len(raw) > LARGEST_NOTE:
        raise NoteError("the note is too large")
    try:
        whole = raw.decode()
    except UnicodeDecodeError:
        raise NoteError("the note is not UTF-8") from None
    text, blank, below = whole.rpartition("\n\n")
    if not blank or not below.endswith("\n"):
        raise NoteError("the note has no signatures below an empty line")
    _check_text(text + "\n")
    lines = signature_lines(below)
    if len(lines) > MOST_SIGNATURES:
        raise NoteError("the note has too many signatures")
    return text + "\n", lines


def signature_lines(below: str) -> list[Signature]:
    """Signature lines by themselves, as a witness answers them. Raise NoteError for anything malformed."""
    if not below.endswith("\n"):
        raise NoteError("the last signature line has no end")
    return [_signature(line) for line in below[:-1].split("\n")]


def valid_name(name: str) -> bool:
    """Whether a key may have this name: not empty, no space of Unicode, no plus, no control character."""
    return bool(name) and "+" not in name and not _CONTROL.search(name) and not any(one.isspace() for one in name)


def plain_base64(text: str, error: type[ValueError] = NoteError) -> bytes:
    """What standard base64 (RFC 4648 §4) stands for; only the one spelling that encoding gives is taken."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise error("malformed base64") from None
    if _base64(value) != text:
        raise error("base64 in another spelling than its own")
    return value


def _signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not valid_name(name):
        raise NoteError("a signature line is malformed")
    value = plain_base64(encoded)
    if len(value) <= _ID_BYTES:
        raise NoteError("a signature line is too short")
    return Signature(name, int.from_bytes(value[:_ID_BYTES], "big"), value[_ID_BYTES:])


def _parts(key: str, what: str) -> tuple[str, int, bytes]:
    """Name, stated id, and type and key of a vkey, or of an skey without its prefix."""
    name, _, rest = key.partition("+")
    key_id, _, encoded = rest.partition("+")
    if not valid_name(name) or not _KEY_ID.fullmatch(key_id):
        raise NoteError(f"{what} is malformed")
    value = plain_base64(encoded)
    if len(value) != 1 + _KEY_BYTES or value[0] not in _ALGORITHMS:
        raise NoteError(f"{what} is of an unknown type or length")
    return name, int(key_id, 16), value


def _by_id(verifiers: Iterable[Verifier]) -> dict[tuple[str, int], Verifier]:
    known: dict[tuple[str, int], Verifier] = {}
    for verifier in verifiers:
        other = known.setdefault((verifier.name, verifier.key_id), verifier)
        if str(other) != str(verifier):
            raise NoteError(f"two keys of {verifier.name} have the same id")
    return known


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("a note's text ends in a newline")
    if _CONTROL.search(text):
        raise NoteError("a note has no control characters")


def _message(text: str, time_s: int | None) -> bytes:
    return (text if time_s is None else f"cosignature/v1\ntime {time_s}\n{text}").encode()


def _key_id(name: str, public: bytes) -> int:
    """Of a type byte and public key: SHA-256(name || 0x0A || type || key)[:4]."""
    return int.from_bytes(hashlib.sha256(name.encode() + b"\n" + public).digest()[:_ID_BYTES], "big")


def _vkey(name: str, public: bytes) -> str:
    return f"{name}+{_key_id(name, public):08x}+{_base64(public)}"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
