"""Settle: one loop over results, receipts and replies; told to stop, it finishes the flush it is in.

Beside it runs the breaker's evaluator, lists are cleansed and, where asked to, webhooks are sent.
"""

import asyncio
from contextlib import AsyncExitStack
from zoneinfo import ZoneInfo

from gateway.assemble.parts import (
    GRACE_S,
    Misconfigured,
    Parts,
    contents_days,
    ended,
    open_parts,
    queried_carriers,
    until_told,
)
from gateway.assemble.parts import beside as running
from gateway.assemble.webhooks import sending
from gateway.contract.complaint import SOURCES
from gateway.contract.registry import Sender
from gateway.intake.complaints import Means
from gateway.ledger.sealing import Contents
from gateway.settings import Settings
from gateway.settle import gauges
from gateway.settle.breaker import Evaluator
from gateway.settle.cases import Cases
from gateway.settle.cleansing.working import Cleansing
from gateway.settle.owners import Registry as Owners
from gateway.settle.settle import Settle, wall_ms
from gateway.stream import Reader


async def settle(settings: Settings, with_webhooks: bool = False) -> None:
    """Turn results, receipts and replies into statuses, refunds and opt-outs; run one (a second one waits)."""
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(settings))
        beside = [await stack.enter_async_context(sending(settings, parts.pool, parts.keys))] if with_webhooks else []
        zone = next(iter(parts.packs.values())).zone
        cases = Cases(
            parts.pool, parts.appender, zone, expected_files(settings), wall_ms, lambda: _means(settings, parts, zone)
        )
        await stack.enter_async_context(running(cases.run()))
        bootstrap, topics = settings.kafka_bootstrap, parts.topics
        settling = Settle(
            parts.pool,
            Reader(bootstrap, Settle.topics(topics), topics, "settle"),
            Reader(bootstrap, [topics.replies], topics, "settle.replies"),
            parts.producer,
            topics,
            parts.guard,
            parts.appender,
            lambda: _owners(parts),
            intake=parts.intake(),
            records_days=settings.records_days,
            contents_days=contents_days(settings),
            asked=queried_carriers(settings),
        )
        breaker = Evaluator(parts.pool, parts.appender, parts.packs, lambda: parts.cfg.registry, wall_ms)
        cleansing = Cleansing(parts.pool, parts.appender, lambda: _senders(parts), parts.packs)
        stop = asyncio.Event()
        work = [asyncio.create_task(one.run(stop)) for one in (settling, cleansing)]
        try:
            measuring = gauges.run(parts.pool, lambda: _senders(parts) or {}, wall_ms)
            await until_told(settings, breaker.run(), measuring, *map(ended, (*work, *beside)))
        finally:
            stop.set()
            await asyncio.wait(work, timeout=GRACE_S)


def _senders(parts: Parts) -> dict[str, Sender] | None:
    """Who may be on a list's messages; unknown until the registry has been read."""
    known = parts.cfg.registry
    return None if known is None else {one.id: one for one in known.senders}


def _means(settings: Settings, parts: Parts, zone: ZoneInfo) -> Means | None:
    """What complaints are matched with; none until the registry has been read."""
    known, opened = parts.cfg.registry, Contents(parts.keys).open
    if known is None:
        return None
    return Means(parts.pool, parts.appender, known.senders, opened, zone, settings.complaint_answer_h)


def expected_files(settings: Settings) -> tuple[str, ...]:
    """The sources whose daily figures are waited for."""
    given = settings.complaint_files
    if given is None:
        return () if settings.local else ("12321", "carrier")
    named = tuple(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if unknown := set(named) - set(SOURCES):
        raise Misconfigured(f"ASSENT_COMPLAINT_FILES names {', '.join(sorted(unknown))}; of {', '.join(SOURCES)}")
    return named


def _owners(parts: Parts) -> Owners | None:
    """Whose port a reply came to; unknown until the registry has been read."""
    known = parts.cfg.registry
    return None if known is None else Owners(known.senders, parts.packs)
