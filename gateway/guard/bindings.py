"""Idempotency keys: which message id a client's key stands for."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.contract.ids import lane_of
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
    repeats: bytes = b""
    """Of what was bound before: `Bound.repeats`. Only the last to bind it may unbind it."""

    def value(self) -> bytes:
        """What is stored: the id's bytes, then the fingerprint, then how often it was repeated."""
        return keys.raw_id(self.id) + self.fingerprint + self.repeats


class Bound(NamedTuple):
    """What stands for the key now."""

    id: str
    fresh: bool
    """Bound by this call."""
    conflict: bool
    """Bound before, to another body."""
    cold: bool = False
    """Nothing was bound: the lane is empty or being filled, and an earlier binding may not be back yet."""
    repeats: bytes = b""


def pack(bindings: Sequence[Binding]) -> tuple[list[bytes], list[bytes | int]]:
    """KEYS and ARGV of one call of `bind.lua`."""
    lanes: dict[int, int] = {}
    args: list[bytes | int] = [len(bindings)]
    for item in bindings:
        args += (item.value(), item.ttl_ms, lanes.setdefault(lane_of(item.digest), len(lanes) + 1))
    names = [keys.BINDING[item.digest[0]] + item.digest for item in bindings]
    return names + [keys.CURSOR[lane] for lane in lanes], args


def bound(binding: Binding, earlier: bytes | int | None) -> Bound:
    """The answer from what was stored before, if anything."""
    if isinstance(earlier, int):
        return Bound(binding.id, fresh=False, conflict=False, cold=True)
    if earlier is None:
        return Bound(binding.id, fresh=True, conflict=False)
    end = 16 + len(binding.fingerprint)
    conflict = earlier[16:end] != binding.fingerprint
    return Bound(keys.text_id(earlier[:16]), fresh=False, conflict=conflict, repeats=earlier[end:])
