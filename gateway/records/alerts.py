"""Alerts: raised once under their key, in the transaction of what they are about, and queued once for the operators.

Owns table `alerts`. Nothing in it names a person. `untold` locks what is not queued yet and `mark_told` marks it in the
caller's transaction, beside the row of `webhooks` that tells of it: a crash leaves both or neither.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from gateway.contract.health import Alert
from gateway.contract.ids import new_id
from gateway.records.connection import Connection

TELL_WITHIN = "interval '1 day'"
"""What is older is not told any more: nobody is woken by yesterday's news once an address is given."""

_RAISE = """
INSERT INTO alerts (id, key, kind, severity, scope, summary, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (key) DO NOTHING
"""
_COLUMNS = "id, kind, severity, scope, summary, detail, at, told"
_UNTOLD = f"""
SELECT {_COLUMNS} FROM alerts WHERE NOT told AND at > clock_timestamp() - {TELL_WITHIN}
ORDER BY at, id LIMIT $1 FOR UPDATE SKIP LOCKED
"""  # noqa: S608 - constants
_LISTED = f"""
SELECT {_COLUMNS} FROM alerts WHERE at >= $1 AND ($2::uuid IS NULL OR id > $2) AND ($3::text IS NULL OR kind = $3)
ORDER BY id LIMIT $4
"""  # noqa: S608 - constants
_LATEST = f"""
SELECT {_COLUMNS} FROM alerts WHERE ($1::text IS NULL OR kind = $1) AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC LIMIT $2
"""  # noqa: S608 - constants
_ADDRESS = """
SELECT a.name FROM client_webhooks c JOIN webhook_addresses a ON a.name = c.address
WHERE c.client = $1 AND a.gone_at IS NULL FOR SHARE OF a
"""
_WAITING = f"""
SELECT count(*) AS waiting, min(at) AS oldest FROM (
    SELECT at FROM alerts WHERE NOT told AND at > clock_timestamp() - {TELL_WITHIN}
    UNION ALL
    SELECT to_timestamp(w.made_at / 1000.0) FROM client_webhooks c JOIN webhooks w ON w.address = c.address
    WHERE c.client = $1 AND w.made_at > 1000 * extract(epoch FROM clock_timestamp() - {TELL_WITHIN})
) AS waits
"""  # noqa: S608 - constants
_RECENT = """
SELECT kind, severity, count(*) AS n FROM alerts WHERE at > clock_timestamp() - interval '1 hour' GROUP BY 1, 2
"""


class Raised(NamedTuple):
    """An alert as it was raised. `told`: it is queued for the operators' address."""

    id: UUID
    kind: str
    severity: str
    scope: str
    summary: str
    detail: dict[str, Any]
    at: datetime
    told: bool


class Levels(NamedTuple):
    """What the operators' receiver has not taken in of the last day, since when, and what the last hour raised."""

    waiting: int
    oldest: datetime | None
    recent: dict[tuple[str, str], int]
    """By kind and severity."""


async def put(conn: Connection, alert: Alert) -> bool:
    """Write an alert unless one of its key stands; whether it is new."""
    detail = orjson.dumps(alert.detail).decode()
    done = await conn.execute(
        _RAISE, new_id(0), alert.key, alert.kind, alert.severity, alert.scope, alert.summary, detail
    )
    return done.endswith(" 1")


async def known(conn: Connection, keys: Collection[str]) -> set[str]:
    """Those of these keys under which an alert stands."""
    return {row["key"] for row in await conn.fetch("SELECT key FROM alerts WHERE key = ANY($1::text[])", list(keys))}


async def address(conn: Connection, client: str) -> bytes | None:
    """The name of the client's own address, kept from answering 410 until the caller's transaction ends."""
    name: bytes | None = await conn.fetchval(_ADDRESS, client)
    return name


async def untold(conn: Connection, most: int) -> list[Raised]:
    """Alerts of the last day that are not queued, oldest first, locked; what another process has locked is left out."""
    return [_raised(row) for row in await conn.fetch(_UNTOLD, most)]


async def mark_told(conn: Connection, ids: Collection[UUID]) -> None:
    """They are queued, in this transaction."""
    if ids:
        await conn.execute("UPDATE alerts SET told = true WHERE id = ANY($1::uuid[])", list(ids))


async def listed(
    conn: Connection, since: datetime, *, after: UUID | None, kind: str | None, limit: int
) -> list[Raised]:
    """What was raised since then, after the id `after`, in the order of ids, which is that of time."""
    return [_raised(row) for row in await conn.fetch(_LISTED, since, after, kind, limit)]


async def latest(
    conn: Connection, *, kind: str | None = None, limit: int = 200, before: UUID | None = None
) -> list[Raised]:
    """What was raised, the newest first; `before`: the last one of the page before."""
    return [_raised(row) for row in await conn.fetch(_LATEST, kind, limit, before)]


async def levels(conn: Connection, client: str) -> Levels:
    """What the metrics show; `client`: whose address is the operators'."""
    row = await conn.fetchrow(_WAITING, client)
    recent = {(one["kind"], one["severity"]): one["n"] for one in await conn.fetch(_RECENT)}
    return Levels(row["waiting"], row["oldest"], recent) if row is not None else Levels(0, None, recent)


async def purge(conn: Connection, before: datetime) -> int:
    """Forget what was raised before then; how many."""
    done = await conn.execute("DELETE FROM alerts WHERE at < $1", before)
    return int(done.rpartition(" ")[2])


def _raised(row: Any) -> Raised:
    return Raised(**{**dict(row), "detail": orjson.loads(row["detail"])})
