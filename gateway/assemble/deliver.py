"""Deliver: one worker for each class it was given, over the carriers of this process; closed workers first."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from gateway.assemble.parts import Misconfigured, Parts, carrier_name, open_parts, patiently, until_told
from gateway.carriers.carrier import Carrier
from gateway.carriers.http import HttpCarrier
from gateway.carriers.simulator import Profile, Simulator
from gateway.contract.decision import Class
from gateway.contract.wire import Receipt
from gateway.deliver.means import Means
from gateway.deliver.outbox import LINGER_S, Outbox
from gateway.deliver.query import Queries
from gateway.deliver.slots import Slots
from gateway.deliver.worker import Deliver
from gateway.settings import Settings
from gateway.stream import StreamBusy, encode


def carriers(parts: Parts) -> dict[str, Carrier]:
    """The carriers that run in this process: the default one."""
    settings = parts.settings
    if carrier_name(settings) == "http":
        if not settings.carrier_url:
            raise Misconfigured("carrier http needs ASSENT_CARRIER_URL")
        key = settings.carrier_key.get_secret_value() if settings.carrier_key else None
        return {
            "http": HttpCarrier(
                settings.carrier_url,
                key=key,
                query_url=settings.carrier_query_url,
                query_final=settings.carrier_query_final,
            )
        }
    profile = Profile(latency_s=settings.simulator_latency_ms / 1000)
    return {"simulator": Simulator(_emitter(parts), seed=settings.simulator_seed, profile=profile)}


def _emitter(parts: Parts) -> Callable[[Sequence[Receipt]], Awaitable[None]]:
    """How a carrier that makes its own receipts brings them in: the topic that callbacks publish to."""

    async def emit(receipts: Sequence[Receipt]) -> None:
        rows = [((receipt.ref or receipt.carrier_id).encode(), encode(receipt)) for receipt in receipts]
        while rows:
            try:
                acks = await parts.producer.publish(parts.topics.receipts, rows, linger_s=LINGER_S)
            except StreamBusy:
                acks = [None] * len(rows)
            rows = [row for row, ack in zip(rows, acks, strict=True) if ack is None]
            if rows:
                await asyncio.sleep(0.2)

    return emit


async def deliver(settings: Settings, classes: Sequence[str]) -> None:
    """Submit the messages of some classes."""
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(settings))
        running = carriers(parts)
        for carrier in running.values():
            stack.push_async_callback(carrier.close)
        slots = {
            name: Slots(name, window=settings.carrier_window, rate=float(settings.carrier_rate)) for name in running
        }
        outbox = Outbox(parts.producer, parts.topics)
        workers = []
        for name in classes:
            means = Means(
                cls=Class(name),
                guard=parts.guard,
                cfg=parts.cfg,
                outbox=outbox,
                carriers=running,
                slots=slots,
                default=carrier_name(settings),
                packs=parts.packs,
            )
            workers.append(Deliver(means, settings.kafka_bootstrap))
        await asyncio.gather(*(patiently("Kafka", worker.start) for worker in workers))
        for worker in workers:
            stack.push_async_callback(worker.stop)
        queries = Queries(parts.pool, outbox, running, classes)
        await until_told(settings, queries.run(), *(worker.run() for worker in workers))
