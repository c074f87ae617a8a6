"""Ledger: permissions from PostgreSQL to the guard, erasures when they are due, and where asked to, held messages.

It gives its sign of life only while Redis may be trusted: one whose policy is changed to evict while we run stops every
process within 10 s, as a dead ledger process would.
"""

from gateway import telemetry
from gateway.assemble.hold import holding
from gateway.assemble.parts import Parts, beside, ended, open_parts, until_told
from gateway.assemble.personal import erasures
from gateway.assemble.recovering import recovery
from gateway.contract.registry import Registry
from gateway.ledger.projection import Projection
from gateway.records import registry
from gateway.settings import Settings

log = telemetry.logger("assemble")


class RedisNotTrustedError(Exception):
    """The server may lose permissions by itself; its problems are in the log, and on /readyz."""


async def announced(parts: Parts) -> Registry:
    """What the next beat carries; raises, so that there is none, while the server may not hold permissions."""
    if problems := await parts.guard.verify():
        log.error("redis_not_trusted", problems=problems)
        raise RedisNotTrustedError
    return await registry.load(parts.pool)


async def ledger(settings: Settings, with_hold: bool) -> None:
    """Carry permissions from PostgreSQL to the guard and announce the registry; run one (a second one waits)."""
    async with open_parts(settings) as parts:
        projection = Projection(
            settings.database_url.get_secret_value(),
            parts.guard,
            lambda: announced(parts),
            recovery(settings, parts.guard, parts.packs),
        )
        erasing = erasures(parts)
        if not with_hold:
            await until_told(settings, projection.run(), erasing.run())
            return
        async with beside(projection.run()) as projecting, holding(parts) as hold_loop:
            await until_told(settings, hold_loop.run(), ended(projecting), erasing.run())
