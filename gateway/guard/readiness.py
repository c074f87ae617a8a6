"""Whether a server may be trusted with permissions: it must never evict, and small hashes must stay small.

A managed server may deny CONFIG; that is a problem too, with what to do about it, because nothing else tells an
evicting server from a safe one.
"""

from typing import Any

from gateway.contract.ids import LANES
from gateway.guard import keys
from gateway.guard.server import GuardUnavailable, Server

LISTPACK_VALUE = 512


async def problems(server: Server) -> list[str]:
    """Each problem in words; empty when there is none."""
    found: list[str] = []
    found += await _setting(
        server,
        "maxmemory-policy",
        lambda value: value == "noeviction",
        "must be `noeviction`: an evicted opt-out would be a permission",
    )
    found += await _setting(
        server,
        "hash-max-listpack-value",
        lambda value: int(value) >= LISTPACK_VALUE,
        f"must be at least {LISTPACK_VALUE}: windows would cost four times the memory",
    )
    lanes = await server.command("SET", keys.LANES_CHECK, LANES, "NX", "GET")
    if lanes is not None and int(lanes) != LANES:
        found.append(f"this server was filled with {int(lanes)} lanes, this version has {LANES}: use another database")
    return found


async def _setting(server: Server, name: str, holds: Any, otherwise: str) -> list[str]:
    try:
        replies = await server.primaries("CONFIG", "GET", name)
    except GuardUnavailable as fault:
        return [f"{name} could not be read ({fault}); where CONFIG is denied, allow `CONFIG GET` for this user"]
    values = [_value(reply) for reply in replies]
    return [f"{name} is {value or 'unknown'}: {otherwise}" for value in values if not value or not holds(value)]


def _value(reply: Any) -> str:
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    value = reply[1] if reply else b""
    return value.decode() if isinstance(value, bytes) else str(value)
