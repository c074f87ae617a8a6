"""Whether a server may be trusted with permissions: it must never evict, and small hashes must stay small.

A managed server may deny CONFIG; that is a problem too, with what to do about it. The operator may vouch for what
cannot be read, never against what was read.
"""

from collections.abc import Callable
from typing import Any

from gateway.contract.ids import LANES
from gateway.guard import keys
from gateway.guard.server import GuardUnavailable, Server

LISTPACK_VALUE = 512
UNREAD = (
    "allow `CONFIG GET` for this user, or set ASSENT_REDIS_TRUSTED=true "
    "if you vouch for maxmemory-policy noeviction and hash-max-listpack-value 512"
)


async def problems(server: Server, *, vouched: bool = False) -> list[str]:
    """Each problem in words; empty when there is none. Raises GuardUnavailable when the server does not answer at all.

    `vouched`: what the server will not tell is taken for right.
    """
    found: list[str] = []
    lanes = await server.command("SET", keys.LANES_CHECK, LANES, "NX", "GET")
    if lanes is not None and int(lanes) != LANES:
        found.append(f"this server was filled with {int(lanes)} lanes, this version has {LANES}: use another database")
    for name, holds, otherwise in SETTINGS:
        found += await _setting(server, name, holds, otherwise, vouched=vouched)
    return found


SETTINGS: tuple[tuple[str, Callable[[str], bool], str], ...] = (
    (
        "maxmemory-policy",
        lambda value: value == "noeviction",
        "must be `noeviction`: an evicted opt-out would be a permission",
    ),
    (
        "hash-max-listpack-value",
        lambda value: int(value) >= LISTPACK_VALUE,
        f"must be at least {LISTPACK_VALUE}: windows would cost four times the memory",
    ),
)


async def _setting(
    server: Server, name: str, holds: Callable[[str], bool], otherwise: str, *, vouched: bool
) -> list[str]:
    try:
        values = [_value(reply) for reply in await server.primaries("CONFIG", "GET", name)]
    except GuardUnavailable as fault:
        values, why = [""], f" ({fault})"
    else:
        why = ""
    unread = [] if vouched else [f"{name} could not be read{why}: {UNREAD}" for value in values if not value]
    return unread + [f"{name} is {value}: {otherwise}" for value in values if value and not holds(value)]


def _value(reply: Any) -> str:
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    value = reply[1] if reply else b""
    return value.decode() if isinstance(value, bytes) else str(value)
