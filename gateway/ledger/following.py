"""Follows the ledger by `seq`: the acts by which people end messages, opened, for whoever counts them.

Reads only. `seq` is dense and rows become visible in its order, so a follower that remembers the last one it was given
misses none. What was erased in between cannot be opened any more and is left out.
"""

from typing import NamedTuple

from gateway.contract.consent import EventKind
from gateway.contract.decision import Reason
from gateway.ledger import rows
from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.ledger.reading import PERSON

AT_ONCE = 1_000
"""Events looked through in one step; most are grants of an import."""
_ENDINGS = [EventKind.WITHDRAWAL.value, EventKind.SUPPRESSION.value]
_LAST = """
SELECT max(seq) FROM consent_events WHERE seq > $1 AND seq <= $1 + $2 AND at <= to_timestamp($3 / 1000.0)
"""
_EVENTS = """
SELECT seq, event_id, at, subject, kind, version, body FROM consent_events
WHERE seq > $1 AND seq <= $2 AND kind = ANY($3) AND subject IS NOT NULL AND body IS NOT NULL ORDER BY seq
"""


class Ending(NamedTuple):
    """A person's act that ends messages: a withdrawal, or an opt-out that somebody entered for them."""

    seq: int
    event_id: str
    """As it is stored: a keyed digest."""
    subject: bytes
    at: int
    """When it happened, Unix ms; never after it was recorded."""
    sender: str | None
    """Of whom; none: of everybody."""
    port: str | None
    """To which port it was written, where it was a reply."""


async def endings(conn: rows.Connection, keys: Keys, after: int, by_ms: int) -> tuple[int, list[Ending]]:
    """How far the ledger was looked through (`after`: not at all), and the endings in that stretch.

    Looks at what was recorded by `by_ms` (Unix ms). A body that does not open is left out: the audit of the ledger
    tells of it.
    """
    last: int | None = await conn.fetchval(_LAST, after, AT_ONCE, by_ms)
    if last is None:
        return after, []
    found = await conn.fetch(_EVENTS, after, last, _ENDINGS)
    people = {row["subject"]: row["key"] for row in await conn.fetch(PERSON, list({row["subject"] for row in found}))}
    ended = []
    for row in found:
        wrapped = people.get(row["subject"])
        if wrapped is None:
            continue
        try:
            body = rows.open_body(keys.unwrap(row["subject"], wrapped), row["seq"], row["version"], row["body"])
        except KeyMismatchError:
            continue
        data = body["data"]
        if row["kind"] == EventKind.SUPPRESSION and data.get("reason") != Reason.OPT_OUT.name.lower():
            continue
        at = min(int(body["event_time"]), rows.ms_of(row["at"]))
        sender = _sender(data)
        ended.append(Ending(row["seq"], row["event_id"], row["subject"], at, sender, data.get("port")))
    return last, ended


def _sender(data: dict[str, object]) -> str | None:
    """Whose messages end: a withdrawal names the sender, a suppression a scope (contract.consent.State)."""
    named = data.get("sender") or str(data.get("scope", "")).partition("/")[0].partition("#")[0]
    return None if named in ("", "*") else str(named)
