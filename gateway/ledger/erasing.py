"""A person's demand for erasure: carried out at once, or, while a law asks for the records, when that time is over.

Owns table `erasures_due`. The decision is `rules.retention`'s; here it becomes an event. Nothing to keep: ERASURE,
which destroys the person's key. Otherwise RESTRICTION: nothing stands any more, the records are stored and used for
nothing else, and a row says when they may go. A legal hold restricts in the same way until it is released. The ledger
process carries out what is due (`run`).

Order of a request: row, event, what other rooms hold, row away (of an erasure). Order of what is due: event (its id is
made of the row, so a repetition is the same event), what other rooms hold, row away. A crash in between leaves the
row, and its time comes again; until then the caller, unanswered, repeats. Before anything is erased the decision is
made anew, by what stands then: who came back is not erased, and what must be kept longer is.

A consent recorded in the moment between that decision and the event is erased with the rest: the person is asked again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import asyncpg

from gateway import telemetry
from gateway.contract.consent import Event, EventKind, State
from gateway.contract.decision import Refusal
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.commit import Appended
from gateway.ledger.keys import KeyMismatchError
from gateway.ledger.reading import Reading
from gateway.ledger.rows import AWAY, ms_of
from gateway.rules.pack import Retention
from gateway.rules.retention import Act, Kept, due_ms, owed, restricted_at, returned, stands

LOOK_S = 30.0
HELD_AGAIN_MS = 7 * 86_400_000
"""How long after a look a person under a legal hold is looked at again."""
PAGE = 100
QUERY_S = 1.5
BUILT_IN = "assent"
"""Who carries out what is due."""

REMEMBER = """
INSERT INTO erasures_due (subject, due_at, requested_seq) VALUES ($1, $2, $3)
ON CONFLICT (subject) DO UPDATE SET due_at = EXCLUDED.due_at, requested_seq = EXCLUDED.requested_seq
"""
PENDING = "SELECT subject, due_at, requested_seq FROM erasures_due WHERE subject = $1"
DUE = """
SELECT subject, due_at, requested_seq FROM erasures_due WHERE due_at <= $1 AND (due_at, subject) > ($2, $3)
ORDER BY due_at, subject LIMIT $4
"""
FORGET = "DELETE FROM erasures_due WHERE subject = $1 AND due_at = $2 AND requested_seq = $3"
POSTPONE = "UPDATE erasures_due SET due_at = $4 WHERE subject = $1 AND due_at = $2 AND requested_seq = $3"

_log = telemetry.logger("ledger")
_FAULTS = (*AWAY, LedgerUnavailable, KeyMismatchError)


class Due(NamedTuple):
    """A row of `erasures_due`. `due_at`: Unix ms; `requested_seq`: the person's last event when they asked."""

    subject: bytes
    due_at: int
    requested_seq: int


async def _nobody(_subject: bytes) -> bool:
    return False


class Others(NamedTuple):
    """What other rooms know and hold about a person."""

    rules: Callable[[], Sequence[Retention]]
    last_message_ms: Callable[[bytes], Awaitable[int | None]]
    """When the last message went to the person or came from them (Unix ms)."""
    forget: Callable[[bytes], Awaitable[None]]
    """Delete what is kept about the person beside the ledger. Repeatable."""
    cancel: Callable[[bytes], Awaitable[None]]
    """Delete what waits for the person's confirmation. Repeatable."""
    held: Callable[[bytes], Awaitable[bool]] = _nobody
    """Whether a legal hold covers the person: then nothing is erased before it is released."""


class File(NamedTuple):
    """What is known about a person, as an erasure looks at it."""

    history: list[dict[str, Any]]
    acts: list[Act]
    state: State | None
    last_message_ms: int | None
    kept: list[Kept]
    """What could not be erased now (`rules.retention.owed`)."""
    due: Due | None
    """The erasure that waits; none where the person came back."""

    @property
    def known(self) -> bool:
        """Whether anything is recorded."""
        return bool(self.history) or self.state is not None or self.last_message_ms is not None


class Done(NamedTuple):
    """What a demand for erasure came to: the event that stands for it, and what is kept until when."""

    status: Literal["erased", "restricted"]
    subject: bytes
    seq: int
    event_id: str
    duplicate: bool
    at_ms: int
    kept: list[Kept]


class Erasures:
    """Takes demands for erasure, and carries out those that are due."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        appender: Appender,
        reading: Reading,
        others: Others,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._pool, self._appender, self._reading, self._others = pool, appender, reading, others
        self._now_ms = now_ms

    async def file(self, subject: bytes) -> File:
        """Everything an erasure depends on, now."""
        return await self._file(subject, self._now_ms())

    async def _file(self, subject: bytes, now: int) -> File:
        state = await self._reading.state(subject)
        history = await self._reading.whole_history(subject)
        acts = list(acts_of(history))
        last = await self._others.last_message_ms(subject)
        row = await self._fetch(PENDING, subject)
        due = Due(*row[0]) if row else None
        if due is not None and (stands(state, now) or returned(acts, max(due.requested_seq, restricted_at(acts)))):
            due = None
        return File(history, acts, state, last, owed(self._others.rules(), acts, state, last, now), due)

    async def request(self, subject: bytes, by: str, event_id: str) -> Done | Refusal | None:
        """Erase the person, or restrict them until the law lets go; in force when this returns. None: nobody is known.

        A person who is restricted already stays so until the day that was named then; nothing is recorded again.
        """
        now = self._now_ms()
        file = await self._file(subject, now)
        if not file.known:
            return None
        until = await self._until(file, subject, now)
        restricted = restricted_at(file.acts)
        if until is None:
            return await self._erase(file, Due(subject, now, _last(file)), by, event_id)
        if file.due is not None and restricted:
            (told,) = [one for one in file.history if one["seq"] == restricted]
            event_id, now = told["event_id"], told["occurred_at"]
        return await self._restrict(file, Due(subject, until, _last(file)), by, event_id, now)

    async def _until(self, file: File, subject: bytes, now: int) -> int | None:
        """Until when nothing may be erased: while a law asks for the records, or a legal hold stands; none: now."""
        until = due_ms(file.kept)
        return max(until or 0, now + HELD_AGAIN_MS) if await self._others.held(subject) else until

    async def _restrict(self, file: File, due: Due, by: str, name: str, now: int) -> Done | Refusal:
        """Of a person who is restricted already this repeats the event, and so waits until it is in force."""
        await self._others.cancel(due.subject)
        before = await self._fetch(PENDING, due.subject)
        if file.due is None:
            await self._execute(REMEMBER, *due)
        data = {"by": by, "due_at": due.due_at, "kept": sorted({one.rule.what for one in file.kept})}
        appended = await self._append(EventKind.RESTRICTION, name, due.subject, now, data)
        if appended.refusal is not None:
            await self._put_back(due, before)
            return appended.refusal
        return _done("restricted", due.subject, appended, name, now, file)

    async def _erase(self, file: File, due: Due, by: str, name: str) -> Done | Refusal:
        await self._others.cancel(due.subject)
        before = await self._fetch(PENDING, due.subject)
        await self._execute(REMEMBER, *due)
        now = due.due_at
        appended = await self._append(EventKind.ERASURE, name, due.subject, now, {"by": by})
        if appended.refusal is not None:
            await self._put_back(due, before)
            return appended.refusal
        if not (appended.duplicate and stands(appended.state, now)):
            await self._others.forget(due.subject)
        await self._execute(FORGET, *due)
        at_ms = next((one["occurred_at"] for one in file.history if one["seq"] == appended.seq), now)
        return _done("erased", due.subject, appended, name, at_ms, file)

    async def _put_back(self, due: Due, before: Sequence[asyncpg.Record]) -> None:
        """A demand whose event was refused leaves what was due before it."""
        await self._execute(FORGET, *due)
        for row in before:
            await self._execute(REMEMBER, *row)

    async def run(self) -> None:
        """Carry out what is due until cancelled; outages are waited out."""
        while True:
            try:
                await self.finish()
            except _FAULTS as fault:
                _log.warning("erasures_wait", error=type(fault).__name__)
            await asyncio.sleep(LOOK_S)

    async def finish(self) -> int:
        """Carry out everything that is due now; how many were erased. One that fails keeps its row for next time."""
        erased, after = 0, Due(b"", 0, 0)
        now = self._now_ms()
        while rows := await self._fetch(DUE, now, after.due_at, after.subject, PAGE):
            for after in (Due(*row) for row in rows):
                try:
                    erased += await self._finish(after, now)
                except _FAULTS as fault:
                    _log.error("erasure_failed", error=type(fault).__name__)
        if erased:
            _log.info("erased_when_due", people=erased)
        return erased

    async def _finish(self, due: Due, now: int) -> bool:
        file = await self._file(due.subject, now)
        if file.due is None:
            await self._execute(FORGET, *due)
            return False
        until = await self._until(file, due.subject, now)
        if until is not None:
            await self._execute(POSTPONE, *due, until)
            return False
        name = f"erasure/{due.subject.hex()}/{due.requested_seq}"
        data = {"by": BUILT_IN, "requested_seq": due.requested_seq}
        await self._append(EventKind.ERASURE, name, due.subject, now, data)
        await self._others.forget(due.subject)
        await self._execute(FORGET, *due)
        return True

    async def _append(self, kind: EventKind, name: str, subject: bytes, at_ms: int, data: dict[str, Any]) -> Appended:
        event = Event(event_id=name, kind=kind, number=None, subject=subject, occurred_at_ms=at_ms, data=data)
        (appended,) = await self._appender.append([event])
        return appended

    async def _fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, *values, timeout=QUERY_S)
            return found

    async def _execute(self, query: str, *values: Any) -> None:
        async with self._pool.acquire(timeout=QUERY_S) as connection:
            await connection.execute(query, *values, timeout=QUERY_S)


def acts_of(history: Sequence[dict[str, Any]]) -> Iterator[Act]:
    """A history (`Reading.history`) as retention looks at it."""
    for one in history:
        recorded = ms_of(one["recorded_at"])
        at_ms = min(one.get("occurred_at", recorded), recorded)
        yield Act(one["seq"], EventKind(one["kind"]), at_ms, one.get("data"))


def _last(file: File) -> int:
    return file.acts[-1].seq if file.acts else 0


def _done(
    status: Literal["erased", "restricted"], subject: bytes, appended: Appended, name: str, at_ms: int, file: File
) -> Done:
    return Done(status, subject, appended.seq or 0, name, appended.duplicate, at_ms, file.kept)
