"""What an operator runs once: prepare, rebuild, stop and resume, add clients and senders."""

import asyncio
import gc
import secrets as random
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from gateway import telemetry
from gateway.assemble.parts import COLLECT, COMMAND_S, Misconfigured, patiently, secrets
from gateway.assemble.recovering import recovery
from gateway.contract.consent import Event, EventKind
from gateway.contract.registry import Client, Sender
from gateway.guard import Guard
from gateway.ledger.appender import Appender
from gateway.ledger.day import Progress
from gateway.ledger.events import SYSTEM
from gateway.ledger.rebuild import Filled
from gateway.ledger.rebuild import rebuild as refill
from gateway.records import registry
from gateway.records.connection import Connection
from gateway.records.migrate import migrate
from gateway.rules.pack import load, names
from gateway.settings import Settings
from gateway.stream import Topics, ensure


async def prepare(settings: Settings) -> None:
    """Bring the schema and the topics to this version; in the local profile, add the demo client and sender."""
    telemetry.configure_logging(settings.log_level)
    secrets(settings)
    dsn = settings.database_url.get_secret_value()
    topics = Topics(settings.topic_prefix)
    await asyncio.gather(
        patiently("PostgreSQL", lambda: migrate(dsn)),
        patiently("Kafka", lambda: ensure(settings.kafka_bootstrap, topics, settings.partitions, settings.replication)),
    )
    if settings.local:
        async with _connection(settings) as connection:
            await registry.seed_demo(connection, bytes.fromhex(settings.pepper.get_secret_value()))


async def rebuild(settings: Settings, progress: Progress) -> Filled:
    """Fill the guard's cache from PostgreSQL and Kafka."""
    gc.set_threshold(*COLLECT)
    guard = await Guard.connect(settings.redis_url, timeout_s=5.0, vouched=settings.redis_trusted)
    try:
        if problems := await guard.verify():
            raise Misconfigured("; ".join(problems))
        packs = {name: load(name) for name in names()}
        dsn = settings.database_url.get_secret_value()
        return await refill(dsn, guard, progress, recovery(settings, guard, packs))
    finally:
        await guard.close()


@asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(settings.database_url.get_secret_value(), timeout=COMMAND_S)
    try:
        yield connection
    finally:
        await connection.close()


async def stop(settings: Settings, scope: str, *, by: str, reason: str) -> None:
    """Open a breaker: stopped first, recorded then."""
    await _move(settings, scope, by, reason, is_open=True)
    await _record(settings, scope, by, reason, is_open=True)


async def resume(settings: Settings, scope: str, *, by: str, reason: str) -> None:
    """Close a breaker: recorded first, so that nothing is ever resumed without a name and a reason."""
    await _record(settings, scope, by, reason, is_open=False)
    await _move(settings, scope, by, reason, is_open=False)


async def _move(settings: Settings, scope: str, by: str, reason: str, *, is_open: bool) -> None:
    async with _connection(settings) as connection:
        await registry.set_breaker(connection, scope, is_open=is_open, by=by, reason=reason)


async def _record(settings: Settings, scope: str, by: str, reason: str, *, is_open: bool) -> None:
    dsn = settings.database_url.get_secret_value()
    guard = await Guard.connect(settings.redis_url)
    try:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            appender = Appender(pool, secrets(settings), guard)
            await appender.start()
            data = {"scope": scope, "open": is_open, "person": by, "why": reason}
            event = Event(
                event_id=f"cli/{uuid.uuid4()}",
                kind=EventKind.BREAKER,
                number=None,
                subject=SYSTEM,
                occurred_at_ms=time.time_ns() // 1_000_000,
                data=data,
            )
            await appender.append([event])
            await appender.stop()
    finally:
        await guard.close()


async def add_client(
    settings: Settings,
    name: str,
    *,
    senders: Sequence[str],
    purposes: Sequence[str],
    roles: Sequence[str],
    quota_per_minute: int,
) -> str:
    """Add a client, or replace it with a new key; the key, which is stored nowhere."""
    key = random.token_urlsafe(32)
    pepper = bytes.fromhex(settings.pepper.get_secret_value())
    client = Client(
        id=name,
        key_digests=(registry.key_digest(pepper, key),),
        senders=tuple(senders),
        purposes=tuple(purposes),
        roles=tuple(roles),
        quota_per_minute=quota_per_minute,
    )
    async with _connection(settings) as connection:
        await registry.put_client(connection, client)
    return key


async def add_sender(settings: Settings, sender: Sender) -> None:
    """Add a sender, or replace it."""
    async with _connection(settings) as connection:
        await registry.put_sender(connection, sender)
