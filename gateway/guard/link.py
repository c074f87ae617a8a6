"""One pipelined connection to one Valkey or Redis: many callers, one socket, replies in order.

redis-py connects and speaks the protocol: addresses, passwords, TLS, keepalive, RESP. Its pools give each call a
connection of its own, and its bookkeeping; here callers share one, which costs a batch of a few messages half as much
Python. A link never sends anything twice and never reconnects by itself: when it is lost, everything in flight on it
fails, and its owner opens another. A caller that gives up waiting drops the link (`drop`), for replies come in order:
who waits for one reply waits for all before it, so a server that owes one for too long owes all of them.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.connection import HiredisRespSerializer
from redis.exceptions import RedisError, ResponseError

Argument = bytes | str | int
Command = tuple[Argument, ...]
IN_FLIGHT = 1024
"""Calls unanswered on one link; beyond it the server is not keeping up, and a caller is told at once."""
_pack: Callable[..., list[bytes]] = HiredisRespSerializer().pack  # a connection's own takes 2.5 times as long


class LinkLost(Exception):  # noqa: N818 - a state of the link
    """The connection broke; whether a call in flight was carried out is not known."""


class Link:
    """See the module; made by `open_link`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._dropped = False
        self._loop = asyncio.get_running_loop()
        self._reading = asyncio.create_task(self._read())

    @property
    def lost(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._dropped or not self._connection.is_connected

    async def call(self, *commands: Command) -> Any:
        """The reply to the last of these commands, which go out together. Raises ResponseError, LinkLost, RedisError.

        The connection would open itself again if it were asked to write while it is closed: hence the first line, and
        nothing is awaited before the write.
        """
        if self.lost:
            raise LinkLost("lost")
        if len(self._waiting) + len(commands) > IN_FLIGHT:
            raise LinkLost("busy")
        packed = [piece for command in commands for piece in _pack(*command)]
        for _ in commands[1:]:
            passed_over = self._loop.create_future()
            passed_over.cancel()
            self._waiting.append(passed_over)
        future = self._loop.create_future()
        self._waiting.append(future)
        try:
            await self._connection.send_packed_command(packed, check_health=False)
        except RuntimeError:  # uvloop's word for a transport that ended, of which its reader does not know yet
            self.drop()
            raise LinkLost("closed") from None
        except BaseException:  # redis-py has closed the connection: a part may have been sent
            self.drop()
            raise
        return await future

    def drop(self) -> None:
        """Break the connection: what is in flight fails."""
        self._lose("dropped")
        self._reading.cancel()  # which closes the connection

    async def close(self) -> None:
        """Drop, and wait until the connection is closed."""
        self.drop()
        await asyncio.wait([self._reading])

    async def _read(self) -> None:
        """Hand replies to their callers, in order; a caller that gave up is passed over."""
        cause = "lost"
        try:
            while True:
                reply = await self._reply()
                future = self._waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, ResponseError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (RedisError, OSError, IndexError) as fault:  # IndexError: a reply that nobody asked for
            cause = getattr(fault, "status_code", None) or cause
        finally:
            self._lose(cause)
            await self._connection.disconnect(nowait=True)

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(disable_decoding=True, timeout=math.inf)
        except ResponseError as fault:
            return fault

    def _lose(self, cause: str) -> None:
        self._dropped = True
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(LinkLost(cause))
                future.exception()  # nobody may be waiting any more


def address(url: str) -> dict[str, Any]:
    """What redis-py reads from `redis://`, `rediss://` or `unix://`, with its query (`?ssl_ca_certs=…`, `client_name`).

    ValueError for anything else.
    """
    return dict(parse_url(url))


async def open_link(to: dict[str, Any]) -> Link:
    """Connect to an `address`. Raises RedisError (a refused password too) or OSError; the caller sets the deadline."""
    kind = to.get("connection_class", Connection)
    options = {name: value for name, value in to.items() if name != "connection_class"}
    options |= {"protocol": 2, "socket_timeout": None, "health_check_interval": 0, "decode_responses": False}
    connection = kind(**options)
    try:
        await connection.connect()
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return Link(connection)
