"""What every carrier is: one call that submits messages, and the closed set of answers, each carrying its policy.

The set is closed so that deliver can be exhaustive. What separates the members is one question: *may the carrier have
the message?* Only when it certainly has not (`Retry`, `Unwritten`) may it be written again; when nobody can tell
(`Doubtful`) it is never written again, and the carrier's receipt or query settles it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from gateway.contract.decision import Cause

WRITE_WITHIN_S = 1.0
"""How long after the claim's clock reading the first byte may still go out (the recipient's fence)."""


@dataclass(frozen=True, slots=True)
class Submit:
    """One attempt at one message. `ref` is our message id; `text` is complete (signature and refusal text included)."""

    ref: str
    to: str
    sender_port: str
    text: str
    parts: int = 1
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Taken:
    """The carrier has it and reports on it under `carrier_id` (folded by `receipts.fold_id`)."""

    outcome: ClassVar[str] = "submitted"
    carrier_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The carrier refused it for good: another attempt would be refused again."""

    outcome: ClassVar[str] = "rejected"
    code: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Retry:
    """The carrier certainly does not have it, and may take it later; `after_s` where it said when."""

    outcome: ClassVar[str] = "retrying"
    code: str
    cause: Cause
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Doubtful:
    """It may or may not have been taken. Never written again; `why` comes from a closed set, never from the wire."""

    outcome: ClassVar[str] = "doubtful"
    why: str


@dataclass(frozen=True, slots=True)
class Unwritten:
    """No byte of it left this process before `write_by`: its permission is stale, so claim again and submit again."""

    outcome: ClassVar[str] = "unwritten"


Submitted = Taken | Rejected | Retry | Doubtful | Unwritten


class Carrier(Protocol):
    """Simulator and HTTP today. Implementations are safe for concurrent `submit` calls."""

    @property
    def name(self) -> str:
        """The carrier's name in routes, results, receipts and metrics."""

    async def submit(self, messages: Sequence[Submit], *, write_by: float | None = None) -> list[Submitted]:
        """Submit, answering in order, one for each, within the carrier's own deadline; raises nothing but cancellation.

        `write_by` is a reading of `time.monotonic()`: what has not been started on the wire by then is `Unwritten`.
        A cancelled call may have written: treat its messages as `Doubtful`.
        """

    async def close(self) -> None:
        """Give up connections and tasks; nothing is submitted afterwards."""
