"""Hands what this worker refused to PostgreSQL, once a second; what cannot be written is kept for the next second.

Beside the requests, on one connection, at most once a second: no answer waits for it. A crash loses one second's tally.
"""

import asyncio
import time

from gateway import telemetry
from gateway.edge.gate import Gate
from gateway.records import refusals
from gateway.records.connection import AWAY

EVERY_S = 1.0
MINUTE_S = 60

log = telemetry.logger("edge")


async def tell_refusals(gate: Gate) -> None:
    """For ever."""
    away = False
    while True:
        await asyncio.sleep(EVERY_S)
        seen = gate.intake.refused.take()
        if not seen:
            continue
        try:
            async with gate.pool.acquire(timeout=EVERY_S) as connection:
                await refusals.add(connection, int(time.time()) // MINUTE_S, seen)
            away = False
        except AWAY as fault:
            for (sender, code), n in seen.items():
                gate.intake.refused.add(sender, code, n)
            if not away:
                log.warning("refusals_wait", error=type(fault).__name__)
            away = True
