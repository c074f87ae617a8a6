"""One batch of events becomes part of the ledger: one transaction, all of it or nothing.

Order inside: lock the head row (every appender of every process takes turns here, so `seq` is dense and rows become
visible in its order) -> read the head, drop event ids that are already there -> load the people -> apply each event in
order -> insert events, people, states and move the head by compare-and-set, in one statement -> scrub whoever was
erased, list who is suppressed. Whatever looks at rows is a statement after the one that waited for the lock: its
snapshot then holds all that was committed before.

A crash before COMMIT leaves nothing; one after it leaves everything. When the answer to COMMIT itself is lost, nobody
here knows which: the caller repeats with the same event ids and finds out.
"""

import os
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from gateway.contract.codes import Code
from gateway.contract.consent import Event, EventKind, State, Suppression
from gateway.contract.decision import Refusal
from gateway.guard.person import FORM
from gateway.ledger import events, rows
from gateway.ledger.events import SYSTEM, VERSION, same_effect
from gateway.ledger.keys import NUMBER_BOUND, SALT_BYTES, Keys, commit
from gateway.ledger.rows import Connection, Person
from gateway.ledger.state import apply, event_state, sender_of

BEGIN = """
BEGIN; SET LOCAL statement_timeout = 1500; SET LOCAL lock_timeout = 1500;
SET LOCAL idle_in_transaction_session_timeout = 3000; SELECT FROM ledger_head FOR UPDATE
"""
"""The server ends our transaction when this process is frozen or gone, or the head row would stay locked."""


class HeadMovedError(Exception):
    """The head was not where the lock promised: the tables were changed by something else. Nothing was committed."""


class Draft(NamedTuple):
    """An event to append, its canonical body as if nothing stood before, and its id's name (`Keys.event_name`)."""

    event: Event
    body: bytes
    name: str


class Appended(NamedTuple):
    """What became of one event: its `seq` (`duplicate`: it had it before), or the refusal; and the state after."""

    seq: int | None
    duplicate: bool
    refusal: Refusal | None
    state: State


class Committed(NamedTuple):
    """A batch that is in the ledger: an answer to each draft, and of each person it changed the state for the guard."""

    answers: list[Appended]
    encoded: dict[bytes, bytes]


_Row = tuple[str, bytes, str, bytes, bytes]
"""Name of the event id, subject, kind; tag, commitment and salt in one piece; sealed body."""


class Batch:
    """The batch being applied, in memory: nothing here touches the database."""

    def __init__(self, keys: Keys, head: int, at: datetime, people: dict[bytes, Person]) -> None:
        self.keys, self.head, self.at, self.people = keys, head, at, people
        self.recorded_ms = rows.ms_of(at)
        self.written: list[_Row] = []
        self.changed: dict[bytes, Person] = {}
        self.listed: set[bytes] = set()
        self.erased: dict[bytes, int] = {}
        self._seen: dict[str, tuple[Event, Appended]] = {}

    def add(self, draft: Draft, known: asyncpg.Record | None) -> Appended:
        """Apply one event: a duplicate is answered as the first was, a refused one leaves no trace."""
        event = draft.event
        person = self.people.setdefault(event.subject, Person(event.subject))
        if known is not None:
            return self._known(event, person, known)
        if event.event_id in self._seen:
            return self._repeated(event, person)
        seq = self.head + len(self.written) + 1
        after = apply(person.state, event, seq, self.recorded_ms)
        if isinstance(after, Refusal):
            answer = Appended(None, duplicate=False, refusal=after, state=person.state or State(seq=0))
        else:
            self._write(draft, person, seq, after)
            answer = Appended(seq, duplicate=False, refusal=None, state=after)
        self._seen[event.event_id] = (event, answer)
        return answer

    def _known(self, event: Event, person: Person, known: asyncpg.Record) -> Appended:
        """An id from an earlier batch. Another act under the same id must not vanish: a withdrawal might."""
        same = known["kind"] == event.kind and known["subject"] in (None, event.subject)
        if same and known["body"] is not None and event.kind is not EventKind.ERASURE:
            first = rows.open_body(person.open(self.keys), known["seq"], known["version"], known["body"])
            same = same_effect(first["data"], event.data)
        return self._again(person, known["seq"], same=same)

    def _repeated(self, event: Event, person: Person) -> Appended:
        first, answer = self._seen[event.event_id]
        same = first.kind is event.kind and first.subject == event.subject and same_effect(first.data, event.data)
        if same and answer.refusal is not None:
            return answer
        return self._again(person, answer.seq, same=same)

    @staticmethod
    def _again(person: Person, seq: int | None, *, same: bool) -> Appended:
        state = person.state or State(seq=0)
        if not same:
            return Appended(
                None, False, Refusal(Code.IDEMPOTENCY_CONFLICT, "the event id belongs to another act"), state
            )
        return Appended(seq, True, None, state)

    def _write(self, draft: Draft, person: Person, seq: int, after: State) -> None:
        event = draft.event
        person.counter += 1
        keys = person.open(self.keys)
        if person.number is None and event.number is not None:
            person.number = keys.seal(event.number.encode(), NUMBER_BOUND)
        salt = os.urandom(SALT_BYTES)
        known = event_state(person.state, event)
        body = draft.body if known is None else events.body(event, known)
        holder = person
        if event.kind is EventKind.ERASURE:
            holder = self.people.setdefault(rows.key_holder(event.kind, event.subject), Person(SYSTEM))
        sealed = rows.seal_body(holder.open(self.keys), seq, body)
        proof = keys.tag(person.counter) + commit(body, salt) + salt
        self.written.append((draft.name, event.subject, event.kind.value, proof, sealed))
        self.changed[event.subject] = person
        if holder is not person:
            self.changed[holder.subject] = holder
        if after.suppressions != (person.state.suppressions if person.state else {}):
            self.listed.add(event.subject)
        if event.subject != SYSTEM:
            person.state = after
        if event.kind is EventKind.ERASURE:
            self._erase(person, seq)

    def _erase(self, person: Person, seq: int) -> None:
        """Destroy the key and the number; `SCRUB` takes salts, bodies and whose they were."""
        if person.wrapped is not None:
            self.keys.forget(person.wrapped)
        person.wrapped = person.number = person.keys = None
        self.erased[person.subject] = seq


async def commit_batch(connection: Connection, keys: Keys, drafts: Sequence[Draft]) -> Committed:
    """Append the drafts in order; answers in the same order.

    The caller bounds the time, and rolls back or gives up the connection when this raises.
    """
    await connection.execute(BEGIN)
    committed = await _within(connection, keys, drafts)
    await connection.execute("COMMIT")
    return committed


async def _within(connection: Connection, keys: Keys, drafts: Sequence[Draft]) -> Committed:
    found = await connection.fetch(rows.KNOWN, rows.joined(draft.name for draft in drafts))
    if not found:
        raise HeadMovedError("the ledger has no head row")
    head, known = found[0], {row["event_id"]: row for row in found}
    subjects = {draft.event.subject for draft in drafts}
    if any(draft.event.kind is EventKind.ERASURE for draft in drafts):
        subjects.add(SYSTEM)  # whose key holds the bodies of erasures (`rows.key_holder`)
    people = {row["subject"]: rows.person_of(row) for row in await connection.fetch(rows.PEOPLE, list(subjects))}
    batch = Batch(keys, head["head"], rows.whole_ms(max(head["at"], head["now"])), people)
    answers = [batch.add(draft, known.get(draft.name)) for draft in drafts]
    return Committed(answers, await _store(connection, batch) if batch.written else {})


async def _store(connection: Connection, batch: Batch) -> dict[bytes, bytes]:
    names, subjects, kinds, proofs, bodies = zip(*batch.written, strict=True)
    people = sorted(batch.changed.values(), key=lambda one: one.state is None)
    stated = [rows.stated(one.subject, one.state) for one in people if one.state is not None]
    _, seqs, lanes, states, _, encoded = zip(*stated, strict=True) if stated else ((),) * len(rows.STATED)
    moved = await connection.fetchval(
        rows.APPEND,
        batch.head,
        rows.joined(names),
        subjects,
        rows.joined(kinds),
        proofs,
        bodies,
        batch.at,
        VERSION,
        [one.subject for one in people],
        rows.joined(one.counter for one in people),
        [one.wrapped for one in people],
        [one.number for one in people],
        rows.joined(seqs),
        rows.joined(lanes),
        states,
        encoded,
        FORM,
        list(batch.erased),
    )
    if moved is None:
        raise HeadMovedError("the head moved under its lock")
    if batch.erased:
        await connection.execute(rows.SCRUB, list(batch.erased), list(batch.erased.values()))
    if batch.listed:
        await _list_suppressions(connection, batch)
    return {subject: form for subject, *_, form in stated}


async def _list_suppressions(connection: Connection, batch: Batch) -> None:
    standing = [
        (subject, scope, one)
        for subject in batch.listed
        for scope, held in _suppressions(batch.people[subject])
        for one in held
    ]
    await connection.execute(
        rows.LIST,
        list(batch.listed),
        [subject for subject, _, _ in standing],
        [scope for _, scope, _ in standing],
        rows.joined(one.reason for _, _, one in standing),
        [sender_of(scope) for _, scope, _ in standing],
        rows.joined(max(one.at, 0) for _, _, one in standing),
        rows.joined(one.entry for _, _, one in standing),
    )


def _suppressions(person: Person) -> list[tuple[str, list[Suppression]]]:
    return list(person.state.suppressions.items()) if person.state else []
