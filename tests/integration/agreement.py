"""After whatever happened, Redis holds of everybody what PostgreSQL says: asked once a part has come back."""

import asyncio
import time
from contextlib import suppress

from gateway.guard import Guard, GuardUnavailable
from gateway.ledger.audit import Report, agrees


async def agreement(dsn: str, guard: Guard, within_s: float = 20.0) -> Report:
    """The audit that found nothing, every lane filled; whoever heals them has so long."""
    until = time.monotonic() + within_s
    report = Report()
    while time.monotonic() < until:
        with suppress(GuardUnavailable, OSError, TimeoutError):
            report = await agrees(dsn, guard)
            if report.recipients and report.agrees and not report.cold:
                return report
        await asyncio.sleep(0.2)
    raise AssertionError(f"Redis and PostgreSQL do not agree: {report}")
