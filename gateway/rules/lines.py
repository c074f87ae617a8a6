"""Where in a TOML text a key stands.

`tomllib` gives values without positions; an error in a pack must name its line. Tables, dotted headers and `key =`
lines are found by scanning, which is enough for packs: what stands in an inline table or array is reported at its key.
The tables of an array (`[[name]]`) are counted from 0, as a path into the parsed text counts them.
"""

import re

Path = tuple[str, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def index(text: str) -> dict[Path, int]:
    """The line, counted from 1, of each table header and key, by its path."""
    found: dict[Path, int] = {(): 1}
    table: Path = ()
    seen: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if key := _KEY.match(line):
            found.setdefault(table + _parts(key[1]), number)
        elif header := _HEADER.match(line):
            table = _parts(header[2])
            found.setdefault(table, number)
            if header[1] == "[[":
                seen[table] = seen.get(table, -1) + 1
                table = (*table, str(seen[table]))
                found[table] = number
    return found


def line_of(found: dict[Path, int], path: tuple[str | int, ...]) -> int:
    """The line of a path, or of the nearest table around it that stands in the text."""
    keys = tuple(str(part) for part in path)
    while keys not in found:
        keys = keys[:-1]
    return found[keys]


def _parts(written: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(written))
