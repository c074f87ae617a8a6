"""Puts one process together from plain values, and takes it apart in reverse.

The only reader of `Settings` beside `local`. Each process coroutine here is one of ARCHITECTURE.md's: it opens its
parts, says that it is ready, works until SIGTERM or SIGINT, and closes them. A part that is away at start is waited for
within `PATIENCE_S`; away later, the rooms' own deadlines and back-offs hold.
"""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
import uvicorn
from prometheus_client import start_http_server

from gateway import telemetry
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
from gateway.guard import Cfg, Guard, GuardUnavailable, Lease
from gateway.intake import Intake
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from gateway.ledger.projection import Projection, rebuild as refill
from gateway.ledger.reading import Reading
from gateway.records import registry
from gateway.records.migrate import migrate
from gateway.rules.pack import Pack, load, names
from gateway.settings import Settings
from gateway.stream import Producer, StreamBusy, Topics, encode, ensure

PATIENCE_S = 60.0
POOL_MOST = 8
COMMAND_S = 5.0
GRACE_S = 10
READY_FD = "ASSENT_READY_FD"
COLLECT = (50_000, 20, 20)
"""A batch makes thousands of objects that reference counting frees; the default would scan them dozens of times."""

log = telemetry.logger("assemble")


class Misconfigured(Exception):  # noqa: N818 - it names what is wrong
    """A setting is missing or contradicts what the stores were made with; the text says which and what to do."""


@dataclass(slots=True)
class Parts:
    """What most processes share. All of it is started."""

    settings: Settings
    keys: Keys
    packs: Mapping[str, Pack]
    pool: "asyncpg.Pool[asyncpg.Record]"
    guard: Guard
    cfg: Cfg
    topics: Topics
    producer: Producer
    appender: Appender

    @property
    def pepper(self) -> bytes:
        """The installation's pepper."""
        return bytes.fromhex(self.settings.pepper.get_secret_value())

    def intake(self) -> Intake:
        """One intake over these parts."""
        return Intake(
            guard=self.guard,
            cfg=self.cfg,
            lease=Lease(self.guard.server),
            producer=self.producer,
            topics=self.topics,
            packs=self.packs,
            pepper=self.pepper,
        )


# --- opening parts ---------------------------------------------------------------------------------------------------


def secrets(settings: Settings) -> Keys:
    """The installation's secrets; says which setting is wrong, never what it holds."""
    try:
        master = bytes.fromhex(settings.master_key.get_secret_value())
        return Keys(master, bytes.fromhex(settings.pepper.get_secret_value()))
    except ValueError:
        raise Misconfigured(
            "ASSENT_PEPPER (at least 64 hex digits) and ASSENT_MASTER_KEY (64 hex digits) are needed. Make each with "
            'python3 -c "import secrets; print(secrets.token_hex(32))" and keep them for ever.'
        ) from None


async def _patiently(what: str, attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Try until it works or `PATIENCE_S` is over."""
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await attempt()
        except (OSError, TimeoutError, asyncpg.PostgresError, GuardUnavailable) as fault:
            if asyncio.get_running_loop().time() > until:
                raise Misconfigured(f"{what} does not answer ({type(fault).__name__}); is its address right?") from None
            log.info("waiting", part=what, error=type(fault).__name__)
            await asyncio.sleep(0.5)


@asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[Parts]:
    """Every part that most processes need, started; stopped in reverse."""
    telemetry.configure_logging(settings.log_level)
    keys = secrets(settings)
    topics = Topics(settings.topic_prefix)
    dsn = settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        pool = await _patiently(
            "PostgreSQL", lambda: asyncpg.create_pool(dsn, min_size=1, max_size=POOL_MOST, command_timeout=COMMAND_S)
        )
        stack.push_async_callback(_close_pool, pool)
        guard = await Guard.connect(settings.redis_url)
        stack.push_async_callback(guard.close)
        appender = Appender(pool, keys, guard)
        await appender.start()
        stack.push_async_callback(appender.stop)
        producer = Producer(settings.kafka_bootstrap, topics)
        stack.push_async_callback(producer.stop)
        await producer.start()
        cfg = Cfg(guard.server)
        await cfg.start()
        stack.push_async_callback(cfg.close)
        await stack.enter_async_context(_loops(_flushing()))
        packs = {name: load(name) for name in names()}
        yield Parts(settings, keys, packs, pool, guard, cfg, topics, producer, appender)


async def _close_pool(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(pool.close(), 3.0)


@asynccontextmanager
async def _loops(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops beside the body; the first that fails is the body's fault too."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _flushing() -> None:
    while True:
        await asyncio.sleep(1)
        telemetry.flush()


def _say_ready() -> None:
    """Started: what lives now lives to the end, so the collector leaves it alone. Tell the supervisor, if any."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    fd = os.environ.pop(READY_FD, None)
    if fd is not None:
        os.write(int(fd), b"ready\n")
        os.close(int(fd))


async def _until_told(settings: Settings, *loops: Coroutine[Any, Any, None]) -> None:
    """Run the process's own loops until SIGTERM or SIGINT; a loop that fails ends the process with its fault."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    if settings.metrics_port and settings.metrics_dir is None:
        start_http_server(settings.metrics_port, registry=telemetry.REGISTRY)
    tasks = [asyncio.create_task(loop) for loop in loops]
    waiting = asyncio.create_task(told.wait())
    _say_ready()
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)


# --- the processes ---------------------------------------------------------------------------------------------------


async def prepare(settings: Settings) -> None:
    """Bring the schema and the topics to this version; in the local profile, add the demo client and sender."""
    telemetry.configure_logging(settings.log_level)
    keys = secrets(settings)
    dsn = settings.database_url.get_secret_value()
    topics = Topics(settings.topic_prefix)
    await asyncio.gather(
        _patiently("PostgreSQL", lambda: migrate(dsn)),
        _patiently(
            "Kafka", lambda: ensure(settings.kafka_bootstrap, topics, settings.partitions, settings.replication)
        ),
    )
    if settings.local:
        connection = await asyncpg.connect(dsn, timeout=COMMAND_S)
        try:
            await registry.seed_demo(connection, bytes.fromhex(settings.pepper.get_secret_value()))
        finally:
            await connection.close()
    del keys


def edge(settings: Settings) -> None:
    """Serve HTTP with `settings.workers` workers until told to stop."""
    if settings.local and settings.host not in {"127.0.0.1", "::1", "localhost"}:
        raise Misconfigured("the local profile has well-known keys: it listens on loopback only")
    secrets(settings)
    uvicorn.run(
        "gateway.assemble:edge_app",
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
    async with _open(settings) as parts:
        _say_ready()
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
        parts = await stack.enter_async_context(_open(settings))
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
        await _until_told(settings, *(worker.run() for worker in workers))


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
    async with _open(settings) as parts, _holding(parts) as holding:
        await _until_told(settings, holding.run())


# --- ledger, settle, commands ----------------------------------------------------------------------------------------


async def ledger(settings: Settings, with_hold: bool) -> None:
    """Carry permissions from PostgreSQL to the guard and announce the registry; run one (a second one waits)."""
    async with _open(settings) as parts:
        projection = Projection(
            settings.database_url.get_secret_value(), parts.guard, lambda: registry.load(parts.pool)
        )
        if not with_hold:
            await _until_told(settings, projection.run())
            return
        async with _loops(projection.run()), _holding(parts) as holding:
            await _until_told(settings, holding.run())


async def rebuild(settings: Settings, progress: Callable[[int, int], None]) -> None:
    """Fill the guard's cache from PostgreSQL."""
    guard = await Guard.connect(settings.redis_url, timeout_s=5.0)
    try:
        if problems := await guard.verify():
            raise Misconfigured("; ".join(problems))
        await refill(settings.database_url.get_secret_value(), guard, progress)
    finally:
        await guard.close()
