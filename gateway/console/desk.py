"""What stands behind the console: the parts it reads and acts through, opened by `assemble`, shared by every page."""

from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import asyncpg

from gateway.intake.complaints import Means
from gateway.ledger.appender import Appender
from gateway.ledger.evidence import Evidence
from gateway.ledger.reading import Reading
from gateway.ledger.sealing import Contents
from gateway.records import registry
from gateway.rules.pack import Pack


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts. `pool` is handed to functions of `records` and `ledger`; no page writes a query."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    appender: Appender
    reading: Reading
    pepper: bytes
    packs: Mapping[str, Pack]
    evidence: Evidence
    answer_h: int = 24
    """Within how many hours a complaint is answered."""
    runbook: str = "docs/runbook"
    """Where the runbook is read; linked where it is an address."""
    public_url: str | None = None
    """`https://host` where others than this machine reach the console; none: loopback names only."""
    demo: bool = False
    """The local profile: the sign-in page names the demo user."""


def zone_of(desk: Desk) -> ZoneInfo:
    """Where a day of complaints begins and ends: the first pack's zone."""
    return next(iter(desk.packs.values())).zone


async def means_of(desk: Desk) -> Means:
    """What complaints are taken and decided with."""
    senders = (await registry.load(desk.pool)).senders
    opened = Contents(desk.appender.keys).open
    return Means(desk.pool, desk.appender, senders, opened, zone_of(desk), desk.answer_h)
