"""Deliver's side of a record: claims before the wire, and what becomes of them. Pure packing and parsing.

The meaning of each step is at the head of `claim.lua`, `void.lua` and `mark.lua`.
"""

import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.contract.codes import Code
from gateway.guard import keys, record
from gateway.guard.admission import CODES
from gateway.guard.plans import Plans
from gateway.rules.plan import Plan

FORGOTTEN_MS = 86_400_000
"""Life of a record that a claim has to make because none was there."""
_CLAIM = struct.Struct(">3BHIHI").pack
"""`CLAIM` of `lua/permission.lua`; the offset as its upper two and lower four bytes."""
_LOWER = 0xFFFF_FFFF


class Claim(NamedTuple):
    """A message about to be written to the wire, and where it stands in Kafka."""

    id: str
    attempt: int
    subject: bytes
    plan: Plan
    partition: int
    offset: int
    approved: bool = False


class Outcome(StrEnum):
    """What deliver does with a claimed message."""

    GO = "go"
    """Submit it within one second of the monotonic clock read before the claim."""
    DROP = "drop"
    """A copy, or already settled: nothing to do, nothing to report."""
    REFUSED = "refused"
    """No longer permitted; voided and given back. Report it `cancelled` with the code."""
    COLD = "cold"
    """The cache is behind: pause, claim again later."""


class Claimed(NamedTuple):
    """The answer to one claim."""

    kind: Outcome
    code: Code | None = None
    detail: str = ""
    entry: int | None = None
    """GO: the ledger entry that permits it now."""


class VoidAsk(NamedTuple):
    """A reservation to end, or to give back: the windows live in the subject's lane."""

    id: str
    subject: bytes
    request: bytes | None = None
    """The digest of the person's request that it used up, and is to give back when it is voided."""


class Attempt(NamedTuple):
    """One attempt of a message."""

    id: str
    attempt: int


class Review(StrEnum):
    """What a new owner finds of a message below the committed offset (MECHANISMS 6)."""

    DONE = "done"
    """Its result is in Kafka, or a later attempt exists: skip."""
    UNWRITTEN = "unwritten"
    """The old owner never wrote it: claim and submit."""
    VOID = "void"
    """It was refused at the claim: report `cancelled` with the record's code."""
    OTHER = "other"
    """It may have reached the carrier: `doubtful`."""
    ABSENT = "absent"
    """Nothing is known: `doubtful`."""


def pack(claims: Sequence[Claim], min_seq: int, plans: Plans, now_ms: int = 0) -> tuple[list[bytes], list[bytes | int]]:
    """KEYS and ARGV of one call of `claim.lua`."""
    lanes: dict[int, int] = {}
    used: dict[int, int] = {}
    order: list[Plan] = []
    persons: list[bytes] = []
    windows: list[bytes] = []
    fences: list[bytes] = []
    rows: list[bytes] = []
    for claim in claims:
        subject, plan = claim.subject, claim.plan
        first = subject[0]
        at = used.get(id(plan))
        if at is None:
            order.append(plan)
            at = used[id(plan)] = len(order)
        persons += (
            keys.PERSON[first] + subject,
            keys.BLOCK[first] + subject,
            keys.RECORD[first] + keys.raw_id(claim.id),
        )
        windows.append(keys.WINDOWS[first] + subject)
        fences.append(keys.FENCE[first] + subject)
        lane = lanes.setdefault(first & 15, len(lanes) + 1)
        offset = claim.offset
        rows.append(_CLAIM(at, claim.approved, lane, claim.attempt, claim.partition, offset >> 32, offset & _LOWER))
    names = [keys.CURSOR[lane] for lane in lanes]
    args: list[bytes | int] = [len(names), min_seq, now_ms, plans.table(order), FORGOTTEN_MS, b"".join(rows)]
    return names + persons + windows + fences, args


def parse(reply: Sequence[Any]) -> list[Claimed]:
    """The answers of `claim.lua`, in order."""
    claimed = []
    for row in reply:
        if isinstance(row, int):
            claimed.append(Claimed(Outcome.GO, entry=row if row >= 0 else None))
        elif row[0] == 1:
            claimed.append(Claimed(Outcome.DROP, detail=record.STATES[row[1]]))
        elif row[0] == 2:  # noqa: PLR2004 - the reply's kinds
            claimed.append(Claimed(Outcome.REFUSED, CODES[row[1]]))
        else:
            claimed.append(Claimed(Outcome.COLD, Code.CACHE_COLD))
    return claimed


def reviewed(raw: bytes | None, attempt: int) -> Review:
    """What a record says of one attempt."""
    if raw is None:
        return Review.ABSENT
    view = record.decode(raw)
    if view.state == record.DONE or view.attempt > attempt:
        return Review.DONE
    if view.state == record.VOID:
        return Review.VOID
    return Review.UNWRITTEN if view.state == record.UNWRITTEN else Review.OTHER
