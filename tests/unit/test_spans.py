"""A span of minutes is covered by its buckets once, with few of them."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records.spans import DAY, HOUR, calendar, spans


@given(st.integers(0, 5 * DAY), st.integers(0, 40 * DAY))
def test_buckets_cover_a_span_once_and_are_few(since: int, length: int) -> None:
    found = spans(since, since + length)
    pieces = [(low, high, 1) for low, high in found.minutes]
    pieces += [(low * HOUR, high * HOUR, HOUR) for low, high in found.hours]
    pieces.append((found.days[0] * DAY, found.days[1] * DAY, DAY))
    held = sorted((low, high) for low, high, _ in pieces if low < high)
    assert sum(high - low for low, high in held) == length
    assert all(one[1] == following[0] for one, following in pairwise(held))
    assert not held or (held[0][0], held[-1][1]) == (since, since + length)
    assert sum(max(0, high - low) for low, high in found.minutes) <= 2 * (HOUR - 1)
    assert sum(max(0, high - low) for low, high in found.hours) <= 2 * 23


def test_a_span_that_ends_before_it_begins_is_empty() -> None:
    found = spans(100, 50)
    assert all(low >= high for low, high in (*found.minutes, *found.hours, found.days))


def test_days_and_months_begin_where_people_say_they_do() -> None:
    zone = ZoneInfo("Europe/Berlin")
    since = int(datetime(2026, 3, 28, 15, 30, tzinfo=zone).timestamp()) // 60
    days = calendar(since, since + 3 * DAY, "day", zone)
    assert [later - one for one, later in pairwise(days)] == [DAY, DAY - HOUR, DAY, DAY]
    months = calendar(since, since + 70 * DAY, "month", ZoneInfo("Asia/Shanghai"))
    local = [datetime.fromtimestamp(at * 60, ZoneInfo("Asia/Shanghai")) for at in months]
    assert [(one.month, one.day, one.hour) for one in local] == [(3, 1, 0), (4, 1, 0), (5, 1, 0), (6, 1, 0), (7, 1, 0)]


def test_a_zone_whose_days_no_hour_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="whole hours"):
        calendar(0, 1, "day", ZoneInfo("Asia/Kolkata"))
