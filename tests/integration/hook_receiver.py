"""A receiver of webhooks: a real HTTP server on loopback that does what the path says, and keeps what it was sent.

`/ok`, `/status/<n>`, `/hang` (reads, never answers), `/slow` (answers byte by byte), `/big` (an endless answer),
`/redirect` (to `/ok`), `/later/<s>` (503 with Retry-After), `/cut` (closes without an answer), `/flaky/<n>` (500 to the
first n of each id). With TLS where it is given a context.
"""

import asyncio
import ssl
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson


class Got(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = orjson.loads(self.body)["data"]
        return data


@dataclass
class Receiver:
    """What reached it."""

    port: int = 0
    got: list[Got] = field(default_factory=list)
    at_once: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    answers: dict[str, str] = field(default_factory=dict)
    """Paths that do what another one does, for now."""
    failed: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, path: str) -> list[Got]:
        return [one for one in self.got if one.path == path]

    async def until(self, found: Callable[[], Any], within_s: float = 15.0) -> Any:
        async with asyncio.timeout(within_s):
            while not (answer := found()):  # noqa: ASYNC110 - another task writes what is waited for
                await asyncio.sleep(0.02)
        return answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._one(reader, writer)
        with suppress(OSError, RuntimeError):
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        whose = headers["host"] + path
        self.at_once[whose] += 1
        self.most_at_once[whose] = max(self.most_at_once[whose], self.at_once[whose])
        self.got.append(Got(path, headers, body))
        try:
            await self._answer(self.answers.get(path, path), self.got[-1], reader, writer)
        finally:
            self.at_once[whose] -= 1

    async def _answer(self, path: str, got: Got, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
        if word == "flaky":
            self.failed[got.id] += 1
            word, rest = "status", "500" if self.failed[got.id] <= int(rest) else "200"
        match word:
            case "ok":
                await said(writer, "204 No Content")
            case "status":
                await said(writer, f"{rest} As Asked")
            case "later":
                await said(writer, "503 Later", f"retry-after: {rest}")
            case "redirect":
                await said(writer, "302 Found", f"location: {self.url('/ok')}")
            case "hang":
                await reader.read()  # until the caller gives up
            case "slow":
                for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n":
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.5)
            case "big":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
                while True:
                    writer.write(b"x" * 65_536)
                    await writer.drain()


async def said(writer: asyncio.StreamWriter, status: str, *headers: str) -> None:
    lines = [f"HTTP/1.1 {status}", *headers, "content-length: 0", "connection: close", "", ""]
    writer.write("\r\n".join(lines).encode())
    await writer.drain()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None, hosts: int = 1) -> AsyncIterator[Receiver]:
    """A receiver that serves until the end of the block, on so many addresses from 127.0.0.1 up."""
    one, tasks = Receiver(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await one.serve(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    one.port = server.sockets[0].getsockname()[1]
    more = [f"127.0.0.{n + 1}" for n in range(1, hosts)]
    others = [await asyncio.start_server(serve, more, one.port, ssl=tls)] if more else []
    try:
        yield one
    finally:
        for listening in (server, *others):
            listening.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
