"""What the breaker's evaluator reads and writes: counts, openings, warnings, and what the ledger has yet to be told.

Owns table `breaker_warnings` and the column `recorded` of `breaker_acts`; `registry` moves breakers. An opening is one
transaction: the position, its act and its alert are there together or not at all. The ledger is told after that, by an
event that the act's own number names, again and again until it has it: a crash leaves an act that is not recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from asyncpg import QueryCanceledError

from gateway.contract.health import Alert
from gateway.records import alerts, health, registry
from gateway.records.connection import Connection
from gateway.records.health import DAY_HOURS, MONTH_DAYS, Dimension, Windows
from gateway.records.spans import DAY, HOUR
from gateway.rules.breaker import Counts, Tally
from gateway.telemetry import logger

log = logger("records")

LOCK = 0x4153_5345_42
"""One evaluator at a time; the others stand by. It lives as its connection does."""
_OPENING = 0x4153_5345_424F
MOST_NAMED = 5
ANEW_S = 30.0
MINUTE_MS = 60_000

_STANDING = "SELECT is_open AND permille IS NULL AS stopped, changed_at FROM breakers WHERE scope = $1"
_CONFIRMED = """
SELECT coalesce(o.port, c.port) AS port, count(*) FILTER (WHERE c.minute >= $3) AS day, count(*) AS month
FROM complaints c LEFT JOIN message_origins o ON o.id = c.origin
LEFT JOIN unnest($4::text[], $5::bigint[]) f(port, minute) ON f.port = coalesce(o.port, c.port)
WHERE c.source IN ('12321', 'carrier') AND c.at >= $1 AND c.minute >= greatest($2, coalesce(f.minute, 0))
    AND coalesce(o.port, c.port) IS NOT NULL
GROUP BY 1
"""
_ACTS = """
SELECT id, scope, is_open, permille, acted_by, reason, figures, at, recorded FROM breaker_acts
WHERE scope = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""
_UNRECORDED = """
SELECT id, scope, is_open, permille, acted_by, reason, figures, at, recorded FROM breaker_acts
WHERE NOT recorded ORDER BY id LIMIT $1
"""
_USED = """
SELECT k.scope FROM unnest($2::text[], $3::text[], $4::text[]) AS k(scope, kind, name) WHERE EXISTS (
    SELECT FROM message_origins o WHERE o.sender = ANY($1)
        AND CASE k.kind WHEN 'campaign' THEN o.campaign ELSE o.list_source END = k.name
)
"""
_WARN = "INSERT INTO breaker_warnings (scope, figures) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING since"


class Act(NamedTuple):
    """One move of a breaker."""

    id: int
    scope: str
    is_open: bool
    permille: int | None
    acted_by: str
    reason: str
    figures: dict[str, Any] | None
    at: datetime
    recorded: bool
    """Whether the ledger is known to have it."""

    @property
    def position(self) -> registry.Position:
        """What it set."""
        return "closed" if not self.is_open else "open" if self.permille is None else "trickle"


class Share(NamedTuple):
    """A campaign's or list source's part in what a scope was complained about."""

    name: str
    complaints: int
    unsubscribes: int
    delivered: int


async def claim(conn: Connection) -> bool:
    """Whether this connection is now the evaluator's."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))


# --- counts --------------------------------------------------------------------------------------------------------


class Counting:
    """Counts every scope, again and again. Those with a floor are summed anew only when somebody did something.

    Between two acts only deliveries come, by which a rate falls; each is still looked at every `ANEW_S`.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._known: dict[str, tuple[_Seen, float, Windows]] = {}

    async def counts(self, conn: Connection, now: int, floors: Mapping[str, int]) -> dict[str, Counts]:
        """The counts at a Unix minute; `floors`: scopes that count from a minute on.

        What 12321 or a carrier brought counts for the port it names even where nobody knows the message.
        """
        weighed = await health.breaker_counts(conn, now)
        floored = await self._floored(conn, now, floors, weighed)
        weighed = {scope: windows for scope, windows in weighed.items() if scope not in floors} | floored
        found = {
            scope: Counts(*(Tally(one.delivered, one.complaints, 0, one.unsubscribes) for one in windows))
            for scope, windows in weighed.items()
        }
        for scope, day, month in await _confirmed(conn, now, floors):
            was = found.get(scope, Counts(Tally(), Tally()))
            found[scope] = Counts(was.day._replace(confirmed=day), was.month._replace(confirmed=month))
        return found

    async def _floored(
        self, conn: Connection, now: int, floors: Mapping[str, int], whole: Mapping[str, Windows]
    ) -> dict[str, Windows]:
        at, known = self._monotonic(), self._known
        seen = {
            scope: _Seen(floor, *(n for one in whole[scope] for n in (one.complaints, one.unsubscribes)))
            for scope, floor in floors.items()
            if scope in whole
        }
        self._known = {
            scope: known[scope]
            for scope, what in seen.items()
            if scope in known and known[scope][0] == what and at - known[scope][1] < ANEW_S
        }
        anew = {scope: what.floor for scope, what in seen.items() if scope not in self._known}
        if anew:
            try:
                summed = await health.breaker_counts(conn, now, anew)
            except (TimeoutError, QueryCanceledError) as fault:  # these wait for the next look, all others do not
                log.warning("breaker_uncounted", scopes=len(anew), error=type(fault).__name__)
                summed = {}
            self._known |= {scope: (seen[scope], at, summed[scope]) for scope in anew if scope in summed}
        return {scope: windows for scope, (_, _, windows) in self._known.items()}


async def counts_of(conn: Connection, scope: str, now: int, floor: int = 0) -> Counts:
    """One scope's counts at a Unix minute, none of them older than its floor."""
    kind, _, name = scope.partition(":")
    tallies = []
    for since in ((now // HOUR - DAY_HOURS) * HOUR, (now // DAY - MONTH_DAYS) * DAY):
        where = {kind: [name]}
        totals = await health.totals(conn, max(since, floor), now + DAY, where=where)  # type: ignore[arg-type]  # a kind
        one = totals[None]
        tallies.append(Tally(one.delivered, one.complaints, 0, one.unsubscribes))
    confirmed = {port: both for port, *both in await _confirmed(conn, now, {scope: floor})} if kind == "port" else {}
    day, month = confirmed.get(scope, (0, 0))
    return Counts(tallies[0]._replace(confirmed=day), tallies[1]._replace(confirmed=month))


def floor_of(standing: registry.Breaker | None) -> int:
    """The minute from which a scope is counted: the one after a person let it go on; 0 where it was never stopped."""
    if standing is None or standing.position == "open" or standing.opened_at is None:
        return 0
    return int(standing.changed_at.timestamp() * 1000) // MINUTE_MS + 1


class _Seen(NamedTuple):
    """What a scope's sums were made at: its floor, and what was done about its messages in both whole windows."""

    floor: int
    day_complaints: int
    day_unsubscribes: int
    month_complaints: int
    month_unsubscribes: int


async def _confirmed(conn: Connection, now: int, floors: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Ports with what was confirmed about them, within a day and a month."""
    day, month = (now // HOUR - DAY_HOURS) * HOUR, (now // DAY - MONTH_DAYS) * DAY
    ports = {scope.removeprefix("port:"): floor for scope, floor in floors.items() if scope.startswith("port:")}
    rows = await conn.fetch(_CONFIRMED, month * MINUTE_MS, month, day, list(ports), list(ports.values()))
    return [(f"port:{row['port']}", row["day"], row["month"]) for row in rows]


async def worst(conn: Connection, scope: str, by: Dimension, since: int, until: int) -> list[Share]:
    """The campaigns or list sources of a scope with the most complaints, then opt-outs, between two Unix minutes."""
    kind, _, name = scope.partition(":")
    totals = await health.totals(conn, since, until, by=by, where={kind: [name]})  # type: ignore[dict-item]  # a kind
    shares = [
        Share(key, one.complaints, one.unsubscribes, one.delivered)
        for key, one in totals.items()
        if key and one.complaints + one.unsubscribes
    ]
    return sorted(shares, key=lambda one: (-one.complaints, -one.unsubscribes, one.name))[:MOST_NAMED]


async def used(conn: Connection, senders: Collection[str], scopes: Collection[str]) -> set[str]:
    """Those of these campaigns and list sources that a message of one of the senders belongs to."""
    if not scopes:
        return set()
    parts = [(scope, *scope.split(":", 1)) for scope in scopes]
    return {row["scope"] for row in await conn.fetch(_USED, list(senders), *map(list, zip(*parts, strict=True)))}


# --- openings and warnings -----------------------------------------------------------------------------------------


async def stop(
    conn: Connection,
    scope: str,
    seen: datetime | None,
    *,
    by: str,
    reason: str,
    figures: dict[str, Any],
    alert: Alert,
) -> int | None:
    """Open a scope's breaker and raise its alert, unless somebody moved it after `seen`; the number of the act.

    `seen`: when its last act was, as the counts were made with it; none where there was none. A person may have closed
    it meanwhile: then what was counted is judged already. The alert's key is completed by the act's number.
    """
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _OPENING)
        row = await conn.fetchrow(_STANDING, scope)
        if (row["changed_at"] if row else None) != seen or (row and row["stopped"]):
            return None
        act = await registry.set_breaker(
            conn, scope, is_open=True, by=by, reason=reason, figures=figures, recorded=False
        )
        await alerts.put(conn, alert.model_copy(update={"key": f"{alert.key}/{act}"}))
        await conn.execute("DELETE FROM breaker_warnings WHERE scope = $1", scope)
    return act


async def warn(conn: Connection, scope: str, figures: dict[str, Any], alert: Alert) -> bool:
    """Remember that a scope warned and raise its alert; false where it has warned already.

    The alert's key is completed by the warning's time.
    """
    async with conn.transaction():
        since = await conn.fetchval(_WARN, scope, orjson.dumps(figures).decode())
        if since is not None:
            await alerts.put(conn, alert.model_copy(update={"key": f"{alert.key}/{since.timestamp():.3f}"}))
    return since is not None


async def warned(conn: Connection) -> dict[str, tuple[datetime, dict[str, Any]]]:
    """Scopes that warned and have not calmed down: since when, and the figures of the warning."""
    rows = await conn.fetch("SELECT scope, since, figures FROM breaker_warnings")
    return {row["scope"]: (row["since"], orjson.loads(row["figures"])) for row in rows}


async def calm(conn: Connection, scopes: Collection[str]) -> None:
    """These may warn again."""
    await conn.execute("DELETE FROM breaker_warnings WHERE scope = ANY($1::text[])", list(scopes))


# --- acts ----------------------------------------------------------------------------------------------------------


async def acts(conn: Connection, scope: str, before: int | None, limit: int) -> list[Act]:
    """A scope's moves, the latest first, those before an act's number."""
    return [_act(row) for row in await conn.fetch(_ACTS, scope, before, limit)]


async def unrecorded(conn: Connection, limit: int) -> list[Act]:
    """Acts that the ledger is not known to have, the oldest first."""
    return [_act(row) for row in await conn.fetch(_UNRECORDED, limit)]


async def mark_recorded(conn: Connection, ids: Sequence[int]) -> None:
    """The ledger has these."""
    await conn.execute("UPDATE breaker_acts SET recorded = true WHERE id = ANY($1::bigint[])", list(ids))


def _act(row: Mapping[str, Any]) -> Act:
    return Act(**{**row, "figures": row["figures"] and orjson.loads(row["figures"])})
