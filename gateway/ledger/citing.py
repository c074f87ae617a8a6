"""What the ledger says about many messages at once: the entries they relied on, and where their recipients stand.

Reads only, a page at a time, for exports and lists; whoever shows it records the look first. What cannot be opened,
because its person was erased, is told by its kind and time alone.
"""

from collections.abc import Collection
from typing import Any

import asyncpg

from gateway.contract.export import Cites, Permission, Person
from gateway.ledger import rows
from gateway.ledger.keys import KeyMismatchError, Keys, PersonKeys

QUERY_S = 30.0
ENTRIES = "SELECT seq, at, kind, version, subject, body FROM consent_events WHERE seq = ANY($1::bigint[])"
PEOPLE = """
SELECT s.subject, s.key, s.number, s.erased_at, t.state, d.subject IS NOT NULL AS restricted
FROM subjects s LEFT JOIN subject_states t USING (subject) LEFT JOIN erasures_due d USING (subject)
WHERE s.subject = ANY($1::bytea[])
"""


class Citing:
    """Reads over one pool."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys) -> None:
        self._pool, self._keys = pool, keys

    async def cite(self, entries: Collection[int], subjects: Collection[bytes]) -> Cites:
        """Of entries (`seq`) and subjects, those that are known."""
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            found = await connection.fetch(ENTRIES, list(entries), timeout=QUERY_S) if entries else []
            wanted = {*subjects, *(row["subject"] for row in found if row["subject"] is not None)}
            people = await connection.fetch(PEOPLE, list(wanted), timeout=QUERY_S) if wanted else []
        opened = {row["subject"]: self._keys_of(row) for row in people}
        permissions = {row["seq"]: _permission(row, opened.get(row["subject"])) for row in found}
        return Cites(permissions, {row["subject"]: _person(row, opened[row["subject"]]) for row in people})

    def _keys_of(self, row: asyncpg.Record) -> PersonKeys | None:
        return None if row["key"] is None else self._keys.unwrap(row["subject"], row["key"])


def _permission(row: asyncpg.Record, keys: PersonKeys | None) -> Permission:
    told = Permission(row["kind"], rows.ms_of(row["at"]))
    if row["body"] is None or keys is None:
        return told
    try:
        body: dict[str, Any] = rows.open_body(keys, row["seq"], row["version"], row["body"])
    except KeyMismatchError:
        return told
    data = body["data"]
    evidence = data.get("evidence") or {}
    channel = evidence.get("collection_method") or data.get("channel")
    return told._replace(at=body["event_time"], evidence_id=body["record_id"], channel=channel and str(channel))


def _person(row: asyncpg.Record, keys: PersonKeys | None) -> Person:
    number = None
    if row["number"] is not None and keys is not None:
        number = rows.open_number(keys, row["number"])
    state = None if row["state"] is None else rows.decode_state(row["state"])
    erased = row["erased_at"] is not None and row["key"] is None
    return Person(number, state, erased, row["restricted"])
