"""Ledger: permissions from PostgreSQL to the guard, erasures when they are due, and where asked to, held messages.

It gives its sign of life only while Redis and the transparency log may be trusted: a Redis whose policy is changed to
evict while we run, or a database that is not what the log has signed, stops every process within 10 s, as a dead ledger
process would.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from gateway import telemetry
from gateway.assemble.hold import holding
from gateway.assemble.parts import Parts, beside, ended, open_parts, until_told
from gateway.assemble.personal import erasures
from gateway.assemble.recovering import recovery
from gateway.assemble.tree import attesting_of, log_of
from gateway.contract.consent import Event, EventKind
from gateway.contract.registry import Registry
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.events import SYSTEM
from gateway.ledger.projection import Projection
from gateway.ledger.sequencer import Log, Sequencer
from gateway.records import registry
from gateway.rules.pack import Pack, written
from gateway.settings import Settings

log = telemetry.logger("assemble")


class RedisNotTrustedError(Exception):
    """The server may lose permissions by itself; its problems are in the log, and on /readyz."""


class LogNotTrustedError(Exception):
    """The transparency log does not fit the database, or was not opened yet: opt-outs may be missing from it."""


async def announced(parts: Parts, sequencer: Sequencer) -> Registry:
    """What the next beat carries; raises, so that there is none, while the cache or the log may not be trusted."""
    if problems := await parts.guard.verify():
        log.error("redis_not_trusted", problems=problems)
        raise RedisNotTrustedError
    if not sequencer.trusted:
        raise LogNotTrustedError
    return await registry.load(parts.pool)


async def ledger(settings: Settings, with_hold: bool) -> None:
    """Carry permissions from PostgreSQL to the guard, sign the log over them and announce the registry.

    Run one; a second one waits.
    """
    tree = log_of(settings)
    async with open_parts(settings) as parts, _attested(settings, tree):
        records_key = parts.appender.keys.record_signer(tree.origin).vkey()
        sequencer = Sequencer(settings.database_url.get_secret_value(), tree, [records_key])
        projection = Projection(
            settings.database_url.get_secret_value(),
            parts.guard,
            lambda: announced(parts, sequencer),
            recovery(settings, parts.guard, parts.packs),
            sequencer.run,
        )
        async with beside(_record_packs(parts.appender, parts.packs)):
            erasing = erasures(parts)
            if not with_hold:
                await until_told(settings, projection.run(), erasing.run())
                return
            async with beside(projection.run()) as projecting, holding(parts) as hold_loop:
                await until_told(settings, hold_loop.run(), ended(projecting), erasing.run())


@asynccontextmanager
async def _attested(settings: Settings, tree: Log) -> AsyncIterator[None]:
    attesting = attesting_of(settings, tree)
    if attesting is None:
        yield
        return
    try:
        async with beside(attesting.run()):
            yield
    finally:
        await attesting.close()


async def _record_packs(appender: Appender, packs: Mapping[str, Pack]) -> None:
    """Every pack's text becomes an event once, so that evidence can show the rules that were in force."""
    acts = packs_of(packs, time.time_ns() // 1_000_000)
    while True:
        try:
            await appender.append(acts)
        except LedgerUnavailable:
            await asyncio.sleep(1.0)
        else:
            return


def packs_of(packs: Mapping[str, Pack], now_ms: int) -> list[Event]:
    """An event of each pack's text; the same text is the same event."""
    found = []
    for name, pack in packs.items():
        text = written(name)
        digest = hashlib.sha256(text.encode()).hexdigest()
        found.append(
            Event(
                event_id=f"pack:{pack.version}:{digest}",
                kind=EventKind.PACK,
                number=None,
                subject=SYSTEM,
                occurred_at_ms=now_ms,
                data={"pack": pack.version, "sha256": digest, "text": text},
            )
        )
    return found
