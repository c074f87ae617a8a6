"""One message on its way through an intake's call: what is known of it so far. Nothing outlives the call."""

from dataclasses import dataclass

from gateway.contract.decision import Refusal
from gateway.guard import Binding, Mode, Verdict
from gateway.intake.prepare import Prepared


@dataclass(slots=True)
class Job:
    """One message on its way through this call; `at` is its place in the answer."""

    at: int
    prepared: Prepared
    subject: bytes
    id: str
    binding: Binding | None = None
    bound: bool = False
    mode: Mode = Mode.ADMIT
    due_ms: int | None = None
    verdict: Verdict | None = None
    late: Refusal | None = None
    """What it is answered unless its key was answered before."""
