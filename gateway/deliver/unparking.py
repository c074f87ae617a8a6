"""Messages parked for a breaker, and when they may go: all of a scope that closed, a share of one that trickles.

Owns nothing but where its walks are. A closed scope's rows are due again at their time, a bounded number at once. A
trickling scope's rows are walked through in the order of their ids, and those whose recipients pass are due again; the
others stay parked and are passed over until the next walk, so a share of nothing is no reason to look without end. A
row that was parked behind a walk is found by the next. A crash forgets where a walk was: it begins anew, and changes
nothing that it changed before.
"""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from gateway.contract.registry import Trickle
from gateway.contract.wire import Accepted
from gateway.guard import Cfg
from gateway.records import held
from gateway.records.connection import Connection
from gateway.stream.codec import decode
from gateway.telemetry import logger

UNPARK_AT_ONCE = 5_000
WALK_AT_ONCE = 2_000
PAUSE_S = 1.0
WALK_AGAIN_S = 30.0

_log = logger("deliver")


class Walk(NamedTuple):
    """How far a trickle's rows were walked through, and when to begin again once at their end (monotonic)."""

    trickle: Trickle
    after: str | None = None
    again_at: float | None = None


class Unparking:
    """The hold process's step for parked rows. `transaction` opens one on a connection of the pool."""

    def __init__(self, cfg: Cfg, transaction: Callable[[], AbstractAsyncContextManager[Connection]]) -> None:
        self._cfg, self._transaction = cfg, transaction
        self._walks: dict[str, Walk] = {}

    async def step(self) -> float:
        """Let go what may go now, a bounded number; then how long to wait."""
        registry = self._cfg.registry
        if registry is None or not self._cfg.fresh:
            return PAUSE_S
        trickles = {one.scope: one for one in registry.trickles if one.scope not in registry.breakers}
        self._walks = {scope: walk for scope, walk in self._walks.items() if trickles.get(scope) == walk.trickle}
        more = False
        async with self._transaction() as conn:
            scopes = await held.scopes(conn)
        for scope in scopes:
            if scope in registry.breakers:
                continue
            trickle = trickles.get(scope)
            more |= await (self._all(scope) if trickle is None else self._share(trickle))
        return 0.0 if more else PAUSE_S

    async def _all(self, scope: str) -> bool:
        """Whether there may be more."""
        async with self._transaction() as conn:
            rows = await held.unpark(conn, scope, UNPARK_AT_ONCE)
        _log.info("unparked", scope=scope.partition(":")[0], rows=rows)
        return rows == UNPARK_AT_ONCE

    async def _share(self, trickle: Trickle) -> bool:
        """One stretch of a walk; whether it goes on."""
        walk = self._walks.get(trickle.scope, Walk(trickle))
        now = time.monotonic()
        if walk.again_at is not None:
            if now < walk.again_at:
                return False
            walk = Walk(trickle)
        async with self._transaction() as conn:
            rows = await held.parked(conn, trickle.scope, walk.after, WALK_AT_ONCE)
            going = [one for one, payload in rows if trickle.passes(bytes.fromhex(decode(Accepted, payload).subject))]
            gone = await held.unpark_these(conn, trickle.scope, going) if going else 0
        if gone:
            _log.info("unparked", scope=trickle.scope.partition(":")[0], rows=gone)
        more = len(rows) == WALK_AT_ONCE
        self._walks[trickle.scope] = (
            walk._replace(after=rows[-1][0]) if more else Walk(trickle, None, now + WALK_AGAIN_S)
        )
        return more
