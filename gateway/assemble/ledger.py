"""Ledger: permissions from PostgreSQL to the guard, and where it is asked to, the release of held messages."""

from gateway.assemble.hold import holding
from gateway.assemble.parts import beside, open_parts, until_told
from gateway.assemble.recovering import recovery
from gateway.ledger.projection import Projection
from gateway.records import registry
from gateway.settings import Settings


async def ledger(settings: Settings, with_hold: bool) -> None:
    """Carry permissions from PostgreSQL to the guard and announce the registry; run one (a second one waits)."""
    async with open_parts(settings) as parts:
        projection = Projection(
            settings.database_url.get_secret_value(),
            parts.guard,
            lambda: registry.load(parts.pool),
            recovery(settings, parts.guard, parts.packs),
        )
        if not with_hold:
            await until_told(settings, projection.run())
            return
        async with beside(projection.run()), holding(parts) as hold_loop:
            await until_told(settings, hold_loop.run())
