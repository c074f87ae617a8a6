"""What a new owner makes of each record below the committed offset (MECHANISMS 6). Pure.

The commit goes ahead of the wire, so a record below it may have been written, or not: its record in Redis says what
the last owner got done. Two rules: nothing that may have reached a carrier is ever submitted again, and nothing that a
crash caught between a compare-and-set and its publish is lost.
"""

from dataclasses import dataclass

from gateway.guard.record import DONE, RESERVED, TAKEN, UNWRITTEN, VOID, RecordView


@dataclass(frozen=True, slots=True)
class Skip:
    """Its result is in Kafka, or the message lives on elsewhere."""


@dataclass(frozen=True, slots=True)
class SubmitNow:
    """The last owner gave it back unwritten: claim and submit this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Requeue:
    """The retry was recorded, its publish perhaps not: publish it (again)."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Voided before the wire, its result perhaps not published: publish it (again)."""

    attempt: int
    code: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """It may have reached the carrier: report it doubtful, never submit it."""

    attempt: int


Finding = Skip | SubmitNow | Requeue | Ended | InDoubt


def finding(view: RecordView | None, attempt: int, partition: int, offset: int) -> Finding:
    """What to do about the record at `partition`, `offset`, which was published as `attempt`."""
    if view is None or view.attempt < attempt:
        return InDoubt(attempt)
    if view.state == DONE:
        return Skip()
    if view.state == VOID:
        return Skip() if view.code is None else Ended(view.attempt, view.code)
    if view.state in (UNWRITTEN, TAKEN):
        here = (view.partition, view.offset) == (partition, offset)
        return _claimed(view) if here else Skip()  # a copy: the claimed one is judged at its own place
    return Requeue(view.attempt) if view.state == RESERVED and view.attempt > attempt else InDoubt(attempt)


def _claimed(view: RecordView) -> Finding:
    return SubmitNow(view.attempt) if view.state == UNWRITTEN else InDoubt(view.attempt)
