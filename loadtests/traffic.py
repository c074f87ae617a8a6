"""The load test's plan and its judgement: which message comes next, what it should be answered, what a run amounts to.

Pure. Of every hundred messages two go to people without permission and one to somebody who opted out, in a shuffled
order, so that the shares are exact whatever the length of a run. Every number belongs to a block of this run.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

PER_BATCH = 50
BATCH_EVERY = 20
"""One request in twenty is a batch."""
REPEAT_EVERY = 50
"""One single message in fifty is sent a second time, under the same key."""
STRANGERS, OPTED_OUT = 0.02, 0.01
TOLERANCE = 0.002
LEAST_SENT = 0.95
MESSAGES_A_PERSON = 5
"""Of the ten a day that the transactional window allows."""

ORDERS = ("transaction.order", "transaction.shipping", "transaction.delivery", "transaction.refund")
EXPECTED = {
    "permitted": frozenset({"accepted", "held"}),
    "stranger": frozenset({"relationship.missing", "consent.missing"}),
    "opted_out": frozenset({"suppressed", "consent.withdrawn"}),
}
BLOCKS = 3000
BLOCK = 100_000
GROUPS = ("buyers", "members", "strangers", "left", "callers")
PREFIXES = {"buyers": "+8613", "members": "+8615", "strangers": "+8618", "left": "+8617", "callers": "+8615"}
OFFSETS = {"members": 0, "callers": 500_000_000}


def seconds_of(written: str) -> float:
    """A duration: `30`, `30s`, `2m`. ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([sm]?)", written.strip())
    if found is None:
        raise ValueError(f"{written!r} is no duration: give seconds (30, 30s) or minutes (2m)")
    return float(found[1]) * (60 if found[2] == "m" else 1)


@dataclass(frozen=True, slots=True)
class People:
    """The recipients of one run: how many of each group, in block `block` of 3000."""

    block: int
    buyers: int
    members: int
    left: int = 50

    @classmethod
    def of(cls, rate: float, seconds: float, block: int) -> "People":
        """Enough of them that nobody meets a window by chance."""
        messages = rate * seconds * (1 + (PER_BATCH - 1) / BATCH_EVERY)
        return cls(
            block % BLOCKS,
            buyers=min(BLOCK, max(200, int(messages / MESSAGES_A_PERSON))),
            members=min(BLOCK, max(50, int(messages / 8))),
        )

    def number(self, group: str, index: int) -> str:
        """The E.164 number of one of a group."""
        at = OFFSETS.get(group, 0) + self.block * BLOCK + index % BLOCK
        return f"{PREFIXES[group]}{at:09d}"

    def all(self, group: str) -> list[str]:
        """The numbers to seed."""
        return [self.number(group, at) for at in range(getattr(self, group))]


class Plan:
    """Which message comes next."""

    def __init__(self, people: People, run: str, sender: str = "acme") -> None:
        self._people, self._run, self._sender = people, run, sender
        self._random = random.Random(7)
        self._hundred: list[str] = []
        self._serial: dict[str, Iterator[int]] = {kind: count() for kind in EXPECTED}

    def message(self) -> tuple[str, dict[str, Any]]:
        """Its kind, and its body."""
        if not self._hundred:
            self._hundred = ["stranger"] * 2 + ["opted_out"] + ["permitted"] * 97
            self._random.shuffle(self._hundred)
        kind = self._hundred.pop()
        at = next(self._serial[kind])
        serial = f"{self._run}-{kind[0]}{at}"
        body: dict[str, Any] = {"sender": self._sender, "idempotency_key": serial, "client_ref": serial}
        return kind, body | getattr(self, f"_{kind}")(at, serial)

    def _permitted(self, at: int, serial: str) -> dict[str, Any]:
        """Of ten, eight about orders, one code, one promotion while members last (one a person and day)."""
        if at % 10 == 9:
            asked = {"ref": serial, "occurred_at": datetime.now(UTC).isoformat()}
            text = f"验证码 {at % 1_000_000:06d}，5 分钟内有效。"
            return {
                "to": self._number("callers", at // 10),
                "purpose": "verification.code",
                "text": text,
                "request": asked,
            }
        if at % 10 == 8 and at // 10 < self._people.members:
            return self._promotion("members", at // 10)
        return self._order("buyers", at % self._people.buyers, at, serial)

    def _stranger(self, at: int, serial: str) -> dict[str, Any]:
        return self._promotion("strangers", at) if at % 4 == 3 else self._order("strangers", at, at, serial)

    def _opted_out(self, at: int, serial: str) -> dict[str, Any]:
        who = at % self._people.left
        return self._promotion("left", who) if at % 4 == 3 else self._order("left", who, at, serial)

    def _order(self, group: str, who: int, at: int, serial: str) -> dict[str, Any]:
        text = f"您的订单 {serial} 有新的进展。"
        return {"to": self._number(group, who), "purpose": ORDERS[at % len(ORDERS)], "text": text}

    def _promotion(self, group: str, who: int) -> dict[str, Any]:
        text = f"本周新品到店，第 {who} 号会员专享。"
        return {"to": self._number(group, who), "purpose": "marketing.promotion", "text": text}

    def _number(self, group: str, index: int) -> str:
        return self._people.number(group, index)


@dataclass(slots=True)
class Tally:
    """What was planned and what came back."""

    p99_limit_ms: float = 250.0
    codes: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    messages: int = 0
    repeats: int = 0
    planned: int = 0
    sent: int = 0

    def answer(self, kind: str, code: str) -> None:
        """One message's outcome: `accepted`, `held` or a refusal's code, against what its kind should get."""
        self.messages += 1
        self.codes[code] += 1
        if code not in EXPECTED[kind]:
            self.unexpected[f"{kind}: {code}"] += 1
        for refused in ("stranger", "opted_out"):
            self.refused[refused] += code in EXPECTED[refused]

    def repeated(self, first: str | None, again: str | None) -> None:
        """A message sent twice under one key: it must be one message."""
        self.repeats += 1
        if first is None or first != again:
            self.unexpected["repeat: another id"] += 1

    def faults(self) -> list[str]:
        """Why this run failed; empty when it passed."""
        found = [f"unexpected {what} x{n}" for what, n in self.unexpected.most_common(10)]
        if self.messages == 0:
            return [*found, "no message was answered"]
        for kind, planned in (("stranger", STRANGERS), ("opted_out", OPTED_OUT)):
            share = self.refused[kind] / self.messages
            if abs(share - planned) > TOLERANCE:
                found.append(f"refused as {kind}: {share:.2%} of messages, planned {planned:.2%} ± {TOLERANCE:.1%}")
        if (p99 := quantile(self.latencies_ms, 0.99)) > self.p99_limit_ms:
            found.append(f"p99 of a single POST is {p99:.0f} ms, the limit {self.p99_limit_ms:.0f} ms")
        if self.sent < LEAST_SENT * self.planned:
            found.append(f"only {self.sent:,} of {self.planned:,} planned requests could be sent")
        return found

    def lines(self, seconds: float) -> list[str]:
        """The run in words."""
        codes = ", ".join(f"{code} {n:,}" for code, n in self.codes.most_common())
        p50, p99 = (quantile(self.latencies_ms, q) for q in (0.5, 0.99))
        return [
            f"{self.messages:,} messages in {self.sent:,} requests over {seconds:.0f} s, {self.repeats} sent twice",
            f"answers: {codes or 'none'}",
            f"single POST, from its planned moment to its answer: p50 {p50:.0f} ms, p99 {p99:.0f} ms",
        ]


def quantile(values: Sequence[float], q: float) -> float:
    """The value at quantile `q`; 0 when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0
