"""What everybody watches, read once for all of them: figures of the last 24 hours, breakers' standing, warnings.

A reading is at most `FRESH_S` old; whoever asks for an older one reads, the others wait for it. Nobody watching,
nothing is read. PostgreSQL away, the reading raises what the driver raises: each page says how old its figures are.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from gateway.console.desk import Desk
from gateway.contract.registry import Sender
from gateway.records import breakers, health, refusals, registry
from gateway.records.connection import Connection
from gateway.records.health import DAY_HOURS, Totals, Where, Windows
from gateway.records.spans import HOUR
from gateway.rules.breaker import Line

FRESH_S = 1.6
MOST_KEPT = 200
DEADLINE_S = 4.0
AHEAD = 2
"""Minutes: a clock of another machine may be ahead of ours."""


class Standing(NamedTuple):
    """Breakers and warnings."""

    breakers: dict[str, registry.Breaker]
    warned: Mapping[str, Any]


class Board(NamedTuple):
    """The overview's figures."""

    totals: Totals
    refused: dict[str, int]
    scopes: dict[str, Windows]
    hours: "list[tuple[int, Totals]]"
    standing: Standing
    senders: dict[str, Sender]


class Part(NamedTuple):
    """Figures of a sender or a campaign."""

    totals: Totals
    windows: Windows
    hours: "list[tuple[int, Totals]]"
    campaigns: dict[str, Totals]
    purposes: dict[str, Totals]
    refused: dict[str, int]
    standing: Standing
    sender: Sender | None


class Live:
    """Readings, kept for a moment."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kept: dict[str, tuple[float, Any]] = {}
        self._reading: dict[str, asyncio.Lock] = {}

    async def board(self) -> Board:
        """The overview."""
        board: Board = await self._fresh("board", _board)
        return board

    async def part(self, kind: str, name: str) -> Part:
        """A sender's or a campaign's page."""
        part: Part = await self._fresh(f"{kind}:{name}", lambda conn: _part(conn, kind, name))
        return part

    async def _fresh(self, key: str, read: Callable[[Connection], Awaitable[Any]]) -> Any:
        if len(self._reading) > MOST_KEPT:
            self._kept.clear()
            self._reading.clear()
        async with self._reading.setdefault(key, asyncio.Lock()):
            at, value = self._kept.get(key, (0.0, None))
            if value is None or time.monotonic() - at > FRESH_S:
                async with asyncio.timeout(DEADLINE_S), self._desk.pool.acquire(timeout=DEADLINE_S) as connection:
                    value = await read(connection)
                self._kept[key] = (time.monotonic(), value)
        return value


def complaint_line(desk: Desk) -> Line:
    """The strictest complaint line of a day over all packs: what the board's first figure is held against."""
    lines = [
        line
        for pack in desk.packs.values()
        for line in pack.breaker.lines
        if line.counts == "complaints" and line.within == "24h" and line.ppm is not None
    ]
    return min(lines, key=lambda line: line.ppm or 0.0)


# --- reading ---------------------------------------------------------------------------------------------------------


def day() -> tuple[int, int]:
    """The Unix minutes of the last 24 whole hours and the present one, as the breaker counts them."""
    now = int(time.time()) // 60
    return (now // HOUR - DAY_HOURS) * HOUR, now + AHEAD


async def _board(conn: Connection) -> Board:
    since, until = day()
    known = await registry.load(conn)
    return Board(
        totals=(await health.totals(conn, since, until))[None],
        refused=await refusals.totals(conn, since, until),
        scopes=await health.breaker_counts(conn, until - AHEAD),
        hours=await _hours(conn, {}),
        standing=await _standing(conn),
        senders={one.id: one for one in known.senders},
    )


async def _part(conn: Connection, kind: str, name: str) -> Part:
    since, until = day()
    where: Where = {"sender" if kind == "sender" else "campaign": [name]}
    scopes = await health.breaker_counts(conn, until - AHEAD)
    sender = None
    if kind == "sender":
        sender = next((one for one in (await registry.load(conn)).senders if one.id == name), None)
    campaigns = await health.totals(conn, since, until, by="campaign", where=where) if kind == "sender" else {}
    purposes = await health.totals(conn, since, until, by="purpose", where=where)
    return Part(
        totals=(await health.totals(conn, since, until, where=where))[None],
        windows=scopes.get(f"{kind}:{name}", Windows()),
        hours=await _hours(conn, where),
        campaigns={key: one for key, one in campaigns.items() if key},
        purposes={key: one for key, one in purposes.items() if key},
        refused=await refusals.totals(conn, since, until, name) if kind == "sender" else {},
        standing=await _standing(conn),
        sender=sender,
    )


async def _hours(conn: Connection, where: Where) -> "list[tuple[int, Totals]]":
    since, until = day()
    return [(at, one) for at, _, one in await health.series(conn, since, until, "hour", where=where)]


async def _standing(conn: Connection) -> Standing:
    moved = {one.scope: one for one in await registry.breakers(conn)}
    return Standing(moved, await breakers.warned(conn))
