"""Which buckets a span of time is read from: days where whole days lie in it, hours beside them, minutes at its ends.

Pure. Thirty days from any minute to any other are at most 118 minutes, 46 hours and 29 or 30 days of buckets, and the
sum is exactly that of the minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

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


def calendar(since: int, until: int, step: Literal["day", "month"], zone: ZoneInfo) -> list[int]:
    """Where the days or months of a time zone begin: the one that holds `since` first, one after `until` last.

    Raises ValueError where a day does not begin on a whole hour of UTC: buckets could not say what it holds.
    """
    begin = datetime.fromtimestamp(since * 60, UTC).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = begin.replace(day=1) if step == "month" else begin
    edges: list[int] = []
    while not edges or edges[-1] < until:
        edges.append(int(begin.timestamp()) // 60)
        following = begin.replace(tzinfo=None) + timedelta(days=1 if step == "day" else 32)
        begin = following.replace(day=1 if step == "month" else following.day, tzinfo=zone)
    if any(edge % HOUR for edge in edges):
        raise ValueError("days of this time zone do not begin on whole hours of UTC")
    return edges
