"""The breaker's evaluator: once a second it counts, judges, and stops what has passed a line.

One process evaluates, the one that holds an advisory lock on a connection of its own; the others stand by. The rule and
its lines are `rules.breaker`'s and the packs'. Stopping takes effect first: position, act and alert are one
transaction, which `cfg` carries to every process within a second. The ledger is told afterwards, in a loop of its own,
until it has the act; its event is named by the act's number, so telling it twice is telling it once. A crash between
leaves an act that the next evaluator tells.

Nothing here closes a breaker: that takes a person and a reason. A scope is counted from the last time a person let it
go on, so what was judged then does not stop it again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from asyncpg import Pool, QueryCanceledError

from gateway.contract.consent import Event, EventKind
from gateway.contract.health import Alert
from gateway.contract.registry import Registry
from gateway.contract.scope import whoever
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.events import SYSTEM
from gateway.records import breakers, registry, weighing
from gateway.records.breakers import Act
from gateway.records.connection import AWAY, Connection
from gateway.records.health import Dimension
from gateway.records.weighing import MINUTE_MS
from gateway.rules.breaker import KINDS, WITHIN_MINUTES, Counts, Verdict, in_force, strictest
from gateway.rules.pack import Pack
from gateway.telemetry import BREAKER_LOOKS, BREAKER_OPENS, BREAKERS, logger

BY = "assent"
"""In whose name it opens."""
EVERY_S = 1.0
STANDBY_S = 1.0
AGAIN_S = 1.0
DEADLINE_S = 4.0
LOOK_S = 20.0
NAMING_S = 1.0
"""How long all the stops of one look may wait for what is to be cleaned first."""
AT_ONCE = 100
WARN_AT_ONCE = 50
_SHOWN = (*KINDS, "class", "all")

log = logger("settle")


class Look(NamedTuple):
    """What one look did: scopes that it stopped, and that it warned of."""

    opened: list[str]
    warned: list[str]


class Evaluator:
    """Runs beside settlement. `known`: the registry as `cfg` has it; `clock`: Unix milliseconds."""

    def __init__(
        self,
        pool: Pool[Any],
        appender: Appender,
        packs: Mapping[str, Pack],
        known: Callable[[], Registry | None],
        clock: Callable[[], int],
    ) -> None:
        self._pool, self._appender, self._packs, self._known, self._clock = pool, appender, packs, known, clock
        self._counting = weighing.Counting()
        self._naming_until = 0.0

    async def run(self) -> None:
        """For ever; outages are waited out, and another's tenure too."""
        while True:
            try:
                async with self._pool.acquire(timeout=DEADLINE_S) as conn:
                    if await breakers.claim(conn):
                        log.info("breaker_evaluating")
                        await self._tenure(conn)
            except AWAY as fault:
                log.warning("breaker_waits", error=type(fault).__name__)
            except Exception as fault:
                log.exception("breaker_failed", error=type(fault).__name__)
            await asyncio.sleep(STANDBY_S)

    async def _tenure(self, conn: Connection) -> None:
        telling = asyncio.create_task(self._telling())
        try:
            while True:
                async with asyncio.timeout(LOOK_S):
                    await self.look(conn)
                await asyncio.sleep(EVERY_S)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            for kind in _SHOWN:
                for position in ("open", "trickle", "warn"):
                    BREAKERS.set(0, kind, position)

    # --- judging ---------------------------------------------------------------------------------------------------

    async def look(self, conn: Connection) -> Look:
        """Count and judge every scope once."""
        now = self._clock() // MINUTE_MS
        standing = {one.scope: one for one in await registry.breakers(conn)}
        floors = weighing.floors(standing.values())
        counted = await self._counting.counts(conn, now, floors, acted=True)
        warned = await breakers.warned(conn)
        known = self._known()
        lines = in_force(known.senders if known else (), self._packs)
        judged = {
            scope: strictest(lines(scope), scope, counts)
            for scope, counts in counted.items()
            if not (_stopped(standing, scope) or _foreign(known, scope, counts))
        }
        done = Look([], [])
        self._naming_until = asyncio.get_running_loop().time() + NAMING_S
        for scope, (verdict, _) in sorted(judged.items(), key=lambda one: -one[1][0].share):  # the worst first
            if verdict.level == "open":
                seen = standing[scope].changed_at if scope in standing else None
                if await self._stop(conn, scope, seen, verdict, weighing.floor_in(floors, scope)):
                    done.opened.append(scope)
            elif verdict.level == "warn" and scope not in warned and len(done.warned) < WARN_AT_ONCE:
                await self._warn(conn, scope, verdict)
                done.warned.append(scope)
        calm = [scope for scope in warned if scope not in judged or judged[scope][0].share < judged[scope][1].calm]
        if calm:
            await breakers.calm(conn, calm)
        _show(standing, {*warned, *done.warned} - {*calm, *done.opened}, done.opened)
        return done

    async def _stop(
        self, conn: Connection, scope: str, seen: datetime | None, verdict: Verdict, floor: int
    ) -> int | None:
        """Stop a scope; none where somebody moved it meanwhile."""
        near = verdict.nearest
        if near is None:
            raise AssertionError("what is open has passed a line")
        now = self._clock() // MINUTE_MS
        since = max(floor, now - WITHIN_MINUTES[near.line.within])
        named = {}
        for by in ("campaign", "list_source"):
            if not scope.startswith(f"{by}:"):
                named[by] = await self._named(conn, scope, cast("Any", by), since, now + WITHIN_MINUTES["24h"])
        figures = near.figures() | {"clean": named}
        alert = Alert(
            key=f"breaker.open/{scope}",
            kind="breaker.open",
            severity="critical",
            scope=scope,
            summary=f"{scope} is stopped: {verdict.reason}.{_to_clean(scope, named)}",
            detail=figures,
        )
        act = await breakers.stop(conn, scope, seen, by=BY, reason=verdict.reason, figures=figures, alert=alert)
        if act is not None:
            kind, counts = scope.partition(":")[0], near.line.counts
            BREAKER_OPENS.add(1, kind, counts)
            log.warning("breaker_opened", kind=kind, line=near.line.name, n=near.n, delivered=near.delivered)
        return act

    async def _named(self, conn: Connection, scope: str, by: Dimension, since: int, until: int) -> list[dict[str, Any]]:
        """What to clean first. It only helps whoever is woken: the stops of a look wait for it a moment, no longer."""
        try:
            async with asyncio.timeout_at(self._naming_until):
                return [one._asdict() for one in await breakers.worst(conn, scope, by, since, until)]
        except (TimeoutError, QueryCanceledError) as fault:
            log.warning("breaker_names_nothing", error=type(fault).__name__)
            return []

    async def _warn(self, conn: Connection, scope: str, verdict: Verdict) -> None:
        figures = verdict.nearest.figures() if verdict.nearest else {}
        alert = Alert(
            key=f"breaker.warn/{scope}",
            kind="breaker.warn",
            severity="warning",
            scope=scope,
            summary=f"{scope} is at {verdict.share:.0%} of a line: {verdict.reason}.",
            detail=figures,
        )
        if await breakers.warn(conn, scope, figures, alert):
            log.warning("breaker_warned", kind=scope.partition(":")[0], line=figures.get("line"))

    # --- the ledger ------------------------------------------------------------------------------------------------

    async def _telling(self) -> None:
        """Tell the ledger what it does not have yet, for ever."""
        while True:
            try:
                await self.tell()
            except (*AWAY, LedgerUnavailable) as fault:
                log.warning("breaker_untold", error=type(fault).__name__)
            except Exception as fault:
                log.exception("breaker_untold", error=type(fault).__name__)
            await asyncio.sleep(AGAIN_S)

    async def tell(self) -> int:
        """Append what the ledger does not have yet; how many. Raises what PostgreSQL and the ledger raise."""
        async with self._pool.acquire(timeout=DEADLINE_S) as conn:
            acts = await breakers.unrecorded(conn, AT_ONCE)
        if acts:
            await self._appender.append([event_of(act) for act in acts])
            async with self._pool.acquire(timeout=DEADLINE_S) as conn:
                await breakers.mark_recorded(conn, [act.id for act in acts])
        return len(acts)


def event_of(act: Act) -> Event:
    """An act as the ledger has it."""
    data: dict[str, Any] = {"scope": act.scope, "open": act.is_open, "person": act.acted_by, "why": act.reason}
    if act.permille is not None:
        data["permille"] = act.permille
    if act.figures is not None:
        data["figures"] = act.figures
    return Event(
        event_id=f"breaker/{act.scope}/{act.id}",
        kind=EventKind.BREAKER,
        number=None,
        subject=SYSTEM,
        occurred_at_ms=int(act.at.timestamp() * 1000),
        data=data,
    )


def _stopped(standing: Mapping[str, registry.Breaker], scope: str) -> bool:
    """Whether it is stopped whole already, alone or with everybody's of its name: there is nothing to judge."""
    return any(one in standing and standing[one].position == "open" for one in (scope, whoever(scope) or scope))


def _foreign(known: Registry | None, scope: str, counts: Counts) -> bool:
    """Whether it is a port that nobody of ours has or had: files of complaints name all sorts, and nobody is woken."""
    if known is None or not scope.startswith("port:") or counts.month.delivered:
        return False
    port = scope.partition(":")[2]
    return not any(port in (one.service_port, one.marketing_port) for one in known.senders)


def _to_clean(scope: str, named: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Which list to look at first."""
    if scope.startswith("list_source:"):
        return f" Clean {scope}."
    worst = [f"{by}:{shares[0]['name']}" for by in ("list_source", "campaign") if (shares := named.get(by))]
    return f" Clean {' and '.join(worst)} first." if worst else ""


def _show(standing: Mapping[str, registry.Breaker], warned: set[str], opened: Sequence[str]) -> None:
    found = Counter((scope.partition(":")[0], one.position) for scope, one in standing.items() if scope not in opened)
    found.update((scope.partition(":")[0], "open") for scope in opened)
    for kind in _SHOWN:
        for position in ("open", "trickle"):
            BREAKERS.set(found[kind, position], kind, position)
        BREAKERS.set(sum(scope.partition(":")[0] == kind for scope in warned), kind, "warn")
    BREAKER_LOOKS.add(1)
