"""The edge on a real server over real parts, for the tests of this folder that begin with `test_edge_`."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import httpx
import uvicorn

from gateway.contract.registry import Client, Sender
from gateway.edge.app import Edge, create_app
from gateway.edge.gate import Gate
from gateway.guard import Cfg, Guard, Lease
from gateway.intake import Intake
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from gateway.ledger.projection import Projection
from gateway.ledger.reading import Reading
from gateway.records import registry
from gateway.rules.pack import load
from gateway.settle.owners import Registry
from gateway.settle.settle import Settle
from gateway.stream.producer import Producer
from gateway.stream.reader import Reader
from gateway.stream.topics import Topics, ensure

PEPPER, MASTER = b"p" * 32, b"m" * 32
ROLES = ("send", "consent", "read", "suppress", "complain", "operate")
CLIENTS = (
    Client(id="shop", senders=("acme",), roles=ROLES),
    Client(id="other", senders=("bolt",), roles=ROLES),
    Client(id="reads", senders=("acme",), roles=("read",)),
    Client(id="sends", senders=("acme",), roles=("send",)),
    Client(id="looks", senders=("bolt",), roles=("read",)),
    Client(id="head", senders=("*",), roles=ROLES),
    Client(id="carrier-http", roles=("carrier:http",)),
)
SENDERS = (
    Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002"),
    Sender(id="bolt", signature="Bolt", service_port="10690003", marketing_port="10690004"),
)


def key(client: str) -> str:
    """The key of a test's client."""
    return f"key-of-{client}"


@dataclass(frozen=True)
class Running:
    """A server that answers, and what is behind it."""

    url: str
    app: Edge
    gate: Gate
    http: httpx.AsyncClient
    """Calls as client `shop`."""

    def as_(self, client: str) -> dict[str, str]:
        """Headers of another client."""
        return {"authorization": f"Bearer {key(client)}"}


@asynccontextmanager
async def opened(redis_url: str, kafka: str, prefix: str, database_url: str) -> AsyncIterator[Gate]:
    """A gate over real parts, with the projection beating beside it."""
    topics = Topics(prefix)
    await ensure(kafka, topics, 4, 1)
    guard, keys = await Guard.connect(redis_url), Keys(MASTER, PEPPER)
    await guard.server.command("CONFIG", "SET", "hash-max-listpack-value", "512")
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=6)
    async with pool.acquire() as connection:
        for client in CLIENTS:
            digests = (registry.key_digest(PEPPER, key(client.id)),)
            await registry.put_client(connection, client.model_copy(update={"key_digests": digests}))
        for sender in SENDERS:
            await registry.put_sender(connection, sender)
            now = datetime.now(UTC)
            await registry.attest(connection, sender.id, sender.marketing_port, free=True, tested_at=now, by="us")
    producer = Producer(kafka, topics)
    await producer.start()
    appender = Appender(pool, keys, guard)
    await appender.start()
    cfg, packs = Cfg(guard.server), {"cn": load("cn")}
    projecting = asyncio.create_task(Projection(database_url, guard, lambda: registry.load(pool)).run())
    await cfg.start()
    try:
        async with asyncio.timeout(15):
            while not cfg.fresh:  # noqa: ASYNC110 - it polls by itself
                await asyncio.sleep(0.05)
        intake = Intake(
            guard=guard,
            cfg=cfg,
            lease=Lease(guard.server),
            producer=producer,
            topics=topics,
            packs=packs,
            pepper=PEPPER,
        )
        yield Gate(
            intake=intake,
            cfg=cfg,
            guard=guard,
            appender=appender,
            reading=Reading(pool, keys),
            pool=pool,
            producer=producer,
            topics=topics,
            pepper=PEPPER,
            packs=packs,
        )
    finally:
        projecting.cancel()
        with suppress(asyncio.CancelledError):
            await projecting
        await cfg.close()
        await appender.stop()
        await producer.stop()
        await pool.close()
        await guard.close()


@asynccontextmanager
async def running(redis_url: str, kafka: str, prefix: str, database_url: str) -> AsyncIterator[Running]:
    """The edge on a port of its own."""
    gates: list[Gate] = []

    @asynccontextmanager
    async def open_gate() -> AsyncIterator[Gate]:
        async with opened(redis_url, kafka, prefix, database_url) as gate:
            gates.append(gate)
            yield gate

    app = create_app(open_gate)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning", lifespan="on"))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(30):
            while not server.started:
                assert not serving.done(), "the server did not start"
                await asyncio.sleep(0.02)
        headers = {"authorization": f"Bearer {key('shop')}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=10) as http:
            yield Running(url, app, gates[0], http)
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def settling(edge: Running, bootstrap: str, intake: Intake | None = None) -> AsyncIterator[None]:
    """Settle over the parts of this edge; it acknowledges and answers where it has an intake."""
    gate = edge.gate

    def owners() -> Registry | None:
        known = gate.cfg.registry
        return None if known is None else Registry(known.senders, gate.packs)

    settle = Settle(
        gate.pool,
        Reader(bootstrap, Settle.topics(gate.topics), gate.topics, "settle"),
        Reader(bootstrap, [gate.topics.replies], gate.topics, "settle.replies"),
        gate.producer,
        gate.topics,
        gate.guard,
        gate.appender,
        owners,
        intake=intake,
        flush_s=0.05,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(settle.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
