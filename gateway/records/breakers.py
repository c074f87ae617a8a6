"""What the breaker's evaluator writes: openings, warnings, and what the ledger has yet to be told; `weighing` counts.

Owns table `breaker_warnings` and the column `recorded` of `breaker_acts`; `registry` moves breakers. An opening is one
transaction: the position, its act and its alert are there together or not at all. The ledger is told after that, by an
event that the act's own number names, again and again until it has it: a crash leaves an act that is not recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from gateway.contract.health import Alert
from gateway.contract.scope import of_sender, part
from gateway.records import alerts, health, registry
from gateway.records.connection import Connection
from gateway.records.health import Dimension
from gateway.records.weighing import where_of

LOCK = 0x4153_5345_42
"""One evaluator at a time; the others stand by. It lives as its connection does."""
_OPENING = 0x4153_5345_424F
MOST_NAMED = 5

_STANDING = "SELECT is_open AND permille IS NULL AS stopped, changed_at FROM breakers WHERE scope = $1"
_ACTS = """
SELECT id, scope, is_open, permille, acted_by, reason, figures, at, recorded FROM breaker_acts
WHERE scope = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""
_UNRECORDED = """
SELECT id, scope, is_open, permille, acted_by, reason, figures, at, recorded FROM breaker_acts
WHERE NOT recorded ORDER BY id LIMIT $1
"""
_USED = """
SELECT k.scope FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    AS k(scope, kind, name, sender, of_sender)
WHERE EXISTS (
    SELECT FROM message_origins o, LATERAL (
        SELECT CASE k.kind WHEN 'campaign' THEN o.campaign ELSE o.list_source END AS name
    ) AS named
    WHERE o.sender = ANY($1) AND (named.name = k.name OR (o.sender = k.sender AND named.name = k.of_sender))
)
"""
_WAYS = """
SELECT DISTINCT sender, campaign, class, port, list_source FROM message_origins WHERE campaign = ANY($1::text[])
UNION SELECT DISTINCT sender, NULL, class, port, NULL FROM message_origins WHERE sender = ANY($2::text[])
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
    """As its own scope has it: with its sender."""
    complaints: int
    unsubscribes: int
    delivered: int


async def claim(conn: Connection) -> bool:
    """Whether this connection is now the evaluator's."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_lock($1)", LOCK))


async def worst(conn: Connection, scope: str, by: Dimension, since: int, until: int) -> list[Share]:
    """The campaigns or list sources of a scope with the most complaints, then opt-outs, between two Unix minutes."""
    where = where_of(scope)
    senders = where.get("sender") or await health.totals(conn, since, until, by="sender", where=where)
    shares = []
    for sender in filter(None, senders):
        totals = await health.totals(conn, since, until, by=by, where={**where, "sender": [sender]})
        shares += [
            Share(f"{sender}/{key}", one.complaints, one.unsubscribes, one.delivered)
            for key, one in totals.items()
            if key and one.complaints + one.unsubscribes
        ]
    return sorted(shares, key=lambda one: (-one.complaints, -one.unsubscribes, one.name))[:MOST_NAMED]


async def used(conn: Connection, senders: Collection[str], scopes: Collection[str]) -> set[str]:
    """Those of these campaigns and list sources that a message of one of the senders belongs to."""
    if not scopes:
        return set()
    parts = [
        (scope, of.kind, scope.partition(":")[2], of.sender, of.name)
        for scope, of in ((scope, part(scope)) for scope in scopes)
    ]
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
        act = await registry.set_breaker(conn, scope, is_open=True, by=by, reason=reason, figures=figures)
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


async def ways(conn: Connection, scopes: Collection[str], senders: Collection[str]) -> dict[str, list[tuple[str, ...]]]:
    """How messages of campaigns and senders go, each way as the wider scopes that would stop it."""
    asked = {scope: part(scope, senders) for scope in scopes}
    names = [list({one.name for one in asked.values() if one.kind == kind}) for kind in ("campaign", "sender")]
    rows: dict[tuple[str, str | None], list[tuple[str, ...]]] = {}
    for row in await conn.fetch(_WAYS, *names):
        sender, listed = row["sender"], row["list_source"]
        way = ["all", f"class:{row['class']}", f"sender:{sender}", f"port:{row['port']}"]
        way += [of_sender("list_source", sender, listed), f"list_source:{listed}"] if listed else []
        for whose in (sender, "") if row["campaign"] else (sender,):
            rows.setdefault((whose, row["campaign"]), []).append(tuple(way))
    of = {one: (one.sender or "", one.name) if one.kind == "campaign" else (one.name, None) for one in asked.values()}
    return {scope: rows[of[one]] for scope, one in asked.items() if of[one] in rows}


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
