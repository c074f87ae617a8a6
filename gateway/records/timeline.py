"""What happened to a message, in order, as it is kept in its row.

An entry is a compact JSON array, trailing empty fields left out:
`[at, status, attempt, carrier, code, cause, part, raw]`, status and cause as the numbers below. Numbers are part of the
stored format: they are never reused, and `status_word()` of migration 0003 spells the same ones.
"""

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from gateway.contract.decision import Cause, Status

STATUS_NUMBERS: dict[Status, int] = {
    Status.HELD: 1,
    Status.QUEUED: 2,
    Status.SENT: 3,
    Status.DELIVERED: 4,
    Status.UNDELIVERED: 5,
    Status.EXPIRED: 6,
    Status.REJECTED: 7,
    Status.CANCELLED: 8,
    Status.UNKNOWN: 9,
}
CAUSE_NUMBERS: dict[Cause, int] = {
    Cause.NONE: 0,
    Cause.DEAD_NUMBER: 1,
    Cause.SUSPENDED: 2,
    Cause.TRANSIENT: 3,
    Cause.CARRIER_OPT_OUT: 4,
    Cause.FREQUENCY: 5,
    Cause.CONTENT: 6,
    Cause.PORTED: 7,
    Cause.FLOW: 8,
    Cause.QUIET_HOURS: 9,
    Cause.OTHER: 10,
}
STATUSES: dict[int, Status] = {number: status for status, number in STATUS_NUMBERS.items()}
CAUSES: dict[int, Cause] = {number: cause for cause, number in CAUSE_NUMBERS.items()}


class Entry(NamedTuple):
    """One thing that happened: when (Unix ms), what status it spoke of, and the carrier's own words."""

    at: int
    status: Status
    attempt: int = 1
    """Which attempt; 0 for a receipt, which does not know."""
    carrier: str | None = None
    code: str | None = None
    """The carrier's raw code, or ours."""
    cause: Cause = Cause.NONE
    part: int | None = None
    raw: str | None = None
    """The carrier's raw status word; a receipt has one, a submit result has none."""


def encode(entries: Iterable[Entry]) -> str:
    """Entries as stored."""
    rows = []
    for at, status, attempt, carrier, code, cause, part, raw in entries:
        row: list[int | str | None] = [at, STATUS_NUMBERS[status], attempt]
        if carrier is not None or code is not None or raw is not None:
            row += (carrier, code, CAUSE_NUMBERS[cause], part, raw)
            while row[-1] is None:
                row.pop()
        rows.append(row)
    return orjson.dumps(rows).decode()


def decode(stored: str) -> list[Entry]:
    """Entries as they were."""
    return [_entry(row) for row in orjson.loads(stored)]


def _entry(row: list[int | str | None]) -> Entry:
    at, status, attempt, carrier, code, cause, part, raw = row + [None] * (8 - len(row))
    return Entry(at, STATUSES[status], attempt, carrier, code, CAUSES[cause or 0], part, raw)  # type: ignore[arg-type,index]
