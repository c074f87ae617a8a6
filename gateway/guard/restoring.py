"""What a rebuild puts back after a flush: records and windows of the last day, and the stamps of longer windows.

Do it while the lanes are cold, in this order: persons (`apply`), records from the messages topics, results (`done`,
`refund`), stamps kept in PostgreSQL, the cursors last. Then what a claim does not find has expired. Without the records
a copy that Kafka holds twice could go twice, and every window would begin again. Bindings cannot be put back: the
messages do not carry their keys.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgpack

from gateway.guard import keys, record
from gateway.guard.plans import fields_of, longest_of
from gateway.rules.plan import Plan

_pack = msgpack.Packer(use_bin_type=False).pack


class Restored(NamedTuple):
    """A message as its topic has it."""

    id: str
    subject: bytes
    plan: Plan
    state: Literal["held", "reserved", "taken"]
    """taken: its offset is committed, so it may have been written; reserved: it is still to be claimed."""
    attempt: int
    stamp_ms: int
    """When it was admitted: of `long_windows` where it has any, else `accepted_at`."""
    partition: int = 0
    offset: int = 0
    entry: int | None = None
    text_hash: bytes | None = None
    terms: tuple[str, ...] = ()
    """Fields beyond the plan's, from `long_windows`: the consent's own `C/…`."""
    answer: bytes = b""
    bound: bool = True
    """Whether it had a key is not known, so its answer is kept as long."""
    record_ttl_ms: int = 86_400_000


class Stamps(NamedTuple):
    """Everything PostgreSQL holds of one window field of one person, ascending."""

    subject: bytes
    field: str
    stamps_ms: Sequence[int]
    period_ms: int


def pack_records(items: Sequence[Restored]) -> tuple[list[bytes], bytes]:
    """KEYS and the items of one call."""
    names: list[bytes] = []
    rows = []
    for item in items:
        first, raw = item.subject[0], keys.raw_id(item.id)
        names += (keys.RECORD[first] + raw, keys.WINDOWS[first] + item.subject)
        fields = () if item.state == "held" else tuple(dict.fromkeys((*fields_of(item.plan), *item.terms)))
        text = item.text_hash if item.plan.same_text_ms and item.state != "held" else None
        stamp = item.stamp_ms.to_bytes(6, "big")
        rows.append(
            (
                record.encode(
                    item.state,
                    item.attempt,
                    (item.partition, item.offset),
                    0 if item.state == "held" else item.stamp_ms,
                    entry=item.entry,
                    fields=fields,
                    text_hash=text,
                    bound=item.bound,
                    answer=item.answer,
                ),
                item.record_ttl_ms,
                item.stamp_ms,
                fields,
                longest_of(item.plan),
                text + stamp if text else b"",
            )
        )
    return names, _pack(rows)


def pack_stamps(items: Sequence[Stamps]) -> tuple[list[bytes], bytes]:
    """KEYS and the items of one call."""
    names = [keys.WINDOWS[item.subject[0]] + item.subject for item in items]
    return names, _pack([(item.field, sorted(item.stamps_ms), item.period_ms) for item in items])
