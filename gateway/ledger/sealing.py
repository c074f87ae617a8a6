"""What messages said, and to which number, sealed at rest.

AES-256-GCM (NIST SP 800-38D) under a key of the message's UTC day, which comes from the master key by HKDF-Expand: a
copy of the database alone opens nothing. A nonce is random, for an id may be sealed twice; a day holds far fewer
messages than the 2^32 that such a key may seal. What is sealed is bound to its id, so no row passes for another's.
Sealed: a version, the nonce, then the number, a NUL and the text, in UTF-8, with the tag.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.ledger.keys import NONCE_BYTES, Keys

DAY_MS = 86_400_000
VERSION = b"\x01"
MOST_DAYS = 400
"""Keys of so many days are kept in memory: a search over all that is kept derives each once."""


class Contents:
    """Seals and opens; `id16` is a message id's 16 bytes."""

    __slots__ = ("_boxes", "_keys")

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._boxes: dict[int, AESGCM] = {}

    def __repr__(self) -> str:
        return "Contents(…)"

    def seal(self, id16: bytes, number: str, text: str) -> bytes:
        """A row's sealed value."""
        nonce = os.urandom(NONCE_BYTES)
        plain = f"{number}\0{text}".encode("utf-8", "surrogatepass")
        return VERSION + nonce + self._box(id16).encrypt(nonce, plain, id16)

    def open(self, id16: bytes, sealed: bytes) -> tuple[str, str] | None:
        """Number and text; none when it does not open: damaged, another message's, or another installation's."""
        if sealed[:1] != VERSION:
            return None
        nonce, rest = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            plain = self._box(id16).decrypt(nonce, rest, id16)
        except (InvalidTag, ValueError):
            return None
        number, _, text = plain.decode("utf-8", "surrogatepass").partition("\0")
        return number, text

    def _box(self, id16: bytes) -> AESGCM:
        day = int.from_bytes(id16[:6], "big") // DAY_MS
        box = self._boxes.get(day)
        if box is None:
            if len(self._boxes) >= MOST_DAYS:
                self._boxes.clear()
            box = self._boxes[day] = self._keys.content_box(day)
        return box
