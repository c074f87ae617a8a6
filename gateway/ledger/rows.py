"""The ledger's rows: their SQL, and how a person's row, an event's body and a state become bytes and back."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson

from gateway.contract.consent import EventKind, State
from gateway.contract.ids import lane_of
from gateway.guard import person
from gateway.ledger.events import SYSTEM, VERSION
from gateway.ledger.keys import NUMBER_BOUND, Keys, PersonKeys, bound_to

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""What PostgreSQL, or the way to it, raises when it is gone, going or late. The third: a connection that was cut while
it was being given back is lent once more before the driver notices."""

HEAD = "SELECT seq, at, clock_timestamp() AS now FROM ledger_head FOR UPDATE"
KNOWN = "SELECT event_id, seq, subject, kind, version, body FROM consent_events WHERE event_id = ANY($1::text[])"
PEOPLE = """
SELECT subject, counter, key, number, erased_at, state
FROM subjects LEFT JOIN subject_states USING (subject) WHERE subject = ANY($1::bytea[])
"""
APPEND = """
WITH events AS (
    INSERT INTO consent_events (seq, event_id, subject, kind, tag, commitment, salt, body, at, version)
    SELECT *, $9::timestamptz, $10::smallint
    FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[])
), people AS (
    INSERT INTO subjects (subject, counter, key, number, erased_at)
    SELECT * FROM unnest($11::bytea[], $12::bigint[], $13::bytea[], $14::bytea[], $15::timestamptz[])
    ON CONFLICT (subject) DO UPDATE SET counter = EXCLUDED.counter, key = EXCLUDED.key, number = EXCLUDED.number,
        erased_at = EXCLUDED.erased_at
), states AS (
    INSERT INTO subject_states AS held (subject, seq, lane, state, form, encoded)
    SELECT * FROM unnest($16::bytea[], $17::bigint[], $18::smallint[], $19::bytea[], $20::smallint[], $21::bytea[])
    ON CONFLICT (subject) DO UPDATE SET seq = EXCLUDED.seq, state = EXCLUDED.state, form = EXCLUDED.form,
        encoded = EXCLUDED.encoded WHERE held.seq < EXCLUDED.seq
)
UPDATE ledger_head SET seq = $22, at = $9 WHERE seq = $23 RETURNING seq
"""
STATED = ("subject", "seq", "lane", "state", "form", "encoded")
"""Columns of subject_states, in the order of `stated`."""
ENCODED = "CASE WHEN form = $2 AND substr(encoded, 1, 5) = substr(int8send(seq), 4) THEN encoded END AS encoded"
"""A state as the guard holds it, where a row has it in form $2 (`person.FORM`) and of its own `seq`; else null."""
SCRUB = """
UPDATE consent_events SET salt = NULL, body = NULL, subject = NULL
FROM unnest($1::bytea[], $2::bigint[]) AS erased (subject, seq)
WHERE consent_events.subject = erased.subject AND consent_events.seq < erased.seq AND kind <> 'erasure'
"""
UNLIST = "DELETE FROM subject_suppressions WHERE subject = ANY($1::bytea[])"
LIST = """
INSERT INTO subject_suppressions (subject, scope, reason, sender, at, entry)
SELECT * FROM unnest($1::bytea[], $2::text[], $3::smallint[], $4::text[], $5::timestamptz[], $6::bigint[])
"""


@dataclass(slots=True)
class Person:
    """A subject's rows while a batch is applied: its key, number, count of events and state."""

    subject: bytes
    counter: int = 0
    wrapped: bytes | None = None
    number: bytes | None = None
    erased_at: datetime | None = None
    state: State | None = None
    keys: PersonKeys | None = None

    def open(self, keys: Keys) -> PersonKeys:
        """The person's keys, made when there are none: a new person, or one who returns after an erasure."""
        if self.keys is None:
            if self.wrapped is None:
                self.keys, self.wrapped = keys.new(self.subject)
            else:
                self.keys = keys.unwrap(self.subject, self.wrapped)
        return self.keys


def person_of(row: asyncpg.Record) -> Person:
    """A row of PEOPLE."""
    state = None if row["state"] is None else decode_state(row["state"])
    return Person(row["subject"], row["counter"], row["key"], row["number"], row["erased_at"], state)


def stated(subject: bytes, state: State) -> tuple[bytes, int, int, bytes, int, bytes]:
    """A row of subject_states."""
    return subject, state.seq, lane_of(subject), encode_state(state), person.FORM, person.encode(state)


def encode_state(state: State) -> bytes:
    """Compact JSON without what is empty; `decode_state` fills it in again."""
    return state.model_dump_json(exclude_defaults=True).encode()


def decode_state(raw: bytes) -> State:
    """What `encode_state` wrote."""
    return State.model_validate_json(raw)


def key_holder(kind: str, subject: bytes) -> bytes:
    """Whose key an event's body is under: an erasure's is the system's, since it outlives the person's."""
    return SYSTEM if kind == EventKind.ERASURE else subject


def open_body(keys: PersonKeys, seq: int, version: int, sealed: bytes) -> dict[str, Any]:
    """An event's body as it was recorded."""
    body: dict[str, Any] = orjson.loads(keys.open(sealed, bound_to(version, seq)))
    return body


def seal_body(keys: PersonKeys, seq: int, body: bytes) -> bytes:
    """An event's canonical body as its row holds it."""
    return keys.seal(body, bound_to(VERSION, seq))


def open_number(keys: PersonKeys, sealed: bytes) -> str:
    """The person's E.164 number."""
    return keys.open(sealed, NUMBER_BOUND).decode()


def whole_ms(at: datetime) -> datetime:
    """Cut to milliseconds: a leaf's time is exact in every tool that reads it."""
    return at - timedelta(microseconds=at.microsecond % 1000)


def ms_of(at: datetime) -> int:
    """Unix milliseconds, exactly."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def at_s(seconds: int) -> datetime:
    """A time from Unix seconds."""
    return _EPOCH + timedelta(seconds=seconds)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
