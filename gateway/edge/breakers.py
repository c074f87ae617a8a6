"""Breakers: what is stopped, by which figures, and a named person stopping a scope or letting it go on.

The evaluator (`settle.breaker`) stops by itself and never lets anything go on. The registry's table is the truth; the
ledger process carries it to every process within a second. Stopping takes effect first, and settlement tells the ledger
of it; resuming, even of a share, is recorded first, so that nothing is ever resumed without a name and a reason. A
crash between the two leaves the scope stopped. A client sees what concerns its own senders (`scopes`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, Field, StringConstraints

from gateway.contract.codes import Code
from gateway.contract.consent import EventKind
from gateway.contract.decision import Refusal
from gateway.contract.message import Strict
from gateway.contract.registry import SCOPE
from gateway.edge import acts, scopes
from gateway.edge.callers import Caller, need
from gateway.edge.problems import Refused
from gateway.edge.strict import routes
from gateway.ledger import events
from gateway.records import breakers as records
from gateway.records import registry
from gateway.records.connection import Connection
from gateway.records.weighing import MINUTE_MS, counts_of, floors
from gateway.rules.breaker import KINDS, in_force, strictest

router = routes("operations")
Asking = Annotated[Caller, need("operate")]
Scope = Annotated[str, Path(pattern=SCOPE, examples=["sender:acme"])]
Words = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
CONNECT_S = 1.0
MOST_JUDGED = 20
"""Scopes of a list that are counted anew: a few milliseconds each, of which there are hardly ever more."""


class Act(Strict):
    """Who does it, and why."""

    by: Words
    reason: Words


class TrickleAct(Act):
    """The same, and how many in a thousand recipients are let through: always the same ones."""

    permille: Annotated[int, Field(ge=1, le=999)] = 10


Position = Literal["open", "trickle", "closed"]


class PressureView(BaseModel):
    """How near a scope is to its nearest line now, counted from when a person let it go on."""

    level: Literal["ok", "warn", "open"]
    share: float
    """1 is the line."""
    reason: str
    figures: dict[str, Any] | None


class BreakerView(BaseModel):
    """A breaker's standing position and the last act on it."""

    scope: str
    is_open: bool
    """Stopped, whole or but for a share."""
    position: Position
    permille: int | None
    """How many in a thousand recipients are let through, where it trickles."""
    changed_by: str
    reason: str
    changed_at: datetime
    opened_at: datetime | None
    """When it was stopped, now or the last time."""
    figures: dict[str, Any] | None
    """Where it opened by itself: what was counted, the line, and what to clean."""
    now: PressureView | None = None
    """In a list, where it trickles: what came since, as the evaluator judges it."""


class ScopeView(BaseModel):
    """A scope: its breaker, if it was ever moved, and what is counted now."""

    scope: str
    breaker: BreakerView | None
    now: PressureView | None
    """None for `all` and classes: those move by hand alone."""


class WarningView(BaseModel):
    """A scope that is at half of a line or was, and has not calmed down since."""

    scope: str
    since: datetime
    figures: dict[str, Any]
    """As it warned."""
    now: PressureView | None = None
    """As the evaluator judges it now; of the first twenty that are looked at."""


class Breakers(BaseModel):
    """Every breaker that was ever moved, and the scopes that warn."""

    breakers: list[BreakerView]
    warnings: list[WarningView]


class ActView(BaseModel):
    """One move of a breaker."""

    id: int
    position: Position
    permille: int | None
    acted_by: str
    reason: str
    figures: dict[str, Any] | None
    at: datetime
    recorded: bool
    """Whether the ledger has it; what opened by itself is told to it within seconds."""


class Acts(BaseModel):
    """A scope's moves, the latest first; `next`: ask for those before it."""

    acts: list[ActView]
    next: int | None


@router.get("/v1/breakers")
async def breakers(caller: Annotated[Caller, need("read")]) -> Breakers:
    """What is stopped, by whom and why, and what is near its line: of what the client's own senders send."""
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        standing, warned = await registry.breakers(connection), await records.warned(connection)
        seen = await scopes.visible(caller, connection, {*warned, *(row.scope for row in standing)})
        watched = [*sorted(warned), *(row.scope for row in standing if row.position == "trickle")]
        judged = [scope for scope in watched if scope in seen and scope.partition(":")[0] in KINDS][:MOST_JUDGED]
        near = {scope: await _near(caller, connection, scope, standing) for scope in judged}
    warnings = [
        WarningView(scope=scope, since=at, figures=figures, now=near.get(scope))
        for scope, (at, figures) in sorted(warned.items())
        if scope in seen
    ]
    rows = [_view(caller, row, near.get(row.scope)) for row in standing if row.scope in seen]
    return Breakers(breakers=rows, warnings=warnings)


@router.get("/v1/breakers/{scope:path}/acts")
async def breaker_acts(
    caller: Annotated[Caller, need("read")],
    scope: Scope,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Acts:
    """Who stopped a scope or let it go on, when and why."""
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        await _check_visible(caller, connection, scope)
        found = await records.acts(connection, scope, before, limit)
    views = [
        ActView(**{**act._asdict(), "position": act.position, "figures": scopes.told(caller, scope, act.figures)})
        for act in found
    ]
    return Acts(acts=views, next=found[-1].id if len(found) == limit else None)


@router.get("/v1/breakers/{scope:path}")
async def breaker(caller: Annotated[Caller, need("read")], scope: Scope) -> ScopeView:
    """One scope: its breaker, and how near it is to its line; for whoever watches a trickle before closing."""
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        await _check_visible(caller, connection, scope)
        moved = await registry.breakers(connection)
        standing = next((one for one in moved if one.scope == scope), None)
        view = None if standing is None else _view(caller, standing)
        if scope.partition(":")[0] not in KINDS:
            return ScopeView(scope=scope, breaker=view, now=None)
        return ScopeView(scope=scope, breaker=view, now=await _near(caller, connection, scope, moved))


@router.post("/v1/breakers/{scope:path}/open")
async def open_breaker(caller: Asking, scope: Scope, body: Act) -> BreakerView:
    """Stop a scope: nothing more of it is admitted or submitted, what waits included, within 5 s.

    The ledger has it within seconds: `recorded` of `GET …/acts`.
    """
    return await _move(caller, scope, body, is_open=True)


@router.post("/v1/breakers/{scope:path}/close")
async def close_breaker(caller: Asking, scope: Scope, body: Act) -> BreakerView:
    """Resume a scope; what it is judged by begins anew."""
    await _record(caller, scope, body, is_open=False)
    return await _move(caller, scope, body, is_open=False)


@router.post("/v1/breakers/{scope:path}/trickle")
async def trickle_breaker(caller: Asking, scope: Scope, body: TrickleAct) -> BreakerView:
    """Let a share of a stopped scope's recipients through, before all; what it is judged by begins anew."""
    await _record(caller, scope, body, is_open=True, permille=body.permille)
    return await _move(caller, scope, body, is_open=True, permille=body.permille)


async def _move(caller: Caller, scope: str, act: Act, *, is_open: bool, permille: int | None = None) -> BreakerView:
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        await registry.set_breaker(connection, scope, is_open=is_open, by=act.by, reason=act.reason, permille=permille)
        rows = await registry.breakers(connection)
    return next(_view(caller, row) for row in rows if row.scope == scope)


async def _near(caller: Caller, connection: Connection, scope: str, moved: Sequence[registry.Breaker]) -> PressureView:
    """How a scope is judged now."""
    gate, now = caller.gate, acts.now_ms() // MINUTE_MS
    senders = gate.cfg.registry.senders if gate.cfg.registry else ()
    counts = await counts_of(connection, scope, now, floors(moved), {one.id for one in senders})
    verdict, _ = strictest(in_force(senders, gate.packs)(scope), scope, counts)
    figures = verdict.nearest and verdict.nearest.figures()
    return PressureView(level=verdict.level, share=round(verdict.share, 3), reason=verdict.reason, figures=figures)


def _view(caller: Caller, row: registry.Breaker, now: PressureView | None = None) -> BreakerView:
    figures = scopes.told(caller, row.scope, row.figures)
    return BreakerView(**{**row._asdict(), "position": row.position, "figures": figures, "now": now})


async def _check_visible(caller: Caller, connection: Connection, scope: str) -> None:
    """A scope of others is as absent as one that nobody sends in."""
    if not await scopes.visible(caller, connection, [scope]):
        raise Refused(Refusal(Code.NOT_FOUND))


async def _record(caller: Caller, scope: str, act: Act, *, is_open: bool, permille: int | None = None) -> None:
    data = {"scope": scope, "open": is_open, "person": act.by, "why": act.reason}
    if permille is not None:
        data["permille"] = permille
    name = acts.event_id(caller.client, None)
    system = acts.Person(None, events.SYSTEM)
    await acts.append(caller, acts.event(caller.client, EventKind.BREAKER, system, acts.now_ms(), data, name))
