"""A Valkey or Redis cluster: one lane a call, each call to the primary that owns the lane's slot.

The map of slots is asked for (CLUSTER SLOTS) at the first call, when a node answers MOVED, and, at most twice a second,
after a node did not answer, for a failover may have moved its slots; a node that did not answer is asked last. MOVED
and ASK mean that nothing ran, so the command is sent on; nothing else is ever sent again. While a slot is being moved
its lane answers TRYAGAIN, which is `GuardUnavailable`. redis-py's asynchronous cluster client is not used: it closes
the connections of calls in flight whenever it asks for the map again, and its pipeline refuses EVALSHA.
"""

import asyncio
import binascii
from collections.abc import Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import hiredis

from gateway.guard.link import Argument
from gateway.guard.scripts import Script
from gateway.guard.server import GuardUnavailable, Wire, confirmed, evaluate, unavailable

SLOTS = 16384
MOVES = 3
"""How often one call follows MOVED or ASK before it gives up."""
SHARE = 0.6
"""Of the deadline that one exchange may take: what is late is condemned before the call as a whole ends."""
AGAIN_S = 0.5


def slot_of(key: bytes) -> int:
    """The slot of a key: of its hash tag, where it has one that is not empty."""
    start = key.find(b"{") + 1
    end = key.find(b"}", start) if start else -1
    return binascii.crc_hqx(key[start:end] if end > start else key, 0) % SLOTS


class Cluster:
    """See the module."""

    mixes_lanes = False

    def __init__(self, url: str, timeout_s: float) -> None:
        """`redis+cluster://[user:password@]host:port[,host:port…]` or `rediss+cluster`: any of its nodes will do."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        self._front = f"{parts.scheme.partition('+')[0]}://{login + '@' if login else ''}"
        self._known = hosts.split(",")
        self._timeout_s = timeout_s
        self._wires: dict[str, Wire] = {}
        self._confirming: dict[str, Wire] = {}
        self._owners: list[str | None] = []
        self._mapped_at = 0.0
        self._suspected = False
        self._asking = asyncio.Lock()

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA at the primary that has the keys' slot."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await evaluate(partial(self._routed, keys[0]), script, keys, args)
        except (hiredis.ReplyError, TimeoutError) as fault:
            raise unavailable(script.name, fault) from None

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA there, confirmed by a replica where there is one; a slot on the move is a fault here."""
        owner = await self._owner(slot_of(keys[0]))
        try:
            call = self._wire(self._confirming, owner).call
            return await confirmed(call, self._timeout_s * SHARE, script, keys, args)
        except GuardUnavailable:
            self._suspect(owner)
            raise
        except hiredis.ReplyError as fault:
            self._owners = []
            raise unavailable(script.name, fault) from None

    async def command(self, *args: Argument) -> Any:
        """One command whose first argument is a key."""
        key = args[1] if isinstance(args[1], bytes) else str(args[1]).encode()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._routed(key, *args)
        except (hiredis.ReplyError, TimeoutError) as fault:
            raise unavailable(args[0], fault) from None

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at each primary that owns a slot."""
        try:
            await self._owner(0)
            owners = sorted({owner for owner in self._owners if owner})
            return [await self._wire(self._wires, owner).call(*args) for owner in owners]
        except hiredis.ReplyError as fault:
            raise unavailable(args[0], fault) from None

    async def close(self) -> None:
        """Drop every link."""
        for wire in (*self._wires.values(), *self._confirming.values()):
            wire.close()

    # --- where a key lives -----------------------------------------------------------------------------------------

    async def _routed(self, key: bytes, *args: Argument) -> Any:
        slot, asking, address = slot_of(key), False, None
        for _ in range(MOVES):
            target = address or await self._owner(slot)
            try:
                return await self._wire(self._wires, target).call(*args, asking=asking)
            except GuardUnavailable:
                self._suspect(target)
                raise
            except hiredis.ReplyError as fault:
                word, _, rest = str(fault).partition(" ")
                if word not in {"MOVED", "ASK"}:
                    raise
                asking, address = word == "ASK", _named(rest.rpartition(" ")[2], target)
                if not asking:
                    self._owners = []
        raise GuardUnavailable(f"{args[0]!s}: the slot keeps moving")

    def _wire(self, wires: dict[str, Wire], address: str) -> Wire:
        wire = wires.get(address)
        if wire is None:
            wire = wires[address] = Wire(self._front + address, self._timeout_s * SHARE)
        return wire

    def _suspect(self, address: str) -> None:
        self._suspected = True
        if address in self._known:
            self._known.remove(address)
        self._known.append(address)

    def _outdated(self) -> bool:
        late = asyncio.get_running_loop().time() - self._mapped_at > AGAIN_S
        return not self._owners or (self._suspected and late)

    async def _owner(self, slot: int) -> str:
        if self._outdated():
            async with self._asking:
                if self._outdated():
                    await self._map()
        owner = self._owners[slot] if self._owners else None
        if owner is None:
            self._owners = []
            raise GuardUnavailable("no node owns the slot")
        return owner

    async def _map(self) -> None:
        """Learn the owner of each slot from the first node that answers; without an answer the old map stays."""
        for address in tuple(self._known):
            try:
                reply = await self._wire(self._wires, address).call("CLUSTER", "SLOTS")
            except (GuardUnavailable, hiredis.ReplyError):
                self._suspect(address)
                continue
            self._owners = _owners(reply, address)
            self._known = list(dict.fromkeys((*filter(None, self._owners), *self._known)))
            self._suspected, self._mapped_at = False, asyncio.get_running_loop().time()
            return
        if not self._owners:
            raise GuardUnavailable("CLUSTER SLOTS: no node answers")


def _owners(ranges: Sequence[Sequence[Any]], asked: str) -> list[str | None]:
    """The address of the primary of each slot, from the reply to CLUSTER SLOTS."""
    owners: list[str | None] = [None] * SLOTS
    for first, last, primary, *_ in ranges:
        host = (primary[0] or b"").decode()
        owners[first : last + 1] = [_named(f"{host}:{primary[1]}", asked)] * (last - first + 1)
    return owners


def _named(address: str, asked: str) -> str:
    """An address as a node gives it; a node that does not know its own host means the one it was asked at."""
    host, _, port = address.rpartition(":")
    host = host if host and host != "?" else asked.rpartition(":")[0]
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
