"""What an accepted message is answered, and the form in which a record keeps it for a retry of the same key."""

from functools import lru_cache
from typing import NamedTuple

import msgpack

from gateway.contract.decision import Basis
from gateway.guard import Verdict
from gateway.intake.prepare import Route


class Answer(NamedTuple):
    """The 202: the message is durable. `release_at_ms` where it is held; `entry` is the ledger entry relied on."""

    id: str
    status: str
    release_at_ms: int | None
    parts: int
    basis: Basis
    entry: int | None
    pack: str
    replayed: bool = False


@lru_cache(maxsize=1024)
def store(release_at_ms: int | None, parts: int, pack: str) -> bytes:
    """What the record keeps beside its own state, entry and basis. Of what is not held there are few."""
    packed: bytes = msgpack.packb((release_at_ms, parts, pack))
    return packed


def recall(kept: bytes) -> tuple[int | None, int, str]:
    """What `store` kept: release time, parts, pack."""
    release_at_ms, parts, pack = msgpack.unpackb(kept)
    return release_at_ms, parts, pack


def basis_of(route: Route, verdict: Verdict | None) -> Basis:
    """What permitted it: the plan's basis, unless the state key that was found says that it was the other one."""
    if verdict is not None and verdict.basis_key is not None:
        return Basis.RELATIONSHIP if verdict.basis_key in route.plan.relationships else Basis.CONSENT
    return route.plan.basis
