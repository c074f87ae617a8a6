"""When a sender, a campaign, a port or a list has caused too many complaints: the breaker's rule.

Pure: what was counted and a pack's lines come in, a verdict with its figures goes out. A line is passed

- by its rate: at least `min_delivered` were delivered, and the lower end of Wilson's interval (z: how sure we want to
  be) is at or above `ppm`. So one complaint in ten messages stops nobody, and a true rate at half of the line nearly
  never does (`make bench-breaker` simulates both; docs/breaker.md has the figures);
- by a count: `few` while less than `min_delivered` were delivered (a small list, or receipts that do not come), or
  `most` whatever was delivered.

What is counted begins at a scope's *floor*: the last time that a person let it go on. A complaint counts at the time
its message was sent, so what is complained about late does not stop again what was judged already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast, get_args

from gateway.contract.registry import Sender
from gateway.contract.scope import part

if TYPE_CHECKING:
    from gateway.rules.pack import Pack, Source

Kind = Literal["sender", "campaign", "port", "list_source"]
"""What has a breaker that opens by itself."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Counted = Literal["complaints", "confirmed", "unsubscribes"]
"""`confirmed`: the complaints that came by a regulator's or a carrier's hand."""
Within = Literal["24h", "30d"]
Level = Literal["ok", "warn", "open"]
WITHIN_MINUTES: dict[Within, int] = {"24h": 1_440, "30d": 43_200}
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a pack, as `rules.shape.BreakerLineTable` says it."""

    name: str
    counts: Counted
    kinds: frozenset[Kind]
    within: Within
    ppm: float | None
    min_delivered: int
    z: float
    few: int | None
    most: int | None
    source: Source


@dataclass(frozen=True, slots=True)
class Lines:
    """A pack's lines. `warn`, `calm`: the shares of a line at which a scope warns, and has calmed down again."""

    warn: float
    calm: float
    lines: tuple[Line, ...]


class Tally(NamedTuple):
    """What a scope has counted in one window."""

    delivered: int = 0
    complaints: int = 0
    confirmed: int = 0
    unsubscribes: int = 0


class Counts(NamedTuple):
    """Both windows of a scope, each no longer ago than its floor."""

    day: Tally = Tally()
    month: Tally = Tally()

    def within(self, within: Within) -> Tally:
        """One window's tally."""
        return self.day if within == "24h" else self.month


class Pressure(NamedTuple):
    """How near a scope is to one line: 1 is the line."""

    share: float
    line: Line
    n: int
    delivered: int
    at_least_ppm: float
    by: Literal["rate", "few", "most"]

    def figures(self) -> dict[str, Any]:
        """The same for people and machines."""
        line = self.line
        return {
            "line": line.name,
            "counts": line.counts,
            "within": line.within,
            "by": self.by,
            "n": self.n,
            "delivered": self.delivered,
            "ppm": round(self.n / self.delivered * MILLION, 2) if self.delivered else None,
            "at_least_ppm": round(self.at_least_ppm, 2),
            "line_ppm": line.ppm,
            "line_n": {"few": line.few, "most": line.most}.get(self.by),
            "min_delivered": line.min_delivered,
            "share": round(self.share, 3),
        }


class Verdict(NamedTuple):
    """What to do about a scope, and the line it is nearest to; none where nothing was counted."""

    level: Level
    nearest: Pressure | None = None

    @property
    def share(self) -> float:
        """How near it is to that line."""
        return self.nearest.share if self.nearest else 0.0

    @property
    def reason(self) -> str:
        """In figures, as the ledger and the alert have it."""
        return "" if self.nearest is None else said(self.nearest)


def lower_bound(n: int, of: int, z: float) -> float:
    """The lower end of Wilson's interval for a share of `n` in `of`; 0 where nothing was counted."""
    if n <= 0 or of <= 0:
        return 0.0
    p, z2 = min(n / of, 1.0), z * z
    margin = z * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    return max(0.0, (p + z2 / (2 * of) - margin) / (1 + z2 / of))


def judge(lines: Lines, kind: Kind, counts: Counts) -> Verdict:
    """The verdict on one scope of this kind."""
    near = max(_pressures(lines.lines, kind, counts), key=lambda one: one.share, default=None)
    if near is None or near.n == 0:
        return Verdict("ok")
    return Verdict("open" if near.share >= 1 else "warn" if near.share >= lines.warn else "ok", near)


def in_force(senders: Iterable[Sender], packs: Mapping[str, Pack]) -> Callable[[str], list[Lines]]:
    """By scope: the lines of its sender's pack, of the packs of a port's senders, else of every sender's pack."""
    own: dict[str, set[str]] = {}
    for sender in senders:
        if sender.pack in packs:
            for scope in (f"sender:{sender.id}", f"port:{sender.service_port}", f"port:{sender.marketing_port}"):
                own.setdefault(scope, set()).add(sender.pack)
    every = set().union(*own.values()) or packs.keys()

    def lines(scope: str) -> list[Lines]:
        sender = part(scope).sender
        return [packs[name].breaker for name in own.get(f"sender:{sender}" if sender else scope, every)]

    return lines


def strictest(lines: Iterable[Lines], scope: str, counts: Counts) -> tuple[Verdict, Lines]:
    """The verdict on a scope by the strictest of several packs' lines, and those."""
    kind = cast("Kind", scope.partition(":")[0])
    return max(((judge(one, kind, counts), one) for one in lines), key=lambda found: found[0].share)


def _pressures(lines: Iterable[Line], kind: Kind, counts: Counts) -> Iterable[Pressure]:
    for line in lines:
        if kind in line.kinds:
            tally = counts.within(line.within)
            yield pressure(line, getattr(tally, line.counts), tally.delivered)


def pressure(line: Line, n: int, delivered: int) -> Pressure:
    """How near `n` of `delivered` are to a line, by whichever of its measures is nearest."""
    at_least = lower_bound(n, delivered, line.z) * MILLION
    found = [Pressure(0.0, line, n, delivered, at_least, "rate")]
    enough = delivered >= line.min_delivered
    if line.ppm is not None and enough:
        found.append(Pressure(at_least / line.ppm, line, n, delivered, at_least, "rate"))
    if line.few is not None and not enough:
        found.append(Pressure(n / line.few, line, n, delivered, at_least, "few"))
    if line.most is not None:
        found.append(Pressure(n / line.most, line, n, delivered, at_least, "most"))
    return max(found, key=lambda one: one.share)


def said(one: Pressure) -> str:
    """A pressure in a sentence."""
    line = one.line
    what = {"complaints": "complaints", "confirmed": "confirmed complaints", "unsubscribes": "opt-outs"}[line.counts]
    told = f"{one.n:,} {what} of {one.delivered:,} delivered in {line.within}"
    if one.by == "rate":
        return f"{told}: at least {one.at_least_ppm:,.4g} ppm, the line is {line.ppm or 0:,.4g} ppm"
    if one.by == "few":
        return f"{told}: the line is {line.few} before {line.min_delivered:,} are delivered"
    return f"{told}: the line is {line.most}"
