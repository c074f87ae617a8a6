"""A Valkey or Redis cluster: one lane a call, each call to the primary that owns the lane's slot.

redis-py keeps the map of slots (`NodesManager`) and reads MOVED and ASK; calls go over our links. Its `RedisCluster` is
not used whole: it closes calls in flight at healthy nodes, may send ASKING on another connection than its command, has
no WAIT on the connection that wrote, and costs two to five times the Python (docs/decisions/0016).

The map is read at the first call and, at most twice a second, after a slot moved or a node did not answer, for a
failover may have moved its slots; that node is asked last. MOVED and ASK mean that nothing ran, so the command is sent
on; nothing else is ever sent again. While a slot is being moved its lane answers TRYAGAIN, which is `GuardUnavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.cluster import PRIMARY
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisClusterException, ResponseError, SlotNotCoveredError

from gateway.guard.link import Argument, Command, address
from gateway.guard.scripts import Script
from gateway.guard.server import GuardUnavailable, Wire, confirmed, evaluate, scanned, unavailable

MOVES = 3
"""How often one call follows MOVED or ASK before it gives up."""
SHARE = 0.6
"""Of the deadline that one exchange may take: what is late is condemned before the call as a whole ends."""
AGAIN_S = 0.5


class Cluster:
    """See the module."""

    mixes_lanes = False

    def __init__(self, url: str, timeout_s: float) -> None:
        """`redis+cluster://[user:password@]host:port[,host:port…]` or `rediss+cluster`: any of its nodes will do."""
        self._timeout_s = timeout_s
        self._to, hosts = _addresses(url)
        late = timeout_s * SHARE
        reading = self._to | {"protocol": 2, "socket_timeout": late, "socket_connect_timeout": late}
        given = [ClusterNode(host, port, **reading) for host, port in hosts]
        self._given = {node.name: node for node in given}
        self._map = NodesManager(
            given, require_full_coverage=False, connection_kwargs=reading, dynamic_startup_nodes=False
        )
        self._wires: dict[str, Wire] = {}
        self._confirming: dict[str, Wire] = {}
        self._mapped_at = -AGAIN_S
        self._suspected = True
        self._silent: str | None = None
        self._asking = asyncio.Lock()

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA at the primary that has the keys' slot."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await evaluate(partial(self._routed, keys[0]), script, keys, args)
        except (ResponseError, TimeoutError) as fault:
            raise unavailable(script.name, fault) from None

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA there, confirmed by a replica where there is one; a slot on the move is a fault here."""
        owner = await self._owner(keys[0])
        try:
            call = self._wire(self._confirming, owner).call
            return await confirmed(call, self._timeout_s * SHARE, script, keys, args)
        except GuardUnavailable:
            self._suspect(owner)
            raise
        except ResponseError as fault:
            if isinstance(fault, MovedError):
                await self._moved(fault, owner)
            raise unavailable(script.name, fault) from None

    async def command(self, *args: Argument) -> Any:
        """One command whose first argument is a key."""
        key = args[1] if isinstance(args[1], bytes) else str(args[1]).encode()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._routed(key, *args)
        except (ResponseError, TimeoutError) as fault:
            raise unavailable(args[0], fault) from None

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at each primary that owns a slot."""
        await self._current()
        return [await self._at(node, *args) for node in self._primaries()]

    async def scan(self, pattern: bytes, count: int) -> AsyncIterator[list[bytes]]:
        """The names of one primary after another."""
        await self._current()
        for node in self._primaries():
            async for names in scanned(partial(self._at, node), pattern, count):
                yield names

    def _primaries(self) -> list[ClusterNode]:
        return sorted(self._map.get_nodes_by_server_type(PRIMARY), key=lambda node: node.name)

    async def _at(self, node: ClusterNode, *args: Argument) -> Any:
        try:
            return await self._wire(self._wires, node).call(*args)
        except GuardUnavailable:
            self._suspect(node)
            raise
        except ResponseError as fault:
            raise unavailable(args[0], fault) from None

    async def close(self) -> None:
        """Close every link."""
        for wire in (*self._wires.values(), *self._confirming.values()):
            await wire.close()
        await self._map.aclose()
        await self._map.aclose("startup_nodes")

    # --- where a key lives -----------------------------------------------------------------------------------------

    async def _routed(self, key: bytes, *args: Argument) -> Any:
        asked: ClusterNode | None = None
        for _ in range(MOVES):
            node = asked or await self._owner(key)
            commands: tuple[Command, ...] = (("ASKING",), args) if asked else (args,)
            try:
                return await self._wire(self._wires, node).calls(*commands)
            except GuardUnavailable:
                self._suspect(node)
                raise
            except MovedError as fault:
                await self._moved(fault, node)
                asked = None
            except AskError as fault:
                asked = ClusterNode(fault.host or node.host, fault.port)
        raise GuardUnavailable(f"{args[0]!s}: the slot keeps moving")

    def _wire(self, wires: dict[str, Wire], node: ClusterNode) -> Wire:
        wire = wires.get(node.name)
        if wire is None:
            to = self._to | {"host": node.host, "port": node.port}
            wire = wires[node.name] = Wire(to, self._timeout_s * SHARE)
        return wire

    async def _owner(self, key: bytes) -> ClusterNode:
        await self._current()
        try:
            return self._map.get_node_from_slot(key_slot(key))
        except (SlotNotCoveredError, KeyError):
            self._suspected = True
            raise GuardUnavailable("no node owns the slot") from None

    async def _moved(self, fault: MovedError, asked: ClusterNode) -> None:
        """Take the new owner over; the rest of the map may be outdated too."""
        self._suspected = True
        fault.host = fault.host or asked.host  # a node that does not know its own host means the one it was asked at
        if fault.slot_id in self._map.slots_cache:
            await self._map.move_slot(fault)

    def _suspect(self, node: ClusterNode) -> None:
        self._suspected, self._silent = True, node.name

    def _outdated(self) -> bool:
        return self._suspected and asyncio.get_running_loop().time() - self._mapped_at > AGAIN_S

    async def _current(self) -> None:
        if self._outdated():
            async with self._asking:
                if self._outdated():
                    await self._read()

    async def _read(self) -> None:
        """Learn the owner of each slot from the first node that answers; without an answer the old map stays."""
        self._map.startup_nodes = self._map.nodes_cache | self._given
        try:
            await self._map.initialize(last_failed_node_name=self._silent)
            self._suspected, self._silent = False, None
        except RedisClusterException:
            if not self._map.slots_cache:
                raise GuardUnavailable("CLUSTER SLOTS: no node answers") from None
        finally:
            self._mapped_at = asyncio.get_running_loop().time()


def _addresses(url: str) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    """What all nodes have in common, and the host and port of each that the address names."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    front = f"{parts.scheme.removesuffix('+cluster')}://{login}{at}"
    nodes = [address(f"{front}{host}?{parts.query}") for host in hosts.split(",")]
    shared = {name: value for name, value in nodes[0].items() if name not in {"host", "port", "db"}}
    return shared, [(node.get("host", "127.0.0.1"), node.get("port", 6379)) for node in nodes]
