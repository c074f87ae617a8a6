"""A span of minutes is covered by its buckets once, with few of them."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.records.spans import DAY, HOUR, spans


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
