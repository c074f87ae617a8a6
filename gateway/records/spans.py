"""Which buckets a span of time is read from: days where whole days lie in it, hours beside them, minutes at its ends.

Pure. Thirty days from any minute to any other are at most 118 minutes, 46 hours and 29 or 30 days of buckets, and the
sum is exactly that of the minutes.
"""

from __future__ import annotations

from typing import NamedTuple

HOUR = 60
DAY = 1_440

Range = tuple[int, int]
"""From, and before what."""


class Spans(NamedTuple):
    """Ranges of Unix minutes, hours and days that lie side by side and together are the span; any may be empty."""

    minutes: tuple[Range, Range]
    hours: tuple[Range, Range]
    days: Range


def spans(since: int, until: int) -> Spans:
    """The ranges of a span of Unix minutes, `until` not included."""
    until = max(since, until)
    first_hour, last_hour = -(-since // HOUR), until // HOUR
    if first_hour > last_hour:
        return Spans(((since, until), (until, until)), ((0, 0), (0, 0)), (0, 0))
    edges = ((since, first_hour * HOUR), (last_hour * HOUR, until))
    first_day, last_day = -(-first_hour * HOUR // DAY), last_hour * HOUR // DAY
    if first_day > last_day:
        return Spans(edges, ((first_hour, last_hour), (0, 0)), (0, 0))
    hours = ((first_hour, first_day * 24), (last_day * 24, last_hour))
    return Spans(edges, hours, (first_day, last_day))
