"""A log over a real database, for the tests of the sequencer: events, what they come to, and what was signed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from gateway.contract.consent import Event, EventKind
from gateway.guard.guard import Guard
from gateway.ledger import events, note
from gateway.ledger.appender import Appender
from gateway.ledger.checkpoint import Checkpoint, open_checkpoint
from gateway.ledger.keys import Keys
from gateway.ledger.merkle import Frontier, leaf_hash
from gateway.ledger.opening import LEAVES, TreeRefusedError, encode
from gateway.ledger.sequencer import Log, Sequencer

KEYS = Keys(b"m" * 32, b"p" * 32)
SKEY, VKEY = note.generate("assent.test/log", seed=b"s" * 32)

_numbers = iter(range(10_000_000))


def person() -> str:
    return f"+86137{next(_numbers) + 11_111_111:08d}"


def act(to: str, n: int) -> Event:
    kind = (EventKind.GRANT, EventKind.RELATIONSHIP, EventKind.WITHDRAWAL)[n % 3]
    data = {
        EventKind.GRANT: events.grant("acme", ["marketing"]),
        EventKind.RELATIONSHIP: events.relationship("acme", "order", f"o-{n}"),
        EventKind.WITHDRAWAL: events.withdrawal("acme", ["invite"]),
    }[kind]
    who = KEYS.subject(to)
    return Event(event_id=f"{to}/{n}", kind=kind, number=to, subject=who, occurred_at_ms=1_000 + n, data=data)


@dataclass
class Ground:
    """A database of its own, its appender, and a folder."""

    dsn: str
    pool: Any
    appender: Appender
    folder: Path
    told: list[bytes] = field(default_factory=list)

    def log(self, *skeys: str, folder: Path | None = None) -> Log:
        return Log(folder or self.folder, [note.Signer(skey) for skey in skeys or (SKEY,)])

    async def append(self, n: int) -> int:
        """So many events of as many people; the head."""
        answers = await self.appender.append([act(person(), one) for one in range(n)])
        last = max(answer.seq or 0 for answer in answers)
        assert all(answer.refusal is None for answer in answers)
        return last

    async def entries(self) -> list[bytes]:
        return [encode(row) for row in await self.pool.fetch(LEAVES, 0, 2**62)]

    async def roots(self) -> list[bytes]:
        """The root of every size, from the events alone."""
        frontier, found = Frontier(), [Frontier().root()]
        for entry in await self.entries():
            frontier.append(leaf_hash(entry))
            found.append(frontier.root())
        return found

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.dsn)
        try:
            yield connection
        finally:
            await connection.close()

    async def sequenced(self, log: Log | None = None) -> Checkpoint:
        """Sign everything; the last checkpoint."""
        async with self.connection() as connection:
            sequencer = Sequencer(self.dsn, log or self.log())
            await sequencer.open(connection)
            while await sequencer.sequence(connection):
                pass
        return self.published(log)

    def published(self, log: Log | None = None) -> Checkpoint:
        log = log or self.log()
        raw = (log.folder / "checkpoint").read_bytes()
        return open_checkpoint(raw, log.origin, log.verifiers)[0]

    def signed(self, log: Log | None = None) -> Checkpoint | None:
        """What the log itself remembers."""
        log = log or self.log()
        raw = log.signed.read(log.origin)
        return None if raw is None else open_checkpoint(raw, log.origin, log.verifiers)[0]

    async def refused(self, log: Log | None = None) -> str | None:
        """Why the log is not opened; none when it is."""
        async with self.connection() as connection:
            try:
                await Sequencer(self.dsn, log or self.log()).open(connection)
            except TreeRefusedError as refusal:
                return refusal.why.value
        return None


@asynccontextmanager
async def ground(postgres_url: str, template: str, redis_url: str, folder: Path) -> AsyncIterator[Ground]:
    """A database made for one test, dropped afterwards."""
    name = f"assent_tree_{folder.name.replace('-', '_')}"
    base = postgres_url.rsplit("/", 1)[0]
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    guard = await Guard.connect(redis_url)
    try:
        async with asyncpg.create_pool(f"{base}/{name}", min_size=1, max_size=4) as pool:
            appender = Appender(pool, KEYS, guard)
            await appender.start()
            yield Ground(f"{base}/{name}", pool, appender, folder / "log")
            await appender.stop()
    finally:
        await guard.close()
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()


async def until(work: "asyncio.Task[Any]", seconds: float) -> None:
    """Let a task go on for so long."""
    await asyncio.wait([work], timeout=seconds)


def consistent(roots: Sequence[bytes], seen: Sequence[Checkpoint]) -> bool:
    """Whether every checkpoint is that of the events, and none went back."""
    sizes = [one.size for one in seen]
    return sizes == sorted(sizes) and all(one.root == roots[one.size] for one in seen)
