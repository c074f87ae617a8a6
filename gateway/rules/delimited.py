"""A CSV file cut into its records as its bytes come in, in bounded memory. Pure.

RFC 4180: a quoted field may hold line ends, so a record ends at a line end outside of quotes. Neither UTF-8 nor GB18030
uses the bytes of `"`, comma or line end inside a character, so nothing has to be decoded to see that. A quotation that
does not end within `MOST_BYTES` or `MOST_LINES` is one bad line, and what follows it is read anew: one stray quote does
not swallow the file. A line longer than that is dropped up to its end.
"""

from collections.abc import Iterator
from typing import NamedTuple

MOST_BYTES = 64 * 1024
MOST_LINES = 100
BOM = b"\xef\xbb\xbf"
UNENDED = "a quotation that does not end"
TOO_LONG = "longer than 64 KiB"
NOT_TEXT = "not text in the file's encoding"


class Record(NamedTuple):
    """One record, at the line it begins on (from 1), its line end taken off; or why it is none."""

    line: int
    raw: bytes
    fault: str | None = None


class Records:
    """Takes a file's bytes in pieces of any size."""

    __slots__ = ("_line", "_lines", "_odd", "_open", "_partial", "_skipping", "marked")

    def __init__(self) -> None:
        self._partial = b""
        self._line = 0
        self._lines: list[tuple[int, bytes]] = []
        self._open = 0
        self._odd = False
        self._skipping = False
        self.marked = False
        """Whether the file began with UTF-8's mark; known with its first record."""

    def push(self, piece: bytes) -> Iterator[Record]:
        """The records that end within this piece; take them all before the next one."""
        *lines, self._partial = (self._partial + piece).split(b"\n")
        for line in lines:
            yield from self._numbered(line + b"\n")
        if len(self._partial) > MOST_BYTES:
            if not self._skipping:
                yield Record(self._line + 1, b"", TOO_LONG)
            self._skipping, self._partial = True, b""

    def close(self) -> Iterator[Record]:
        """What is left when the file has ended."""
        last, self._partial = self._partial, b""
        if last:
            yield from self._numbered(last)
        while self._lines:
            yield from self._give_up()

    def _numbered(self, line: bytes) -> Iterator[Record]:
        self._line += 1
        if self._skipping:
            self._skipping = False
            return
        if self._line == 1:
            self.marked = line.startswith(BOM)
            line = line.removeprefix(BOM)
        yield from self._add(self._line, line)

    def _add(self, number: int, line: bytes) -> Iterator[Record]:
        if len(line) > MOST_BYTES:
            yield Record(number, b"", TOO_LONG)
            return
        self._lines.append((number, line))
        self._open += len(line)
        self._odd ^= line.count(b'"') % 2 == 1
        if not self._odd:
            first = self._lines[0][0]
            raw = b"".join(one for _, one in self._lines).rstrip(b"\r\n")
            self._clear()
            if raw.strip():
                yield Record(first, raw)
        elif self._open > MOST_BYTES or len(self._lines) > MOST_LINES:
            yield from self._give_up()

    def _give_up(self) -> Iterator[Record]:
        (number, line), *rest = self._lines
        self._clear()
        yield Record(number, line.rstrip(b"\r\n"), UNENDED)
        for one in rest:
            yield from self._add(*one)

    def _clear(self) -> None:
        self._lines, self._open, self._odd = [], 0, False


class Decoder:
    """Text of a file's records. Not told in what, the first that is not ASCII decides: UTF-8 if it is, else GB18030."""

    __slots__ = ("encoding",)

    def __init__(self, encoding: str | None = None) -> None:
        self.encoding = encoding

    def text(self, raw: bytes) -> str | None:
        """None where it is not text in the file's encoding."""
        if raw.isascii():
            return None if b"\0" in raw else raw.decode()
        for encoding in (self.encoding,) if self.encoding else ("utf-8", "gb18030"):
            try:
                text = raw.decode(encoding)
            except UnicodeDecodeError:
                continue
            self.encoding = encoding
            return None if "\0" in text else text
        return None
