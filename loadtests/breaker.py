"""`make bench-breaker`: how soon the breaker's rule stops what is bad, and how seldom it stops what is good.

Seeded runs of campaigns over the pack's own lines (`rules.breaker`, `packs/cn.toml`): each delivery is complained about
with a fixed chance, the complaint comes after a delay, and the rule looks again and again, as the evaluator does. Every
look counts: nothing here corrects for looking often, the lines' certainty does. Exit status: 0; 1 when a gate is not
reached and `--gate` was given.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.rules.breaker import Counts, Lines, Tally, Verdict, judge
from gateway.rules.pack import load

EVERY = 100
"""Deliveries between two looks: at a hundred messages a second, the evaluator's second."""
CAMPAIGN = 100_000
BAD, GOOD = 0.003, 0.0002
MOST_DELIVERED = 6_000
SURE = 0.95
FALSE_MOST = 0.001


class Run(NamedTuple):
    """One campaign: after how many deliveries it warned and opened; none: never."""

    warned: int | None
    opened: int | None


def arrivals(rng: random.Random, rate: float, size: int, delay: float) -> list[float]:
    """When, in deliveries since the beginning, each complaint arrives; `delay`: how long it takes, its mean."""
    found, at = [], 0
    while True:
        at += int(math.log(1.0 - rng.random()) / math.log1p(-rate)) + 1  # the gap to the next one, geometric
        if at > size:
            return sorted(found)
        found.append(at + (rng.expovariate(1 / delay) if delay else 0.0))


def looks(arrived: Sequence[float], size: int, every: int, least: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(delivered, known complaints) at each look that can change the verdict.

    Between two complaints the rate only falls, so only the first look after one matters, and after a line's minimum.
    """
    moments = sorted([*arrived, *(float(one) for one in least if one <= size)])
    known, last = 0, -1
    for moment in moments:
        look = math.ceil(moment / every) * every
        if look == last:
            continue
        while known < len(arrived) and arrived[known] <= look:
            known += 1
        yield min(look, size), known
        last = look


def run(lines: Lines, rng: random.Random, rate: float, *, size: int = CAMPAIGN, delay: float = 0.0) -> Run:
    """One campaign up to its opening."""
    warned = None
    least = sorted({line.min_delivered for line in lines.lines})
    for delivered, known in looks(arrivals(rng, rate, size, delay), size, EVERY, least):
        verdict = _judged(lines, Tally(delivered, complaints=known))
        if verdict.level != "ok" and warned is None:
            warned = delivered
        if verdict.level == "open":
            return Run(warned, delivered)
    return Run(warned, None)


def _judged(lines: Lines, tally: Tally) -> Verdict:
    return judge(lines, "campaign", Counts(tally, tally))


def runs(lines: Lines, rate: float, n: int, *, size: int = CAMPAIGN, delay: float = 0.0, seed: int = 1) -> list[Run]:
    """`n` campaigns, each with a seed of its own."""
    return [run(lines, random.Random(f"{seed}/{one}"), rate, size=size, delay=delay) for one in range(n)]


HOURS_DAY, HOURS_MONTH, HOURS_YEAR = 24, 30 * 24, 365 * 24
"""A year is walked by the hour; the evaluator's windows, which roll by the minute, are these long."""


def year(lines: Lines, rng: random.Random, rate: float, a_day: int) -> int:
    """How often a sender opens in a year of so many deliveries a day, if it is closed again at once."""
    an_hour, opened, begun = a_day // 24, 0, 0
    complaints = [0] * HOURS_YEAR
    for at in arrivals(rng, rate, an_hour * HOURS_YEAR, 0.0):
        complaints[min(int(at) // an_hour, HOURS_YEAR - 1)] += 1
    day = month = 0
    for hour, found in enumerate(complaints):
        day, month = day + found, month + found
        if hour - begun >= HOURS_DAY:
            day -= complaints[hour - HOURS_DAY]
        if hour - begun >= HOURS_MONTH:
            month -= complaints[hour - HOURS_MONTH]
        if found:
            hours = hour - begun + 1
            tallies = (Tally(min(hours, HOURS_DAY) * an_hour, day), Tally(min(hours, HOURS_MONTH) * an_hour, month))
            if judge(lines, "sender", Counts(*tallies)).level == "open":
                opened, begun, day, month = opened + 1, hour + 1, 0, 0
    return opened


def years(lines: Lines, n: int) -> Iterator[str]:
    """What good senders come to in a year, by their rate and size."""
    yield "| true rate | delivered a day | openings in a year, mean |"
    yield "|---:|---:|---:|"
    for rate in (GOOD, 0.0005):
        for a_day in (2_400, 24_000, 240_000):
            found = [year(lines, random.Random(f"year/{rate}/{a_day}/{one}"), rate, a_day) for one in range(n)]
            yield f"| {rate:.2%} | {a_day:,} | {sum(found) / n:.2f} |"


def quantile(found: Sequence[int | None], q: float) -> int | None:
    """The deliveries by which the share `q` had happened; none where it had not."""
    ranked = sorted(math.inf if one is None else one for one in found)
    at = ranked[min(len(ranked) - 1, math.ceil(q * len(ranked)) - 1)]
    return None if math.isinf(at) else int(at)


def _shown(value: int | None) -> str:
    return "never" if value is None else f"{value:,}"


def table(lines: Lines, n: int, delays: Sequence[int]) -> Iterator[str]:
    """What bad campaigns come to, by rate and by how late complaints are."""
    yield "| true rate | a complaint comes after | opened | warned first | delivered by then: half | 95 % | 99 % |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for rate in (0.001, 0.0015, 0.002, BAD, 0.005, 0.01):
        for delay in delays if rate == BAD else (0,):
            found = runs(lines, rate, n, delay=delay)
            opened = [one.opened for one in found]
            share = sum(one is not None for one in opened) / n
            before = [one for one in found if one.opened and one.warned is not None and one.warned < one.opened]
            first = len(before) / max(1, sum(one.opened is not None for one in found))
            ends = " | ".join(_shown(quantile(opened, q)) for q in (0.5, 0.95, 0.99))
            after = f"{delay:,} deliveries" if delay else "at once"
            yield f"| {rate:.2%} | {after} | {share:.1%} | {first:.1%} | {ends} |"


def main() -> int:
    """Run, print, judge."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=2_000, help="bad campaigns for each row")
    asked.add_argument("--good", type=int, default=20_000, help="good campaigns")
    asked.add_argument("--gate", action="store_true", help="fail where the figures are not reached")
    given = asked.parse_args()
    lines = load("cn").breaker
    for row in table(lines, given.runs, (0, 1_000, 6_000, 30_000)):
        print(row)
    bad = runs(lines, BAD, given.runs, size=MOST_DELIVERED, seed=2)
    share = sum(one.opened is not None for one in bad) / len(bad)
    print(f"\nat {BAD:.2%}: open within {MOST_DELIVERED:,} delivered in {share:.2%} of {len(bad):,} runs")
    good = runs(lines, GOOD, given.good, seed=3)
    wrong, warned = sum(one.opened is not None for one in good), sum(one.warned is not None for one in good)
    per = 1000 / len(good)
    print(
        f"at {GOOD:.2%}: {wrong} of {len(good):,} campaigns of {CAMPAIGN:,} opened falsely"
        f" ({wrong * per:.2f} in a thousand), {warned} warned ({warned * per:.2f} in a thousand)"
    )
    print()
    for row in years(lines, max(1, given.runs // 40)):
        print(row)
    reached = share >= SURE and wrong <= FALSE_MOST * len(good)
    print("gates: reached" if reached else "gates: NOT REACHED")
    return 1 if given.gate and not reached else 0


if __name__ == "__main__":
    sys.exit(main())
