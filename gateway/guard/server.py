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

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from gateway.guard.scripts import Script

Argument = bytes | str | int
CONNECTIONS = 32
"""Of one process; callers beyond wait for a free one, within their deadline."""


class GuardUnavailable(Exception):  # noqa: N818 - it names a state, as the 503 does
    """Redis or Valkey did not answer, or not in time. Whether the call was carried out is not known."""


def _said(fault: BaseException) -> str:
    """What a fault may say in a log: its kind, the server's error word and the script's line, never an argument."""
    words = re.findall(r"^[A-Z]{2,}\b|user_script:\d+", str(fault))
    return " ".join((type(fault).__name__, *words))


class Server(Protocol):
    """What the guard needs of a server."""

    mixes_lanes: bool
    """Whether one call may touch several lanes."""

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA."""

    async def command(self, *args: Argument) -> Any:
        """One command, routed by its key where there is one."""

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at each primary."""

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA whose writes a replica has, where there is one; GuardUnavailable when it does not confirm."""

    async def close(self) -> None:
        """Close every connection."""


class _Bounded:
    """Deadlines, NOSCRIPT and one kind of exception, over either client."""

    def __init__(self, client: Any, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def _call(self, *args: Argument) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.execute_command(*args)
        except NoScriptError:
            raise
        except (RedisError, RedisClusterException, OSError, TimeoutError) as fault:
            raise GuardUnavailable(f"{args[0]!s}: {_said(fault)}") from None

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA; the script is loaded where the server does not know it, which runs nothing twice."""
        try:
            return await self._call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            await self._load(script)
        try:
            return await self._call("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            raise GuardUnavailable("EVALSHA: NoScriptError") from None

    async def _load(self, script: Script) -> None:
        await self._call("SCRIPT LOAD", script.text)

    async def command(self, *args: Argument) -> Any:
        return await self._call(*args)

    async def close(self) -> None:
        await self._client.aclose()


async def _run_replicated(client: Any, timeout_s: float, script: Script, keys: Sequence[bytes], args: Any) -> Any:
    """EVALSHA, ROLE and, where replicas are connected, WAIT: all on one connection, as WAIT needs it."""
    try:
        async with asyncio.timeout(timeout_s), client.client() as one:
            call = ("EVALSHA", script.sha, len(keys), *keys, *args)
            try:
                reply = await one.execute_command(*call)
            except NoScriptError:
                await one.execute_command("SCRIPT LOAD", script.text)
                reply = await one.execute_command(*call)
            role = await one.execute_command("ROLE")
            replicas = role[2] if len(role) > 2 else ()  # noqa: PLR2004 - master, offset, replicas
            if replicas and not await one.execute_command("WAIT", 1, int(timeout_s * 1000)):
                raise GuardUnavailable("WAIT: no replica confirmed")
            return reply
    except (RedisError, RedisClusterException, OSError, TimeoutError) as fault:
        raise GuardUnavailable(f"EVALSHA: {_said(fault)}") from None


class Standalone(_Bounded):
    """One server: a call may mix lanes."""

    mixes_lanes = True

    @classmethod
    def at(cls, url: str, timeout_s: float) -> "Standalone":
        """Connects at the first call."""
        client = Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=CONNECTIONS,
        )
        return cls(client, timeout_s)

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at the one server."""
        return [await self._call(*args)]

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA, confirmed by a replica where there is one."""
        return await _run_replicated(self._client, self._timeout_s, script, keys, args)


class Cluster(_Bounded):
    """A cluster: one lane a call."""

    mixes_lanes = False

    def __init__(self, client: Any, timeout_s: float, options: dict[str, Any]) -> None:
        super().__init__(client, timeout_s)
        self._options = options
        self._direct: dict[str, Redis] = {}

    @classmethod
    def at(cls, url: str, timeout_s: float) -> "Cluster":
        """`redis+cluster://[user:password@]host:port[,host:port…]`; asks the first that answers for the slots."""
        login, _, hosts = urlsplit(url).netloc.rpartition("@")
        nodes = [ClusterNode(host.rpartition(":")[0], int(host.rpartition(":")[2])) for host in hosts.split(",")]
        user, _, password = login.partition(":")
        options: dict[str, Any] = {
            "username": unquote(user) or None,
            "password": unquote(password) or None,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "max_connections": CONNECTIONS,
        }
        return cls(RedisCluster(startup_nodes=nodes, **options), timeout_s, options)

    async def _load(self, script: Script) -> None:
        await self.primaries("SCRIPT LOAD", script.text)

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at each primary."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.initialize()
                nodes = self._client.get_primaries()
                return [await self._client.execute_command(*args, target_nodes=node) for node in nodes]
        except (RedisError, RedisClusterException, OSError, TimeoutError) as fault:
            raise GuardUnavailable(f"{args[0]!s}: {_said(fault)}") from None

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA at the primary of the first key, confirmed by a replica where there is one."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._client.initialize()
        except (RedisError, RedisClusterException, OSError, TimeoutError) as fault:
            raise GuardUnavailable(f"EVALSHA: {_said(fault)}") from None
        node = self._client.get_node_from_key(keys[0])
        known = self._direct.get(node.name)
        if known is None:
            known = self._direct[node.name] = Redis(host=node.host, port=node.port, **self._options)
        try:
            return await _run_replicated(known, self._timeout_s, script, keys, args)
        except GuardUnavailable:
            await self._client.aclose()  # a moved slot looks like a fault here: the next call asks for the slots again
            raise

    async def close(self) -> None:
        """Close every connection, the direct ones too."""
        await super().close()
        for client in self._direct.values():
            await client.aclose()
