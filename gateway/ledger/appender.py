"""Group commit: acts of many callers become one transaction, are applied to the guard, and only then are answered.

Any process appends. A batch is what gathered while the one before it committed (at most 500 events): an idle ledger
answers one event at once, a busy one shares each fsync among hundreds. Answers keep the order of the caller's events.

Before an answer: the event is durable, the guard holds the person's new state (read your writes), and for what must
stop messages (withdrawal, suppression, erasure) every submission that was past its last check has ended.
If this process dies after COMMIT, the projection applies the events; the caller, unanswered, repeats with the same
event id, and the duplicate is applied and waited for like the first. The same happens when the guard fails after
COMMIT: `LedgerUnavailable`, although the event stands. So an answer is never given for an act that does not yet hold.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from gateway import telemetry
from gateway.contract.consent import Event, EventKind, State
from gateway.guard import person
from gateway.guard.guard import Guard
from gateway.ledger import events, installation
from gateway.ledger.commit import Appended, Committed, Draft, commit_batch
from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.ledger.reading import Reading
from gateway.ledger.rows import AWAY, Connection

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

MOST_EVENTS = 500
MOST_WAITING = 5_000
MOST_APPLYING = 4
"""Batches committed and on their way to the guard; beyond it the next commit waits."""
COMMIT_S = 1.5
"""One batch, the wait for a connection and for other processes' batches included."""
ROLLBACK_S = 0.2
ANSWER_S = 1.9
"""A caller's whole wait, but for the fence: within what the edge promises (guarantee 6)."""
FENCE_S = 1.0
"""How long a claim may still write to a carrier (MECHANISMS 5). The fence is a time of the cache server, whose clock is
not ours; it is never further than this ahead, so waiting this long is enough whatever our clock says."""
LONGEST_ID = 512

_log = telemetry.logger("ledger")
_OF_ONE = (asyncpg.DataError, KeyMismatchError)


class LedgerUnavailable(Exception):  # noqa: N818 - it says what the caller answers: 503 unavailable
    """The act may or may not be recorded: repeat it with the same event id."""


class _Call:
    """One caller's events (at most MOST_EVENTS) and its future answer."""

    __slots__ = ("answer", "drafts")

    def __init__(self, drafts: list[Draft], answer: "asyncio.Future[tuple[list[Appended], bool]]") -> None:
        self.drafts, self.answer = drafts, answer

    def fail(self, cause: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(LedgerUnavailable(cause))

    def leave(self) -> None:
        """Its caller has gone, with an answer or without: what is not yet committed need not be."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()


class Appender:
    """Appends events. One per process; `start` before the first append, `stop` after the last."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", keys: Keys, guard: Guard) -> None:
        self._pool, self.keys, self._guard = pool, keys, guard
        self._reading = Reading(pool, keys)
        self._waiting: deque[_Call] = deque()
        self._events_waiting = 0
        self._committing: asyncio.Task[None] | None = None
        self._applying: set[asyncio.Task[None]] = set()
        self._held: PoolConnectionProxy[asyncpg.Record] | None = None

    async def start(self) -> None:
        """Refuse to work on a database made with another pepper, master key or number of lanes."""
        async with self._pool.acquire(timeout=COMMIT_S) as connection:
            await installation.check(connection, self.keys)

    async def stop(self) -> None:
        """Commit and answer what is waiting."""
        while self._committing is not None or self._applying:
            running = [*self._applying, *([self._committing] if self._committing else [])]
            await asyncio.wait(running)

    async def append(self, acts: Sequence[Event]) -> list[Appended]:
        """Append in order; see the module for what an answer promises.

        Raises EventUnfitError for an act that cannot be recorded, LedgerUnavailable when the outcome is not known.
        """
        drafts = [self._draft(act) for act in acts]
        if self._events_waiting + len(drafts) > MOST_WAITING:
            raise LedgerUnavailable("too many events are waiting")
        loop = asyncio.get_running_loop()
        calls = [
            _Call(drafts[first : first + MOST_EVENTS], loop.create_future())
            for first in range(0, len(drafts), MOST_EVENTS)
        ]
        self._events_waiting += len(drafts)
        self._waiting.extend(calls)
        if self._committing is None:
            self._committing = loop.create_task(self._commit_waiting())
        late = loop.call_later(ANSWER_S, _give_up, calls)  # a sixth of what `timeout` and `gather` cost each event
        appended: list[Appended] = []
        fenced = False
        try:
            for call in calls:
                own, waits = await call.answer
                appended += own
                fenced = fenced or waits
        finally:
            late.cancel()
            for call in calls:
                call.leave()
        if fenced:
            await asyncio.sleep(FENCE_S)
        return appended

    async def state(self, subject: bytes) -> State | None:
        """What is recorded about a person now; none when nothing ever was."""
        return await self._reading.state(subject)

    async def history(self, subject: bytes) -> list[dict[str, Any]]:
        """The person's events, oldest first, as `Reading.history` gives them."""
        return await self._reading.history(subject)

    async def number(self, subject: bytes) -> str | None:
        """The person's E.164 number, while it is known."""
        return await self._reading.number(subject)

    def _draft(self, act: Event) -> Draft:
        if not 0 < len(act.event_id) <= LONGEST_ID:
            raise events.EventUnfitError(f"an event id has 1 to {LONGEST_ID} characters")
        if act.number is not None and self.keys.subject(act.number) != act.subject:
            raise events.EventUnfitError("the subject is not the number's")
        name = self.keys.event_name(act.event_id)
        if act.kind is EventKind.ERASURE:  # its body outlives the person's key, and callers put numbers into ids
            return Draft(act, events.body(act.model_copy(update={"event_id": name})), name)
        return Draft(act, events.body(act), name)

    async def _commit_waiting(self) -> None:
        """Commit batch after batch until nothing waits, on one connection: to give it back costs a round trip."""
        try:
            while self._waiting:
                while self._waiting:
                    if len(self._applying) >= MOST_APPLYING:
                        await asyncio.wait(self._applying, return_when=asyncio.FIRST_COMPLETED)
                    await self._commit_next()
                await self._give_back()  # and look again: acts may have come meanwhile
        finally:
            self._committing = None

    async def _commit_next(self) -> None:
        batch = self._take()
        if not batch:
            return
        began = time.perf_counter()
        try:
            committed = await self._commit(batch)
        except _OF_ONE as error:
            await self._one_by_one(batch, error)
            return
        except Exception as error:  # noqa: BLE001 - nothing may leave the callers waiting
            self._fail(batch, error)
            return
        telemetry.APPEND_SECONDS.observe(time.perf_counter() - began)
        self._apply_later(batch, committed)

    def _take(self) -> list[_Call]:
        """The next calls, up to MOST_EVENTS together; those whose caller has gone are left out."""
        batch: list[_Call] = []
        size = 0
        while self._waiting and size + len(self._waiting[0].drafts) <= MOST_EVENTS:
            call = self._waiting.popleft()
            self._events_waiting -= len(call.drafts)
            if not call.answer.done():
                batch.append(call)
                size += len(call.drafts)
        return batch

    async def _commit(self, batch: Sequence[_Call]) -> Committed:
        async with asyncio.timeout(COMMIT_S):
            if self._held is None:
                self._held = await self._pool.acquire(timeout=COMMIT_S)
            try:
                return await commit_batch(self._held, self.keys, [draft for call in batch for draft in call.drafts])
            except BaseException as error:
                await _end(self._held, error)
                await self._give_back()
                raise

    async def _give_back(self) -> None:
        """To the pool, which resets it, or drops it where that fails or it is closed."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(*AWAY):
                await self._pool.release(held)

    async def _one_by_one(self, batch: Sequence[_Call], error: Exception) -> None:
        """What one call carries (a damaged key, a value PostgreSQL refuses) must not fail the others of its batch."""
        if len(batch) == 1:
            self._fail(batch, error)
            return
        for call in batch:
            try:
                self._apply_later([call], await self._commit([call]))
            except Exception as alone:  # noqa: BLE001 - as above
                self._fail([call], alone)

    @staticmethod
    def _fail(batch: Sequence[_Call], error: BaseException) -> None:
        _log.warning("append_failed", error=type(error).__name__, calls=len(batch))
        for call in batch:
            call.fail("PostgreSQL did not confirm the append")

    def _apply_later(self, batch: Sequence[_Call], committed: Committed) -> None:
        """Apply beside the next commit. States are absolute and guarded by `seq`, so the order does not matter."""
        task = asyncio.get_running_loop().create_task(self._apply(batch, committed))
        self._applying.add(task)
        task.add_done_callback(self._applying.discard)

    async def _apply(self, batch: Sequence[_Call], committed: Committed) -> None:
        acts = [draft.event for call in batch for draft in call.drafts]
        answers = committed.answers
        _count(acts, answers)
        held = {
            act.subject: committed.encoded.get(act.subject) or person.encode(answer.state)
            for act, answer in zip(acts, answers, strict=True)
            if answer.refusal is None and act.subject != events.SYSTEM
        }
        urgent = {act.subject for act in acts if act.kind in events.BLOCKING} & held.keys()
        try:
            async with asyncio.timeout(ANSWER_S):
                stopped = [(subject, held[subject]) for subject in urgent]
                fences = await self._guard.apply_encoded(stopped, blocking=True) if stopped else []
                others = [(subject, state) for subject, state in held.items() if subject not in urgent]
                if others:
                    await self._guard.apply_encoded(others)
        except Exception as error:  # noqa: BLE001 - whatever failed, the acts do not hold yet: the callers must repeat
            _log.warning("apply_failed", error=type(error).__name__, subjects=len(held))
            for call in batch:
                call.fail("the guard did not take the new state")
            return
        fenced = {subject for (subject, _), fence in zip(stopped, fences, strict=True) if fence}
        first = 0
        for call in batch:
            own = answers[first : first + len(call.drafts)]
            first += len(call.drafts)
            if not call.answer.done():
                waits = bool(fenced) and any(draft.event.subject in fenced for draft in call.drafts)
                call.answer.set_result((own, waits))


def _give_up(calls: Sequence[_Call]) -> None:
    for call in calls:
        call.fail("the ledger did not answer in time")


def _count(acts: Sequence[Event], answers: Sequence[Appended]) -> None:
    last = 0
    for act, answer in zip(acts, answers, strict=True):
        if answer.seq is not None and not answer.duplicate:
            telemetry.EVENTS.add(1, act.kind.value)
            last = answer.seq
    if last:
        telemetry.HEAD.set(last)


async def _end(connection: Connection, error: BaseException) -> None:
    """Leave no transaction open: by ROLLBACK where the connection still answers, else by giving it up."""
    if isinstance(error, Exception) and not connection.is_closed():
        with suppress(*AWAY):
            await connection.execute("ROLLBACK", timeout=ROLLBACK_S)
            return
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
