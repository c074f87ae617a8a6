"""What the edge refused, by minute, sender and code: what was asked for and not admitted.

Owns table `refusal_minutes`. Each edge adds what it refused in the last second; one that is killed forgets that second,
so these are figures for people and nothing is decided by them. Sender `-`: none that is known.
"""

from collections.abc import Mapping

from gateway.contract.codes import Code
from gateway.records.connection import Connection

TIMEOUT_S = 1.0
_ADD = """
INSERT INTO refusal_minutes AS m (minute, sender, code, n)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[])
ON CONFLICT (minute, sender, code) DO UPDATE SET n = m.n + EXCLUDED.n
"""
_TOTALS = """
SELECT code, sum(n)::bigint AS n FROM refusal_minutes
WHERE minute >= $1 AND minute < $2 AND ($3::text IS NULL OR sender = $3) GROUP BY code ORDER BY n DESC, code
"""
_FORGET = "DELETE FROM refusal_minutes WHERE minute < $1"


async def add(conn: Connection, minute: int, seen: Mapping[tuple[str, Code], int]) -> None:
    """Add one second's refusals to a Unix minute."""
    rows = sorted((sender, code.value, n) for (sender, code), n in seen.items())  # one order for all: no ring of waits
    senders, codes, counts = zip(*rows, strict=True)
    await conn.execute(_ADD, minute, list(senders), list(codes), list(counts), timeout=TIMEOUT_S)


async def totals(conn: Connection, since: int, until: int, sender: str | None = None) -> dict[str, int]:
    """Refusals by code between two Unix minutes, the most frequent first."""
    return {row["code"]: row["n"] for row in await conn.fetch(_TOTALS, since, until, sender)}


async def forget(conn: Connection, before: int) -> None:
    """Delete what is older than a Unix minute."""
    await conn.execute(_FORGET, before)
