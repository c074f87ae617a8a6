"""Demands for erasure on real PostgreSQL and Valkey: at once, or restricted and erased when due, through crashes."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Refusal, Status
from gateway.guard.guard import Guard
from gateway.ledger import erasing, events
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.certificate import certify, holds
from gateway.ledger.commit import Appended
from gateway.ledger.erasing import HELD_AGAIN_MS, Done, Erasures, Others
from gateway.ledger.keys import Keys
from gateway.ledger.reading import Reading
from gateway.records import holds as legal
from gateway.records import timeline
from gateway.records.holds import Scope
from gateway.records.personal import Personal
from gateway.rules.pack import load
from gateway.rules.retention import end_ms

pytestmark = pytest.mark.integration

KEYS = Keys(b"m" * 32, b"p" * 32)
CN = load("cn")
DAY = 86_400_000
LONG_AGO = 1_000_000
_numbers = iter(range(10_000_000, 99_999_999))


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = int(datetime.now(UTC).timestamp() * 1000)

    def __call__(self) -> int:
        return self.at


class Faulty(Appender):
    """A real appender that fails before it appends, or after, as often as told."""

    before = after = 0

    async def append(self, acts: Sequence[Event]) -> list[Appended]:
        if self.before:
            self.before -= 1
            raise LedgerUnavailable("before")
        answers = await super().append(acts)
        if self.after:
            self.after -= 1
            raise LedgerUnavailable("after")
        return answers


class Part:
    """Erasures over the real parts, with a clock of its own and a `forget` that fails as often as told."""

    def __init__(self, pool: Any, appender: Faulty) -> None:
        self.pool, self.appender, self.clock = pool, appender, Clock()
        self.forget_fails = 0
        self.personal, self.reading = Personal(pool), Reading(pool, KEYS)
        personal = self.personal
        others = Others(lambda: CN.retention, personal.last_message_ms, self.forget, personal.cancel, personal.held)
        self.erasures = Erasures(pool, appender, self.reading, others, self.clock)

    async def forget(self, subject: bytes) -> None:
        if self.forget_fails:
            self.forget_fails -= 1
            raise ConnectionResetError
        await self.personal.forget(subject)

    async def demand(self, to: str, event_id: str | None = None) -> Done:
        done = await self.erasures.request(KEYS.subject(to), "demo", event_id or str(uuid.uuid4()))
        assert isinstance(done, Done)
        return done

    async def kinds(self, to: str) -> list[str]:
        return [one["kind"] for one in await self.reading.history(KEYS.subject(to))]

    async def row(self, to: str) -> Any:
        return await self.pool.fetchrow("SELECT * FROM erasures_due WHERE subject = $1", KEYS.subject(to))

    async def has_key(self, to: str) -> bool:
        return await self.pool.fetchval("SELECT key FROM subjects WHERE subject = $1", KEYS.subject(to)) is not None

    async def act(self, to: str, kind: EventKind, data: dict[str, Any], at_ms: int | None = None) -> Appended:
        what = Event(
            event_id=str(uuid.uuid4()),
            kind=kind,
            number=to,
            subject=KEYS.subject(to),
            occurred_at_ms=self.clock() if at_ms is None else at_ms,
            data=data,
        )
        (answer,) = await self.appender.append([what])
        return answer

    async def grant(self, to: str, at_ms: int | None = None, **more: Any) -> Appended:
        return await self.act(to, EventKind.GRANT, events.grant("acme", ["marketing"], **more), at_ms)

    async def message(self, to: str, *steps: tuple[Status, int]) -> None:
        """A row as settle leaves it."""
        told = timeline.encode(timeline.Entry(at, status) for status, at in steps)
        await self.pool.execute(
            "INSERT INTO messages (id, subject, rank, status, timeline, accepted_at) VALUES ($1, $2, 1, $3, $4, $5)",
            uuid.uuid4(),
            KEYS.subject(to),
            timeline.STATUS_NUMBERS[steps[-1][0]],
            told,
            steps[0][1],
        )

    async def reply(self, to: str, at_ms: int) -> None:
        await self.pool.execute(
            "INSERT INTO replies VALUES ('c', $1, $2, '10690001', 'other', NULL, $3, $3)",
            str(uuid.uuid4()),
            KEYS.subject(to),
            at_ms,
        )


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as made:
        yield made


@pytest.fixture
async def part(pool: Any, redis_url: str) -> AsyncIterator[Part]:
    guard = await Guard.connect(redis_url)
    appender = Faulty(pool, KEYS, guard)
    await appender.start()
    await pool.execute("DELETE FROM erasures_due")
    yield Part(pool, appender)
    await appender.stop()
    await guard.close()


def number() -> str:
    return f"+86137{next(_numbers)}"


# --- at once ---------------------------------------------------------------------------------------------------------


async def test_whom_no_law_keeps_is_erased_at_once(part: Part) -> None:
    to = number()
    await part.act(to, EventKind.WITHDRAWAL, events.withdrawal("acme"), LONG_AGO)
    await part.message(to, (Status.QUEUED, LONG_AGO), (Status.SENT, LONG_AGO))
    await part.reply(to, LONG_AGO)
    done = await part.demand(to)
    assert (done.status, done.duplicate) == ("erased", False)
    assert await part.kinds(to) == ["erasure"]
    assert not await part.has_key(to)
    assert await part.row(to) is None
    assert await part.personal.replies(KEYS.subject(to)) == []
    signed = certify(KEYS, done)
    assert [one["what"] for one in signed.certificate["kept"]] == ["refusals"]
    assert [one["what"] for one in signed.certificate["erased"]] == ["permissions", "records", "replies"]
    assert signed.certificate["erasure_due"] is None


async def test_whom_a_legal_hold_covers_is_restricted_until_it_is_released(part: Part) -> None:
    named, written_to = number(), number()
    for to in (named, written_to):
        await part.act(to, EventKind.WITHDRAWAL, events.withdrawal("acme"), LONG_AGO)
        await part.message(to, (Status.QUEUED, LONG_AGO), (Status.SENT, LONG_AGO))
    row = await part.pool.fetchrow("SELECT id FROM messages WHERE subject = $1", KEYS.subject(written_to))
    one = str(row["id"])
    until = f"{int(one.replace('-', ''), 16) + 1:032x}"
    scopes = [Scope(subject=KEYS.subject(named)), Scope(from_id=one, until_id=until)]
    before = part.clock()
    async with part.pool.acquire() as conn:
        held = [await legal.add(conn, scope, "Li Lei", "case 88") for scope in scopes]
        for to in (named, written_to):
            assert (await part.demand(to)).status == "restricted"
            assert (await part.row(to))["due_at"] == before + HELD_AGAIN_MS
        part.clock.at = end_ms(before, 5, CN.zone)  # the demand's own record is kept for so long
        assert await part.erasures.finish() == 0
        assert await legal.release(conn, held[0], "Li Lei", "closed")
        part.clock.at += HELD_AGAIN_MS
        assert await part.erasures.finish() == 1
        assert [await part.has_key(to) for to in (named, written_to)] == [False, True]
        assert await legal.release(conn, held[1], "Li Lei", "closed")
    part.clock.at += HELD_AGAIN_MS
    assert await part.erasures.finish() == 1


async def test_nobody_is_nobody(part: Part) -> None:
    assert await part.erasures.request(KEYS.subject(number()), "demo", "x") is None
    assert not (await part.erasures.file(KEYS.subject(number()))).known


async def test_the_same_demand_is_one_and_another_acts_id_changes_nothing(part: Part) -> None:
    to = number()
    await part.act(to, EventKind.WITHDRAWAL, events.withdrawal("acme"), LONG_AGO)
    first = await part.demand(to, "demo/1")
    again = await part.demand(to, "demo/1")
    assert (again.seq, again.at_ms, again.duplicate) == (first.seq, first.at_ms, True)
    assert await part.kinds(to) == ["erasure"]
    other = number()
    await part.grant(other)
    refused = await part.erasures.request(KEYS.subject(other), "demo", "demo/1")
    assert isinstance(refused, Refusal)
    assert await part.row(other) is None
    assert await part.kinds(other) == ["grant"]


# --- restricted, then erased -----------------------------------------------------------------------------------------


async def test_whom_a_law_keeps_is_restricted_and_erased_when_it_lets_go(part: Part) -> None:
    to = number()
    await part.grant(to)
    before = part.clock()
    done = await part.demand(to)
    assert done.status == "restricted"
    row = await part.row(to)
    assert row["due_at"] == end_ms(before, 5, CN.zone)
    assert await part.kinds(to) == ["grant", "restriction"]
    state = await part.reading.state(KEYS.subject(to))
    assert state is not None
    assert (state.consents, state.erased_at_ms) == ({}, before)
    assert await part.has_key(to)
    assert (await part.grant(to, before - DAY)).refusal is not None
    part.clock.at = row["due_at"] - 1
    assert await part.erasures.finish() == 0
    assert await part.has_key(to)
    part.clock.at += 1
    assert await part.erasures.finish() == 1
    assert await part.kinds(to) == ["erasure"]
    assert not await part.has_key(to)
    assert await part.row(to) is None
    assert await part.erasures.finish() == 0
    assert await part.kinds(to) == ["erasure"]


async def test_a_second_demand_puts_nothing_off(part: Part) -> None:
    to = number()
    await part.grant(to)
    first = await part.demand(to)
    due = (await part.row(to))["due_at"]
    part.clock.at += 30 * DAY
    second = await part.demand(to)
    assert (second.seq, second.event_id, second.at_ms) == (first.seq, first.event_id, first.at_ms)
    assert (second.duplicate, second.status) == (True, "restricted")
    assert (await part.row(to))["due_at"] == due
    assert await part.kinds(to) == ["grant", "restriction"]
    part.appender.before = 1
    with pytest.raises(LedgerUnavailable):  # also an answer that repeats waits until the guard has the state
        await part.demand(to)
    part.clock.at = due
    late = await part.demand(to)
    assert late.status == "erased"
    assert await part.row(to) is None


async def test_only_a_message_is_reason_enough(part: Part) -> None:
    """Order 31 asks for time, both numbers and the state of the subscription: the number must stay readable."""
    to, sent = number(), number()
    await part.message(sent, (Status.QUEUED, part.clock() - DAY), (Status.SENT, part.clock() - DAY // 2))
    done = await part.demand(sent)
    assert [(one.rule.what, one.since_ms) for one in done.kept if one.until_ms] == [
        ("send_records", part.clock() - DAY // 2)
    ]
    for steps in (
        ((Status.HELD, part.clock()),),
        ((Status.QUEUED, part.clock()), (Status.CANCELLED, part.clock())),
        ((Status.QUEUED, part.clock()), (Status.REJECTED, part.clock())),
    ):
        await part.message(to, *steps)
    assert await part.personal.last_message_ms(KEYS.subject(to)) is None
    await part.message(to, (Status.QUEUED, part.clock() - 5))
    assert await part.personal.last_message_ms(KEYS.subject(to)) == part.clock() - 5
    await part.reply(to, part.clock() - 1)
    assert await part.personal.last_message_ms(KEYS.subject(to)) == part.clock() - 1


async def test_a_message_meanwhile_puts_the_erasure_off(part: Part) -> None:
    to = number()
    await part.grant(to)
    await part.demand(to)
    due = (await part.row(to))["due_at"]
    await part.message(to, (Status.QUEUED, due - DAY), (Status.DELIVERED, due - DAY))
    part.clock.at = due
    assert await part.erasures.finish() == 0
    later = (await part.row(to))["due_at"]
    assert later == end_ms(due - DAY, 5, CN.zone)
    part.clock.at = later
    assert await part.erasures.finish() == 1


async def test_who_comes_back_is_not_erased(part: Part) -> None:
    to = number()
    await part.grant(to, part.clock() - DAY)
    done = await part.demand(to)
    due = (await part.row(to))["due_at"]
    assert (await part.grant(to, part.clock() + 1, lifts=True)).refusal is None
    assert (await part.erasures.file(KEYS.subject(to))).due is None
    await part.act(to, EventKind.WITHDRAWAL, events.withdrawal("acme"), part.clock() + 2)
    part.clock.at = due
    assert await part.erasures.finish() == 0
    assert await part.row(to) is None
    assert await part.has_key(to)
    assert done.seq < (await part.demand(to)).seq


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_demand_that_dies_is_complete_once_it_is_repeated(part: Part, where: str) -> None:
    """Its event not applied, and applied without an answer."""
    for at_ms, kind in ((LONG_AGO, "erasure"), (part.clock(), "restriction")):
        to, name = number(), str(uuid.uuid4())
        await part.act(to, EventKind.WITHDRAWAL, events.withdrawal("acme"), at_ms)
        setattr(part.appender, where, 1)
        with pytest.raises(LedgerUnavailable):
            await part.demand(to, name)
        assert await part.row(to) is not None
        done = await part.demand(to, name)
        assert done.duplicate == (where == "after")
        assert (await part.kinds(to)).count(kind) == 1
        assert (await part.row(to) is None) == (kind == "erasure")


@pytest.mark.parametrize("fault", ["before", "after", "forget"])
async def test_what_is_due_is_erased_once_however_often_it_dies(part: Part, fault: str) -> None:
    to = number()
    await part.grant(to)
    await part.demand(to)
    part.clock.at = (await part.row(to))["due_at"]
    for _ in range(3):
        part.forget_fails = 1 if fault == "forget" else 0
        if fault != "forget":
            setattr(part.appender, fault, 1)
        assert await part.erasures.finish() == 0
        assert await part.row(to) is not None
    assert await part.erasures.finish() == 1
    assert await part.kinds(to) == ["erasure"]
    assert await part.row(to) is None
    at_once = number()
    await part.act(at_once, EventKind.WITHDRAWAL, events.withdrawal("acme"), LONG_AGO)
    part.forget_fails = 1
    with pytest.raises(ConnectionResetError):
        await part.demand(at_once)
    assert await part.erasures.finish() == 1
    assert await part.row(at_once) is None


async def test_a_demand_that_was_never_recorded_erases_no_customer(part: Part) -> None:
    to = number()
    await part.grant(to)
    part.appender.before = 1
    with pytest.raises(LedgerUnavailable):
        await part.demand(to)
    part.clock.at = (await part.row(to))["due_at"]
    assert await part.erasures.finish() == 0
    assert await part.row(to) is None
    assert await part.kinds(to) == ["grant"]


async def test_one_that_cannot_be_erased_does_not_hold_up_the_rest(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "PAGE", 2)
    people = sorted((number() for _ in range(5)), key=KEYS.subject)
    for to in people:
        await part.grant(to)
        await part.demand(to)
    damaged = people[0]
    await part.pool.execute("UPDATE subjects SET key = $2 WHERE subject = $1", KEYS.subject(damaged), b"\1" + b"?" * 60)
    part.clock.at += 200 * DAY
    assert await part.erasures.finish() == 4
    assert await part.row(damaged) is not None


async def test_the_loop_erases_and_lives_through_outages(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "LOOK_S", 0.05)
    to = number()
    await part.grant(to)
    await part.demand(to)
    part.clock.at += 200 * DAY
    part.appender.before = 2
    loop = asyncio.create_task(part.erasures.run())
    async with asyncio.timeout(10):
        while await part.row(to) is not None:  # noqa: ASYNC110 - the loop is the thing waited for
            await asyncio.sleep(0.02)
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
    assert await part.kinds(to) == ["erasure"]


# --- the certificate -------------------------------------------------------------------------------------------------


async def test_a_certificate_says_what_is_kept_and_no_byte_of_it_can_be_changed(part: Part) -> None:
    to = number()
    await part.grant(to)
    signed = certify(KEYS, await part.demand(to))
    stated = signed.certificate
    assert holds(stated, signed.signature, signed.key)
    assert signed.key == KEYS.record_verify_key().hex()
    assert [one["what"] for one in stated["kept"]] == ["consent_records", "refusals"]
    assert stated["kept"][0]["until"] == stated["erasure_due"]
    assert all(one[name] for one in stated["kept"] for name in ("law", "law_zh", "title", "title_zh", "why", "why_zh"))
    assert to[3:] not in str(stated)
    for name, value in stated.items():
        changed = f"{value}x" if isinstance(value, str) else (value + 1 if isinstance(value, int) else [])
        assert not holds({**stated, name: changed}, signed.signature, signed.key), name
    flipped = bytearray.fromhex(signed.signature)
    flipped[7] ^= 1
    assert not holds(stated, flipped.hex(), signed.key)
    assert not holds(stated, signed.signature, "00" * 31)
    assert not holds(stated, signed.signature, Keys(b"x" * 32, b"p" * 32).record_verify_key().hex())


async def test_a_consent_recorded_while_the_demand_is_on_its_way_does_not_call_it_off(part: Part) -> None:
    """The demand has read the history when the consent comes in; the restriction is recorded after it."""
    to = number()
    await part.grant(to, part.clock() - DAY)
    await part.demand(to)
    await part.pool.execute("UPDATE erasures_due SET requested_seq = 0 WHERE subject = $1", KEYS.subject(to))
    file = await part.erasures.file(KEYS.subject(to))
    assert file.due is not None
    part.clock.at = file.due.due_at
    assert await part.erasures.finish() == 1
