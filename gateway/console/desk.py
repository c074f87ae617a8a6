"""What stands behind the console: the parts it reads and acts through, opened by `assemble`, shared by every page."""

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from gateway.ledger.appender import Appender
from gateway.ledger.reading import Reading
from gateway.rules.pack import Pack


@dataclass(frozen=True, slots=True)
class Desk:
    """The parts. `pool` is handed to functions of `records` and `ledger`; no page writes a query."""

    pool: "asyncpg.Pool[asyncpg.Record]"
    appender: Appender
    reading: Reading
    pepper: bytes
    packs: Mapping[str, Pack]
    public_url: str | None = None
    """`https://host` where others than this machine reach the console; none: loopback names only."""
    demo: bool = False
    """The local profile: the sign-in page names the demo user."""
