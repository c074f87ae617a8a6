"""Names of messages, recipients and lanes.

A *subject* is the only name of a recipient outside a message's own content:
`HMAC-SHA256(pepper, E.164)` truncated to 16 bytes, written as 32 hex digits (as its 16 raw bytes in Redis keys).
A *lane* is one of 16 shards; a subject's first byte gives it, and a message id carries it in its last hex digit,
so that a receipt or a GET finds the recipient's lane from the id alone.
"""

import hashlib
import hmac
import os
import time

LANES = 16
"""Fixed for the life of an installation; stored in PostgreSQL and Redis and compared at start."""


def subject_of(pepper: bytes, number: str) -> bytes:
    """The 16-byte subject of an E.164 number."""
    return hmac.digest(pepper, number.encode(), hashlib.sha256)[:16]


CONTENT = "content:"
"""What begins the id of a reply to which its carrier gave none."""


def content_id(pepper: bytes, subject: bytes, port: str, text: str, at_ms: int) -> str:
    """An id for a reply without one: a keyed digest of who wrote what to which port, and when (Unix ms)."""
    told = b"\0".join((b"reply", subject, port.encode(), text.encode("utf-8", "surrogatepass")))
    return f"{CONTENT}{hmac.digest(pepper, told, hashlib.sha256).hex()[:32]}:{at_ms}"


def lane_of(digest: bytes) -> int:
    """The lane of a subject or of any other keyed digest."""
    return digest[0] & 15


def lane_of_id(message_id: str) -> int:
    """The lane embedded in a message id's last hex digit."""
    return int(message_id[-1], 16)


class _Tails:
    """Random hex digits, from the operating system in blocks: one call for each id costs more than the rest."""

    __slots__ = ("_at", "_block")

    def __init__(self) -> None:
        self._block, self._at = "", 0
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """A child process must not draw what its parent draws."""
        self._block, self._at = "", 0

    def draw(self) -> str:
        """18 hex digits: 72 random bits."""
        at = self._at
        if at >= len(self._block):
            self._block, at = os.urandom(9 * 512).hex(), 0
        self._at = at + 18
        return self._block[at : at + 18]


_draw = _Tails().draw
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit with the variant's two bits in front of two random ones."""


def new_id(lane: int, now_ms: int | None = None) -> str:
    """A UUIDv7 (RFC 9562 §5.7) whose last four random bits are the lane. `now_ms` is Unix time in milliseconds."""
    ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    time_, tail = f"{ms & 0xFFFF_FFFF_FFFF:012x}", _draw()
    return f"{time_[:8]}-{time_[8:]}-7{tail[:3]}-{_VARIANT[tail[3]]}{tail[4:7]}-{tail[7:]}{lane:x}"


def id_time_ms(message_id: str) -> int:
    """The Unix time in milliseconds at which a message id was made."""
    return int(message_id[:8] + message_id[9:13], 16)


def mask(number: str) -> str:
    """A number as logs and traces may show it: the first digits and the last two."""
    head, tail = number[:4], number[-2:]
    return head + "*" * (len(number) - 6) + tail if len(number) > len(head + tail) else "***"
