"""The edge: HTTP by uvicorn; each worker opens its own parts before its first request and closes them at its end."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from gateway.assemble.evidence import evidence_of
from gateway.assemble.parts import GRACE_S, READY_FD, Misconfigured, carrier_name, open_parts, say_ready
from gateway.edge.app import Edge, create_app
from gateway.edge.gate import Gate
from gateway.ledger.reading import Reading
from gateway.rules.reach import Network, networks
from gateway.settings import Settings


def edge(settings: Settings) -> None:
    """Serve HTTP with `settings.workers` workers until told to stop."""
    if settings.local and settings.host not in {"127.0.0.1", "::1", "localhost"}:
        raise Misconfigured("the local profile has well-known keys: it listens on loopback only")
    proxies(settings)
    asyncio.run(_tried(settings))
    if settings.workers > 1:
        os.environ.pop(READY_FD, None)  # spawned workers do not inherit it; /readyz speaks for them
    uvicorn.run(
        "gateway.assemble.edge:edge_app",
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
        log_config=None,
        log_level="warning",
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
    )


def proxies(settings: Settings) -> tuple[Network, ...]:
    """Whose forwarded headers are believed."""
    try:
        return networks(settings.trusted_proxies)
    except ValueError:
        text = "ASSENT_TRUSTED_PROXIES is a list of addresses and networks, such as 10.0.0.0/8,192.0.2.7"
        raise Misconfigured(text) from None


async def _tried(settings: Settings) -> None:
    """Open every part once before there is a worker: what is wrong is then a line and an exit status.

    A worker could only say it in a traceback, and several would be started again for ever.
    """
    async with open_parts(settings):
        pass


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
            ledger_dir=settings.ledger_dir,
            evidence=evidence_of(parts.pool, parts.keys, settings),
            carrier=carrier_name(settings),
            trusted_proxies=proxies(settings),
            public_url=settings.public_url,
            answer_h=settings.complaint_answer_h,
        )
