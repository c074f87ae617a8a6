"""Turns at work that one process does at a time: a connection for as long as the turn lasts, and pauses between.

Owns no state of the work. An outage ends a turn, and so does any other fault, loudly; the next one begins after a pause
that grows while turns are short. Whoever works holds an advisory lock that lives and dies with the connection, so a
crash at any line lets the next process have its turn.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.records.connection import AWAY, Connection, Pool
from gateway.stream import KafkaError

ACQUIRE_S = 30.0
BACKOFF_S = (0.2, 5.0)
OUTAGES = (*AWAY, KafkaError)


async def turns(
    pool: Pool,
    stop: asyncio.Event,
    turn: Callable[[Connection], Awaitable[None]],
    *,
    log: Any,
    name: str,
    away: Callable[[], None] = lambda: None,
) -> None:
    """Have turns until `stop`. `name` begins the events that are logged; `away` is called after each that failed."""
    waits, failed, delay_s = f"{name}_waits", f"{name}_failed", BACKOFF_S[0]
    while not stop.is_set():
        began = time.monotonic()
        try:
            async with pool.acquire(timeout=ACQUIRE_S) as conn:
                await turn(conn)
            continue
        except OUTAGES as fault:
            log.warning(waits, error=type(fault).__name__)
        except Exception as fault:
            log.exception(failed, error=type(fault).__name__)
        if time.monotonic() - began > 10 * BACKOFF_S[1]:
            delay_s = BACKOFF_S[0]
        away()
        await pause(stop, delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        delay_s = min(delay_s * 2, BACKOFF_S[1])


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until `stop`."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
