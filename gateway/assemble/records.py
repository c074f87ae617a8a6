"""Records: what was accepted goes from Kafka into PostgreSQL; told to stop, it finishes the batch it is in.

It needs PostgreSQL, Kafka and the installation's secrets; it goes on while Redis is away.
"""

import asyncio
from contextlib import AsyncExitStack

from gateway import telemetry
from gateway.assemble.parts import GRACE_S, beside, contents_days, ended, flushing, open_pool, secrets, until_told
from gateway.ledger.sealing import Contents
from gateway.records.archive import Archive
from gateway.settings import Settings
from gateway.stream import Producer, Reader, Topics


async def archive(settings: Settings) -> None:
    """Keep what messages said and to which number; run one (a second one waits)."""
    telemetry.configure_logging(settings.log_level)
    sealing, days = Contents(secrets(settings)), contents_days(settings)
    topics = Topics(settings.topic_prefix)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings))
        producer = Producer(settings.kafka_bootstrap, topics)
        stack.push_async_callback(producer.stop)
        await producer.start()
        await stack.enter_async_context(beside(flushing()))
        reader = Reader(settings.kafka_bootstrap, Archive.topics(topics), topics, "records")
        archiving = Archive(pool, reader, producer, topics, sealing.seal, contents_days=days)
        stop = asyncio.Event()
        work = asyncio.create_task(archiving.run(stop))
        try:
            await until_told(settings, ended(work))
        finally:
            stop.set()
            await asyncio.wait([work], timeout=GRACE_S)
