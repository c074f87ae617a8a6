"""The appender on real PostgreSQL and Valkey: dense, each once, applied before it is answered, and never half."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
import pytest

from gateway.contract.codes import Code
from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Reason
from gateway.guard import keys as guard_keys
from gateway.guard import person
from gateway.guard.guard import Guard
from gateway.guard.server import GuardUnavailable
from gateway.ledger import appender as module
from gateway.ledger import commit as committing
from gateway.ledger import events
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.events import EventUnfitError
from gateway.ledger.installation import ForeignDatabaseError, check
from gateway.ledger.keys import Keys, commit
from gateway.ledger.reading import Reading
from gateway.ledger.rows import ms_of, open_body

pytestmark = pytest.mark.integration

KEYS = Keys(b"m" * 32, b"p" * 32)
Pool = asyncpg.Pool


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as made:
        yield made


@pytest.fixture(scope="module")
async def guard(redis_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(redis_url)
    yield made
    await made.close()


@pytest.fixture
async def appender(pool: Any, guard: Guard) -> AsyncIterator[Appender]:
    made = Appender(pool, KEYS, guard)
    await made.start()
    yield made
    await made.stop()


_numbers = iter(range(10_000_000))


def number() -> str:
    return f"+86138{next(_numbers):08d}"


def act(to: str, kind: EventKind, data: dict[str, Any], at_ms: int = 1_000, event_id: str | None = None) -> Event:
    name = f"{to}-{next(_numbers)}" if event_id is None else event_id
    return Event(event_id=name, kind=kind, number=to, subject=KEYS.subject(to), occurred_at_ms=at_ms, data=data)


def grant(to: str, at_ms: int = 1_000, event_id: str | None = None, **more: Any) -> Event:
    return act(to, EventKind.GRANT, events.grant("acme", ["marketing"], **more), at_ms, event_id)


def withdraw(to: str, at_ms: int = 2_000, event_id: str | None = None) -> Event:
    return act(to, EventKind.WITHDRAWAL, events.withdrawal("acme", why="回复R"), at_ms, event_id)


async def cached(guard: Guard, subject: bytes) -> bytes | None:
    raw: bytes | None = await guard.server.command("GET", guard_keys.PERSON[subject[0]] + subject)
    return raw


async def dense(pool: Any) -> int:
    """The head, after checking that nothing is missing, twice or behind its time."""
    rows = await pool.fetch("SELECT seq, event_id, at FROM consent_events ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert await pool.fetchval("SELECT seq FROM ledger_head") == len(rows)
    return len(rows)


# --- what an answer promises -----------------------------------------------------------------------------------------


async def test_an_answered_act_is_durable_and_in_the_guard(appender: Appender, guard: Guard, pool: Any) -> None:
    to = number()
    first, second = await appender.append([grant(to), grant(to, 500)])
    assert (first.duplicate, first.refusal, second.seq) == (False, None, (first.seq or 0) + 1)
    assert await appender.state(KEYS.subject(to)) == second.state
    assert await cached(guard, KEYS.subject(to)) == person.encode(second.state)
    assert await appender.number(KEYS.subject(to)) == to
    assert await dense(pool) == second.seq


async def test_a_refused_act_leaves_no_trace(appender: Appender, pool: Any) -> None:
    to = number()
    await appender.append([withdraw(to)])
    before = await dense(pool)
    (answer,) = await appender.append([grant(to, 1_000)])
    assert answer.refusal is not None
    assert answer.refusal.code is Code.CONSENT_OPTED_OUT
    assert (answer.seq, await dense(pool)) == (None, before)


async def test_a_known_event_id_is_answered_as_the_first_was(appender: Appender, pool: Any) -> None:
    to = number()
    one = grant(to, event_id="once")
    first, inside = await appender.append([one, one])
    (again,) = await appender.append([one])
    assert (first.duplicate, inside, again) == (False, again, again)
    assert (again.seq, again.duplicate, again.state) == (first.seq, True, first.state)


async def test_an_event_id_of_another_act_is_a_conflict_and_hides_nothing(appender: Appender) -> None:
    to = number()
    other = number()
    await appender.append([grant(to, event_id="taken")])
    for wrong in (
        withdraw(to, event_id="taken"),
        grant(other, event_id="taken"),
        act(to, EventKind.GRANT, events.grant("acme", ["invite"]), event_id="taken"),
    ):
        (answer,) = await appender.append([wrong])
        assert answer.refusal is not None
        assert answer.refusal.code is Code.IDEMPOTENCY_CONFLICT


async def test_a_row_commits_to_its_canonical_body_and_hides_it(appender: Appender, pool: Any) -> None:
    to = number()
    told = grant(to, evidence={"ip": "203.0.113.9", "表单": "v1", "score": 0.5})
    (answer,) = await appender.append([told])
    row = await pool.fetchrow("SELECT * FROM consent_events WHERE seq = $1", answer.seq)
    wrapped = await pool.fetchval("SELECT key FROM subjects WHERE subject = $1", told.subject)
    body = open_body(KEYS.unwrap(told.subject, wrapped), row["seq"], row["version"], row["body"])
    assert row["commitment"] == commit(events.canonical(body), row["salt"]) == commit(events.body(told), row["salt"])
    assert row["tag"] == KEYS.unwrap(told.subject, wrapped).tag(1)
    assert (body["pii_principal_contact"], body["data"]["evidence"]["score"]) == (to, "0.5")
    assert to.encode() not in orjson.dumps([str(value) for value in row.values()])
    assert b"203.0.113.9" not in row["body"]
    assert ms_of(row["at"]) * 1000 == round(row["at"].timestamp() * 1_000_000)


async def test_history_tells_the_acts_in_order(appender: Appender) -> None:
    to = number()
    await appender.append([grant(to, channel="app"), withdraw(to)])
    told = await appender.history(KEYS.subject(to))
    assert [(one["kind"], one["state"]) for one in told] == [("grant", "Given"), ("withdrawal", "Withdrawn")]
    assert told[0]["data"]["channel"] == "app"
    assert told[1]["occurred_at"] == 2_000


async def test_events_without_a_person(appender: Appender) -> None:
    stop = Event(
        event_id="b", kind=EventKind.BREAKER, number=None, subject=events.SYSTEM, occurred_at_ms=1, data={"x": 1}
    )
    (answer,) = await appender.append([stop])
    assert answer.seq is not None
    assert (await appender.history(events.SYSTEM))[-1]["data"] == {"x": 1}


async def test_acts_that_cannot_be_recorded_fail_alone(appender: Appender, pool: Any) -> None:
    to = number()
    stranger = act(to, EventKind.GRANT, {}).model_copy(update={"subject": b"x" * 16})
    for unfit in (stranger, grant(to, event_id="x" * 513), grant(to, event_id=""), grant(to, note="\ud800")):
        with pytest.raises(EventUnfitError):
            await appender.append([unfit])
    assert await appender.state(KEYS.subject(to)) is None
    await dense(pool)


async def test_a_damaged_person_does_not_fail_the_others_of_a_batch(appender: Appender, pool: Any) -> None:
    damaged, well = number(), number()
    await appender.append([grant(damaged)])
    await pool.execute("UPDATE subjects SET key = $2 WHERE subject = $1", KEYS.subject(damaged), b"\x01" + b"?" * 60)
    bad, good = await asyncio.gather(
        appender.append([withdraw(damaged)]), appender.append([grant(well)]), return_exceptions=True
    )
    assert isinstance(bad, LedgerUnavailable)
    assert isinstance(good, list)
    await dense(pool)


# --- erasure ---------------------------------------------------------------------------------------------------------


async def test_erasure_destroys_what_is_readable_and_keeps_what_stops(
    appender: Appender, pool: Any, guard: Guard
) -> None:
    to = number()
    subject = KEYS.subject(to)
    kept = [answer.seq for answer in await appender.append([grant(to), withdraw(to)])]
    leaves = "SELECT seq, at, tag, commitment FROM consent_events WHERE seq = ANY($1) ORDER BY seq"
    before = await pool.fetch(leaves, kept)
    erase = act(to, EventKind.ERASURE, {"by": "demo"}, 3_000)
    (erased,) = await appender.append([erase])
    assert await pool.fetch(leaves, kept) == before
    rows = await pool.fetch("SELECT salt, body, subject FROM consent_events WHERE seq = ANY($1)", kept)
    assert {tuple(row) for row in rows} == {(None, None, None)}
    row = await pool.fetchrow("SELECT key, number, erased_at, counter FROM subjects WHERE subject = $1", subject)
    assert (row["key"], row["number"], row["counter"]) == (None, None, 3)
    assert row["erased_at"] is not None
    assert await appender.number(subject) is None
    assert [one["kind"] for one in await appender.history(subject)] == ["erasure"]
    assert erased.state.suppressions.keys() == {"acme"}
    assert await cached(guard, subject) == person.encode(erased.state)
    (again,) = await appender.append([erase])
    assert again.duplicate
    (old, new) = await appender.append([grant(to, 1_500), grant(to, 4_000, lifts=True)])
    assert old.refusal is not None
    assert [one["kind"] for one in await appender.history(subject)] == ["erasure", "grant"]
    assert await appender.number(subject) == to
    assert new.state.consents.keys() == {"acme/marketing"}


async def test_acts_before_and_after_an_erasure_in_one_batch(appender: Appender, pool: Any) -> None:
    to = number()
    acts = [grant(to), act(to, EventKind.ERASURE, {}, 2_000), grant(to, 3_000)]
    first, _, last = await appender.append(acts)
    bodies = {row["seq"]: row["body"] for row in await pool.fetch("SELECT seq, body FROM consent_events")}
    assert bodies[first.seq] is None
    assert bodies[last.seq] is not None
    assert [one["kind"] for one in await appender.history(KEYS.subject(to))] == ["erasure", "grant"]


# --- suppressions ----------------------------------------------------------------------------------------------------


async def test_suppressions_are_listed_and_paged(appender: Appender, pool: Any) -> None:
    people = [number() for _ in range(5)]
    topics = events.withdrawal("zeta", ["invite", "marketing"])
    await appender.append([act(to, EventKind.WITHDRAWAL, topics) for to in people])
    manual = events.suppression("zeta", Reason.MANUAL)
    await appender.append([act(people[0], EventKind.SUPPRESSION, manual)])
    reading = Reading(pool, KEYS)
    pages, after = [], None
    while page := await reading.suppressions("zeta", None, after, 4):
        pages += page
        after = page[-1].after
    assert len(pages) == 11
    assert len({(one.subject, one.scope, one.reason) for one in pages}) == 11
    assert [one.subject for one in await reading.suppressions("zeta", Reason.MANUAL)] == [KEYS.subject(people[0])]
    await appender.append([act(people[0], EventKind.UNSUPPRESSION, manual, 2_000)])
    assert await reading.suppressions("zeta", Reason.MANUAL) == []
    with pytest.raises(ValueError, match="unpack"):
        await reading.suppressions(after="x")


# --- faults ----------------------------------------------------------------------------------------------------------


class Faulty(Guard):
    """A real guard whose `apply_encoded` fails on the way there, or on the way back, as often as told."""

    lost_before = 0
    lost_after = 0

    async def apply_encoded(self, states: Sequence[tuple[bytes, bytes]], *, blocking: bool = False) -> list[int]:
        if self.lost_before:
            self.lost_before -= 1
            raise GuardUnavailable("lost")
        fences = await super().apply_encoded(states, blocking=blocking)
        if self.lost_after:
            self.lost_after -= 1
            raise GuardUnavailable("lost")
        return fences


@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 1)])
async def test_a_withdrawal_is_not_acknowledged_until_the_guard_has_it(
    pool: Any, guard: Guard, before: int, after: int
) -> None:
    faulty = Faulty(guard.server)
    appender = Appender(pool, KEYS, faulty)
    to = number()
    await appender.append([grant(to)])
    faulty.lost_before, faulty.lost_after = before, after
    leave = withdraw(to)
    with pytest.raises(LedgerUnavailable):
        await appender.append([leave])
    (answer,) = await appender.append([leave])
    assert answer.duplicate
    assert await cached(guard, KEYS.subject(to)) == person.encode(answer.state)
    assert "acme" in answer.state.suppressions


@pytest.mark.parametrize("known", [False, True])
async def test_an_opt_out_waits_until_submissions_past_their_last_check_have_ended(
    appender: Appender, guard: Guard, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FENCE_S", 0.3)
    to = number()
    leave = withdraw(to)
    await appender.append([leave if known else grant(to)])
    loop = asyncio.get_running_loop()
    began = loop.time()
    await appender.append([leave])
    assert loop.time() - began < 0.25, "without a claim there is nothing to wait for"
    subject = KEYS.subject(to)
    await guard.server.command("SET", guard_keys.FENCE[subject[0]] + subject, 2**41, "PX", 5_000)
    began = loop.time()
    await appender.append([leave])
    assert loop.time() - began >= 0.3


@asynccontextmanager
async def cut(pool: Any, when: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """End the appender's connection on the server at a point of its transaction."""
    original = committing._store

    async def store(connection: Any, batch: Any) -> None:
        pid = connection.get_server_pid()
        if when == "after":
            await original(connection, batch)
        monkeypatch.setattr(committing, "_store", original)
        await pool.execute("SELECT pg_terminate_backend($1)", pid)
        if when == "before":
            await original(connection, batch)

    monkeypatch.setattr(committing, "_store", store)
    yield
    monkeypatch.setattr(committing, "_store", original)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_cut_inside_the_transaction_leaves_nothing(
    appender: Appender, pool: Any, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = number()
    here = grant(to)
    head = await dense(pool)
    async with cut(pool, when, monkeypatch):
        with pytest.raises(LedgerUnavailable):
            await appender.append([here])
    assert await dense(pool) == head
    (answer,) = await appender.append([here])
    assert (answer.duplicate, answer.seq) == (False, head + 1)


async def test_a_lost_answer_to_commit_is_found_by_the_same_event_id(
    appender: Appender, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Applied and errored: the transaction is committed, its caller does not learn it."""
    original = module.commit_batch

    async def lost(*args: Any) -> list[Any]:
        await original(*args)
        raise ConnectionResetError

    here = grant(number())
    with monkeypatch.context() as patch:
        patch.setattr(module, "commit_batch", lost)
        with pytest.raises(LedgerUnavailable):
            await appender.append([here])
    (answer,) = await appender.append([here])
    assert answer.duplicate
    await dense(pool)


async def test_a_frozen_holder_of_the_head_costs_a_deadline_not_a_hang(
    appender: Appender, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMIT_S", 0.3)
    here = grant(number())
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("SELECT seq FROM ledger_head FOR UPDATE")
        with pytest.raises(LedgerUnavailable):
            await asyncio.wait_for(appender.append([here]), 2)
    (answer,) = await appender.append([here])
    assert not answer.duplicate
    await dense(pool)


async def test_competing_appenders_with_duplicate_deliveries_stay_dense(database_url: str, guard: Guard) -> None:
    """Two pools, many callers, every event delivered to both: each is appended once, and the states agree."""
    people = [number() for _ in range(40)]
    acts = [grant(to, 1_000 + n) for n in range(15) for to in people] + [withdraw(to, 9_000) for to in people]
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=3) as one,
        asyncpg.create_pool(database_url, min_size=1, max_size=3) as two,
    ):
        head = await dense(one)
        pair = [Appender(one, KEYS, guard), Appender(two, KEYS, guard)]
        calls = [each.append(acts[n : n + 7]) for n in range(0, len(acts), 7) for each in pair]
        answers = await asyncio.gather(*calls)
        assert await dense(one) == head + len(acts)
        appended = [a for answer in answers for a in answer]
        assert sum(not a.duplicate for a in appended) == len(acts)
        for to in people:
            state = await pair[0].state(KEYS.subject(to))
            assert state is not None
            assert state.suppressions.keys() == {"acme"}
            assert await cached(guard, KEYS.subject(to)) == person.encode(state)


async def test_too_many_waiting_are_refused_at_once(appender: Appender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    to = number()
    with pytest.raises(LedgerUnavailable):
        await appender.append([grant(to) for _ in range(4)])


async def test_another_pepper_or_master_key_refuses_to_start(pool: Any) -> None:
    async with pool.acquire() as connection:
        await check(connection, KEYS)
        for other in (Keys(b"m" * 32, b"q" * 32), Keys(b"n" * 32, b"p" * 32)):
            with pytest.raises(ForeignDatabaseError):
                await check(connection, other)
