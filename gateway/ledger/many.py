"""What the ledger knows of many people at once: their states, and which of their consents carry evidence.

Reads only, a page at a time; nothing of what is opened leaves here but whether it shows anything. That people were
looked at as a list is recorded by whoever shows the list.
"""

from collections.abc import Collection, Mapping
from typing import Any

from asyncpg import Pool

from gateway.contract.consent import EventKind, State
from gateway.ledger import rows
from gateway.ledger.keys import Keys, PersonKeys
from gateway.rules.cleansing import shows

QUERY_S = 10.0
STATES = "SELECT subject, state FROM subject_states WHERE subject = ANY($1::bytea[])"
GRANTS = """
SELECT e.seq, e.subject, e.version, e.body, s.key FROM consent_events e JOIN subjects s ON s.subject = e.subject
WHERE e.seq = ANY($1::bigint[]) AND e.kind = $2 AND e.body IS NOT NULL AND s.key IS NOT NULL
"""


class Many:
    """Over one pool; raises what PostgreSQL raises, and KeyMismatchError for a damaged row."""

    def __init__(self, pool: "Pool[Any]", keys: Keys) -> None:
        self._pool, self._keys = pool, keys

    async def states(self, subjects: Collection[bytes]) -> Mapping[bytes, State]:
        """What stands about these people; who is unknown is left out."""
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            found = await connection.fetch(STATES, list(subjects), timeout=QUERY_S)
        return {row["subject"]: rows.decode_state(row["state"]) for row in found}

    async def proven(self, entries: Collection[int]) -> set[int]:
        """Those among these grants, by their `seq`, whose record carries evidence (`rules.cleansing.shows`)."""
        if not entries:
            return set()
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            found = await connection.fetch(GRANTS, list(entries), EventKind.GRANT.value, timeout=QUERY_S)
        shown: set[int] = set()
        for row in found:
            keys: PersonKeys = self._keys.unwrap(row["subject"], row["key"])
            body = rows.open_body(keys, row["seq"], row["version"], row["body"])
            if shows(body["data"].get("evidence")):
                shown.add(row["seq"])
        return shown
