"""A message's row as PostgreSQL stores it, to and from `Row`. The order of values is `settlement.COLUMNS`.

The address to call is left out there: nearly all rows have none, and it never changes (`settlement.insert_called`).
"""

from collections.abc import Mapping
from typing import Any

from asyncpg import Record

from gateway.records import timeline
from gateway.records.timeline import CAUSE_NUMBERS, CAUSES, STATUS_NUMBERS, STATUSES
from gateway.settle.origin import Origin
from gateway.settle.status import Row


def values_of(row: Row, numbers: Mapping[Origin, int]) -> tuple[Any, ...]:
    """The stored values; `numbers` has the row's origin."""
    return (
        row.id,
        row.subject,
        None if row.origin is None else numbers[row.origin],
        row.accepted_at or None,
        row.settled_at or None,
        row.entry,
        row.rank,
        STATUS_NUMBERS[row.status],
        CAUSE_NUMBERS[row.cause],
        row.attempt,
        row.parts,
        row.parts_delivered,
        row.code,
        row.carrier,
        row.carrier_id,
        row.client_ref,
        timeline.encode(row.ordered()),
    )


def row_of(stored: Record, origins: Mapping[int, Origin]) -> Row:
    """The row that was stored; `origins` has its origin."""
    row = Row(str(stored["id"]))
    row.subject = stored["subject"]
    row.origin = None if stored["origin"] is None else origins[stored["origin"]]
    row.accepted_at = stored["accepted_at"] or 0
    row.settled_at = stored["settled_at"] or 0
    row.entry = stored["entry"]
    row.rank = stored["rank"]
    row.status, row.cause = STATUSES[stored["status"]], CAUSES[stored["cause"]]
    row.attempt, row.parts, row.parts_delivered = stored["attempt"], stored["parts"], stored["parts_delivered"]
    row.code, row.carrier, row.carrier_id = stored["code"], stored["carrier"], stored["carrier_id"]
    row.client_ref = stored["client_ref"]
    row.callback = stored["callback"]
    row.timeline = timeline.decode(stored["timeline"])
    row.restore()
    return row
