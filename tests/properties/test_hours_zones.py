"""Hours and days against the plainest model: the local clock, read minute by minute."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules import pack as packs
from gateway.rules.hours import NEVER, midnights, release_at

CN = packs.load("cn")
ROW = CN.purposes["marketing.promotion"]
ZONES = [
    "Asia/Shanghai",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "America/Havana",
    "America/St_Johns",
    "Pacific/Apia",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "Africa/Cairo",
]
FROM_S, UNTIL_S = int(datetime(2009, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2029, 1, 1, tzinfo=UTC).timestamp())
MINUTE_S, DAY_S = 60, 86_400


@cache
def changes(zone: str) -> list[int]:
    """Days (Unix s) within which the zone's offset changes, and one where it does not."""
    clock = ZoneInfo(zone)
    offsets = [(day, datetime.fromtimestamp(day, clock).utcoffset()) for day in range(FROM_S, UNTIL_S, DAY_S)]
    return [day for (day, offset), (_, after) in pairwise(offsets) if offset != after] or [FROM_S]


def minutes(zone: ZoneInfo, now_s: int, count: int) -> Iterator[tuple[int, int]]:
    """`now_s` and the whole minutes after it, each with its minute of the local day."""
    first = now_s - now_s % MINUTE_S
    for index in range(count):
        at_s = max(now_s, first + index * MINUTE_S)
        local = datetime.fromtimestamp(at_s, zone)
        yield at_s, local.hour * 60 + local.minute


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    zone = draw(st.sampled_from(ZONES))
    day = draw(st.sampled_from(changes(zone)))
    return zone, day + draw(st.integers(-DAY_S, 2 * DAY_S))


@settings(max_examples=250, deadline=None)
@given(moments(), st.integers(0, 1439), st.integers(1, 1440), st.tuples(st.integers(0, 1438), st.integers(1, 1439)))
def test_quiet_ends_at_the_first_open_minute(
    moment: tuple[str, int], start: int, length: int, own: tuple[int, int]
) -> None:
    zone, now_s = moment
    hours = (start, min(start + length, 1440))
    own = (min(own), max(own) + 1)
    pack = replace(CN, zone=ZoneInfo(zone), zone_name=zone, hours=hours)
    for preference in (None, own):
        low, high = hours if preference is None else (max(hours[0], own[0]), min(hours[1], own[1]))
        released = release_at(ROW, pack, now_s * 1000, preference)
        if low >= high:
            assert released == NEVER
            continue
        expected = next(at_s for at_s, minute in minutes(pack.zone, now_s, 4 * 1440) if low <= minute < high)
        assert released == (None if expected == now_s else expected * 1000)


@settings(max_examples=120, deadline=None)
@given(moments())
def test_a_day_begins_when_its_date_is_first_seen(moment: tuple[str, int]) -> None:
    name, now_s = moment
    zone = ZoneInfo(name)
    first = now_s - now_s % MINUTE_S - 3 * DAY_S
    begun: list[int] = []
    latest = date.min
    for at_s in range(first, now_s + 2 * DAY_S, MINUTE_S):
        day = datetime.fromtimestamp(at_s, zone).date()
        if day > latest:
            begun.append(at_s)
            latest = day
    today = max(index for index, at_s in enumerate(begun) if at_s <= now_s)
    assert midnights(zone, now_s * 1000) == tuple(at_s * 1000 for at_s in begun[today - 1 : today + 2])
