"""Alerts over HTTP, for the role `operate`: what was raised, whether it was told or not.

Reads only. The operators' address is called by itself; this is for whoever polls, or looks back.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AwareDatetime, BaseModel

from gateway.edge.callers import Caller, need
from gateway.edge.strict import routes
from gateway.records import alerts

router = routes("operations")
Asking = Annotated[Caller, need("operate")]
CONNECT_S = 1.0
LOOK_BACK = timedelta(days=1)


class AlertView(BaseModel):
    """One alert. Each kind has a page in docs/runbook."""

    id: str
    kind: str
    severity: Literal["warning", "critical"]
    scope: str
    summary: str
    detail: dict[str, Any]
    at: datetime
    told: bool
    """Whether it is queued for the operators' webhook address."""


class Alerts(BaseModel):
    """Alerts, oldest first."""

    alerts: list[AlertView]
    next: str | None = None
    """Give it as `after` to see the next ones."""


@router.get("/v1/alerts", response_model_exclude_none=True)
async def raised(
    caller: Asking,
    since: Annotated[AwareDatetime | None, Query(description="RFC 3339; without it, a day ago.")] = None,
    kind: Annotated[str | None, Query(max_length=64, description="Only this kind.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: UUID | None = None,
) -> Alerts:
    """What a person must look at, since then."""
    begin = since or datetime.now(UTC) - LOOK_BACK
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        rows = await alerts.listed(connection, begin, after=after, kind=kind, limit=limit)
    return Alerts(
        alerts=[AlertView.model_validate({**row._asdict(), "id": str(row.id)}) for row in rows],
        next=str(rows[-1].id) if len(rows) == limit else None,
    )
