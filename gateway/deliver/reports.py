"""The results deliver publishes, built one way. Pure."""

from typing import Literal

from gateway.contract.codes import Code
from gateway.contract.decision import Cause
from gateway.contract.wire import Accepted, Result

Outcome = Literal["submitted", "rejected", "cancelled", "expired", "doubtful", "retrying", "parked"]


def report(
    accepted: Accepted,
    outcome: Outcome,
    at: int,
    *,
    carrier: str | None = None,
    attempt: int | None = None,
    carrier_id: str | None = None,
    code: str | None = None,
    cause: Cause = Cause.NONE,
) -> Result:
    """What is known of one attempt: the record's own, unless another is given."""
    return Result(
        id=accepted.id,
        attempt=accepted.attempt if attempt is None else attempt,
        cls=accepted.cls,
        carrier=carrier or "",
        outcome=outcome,
        carrier_id=carrier_id,
        code=code,
        cause=cause,
        parts=accepted.parts,
        at=at,
        subject=accepted.subject,
        trace=accepted.trace,
    )


def not_sent(accepted: Accepted, code: str, at: int, attempt: int | None = None) -> Result:
    """A message that ends before the wire: expired where its time is over, else cancelled with the code."""
    outcome: Outcome = "expired" if code == Code.MESSAGE_EXPIRED else "cancelled"
    return report(accepted, outcome, at, attempt=attempt, code=code)
