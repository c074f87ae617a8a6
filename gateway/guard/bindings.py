"""Idempotency keys: which message id a client's key stands for."""

from typing import NamedTuple

from gateway.guard import keys

DAY_MS = 86_400_000


class Binding(NamedTuple):
    """A key to bind. `digest` is a keyed HMAC of client and key; its first byte gives the lane."""

    digest: bytes
    id: str
    """The id this message gets if the key is new; make it in the *recipient's* lane."""
    fingerprint: bytes
    """Of the body, of one length everywhere (16 bytes will do)."""
    ttl_ms: int = DAY_MS

    def value(self) -> bytes:
        """What is stored: the id's bytes, then the fingerprint."""
        return keys.raw_id(self.id) + self.fingerprint


class Bound(NamedTuple):
    """What stands for the key now."""

    id: str
    fresh: bool
    """Bound by this call."""
    conflict: bool
    """Bound before, to another body."""


def bound(binding: Binding, earlier: bytes | None) -> Bound:
    """The answer from what was stored before, if anything."""
    if earlier is None:
        return Bound(binding.id, fresh=True, conflict=False)
    return Bound(keys.text_id(earlier[:16]), fresh=False, conflict=earlier[16:] != binding.fingerprint)
