"""Days of complaints: where they begin and end, whose figures are missing, and which files are waited for."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.assemble.parts import Misconfigured
from gateway.assemble.settle import expected_files
from gateway.rules.complaint_days import bounds, due, missing, yesterday
from gateway.settings import Settings

SHANGHAI, BERLIN = ZoneInfo("Asia/Shanghai"), ZoneInfo("Europe/Berlin")
HOUR = 3_600_000


def ms(zone: ZoneInfo, *when: int) -> int:
    return int(datetime(*when, tzinfo=zone).timestamp() * 1000)  # type: ignore[arg-type, misc]


@given(st.dates(date(2000, 1, 2), date(2100, 1, 1)), st.sampled_from([SHANGHAI, BERLIN]))
def test_days_follow_each_other_without_a_gap(day: date, zone: ZoneInfo) -> None:
    first, last = bounds(day, zone)
    assert last - first in (23 * HOUR, 24 * HOUR, 25 * HOUR)
    assert bounds(date.fromordinal(day.toordinal() - 1), zone)[1] == first
    assert yesterday(first, zone) == yesterday(last - 1, zone) == date.fromordinal(day.toordinal() - 1)


def test_a_day_with_a_change_of_clocks_is_longer_or_shorter() -> None:
    spring, autumn = bounds(date(2026, 3, 29), BERLIN), bounds(date(2026, 10, 25), BERLIN)
    assert (spring[1] - spring[0], autumn[1] - autumn[0]) == (23 * HOUR, 25 * HOUR)


def test_figures_are_due_from_ten_local_time() -> None:
    nine, ten = ms(SHANGHAI, 2026, 11, 25, 9, 59, 59), ms(SHANGHAI, 2026, 11, 25, 10)
    assert due(nine, SHANGHAI, 2) == [date(2026, 11, 23), date(2026, 11, 22)]
    assert due(ten, SHANGHAI, 2) == [date(2026, 11, 24), date(2026, 11, 23)]
    assert due(ten, ZoneInfo("UTC"), 1) == [date(2026, 11, 23)]


def test_what_nobody_signed_off_nor_was_told_of_is_missing_back_to_the_last_day_that_was() -> None:
    expected, days = ("12321", "carrier"), [date(2026, 11, day) for day in (24, 23, 22, 21)]
    newest = [(days[0], "12321"), (days[0], "carrier")]
    assert missing(days, expected, ()) == newest
    assert missing(days, expected, newest) == []
    assert missing(days, expected, [newest[0], (days[1], "carrier")]) == [newest[1]]
    known = [newest[0], (days[3], "carrier")]
    assert missing(days, expected, known) == [(days[2], "carrier"), (days[1], "carrier"), newest[1]]
    assert missing(days, (), ()) == []


@pytest.mark.parametrize(
    ("given_", "files"),
    [
        ({}, ("12321", "carrier")),
        ({"local": True}, ()),
        ({"complaint_files": " own , 12321,own"}, ("own", "12321")),
        ({"complaint_files": ""}, ()),
        ({"complaint_files": "12321", "local": True}, ("12321",)),
    ],
)
def test_which_files_are_waited_for(given_: dict[str, object], files: tuple[str, ...]) -> None:
    assert expected_files(Settings.model_validate(given_)) == files


def test_a_source_that_is_none_is_said_at_start() -> None:
    with pytest.raises(Misconfigured, match="press"):
        expected_files(Settings.model_validate({"complaint_files": "12321,press"}))
