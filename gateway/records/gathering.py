"""One transaction's worth of accepted messages, sealed as they are read.

Owns records between reading and storing. Promises: nothing here holds a number or a text in the clear longer than it
takes to seal it; what cannot be read is set aside as dead, never dropped; the offsets to move are exactly those of what
is inside. A crash loses it, and nothing with it: the offsets have not moved.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.contract.wire import Accepted
from gateway.records.contents import Seal
from gateway.records.partitions import DAY_MS
from gateway.stream import Message, Place, Topics, Undecodable

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
MODEL = Accepted.__name__


class Row(NamedTuple):
    """What is stored of a message, and whose it is."""

    id: str
    sealed: bytes
    subject: str
    """32 hex digits."""
    accepted_at: int


class Batch:
    """Records of some partitions, in order. Rows of days (since 1970) before `first_day` are left out."""

    __slots__ = ("_began", "_first_day", "_label", "_seal", "bytes", "days", "dead", "moves", "old", "oldest_ms",
                 "records", "rows")  # fmt: skip

    def __init__(self, names: Topics, seal: Seal, first_day: int) -> None:
        self._label, self._seal, self._first_day = names.label, seal, first_day
        self._began = 0.0
        self.rows: list[Row] = []
        self.days: set[int] = set()
        self.dead: list[tuple[Message, str]] = []
        self.moves: dict[tuple[str, int], tuple[int, int]] = {}
        """For each partition read: the offset its first record had to have, and the offset after its last."""
        self.records = self.bytes = self.old = 0
        self.oldest_ms = 0
        """When Kafka took the oldest record inside (Unix ms); 0 for none."""

    def __len__(self) -> int:
        return self.records

    def add(self, place: Place, messages: Iterable[Message], expected: int) -> int:
        """Take in a partition's records, in order, after those up to `expected`; the offset that follows them."""
        following = expected
        for message in messages:
            try:
                self._take(message.value)
            except Undecodable as fault:
                self.dead.append((message, type(fault).__name__))
            following = message.offset + 1
            self.records += 1
            self.bytes += len(message.value or b"")
            self.oldest_ms = min(self.oldest_ms or message.at_ms, message.at_ms)
        self._began = self._began or time.monotonic()
        key = self._label(place.topic), place.partition
        self.moves[key] = (self.moves.get(key, (expected, 0))[0], following)
        return following

    def waited(self) -> float:
        """Seconds since the first record came."""
        return time.monotonic() - self._began if self._began else 0.0

    def rows_but(self, erased: Mapping[str, int]) -> list[tuple[str, bytes]]:
        """What to store (id, sealed), but for people erased (by subject, Unix ms) after their message was accepted."""
        if not erased:
            return [(row.id, row.sealed) for row in self.rows]
        return [(row.id, row.sealed) for row in self.rows if row.accepted_at > erased.get(row.subject, -1)]

    def _take(self, value: bytes | None) -> None:
        """Only what is stored is looked at: the whole model is checked by those who act on it, and costs twice this."""
        try:
            record: Any = orjson.loads(value or b"")
            known, number, text = record["id"], record["to"], record["text"]
            subject, accepted_at = record["subject"], record["accepted_at"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            raise Undecodable(MODEL) from None
        if not (
            isinstance(known, str)
            and isinstance(number, str)
            and isinstance(text, str)
            and isinstance(subject, str)
            and isinstance(accepted_at, int)
            and _UUID7.fullmatch(known)
        ):
            raise Undecodable(MODEL)
        id16 = bytes.fromhex(known.replace("-", ""))
        day = int.from_bytes(id16[:6], "big") // DAY_MS
        if day < self._first_day:
            self.old += 1
            return
        self.days.add(day)
        self.rows.append(Row(known, self._seal(id16, number, text), subject, accepted_at))
