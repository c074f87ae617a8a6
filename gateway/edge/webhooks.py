"""Webhooks that were given up on: seeing them, and having them sent again.

A client sees and replays its own; the role `operate`, everybody's. No address and no content is shown: what a notice
said is in `GET /v1/messages/{id}`, and what a person wrote is only for the receiver it was meant for. Replaying is one
statement in PostgreSQL; the senders take it from there.
"""

import time
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.message import Slug
from gateway.edge.callers import ANYONE, Caller
from gateway.edge.lookups import sees_all
from gateway.edge.problems import Refused
from gateway.edge.strict import routes
from gateway.edge.times import of_ms
from gateway.records import webhooks

router = routes("webhooks")
Asking = Annotated[Caller, ANYONE]
Whose = Annotated[Slug | None, Query(description="A client; without it one's own, or with role `operate` everybody's.")]
CONNECT_S = 1.0
ANOTHERS = Refusal(Code.CLIENT_FORBIDDEN, "another client's webhooks need role operate")


class DeadWebhook(BaseModel):
    """One that was given up on."""

    id: str
    """Its `webhook-id`; the receiver may have it, if only its answer was lost."""
    client: str
    type: str
    message: str | None = None
    made_at: datetime
    dead_at: datetime
    attempts: int
    last: str | None = None
    """What the last try came to: `refused 500`, `timeout`, `unreachable …`, `forbidden`, `gone`, `unsigned`, …"""
    replayable: bool
    """Not once its content is deleted: what a person wrote is kept for three days."""


class DeadWebhooks(BaseModel):
    """What was given up on, in the order of ids."""

    webhooks: list[DeadWebhook]
    next: str | None = None
    """Give it as `after` to see the next ones."""


class Replayed(BaseModel):
    """How many will be sent again, each under its old id."""

    replayed: int


@router.get("/v1/webhooks/dead", response_model_exclude_none=True)
async def dead_webhooks(
    caller: Asking,
    client: Whose = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: UUID | None = None,
) -> DeadWebhooks:
    """Webhooks that were given up on after some 16 hours of tries, or whose address answered 410."""
    whose = _whose(caller, client)
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        rows = await webhooks.dead_ones(connection, whose, after, limit)
    return DeadWebhooks(
        webhooks=[
            DeadWebhook(
                id=str(row.id),
                client=row.client,
                type=row.kind,
                message=None if row.message is None else str(row.message),
                made_at=of_ms(row.made_at),
                dead_at=of_ms(row.dead_at),
                attempts=row.attempts,
                last=row.last,
                replayable=row.kept,
            )
            for row in rows
        ],
        next=str(rows[-1].id) if len(rows) == limit else None,
    )


@router.post("/v1/webhooks/replay")
async def replay_all(caller: Asking, client: Whose = None) -> Replayed:
    """Send again everything given up on of a client."""
    return Replayed(replayed=await _replay(caller, _whose(caller, client), None))


@router.post("/v1/webhooks/{id}/replay")
async def replay_one(caller: Asking, id: UUID) -> Replayed:  # noqa: A002 - the contract's name
    """Send one again. An address that had answered 410 is called again from now on."""
    count = await _replay(caller, None if sees_all(caller.client) else caller.client.id, id)
    if not count:
        raise Refused(Refusal(Code.NOT_FOUND))
    return Replayed(replayed=count)


def _whose(caller: Caller, client: str | None) -> str | None:
    """Whose webhooks are meant; none: everybody's."""
    if sees_all(caller.client):
        return client
    if client not in (None, caller.client.id):
        raise Refused(ANOTHERS)
    return caller.client.id


async def _replay(caller: Caller, client: str | None, one: UUID | None) -> int:
    now_ms = time.time_ns() // 1_000_000
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        return await webhooks.replay(connection, now_ms, client=client, one=one)
