"""What a rebuild puts back after a flush: as if nothing had been lost, however often it is repeated.

Do it while the lanes are cold: persons (`apply`), then in any order records from the messages topics, bindings, and the
stamps and requests kept in PostgreSQL; the cursors last. The heads of `restore.lua` and `rebind.lua` say what gives way
to what. All messages of one person and one stamp must come in one call, else a window may count them once.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgpack

from gateway.contract.decision import Basis
from gateway.guard import keys, record
from gateway.guard.plans import WEEK_MS, fields_of, longest_of
from gateway.rules.plan import Plan

_pack = msgpack.Packer(use_bin_type=False).pack


class Fields(NamedTuple):
    """The window fields that messages of one kind are counted in; made once, shared by their `Restored`."""

    names: tuple[str, ...]
    longest_ms: int
    """How long a stamp matters to any window of them."""

    @classmethod
    def of(cls, plan: Plan, terms: Sequence[str] = ()) -> "Fields":
        """A plan's fields and, from `long_windows`, the consent's own `C/…`."""
        return cls(tuple(dict.fromkeys((*fields_of(plan), *terms))), max(longest_of(plan), WEEK_MS if terms else 0))


class Restored(NamedTuple):
    """A message as its topic has it, and what became of it."""

    id: str
    subject: bytes
    state: Literal["held", "reserved", "taken", "done", "void"]
    """taken: its offset is committed, so it may have been written; reserved: it is still to be claimed."""
    attempt: int
    stamp_ms: int
    """When its windows were consumed; 0 while held."""
    partition: int = 0
    offset: int = 0
    fields: Fields | None = None
    """None where it consumed nothing, or nothing that still counts."""
    entry: int | None = None
    basis: int = 0
    """`basis_at`."""
    text_hash: bytes | None = None
    """Only while the same text may not go out again."""
    answer: bytes = b""
    code: str = ""
    """Of a void message, why it was voided."""
    bound: bool = True
    refunded: bool = False
    record_ttl_ms: int = 86_400_000
    """0: too old for a record; its windows count all the same."""
    request: bytes | None = None
    request_ttl_ms: int = 0


class Rebound(NamedTuple):
    """A binding: the digest of client and key, what is bound to it (id and fingerprint), its remaining life."""

    digest: bytes
    value: bytes
    ttl_ms: int


class Stamps(NamedTuple):
    """Everything PostgreSQL holds of one window field of one person, ascending."""

    subject: bytes
    field: str
    stamps_ms: Sequence[int]
    period_ms: int


def basis_at(plan: Plan, basis: Basis, term: str | None) -> int:
    """Where among the plan's keys a record says its permission stands; the first one where nothing tells.

    `term`: the consent whose own limit counted the message.
    """
    if basis is Basis.RELATIONSHIP:
        return -1
    if basis is not Basis.CONSENT:
        return 0
    return plan.consents.index(term) + 1 if term in plan.consents else 1


Person = list[tuple[int, Restored]]
"""One person's messages by stamp, each with its place in the caller's order."""


def people(items: Sequence[Restored], most: int) -> list[Person]:
    """Items by person, in parts of about `most` where one has more, never cut between equal stamps."""
    found: dict[bytes, Person] = {}
    for at, item in enumerate(items):
        found.setdefault(item.subject, []).append((at, item))
    parts: list[Person] = []
    for person in found.values():
        if len(person) == 1:
            parts.append(person)
            continue
        person.sort(key=lambda one: one[1].stamp_ms)
        part: Person = []
        for one in person:
            if len(part) >= most and one[1].stamp_ms != part[-1][1].stamp_ms:
                parts.append(part)
                part = []
            part.append(one)
        parts.append(part)
    return parts


def pack_records(persons: Sequence[Person]) -> tuple[list[bytes], list[bytes]]:
    """KEYS and the arguments of one call."""
    windows, records, requests = [], [], []
    lives: list[tuple[bytes, int]] = []
    sets: dict[int, int] = {}
    known: list[tuple[int | str, ...]] = []
    rows = []
    for person in persons:
        subject = person[0][1].subject
        first = subject[0]
        windows.append(keys.WINDOWS[first] + subject)
        mine = []
        for _, item in person:
            raw, fields, stamp = keys.raw_id(item.id), item.fields, item.stamp_ms
            records.append(keys.RECORD[first] + raw)
            which = 0
            if fields is not None:
                which = sets.get(id(fields), 0)
                if not which:
                    known.append((fields.longest_ms, *fields.names))
                    which = sets[id(fields)] = len(known)
            if item.request is not None and item.request_ttl_ms > 0:
                requests.append(keys.REQUEST[first] + item.request)
                lives.append((raw, item.request_ttl_ms))
            text = b"" if item.text_hash is None else item.text_hash + stamp.to_bytes(6, "big")
            mine.append((_record(item), max(item.record_ttl_ms, 0), stamp, which, text))
        rows.append(mine)
    return windows + records + requests, [_pack(rows), _pack(known), _pack(lives)]


def _record(item: Restored) -> bytes:
    return record.encode(
        item.state,
        item.attempt,
        (item.partition, item.offset),
        item.stamp_ms,
        entry=item.entry,
        fields=(item.code,) if item.state == record.VOID else () if item.fields is None else item.fields.names,
        text_hash=item.text_hash,
        bound=item.bound,
        answer=item.answer,
        basis=item.basis,
        refunded=item.refunded,
    )


def pack_bindings(items: Sequence[Rebound]) -> tuple[list[bytes], list[bytes | int]]:
    """KEYS and ARGV of one call of `rebind.lua`."""
    args: list[bytes | int] = []
    for item in items:
        args += (item.value, item.ttl_ms)
    return [keys.BINDING[item.digest[0]] + item.digest for item in items], args


def pack_stamps(items: Sequence[Stamps]) -> tuple[list[bytes], bytes]:
    """KEYS and the items of one call."""
    names = [keys.WINDOWS[item.subject[0]] + item.subject for item in items]
    return names, _pack([(item.field, sorted(item.stamps_ms), item.period_ms) for item in items])
