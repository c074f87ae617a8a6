"""Days of complaints: where they begin, and whose figures are missing. Pure; days are those of a pack's zone."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

SIGNED_BY = time(10)
"""By when the figures of the day before are signed off, local time."""


def bounds(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """When a day begins and ends, Unix ms; a day with a change of offset is shorter or longer."""
    first, last = (datetime.combine(one, time(), zone) for one in (day, day + timedelta(days=1)))
    return int(first.timestamp() * 1000), int(last.timestamp() * 1000)


def yesterday(now_ms: int, zone: ZoneInfo) -> date:
    """The day whose figures are due."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date() - timedelta(days=1)


def missing(now_ms: int, zone: ZoneInfo, expected: Sequence[str], signed: Collection[tuple[date, str]]) -> list[str]:
    """The expected sources that nobody signed off for yesterday, once it is time."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    if now.time() < SIGNED_BY:
        return []
    day = now.date() - timedelta(days=1)
    return [source for source in expected if (day, source) not in signed]
