"""What a rebuild of emptied lanes needs of other rooms: intake's spelling, deliver's window, the tables of records."""

from collections.abc import Mapping
from functools import partial

import asyncpg

from gateway.assemble.parts import COMMAND_S
from gateway.contract.registry import Registry
from gateway.deliver.partition import WINDOW
from gateway.guard import Guard
from gateway.intake.answer import store
from gateway.intake.digests import request_digest, text_hash
from gateway.ledger.recovery import LANDING_S, Recovery, Sources
from gateway.ledger.returning import Spelling
from gateway.records import long_windows, registry, settlement
from gateway.rules.pack import Pack
from gateway.settings import Settings
from gateway.stream import Topics

REPLIES = "settle.replies"
"""Under what name settle keeps its place in the topic of replies."""


def recovery(settings: Settings, guard: Guard, packs: Mapping[str, Pack], *, landing_s: float = LANDING_S) -> Recovery:
    """A recovery over an installation's Kafka and PostgreSQL; each call opens the connections it needs."""
    dsn, topics = settings.database_url.get_secret_value(), Topics(settings.topic_prefix)
    pepper = bytes.fromhex(settings.pepper.get_secret_value())

    async def settled() -> Mapping[int, int]:
        connection = await asyncpg.connect(dsn, timeout=COMMAND_S)
        try:
            found = await settlement.offsets(connection, REPLIES)
        finally:
            await connection.close(timeout=COMMAND_S)
        return {partition: offset for (_, partition), offset in found.items()}

    async def load() -> Registry:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1, timeout=COMMAND_S) as pool:
            return await registry.load(pool)

    return Recovery(
        guard,
        Sources(
            bootstrap=settings.kafka_bootstrap,
            topics=topics,
            packs=packs,
            load_registry=load,
            spelling=Spelling(store, partial(text_hash, pepper), partial(request_digest, pepper)),
            stamps=partial(long_windows.stamps, dsn),
            requests=partial(long_windows.requests, dsn),
            settled=settled,
            window=WINDOW,
            landing_s=landing_s,
        ),
    )
