"""Cleansing a list on real PostgreSQL and Valkey: who is found, what is stopped and let go, and crashes between."""

import asyncio
import gc
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
from cleansing_rig import (
    ACME,
    BOLT,
    DEAD,
    DELIVERED,
    KEYS,
    NONE,
    UNDELIVERED,
    Lists,
    days_ago,
    lists,
    now,
    number,
    subjects,
)
from typer.testing import CliRunner

from gateway.cli import app
from gateway.contract.consent import EventKind
from gateway.contract.decision import Reason
from gateway.contract.health import Act, Signal, key_of
from gateway.ledger import events
from gateway.ledger.appender import LedgerUnavailable
from gateway.records import cleansing, cleansing_people, registry, signals
from gateway.records.personal import Personal
from gateway.rules.cleansing import Category, Choice

pytestmark = pytest.mark.integration
SHIPPING = "transaction.shipping"


@pytest.fixture(scope="module")
async def at(database_url: str, redis_url: str) -> AsyncIterator[Lists]:
    async with lists(database_url, redis_url) as made:
        yield made


class People:
    """One of each, and a campaign that wrote to all of them."""

    def __init__(self) -> None:
        for name in ("complained", "signalled", "opted_out", "dead", "revived", "unproven", "old", "silent", "replied",
                     "fresh", "stranger"):  # fmt: skip
            setattr(self, name, number())

    def __getattr__(self, name: str) -> str:
        raise AttributeError(name)


async def a_campaign(at: Lists, name: str) -> People:
    p, origin = People(), await at.origin(name)
    everybody = [one for who, one in vars(p).items() if who != "stranger"]
    await at.sent(origin, [(KEYS.subject(one), days_ago(3), DELIVERED, NONE) for one in everybody if one != p.dead])
    for one in everybody:
        if one not in (p.unproven, p.old, p.silent, p.replied):
            await at.agree(one, days_ago(10))
        await at.act(one, EventKind.RELATIONSHIP, events.relationship("acme", "order", "r"), days_ago(10))
    await at.agree(p.unproven, days_ago(10), {"source": "an old table"})
    await at.agree(p.old, days_ago(800))
    for one in (p.silent, p.replied):
        await at.agree(one, days_ago(300))
    replied = [(p.old, "other", "10690002"), (p.replied, "other", "1069000277"), (p.silent, "refusal", "10690002")]
    for one, meaning, port in replied:
        await at.pool.execute(
            "INSERT INTO replies VALUES ('sim', $1, $2, $3, $4, NULL, $5, $5)",
            number(), KEYS.subject(one), port, meaning, days_ago(20),
        )  # fmt: skip
    for one, when in ((p.dead, 2), (p.revived, 20)):
        await at.sent(origin, [(KEYS.subject(one), days_ago(when + n), UNDELIVERED, DEAD) for n in range(2)])
    await at.suppress(p.complained, "acme", Reason.COMPLAINT)
    told = Signal(Act.COMPLAINT, key_of(p.signalled), 1, now(), origin, None, KEYS.subject(p.signalled))
    async with at.pool.acquire() as conn:
        await signals.note(conn, [told])
    await at.suppress(p.opted_out, "acme#marketing", Reason.OPT_OUT)
    await at.agree(p.stranger, days_ago(300))
    return p


async def test_a_list_is_divided_with_reasons_and_counted(at: Lists) -> None:
    p = await a_campaign(at, "divided")
    job = await at.ready("campaign:divided", reason="0.2 % complained")
    assert job.counts["categories"] == {
        "complained": 2, "opted_out": 1, "dead": 1, "recycled_risk": 1, "consent_unproven": 1, "consent_old": 1,
        "never_engaged": 1, "healthy": 2,
    }  # fmt: skip
    assert job.counts["reasons"]["consent_unproven"] == 2  # the opt-out ended a consent too
    assert (job.people, job.progress()) == (10, ("ready", 10, 10))
    for category, people in {
        Category.COMPLAINED: {p.complained, p.signalled}, Category.OPTED_OUT: {p.opted_out},
        Category.DEAD: {p.dead}, Category.RECYCLED_RISK: {p.revived}, Category.CONSENT_UNPROVEN: {p.unproven},
        Category.CONSENT_OLD: {p.old}, Category.NEVER_ENGAGED: {p.silent}, Category.HEALTHY: {p.fresh, p.replied},
    }.items():  # fmt: skip
        assert set(await at.found(job.id, category)) == set(map(KEYS.subject, people)), category
    async with at.pool.acquire() as conn:
        shown = await cleansing.examples(conn, job.id, 1)
        assert {name: len(found) for name, found in shown.items()} == dict.fromkeys(job.counts["categories"], 1)
        assert shown["dead"] == [KEYS.subject(p.dead).hex()]
        first, second = [
            await cleansing.people(conn, job.id, Category.HEALTHY, after=after, limit=1)
            for after in (None, min(map(KEYS.subject, (p.fresh, p.replied))).hex() + ".acme")
        ]
    assert {first[0].subject, second[0].subject} == {KEYS.subject(p.fresh), KEYS.subject(p.replied)}
    assert await at.events("list") == 1


async def test_the_same_people_are_on_a_list_by_source_sender_and_port(at: Lists) -> None:
    for campaign, sender in (("s1", BOLT), ("s2", BOLT)):
        origin = await at.origin(campaign, sender, list_source=f"from-{campaign}")
        await at.sent(origin, [(KEYS.subject(number()), days_ago(n), DELIVERED, NONE) for n in (1, 40, 170, 182)])
    assert (await at.ready("list_source:from-s1")).people == 3
    assert (await at.ready("sender:bolt")).people == 6
    assert (await at.ready("port:10690004", since_ms=days_ago(30))).people == 2
    assert (await at.ready("port:1069999")).counts["categories"] == {}


async def test_of_a_campaign_of_that_name_only_what_the_scopes_breaker_stops_is_on_the_list(at: Lists) -> None:
    ours, theirs = number(), number()
    for who, sender in ((ours, ACME), (theirs, BOLT)):
        await at.sent(await at.origin("same", sender), [(KEYS.subject(who), days_ago(3), DELIVERED, NONE)])
    for scope, people in (("campaign:acme/same", {ours}), ("campaign:same", {ours, theirs})):
        job = await at.ready(scope)
        assert set(await at.found(job.id, Category.CONSENT_UNPROVEN)) == set(map(KEYS.subject, people))


async def test_what_is_chosen_is_done_and_undone(at: Lists) -> None:
    p = await a_campaign(at, "done")
    people = (p.complained, p.opted_out, p.dead, p.silent, p.fresh)
    before = await at.permitted(*people)
    assert before == [False, False, True, True, True]
    job, cleansed = await at.ready("campaign:done"), await at.events("cleansing")
    assert await at.permitted(*people) == before, "a preview stops nobody"
    assert await at.decide(job.id)
    assert not await at.decide(job.id), "two decisions"
    job = await at.until(job.id, "applied")
    assert job.counts["outcomes"] == {"suppressed": 5, "queued": 2}
    assert await at.permitted(*people) == [False, False, False, False, True]
    assert await at.permitted(p.dead, p.silent, p.fresh, purpose=SHIPPING) == [False, True, True]
    assert await at.events("cleansing") == cleansed + 7
    waiting = await at.pool.fetch("SELECT subject FROM repermissions WHERE cleansing = $1", job.id)
    assert {row["subject"] for row in waiting} == {KEYS.subject(p.old), KEYS.subject(p.silent)}
    # Meanwhile the silent one complains, and the dead one is suppressed by hand for another reason.
    await at.suppress(p.silent, "acme", Reason.COMPLAINT)
    assert await at.undo(job.id)
    job = await at.until(job.id, "undone")
    assert job.counts["outcomes"] == {"suppressed": 2, "lifted": 5}, "who complained stays"
    assert await at.permitted(*people) == [False, False, True, False, True]
    assert await at.permitted(p.signalled) == [False]
    assert not await at.undo(job.id)
    assert await at.pool.fetchval("SELECT count(*) FROM repermissions WHERE cleansing = $1", job.id) == 0
    last = (await at.appender.history(events.SYSTEM))[-1]["data"]
    assert last["counts"]["outcomes"] == job.counts["outcomes"]
    assert (last["act"], last["person"], last["why"]) == ("undone", "Han Meimei", "the wrong list")
    assert last["sha256"] == job.digest


async def test_what_others_set_before_or_since_is_not_lifted(at: Lists) -> None:
    before, since, ours = number(), number(), number()
    origin = await at.origin("others")
    await at.sent(origin, [(KEYS.subject(one), days_ago(3), DELIVERED, NONE) for one in (before, since, ours)])
    for one in (before, since, ours):
        await at.agree(one, days_ago(9))
    await at.suppress(before, "acme#marketing", Reason.MANUAL)
    job = await at.ready("campaign:others")
    assert await at.decide(job.id, {Category.HEALTHY: Choice.SUPPRESS})
    assert (await at.until(job.id, "applied")).counts["outcomes"] == {"suppressed": 2, "stood": 1}
    await at.suppress(since, "acme#marketing", Reason.MANUAL)
    assert await at.undo(job.id)
    assert (await at.until(job.id, "undone")).counts["outcomes"] == {"lifted": 1, "kept": 1, "stood": 1}
    assert await at.permitted(before, since, ours) == [False, False, True]


async def test_what_two_cleansings_want_stands_until_both_are_undone(at: Lists) -> None:
    people, asked = [number() for _ in range(6)], number()
    origin = await at.origin("both")
    await at.sent(origin, [(KEYS.subject(one), days_ago(3), DELIVERED, NONE) for one in (*people, asked)])
    for one in people:
        await at.agree(one, days_ago(9))
    await at.agree(asked, days_ago(300))  # never engaged: waits to be asked again
    first, second, third = [await at.ready("campaign:both") for _ in range(3)]
    for job in (first, second, third):
        assert await at.decide(job.id, {Category.HEALTHY: Choice.SUPPRESS})
    jobs = await asyncio.gather(*(at.until(job.id, "applied", at.working()) for job in (first, second, third)))
    outcomes = Counter[str]()
    for job in jobs:
        outcomes.update(job.counts["outcomes"])
    assert outcomes == {"suppressed": 6, "stood": 12, "queued": 3}
    for job, permitted in ((second, False), (first, False), (third, True)):
        assert await at.undo(job.id)
        await at.until(job.id, "undone")
        assert set(await at.permitted(*people, asked)) == {permitted}, "somebody else's decision stands"
        waiting = await at.pool.fetchval("SELECT count(*) FROM repermissions WHERE subject = $1", KEYS.subject(asked))
        assert waiting == (0 if permitted else 1)


async def test_who_opted_out_meanwhile_is_not_let_go_by_an_undo(at: Lists) -> None:
    left, stayed = number(), number()
    origin = await at.origin("left")
    await at.sent(origin, [(KEYS.subject(one), days_ago(3), DELIVERED, NONE) for one in (left, stayed)])
    for one in (left, stayed):
        await at.agree(one, days_ago(9))
    job = await at.ready("campaign:left")
    assert await at.decide(job.id, {Category.HEALTHY: Choice.SUPPRESS})
    await at.until(job.id, "applied")
    await at.act(left, EventKind.WITHDRAWAL, {"sender": "acme", "cls": "marketing"})
    assert await at.undo(job.id)
    await at.until(job.id, "undone")
    assert await at.permitted(left, stayed) == [False, True]


async def test_after_a_day_nothing_is_undone_and_an_old_division_not_applied(at: Lists) -> None:
    origin = await at.origin("late")
    await at.sent(origin, [(KEYS.subject(number()), days_ago(3), DELIVERED, NONE)])
    job = await at.ready("campaign:late")
    move = (
        "UPDATE cleansings SET ready_at = ready_at - $2::interval, applied_at = applied_at - $2::interval WHERE id = $1"
    )
    assert await at.decide(job.id)
    await at.until(job.id, "applied")
    await at.pool.execute(move, job.id, timedelta(hours=24, seconds=1))
    assert not await at.undo(job.id)
    assert (await at.job(job.id)).state == "applied"

    old = await at.ready("campaign:late")
    await at.pool.execute(move, old.id, timedelta(days=7, seconds=1))
    assert not await at.decide(old.id)
    async with at.pool.acquire() as conn:
        assert await cleansing_people.tend(conn, ready_days=7, kept_days=183) == 1
    assert (await at.job(old.id)).state == "expired"


async def test_a_page_of_a_list_that_nobody_has_counted_costs_a_page(at: Lists) -> None:
    origin = await at.origin("uncounted")
    await at.sent_many(origin, 20_000, days_ago(2), 20_000)
    job = await at.ask("campaign:uncounted")
    await at.until(job.id, "dividing")
    async with at.pool.acquire() as conn, conn.transaction():
        await conn.execute(cleansing_people._IN_ORDER)
        page = await conn.fetch(
            "EXPLAIN (ANALYZE, TIMING OFF) " + cleansing_people._PAGE, job.id, b"", "", None, None, 500
        )
        told = "\n".join(row[0] for row in page)
        assert "Sort" not in told, told
        assert "rows=20000" not in told, told


class Dying:
    """The ledger for a while; then every other append is lost after it was committed, and the rest before."""

    def __init__(self, real: Any, lives: int) -> None:
        self.real, self.lives, self.keys, self.deaths = real, lives, real.keys, 0

    async def append(self, acts: Any) -> Any:
        self.lives -= 1
        if self.lives >= 0:
            return await self.real.append(acts)
        self.deaths += 1
        if self.deaths % 2:
            await self.real.append(acts)
        raise LedgerUnavailable("died")


@pytest.mark.parametrize("act", ["applying", "undoing"])
async def test_a_crash_between_batches_leaves_none_out_and_doubles_none(at: Lists, act: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway.settle.cleansing.acting.PAGE", 40)
    people, origin = subjects(200), await at.origin(f"crash-{act}")
    await at.sent(origin, [(one, days_ago(3), DELIVERED, NONE) for one in people])
    job = await at.ready(f"campaign:crash-{act}")
    assert await at.decide(job.id)  # nobody agreed: all are unproven
    final, kind = ("applied", "cleansing") if act == "applying" else ("undone", "unsuppression")
    if act == "undoing":
        await at.until(job.id, "applied")
        assert await at.undo(job.id)
    before = await at.events(kind)
    for lives in (2, 0, 1, 0, 0):
        dying = Dying(at.appender, lives)
        with pytest.raises(LedgerUnavailable):
            await at.working(dying).once()
        assert (await at.job(job.id)).state == act
        assert not await at.working().once(), "its lease still runs"
        await at.pool.execute("UPDATE cleansings SET leased_until = '-infinity'")
    job = await at.until(job.id, final)
    assert await at.events(kind) == before + 200
    assert job.counts["outcomes"] == ({"suppressed": 200} if act == "applying" else {"lifted": 200})
    standing = await at.pool.fetchval("SELECT count(*) FROM subject_suppressions WHERE subject = ANY($1)", people)
    assert standing == (200 if act == "applying" else 0)


CHILD = """
import asyncio, sys
from cleansing_rig import lists
from gateway.settle.cleansing import acting

async def work():
    acting.PAGE = 100
    async with lists(*sys.argv[1:]) as at:
        await at.working().run(asyncio.Event())

asyncio.run(work())
"""


async def test_a_process_that_is_killed_half_way_neither_doubles_nor_misses_anybody(
    at: Lists, database_url: str, redis_url: str
) -> None:
    n, people = 2_500, subjects(2_500)
    origin = await at.origin("killed")
    await at.sent(origin, [(one, days_ago(3), DELIVERED, NONE) for one in people])
    job = await at.ready("campaign:killed")
    standing = "SELECT count(*) FROM subject_suppressions WHERE subject = ANY($1::bytea[])"
    rows = "SELECT count(*) FROM cleansing_people WHERE cleansing = $1 AND outcome = $2"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for act, state, kind, outcome, left in (
        (at.decide, "applied", "cleansing", cleansing.SUPPRESSED, n),
        (at.undo, "undone", "unsuppression", cleansing.LIFTED, 0),
    ):
        before = await at.events(kind)
        assert await act(job.id)
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, database_url, redis_url, env=env)
        async with asyncio.timeout(60):
            while await at.events(kind) < before + 300:
                assert child.returncode is None
                await asyncio.sleep(0.005)
        child.kill()
        await child.wait()
        done, written = await at.events(kind) - before, await at.pool.fetchval(rows, job.id, outcome)
        assert 0 <= done - written <= 100, "what is in the ledger is at most a page ahead of the rows"
        assert done < n
        await at.pool.execute("UPDATE cleansings SET leased_until = '-infinity' WHERE id = $1", job.id)
        await at.until(job.id, state)
        assert await at.events(kind) == before + n
        assert await at.pool.fetchval(rows, job.id, outcome) == n
        assert await at.pool.fetchval(standing, people) == left


async def test_an_owner_whose_lease_was_taken_over_writes_nothing(at: Lists) -> None:
    origin = await at.origin("lost")
    await at.sent(origin, [(one, days_ago(3), DELIVERED, NONE) for one in subjects(3)])
    job, slow, other = await at.ask("campaign:lost"), at.working(), at.working()
    async with at.pool.acquire() as conn:
        stale = await cleansing_people.take(conn, slow._means.owner)
        assert stale is not None
        await conn.execute("UPDATE cleansings SET leased_until = '-infinity' WHERE id = $1", job.id)
        assert await cleansing_people.take(conn, other._means.owner) is not None
        with pytest.raises(cleansing_people.LeaseLost):
            await cleansing_people.move(conn, stale, slow._means.owner, stale._replace(done=3))
        await cleansing_people.give_back(conn, other._means.owner)
    assert (await at.until(job.id, "ready", other)).people == 3


async def test_a_breaker_that_opens_has_its_list_divided_once(at: Lists) -> None:
    origin = await at.origin("stormy")
    await at.sent(origin, [(one, days_ago(3), DELIVERED, NONE) for one in subjects(3)])
    scopes = ("campaign:stormy", "all", "class:marketing")

    async def open_or_close(*, is_open: bool) -> None:
        async with at.pool.acquire() as conn:
            for scope in scopes:
                await registry.set_breaker(conn, scope, is_open=is_open, by="assent", reason="0.2 %")

    async def jobs() -> list[str]:
        async with at.pool.acquire() as conn:
            return [one.scope for one in await cleansing.listed(conn) if one.asked_by == "assent"]

    await open_or_close(is_open=True)
    work = at.working()
    await asyncio.gather(*(one.once() for one in (work, at.working(), at.working())))
    await open_or_close(is_open=True)  # opened again while open: the same opening
    while await work.once():
        pass
    assert await jobs() == ["campaign:stormy"]
    async with at.pool.acquire() as conn:
        (job,) = await cleansing.listed(conn, scope="campaign:stormy")
    assert (job.state, job.people) == ("ready", 3)
    await open_or_close(is_open=False)
    await open_or_close(is_open=True)
    await at.working().once()
    assert await jobs() == ["campaign:stormy"] * 2
    await open_or_close(is_open=False)


async def test_who_is_erased_is_on_no_list_any_more_and_stays_suppressed(at: Lists) -> None:
    who, other = number(), number()
    origin = await at.origin("a/list")
    await at.sent(origin, [(KEYS.subject(one), days_ago(3), DELIVERED, NONE) for one in (who, other)])
    for one in (who, other):
        await at.agree(one, days_ago(300))
    job = await at.ready("campaign:a/list")
    assert await at.decide(job.id)
    await at.until(job.id, "applied")
    await Personal(at.pool).forget(KEYS.subject(who))
    assert await at.found(job.id, Category.NEVER_ENGAGED) == [KEYS.subject(other)]
    left = "SELECT subject FROM repermissions WHERE cleansing = $1"
    assert [row["subject"] for row in await at.pool.fetch(left, job.id)] == [KEYS.subject(other)]
    assert await at.undo(job.id)
    await at.until(job.id, "undone")
    assert await at.permitted(who, other) == [False, True]


async def test_an_operator_cleanses_by_typing(at: Lists, database_url: str, redis_url: str) -> None:
    p = await a_campaign(at, "typed")
    env = {"ASSENT_DATABASE_URL": database_url, "ASSENT_REDIS_URL": redis_url, "COLUMNS": "120"}
    who = ("--by", "Li Lei", "--reason", "complaints")

    async def typed(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["cleanse", *words], env=env)
        return done.exit_code, done.output

    stop = asyncio.Event()
    running = asyncio.create_task(at.working().run(stop))
    try:
        status, said = await typed("campaign:typed", *who)
        assert status == 0, said
        assert re.search(r"never_engaged .* 1 .* repermission", said)
        name = re.findall(r"cleansing ([0-9a-f-]{36}) of campaign:typed", said)[0]
        assert (await typed("campaign:", *who))[0] == 1
        status, said = await typed("apply", name, "--repermission", "dead", "--yes", *who)
        assert (status, "people of dead are not asked again" in said) == (1, True), said
        status, said = await typed("apply", name, "--leave", "never_engaged", "--yes", *who)
        assert (status, "5 suppressed, 1 queued" in said) == (0, True), said
        assert await at.permitted(p.dead, p.silent) == [False, True]
        assert (await typed("apply", name, "--yes", *who))[0] == 1
        status, said = await typed("undo", name, *who)
        assert (status, "4 lifted" in said) == (0, True), said
        assert (await typed("show", name))[0] == 0
    finally:
        stop.set()
        await running
    assert await at.permitted(p.dead, p.complained) == [True, False]


@pytest.mark.timeout(1_900 if os.environ.get("ASSENT_LONG") else 240)  # others may use the machine
async def test_a_long_list_is_divided_in_bounded_memory(at: Lists) -> None:
    origin, n = await at.origin("long"), 1_000_000 if os.environ.get("ASSENT_LONG") else 100_000
    await at.sent_many(origin, n, days_ago(2))
    job, work, process = await at.ask("campaign:long"), at.working(), psutil.Process()
    began = now()
    await at.until(job.id, "dividing", work)
    gathered_s = (now() - began) / 1000
    gc.collect()
    base, began, used = process.memory_info().rss, now(), process.cpu_times().user
    dividing, most = asyncio.create_task(at.until(job.id, "ready", work)), 0
    while not dividing.done():
        await asyncio.sleep(0.02)
        most = max(most, process.memory_info().rss)
    job = await dividing
    divided_s, used = (now() - began) / 1000, process.cpu_times().user - used
    print(f"gathered {n:,} in {gathered_s:.1f} s, divided in {divided_s:.1f} s with {used:.1f} s of CPU here")
    print(f"{(most - base) / 1e6:.1f} MB more at most")
    assert (job.state, job.counts["categories"]) == ("ready", {"consent_unproven": n})
    assert most - base < 40e6
