"""The transparency log as a phase of `make bench-ledger`: grown to a million entries, checked whole, proved from.

Entries are made in PostgreSQL itself, with random-looking tags and commitments: to the log an event is nothing else.
"""

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

import asyncpg

from gateway.ledger.checking import Checking
from gateway.ledger.checkpoint import parse
from gateway.ledger.merkle import inclusion_proof, leaf_hash, verify_inclusion
from gateway.ledger.note import Signer, generate, split
from gateway.ledger.opening import encode
from gateway.ledger.sequencer import CHECKPOINT, Log, Sequencer
from gateway.ledger.tiles import Tiles
from loadtests.figures import Figure
from loadtests.meter import rss_mb
from loadtests.people import EVENTS
from loadtests.say import Teller

ONE = "SELECT seq, version, at, tag, commitment FROM consent_events WHERE seq = $1"
PROOFS = 1_000
SMALL = 10_000
SIGNED_S, VERIFIED_S, PROVED_MS, GROWN_MB = 1.0, 30.0, 5.0, 20.0
ACKNOWLEDGED = 40


async def measure(dsn: str, folder: Path, entries: int, teller: Teller) -> list[Figure]:
    """The log's figures at `entries` entries."""
    log = Log(folder, [Signer(generate("assent.bench/log")[0])])
    connection = await asyncpg.connect(dsn)
    try:
        sequencer = Sequencer(dsn, log)
        await sequencer.open(connection)
        await _grow(connection, sequencer, 0, SMALL)
        before = rss_mb(os.getpid())
        teller.step(f"a log of {entries:,} entries")
        seconds = await _grow(connection, sequencer, SMALL, entries)
        grown = rss_mb(os.getpid()) - before
        teller.step("the whole log, checked against PostgreSQL and tiles")
        checked = await _check(connection, log, teller)
        proved = await _prove(connection, log, entries)
        teller.step("acknowledgement to checkpoint")
        waits = await _wait(dsn, connection, log, entries)
    finally:
        await connection.close()
    note = f"{entries:,} entries"
    return [
        Figure("entries signed in checkpoints of 4,096", (entries - SMALL) / seconds, "entries/s", note=note),
        Figure("sequencer's memory, 10,000 entries to the end", max(grown, 0.0), "MB more", GROWN_MB, note=note),
        Figure("whole log verified", checked, "s", VERIFIED_S, note=note),
        Figure("inclusion proof, p99", proved, "ms", PROVED_MS, note=f"{PROOFS:,} of {note}, tiles from disk"),
        Figure(
            "committed to published checkpoint, the longest", max(waits), "s", SIGNED_S, note=f"{ACKNOWLEDGED} events"
        ),
    ]


async def _grow(connection: Any, sequencer: Sequencer, size: int, to: int) -> float:
    """Commit entries, then sign them; the seconds that signing took."""
    async with connection.transaction():
        await connection.execute(EVENTS, size + 1, to, timeout=600.0)
        await connection.execute("UPDATE ledger_head SET seq = $1", to)
    began = time.monotonic()
    while await sequencer.sequence(connection):
        pass
    return time.monotonic() - began


async def _check(connection: Any, log: Log, teller: Teller) -> float:
    began = time.monotonic()
    found = await Checking(connection, log, lambda _s, done, total: teller.progress(f"{done:,} of {total:,}")).run()
    if found.wrong:
        raise RuntimeError(f"the log does not fit: {found.told}")
    return time.monotonic() - began


async def _prove(connection: Any, log: Log, entries: int) -> float:
    """Milliseconds of all but one of a hundred, from files that this reader has not read before."""
    dice, took = random.Random(1), []
    root = parse(split((log.folder / CHECKPOINT).read_bytes())[0]).root
    for _ in range(PROOFS):
        index = dice.randrange(entries)
        began = time.perf_counter()
        proof = inclusion_proof(index, entries, Tiles(log.folder).reader(entries))
        took.append(time.perf_counter() - began)
        verify_inclusion(leaf_hash(encode(await connection.fetchrow(ONE, index + 1))), index, entries, proof, root)
    return sorted(took)[int(PROOFS * 0.99)] * 1000


async def _wait(dsn: str, connection: Any, log: Log, entries: int) -> list[float]:
    """Seconds from a commit to the checkpoint that has it, by a sequencer that runs as it always does."""
    running = asyncio.create_task(Sequencer(dsn, log).run())
    waits, published = [], log.folder / CHECKPOINT
    await asyncio.sleep(0.5)
    for n in range(1, ACKNOWLEDGED + 1):
        async with connection.transaction():
            await connection.execute(EVENTS, entries + n, entries + n)
            await connection.execute("UPDATE ledger_head SET seq = $1", entries + n)
        began = time.monotonic()
        while int(published.read_bytes().split(b"\n")[1]) < entries + n:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.002)
        waits.append(time.monotonic() - began)
        await asyncio.sleep(random.random() * 0.2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return waits
