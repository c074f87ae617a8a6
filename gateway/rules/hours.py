"""Hours: when a quiet purpose may be sent, and where local days begin.

Pure in its arguments; what was computed last is kept per zone and hours, because it stays true for hours. The local
clock is followed exactly: a day with a change of offset has 23 or 25 hours, an opening time that the change skips is
the change itself, and one that comes twice opens twice.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.rules.pack import Pack, Purpose

NEVER: Final = 253_402_300_799_000
"""9999-12-31: the answer where a person's hours and the pack's have no minute in common."""

_DAY_S = 86_400
_PROBE_S = 3 * 3_600  # no zone has changed its offset twice within three hours
_HORIZON_S = 4 * _DAY_S  # a zone that skips a day (Apia, 2011) still has the next opening within it
_KEPT = 4_096


class _Span(NamedTuple):
    """From `start_s` until before `end_s` nothing changes: open, or quiet until `end_s`."""

    start_s: int
    end_s: int
    open: bool


class _Offset(NamedTuple):
    """From `start_s` until before `end_s` local time is UTC plus `offset_s`."""

    start_s: int
    end_s: int
    offset_s: int


_spans: dict[tuple[str, int, int], _Span] = {}
_days: dict[str, tuple[int, int, int]] = {}


def release_at(
    purpose: Purpose, pack: Pack, now_ms: int, preference_hours: tuple[int, int] | None = None
) -> int | None:
    """None: may go now. Else Unix ms when the quiet ends, or `NEVER`.

    `preference_hours` are minutes of the local day, from and until; they can only tighten the pack's.
    """
    if not purpose.quiet:
        return None
    start, end = pack.hours
    if preference_hours is not None:
        start, end = max(start, preference_hours[0]), min(end, preference_hours[1])
        if start >= end:
            return NEVER
    key = (pack.zone_name, start, end)
    now_s = now_ms // 1000
    span = _spans.get(key)
    if span is None or not span.start_s <= now_s < span.end_s:
        if len(_spans) >= _KEPT:
            _spans.clear()
        span = _spans[key] = _span(pack.zone, now_s, start * 60, end * 60)
    return None if span.open else span.end_s * 1000


def midnights(zone: ZoneInfo, now_ms: int) -> tuple[int, int, int]:
    """Unix ms at which the previous, the present and the next local day begin."""
    known = _days.get(zone.key)
    if known is None or not known[1] <= now_ms < known[2]:
        known = _days[zone.key] = _midnights(zone, now_ms // 1000)
    return known


def minute_of_day(zone: ZoneInfo, now_ms: int) -> int:
    """The minute of the local day, 0 to 1439."""
    offset = _offset_s(zone, now_ms // 1000)
    return (now_ms // 1000 + offset) % _DAY_S // 60


def _span(zone: ZoneInfo, now_s: int, open_s: int, close_s: int) -> _Span:
    """How long the present state lasts. `open_s` and `close_s` are seconds of the local day."""
    is_open = open_s <= (now_s + _offset_s(zone, now_s)) % _DAY_S < close_s
    for piece in _offsets(zone, now_s, now_s + _HORIZON_S):
        at = _first(piece, open_s, close_s, wanted=not is_open)
        if at is not None:
            return _Span(now_s, at, is_open)
    return _Span(now_s, now_s + _DAY_S, is_open)  # open all day: look again tomorrow


def _first(piece: _Offset, open_s: int, close_s: int, *, wanted: bool) -> int | None:
    """The first second of a piece at which being open is as wanted."""
    local = (piece.start_s + piece.offset_s) % _DAY_S
    if (open_s <= local < close_s) is wanted:
        return piece.start_s
    at = piece.start_s + ((open_s if wanted else close_s) - local) % _DAY_S
    if not wanted and close_s - open_s >= _DAY_S:
        return None
    return at if at < piece.end_s else None


def _midnights(zone: ZoneInfo, now_s: int) -> tuple[int, int, int]:
    """A midnight that a change of offset skips is the change itself; of one that comes twice, the first counts."""
    starts: list[int] = []
    last: int | None = None
    for piece in _offsets(zone, now_s - _HORIZON_S, now_s + _HORIZON_S):
        day = (piece.start_s + piece.offset_s) // _DAY_S
        at = piece.start_s
        while at < piece.end_s:
            if last is None or day > last:
                starts.append(at)
                last = day
            day += 1
            at = day * _DAY_S - piece.offset_s
    present = max(index for index, start in enumerate(starts) if start <= now_s)
    before, today, after = starts[present - 1 : present + 2]
    return before * 1000, today * 1000, after * 1000


def _offsets(zone: ZoneInfo, start_s: int, end_s: int) -> list[_Offset]:
    """The offsets in force from start to end, in order, without a gap."""
    pieces: list[_Offset] = []
    since, offset = start_s, _offset_s(zone, start_s)
    for probe in range(start_s + _PROBE_S, end_s + _PROBE_S, _PROBE_S):
        if _offset_s(zone, probe) != offset:
            low, high = probe - _PROBE_S, probe
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset_s(zone, middle) == offset else (low, middle)
            pieces.append(_Offset(since, high, offset))
            since, offset = high, _offset_s(zone, high)
    pieces.append(_Offset(since, end_s + _PROBE_S, offset))
    return pieces


@lru_cache(maxsize=_KEPT)
def _offset_s(zone: ZoneInfo, at_s: int) -> int:
    return int((datetime.fromtimestamp(at_s, UTC).astimezone(zone).utcoffset() or timedelta()).total_seconds())
