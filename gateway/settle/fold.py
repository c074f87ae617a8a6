"""What gathered statements change: pure, given the rows they are about.

Owns the outcome of one flush before it is written: rows to insert and to update, the minute buckets' increments (what
the rows count as now, less what they counted as before), what is owed to the cache and the ledger, and whom to tell.
"""

from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence

from gateway.carriers.query import ASK_AFTER_MS
from gateway.contract.decision import Cause, Class, Status
from gateway.contract.ids import id_time_ms
from gateway.contract.wire import Accepted
from gateway.ledger.events import scope_of
from gateway.settle.buffer import Statement
from gateway.settle.origin import Origin
from gateway.settle.status import NOT_FOUND, RANK_FINAL, RANK_NEVER, RANK_WITHDRAWN, Milestone, Row

LATE_MS = 3_600_000
"""A message sent so long after its id was made is remembered apart, for its receipt is due so much later."""

Count = tuple[int, Origin, str, Status, Cause]
"""Minute, origin, carrier, status, cause."""


class Fold:
    """Folds statements into rows."""

    def __init__(self, found: Mapping[str, Row], told: Collection[str] = (), asked: Container[str] = ()) -> None:
        """`found`: every row that exists already, among those of the statements to come. They are changed in place.

        `told`: clients that want to know of all of their messages; `asked`: the carriers that can be asked what became
        of a message.
        """
        self._found, self._told, self._asked = found, told, asked
        self.inserted: list[Row] = []
        self.updated: list[Row] = []
        self.counts: Counter[Count] = Counter()
        self.refunds: list[tuple[str, bytes]] = []
        """Messages (id, subject) that turned out never to have been sent."""
        self.withdrawn: list[tuple[str, bytes, int]] = []
        """Messages (id, subject, Unix ms) the cache has taken back already, whose long windows end too."""
        self.suppressions: list[tuple[str, bytes, str, int]] = []
        """Recipients that a carrier refuses: message id, subject, scope, Unix ms."""
        self.windows: list[tuple[bytes, str, int, str]] = []
        self.requests: list[tuple[bytes, str, str, str, int]] = []
        self.seen: Counter[str] = Counter()
        """Receipts by carrier."""
        self.changed: Counter[tuple[str, str, str]] = Counter()
        """Receipts that changed a status: carrier, status, cause."""
        self.late: list[tuple[str, int]] = []
        """Messages (id, Unix ms) now `sent`, long after their ids were made."""
        self.doubts: list[tuple[str, str, str, int, int]] = []
        """Messages to ask their carrier about: id, carrier, class, unknown since when and first due when (Unix ms)."""
        self.silent: Counter[str] = Counter()
        """Messages whose receipt did not come, by carrier."""
        self.spans: list[tuple[str, float]] = []
        """Class, and seconds from acceptance to the final status, of every message that became final."""
        self.given: dict[str, tuple[Row, str]] = {}
        """Rows, by their ids, whose acceptance gave the address to call."""
        self.turned: list[Row] = []
        """Rows whose client is to be told: they stand at another status than it could know of."""

    def take(self, message_id: str, said: Sequence[Statement]) -> None:
        """Fold what was said about one message."""
        row, rank, known, status = self._found.get(message_id), 0, False, None
        if row is None:
            row = Row(message_id)
            if not self._apply(row, said):
                return
            self.inserted.append(row)
            before: list[Milestone] = []
            origin, was_final = None, False
        else:
            before, origin, rank = row.milestones(), row.origin, row.rank
            known, status = origin is not None, row.status
            was_final = row.rank == RANK_FINAL and origin is not None
            if not self._apply(row, said):
                return
            self.updated.append(row)
        self._count(origin, before, row)
        if row.callback is not None or self.given or self._told:
            self._turn(row, status if known else None)
        new = row.origin is not None and not (known and rank == row.rank)
        if row.status is Status.UNKNOWN and new:
            self._doubt(row)
        elif row.status is Status.SENT:
            if rank != row.rank and row.settled_at - id_time_ms(row.id) >= LATE_MS:
                self.late.append((row.id, row.settled_at))
        elif row.rank == RANK_WITHDRAWN and new:
            self.withdrawn.append((row.id, row.subject or b"", row.settled_at))
        elif row.rank == RANK_FINAL and row.origin is not None and not was_final:
            self._ended(row, row.origin)

    def _doubt(self, row: Row) -> None:
        """Nobody knows what became of it: ask, or give back what it held where its carrier's word settles that."""
        if row.rank == RANK_NEVER:
            self.refunds.append((row.id, row.subject or b""))
        elif row.code != NOT_FOUND and row.origin is not None and row.carrier in self._asked:
            first = row.settled_at + ASK_AFTER_MS[0]
            self.doubts.append((row.id, row.carrier or "", row.origin.cls, row.settled_at, first))

    def _apply(self, row: Row, said: Iterable[Statement]) -> bool:
        changed = False
        for kind, record, at, held, origin in said:
            if kind == "receipt":
                rank = row.rank
                changed |= row.reported(record)
                self.seen[record.carrier] += 1
                if row.rank != rank:
                    self.changed[record.carrier, row.status.value, row.cause.value] += 1
            elif kind == "result":
                changed |= row.attempted(record)
            elif kind == "silence":
                if row.silent(record, at):
                    changed = True
                    self.silent[row.carrier or ""] += 1
            elif origin is not None:
                changed |= row.accepted(record, origin, held=held, at=at)
                if record.long_windows or record.request_ref is not None:
                    self._used(record)
                if record.callback_url is not None and row.callback is None:
                    self.given[row.id] = row, record.callback_url
        return changed

    def _turn(self, row: Row, known: Status | None) -> None:
        """Note the row where its client is told and does not know. `known`: what GET showed; none: only the 202 did."""
        if row.origin is None or not (row.callback or row.id in self.given or row.origin.client in self._told):
            return
        if row.status is not (row.answered() if known is None else known):
            self.turned.append(row)

    def _used(self, record: Accepted) -> None:
        subject = bytes.fromhex(record.subject)
        for field, stamp in record.long_windows or ():
            self.windows.append((subject, field, stamp, record.id))
        if record.request_ref is not None:
            self.requests.append((subject, record.sender, record.request_ref, record.id, record.accepted_at))

    def _count(self, was: Origin | None, before: list[Milestone], row: Row) -> None:
        """Add what a row counts as now and take away what it counted as before; most of that stays as it is."""
        origin, after = row.origin, row.milestones()
        kept = before if was == origin else ()
        if was is not None:
            for one in before:
                if kept is not before or one not in after:
                    minute, status, cause, carrier = one
                    self.counts[minute, was, carrier, status, cause] -= 1
        if origin is not None:
            for one in after:
                if one not in kept:
                    minute, status, cause, carrier = one
                    self.counts[minute, origin, carrier, status, cause] += 1

    def _ended(self, row: Row, origin: Origin) -> None:
        """Once in a message's life: its last status is known, and so is what it was."""
        self.spans.append((origin.cls, max(0.0, (row.settled_at - row.accepted_at) / 1000)))
        subject = row.subject or b""
        if row.unsent():
            self.refunds.append((row.id, subject))
        if row.cause is Cause.CARRIER_OPT_OUT:
            scope = scope_of(origin.sender, Class(origin.cls))
            self.suppressions.append((row.id, subject, scope, row.settled_at))
