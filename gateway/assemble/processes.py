"""The processes, each put together from plain values: edge, deliver, hold, settle, ledger.

Each opens its parts, says that it is ready, works until SIGTERM or SIGINT, and closes them in reverse.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import uvicorn

from gateway.assemble.parts import READY_FD, Misconfigured, Parts, beside, open_parts, say_ready, secrets, until_told
from gateway.carriers.carrier import Carrier
from gateway.carriers.http import HttpCarrier
from gateway.carriers.simulator import Profile, Simulator
from gateway.contract.decision import Class
from gateway.contract.wire import Receipt
from gateway.deliver.hold import Hold
from gateway.deliver.means import Means
from gateway.deliver.outbox import Outbox
from gateway.deliver.slots import Slots
from gateway.deliver.worker import Deliver
from gateway.edge.app import Edge, create_app
from gateway.edge.gate import Gate
from gateway.ledger.projection import Projection
from gateway.ledger.reading import Reading
from gateway.records import registry
from gateway.settings import Settings
from gateway.settle.replies import Registry as Owners
from gateway.settle.settle import Settle
from gateway.stream import Reader, StreamBusy, encode

GRACE_S = 10


def edge(settings: Settings) -> None:
    """Serve HTTP with `settings.workers` workers until told to stop."""
    if settings.local and settings.host not in {"127.0.0.1", "::1", "localhost"}:
        raise Misconfigured("the local profile has well-known keys: it listens on loopback only")
    secrets(settings)
    if settings.workers > 1:
        os.environ.pop(READY_FD, None)  # spawned workers do not inherit it; /readyz speaks for them
    uvicorn.run(
        "gateway.assemble.processes:edge_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        log_level="warning",
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )


def edge_app() -> Edge:
    """One worker's application."""
    return create_app(lambda: open_gate(Settings()))


@asynccontextmanager
async def open_gate(settings: Settings) -> AsyncIterator[Gate]:
    """Everything behind the edge."""
    async with open_parts(settings) as parts:
        say_ready()
        yield Gate(
            intake=parts.intake(),
            cfg=parts.cfg,
            guard=parts.guard,
            appender=parts.appender,
            reading=Reading(parts.pool, parts.keys),
            pool=parts.pool,
            producer=parts.producer,
            topics=parts.topics,
            pepper=parts.pepper,
            packs=parts.packs,
            metrics_dir=settings.metrics_dir,
            carrier=carrier_name(settings),
        )


def carrier_name(settings: Settings) -> str:
    """The default carrier: an address selects carrier `http`."""
    return "http" if settings.carrier_url else settings.carrier


# --- deliver and hold ------------------------------------------------------------------------------------------------


def carriers(parts: Parts) -> dict[str, Carrier]:
    """The carriers that run in this process: the default one."""
    settings = parts.settings
    if carrier_name(settings) == "http":
        if not settings.carrier_url:
            raise Misconfigured("carrier http needs ASSENT_CARRIER_URL")
        key = settings.carrier_key.get_secret_value() if settings.carrier_key else None
        return {"http": HttpCarrier(settings.carrier_url, key=key)}
    profile = Profile(latency_s=settings.simulator_latency_ms / 1000)
    return {"simulator": Simulator(_emitter(parts), seed=settings.simulator_seed, profile=profile)}


def _emitter(parts: Parts) -> Callable[[Sequence[Receipt]], Awaitable[None]]:
    """How a carrier that makes its own receipts brings them in: the topic that callbacks publish to."""

    async def emit(receipts: Sequence[Receipt]) -> None:
        rows = [((receipt.ref or receipt.carrier_id).encode(), encode(receipt)) for receipt in receipts]
        while rows:
            try:
                acks = await parts.producer.publish(parts.topics.receipts, rows)
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
        await asyncio.gather(*(worker.start() for worker in workers))
        for worker in workers:
            stack.push_async_callback(worker.stop)
        await until_told(settings, *(worker.run() for worker in workers))


@asynccontextmanager
async def _holding(parts: Parts) -> AsyncIterator[Hold]:
    hold_loop = Hold(
        pool=parts.pool,
        intake=parts.intake(),
        guard=parts.guard,
        cfg=parts.cfg,
        outbox=Outbox(parts.producer, parts.topics),
        bootstrap=parts.settings.kafka_bootstrap,
    )
    await hold_loop.start()
    try:
        yield hold_loop
    finally:
        await hold_loop.stop()


async def hold(settings: Settings) -> None:
    """Release held messages when they are due."""
    async with open_parts(settings) as parts, _holding(parts) as holding:
        await until_told(settings, holding.run())


# --- ledger, settle, commands ----------------------------------------------------------------------------------------


async def ledger(settings: Settings, with_hold: bool) -> None:
    """Carry permissions from PostgreSQL to the guard and announce the registry; run one (a second one waits)."""
    async with open_parts(settings) as parts:
        projection = Projection(
            settings.database_url.get_secret_value(), parts.guard, lambda: registry.load(parts.pool)
        )
        if not with_hold:
            await until_told(settings, projection.run())
            return
        async with beside(projection.run()), _holding(parts) as holding:
            await until_told(settings, holding.run())


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
        )
        stop = asyncio.Event()
        work = asyncio.create_task(settling.run(stop))
        try:
            await until_told(settings, _shielded(work))
        finally:
            stop.set()
            await asyncio.wait([work], timeout=GRACE_S)


def _owners(parts: Parts) -> Owners | None:
    """Whose port a reply came to; unknown until the registry has been read."""
    known = parts.cfg.registry
    return None if known is None else Owners(known.senders, parts.packs)


async def _shielded(work: "asyncio.Task[None]") -> None:
    await asyncio.shield(work)
