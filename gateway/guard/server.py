"""One Valkey or Redis as the guard sees it: scripts and commands, each within a deadline. `cluster.py`: several.

Nothing is sent twice by these two files: an admission that timed out may have been carried out. Only what a server
refused to run (NOSCRIPT, and a cluster's MOVED and ASK) is sent again. A connection that broke is replaced at the next
call; what was in flight on it fails with `GuardUnavailable`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.guard.link import Argument, Command, Link, LinkLost, address, open_link
from gateway.guard.scripts import Script

FAULTS = (RedisError, LinkLost, OSError, TimeoutError)
Call = Callable[..., Awaitable[Any]]


class GuardUnavailable(Exception):  # noqa: N818 - it names a state, as the 503 does
    """Redis or Valkey did not answer, or not in time. Whether the call was carried out is not known."""


def unavailable(name: Argument, fault: BaseException) -> GuardUnavailable:
    """What a fault may say in a log: its kind, the server's error word and the script's line, never an argument."""
    said = f"{getattr(fault, 'status_code', None) or ''} {fault}".lstrip()
    words = re.findall(r"^[A-Z]{2,}\b|user_script:\d+", said)
    beneath = (
        fault.__context__ if isinstance(fault.__context__, OSError) else fault
    )  # redis-py wraps what connecting raised
    return GuardUnavailable(" ".join((f"{name!s}:", type(beneath).__name__, *dict.fromkeys(words))))


class Server(Protocol):
    """What the guard needs of a server. Everything raises GuardUnavailable."""

    mixes_lanes: bool
    """Whether one call may touch several lanes."""

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA."""

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA whose writes a replica has confirmed, where there is one."""

    async def command(self, *args: Argument) -> Any:
        """One command; where there are several servers its first argument is a key."""

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at each primary."""

    def scan(self, pattern: bytes, count: int) -> AsyncIterator[list[bytes]]:
        """The names that match, of every primary: SCAN, about `count` keys looked at each time."""

    async def close(self) -> None:
        """Close every connection."""


async def scanned(call: Call, pattern: bytes, count: int) -> AsyncIterator[list[bytes]]:
    """One server's names, by a SCAN from its beginning to its end; `call` says what it raises."""
    cursor: Argument = b"0"
    while True:
        cursor, names = await call("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        yield names
        if cursor == b"0":
            return


async def evaluate(call: Call, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
    """One EVALSHA through `call`; a script the server does not know is loaded first, so nothing runs twice."""
    try:
        return await call("EVALSHA", script.sha, len(keys), *keys, *args)
    except NoScriptError:
        pass
    await call("SCRIPT", "LOAD", script.text)
    return await call("EVALSHA", script.sha, len(keys), *keys, *args)


async def confirmed(
    call: Call, timeout_s: float, script: Script, keys: Sequence[bytes], args: Sequence[Argument]
) -> Any:
    """EVALSHA, ROLE and, where replicas are connected, WAIT: `call` is one connection, as WAIT needs it."""
    reply = await evaluate(call, script, keys, args)
    role = await call("ROLE")
    replicas = role[2] if len(role) > 2 else ()  # noqa: PLR2004 - master, offset, replicas
    if replicas and not await call("WAIT", 1, max(1, int(timeout_s * 800))):
        raise GuardUnavailable("WAIT: no replica confirmed")
    return reply


class Wire:
    """One link at a time to one address, opened when needed; every call ends within the deadline."""

    def __init__(self, to: dict[str, Any], timeout_s: float) -> None:
        self._to = to
        self._timeout_s = timeout_s
        self._link: Link | None = None
        self._opening = asyncio.Lock()

    async def call(self, *args: Argument) -> Any:
        """One command. Raises ResponseError as the server says it, GuardUnavailable for everything else.

        A reply that is late condemns the link: see `link.py`.
        """
        return await self.calls(args)

    async def calls(self, *commands: Command) -> Any:
        """Commands that go out together; the reply to the last one."""
        link = self._link
        try:
            async with asyncio.timeout(self._timeout_s):
                if link is None or link.lost:
                    link = await self._open()
                return await link.call(*commands)
        except ResponseError:
            raise
        except FAULTS as fault:
            if isinstance(fault, TimeoutError) and link is not None:
                link.drop()
            raise unavailable(commands[-1][0], fault) from None

    async def _open(self) -> Link:
        async with self._opening:
            if self._link is None or self._link.lost:
                self._link = await open_link(self._to)
            return self._link

    async def close(self) -> None:
        """Close the link."""
        if self._link is not None:
            await self._link.close()


class Standalone:
    """One server: a call may mix lanes. Two links: WAIT holds up whatever shares its connection."""

    mixes_lanes = True

    def __init__(self, url: str, timeout_s: float) -> None:
        self._main = Wire(address(url), timeout_s)
        self._confirming = Wire(address(url), timeout_s)
        self._timeout_s = timeout_s

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA."""
        try:
            return await evaluate(self._main.call, script, keys, args)
        except ResponseError as fault:
            raise unavailable(script.name, fault) from None

    async def run_replicated(self, script: Script, keys: Sequence[bytes], args: Sequence[Argument]) -> Any:
        """One EVALSHA, confirmed by a replica where there is one."""
        try:
            return await confirmed(self._confirming.call, self._timeout_s, script, keys, args)
        except ResponseError as fault:
            raise unavailable(script.name, fault) from None

    async def command(self, *args: Argument) -> Any:
        """One command."""
        try:
            return await self._main.call(*args)
        except ResponseError as fault:
            raise unavailable(args[0], fault) from None

    async def primaries(self, *args: Argument) -> list[Any]:
        """One command at the one server."""
        return [await self.command(*args)]

    def scan(self, pattern: bytes, count: int) -> AsyncIterator[list[bytes]]:
        """The one server's names."""
        return scanned(self.command, pattern, count)

    async def close(self) -> None:
        """Close both links."""
        await self._main.close()
        await self._confirming.close()
