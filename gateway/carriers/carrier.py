"""What every carrier is: one call that submits messages, one that asks what became of them, and their closed answers.

The set is closed so that deliver can be exhaustive. What separates the members is one question: *may the carrier have
the message?* Only when it certainly has not (`Retry`, `Unwritten`) may it be written again; when nobody can tell
(`Doubtful`) it is never written again, and the carrier's receipt or query settles it. No answer to a query, not even
that the carrier has never seen it, lets a message be written again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from gateway.contract.decision import Cause, Status

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


@dataclass(frozen=True, slots=True)
class Seen:
    """The carrier has it, or had it. `at_ms`: when that became so (Unix ms), where the carrier says it."""

    answer: ClassVar[str] = "seen"
    status: Status
    cause: Cause
    word: str
    code: str = ""
    carrier_id: str | None = None
    """As it is matched (`receipts.fold_id`)."""
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class NeverSeen:
    """The carrier knows no such message. `final`: by the carrier's profile that means it never took it."""

    answer: ClassVar[str] = "not_found"
    final: bool = False


@dataclass(frozen=True, slots=True)
class StillUnknown:
    """The carrier says nothing, nothing readable, or that it does not know."""

    answer: ClassVar[str] = "unknown"


Known = Seen | NeverSeen | StillUnknown


class QueryFailed(Exception):  # noqa: N818 - it says what happened
    """No answer to a query. `why` comes from a closed set; `after_s` where the carrier said when to ask again."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.why, self.after_s = why, after_s


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

    @property
    def can_query(self) -> bool:
        """Whether it can be asked what became of a message."""

    async def query(self, refs: Sequence[str]) -> list[Known]:
        """What became of these messages (our ids), in order, one for each. Raises QueryFailed and nothing else."""

    async def close(self) -> None:
        """Give up connections and tasks; nothing is submitted afterwards."""
