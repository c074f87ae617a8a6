"""What a message's status is, given all that was said about it: pure.

Three kinds of statement arrive, each possibly twice, late, or before the others: that the message was accepted, what
deliver learned of an attempt, and what the carrier reports. Each claims a status with a *rank*, and a row takes a claim
only if its rank is higher than the row's own:

    held, queued      2 x attempt, one more when queued: a retry is later than any step of the attempt before it
    withdrawn         `cancelled`, unless anything else is known: Kafka had not answered in time, its caller was told
                      503, and the record came in late; the same key may have admitted the same id again since
    doubtful          the submit's answer is lost: `unknown`, unless anything better is known
    unseen            asked, the carrier knows no such message: `unknown` as before, with that code
    never             the same, of a carrier whose word for it counts: its window slots are given back
    sent              the carrier has it, or a part of it
    silent            no receipt for 72 h: `unknown`
    unknown           the carrier says so itself
    final             delivered, undelivered, expired, rejected, cancelled: the first stays

So rows only move forward, a second delivery of a statement changes nothing, and the order of statements does not
matter, except that of two contradicting final ones the first stays. A long message reported part by part is delivered
when every part is, and not delivered as soon as one is not. The timeline keeps every distinct statement.
"""

from typing import Final

from gateway.contract.codes import Code
from gateway.contract.decision import Cause, Status
from gateway.contract.wire import Accepted, Receipt, Result
from gateway.records.timeline import STATUS_NUMBERS, Entry
from gateway.settle.origin import Origin

RANK_WITHDRAWN: Final = 900_000
RANK_DOUBTFUL: Final = 1_000_000
RANK_UNSEEN: Final = 1_200_000
RANK_NEVER: Final = 1_400_000
RANK_SENT: Final = 2_000_000
RANK_SILENT: Final = 2_500_000
RANK_UNKNOWN: Final = 3_000_000
RANK_FINAL: Final = 4_000_000
RECEIPT_MISSING: Final = "receipt.missing"
NOT_FOUND: Final = "carrier.not_found"
MAX_TIMELINE = 64
MAX_PARTS = 62
MINUTE_MS = 60_000

Milestone = tuple[int, Status, Cause, str]
"""A minute (Unix minutes), what was reached, why, and at which carrier."""


class Row:
    """One message as settlement knows it. Times are Unix milliseconds; 0 and None where nothing is known yet."""

    __slots__ = (
        "accepted_at",
        "attempt",
        "callback",
        "carrier",
        "carrier_id",
        "cause",
        "client_ref",
        "code",
        "entry",
        "filled",
        "id",
        "origin",
        "parts",
        "parts_delivered",
        "rank",
        "sent_at",
        "settled_at",
        "status",
        "subject",
        "timeline",
        "tried",
    )

    def __init__(self, message_id: str) -> None:
        self.id = message_id
        self.subject: bytes | None = None
        self.origin: Origin | None = None
        self.accepted_at = self.settled_at = self.sent_at = 0
        self.entry: int | None = None
        self.client_ref: str | None = None
        self.callback: bytes | None = None
        """The name of the address that its client gave with it (`notices.Notices.address`)."""
        self.rank = self.attempt = 0
        self.status, self.cause = Status.QUEUED, Cause.NONE
        self.code: str | None = None
        self.carrier: str | None = None
        self.carrier_id: str | None = None
        self.parts = self.parts_delivered = 0
        self.timeline: list[Entry] = []
        self.filled = 0
        """The rank of the acceptance that gave the fields above: a release decides anew."""
        self.tried = 0
        """The attempt that gave the carrier and its id."""

    def restore(self) -> None:
        """Set what is not stored, but follows from the timeline."""
        for entry in self.timeline:
            if entry.carrier is None and entry.status in (Status.HELD, Status.QUEUED):
                self.filled = max(self.filled, _waiting(entry.attempt, entry.status))
            elif entry.raw is None and entry.attempt >= self.tried:
                self.sent_at = 0 if entry.attempt > self.tried else self.sent_at
                self.tried = entry.attempt
                if entry.status is Status.SENT:
                    self.sent_at = entry.at

    def milestones(self) -> list[Milestone]:
        """What the message counts as in the minute buckets; nothing before its origin is known."""
        if self.origin is None:
            return []
        found = [(self.accepted_at // MINUTE_MS, Status.QUEUED, Cause.NONE, "")]
        if self.sent_at:
            found.append((self.sent_at // MINUTE_MS, Status.SENT, Cause.NONE, self.carrier or ""))
        if self.rank >= RANK_WITHDRAWN and self.status is not Status.SENT:
            found.append((self.settled_at // MINUTE_MS, self.status, self.cause, self.carrier or ""))
        return found

    def answered(self) -> Status:
        """What the 202 said: held, where its first acceptance was."""
        held = (one for one in self.timeline if one.status is Status.HELD and one.carrier is None and one.attempt == 1)
        return Status.QUEUED if next(held, None) is None else Status.HELD

    def unsent(self) -> bool:
        """Whether it ended without reaching a network: then its window slots are given back."""
        if self.status is Status.REJECTED:
            return True
        if self.status not in (Status.CANCELLED, Status.EXPIRED):
            return False
        return any(entry.status is self.status and entry.raw is None for entry in self.timeline)

    def ordered(self) -> list[Entry]:
        """The timeline by time; entries of one time in the order of their progress."""
        return self.timeline if len(self.timeline) < 2 else sorted(self.timeline, key=_order)  # noqa: PLR2004

    def accepted(self, record: Accepted, origin: Origin, *, held: bool, at: int) -> bool:
        """It was accepted, released or queued again. `at`: when Kafka took the record. True when anything is new.

        A copy published twice is one statement: only its earliest time is kept.
        """
        status = Status.HELD if held else Status.QUEUED
        rank = _waiting(record.attempt, status)
        entry = Entry(at, status, record.attempt)
        for index, known in enumerate(self.timeline):
            if known[1:] == entry[1:]:
                if known.at > at:
                    self.timeline[index] = entry
                return known.at > at
        self._note(entry)
        if rank > self.filled:
            self.filled = rank
            self.subject, self.origin = bytes.fromhex(record.subject), origin
            self.accepted_at, self.entry, self.client_ref = record.accepted_at, record.entry, record.client_ref
        self.attempt = max(self.attempt, record.attempt)
        self.parts = max(self.parts, min(record.parts, MAX_PARTS))
        self._advance(rank, status, at)
        self._roll_up(at)
        return True

    def attempted(self, record: Result) -> bool:
        """Deliver reports an attempt. True when anything is new.

        A retry or a parking leaves the message waiting: its next acceptance tells how, this one only why.
        """
        attempt = record.attempt
        if record.outcome == "retrying":
            status, rank = Status.QUEUED, _waiting(attempt, Status.QUEUED)
        elif record.outcome == "parked":
            status, rank = Status.HELD, _waiting(attempt + 1, Status.HELD)
        else:
            status, rank = _OUTCOMES[record.outcome]
            if status is Status.CANCELLED and record.code == Code.UNAVAILABLE:
                rank = RANK_WITHDRAWN
        if not self._note(Entry(record.at, status, attempt, record.carrier, record.code, record.cause)):
            return False
        self._carried(record, status)
        self.attempt = max(self.attempt, attempt)
        if status is Status.SENT:
            self.parts = max(self.parts, min(record.parts, MAX_PARTS))
        self._advance(rank, status, record.at, record.cause, record.code)
        self._roll_up(record.at)
        return True

    def reported(self, record: Receipt) -> bool:
        """The carrier reports. True when anything is new."""
        if record.missing is not None:
            return self._missed(record)
        code = record.raw_code or record.raw_status
        entry = Entry(record.at, record.status, 0, record.carrier, code, record.cause, record.part, record.raw_status)
        if not self._note(entry):
            return False
        if not self.tried:
            ids = (self.carrier_id or record.carrier_id, record.carrier_id)
            self.carrier, self.carrier_id = self.carrier or record.carrier, min(ids)
        status, at = record.status, record.received_at
        if status is Status.DELIVERED and record.part is not None:
            self.parts_delivered |= 1 << min(max(record.part, 1), MAX_PARTS) - 1
            self._advance(RANK_SENT, Status.SENT, at)
            self._roll_up(at)
        elif status in (Status.HELD, Status.QUEUED, Status.SENT):
            self._advance(RANK_SENT, Status.SENT, at)
        elif status is Status.UNKNOWN:
            self._advance(RANK_UNKNOWN, status, at, record.cause, code)
        else:
            self._advance(RANK_FINAL, status, at, record.cause, code)
            self._roll_up(at)
        return True

    def _missed(self, record: Receipt) -> bool:
        """Asked, the carrier knows no such message: still `unknown`, and never a reason to send it again."""
        said = Entry(record.at, Status.UNKNOWN, 0, record.carrier, NOT_FOUND, raw=record.raw_status)
        if not self._note(said):
            return False
        rank = RANK_NEVER if record.missing == "never" else RANK_UNSEEN
        self._advance(rank, Status.UNKNOWN, record.received_at, Cause.NONE, NOT_FOUND)
        return True

    def silent(self, sent_by_ms: int, at: int) -> bool:
        """No receipt came in time: what is `sent` since `sent_by_ms` or before becomes `unknown`. True when it does."""
        if self.status is not Status.SENT or self.settled_at > sent_by_ms:
            return False
        self._note(Entry(at, Status.UNKNOWN, self.tried, self.carrier, RECEIPT_MISSING))
        self._advance(RANK_SILENT, Status.UNKNOWN, at, Cause.NONE, RECEIPT_MISSING)
        return True

    def _carried(self, record: Result, status: Status) -> None:
        """The carrier and its id are those of the last attempt; what only a receipt said of them gives way."""
        if record.attempt > self.tried:
            self.tried, self.carrier, self.carrier_id = record.attempt, record.carrier, record.carrier_id
            self.sent_at = 0
        elif record.attempt == self.tried:
            self.carrier, self.carrier_id = self.carrier or record.carrier, self.carrier_id or record.carrier_id
        if status is Status.SENT and record.attempt == self.tried:
            self.sent_at = record.at

    def _roll_up(self, at: int) -> None:
        """Delivered once every part is, and not before the acceptance has said how many there are; or the reverse."""
        if self.status is Status.DELIVERED:
            self.parts_delivered |= (1 << self.parts) - 1  # a report of the whole names no part
            return
        if not self.parts_delivered or self.origin is None or self.parts_delivered.bit_count() < self.parts:
            return
        reports = [entry for entry in self.timeline if entry.part is not None and entry.status is Status.DELIVERED]
        last = max(reports, key=_order, default=None)
        self._advance(RANK_FINAL, Status.DELIVERED, at, Cause.NONE, last.code if last else None)

    def _advance(self, rank: int, status: Status, at: int, cause: Cause = Cause.NONE, code: str | None = None) -> None:
        if rank > self.rank:
            self.rank, self.status, self.cause, self.code, self.settled_at = rank, status, cause, code, at

    def _note(self, entry: Entry) -> bool:
        """Keep a statement; False when it was made before."""
        if entry in self.timeline:
            return False
        if len(self.timeline) < MAX_TIMELINE:
            self.timeline.append(entry)
        return True


_OUTCOMES: Final[dict[str, tuple[Status, int]]] = {
    "submitted": (Status.SENT, RANK_SENT + 1),
    "rejected": (Status.REJECTED, RANK_FINAL),
    "cancelled": (Status.CANCELLED, RANK_FINAL),
    "expired": (Status.EXPIRED, RANK_FINAL),
    "doubtful": (Status.UNKNOWN, RANK_DOUBTFUL),
}


def _waiting(attempt: int, status: Status) -> int:
    return 2 * attempt + (status is Status.QUEUED)


def _order(entry: Entry) -> tuple[int, int, int, int, str, str, str]:
    at, status, attempt, carrier, code, _cause, part, raw = entry
    return at, STATUS_NUMBERS[status], attempt, part or 0, carrier or "", code or "", raw or ""
