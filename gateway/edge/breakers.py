"""Breakers: what is stopped, and a named person stopping or resuming a scope.

The registry's table is the truth; the ledger process carries it to every process within a second. Stopping takes effect
first and is recorded then; resuming is recorded first, so that nothing is ever resumed without a name and a reason.
A crash between the two leaves the scope stopped.
"""

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, StringConstraints

from gateway.contract.consent import EventKind
from gateway.contract.message import Strict
from gateway.contract.registry import SCOPE
from gateway.edge import acts
from gateway.edge.callers import Caller, need
from gateway.edge.strict import routes
from gateway.ledger import events
from gateway.records import registry

router = routes("operations")
Asking = Annotated[Caller, need("operate")]
Scope = Annotated[str, Path(pattern=SCOPE, examples=["sender:acme"])]
Words = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
CONNECT_S = 1.0


class Act(Strict):
    """Who does it, and why."""

    by: Words
    reason: Words


class BreakerView(BaseModel):
    """A breaker's standing position and the last act on it."""

    scope: str
    is_open: bool
    changed_by: str
    reason: str
    changed_at: datetime


class Breakers(BaseModel):
    """Every breaker that was ever moved."""

    breakers: list[BreakerView]


@router.get("/v1/breakers")
async def breakers(caller: Annotated[Caller, need("read")]) -> Breakers:
    """What is stopped, by whom and why."""
    return Breakers(breakers=[BreakerView(**row._asdict()) for row in await registry.breakers(caller.gate.pool)])


@router.post("/v1/breakers/{scope}/open")
async def open_breaker(caller: Asking, scope: Scope, body: Act) -> BreakerView:
    """Stop a scope: nothing more of it is admitted or submitted, what waits included, within 5 s."""
    view = await _move(caller, scope, body, is_open=True)
    await _record(caller, scope, body, is_open=True)
    return view


@router.post("/v1/breakers/{scope}/close")
async def close_breaker(caller: Asking, scope: Scope, body: Act) -> BreakerView:
    """Resume a scope."""
    await _record(caller, scope, body, is_open=False)
    return await _move(caller, scope, body, is_open=False)


async def _move(caller: Caller, scope: str, act: Act, *, is_open: bool) -> BreakerView:
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        await registry.set_breaker(connection, scope, is_open=is_open, by=act.by, reason=act.reason)
        rows = await registry.breakers(connection)
    return next(BreakerView(**row._asdict()) for row in rows if row.scope == scope)


async def _record(caller: Caller, scope: str, act: Act, *, is_open: bool) -> None:
    data = {"scope": scope, "open": is_open, "person": act.by, "why": act.reason}
    name = acts.event_id(caller.client, None)
    system = acts.Person(None, events.SYSTEM)
    await acts.append(caller, acts.event(caller.client, EventKind.BREAKER, system, acts.now_ms(), data, name))
