"""The ledger's rows: their SQL, and how a person's row, an event's body and a state become bytes and back."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson
from pydantic import TypeAdapter

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

KNOWN = """
SELECT head.seq AS head, head.at, clock_timestamp() AS now, event_id, known.seq, subject, kind, version, body
FROM ledger_head AS head LEFT JOIN consent_events AS known ON event_id = ANY(string_to_array($1, ','))
"""
"""The head, in every row, and the events that have one of these names: one row at least, and without a name if none."""
PEOPLE = """
SELECT subject, counter, key, number, state
FROM subjects LEFT JOIN subject_states USING (subject) WHERE subject = ANY($1::bytea[])
"""
APPEND = """
WITH events AS (
    INSERT INTO consent_events (seq, event_id, subject, kind, tag, commitment, salt, body, at, version)
    SELECT $1::bigint + place, event_id, subject, kind,
        substr(proof, 1, 16), substr(proof, 17, 32), substr(proof, 49, 32), body, $7::timestamptz, $8::smallint
    FROM unnest(string_to_array($2, ','), $3::bytea[], string_to_array($4, ','), $5::bytea[], $6::bytea[])
        WITH ORDINALITY AS event (event_id, subject, kind, proof, body, place)
), given AS (
    SELECT * FROM unnest($9::bytea[], string_to_array($10, ',')::bigint[], $11::bytea[], $12::bytea[],
        string_to_array($13, ',')::bigint[], string_to_array($14, ',')::smallint[], $15::bytea[], $16::bytea[])
        AS given (subject, counter, key, number, seq, lane, state, encoded)
), people AS (
    INSERT INTO subjects AS held (subject, counter, key, number, erased_at)
    SELECT subject, counter, key, number, CASE WHEN subject = ANY($18::bytea[]) THEN $7 END FROM given
    ON CONFLICT (subject) DO UPDATE SET counter = EXCLUDED.counter, key = EXCLUDED.key, number = EXCLUDED.number,
        erased_at = coalesce(EXCLUDED.erased_at, held.erased_at)
), states AS (
    INSERT INTO subject_states AS held (subject, seq, lane, state, form, encoded)
    SELECT subject, seq, lane, state, $17::smallint, encoded FROM given WHERE state IS NOT NULL
    ON CONFLICT (subject) DO UPDATE SET seq = EXCLUDED.seq, state = EXCLUDED.state, form = EXCLUDED.form,
        encoded = EXCLUDED.encoded WHERE held.seq < EXCLUDED.seq
)
UPDATE ledger_head SET seq = $1 + cardinality($6), at = $7 WHERE seq = $1 RETURNING seq
"""
"""What needs no array goes in without one, as text or in one piece: asyncpg checks each element of an array twice,
which costs as much as encoding it. $5 is an event's tag, commitment and salt, one after another. People without a state
come last: the columns of `stated` ($13 to $16) are shorter then, and what is missing is null."""
STATED = ("subject", "seq", "lane", "state", "form", "encoded")
"""Columns of subject_states, in the order of `stated`."""
ENCODED = "CASE WHEN form = $2 AND substr(encoded, 1, 5) = substr(int8send(seq), 4) THEN encoded END AS encoded"
"""A state as the guard holds it, where a row has it in form $2 (`person.FORM`) and of its own `seq`; else null."""
SCRUB = """
UPDATE consent_events SET salt = NULL, body = NULL, subject = NULL
FROM unnest($1::bytea[], $2::bigint[]) AS erased (subject, seq)
WHERE consent_events.subject = erased.subject AND consent_events.seq < erased.seq AND kind <> 'erasure'
"""
LIST = """
WITH standing AS (
    SELECT subject, scope, reason, sender, to_timestamp(at) AS at, entry
    FROM unnest($2::bytea[], $3::text[], string_to_array($4, ',')::smallint[], $5::text[],
        string_to_array($6, ',')::bigint[], string_to_array($7, ',')::bigint[])
        AS standing (subject, scope, reason, sender, at, entry)
), ended AS (
    DELETE FROM subject_suppressions AS held WHERE subject = ANY($1::bytea[]) AND NOT EXISTS (
        SELECT FROM standing
        WHERE (standing.entry, standing.subject, standing.scope, standing.reason)
            = (held.entry, held.subject, held.scope, held.reason)
    )
)
INSERT INTO subject_suppressions (subject, scope, reason, sender, at, entry) SELECT * FROM standing
ON CONFLICT (entry, subject, scope, reason) DO NOTHING
"""
"""The suppressions that stand of people ($1), in the place of theirs before; a row never changes, it stands or not."""


@dataclass(slots=True)
class Person:
    """A subject's rows while a batch is applied: its key, number, count of events and state."""

    subject: bytes
    counter: int = 0
    wrapped: bytes | None = None
    number: bytes | None = None
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
    return Person(row["subject"], row["counter"], row["key"], row["number"], state)


def stated(subject: bytes, state: State) -> tuple[bytes, int, int, bytes, int, bytes]:
    """A row of subject_states."""
    return subject, state.seq, lane_of(subject), encode_state(state), person.FORM, person.encode(state)


def joined(values: Iterable[int | str]) -> str:
    """Numbers or names as a statement above takes them: none holds a comma."""
    return ",".join(map(str, values))


def encode_state(state: State) -> bytes:
    """Compact JSON without what is empty; `decode_state` fills it in again."""
    return _STATES.dump_json(state, exclude_defaults=True)


def decode_state(raw: bytes) -> State:
    """What `encode_state` wrote."""
    return _STATES.validate_json(raw)


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


_STATES = TypeAdapter(State)  # whose methods take half as long as the model's own
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
