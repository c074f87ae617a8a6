"""What everybody watches, read once for all of them: figures of the last 24 hours, breakers' standing, warnings.

A reading is at most `FRESH_S` old; whoever asks for an older one reads, the others wait for it. Nobody watching,
nothing is read. PostgreSQL away, the reading raises what the driver raises: each page says how old its figures are.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.console.desk import Desk
from gateway.contract.registry import Sender
from gateway.records import breakers, health, refusals, registry, weighing
from gateway.records.connection import Connection
from gateway.records.health import Totals, Where
from gateway.records.spans import HOUR
from gateway.rules.breaker import Counts, Level, Line, Verdict, in_force, strictest
from gateway.rules.pack import Pack

FRESH_S = 1.6
MOST_KEPT = 200
DEADLINE_S = 4.0
AHEAD = 2
"""Minutes: a clock of another machine may be ahead of ours."""


class Standing(NamedTuple):
    """Breakers and warnings."""

    breakers: dict[str, registry.Breaker]
    warned: Mapping[str, Any]
    ways: Mapping[str, Sequence[Collection[str]]] = {}
    """How messages of a campaign or sender go (`breakers.ways`); read only while something is stopped."""


class Weighed(NamedTuple):
    """What breakers weigh, as the evaluator counts and judges it."""

    scopes: dict[str, Counts]
    floors: dict[str, int]
    """The Unix minutes from which scopes are counted that a person let go on."""
    standing: Standing
    senders: dict[str, Sender]

    def judged(self, scope: str, packs: Mapping[str, Pack]) -> Verdict:
        """The verdict on a scope now."""
        return strictest(in_force(self.senders.values(), packs)(scope), scope, self.scopes.get(scope, Counts()))[0]


class Board(NamedTuple):
    """The overview's figures."""

    totals: Totals
    refused: dict[str, int]
    hours: "list[tuple[int, Totals]]"
    weighed: Weighed


class Part(NamedTuple):
    """Figures of a sender or a campaign."""

    totals: Totals
    counts: Counts
    """As its breaker weighs it."""
    level: Level
    """How it is judged."""
    since: int
    """The Unix minute from which it is weighed, where a person let it go on; 0 where nobody did."""
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
        self._counting = weighing.Counting()
        self._kept: dict[str, tuple[float, Any]] = {}
        self._reading: dict[str, asyncio.Lock] = {}

    async def board(self) -> Board:
        """The overview."""
        weighed = await self.weighed()
        board: Board = await self._fresh("board", lambda conn: _board(conn, weighed))
        return board

    async def part(self, kind: str, name: str) -> Part:
        """A sender's or a campaign's page."""
        weighed = await self.weighed()
        packs = self._desk.packs
        part: Part = await self._fresh(f"{kind}:{name}", lambda conn: _part(conn, weighed, packs, f"{kind}:{name}"))
        return part

    async def weighed(self) -> Weighed:
        """What every breaker weighs."""
        found: Weighed = await self._fresh("weighed", self._weigh)
        return found

    async def _weigh(self, conn: Connection) -> Weighed:
        known, moved = (await registry.load(conn)).senders, await registry.breakers(conn)
        floors = weighing.floors(moved)
        scopes, senders = await self._counting.counts(conn, _now(), floors), {one.id: one for one in known}
        wanted = {*scopes, *(f"sender:{name}" for name in senders)}
        ways = await breakers.ways(conn, wanted, senders) if any(one.is_open for one in moved) else {}
        standing = Standing({one.scope: one for one in moved}, await breakers.warned(conn), ways)
        return Weighed(scopes, floors, standing, senders)

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


def _now() -> int:
    return int(time.time()) // 60


def day() -> tuple[int, int]:
    """The Unix minutes of the last 24 hours, as the breaker counts them."""
    return weighing.begins(_now())[0], _now() + AHEAD


def hours() -> range:
    """The Unix minutes at which hours begin that lie in the last 24, wholly or in part."""
    since, until = day()
    return range(since // HOUR * HOUR, until, HOUR)


async def _board(conn: Connection, weighed: Weighed) -> Board:
    since, until = day()
    return Board(
        totals=(await health.totals(conn, since, until))[None],
        refused=await refusals.totals(conn, since, until),
        hours=await _hours(conn, {}),
        weighed=weighed,
    )


async def _part(conn: Connection, weighed: Weighed, packs: Mapping[str, Pack], scope: str) -> Part:
    since, until = day()
    kind, _, name = scope.partition(":")
    whole = kind == "sender"
    where: Where = weighing.where_of(scope, weighed.senders)
    counts = weighed.scopes.get(scope)
    if counts is None:
        counts = await weighing.counts_of(conn, scope, _now(), weighed.floors, weighed.senders)
    verdict, _ = strictest(in_force(weighed.senders.values(), packs)(scope), scope, counts)
    campaigns = await health.totals(conn, since, until, by="campaign", where=where) if whole else {}
    purposes = await health.totals(conn, since, until, by="purpose", where=where)
    return Part(
        totals=(await health.totals(conn, since, until, where=where))[None],
        counts=counts,
        level=verdict.level,
        since=weighing.floor_in(weighed.floors, scope),
        hours=await _hours(conn, where),
        campaigns={key: one for key, one in campaigns.items() if key},
        purposes={key: one for key, one in purposes.items() if key},
        refused=await refusals.totals(conn, since, until, name) if whole else {},
        standing=weighed.standing,
        sender=weighed.senders.get(name) if whole else None,
    )


async def _hours(conn: Connection, where: Where) -> "list[tuple[int, Totals]]":
    since, until = day()
    return [(at, one) for at, _, one in await health.series(conn, since, until, "hour", where=where)]
