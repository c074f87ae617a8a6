"""What a list's messages have in common, by sender, and what is known of a page of its people: their `Facts`.

Owns the way from rows and states to what the rule is given; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from asyncpg import Pool

from gateway.contract.consent import Consent, State
from gateway.contract.decision import Basis, Class
from gateway.contract.registry import Sender
from gateway.ledger.events import scope_of
from gateway.ledger.many import Many
from gateway.records import cleansing_facts
from gateway.records.cleansing_facts import Origin, Receipts
from gateway.records.cleansing_people import Row
from gateway.rules.cleansing import Facts, Given, covering
from gateway.rules.pack import Cleansing, Pack
from gateway.rules.plan import plan


class Toward(NamedTuple):
    """A sender of the list: its pack's limits, what stops the list's messages, and which consents permit them."""

    sender: Sender
    rule: Cleansing
    scopes: frozenset[str]
    consents: frozenset[str]


def toward(found: Iterable[Origin], senders: Mapping[str, Sender], packs: Mapping[str, Pack]) -> dict[str, Toward]:
    """By sender; one that is not registered any more is judged by the first pack."""
    grouped: dict[str, list[Origin]] = {}
    for origin in found:
        grouped.setdefault(origin.sender, []).append(origin)
    return {name: _of(name, origins, senders, packs) for name, origins in grouped.items()}


def _of(name: str, origins: Sequence[Origin], senders: Mapping[str, Sender], packs: Mapping[str, Pack]) -> Toward:
    sender = senders.get(name) or Sender(id=name, signature=name, service_port="", marketing_port="")
    pack = packs.get(sender.pack) or next(iter(packs.values()))
    scopes, consents = {"*", name}, set()
    for origin in origins:
        cls = Class(origin.cls)
        scopes |= {scope_of(None, cls), scope_of(name, cls)}
        if origin.purpose in pack.purposes:
            compiled = plan(pack, sender, origin.purpose)
            scopes |= set(compiled.scopes)
            consents |= set(compiled.consents if compiled.basis is Basis.CONSENT else ())
    return Toward(sender, pack.cleansing, frozenset(scopes), frozenset(consents))


async def facts_of(
    pool: Pool[Any], many: Many, rows: Sequence[Row], senders: Mapping[str, Toward], until_ms: int
) -> list[Facts]:
    """What is known of these people up to a time, in their order."""
    subjects = list({row.subject for row in rows})
    states = await many.states(subjects)
    async with pool.acquire() as conn:
        receipts = await cleansing_facts.receipts(conn, subjects, until_ms)
        replied = await cleansing_facts.replied(conn, subjects, until_ms)
        complained = await cleansing_facts.complained(conn, subjects)
    said = _by_sender(replied, [one.sender for one in senders.values()])
    standing = [_standing(states.get(row.subject), senders[row.sender]) for row in rows]
    proven = await many.proven({one.entry for held in standing for one in held})
    return [
        Facts(
            reasons=covering(states.get(row.subject), senders[row.sender].scopes),
            complained=not complained.isdisjoint({(row.subject, row.sender), (row.subject, None)}),
            on_consent=row.on_consent,
            consents=tuple(Given(one.at * 1000, one.until * 1000, one.entry in proven) for one in held),
            dead_ms=receipts.get(row.subject, Receipts()).dead,
            delivered_ms=receipts.get(row.subject, Receipts()).delivered,
            first_ms=row.first_at,
            replied_ms=said.get((row.subject, row.sender)),
        )
        for row, held in zip(rows, standing, strict=True)
    ]


def _standing(state: State | None, sender: Toward) -> list[Consent]:
    if state is None:
        return []
    return [state.consents[key] for key in sender.consents if key in state.consents]


def _by_sender(replied: Iterable[tuple[bytes, str, int]], senders: Sequence[Sender]) -> dict[tuple[bytes, str], int]:
    """The last reply of each person to each sender; carriers may append digits to a port."""
    last: dict[tuple[bytes, str], int] = {}
    for subject, port, at in replied:
        for sender in senders:
            if sender.port_named(port) is not None:
                key = subject, sender.id
                last[key] = max(at, last.get(key, 0))
    return last
