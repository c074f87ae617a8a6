"""Hold: the release of held messages when they are due, alone or beside the ledger."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.assemble.parts import Parts, open_parts, patiently, until_told
from gateway.deliver.hold import Hold
from gateway.deliver.outbox import Outbox
from gateway.settings import Settings


@asynccontextmanager
async def holding(parts: Parts) -> AsyncIterator[Hold]:
    """The release of held messages, joined to its group; left at the end."""
    hold_loop = Hold(
        pool=parts.pool,
        intake=parts.intake(),
        guard=parts.guard,
        cfg=parts.cfg,
        outbox=Outbox(parts.producer, parts.topics),
        bootstrap=parts.settings.kafka_bootstrap,
    )
    await patiently("Kafka", hold_loop.start)
    try:
        yield hold_loop
    finally:
        await hold_loop.stop()


async def hold(settings: Settings) -> None:
    """Release held messages when they are due."""
    async with open_parts(settings) as parts, holding(parts) as hold_loop:
        await until_told(settings, hold_loop.run())
