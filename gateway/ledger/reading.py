"""Reads the ledger for people: one person's state and history, decrypted, and the list of suppressions.

Each read ends within TIMEOUT_S for a connection and as much for its query, or raises asyncpg's errors, OSError or
TimeoutError. KeyMismatchError says that a row was damaged or that the keys are another installation's.
"""

from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from gateway.contract.consent import State
from gateway.contract.decision import Reason
from gateway.ledger import rows
from gateway.ledger.events import SYSTEM
from gateway.ledger.keys import Keys, PersonKeys

TIMEOUT_S = 1.5
MOST_HISTORY = 10_000
MOST_LISTED = 1_000

STATE = "SELECT state FROM subject_states WHERE subject = $1"
PERSON = "SELECT subject, key, number, erased_at FROM subjects WHERE subject = ANY($1::bytea[])"
HISTORY = """
SELECT seq, at, kind, version, body FROM consent_events WHERE subject = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""
LOOKS = """
SELECT seq, at, kind, subject, version, body FROM consent_events
WHERE kind IN ('access', 'breaker', 'hold', 'list') AND seq < $1 ORDER BY seq DESC LIMIT $2
"""
SUPPRESSIONS = """
SELECT subject, scope, reason, at, entry FROM subject_suppressions
WHERE (entry, subject, scope) > ($1, $2, $3) AND ($4::text IS NULL OR sender = $4) AND ($5::int IS NULL OR reason = $5)
ORDER BY entry, subject, scope LIMIT $6
"""


class Listed(NamedTuple):
    """One standing suppression. `after` of the last one asks for the next page."""

    subject: bytes
    scope: str
    reason: Reason
    at_s: int
    entry: int

    @property
    def after(self) -> str:
        """The place of this row in the listing."""
        return f"{self.entry}.{self.subject.hex()}.{self.scope}"


class Looked(NamedTuple):
    """Somebody looked at a person's data, or moved a breaker, a hold, a list. What was seen is named, never shown."""

    seq: int
    at: datetime
    kind: str
    subject: bytes | None
    """None: a list, or no person at all."""
    data: dict[str, Any]
    """Empty where an erasure destroyed its key."""


class Reading:
    """Reads. Nothing is changed, and a look is not recorded here: the caller appends an ACCESS event for it."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys) -> None:
        self._pool, self._keys = pool, keys

    async def state(self, subject: bytes) -> State | None:
        """What is recorded about a person now; none when nothing ever was."""
        raw = await self._value(STATE, subject)
        return None if raw is None else rows.decode_state(raw)

    async def number(self, subject: bytes) -> str | None:
        """The person's E.164 number; none when it was never given, or was erased."""
        holders = await self._holders([subject])
        row = holders.get(subject)
        if row is None or row["number"] is None or row["key"] is None:
            return None
        return rows.open_number(self._keys.unwrap(subject, row["key"]), row["number"])

    async def history(self, subject: bytes, after: int = 0, limit: int = MOST_HISTORY) -> list[dict[str, Any]]:
        """Events of one person after a `seq`, oldest first.

        Each has seq, recorded_at (datetime), kind and, where its body can be read, event_id, occurred_at (Unix ms),
        state (`contract.record.EventState`, or none) and data.
        """
        found = await self._rows(HISTORY, subject, after, min(limit, MOST_HISTORY))
        holders = await self._holders({rows.key_holder(row["kind"], subject) for row in found})
        opened: dict[bytes, PersonKeys] = {
            holder: self._keys.unwrap(holder, row["key"]) for holder, row in holders.items() if row["key"] is not None
        }
        return [self._told(row, opened.get(rows.key_holder(row["kind"], subject))) for row in found]

    async def whole_history(self, subject: bytes) -> list[dict[str, Any]]:
        """Every event of one person, oldest first, however many."""
        told: list[dict[str, Any]] = []
        while page := await self.history(subject, told[-1]["seq"] if told else 0):
            told += page
            if len(page) < MOST_HISTORY:
                break
        return told

    async def looks(self, limit: int, before: int | None = None) -> list[Looked]:
        """Looks, moved breakers, holds and lists, the newest first, before a `seq` where one is given."""
        found = await self._rows(LOOKS, before or 2**62, min(limit, MOST_LISTED))
        named = {row["subject"] for row in found if row["subject"] is not None}
        opened = {
            subject: self._keys.unwrap(subject, row["key"])
            for subject, row in (await self._holders(named)).items()
            if row["key"] is not None
        }
        told = ((row, self._told(row, opened.get(row["subject"]))) for row in found)
        return [
            Looked(row["seq"], row["at"], row["kind"], _person(row["subject"]), one.get("data", {}))
            for row, one in told
        ]

    async def suppressions(
        self, sender: str | None = None, reason: Reason | None = None, after: str | None = None, limit: int = 100
    ) -> list[Listed]:
        """Standing suppressions in the order they were recorded. Raises ValueError for an `after` not of ours."""
        entry, subject, scope = _place(after)
        found = await self._rows(SUPPRESSIONS, entry, subject, scope, sender, reason, min(limit, MOST_LISTED))
        return [
            Listed(row["subject"], row["scope"], Reason(row["reason"]), rows.ms_of(row["at"]) // 1000, row["entry"])
            for row in found
        ]

    @staticmethod
    def _told(row: asyncpg.Record, keys: PersonKeys | None) -> dict[str, Any]:
        told = {
            "seq": row["seq"],
            "recorded_at": row["at"],
            "kind": row["kind"],
        }
        if row["body"] is not None and keys is not None:
            body = rows.open_body(keys, row["seq"], row["version"], row["body"])
            told |= {"event_id": body["record_id"], "occurred_at": body["event_time"], "data": body["data"]}
            told["state"] = body.get("event_state")
        return told

    async def _holders(self, subjects: "set[bytes] | list[bytes]") -> dict[bytes, asyncpg.Record]:
        return {row["subject"]: row for row in await self._rows(PERSON, list(subjects))}

    async def _rows(self, query: str, *values: Any) -> list[asyncpg.Record]:
        async with self._pool.acquire(timeout=TIMEOUT_S) as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, *values, timeout=TIMEOUT_S)
            return found

    async def _value(self, query: str, *values: Any) -> Any:
        async with self._pool.acquire(timeout=TIMEOUT_S) as connection:
            return await connection.fetchval(query, *values, timeout=TIMEOUT_S)


def _person(subject: bytes | None) -> bytes | None:
    return None if subject == SYSTEM else subject


def _place(after: str | None) -> tuple[int, bytes, str]:
    if not after:
        return 0, b"", ""
    entry, subject, scope = after.split(".", 2)
    return int(entry), bytes.fromhex(subject), scope
