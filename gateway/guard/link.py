"""One pipelined connection to one Valkey or Redis: many callers, one socket, replies in order.

A call through a pooled client costs some 100 µs of Python, which a batch of a few messages cannot spread; here it costs
a tenth. A link never sends anything twice and never reconnects by itself: when it is lost, everything in flight on it
fails, and its owner opens another. A caller that gives up waiting drops the link (`drop`), for replies come in order:
who waits for one reply waits for all before it, so a server that owes one for too long owes all of them.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

Argument = bytes | str | int
IN_FLIGHT = 1024
"""Calls unanswered on one link; beyond it the server is not keeping up, and a caller is told at once."""


class LinkLost(Exception):  # noqa: N818 - a state of the link
    """The connection broke, or could not be opened; whether a call in flight was carried out is not known."""


class Link(asyncio.Protocol):
    """See the module; made by `open_link`."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def lost(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport is None

    def send(self, arguments: tuple[Argument, ...]) -> asyncio.Future[Any]:
        """Write one command; the future is its reply, ReplyError or LinkLost. Raises LinkLost when it cannot write."""
        if self._transport is None:
            raise LinkLost("lost")
        if len(self._waiting) >= IN_FLIGHT:
            raise LinkLost("busy")
        self._transport.write(hiredis.pack_command(arguments))  # type: ignore[arg-type] # stub: one element
        future = self._loop.create_future()
        self._waiting.append(future)
        return future

    def drop(self) -> None:
        """Break the connection: what is in flight fails."""
        if self._transport is not None:
            self._transport.abort()
            self._lose()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        """Hand replies to their callers, in order; a caller that gave up is passed over."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                future = self._waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        """The socket is gone."""
        self._lose()

    def _lose(self) -> None:
        self._transport = None
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(LinkLost("lost"))
                future.exception()  # nobody may be waiting any more


async def open_link(url: str) -> Link:
    """`redis://[user:password@]host:port/db`, `rediss://…[?ssl_ca_certs=file]`, `unix://[…@]/path?db=n`.

    Raises LinkLost, OSError or hiredis.ReplyError (a refused password); the caller sets the deadline.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    loop = asyncio.get_running_loop()
    link: Link
    if parts.scheme == "unix":
        _, link = await loop.create_unix_connection(Link, parts.path)
        db = query.get("db", "0")
    else:
        context = ssl.create_default_context(cafile=query.get("ssl_ca_certs")) if parts.scheme == "rediss" else None
        _, link = await loop.create_connection(Link, parts.hostname or "127.0.0.1", parts.port or 6379, ssl=context)
        db = parts.path.strip("/") or query.get("db", "0")
    try:
        await _greet(link, parts.username, parts.password, db)
    except BaseException:
        link.drop()
        raise
    return link


async def _greet(link: Link, username: str | None, password: str | None, db: str) -> None:
    commands: list[tuple[Argument, ...]] = []
    if password:
        commands.append(("AUTH", unquote(username), unquote(password)) if username else ("AUTH", unquote(password)))
    if db != "0":
        commands.append(("SELECT", db))
    await _all(link.send(command) for command in commands)


async def _all(replies: Iterable[asyncio.Future[Any]]) -> None:
    for reply in list(replies):
        await reply
