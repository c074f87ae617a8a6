"""A case moves forward by named people, its clock is kept, and every act ends up in the ledger, once."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from complaint_rig import DAY, HOUR, MINUTE, NOW, SALE, ZONE, World, told, world

from gateway import telemetry
from gateway.contract.complaint import CaseAct, CaseState, Matching
from gateway.contract.decision import Reason
from gateway.contract.health import Act
from gateway.intake.resolving import resolve
from gateway.ledger.events import SYSTEM
from gateway.records import cases, complaints, figures, signals
from gateway.records.cases import CaseStateError, NoCaseError
from gateway.rules.complaint_days import bounds
from gateway.settle.cases import Cases

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at(redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with world(redis_url, database_url) as made:
        yield made


async def opened(at: World, **more: Any) -> str:
    (taken,) = await at.take(told(at.number(), **more))
    return taken.id


def clock(at: World, now: int, expected: tuple[str, ...] = ()) -> Cases:
    return Cases(at.pool, at.appender, ZONE, expected, lambda: now)


def shown(series: str) -> float:
    """What Prometheus is told of it."""
    text = telemetry.exposition(None).decode()
    return float(next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{series} ")))


async def alerts(at: World, kind: str) -> list[tuple[Any, ...]]:
    return await at.rows("SELECT scope, detail FROM alerts WHERE kind = $1 ORDER BY id", kind)


async def test_a_case_is_assigned_answered_and_closed_and_never_goes_back(at: World) -> None:
    case = await opened(at)
    async with at.pool.acquire() as conn:
        with pytest.raises(CaseStateError):
            await cases.close(conn, case, "resolved", "Li Lei", NOW)
        assigned = await cases.assign(conn, case, "Han Mei", "Li Lei", NOW + 1)
        answered = await cases.answer(conn, case, "Han Mei", NOW + 2, b"sealed")
        later = await cases.answer(conn, case, "Han Mei", NOW + 3)
        closed = await cases.close(conn, case, "apologised", "Li Lei", NOW + 4)
        for act in (
            cases.assign(conn, case, "x", "y", NOW),
            cases.answer(conn, case, "y", NOW),
            cases.close(conn, case, "resolved", "y", NOW),
            cases.resolve(conn, case, None, None, "y", NOW),
        ):
            with pytest.raises(CaseStateError):
                await act
        with pytest.raises(NoCaseError):
            await cases.answer(conn, "00000000-0000-8000-8000-000000000000", "y", NOW)
        done = await cases.acts(conn, case)
    assert (assigned.state, assigned.assigned_to) == (CaseState.ASSIGNED, "Han Mei")
    assert (answered.state, answered.answered_at, later.answered_at) == (CaseState.ANSWERED, NOW + 2, NOW + 2)
    assert (closed.state, closed.outcome, closed.closed_at) == (CaseState.CLOSED, "apologised", NOW + 4)
    assert [(one.act, one.by, one.detail) for one in done[1:]] == [
        (CaseAct.ASSIGNED, "Li Lei", "Han Mei"),
        (CaseAct.ANSWERED, "Han Mei", None),
        (CaseAct.ANSWERED, "Han Mei", None),
        (CaseAct.CLOSED, "Li Lei", "apologised"),
    ]


async def test_two_who_close_it_at_once_close_it_once(at: World) -> None:
    case = await opened(at)
    async with at.pool.acquire() as conn:
        await cases.answer(conn, case, "a", NOW)

    async def close(by: str) -> bool:
        async with at.pool.acquire() as conn:
            try:
                await cases.close(conn, case, "resolved", by, NOW)
            except CaseStateError:
                return False
            return True

    assert sum(await asyncio.gather(*(close(f"p{n}") for n in range(6)))) == 1
    assert await at.one("SELECT count(*) FROM case_acts WHERE complaint = $1 AND act = 'closed'", case) == 1


async def test_a_case_that_nobody_answers_is_alerted_once_and_an_answered_one_never(at: World) -> None:
    late, answered = await opened(at, text="late"), await opened(at, text="answered")
    async with at.pool.acquire() as conn:
        await cases.assign(conn, late, "Han Mei", "Li Lei", NOW)
        await cases.answer(conn, answered, "Li Lei", NOW)
    await clock(at, NOW + 24 * HOUR).look()
    assert late not in [scope for scope, _ in await alerts(at, "case.overdue")]
    await asyncio.gather(*(clock(at, NOW + 25 * HOUR).look() for _ in range(3)))
    await clock(at, NOW + 26 * HOUR).look()
    told_ = [(scope, orjson.loads(detail)) for scope, detail in await alerts(at, "case.overdue")]
    assert [detail for scope, detail in told_ if scope == late] == [
        {"source": "12321", "sender": "acme", "state": "assigned", "minutes_late": 60}
    ]
    assert answered not in [scope for scope, _ in told_]
    async with at.pool.acquire() as conn:
        overdue = await cases.page(conn, cases.Filter(overdue=True), 100)
    assert late in [case.id for case in overdue]
    assert shown("assent_cases_overdue") == len(overdue)
    async with at.pool.acquire() as conn:
        for case in overdue:
            await cases.answer(conn, case.id, "Han Mei", NOW + 26 * HOUR)
    await clock(at, NOW + 27 * HOUR).look()
    assert shown("assent_cases_overdue") == 0, "what was answered is no alarm any more"


async def test_every_act_is_written_into_the_ledger_once(at: World) -> None:
    case = await opened(at)
    async with at.pool.acquire() as conn:
        await cases.answer(conn, case, "Han Mei", NOW)
        await cases.close(conn, case, "unfounded", "Han Mei", NOW)
    await asyncio.gather(*(clock(at, NOW).tell() for _ in range(4)))
    await clock(at, NOW).tell()
    async with at.pool.acquire() as conn:
        done = await cases.acts(conn, case)
    entries = [one.entry for one in done]
    assert all(entries)
    history = {one["seq"]: one for one in await at.appender.history(SYSTEM)}
    assert [history[entry]["data"]["act"] for entry in entries[1:]] == ["answered", "closed"]
    assert history[entries[2]]["data"]["detail"] == "unfounded"
    mine = [one for one in history.values() if (one.get("data") or {}).get("case") == case]
    assert len(mine) == 2


async def test_a_crash_between_the_ledger_and_its_mark_appends_nothing_again(at: World) -> None:
    case = await opened(at)
    async with at.pool.acquire() as conn:
        await cases.answer(conn, case, "Han Mei", NOW)
    await clock(at, NOW).tell()
    head = await at.one("SELECT seq FROM ledger_head")
    async with at.pool.acquire() as conn:
        first = (await cases.acts(conn, case))[1].entry
        await conn.execute("UPDATE case_acts SET entry = NULL WHERE complaint = $1 AND act = 'answered'", case)
    await clock(at, NOW).tell()
    async with at.pool.acquire() as conn:
        assert (await cases.acts(conn, case))[1].entry == first
    assert await at.one("SELECT seq FROM ledger_head") == head


# --- a person decides about the message -----------------------------------------------------------------------------


async def buckets(at: World, table: str, unit: str) -> dict[tuple[int, int], int]:
    rows = await at.rows(
        f"SELECT {unit}, origin, sum(n) FROM {table} WHERE signal = 1 GROUP BY 1, 2 HAVING sum(n) <> 0"  # noqa: S608
    )
    return {(when, origin): int(n) for when, origin, n in rows}


async def whole(at: World) -> None:
    """The buckets say what the signals say."""
    rows = await at.rows("SELECT minute, coalesce(origin, 0), count(*) FROM signals WHERE signal = 1 GROUP BY 1, 2")
    assert await buckets(at, "signal_minutes", "minute") == {(minute, origin): n for minute, origin, n in rows}
    for table, unit, size in (("signal_hours", "hour", 60), ("signal_days", "day", 1440)):
        counted: dict[tuple[int, int], int] = {}
        for minute, origin, n in rows:
            counted[minute // size, origin] = counted.get((minute // size, origin), 0) + n
        assert await buckets(at, table, unit) == counted


async def test_deciding_moves_the_signal_and_back(at: World) -> None:
    who = at.number()
    near, far = await at.sent(who, 2 * HOUR, campaign="near"), await at.sent(who, 5 * HOUR, campaign="far")
    (taken,) = await at.take(told(who))
    assert taken.match is Matching.AMBIGUOUS
    await whole(at)
    moved = await resolve(at.means, taken.id, far, "Li Lei", "shop", NOW)
    assert (moved.match, moved.message, moved.campaign, moved.resolved_by) == (Matching.MATCHED, far, "far", "Li Lei")
    assert moved.permission == 7
    assert ((NOW - 5 * HOUR + 1_000) // MINUTE, "far", "10690002") in await at.counts()
    await whole(at)
    again = await resolve(at.means, taken.id, far, "Li Lei", "shop", NOW)
    assert again.message == far
    await whole(at)
    await resolve(at.means, taken.id, near, "Li Lei", "shop", NOW)
    await whole(at)
    none = await resolve(at.means, taken.id, None, "Li Lei", "shop", NOW)
    assert (none.match, none.message, none.permission) == (Matching.UNMATCHED, None, None)
    assert (NOW // MINUTE, None, "10690002") in await at.counts()
    await whole(at)
    async with at.pool.acquire() as conn:
        assert await cases.page(conn, cases.Filter(queue=True, subject=at.keys.subject(who)), 10) == []
        acts = await cases.acts(conn, taken.id)
    assert [one.detail for one in acts if one.act is CaseAct.MATCHED] == [far, far, near, None]


async def test_many_who_decide_at_once_leave_one_count(at: World) -> None:
    who = at.number()
    ones = [await at.sent(who, hours * HOUR, campaign=f"many{hours}") for hours in (2, 3, 4)]
    (taken,) = await at.take(told(who))
    choices = [*ones, None] * 3
    await asyncio.gather(*(resolve(at.means, taken.id, one, f"p{n}", "shop", NOW) for n, one in enumerate(choices)))
    await whole(at)
    assert await at.one("SELECT count(*) FROM signals WHERE subject = $1", at.keys.subject(who)) == 1


async def test_a_message_of_another_sender_suppresses_that_one_too(at: World) -> None:
    who = at.number()
    message = await at.sent(who, port="10690004", sender="bolt", campaign="theirs")
    (taken,) = await at.take(told(who))
    assert (taken.match, taken.scope) == (Matching.UNMATCHED, "acme")
    for _ in range(2):
        await resolve(at.means, taken.id, message, "Li Lei", "shop", NOW)
    reason = [Reason.COMPLAINT.value]
    assert await at.suppressed(who) == {"acme": reason, "bolt": reason}
    assert await at.one("SELECT count(*) FROM consent_events WHERE subject = $1", at.keys.subject(who)) == 2


async def test_a_complaint_that_came_before_its_messages_row_finds_it_when_that_is_there(at: World) -> None:
    who, other = at.number(), at.number()
    taken, unclear = await at.take(told(who, text=SALE), told(other))
    assert (taken.match, unclear.match) == (Matching.UNMATCHED, Matching.UNMATCHED)
    looking = Cases(at.pool, at.appender, ZONE, (), lambda: NOW, lambda: at.means)
    assert await looking.rematch() == 0
    third = at.number()
    (damaged,) = await at.take(told(third))
    await at.sent(third, HOUR, campaign="lagged")
    async with at.pool.acquire() as conn:  # which must not keep the others waiting
        await conn.execute("UPDATE complaints SET sealed = decode(repeat('00', 40), 'hex') WHERE id = $1", damaged.id)
    meant = await at.sent(who, 2 * HOUR, campaign="lagged", text=SALE)
    for hours in (2, 4):  # which of them, a person decides
        await at.sent(other, hours * HOUR, campaign="lagged")
    assert await Cases(at.pool, at.appender, ZONE, (), lambda: NOW + 3 * HOUR, lambda: at.means).rematch() == 0
    found = await asyncio.gather(*(looking.rematch() for _ in range(3)))
    assert sum(found) == 1, "once, however many look"
    assert await looking.rematch() == 0
    async with at.pool.acquire() as conn:
        case, left = await cases.one(conn, taken.id), await cases.one(conn, unclear.id)
        acts = [one for one in await cases.acts(conn, taken.id) if one.act is CaseAct.MATCHED]
    assert case is not None
    assert left is not None
    assert (case.match, case.message, case.campaign, case.resolved_by) == (Matching.MATCHED, meant, "lagged", "assent")
    assert left.match is Matching.UNMATCHED
    assert [one.by for one in acts] == ["assent"]
    assert (await at.counts())[(NOW - 2 * HOUR + 1_000) // MINUTE, "lagged", "10690002"] == 1
    await whole(at)


async def test_a_message_to_somebody_else_is_none_of_theirs(at: World) -> None:
    message = await at.sent(at.number(), campaign="others")
    with pytest.raises(NoCaseError):
        await resolve(at.means, await opened(at, text="other"), message, "Li Lei", "shop", NOW)


async def test_a_signal_that_never_counted_moves_nowhere(at: World) -> None:
    async with at.pool.acquire() as conn:
        assert await signals.move(conn, Act.COMPLAINT, b"k" * 16, 1, 1, None) is None
    await whole(at)


# --- a day's figures ------------------------------------------------------------------------------------------------

DAYLIGHT = NOW + 12 * HOUR
TODAY = dt.date(2025, 11, 25)  # `NOW` is its midnight in Shanghai
FIRST = TODAY - dt.timedelta(days=1)


async def test_figures_are_stated_beside_what_was_imported_and_corrected_by_another_row(at: World) -> None:
    day = dt.date(2025, 6, 1)
    first, last = bounds(day, ZONE)
    for at_ms in (first, last - 1, last, first - 1):
        await at.take(told(at.number(), at_ms=at_ms, source="carrier"))
    async with at.pool.acquire() as conn:
        one = await figures.state(conn, day, "carrier", 3, "Li Lei", NOW, (first, last))
        two = await figures.state(conn, day, "carrier", 2, "Han Mei", NOW + 1, (first, last))
        standing = await figures.stated(conn, day, day)
    assert (one.imported, one.stated) == (2, 3)
    who = at.number()
    for source, ref in (("12321", "F-1"), ("carrier", "F-2")):
        await at.take(told(who, at_ms=first, source=source, ref=ref))
    async with at.pool.acquire() as conn:
        for source, imported in (("carrier", 3), ("12321", 1)):  # what both told of stands in both their files
            assert (await figures.state(conn, day, source, 0, "Li Lei", NOW, (first, last))).imported == imported
    assert [(row.stated, row.by) for row in standing] == [(2, "Han Mei")]
    assert await at.one("SELECT count(*) FROM daily_figures WHERE date = $1", day) == 4
    await clock(at, NOW).tell()
    history = [row.get("data") or {} for row in await at.appender.history(SYSTEM)]
    stated = [(row["origin"], row["stated"], row["person"]) for row in history if row.get("date") == day.isoformat()]
    assert stated[:2] == [("carrier", 3, "Li Lei"), ("carrier", 2, "Han Mei")]
    assert two.imported == 2


async def test_a_day_that_nobody_signs_off_by_ten_is_alerted_once_a_source(at: World) -> None:
    expected = ("12321", "carrier")
    async with at.pool.acquire() as conn:
        await figures.state(conn, FIRST, "carrier", 0, "Li Lei", NOW, bounds(FIRST, ZONE))
        await figures.state(conn, FIRST, "12321", 0, "Li Lei", NOW - 1, bounds(FIRST, ZONE))  # the day was not over
    ten, before = NOW + 10 * HOUR, FIRST - dt.timedelta(days=1)
    assert await clock(at, ten - 1, expected).figures_missing() == [(before, "12321"), (before, "carrier")]
    assert await clock(at, ten, ()).figures_missing() == []
    assert await clock(at, ten, expected).figures_missing() == [(FIRST, "12321")]
    assert await clock(at, ten + 5 * HOUR, expected).figures_missing() == []
    missing = 'assent_complaint_figures_missing{source="12321"}'
    assert shown(missing) == 2, "told once each, and missing until somebody signs"
    async with at.pool.acquire() as conn:
        for day in (before, FIRST):
            await figures.state(conn, day, "12321", 0, "Li Lei", ten, bounds(day, ZONE))
    assert await clock(at, ten + 6 * HOUR, expected).figures_missing() == []
    assert shown(missing) == 0
    assert await clock(at, ten + DAY, expected).figures_missing() == [(TODAY, "12321"), (TODAY, "carrier")]
    assert len(await alerts(at, "complaints.file_missing")) == 5


async def test_days_that_nobody_looked_at_are_made_up_for(at: World) -> None:
    """Settlement was down from before ten o'clock of one day until the third after it."""
    day, expected = dt.date(2025, 8, 1), ("own",)
    nine = bounds(day, ZONE)[1] + 9 * HOUR
    async with at.pool.acquire() as conn:
        await figures.state(conn, day, "own", 0, "Li Lei", nine, bounds(day, ZONE))
    later = [day + dt.timedelta(days=n) for n in (1, 2)]
    raised = await asyncio.gather(*(clock(at, nine + 3 * DAY - HOUR, expected).figures_missing() for _ in range(3)))
    assert sorted(one for some in raised for one in some) == [(one, "own") for one in later], "each once"
    assert await clock(at, nine + 3 * DAY + HOUR, expected).figures_missing() == [(day + dt.timedelta(days=3), "own")]


async def test_words_of_cases_closed_long_ago_are_forgotten(at: World) -> None:
    old, young = await opened(at, text="old words"), await opened(at, text="young words")
    async with at.pool.acquire() as conn:
        for case, when in ((old, NOW - 200 * DAY), (young, NOW)):
            await cases.answer(conn, case, "a", when, b"words")
            await cases.close(conn, case, "resolved", "a", when)
        await complaints.purge(conn, NOW - 183 * DAY)
        assert await cases.words(conn, old) is None
        assert await cases.words(conn, young) is not None
        assert [one.sealed for one in await cases.acts(conn, old)] == [None, None, None]
