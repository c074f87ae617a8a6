"""Claims with patience: ask the guard until it has decided about every message, and turn refusals into results.

A guard that does not answer, or whose cache is behind, is asked again for as long as it takes; nothing is sent
meanwhile. A call that was applied but not answered is harmless: the same coordinates pass again, and what it refused
is found voided with its code.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.contract.codes import Code
from gateway.contract.wire import Result
from gateway.deliver.means import Item, Means
from gateway.deliver.reports import not_sent
from gateway.guard import Claimed, GuardUnavailable, Outcome
from gateway.guard.record import VOID
from gateway.telemetry import COLD, logger

AGAIN_S = (0.05, 1.0)

_log = logger("deliver")


@dataclass(slots=True)
class Claims:
    """What may go, since when (monotonic, read before the first claim that let any of them), and what ended instead."""

    go: list[Item] = field(default_factory=list)
    began: float = 0.0
    ended: list[Result] = field(default_factory=list)


async def claim_all(means: Means, items: Sequence[Item]) -> Claims:
    """Claim at most 64 messages; returns when each has its answer."""
    claims = Claims()
    wait_s, most_s = AGAIN_S
    while items:
        await means.fresh()
        began = time.monotonic()
        try:
            answers = await means.guard.claim([item.claim() for item in items], means.cfg.min_seq)
        except GuardUnavailable:
            _log.warning("claim_unanswered", cls=means.cls.value, messages=len(items))
        else:
            items = await _sort(means, items, answers, claims, began)
            if items:
                COLD.add()
        if items:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, most_s)
    return claims


async def _sort(
    means: Means, items: Sequence[Item], answers: Sequence[Claimed], claims: Claims, began: float
) -> list[Item]:
    """File each answer; the items for which the cache is behind are returned."""
    cold = []
    for item, answer in zip(items, answers, strict=True):
        if answer.kind is Outcome.GO:
            claims.began = claims.began or began
            claims.go.append(item)
        elif answer.kind is Outcome.COLD:
            cold.append(item)
        elif answer.kind is Outcome.REFUSED:
            claims.ended.append(not_sent(item.accepted, answer.code or Code.SUPPRESSED, means.now_ms()))
        elif answer.detail == VOID and (code := await voided_as(means, item.id)) is not None:
            claims.ended.append(not_sent(item.accepted, code, means.now_ms()))
    return cold


async def voided_as(means: Means, message_id: str) -> str | None:
    """Why a message was voided; None where nothing is known, or it lives again.

    `unavailable`: its caller was told 503 and may have repeated it; settle takes that for its end only until it hears
    anything else of the same id.
    """
    try:
        view = await means.guard.record(message_id)
    except GuardUnavailable:
        return None
    return None if view is None or view.state != VOID else view.code
