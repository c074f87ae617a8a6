"""How messages ended, of a day's `results`, small enough to be kept for all of them at once.

Pure. A message is one integer by one integer, about 180 bytes; kept are refusals, rejections and expiries of the whole
time read (what they consumed was given back) and, of everything else, what ended since `recent_ms` (later it has no
record any more, see `mark.lua`). At 50 million messages a day, one in fifty of them refused, that is some 500 MB.
"""

from typing import NamedTuple

import orjson

from gateway.contract.codes import Code

KINDS = ("doubtful", "submitted", "rejected", "expired", "cancelled")
"""Those that end a message; `retrying` and `parked` do not, its next attempt is in `messages.held`."""
UNSENT = frozenset(("rejected", "expired", "cancelled"))
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_CANCELLED = _NUMBERS["cancelled"]
_PLAIN = (b'"outcome":"submitted"', b'"outcome":"doubtful"', b'"outcome":"retrying"', b'"outcome":"parked"')
_BITS = 12
_MOST = (1 << _BITS) - 1


class Outcome(NamedTuple):
    """How a message ended, and with which attempt. `at_ms`: when Kafka had the result."""

    kind: str
    attempt: int
    at_ms: int
    code: str


class Outcomes:
    """The last word about each message: of the latest attempt, and of one attempt anything firm."""

    def __init__(self, recent_ms: int) -> None:
        self._recent_ms = recent_ms
        self._known: dict[int, int] = {}
        self._codes: dict[str, int] = {"": 0}
        self._words: list[str] = [""]

    def __len__(self) -> int:
        return len(self._known)

    def take(self, key: bytes, value: bytes, at_ms: int) -> None:
        """One record of `results`; its key is the message's id. What cannot be read says nothing."""
        if at_ms < self._recent_ms and any(word in value for word in _PLAIN):
            return
        try:
            said = orjson.loads(value)
            kind, attempt = _NUMBERS.get(said["outcome"], -1), int(said["attempt"])
            name = int(key.replace(b"-", b""), 16)
        except (ValueError, KeyError, TypeError):
            return
        if kind < 0:
            return
        code = self._number(said.get("code") or "") if kind == _CANCELLED else 0
        known = self._known.get(name)
        if known is not None:
            was, standing, why = known & _MOST, known >> _BITS & 0x7, known >> _BITS + 3 & _MOST
            if (attempt, self._firm(kind, code)) <= (was, self._firm(standing, why)):
                return
        self._known[name] = ((at_ms << _BITS | code) << 3 | kind) << _BITS | min(attempt, _MOST)

    def of(self, message_id: str, attempt: int) -> Outcome | None:
        """How a message ended, if it did with this attempt or a later one."""
        known = self._known.get(int(message_id.replace("-", ""), 16))
        if known is None or known & _MOST < attempt:
            return None
        rest = known >> _BITS
        code = rest >> 3 & _MOST
        return Outcome(KINDS[rest & 0x7], known & _MOST, rest >> 3 + _BITS, self._words[code])

    def _firm(self, kind: int, code: int) -> bool:
        """Not doubt, nor that nobody was told of it: such a message may have been accepted again under its id."""
        return bool(kind) and not (kind == _CANCELLED and self._words[code] == Code.UNAVAILABLE)

    def _number(self, code: str) -> int:
        """Codes are a closed set; past 4,095 different ones, whatever wrote them, none is kept."""
        known = self._codes.get(code)
        if known is None:
            if len(self._words) > _MOST:
                return 0
            known = self._codes[code] = len(self._words)
            self._words.append(code)
        return known
