"""What the edge's handlers are given: every part of the gateway they may use, put together by `assemble`.

Holds no state of its own but the count of what is taken in and not yet answered, and the clicks of the last second; a
crash loses only those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.edge.clicks import Clicks
from gateway.edge.problems import Refused
from gateway.guard import Cfg, Guard
from gateway.intake import Intake
from gateway.ledger.appender import Appender
from gateway.ledger.evidence import Evidence
from gateway.ledger.reading import Reading
from gateway.rules.pack import Pack
from gateway.rules.reach import Network
from gateway.stream.producer import Producer
from gateway.stream.topics import Topics

MAX_MESSAGES = 5_000
MAX_BYTES = 64 * 1024 * 1024
BULK_SHARE = 0.8
"""Of both bounds; the rest is for single messages and for what tightens permissions: no campaign refuses those."""
SMALL = 64 * 1024
"""Bytes of the largest body that is not a batch's."""
FULL = Refusal(Code.UNAVAILABLE, "too much is waiting for its answer here", 1)


class Unanswered:
    """What one worker has taken in and not yet answered (MECHANISMS 9): past the bound it refuses at once."""

    __slots__ = ("bytes", "max_bytes", "max_messages", "messages")

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self.messages = self.bytes = 0
        self.max_messages, self.max_bytes = max_messages, max_bytes

    def take(self, size: int) -> None:
        """Take in a body of `size` bytes, before it is read; `Refused` when there is no room."""
        if self.bytes + size > self.max_bytes * (1 if size <= SMALL else BULK_SHARE):
            raise Refused(FULL)
        self.bytes += size

    def count(self, n: int) -> None:
        """Take in the `n` messages of a body that was taken; `Refused` when there is no room."""
        if self.messages + n > self.max_messages * (1 if n == 1 else BULK_SHARE):
            raise Refused(FULL)
        self.messages += n

    def give(self, size: int, n: int) -> None:
        """Answered: give the room back."""
        self.bytes -= size
        self.messages -= n


@dataclass(frozen=True, slots=True)
class Gate:
    """Everything behind the edge. All parts are started; closing them is the business of who opened them."""

    intake: Intake
    cfg: Cfg
    guard: Guard
    appender: Appender
    reading: Reading
    pool: asyncpg.Pool
    producer: Producer
    topics: Topics
    pepper: bytes
    packs: Mapping[str, Pack]
    metrics_dir: Path | None = None
    ledger_dir: Path | None = None
    evidence: Evidence | None = None
    carrier: str = "simulator"
    trusted_proxies: tuple[Network, ...] = ()
    """Whose `X-Forwarded-For` is believed on the consent pages."""
    public_url: str | None = None
    """The origin under which people reach `/c/`; none: as their request says."""
    answer_h: int = 24
    """Hours within which a complaint is to be answered first."""
    unanswered: Unanswered = field(default_factory=Unanswered)
    clicks: Clicks = field(default_factory=Clicks)
