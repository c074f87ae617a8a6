"""What most processes share, opened in order and closed in reverse, and how a process lives until it is told to stop.

A part that is away at start is waited for within `PATIENCE_S`; away later, the rooms' own deadlines and back-offs hold.
A Redis that may evict, or that was filled by another version, is refused.
"""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg
from prometheus_client import start_http_server

from gateway import telemetry
from gateway.guard import Cfg, Guard, GuardUnavailable, Lease
from gateway.intake import Intake
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from gateway.records.connection import AWAY
from gateway.rules.pack import Pack, load, names
from gateway.rules.reach import PORTS, Reach, networks, ports
from gateway.settings import Settings
from gateway.stream import KafkaError, Producer, Topics

PATIENCE_S = 60.0
POOL_MOST = 8
COMMAND_S = 5.0
GRACE_S = 10
READY_FD = "ASSENT_READY_FD"
COLLECT = (200_000, 50, 100)
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
            reach=reach_of(self.settings),
            guard=self.guard,
            cfg=self.cfg,
            lease=Lease(self.guard.server),
            producer=self.producer,
            topics=self.topics,
            packs=self.packs,
            pepper=self.pepper,
        )


def carrier_name(settings: Settings) -> str:
    """The default carrier: an address selects carrier `http`."""
    return "http" if settings.carrier_url else settings.carrier


def queried_carriers(settings: Settings) -> frozenset[str]:
    """The carriers that can be asked what became of a message."""
    if carrier_name(settings) == "http" and not settings.carrier_query_url:
        return frozenset()
    return frozenset({carrier_name(settings)})


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


def contents_days(settings: Settings) -> int:
    """How long what messages said is kept: never longer than the log that says to whom it belongs."""
    if settings.contents_days > settings.records_days:
        raise Misconfigured("ASSENT_CONTENTS_DAYS is at most ASSENT_RECORDS_DAYS: the log says whose the contents are")
    return settings.contents_days


def reach_of(settings: Settings) -> Reach:
    """Which addresses clients' webhooks may have."""
    try:
        return Reach(networks(settings.webhook_allow), PORTS | ports(settings.webhook_ports), settings.local)
    except ValueError:
        text = "ASSENT_WEBHOOK_ALLOW is a list of networks, such as 10.20.0.0/16, ASSENT_WEBHOOK_PORTS one of ports"
        raise Misconfigured(text) from None


async def guard_of(settings: Settings, *, timeout_s: float = 1.0) -> Guard:
    """The guard over the Redis of the settings; it need not answer yet."""
    try:
        return await Guard.connect(settings.redis_url, timeout_s=timeout_s, vouched=settings.redis_trusted)
    except ValueError:
        raise Misconfigured(
            "ASSENT_REDIS_URL must be redis://host:port/db, rediss://…, unix://… or redis+cluster://host:port,host:port"
        ) from None


async def patiently(what: str, attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Try until it works or `PATIENCE_S` is over."""
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await attempt()
        except (*AWAY, GuardUnavailable, KafkaError) as fault:
            if asyncio.get_running_loop().time() > until:
                raise Misconfigured(f"{what} does not answer ({type(fault).__name__}); is its address right?") from None
            log.info("waiting", part=what, error=type(fault).__name__)
            await asyncio.sleep(0.5)


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Every part that most processes need, started; stopped in reverse."""
    telemetry.configure_logging(settings.log_level)
    keys = secrets(settings)
    topics = Topics(settings.topic_prefix)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings))
        guard = await guard_of(settings)
        stack.push_async_callback(guard.close)
        if problems := await patiently("Redis", guard.verify):
            raise Misconfigured(f"this Redis may not hold permissions: {'; '.join(problems)}")
        appender = Appender(pool, keys, guard)
        await appender.start()
        stack.push_async_callback(appender.stop)
        producer = Producer(settings.kafka_bootstrap, topics)
        stack.push_async_callback(producer.stop)
        await producer.start()
        cfg = Cfg(guard.server)
        await cfg.start()
        stack.push_async_callback(cfg.close)
        await stack.enter_async_context(beside(flushing()))
        packs = {name: load(name) for name in names()}
        yield Parts(settings, keys, packs, pool, guard, cfg, topics, producer, appender)


@asynccontextmanager
async def open_pool(settings: Settings) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """Connections to PostgreSQL, waited for."""
    dsn = settings.database_url.get_secret_value()
    pool = await patiently(
        "PostgreSQL", lambda: asyncpg.create_pool(dsn, min_size=1, max_size=POOL_MOST, command_timeout=COMMAND_S)
    )
    try:
        yield pool
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 3.0)


@asynccontextmanager
async def beside(loop: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a loop beside the body. One that the process cannot do without is also awaited in it: `ended`."""
    task = asyncio.create_task(loop)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(task: "asyncio.Task[None]") -> None:
    """Until a task ends that is somebody else's to cancel; its fault is raised here."""
    await asyncio.shield(task)


async def flushing() -> None:
    """Move what was measured to where it is shown, for ever."""
    while True:
        await asyncio.sleep(1)
        telemetry.flush()


def say_ready() -> None:
    """Started: what lives now lives to the end, so the collector leaves it alone. Tell the supervisor, if any."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT)
    fd = os.environ.pop(READY_FD, None)
    if fd is not None:
        os.write(int(fd), b"ready\n")
        os.close(int(fd))


async def until_told(settings: Settings, *loops: Coroutine[Any, Any, None]) -> None:
    """Run the process's own loops until SIGTERM or SIGINT; a loop that fails ends the process with its fault."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    if settings.metrics_port and settings.metrics_dir is None:
        start_http_server(settings.metrics_port, registry=telemetry.REGISTRY)
    tasks = [asyncio.create_task(loop) for loop in loops]
    waiting = asyncio.create_task(told.wait())
    say_ready()
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()
    finally:
        for task in (waiting, *tasks):
            task.cancel()
        await asyncio.gather(waiting, *tasks, return_exceptions=True)
