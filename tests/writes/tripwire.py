"""A proxy before each part that loses one chosen write, or its answer: the two faults every write must live with.

It reads what clients say in the part's own protocol, so that a write is named by what it is: a script, a statement, a
Kafka request. Armed, it waits for the first write that fits. *Not applied*: the connection ends before the part has
it. *Applied*: the part gets it, its answer is swallowed, and the connection ends. Everything else passes unchanged.
"""

import asyncio
import re
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from gateway.guard.scripts import script

SILENT_S = 0.05
"""A part that has said nothing for so long has answered what was swallowed."""
SSL_REQUEST = 80877103
PRODUCE, OFFSET_COMMIT = 0, 8

Write = Callable[["Said"], bool]
"""Whether something that a client said is the write in question."""


@dataclass
class Said:
    """What a client said: its bytes, and for PostgreSQL the statement and those before it in its transaction."""

    raw: bytes
    sql: str = ""
    before: list[str] = field(default_factory=list)


@dataclass
class Tripwire:
    """Set for one write; `struck` once it was met."""

    write: Write
    applied: bool
    struck: threading.Event = field(default_factory=threading.Event)


def runs(name: str) -> Write:
    """A call of a script of the guard."""
    sha = script(name).sha.encode()
    return lambda said: sha in said.raw


def commits(statement: str) -> Write:
    """The commit of a transaction in which this was said."""
    return lambda said: said.sql.strip().upper().startswith("COMMIT") and any(statement in one for one in said.before)


def states(statement: str) -> Write:
    """This statement itself, in a transaction or not."""
    return lambda said: statement in said.sql


def produces(topic: str) -> Write:
    """Records for a topic."""
    return lambda said: _api(said.raw) == PRODUCE and topic.encode() in said.raw


def commits_offset(group: str) -> Write:
    """A consumer group's offsets."""
    return lambda said: _api(said.raw) == OFFSET_COMMIT and group.encode() in said.raw


def _api(frame: bytes) -> int:
    return int(struct.unpack(">h", frame[4:6])[0])


class Between:
    """The proxy of one part. Its own port is `port`; what is armed is in `wires`."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self._address = name, address
        self.target = int(re.findall(r":(\d+)", address)[-1])
        self.port = 0
        self.wires: list[Tripwire] = []
        self.lines: set[asyncio.Task[None]] = set()
        self._away = False
        self._loop = asyncio.get_running_loop()

    @property
    def endpoint(self) -> str:
        return self._address.replace(f":{self.target}", f":{self.port}")

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Nobody reaches the part."""
        self._away = True
        self._loop.call_soon_threadsafe(self.cut)
        try:
            yield
        finally:
            self._away = False

    def cut(self) -> None:
        """End every connection."""
        for line in self.lines:
            line.cancel()

    def arm(self, write: Write, *, applied: bool) -> Tripwire:
        wire = Tripwire(write, applied)
        self.wires.append(wire)
        return wire

    def tripped(self, said: Said) -> Tripwire | None:
        for wire in self.wires:
            if wire.write(said):
                self.wires.remove(wire)
                return wire
        return None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._away:
            there = await asyncio.open_connection("127.0.0.1", self.target, limit=1 << 24)
            line = asyncio.create_task(Line(self, reader, writer, *there).run())
            self.lines.add(line)
            await asyncio.gather(line, return_exceptions=True)
            self.lines.discard(line)
        writer.close()


class Line:
    """One client's connection, both ways."""

    def __init__(
        self,
        between: Between,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        part_reader: asyncio.StreamReader,
        part_writer: asyncio.StreamWriter,
    ) -> None:
        self._between = between
        self._reader, self._writer = reader, writer
        self._part_reader, self._part_writer = part_reader, part_writer
        self._swallowing = False
        self._heard = 0
        self._statements: dict[bytes, str] = {}
        self._since: list[str] = []

    async def run(self) -> None:
        out, back = asyncio.create_task(self._out()), asyncio.create_task(self._back())
        try:
            await asyncio.wait([out, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            out.cancel()
            back.cancel()
            await asyncio.gather(out, back, return_exceptions=True)
            self._part_writer.close()

    async def _out(self) -> None:
        async for said in self._frames():
            wire = None if self._swallowing else self._between.tripped(said)
            if wire is not None and not wire.applied:
                wire.struck.set()
                return
            if wire is not None:
                self._swallowing = True
                swallowed = asyncio.create_task(self._answered(wire))
                swallowed.add_done_callback(lambda _: self._reader.feed_eof())
            self._part_writer.write(said.raw)
            await self._part_writer.drain()

    async def _answered(self, wire: Tripwire) -> None:
        """Until the part has answered what was written: it has said something, and then nothing for a while."""
        before = self._heard
        while self._heard == before:  # noqa: ASYNC110 - the line goes on reading meanwhile
            await asyncio.sleep(0.005)
        last = -1
        while last != self._heard:
            last = self._heard
            await asyncio.sleep(SILENT_S)
        wire.struck.set()

    async def _back(self) -> None:
        if self._between.name == "kafka":
            here = b"127.0.0.1" + struct.pack(">i", self._between.target)
            ours = b"127.0.0.1" + struct.pack(">i", self._between.port)
            while True:
                frame = await self._kafka(self._part_reader)
                await self._pass_on(frame.replace(here, ours))
        while data := await self._part_reader.read(65536):
            await self._pass_on(data)

    async def _pass_on(self, data: bytes) -> None:
        self._heard += len(data)
        if not self._swallowing:
            self._writer.write(data)
            await self._writer.drain()

    # --- what clients say --------------------------------------------------------------------------------------------

    async def _frames(self) -> AsyncIterator[Said]:
        if self._between.name == "kafka":
            while True:
                yield Said(await self._kafka(self._reader))
        if self._between.name == "postgres":
            async for said in self._postgres():
                yield said
        while data := await self._reader.read(1 << 20):
            yield Said(data)

    @staticmethod
    async def _kafka(reader: asyncio.StreamReader) -> bytes:
        size = await reader.readexactly(4)
        return size + await reader.readexactly(int.from_bytes(size))

    async def _postgres(self) -> AsyncIterator[Said]:
        started = False
        while not started:
            size = await self._reader.readexactly(4)
            rest = await self._reader.readexactly(int.from_bytes(size) - 4)
            started = int.from_bytes(rest[:4]) != SSL_REQUEST
            yield Said(size + rest)
        while True:
            head = await self._reader.readexactly(5)
            body = await self._reader.readexactly(int.from_bytes(head[1:]) - 4)
            yield Said(head + body, self._sql(head[:1], body), self._since)

    def _sql(self, kind: bytes, body: bytes) -> str:
        """The statement that a message runs, if any; those of the transaction are kept."""
        if kind == b"P":
            name, query = body.split(b"\0")[:2]
            self._statements[name] = query.decode()
            return ""
        if kind == b"Q":
            sql = body[:-1].decode()
        elif kind == b"B":
            sql = self._statements.get(body.split(b"\0")[1], "")
        else:
            return ""
        if sql.strip().upper().startswith("BEGIN"):
            self._since = []
        self._since.append(sql)
        return sql


@contextmanager
def tripwires(addresses: Mapping[str, str]) -> Iterator[dict[str, Between]]:
    """A proxy before each part (`redis`, `kafka`, `postgres`), until the end of the block.

    They run in a thread of their own: whoever waits for a process may block the test's loop, and that process waits
    for a part.
    """
    found: dict[str, Between] = {}
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_proxies(addresses, found, ready, done)))
    thread.start()
    assert ready.wait(10)
    try:
        yield found
    finally:
        done.set()
        thread.join(10)


async def _proxies(
    addresses: Mapping[str, str], found: dict[str, Between], ready: threading.Event, done: threading.Event
) -> None:
    servers = []
    for name, address in addresses.items():
        between = found[name] = Between(name, address)
        server = await asyncio.start_server(between.serve, "127.0.0.1", 0, limit=1 << 24)
        between.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    ready.set()
    await asyncio.to_thread(done.wait)
    for server in servers:
        server.close()
    for between in found.values():
        between.cut()
    await asyncio.sleep(0.1)
