"""A file of complaints, line by line: which columns mean what, and each line as a complaint or why it is none. Pure.

A mapping names the headers of a source's files (`complaint_mappings/*.toml`); a caller may name columns himself. Times
without a zone are the pack's; a date without a time counts as the end of its day. Spreadsheets leave marks around
numbers (`="138…"`, `'138…`, spaces): they are taken off. What is wrong with a line is said without quoting it.
"""

import csv
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.contract.complaint import MOST_REF, MOST_TEXT, SOURCES, Told
from gateway.rules import numbers
from gateway.rules.delimited import NOT_TEXT, Decoder, Records

FIELDS = ("reporter", "at", "port", "text", "ref")
NEEDED = ("reporter", "at")
MAPPINGS = ("12321", "carrier", "own")
ENCODINGS = {"utf-8": "utf-8", "utf-8-sig": "utf-8", "gb18030": "gb18030", "gbk": "gb18030", "gb2312": "gb18030"}
"""Names of encodings a file may be said to have, and what it is read as; GB18030 reads the other two."""
FUTURE_MS = 300_000
OLDEST_MS = 946_684_800_000
"""2000-01-01: nobody complains about what is older."""
_TIMES = (
    *("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y%m%d%H%M%S", "%Y%m%d %H:%M:%S"),
    *("%Y年%m月%d日 %H:%M:%S", "%Y年%m月%d日 %H:%M", "%Y年%m月%d日%H时%M分%S秒", "%Y年%m月%d日 %H时%M分"),
)
_DATE = len("2025-11-24")
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%Y年%m月%d日")
_LEAST_PORT, _MOST_PORT = 3, 24
_ABROAD = ("+86", "0086")
_SERVICE = ("10", "95", "96", "12")
"""How ports begin; a `86` before them is the country's code."""


class HeaderError(ValueError):
    """The file cannot be read as complaints; the text says why, and quotes nothing of the file's."""


class Columns(NamedTuple):
    """Which headers mean a field, the first that is there; and the source of every line."""

    source: str
    names: Mapping[str, tuple[str, ...]]


class Line(NamedTuple):
    """A line that is a complaint."""

    line: int
    told: Told


class Bad(NamedTuple):
    """A line that is none: the field, where it is one, and why. `cells`: the line's own, never answered."""

    line: int
    field: str | None
    message: str
    cells: tuple[str, ...] = ()


@cache
def mapping(name: str) -> Columns:
    """A named mapping. Raises HeaderError."""
    if name not in MAPPINGS:
        raise HeaderError(f"mapping is one of {', '.join(MAPPINGS)}")
    text = (resources.files("gateway.rules") / "complaint_mappings" / f"{name}.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    return Columns(table["source"], {field: tuple(names) for field, names in table["columns"].items()})


def columns(given: str, source: str | None, base: Columns | None = None) -> Columns:
    """Columns as a caller names them, `field:header,…`; those of `base` where he does not. Raises HeaderError."""
    named: dict[str, tuple[str, ...]] = dict(base.names) if base is not None else {}
    for part in filter(None, (one.strip() for one in given.split(","))):
        field, colon, header = part.partition(":")
        if not colon or field.strip() not in FIELDS or not header.strip():
            raise HeaderError(f"columns are field:header, comma-separated; fields are {', '.join(FIELDS)}")
        named[field.strip()] = (header.strip(),)
    from_ = source or (None if base is None else base.source)
    if from_ not in SOURCES:
        raise HeaderError(f"source is one of {', '.join(SOURCES)}")
    if missing := [field for field in NEEDED if field not in named]:
        raise HeaderError(f"columns need {' and '.join(missing)}")
    return Columns(from_, named)


class File:
    """Reads one file, in pieces of any size. `now_ms`: nothing is complained about that is later."""

    def __init__(self, meant: Columns, zone: ZoneInfo, now_ms: int, encoding: str | None = None) -> None:
        if encoding is not None and encoding.lower() not in ENCODINGS:
            raise HeaderError(f"encoding is one of {', '.join(ENCODINGS)}")
        self._meant, self._zone, self._now_ms = meant, zone, now_ms
        self._records = Records()
        self._decoder = Decoder(None if encoding is None else ENCODINGS[encoding.lower()])
        self._places: dict[str, int] | None = None
        self.header: tuple[str, ...] = ()

    def push(self, piece: bytes) -> Iterator[Line | Bad]:
        """The lines that end within this piece. Raises HeaderError at the first one."""
        for record in self._records.push(piece):
            if (read := self._read(*record)) is not None:
                yield read

    def close(self) -> Iterator[Line | Bad]:
        """What is left at the end. Raises HeaderError where there was nothing."""
        for record in self._records.close():
            if (read := self._read(*record)) is not None:
                yield read
        if self._places is None:
            raise HeaderError("the file is empty")

    def _read(self, line: int, raw: bytes, fault: str | None) -> Line | Bad | None:
        if self._places is None and self._records.marked and self._decoder.encoding is None:
            self._decoder.encoding = "utf-8"
        text = None if fault else self._decoder.text(raw)
        cells = () if text is None else _cells(text)
        if self._places is None:
            self._places = self._found(cells)
            self.header = cells
            return None
        if fault or text is None:
            return Bad(line, None, fault or NOT_TEXT, (self._decoder.text(raw) or "",))
        if not cells:
            return Bad(line, None, "not one line of comma-separated cells", (text,))
        if not any(cells):
            return None
        if any(cells[len(self.header) :]):  # a comma that nobody quoted: what stands where is not known
            return Bad(line, None, "more cells than the header has", cells)
        return self._told(line, cells)

    def _found(self, cells: tuple[str, ...]) -> dict[str, int]:
        plain = {_plain(cell): place for place, cell in reversed(list(enumerate(cells)))}
        places = {}
        for field, names in self._meant.names.items():
            found = [plain[name] for name in map(_plain, names) if name in plain]
            if found:
                places[field] = found[0]
        if missing := [field for field in NEEDED if field not in places]:
            raise HeaderError(f"no column for {' and '.join(missing)}; name it with columns=field:header")
        return places

    def _told(self, line: int, cells: tuple[str, ...]) -> Line | Bad:
        places = self._places or {}
        got = {field: _bare(cells[place]) if place < len(cells) else "" for field, place in places.items()}
        number = numbers.parse(got["reporter"])
        if number is None:
            return Bad(line, "reporter", "not a mobile number", cells)
        at_ms = read_time(got["at"], self._zone, self._now_ms)
        if at_ms is None or at_ms < OLDEST_MS:
            return Bad(line, "at", "not a time", cells)
        if at_ms > self._now_ms + FUTURE_MS:
            return Bad(line, "at", "in the future", cells)
        port = read_port(got.get("port", ""))
        if port is None:
            return Bad(line, "port", "not a port of 3 to 24 digits", cells)
        text, ref = got.get("text", ""), got.get("ref", "")
        if len(text) > MOST_TEXT or len(ref) > MOST_REF:
            return Bad(line, "text" if len(text) > MOST_TEXT else "ref", "too long", cells)
        return Line(line, Told(self._meant.source, number, port or None, at_ms, text, ref or None))


def read_time(written: str, zone: ZoneInfo, now_ms: int) -> int | None:
    """Unix ms of a time as files write it; of a date alone, the end of the day, or now where that is earlier."""
    if len(written) > _DATE and written[4:5] == "-" and (exact := _iso(written, zone)) is not None:
        return exact
    for form in _TIMES:
        try:
            return int(datetime.strptime(written, form).replace(tzinfo=zone).timestamp() * 1000)
        except ValueError:
            continue
    for form in _DATES:
        try:
            day = datetime.strptime(written, form).replace(tzinfo=zone)
            ends = day + timedelta(days=1)
        except ValueError:
            continue
        except OverflowError:  # what spreadsheets mean by never; one such line must not end the whole file
            return None
        return max(int(day.timestamp() * 1000), min(int(ends.timestamp() * 1000) - 1, now_ms))
    return None


def _iso(written: str, zone: ZoneInfo) -> int | None:
    """ISO 8601 with a time, in the zone it names, else in this one."""
    try:
        given = datetime.fromisoformat(written)
    except ValueError:
        return None
    return int((given if given.tzinfo is not None else given.replace(tzinfo=zone)).timestamp() * 1000)


def read_port(written: str) -> str | None:
    """A port's digits, without the country's code; empty where none is given, none where it is no port."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", written) if not c.isspace() and c not in "-()")
    for code in _ABROAD:
        plain = plain.removeprefix(code)
    if plain.startswith("86") and plain[2:].startswith(_SERVICE):
        plain = plain[2:]
    if not plain:
        return ""
    fits = plain.isascii() and plain.isdigit() and _LEAST_PORT <= len(plain) <= _MOST_PORT
    return plain if fits else None


def _cells(text: str) -> tuple[str, ...]:
    try:
        return tuple(next(csv.reader([text], strict=True), ()))
    except csv.Error:
        return ()


def _plain(header: str) -> str:
    return unicodedata.normalize("NFKC", header).strip().strip('"').casefold()


def _bare(cell: str) -> str:
    """A cell without what spreadsheets put around it."""
    plain = cell.strip().removeprefix("'").strip()
    if plain.startswith('="') and plain.endswith('"'):
        plain = plain[2:-1]
    return plain.removeprefix("'").strip()
