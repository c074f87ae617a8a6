"""Days of complaints: where they begin, and whose figures are missing. Pure; days are those of a pack's zone."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

SIGNED_BY = time(10)
"""By when the figures of the day before are signed off, local time."""
BACK = 8
"""Days that are looked at again when nobody looked for a while."""


def bounds(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """When a day begins and ends, Unix ms; a day with a change of offset is shorter or longer."""
    first, last = (datetime.combine(one, time(), zone) for one in (day, day + timedelta(days=1)))
    return int(first.timestamp() * 1000), int(last.timestamp() * 1000)


def yesterday(now_ms: int, zone: ZoneInfo) -> date:
    """The day whose figures are due."""
    return datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date() - timedelta(days=1)


def due(now_ms: int, zone: ZoneInfo, most: int = BACK) -> list[date]:
    """The latest days whose figures are due by now, the newest first."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone)
    newest = now.date() - timedelta(days=1 if now.time() >= SIGNED_BY else 2)
    return [newest - timedelta(days=back) for back in range(most)]


def missing(
    days: Sequence[date], expected: Sequence[str], known: Collection[tuple[date, str]]
) -> list[tuple[date, str]]:
    """Days (`due`) and expected sources that nobody signed off and nobody was told of, the oldest first.

    `known`: what was signed off or told. Nobody looked for some days, and the days since the last known one are
    missing; with no known one at all the newest alone is, for an installation begins somewhere.
    """
    found: list[tuple[date, str]] = []
    for source in expected:
        gap = list(takewhile(lambda day, source=source: (day, source) not in known, days))  # type: ignore[misc]
        found += [(day, source) for day in (gap if len(gap) < len(days) else gap[:1])]
    return sorted(found, key=lambda one: (one[0], expected.index(one[1])))
