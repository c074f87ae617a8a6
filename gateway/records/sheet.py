"""Lines of an export as files have them: CSV for people's tables, JSON lines for programs. Pure.

CSV is RFC 4180 in UTF-8 with a byte order mark, so that Excel reads Chinese; one heading a column, in Chinese and
English. A cell of free text that a table program would take for a formula begins with an apostrophe; JSON lines have
every text exactly. Times are ISO 8601 with the zone's offset.
"""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from gateway.contract.export import HEADINGS, TIMES, Line

BOM: Final = "\ufeff"
FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
EXACT: Final = frozenset({"recipient", "port"})
"""Columns of numbers, which may begin with a plus and are no formula."""


def csv_head() -> bytes:
    """The byte order mark and the heading."""
    return BOM.encode() + _row([f"{HEADINGS[name]} {name}" for name in Line._fields])


def csv_line(line: Line, zone: ZoneInfo) -> bytes:
    """One message as a row."""
    return _row([_cell(name, value, zone) for name, value in zip(Line._fields, line, strict=True)])


def json_line(line: Line, zone: ZoneInfo) -> bytes:
    """One message as a JSON object and a line feed; what is not known is null."""
    told = {
        name: moment(int(value), zone) if name in TIMES and value is not None else value
        for name, value in zip(Line._fields, line, strict=True)
    }
    return orjson.dumps(told) + b"\n"


def moment(at_ms: int, zone: ZoneInfo) -> str:
    """A time to the millisecond, as ISO 8601 writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).isoformat(timespec="milliseconds")


def _cell(name: str, value: Any, zone: ZoneInfo) -> str:
    if value is None:
        return ""
    if name in TIMES:
        return moment(value, zone)
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if name in EXACT or not isinstance(value, str) else shielded(text)


def shielded(text: str) -> str:
    """A text that no table program takes for a formula."""
    return f"'{text}" if text.startswith(FORMULAS) else text


def _row(cells: Sequence[str]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue().encode("utf-8", "replace")
