"""What a rebuild puts back after a flush: as if nothing had been lost, however often it is repeated."""

import itertools
import os
import time
from collections.abc import AsyncIterator

import pytest

from gateway.contract.codes import Code
from gateway.contract.ids import lane_of, new_id
from gateway.guard import Ask, Binding, Claim, Guard, Mode, Outcome, Rebound, Restored, Stamps, VoidAsk, keys
from gateway.guard.restoring import Fields
from tests.integration.guard_asks import DAY, HOUR, SEQ, a_claim, a_customer, a_plan, an_ask, back, permissive, window

pytestmark = pytest.mark.integration

PLAN = a_plan(window(2, HOUR), window(5, 365 * DAY, "Y"), same_text_ms=30_000)


NOW = time.time_ns() // 1_000_000


@pytest.fixture
async def guard(redis_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(redis_url)
    await made.server.command("FLUSHDB")
    await made.set_cursors(SEQ)
    yield made
    await made.close()


def restored(ask: Ask, stamp_ms: int, offset: int = 1, **changes: object) -> Restored:
    """As its topic has it, admitted on the plan's relationship."""
    one = Restored(ask.id, ask.subject, "taken", 1, stamp_ms, 0, offset, Fields.of(ask.plan), 4, -1, ask.text_hash)
    return one._replace(answer=b"answer")._replace(**changes)  # type: ignore[arg-type]


async def test_a_flush_forgets_nothing_that_is_put_back(guard: Guard) -> None:
    subject = await a_customer(guard)
    asks = [an_ask(subject, PLAN, bound=True) for _ in range(2)]
    stamps = [v.stamp_ms for v in await guard.admit(asks, SEQ)]
    await guard.claim([a_claim(asks[0], 1)], SEQ)
    name = keys.WINDOWS[subject[0]] + subject
    fields = ("T/acme", "Y", "x")
    before = await guard.server.command("HMGET", name, *fields)
    views = [await guard.record(ask.id) for ask in asks]
    await guard.server.command("FLUSHDB")
    await guard.apply([(subject, permissive())])
    items = [restored(asks[0], stamps[0]), restored(asks[1], stamps[1], 0, state="reserved")]
    assert await guard.restore(items) == [True, True]
    once = await guard.server.command("HMGET", name, *fields)
    assert await guard.restore(items[::-1]) == [False, False]
    assert await guard.server.command("HMGET", name, *fields) == once
    await guard.set_cursors(SEQ)
    assert sorted(await guard.server.command("HMGET", name, *fields)) == sorted(before)
    assert [await guard.record(ask.id) for ask in asks] == views
    assert await guard.server.command("PTTL", name) > 365 * DAY
    (full, replay) = await guard.admit([an_ask(subject, PLAN), asks[0]], SEQ)
    assert (full.code, replay.state, replay.entry, replay.answer) == (Code.WINDOW_EXCEEDED, "taken", 4, b"answer")
    claims = [a_claim(asks[0], 1), a_claim(asks[0], 9), a_claim(asks[1], 2)]
    assert [c.kind for c in await guard.claim(claims, SEQ)] == [Outcome.GO, Outcome.DROP, Outcome.GO]
    assert await guard.refund([back(ask) for ask in asks]) == [True, True]
    assert await guard.server.command("HMGET", name, *fields) == [None, None, None]


async def test_a_held_message_consumed_nothing(guard: Guard) -> None:
    ask = an_ask(await a_customer(guard), PLAN)
    assert await guard.restore([restored(ask, 0, state="held", fields=None, text_hash=None)]) == [True]
    assert await guard.server.command("EXISTS", keys.WINDOWS[ask.subject[0]] + ask.subject) == 0
    verdict = (await guard.admit([ask._replace(mode=Mode.RELEASE)], SEQ))[0]
    assert (verdict.state, verdict.replay) == ("reserved", False)


async def test_stamps_are_there_as_often_as_they_were(guard: Guard) -> None:
    subject = await a_customer(guard)
    now = (await guard.admit([an_ask(subject, PLAN)], SEQ))[0].stamp_ms
    given = Stamps(subject, "Y", [now - 9 * DAY, now - 8 * DAY, now - 8 * DAY, now], 365 * DAY)
    assert await guard.restore_stamps([given]) == [True]
    assert await guard.restore_stamps([given]) == [False]
    log = await guard.server.command("HGET", keys.WINDOWS[subject[0]] + subject, "Y")
    assert [int.from_bytes(log[at : at + 6], "big") for at in range(0, len(log), 6)] == list(given.stamps_ms)
    codes = [v.code for v in await guard.admit([an_ask(subject, PLAN) for _ in range(2)], SEQ)]
    assert codes == [None, Code.WINDOW_EXCEEDED]


def bare(**changes: object) -> Restored:
    subject = os.urandom(16)
    one = Restored(new_id(lane_of(subject)), subject, "reserved", 1, NOW, 0, 0, Fields.of(a_plan(window(2, HOUR))))
    return one._replace(**changes)  # type: ignore[arg-type]


STEPS = [
    {"state": "held", "stamp_ms": 0, "fields": None},
    {"state": "reserved"},
    {"state": "taken", "offset": 9},
    {"state": "done", "offset": 9},
    {"state": "reserved", "attempt": 2},
    {"state": "taken", "attempt": 2, "offset": 12},
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(6), 3)))
async def test_in_any_order_the_one_further_on_stays(guard: Guard, order: tuple[int, ...]) -> None:
    one = bare(bound=True, answer=b"answer")
    for step in order:
        await guard.restore([one._replace(**STEPS[step])])  # type: ignore[arg-type]
    view, last = await guard.record(one.id), STEPS[max(order)]
    assert view is not None
    assert (view.state, view.attempt, view.offset) == (last["state"], last.get("attempt", 1), last.get("offset", 0))
    assert view.answer == b"answer"
    log = await guard.server.command("HGET", keys.WINDOWS[one.subject[0]] + one.subject, "T/acme")
    assert log == NOW.to_bytes(6, "big")


async def test_who_voided_it_meanwhile_is_right(guard: Guard) -> None:
    """The edge gave a publish up, the record was gone, and then the message landed."""
    one = bare()
    assert await guard.void([VoidAsk(one.id, one.subject)], Code.UNAVAILABLE) == ["absent"]
    assert await guard.restore([one]) == [False]
    view = await guard.record(one.id)
    assert view is not None
    assert (view.state, view.code) == ("void", Code.UNAVAILABLE)
    assert await guard.server.command("EXISTS", keys.WINDOWS[one.subject[0]] + one.subject) == 0
    claim = Claim(one.id, 1, one.subject, PLAN, 0, 1)
    assert [c.kind for c in await guard.claim([claim], SEQ)] == [Outcome.DROP]


async def test_a_refund_stands(guard: Guard) -> None:
    one = bare(state="taken", offset=3)
    await guard.restore([one])
    assert await guard.refund([VoidAsk(one.id, one.subject)]) == [True]
    await guard.restore([one, one._replace(state="done")])
    assert await guard.server.command("HGET", keys.WINDOWS[one.subject[0]] + one.subject, "T/acme") is None
    view = await guard.record(one.id)
    assert view is not None
    assert (view.state, view.refunded) == ("done", True)


async def test_one_admitted_again_is_not_taken_for_its_first(guard: Guard) -> None:
    """Voided, landed, admitted again under its key: its second record must be claimed, wherever the first one stood."""
    one = bare(state="taken", offset=3)
    again = one._replace(state="reserved", offset=0, stamp_ms=NOW + 9)
    await guard.restore([one, again])
    await guard.restore([again, one])
    view = await guard.record(one.id)
    assert view is not None
    assert (view.state, view.stamp_ms) == ("reserved", NOW + 9)


async def test_a_message_too_old_for_a_record_counts_and_ends_its_hold(guard: Guard) -> None:
    held = bare(state="held", stamp_ms=0, fields=None)
    old = held._replace(state="done", stamp_ms=NOW - 5, fields=bare().fields, record_ttl_ms=0)
    await guard.restore([held])
    assert await guard.restore([old, old]) == [True, False]
    assert await guard.record(held.id) is None
    name = keys.WINDOWS[held.subject[0]] + held.subject
    assert await guard.server.command("HGET", name, "T/acme") == (NOW - 5).to_bytes(6, "big")


async def test_two_of_one_millisecond_count_twice_and_a_log_stays_bounded(guard: Guard) -> None:
    one = bare(stamp_ms=NOW)
    twin = one._replace(id=new_id(lane_of(one.subject)))
    for _ in range(3):
        await guard.restore([one, twin])
    name = keys.WINDOWS[one.subject[0]] + one.subject
    assert await guard.server.command("HGET", name, "T/acme") == NOW.to_bytes(6, "big") * 2
    many = [one._replace(id=new_id(lane_of(one.subject)), stamp_ms=NOW + 100 + n) for n in range(200)]
    await guard.restore(many[::-1])
    await guard.restore(many[:150])
    log = await guard.server.command("HGET", name, "T/acme")
    assert [int.from_bytes(log[at : at + 6], "big") for at in range(0, len(log), 6)] == [*range(NOW + 236, NOW + 300)]


async def test_bindings_belong_to_the_younger_id_and_wait_for_their_lane(guard: Guard) -> None:
    digest, print_ = os.urandom(16), b"p" * 16
    elder, younger = new_id(1, 1000), new_id(1, 2000)
    for one in (elder, younger, elder):
        await guard.rebind([Rebound(digest, keys.raw_id(one) + print_, 60_000)])
    assert (await guard.bind([Binding(digest, new_id(1), print_)]))[0][:4] == (younger, False, False, False)
    other = Binding(bytes([digest[0]]) + os.urandom(15), new_id(1), print_)
    await guard.server.command("SET", keys.CURSOR[digest[0] & 15], -5)
    assert (await guard.bind([other]))[0].cold
    await guard.set_cursors(SEQ)
    assert (await guard.bind([other]))[0].fresh


async def test_a_retry_whose_requeue_was_lost_is_released(guard: Guard) -> None:
    """Record says taken(1): the call that made it reserved(2) found nothing. Else its row would be dropped, unsent."""
    subject = await a_customer(guard)
    ask = an_ask(subject, PLAN)
    stamp = (await guard.admit([ask], SEQ))[0].stamp_ms
    await guard.claim([a_claim(ask, 3)], SEQ)
    (verdict,) = await guard.admit([ask._replace(mode=Mode.RELEASE, attempt=2)], SEQ)
    assert (verdict.code, verdict.replay) == (None, False)
    view = await guard.record(ask.id)
    assert view is not None
    assert (view.state, view.attempt, view.stamp_ms) == ("reserved", 2, stamp)
    assert [c.kind for c in await guard.claim([a_claim(ask, 9, attempt=2)], SEQ)] == [Outcome.GO]
    await guard.done([ask.id])
    (late,) = await guard.admit([ask._replace(mode=Mode.RELEASE, attempt=3)], SEQ)
    assert (late.replay, late.state) == (True, "done")


async def test_on_a_cluster_each_lane_is_put_back_where_it_lives(cluster_url: str) -> None:
    guard = await Guard.connect(cluster_url, timeout_s=5)
    try:
        items = [bare(bound=True, answer=b"answer") for _ in range(300)]
        digests = [os.urandom(16) for _ in items]
        value = [keys.raw_id(item.id) + b"p" * 16 for item in items]
        for _ in range(2):
            await guard.restore(items)
            await guard.rebind([Rebound(*one, 60_000) for one in zip(digests, value, strict=True)])
        views = [await guard.record(item.id) for item in items]
        assert {view and (view.state, view.answer) for view in views} == {("reserved", b"answer")}
        await guard.set_cursors(SEQ)
        bound = await guard.bind([Binding(digest, new_id(1), b"p" * 16) for digest in digests])
        assert [one.id for one in bound] == [item.id for item in items]
        stamps = [Stamps(item.subject, "Y", [NOW - DAY], 365 * DAY) for item in items]
        assert await guard.restore_stamps(stamps) == [True] * 300
    finally:
        await guard.close()
