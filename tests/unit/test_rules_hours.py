"""Quiet hours in Shanghai, a person's own hours, and days that are not 24 hours long."""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from gateway.rules import pack as packs
from gateway.rules.hours import NEVER, midnights, minute_of_day, release_at
from gateway.rules.pack import Pack

MARKETING, NOTICE = "marketing.promotion", "transaction.order"


@pytest.fixture(scope="module")
def cn() -> Pack:
    return packs.load("cn")


def at(written: str, zone: str = "Asia/Shanghai", fold: int = 0) -> int:
    """Unix ms of a local time."""
    return int(datetime.fromisoformat(written).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def elsewhere(cn: Pack, zone: str, hours: tuple[int, int]) -> Pack:
    return replace(cn, zone=ZoneInfo(zone), zone_name=zone, hours=hours)


@pytest.mark.parametrize(
    ("now", "release"),
    [
        ("2026-11-24T07:59:59.999", "2026-11-24T08:00"),
        ("2026-11-24T08:00", None),
        ("2026-11-24T12:00", None),
        ("2026-11-24T19:59:59.999", None),
        ("2026-11-24T20:00", "2026-11-25T08:00"),
        ("2026-11-24T23:59", "2026-11-25T08:00"),
        ("2026-11-25T00:00", "2026-11-25T08:00"),
        ("2026-12-31T21:00", "2027-01-01T08:00"),
    ],
)
def test_marketing_keeps_the_hours(cn: Pack, now: str, release: str | None) -> None:
    assert release_at(cn.purposes[MARKETING], cn, at(now)) == (at(release) if release else None)
    assert release_at(cn.purposes[NOTICE], cn, at(now)) is None


@pytest.mark.parametrize(
    ("hours", "now", "release"),
    [
        ((600, 1080), "2026-11-24T09:00", "2026-11-24T10:00"),
        ((600, 1080), "2026-11-24T18:00", "2026-11-25T10:00"),
        ((600, 1080), "2026-11-24T17:59", None),
        ((0, 1440), "2026-11-24T07:00", "2026-11-24T08:00"),
        ((0, 540), "2026-11-24T09:30", "2026-11-25T08:00"),
        ((1140, 1439), "2026-11-24T12:00", "2026-11-24T19:00"),
    ],
)
def test_a_persons_hours_only_tighten(cn: Pack, hours: tuple[int, int], now: str, release: str | None) -> None:
    assert release_at(cn.purposes[MARKETING], cn, at(now), hours) == (at(release) if release else None)


def test_hours_without_a_common_minute_are_never(cn: Pack) -> None:
    assert release_at(cn.purposes[MARKETING], cn, at("2026-11-24T12:00"), (1260, 1320)) == NEVER
    assert release_at(cn.purposes[MARKETING], cn, at("2026-11-24T12:00"), (1200, 1300)) == NEVER
    assert release_at(cn.purposes[NOTICE], cn, at("2026-11-24T12:00"), (1260, 1320)) is None


def test_the_clock_changes(cn: Pack) -> None:
    zone = "America/New_York"
    us = elsewhere(cn, zone, (8 * 60, 21 * 60))
    row = us.purposes[MARKETING]
    evening = at("2027-03-13T21:00", zone)
    assert release_at(row, us, evening) == at("2027-03-14T08:00", zone) == evening + 10 * 3_600_000
    evening = at("2027-11-06T21:00", zone)
    assert release_at(row, us, evening) == at("2027-11-07T08:00", zone) == evening + 12 * 3_600_000


def test_an_opening_that_is_skipped_or_comes_twice(cn: Pack) -> None:
    zone = "America/New_York"
    night = elsewhere(cn, zone, (150, 180))  # 02:30 to 03:00: skipped altogether on 2027-03-14
    row = night.purposes[MARKETING]
    assert release_at(row, night, at("2027-03-14T01:00", zone)) == at("2027-03-15T02:30", zone)
    longer = elsewhere(cn, zone, (150, 240))
    assert release_at(row, longer, at("2027-03-14T01:00", zone)) == at("2027-03-14T03:00", zone)
    twice = elsewhere(cn, zone, (90, 119))  # 01:30 to 01:59, twice on 2027-11-07
    assert release_at(row, twice, at("2027-11-07T01:00", zone)) == at("2027-11-07T01:30", zone)
    assert release_at(row, twice, at("2027-11-07T01:59", zone)) == at("2027-11-07T01:30", zone, fold=1)


def test_open_all_day(cn: Pack) -> None:
    always = elsewhere(cn, "Europe/London", (0, 1440))
    for hour in range(0, 24 * 400, 7):
        assert release_at(always.purposes[MARKETING], always, at("2026-01-01T00:00") + hour * 3_600_000) is None


def test_midnights(cn: Pack) -> None:
    found = midnights(cn.zone, at("2026-11-24T00:00"))
    assert found == (at("2026-11-23T00:00"), at("2026-11-24T00:00"), at("2026-11-25T00:00"))
    assert midnights(cn.zone, at("2026-11-24T00:00") - 1)[2] == at("2026-11-24T00:00")
    new_york = midnights(ZoneInfo("America/New_York"), at("2027-03-14T12:00", "America/New_York"))
    assert [after - before for before, after in pairwise(new_york)] == [
        24 * 3_600_000,
        23 * 3_600_000,
    ]
    cairo = midnights(ZoneInfo("Africa/Cairo"), at("2026-04-24T12:00", "Africa/Cairo"))
    assert cairo[1] == at("2026-04-24T01:00", "Africa/Cairo"), "00:00 is skipped: the day begins at 01:00"


def test_minute_of_day(cn: Pack) -> None:
    assert minute_of_day(cn.zone, at("2026-11-24T00:00")) == 0
    assert minute_of_day(cn.zone, at("2026-11-24T23:59:59.999")) == 1439
