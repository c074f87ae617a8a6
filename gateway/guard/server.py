"""One Valkey or Redis, or a cluster of them, as the guard sees it: scripts and commands, each within a deadline.

Nothing is sent twice by this file: redis-py's own retries are off, because an admission that timed out may have been
carried out. Only a script the server does not know (NOSCRIPT: nothing ran) is loaded and sent again. Connections that
break are replaced at the next call; what was in flight on them fails with `GuardUnavailable`.
"""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import hiredis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from gateway.guard.link import Argument, Link, LinkLost, open_link
from gateway.guard.scripts import Script

CONNECTIONS = 32
"""Of one process to one node of a cluster."""
FAULTS = (RedisError, RedisClusterException, hiredis.HiredisError, LinkLost, OSError, TimeoutError)


class GuardUnavailable(Exception):  # noqa: N818 - it names a state, as the 503 does
    """Redis or Valkey did not answer, or not in time. Whether the call was carried out is not known."""


def _unavailable(name: Argument, fault: BaseException) -> GuardUnavailable:
    """What a fault may say in a log: its kind, the server's error word and the script's line, never an argument."""
    words = re.findall(r"^[A-Z]{2,}\b|user_script:\d+", str(fault))
    return GuardUnavailable(" ".join((f"{name!s}:", type(fault).__name__, *dict.fromkeys(words))))


def _unknown_script(fault: BaseException) -> bool:
    return isinstance(fault, NoScriptError) or str(fault).startswith("NOSCRIPT")


class Server(Protocol):
    """What the guard needs of a server. Everything raises GuardUnavailable."""

    mixes_lanes: bool
    """Whether one call may touch several lanes."""

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA."""

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA whose writes a replica has confirmed, where there is one."""

    async def command(self, *args: Argument) -> Any:
        """One command, routed by its key where there is one."""

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at each primary."""

    async def close(self) -> None:
        """Close every connection."""


class _Wire:
    """One link at a time, opened when needed; every call ends within the deadline."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._link: Link | None = None
        self._opening = asyncio.Lock()

    async def call(self, *args: Argument) -> Any:
        """One command. On a fault the link is dropped: see `link.py` for why a late reply condemns it."""
        link = self._link
        try:
            async with asyncio.timeout(self._timeout_s):
                if link is None or link.lost:
                    link = await self._open()
                return await link.send(args)
        except hiredis.ReplyError as fault:
            if _unknown_script(fault):
                raise
            raise _unavailable(args[0], fault) from None
        except FAULTS as fault:
            if isinstance(fault, TimeoutError) and link is not None:
                link.drop()
            raise _unavailable(args[0], fault) from None

    async def _open(self) -> Link:
        async with self._opening:
            if self._link is None or self._link.lost:
                self._link = await open_link(self._url)
            return self._link

    async def script(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA; a script the server does not know is loaded first, and nothing runs twice."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except hiredis.ReplyError:
            await self.call("SCRIPT", "LOAD", script.text)
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except hiredis.ReplyError as fault:
            raise _unavailable("EVALSHA", fault) from None

    async def confirmed(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """EVALSHA, ROLE and, where replicas are connected, WAIT: on one connection, as WAIT needs it."""
        reply = await self.script(script, keys, args)
        role = await self.call("ROLE")
        replicas = role[2] if len(role) > 2 else ()  # noqa: PLR2004 - master, offset, replicas
        if replicas and not await self.call("WAIT", 1, max(1, int(self._timeout_s * 800))):
            raise GuardUnavailable("WAIT: no replica confirmed")
        return reply

    def close(self) -> None:
        """Drop the link."""
        if self._link is not None:
            self._link.drop()


class Standalone:
    """One server: a call may mix lanes. Two links: WAIT holds up whatever shares its connection."""

    mixes_lanes = True

    def __init__(self, url: str, timeout_s: float) -> None:
        self._main = _Wire(url, timeout_s)
        self._confirming = _Wire(url, timeout_s)

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA."""
        return await self._main.script(script, keys, args)

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA, confirmed by a replica where there is one."""
        return await self._confirming.confirmed(script, keys, args)

    async def command(self, *args: Argument) -> Any:
        """One command."""
        return await self._main.call(*args)

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at the one server."""
        return [await self._main.call(*args)]

    async def close(self) -> None:
        """Drop both links."""
        self._main.close()
        self._confirming.close()


class Cluster:
    """A cluster: one lane a call. redis-py follows the slots; confirmed writes have a link to each primary."""

    mixes_lanes = False

    def __init__(self, url: str, timeout_s: float) -> None:
        """`redis+cluster://[user:password@]host:port[,host:port…]`: asks the first that answers for the slots."""
        self._login, _, hosts = urlsplit(url).netloc.rpartition("@")
        user, _, password = self._login.partition(":")
        self._client: Any = RedisCluster(
            startup_nodes=[
                ClusterNode(host.rpartition(":")[0], int(host.rpartition(":")[2])) for host in hosts.split(",")
            ],
            username=unquote(user) or None,
            password=unquote(password) or None,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=CONNECTIONS,
        )
        self._timeout_s = timeout_s
        self._confirming: dict[str, _Wire] = {}

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA at the primary that has the keys' slot."""
        try:
            return await self._call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            await self.primaries("SCRIPT LOAD", script.text)
        try:
            return await self._call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError as fault:
            raise _unavailable("EVALSHA", fault) from None

    async def _call(self, *args: Argument) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.execute_command(*args)
        except NoScriptError:
            raise
        except FAULTS as fault:
            raise _unavailable(args[0], fault) from None

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA at the primary of the first key, confirmed by a replica where there is one."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.initialize()
        except FAULTS as fault:
            raise _unavailable("EVALSHA", fault) from None
        node = self._client.get_node_from_key(keys[0])
        wire = self._confirming.get(node.name)
        if wire is None:
            address = f"{self._login}@{node.host}:{node.port}" if self._login else f"{node.host}:{node.port}"
            wire = self._confirming[node.name] = _Wire(f"redis://{address}", self._timeout_s)
        try:
            return await wire.confirmed(script, keys, args)
        except GuardUnavailable:
            await self._client.aclose()  # a moved slot looks like a fault here: the next call asks for the slots again
            raise

    async def command(self, *args: Argument) -> Any:
        """One command at the primary that has the key's slot."""
        return await self._call(*args)

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at each primary."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.initialize()
                nodes = self._client.get_primaries()
                return [await self._client.execute_command(*args, target_nodes=node) for node in nodes]
        except FAULTS as fault:
            raise _unavailable(args[0], fault) from None

    async def close(self) -> None:
        """Close every connection."""
        for wire in self._confirming.values():
            wire.close()
        await self._client.aclose()
