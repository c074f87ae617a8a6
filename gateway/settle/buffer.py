"""What was read from Kafka and is not settled yet, gathered by message.

Owns records between reading and the flush. Promises: a message's acceptance, result and receipt that arrive together
become one change of one row; what cannot be decoded or cannot be a row is set aside as dead, never dropped; the offsets
to move are exactly those of what is inside. A crash loses it, and nothing with it: the offsets have not moved.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import orjson

from gateway.carriers.receipts import fold_id
from gateway.contract.ids import id_time_ms
from gateway.contract.wire import Accepted, Receipt, Record, Result
from gateway.records.partitions import day_of
from gateway.settle.origin import Origin, origin_of
from gateway.stream.codec import Undecodable, decode
from gateway.stream.reader import Message
from gateway.stream.topics import Topics

LATEST_MS = 1 << 52
MOST_ATTEMPTS = 10_000
MOST_PARTS = 10_000
REF_LIFE_MS = 40 * 86_400_000
"""A receipt's reference counts as ours only if the id in it was made so recently."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NUL = b"\\u0000"

Place = tuple[str, int]


class Statement(NamedTuple):
    """One thing said about a message."""

    kind: Literal["accepted", "result", "receipt", "silence"]
    record: Any
    """Of a silence: the latest time (Unix ms) at which a message still `sent` must have been sent."""
    at: int = 0
    """When Kafka took it, or the silence was noticed."""
    held: bool = False
    origin: Origin | None = None


class Dead(NamedTuple):
    """A record nobody can settle, and the class of what is wrong with it."""

    message: Message
    error: str


class Unfit(ValueError):  # noqa: N818 - it names what the record is
    """A well-formed record whose values no row can hold."""


class Buffer:
    """One flush's worth of records. Topic names are stored without the installation's prefix."""

    __slots__ = (
        "_label", "carrier_ids", "dead", "looked_at", "moves", "records", "statements", "unresolved",
    )  # fmt: skip

    def __init__(self, names: Topics) -> None:
        self._label = names.label
        self.statements: dict[str, list[Statement]] = {}
        self.unresolved: list[Receipt] = []
        """Receipts without our id."""
        self.carrier_ids: dict[str, tuple[str, int]] = {}
        """Our message and the time, for every carrier's id that a submit brought."""
        self.moves: dict[Place, tuple[int, int]] = {}
        """For each partition read: the offset its first record had to have, and the offset after its last."""
        self.looked_at: list[str] = []
        """Messages of `sent_late` whose time has come."""
        self.dead: list[Dead] = []
        self.records = 0

    def __len__(self) -> int:
        return self.records

    def add(self, topic: str, partition: int, messages: Iterable[Message], expected: int) -> int:
        """Take in a partition's records, in order, after those up to `expected`; the offset that follows them."""
        label, following = self._label(topic), expected
        read = self._reader(label)
        for message in messages:
            try:
                read(message)
            except (Undecodable, Unfit) as fault:
                self.dead.append(Dead(message, type(fault).__name__))
            following = message.offset + 1
            self.records += 1
        self.move((label, partition), expected, following)
        return following

    def _reader(self, label: str) -> Callable[[Message], None]:
        """How a topic's records are read. Not kept: a buffer that holds its own methods waits for the collector."""
        match label:
            case "results":
                return self._result
            case "receipts":
                return self._receipt
            case "messages.held":
                return self._held
        return self._accepted

    def move(self, place: Place, expected: int, following: int) -> None:
        """Have a place's offset moved, from what it was when this buffer first spoke of it."""
        self.moves[place] = (self.moves.get(place, (expected, 0))[0], following)

    def silent(self, ids: Iterable[str], at_ms: int, sent_by_ms: int) -> None:
        """Messages to become `unknown` where they are still `sent`, since `sent_by_ms` or before."""
        for message_id in ids:
            self.say(message_id, Statement("silence", sent_by_ms, at_ms))
            self.records += 1

    def days(self, earliest: int, latest: int) -> set[int]:
        """The days (since 1970, UTC) of the messages inside, from the first to the last, within these bounds."""
        if not self.statements:
            return set()
        first, last = min(self.statements), max(self.statements)
        return set(range(max(day_of(id_time_ms(first)), earliest), min(day_of(id_time_ms(last)), latest) + 1))

    def say(self, message_id: str, statement: Statement) -> None:
        """Gather a statement under its message."""
        said = self.statements.get(message_id)
        if said is None:
            self.statements[message_id] = [statement]
        else:
            said.append(statement)

    def _accepted(self, message: Message, held: bool = False) -> None:
        record = decoded(Accepted, message.value)
        self._check(record.id, record.attempt, record.parts, record.accepted_at)
        try:
            bytes.fromhex(record.subject)
        except ValueError:
            raise Unfit from None
        self.say(record.id, Statement("accepted", record, message.at_ms, held, origin_of(record)))

    def _held(self, message: Message) -> None:
        self._accepted(message, held=True)

    def _result(self, message: Message) -> None:
        record = decoded(Result, message.value)
        self._check(record.id, record.attempt, record.parts, record.at)
        self.say(record.id, Statement("result", record))
        if record.carrier_id:
            self.carrier_ids[key_of(record.carrier, record.carrier_id)] = (record.id, record.at)

    def _receipt(self, message: Message) -> None:
        record = decoded(Receipt, message.value)
        if not (0 <= record.at < LATEST_MS and 0 <= record.received_at < LATEST_MS):
            raise Unfit
        ours = record.ref if record.ref in self.statements else _ours(record)
        if ours is None:
            self.unresolved.append(record)
        else:
            self.say(ours, Statement("receipt", record))

    def _check(self, message_id: str, attempt: int, parts: int, at: int) -> None:
        """Raises Unfit. An id that was spoken of before has been looked at."""
        if not (
            (message_id in self.statements or _UUID.fullmatch(message_id))
            and 0 < attempt < MOST_ATTEMPTS
            and 0 <= parts < MOST_PARTS
            and 0 <= at < LATEST_MS
        ):
            raise Unfit


def decoded(model: type[Any], value: bytes | None) -> Any:
    """The record; a NUL, which no text column takes, is left out of whatever text a carrier put it in."""
    if value and _NUL in value:
        try:
            value = orjson.dumps(_clean(orjson.loads(value)))
        except orjson.JSONDecodeError:
            raise Undecodable(model.__name__) from None
    record: Record = decode(model, value)
    return record


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return {name: _clean(one) for name, one in value.items()} if isinstance(value, dict) else value


def _ours(record: Receipt) -> str | None:
    """Our message id in a receipt, if the carrier echoed one."""
    ref = record.ref.lower() if record.ref else ""
    if not _UUID.fullmatch(ref) or abs(record.received_at - id_time_ms(ref)) > REF_LIFE_MS:
        return None
    return ref


def key_of(carrier: str, carrier_id: str) -> str:
    """How a carrier's id is looked up: numerals lose case and leading zeros."""
    return f"{carrier}/{fold_id(carrier_id)}"


def other_forms(key: str) -> list[str]:
    """The same numeral written in the other base: some carriers answer in hex and report in decimal, or the reverse.

    Only where one of the two has a hex letter: a numeral that could be either is never turned into another message's.
    """
    carrier, _, numeral = key.partition("/")
    forms = []
    if numeral.isascii() and numeral.isdigit():
        forms = [f"{int(numeral):x}"]
        forms = [form for form in forms if not form.isdigit()]
    elif re.fullmatch(r"[0-9a-f]{1,40}", numeral):
        forms = [str(int(numeral, 16))]
    return [f"{carrier}/{form}" for form in forms]
