"""Alerts: raised once under their key, in the transaction of what they are about.

Owns table `alerts`. Nothing in it names a person. What is not told yet is queued as a webhook to the operators.
"""

from __future__ import annotations

import orjson

from gateway.contract.health import Alert
from gateway.contract.ids import new_id
from gateway.records.connection import Connection

_RAISE = """
INSERT INTO alerts (id, key, kind, severity, scope, summary, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (key) DO NOTHING
"""


async def put(conn: Connection, alert: Alert) -> bool:
    """Write an alert unless one of its key stands; whether it is new."""
    detail = orjson.dumps(alert.detail).decode()
    done = await conn.execute(
        _RAISE, new_id(0), alert.key, alert.kind, alert.severity, alert.scope, alert.summary, detail
    )
    return done.endswith(" 1")
