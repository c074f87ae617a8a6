"""What a settler remembers between flushes, so that most of them read nothing from PostgreSQL.

Owns only copies. They are true because one process settles at a time and its offsets are compared before it writes; the
moment a flush fails they are thrown away. Every collection is bounded: the oldest entry gives way. They are ordered
dicts because finding a plain one's first key passes over every slot that was emptied before it.
"""

from collections import OrderedDict
from typing import TypeVar

from gateway.settle.origin import Origin
from gateway.settle.status import Row

K = TypeVar("K")
V = TypeVar("V")
MOST_ROWS = 20_000
MOST_CARRIER_IDS = 50_000
MOST_ORIGINS = 20_000
MOST_ORPHANS = 100_000
TOLD_S = 1.0


class Known:
    """Recent rows, origins, carrier ids, and whether any receipt is waiting for its result."""

    def __init__(self) -> None:
        self.rows: OrderedDict[str, Row] = OrderedDict()
        self.origins: OrderedDict[Origin, int] = OrderedDict()
        self.numbers: OrderedDict[int, Origin] = OrderedDict()
        self.carrier_ids: OrderedDict[str, str] = OrderedDict()
        self.orphans: set[str] | None = set()
        """The keys of all waiting receipts; none when they are too many to remember, and then PostgreSQL is asked."""
        self.days: set[int] = set()
        """Days whose partitions exist."""
        self.told: dict[str, bytes] = {}
        """Clients that are told of all of their messages, and where; read anew every second (`told_at`, monotonic)."""
        self.told_at = -TOLD_S

    def keep_row(self, row: Row) -> None:
        """Remember a row as PostgreSQL has it."""
        _keep(self.rows, row.id, row, MOST_ROWS)

    def keep_carrier_id(self, key: str, message_id: str) -> None:
        """Remember whose a carrier's id is."""
        _keep(self.carrier_ids, key, message_id, MOST_CARRIER_IDS)

    def keep_origin(self, origin: Origin, number: int) -> None:
        """Remember an origin's number in PostgreSQL."""
        _keep(self.origins, origin, number, MOST_ORIGINS)
        _keep(self.numbers, number, origin, MOST_ORIGINS)

    def set_orphans(self, keys: list[str]) -> None:
        """Remember every waiting key, or that they are too many."""
        self.orphans = set(keys) if len(keys) < MOST_ORPHANS else None

    def add_orphans(self, keys: list[str]) -> None:
        """Remember further waiting keys."""
        if self.orphans is not None:
            self.orphans.update(keys)
            if len(self.orphans) >= MOST_ORPHANS:
                self.orphans = None


def _keep(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)
