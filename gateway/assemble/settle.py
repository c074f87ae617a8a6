"""Settle: one loop over results, receipts and replies; told to stop, it finishes the flush it is in."""

import asyncio

from gateway.assemble.parts import GRACE_S, Parts, ended, open_parts, until_told
from gateway.settings import Settings
from gateway.settle.owners import Registry as Owners
from gateway.settle.settle import Settle
from gateway.stream import Reader


async def settle(settings: Settings) -> None:
    """Turn results, receipts and replies into statuses, refunds and opt-outs; run one (a second one waits)."""
    async with open_parts(settings) as parts:
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
        )
        stop = asyncio.Event()
        work = asyncio.create_task(settling.run(stop))
        try:
            await until_told(settings, ended(work))
        finally:
            stop.set()
            await asyncio.wait([work], timeout=GRACE_S)


def _owners(parts: Parts) -> Owners | None:
    """Whose port a reply came to; unknown until the registry has been read."""
    known = parts.cfg.registry
    return None if known is None else Owners(known.senders, parts.packs)
