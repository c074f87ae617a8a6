"""How old the consent was that messages relied on, and what became of them: counted from the rows themselves.

Reads `messages`, `signals` and the times of the ledger's events. Exact, and not kept in buckets: the age is a message's
own, so a dimension of it would multiply every bucket by five for a question that is asked now and then. The caller
bounds the call; a day of a busy sender is read in seconds, a year of everybody is not (docs/health.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from gateway.contract.health import Act
from gateway.records.connection import Connection
from gateway.records.health import Dimension, Totals, Where
from gateway.records.partitions import lowest_id

Age = Literal["under_30_days", "under_90_days", "under_1_year", "older", "none"]
"""When the consent was given before the message was accepted; `none`: it relied on something else than a consent."""
MINUTE_MS = 60_000
_DAYS: Final[tuple[tuple[Age, int], ...]] = (("under_30_days", 30), ("under_90_days", 90), ("under_1_year", 365))
_AGE = (
    "CASE WHEN e.seq IS NULL THEN 'none' "
    + " ".join(f"WHEN m.accepted_at < extract(epoch FROM e.at) * 1000 + {n * 86_400_000} THEN '{a}'" for a, n in _DAYS)
    + " ELSE 'older' END"
)
_FROM = """
JOIN message_origins o ON o.id = m.origin
LEFT JOIN consent_events e ON e.seq = m.entry AND e.kind = 'grant' AND o.basis = 'consent'
"""
_COUNTED = f"""
SELECT {_AGE} AS age, count(*) AS accepted, count(*) FILTER (WHERE m.status IN (3, 4, 5, 9)) AS sent,
    count(*) FILTER (WHERE m.status = 4) AS delivered,
    count(*) FILTER (WHERE m.status = 5) AS undelivered, count(*) FILTER (WHERE m.status = 6) AS expired,
    count(*) FILTER (WHERE m.status = 7) AS rejected, count(*) FILTER (WHERE m.status = 8) AS cancelled,
    count(*) FILTER (WHERE m.status = 9) AS unknown
FROM messages m {_FROM}
WHERE m.id >= $1 AND m.id < $2"""  # noqa: S608 - the constants above
_ACTS = f"""
SELECT {_AGE} AS age, s.signal, count(*) AS n
FROM signals s JOIN messages m ON m.id = s.message {_FROM}
WHERE m.id >= $1 AND m.id < $2 AND s.minute >= $3"""  # noqa: S608 - the constants above
_COLUMNS: Final[Mapping[Dimension, str]] = {
    "sender": "o.sender", "campaign": "o.campaign", "purpose": "o.purpose", "port": "o.port", "client": "o.client",
    "carrier": "m.carrier", "list_source": "o.list_source",
}  # fmt: skip
_FIELDS: Final[Mapping[int, str]] = {
    Act.COMPLAINT: "complaints", Act.UNSUBSCRIBE: "unsubscribes", Act.REPLY: "replied",
}  # fmt: skip


async def by_consent_age(conn: Connection, since: int, until: int, where: Where) -> dict[str | None, Totals]:
    """Messages made in a span of Unix minutes by the age of their consent, and every act about those messages.

    Unlike the buckets, which count a milestone in its minute, this follows the messages of the span to where they stand
    now. Clicks have no message and are not in it.
    """
    span = (lowest_id(since * MINUTE_MS), lowest_id(until * MINUTE_MS))
    asked = [list(values) for values in where.values()]
    found: dict[str | None, Totals] = {}
    for row in await conn.fetch(_within(_COUNTED, where, 3, "1"), *span, *asked):
        counts = {name: n for name, n in row.items() if name != "age"}
        found[row["age"]] = Totals(**counts)
    for row in await conn.fetch(_within(_ACTS, where, 4, "1, 2"), *span, since, *asked):
        if (name := _FIELDS.get(row["signal"])) is not None:
            setattr(found.setdefault(row["age"], Totals()), name, row["n"])
    return found


def _within(query: str, where: Where, first: int, group: str) -> str:
    """The query of what `where` asks for, whose values are parameters from `first` on."""
    asked = (f" AND {_COLUMNS[name]} = ANY(${place}::text[])" for place, name in enumerate(where, first))
    return f"{query}{''.join(asked)} GROUP BY {group}"
