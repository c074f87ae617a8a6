"""What a rebuild puts back after a flush: as if nothing had been lost, however often it is repeated."""

from collections.abc import AsyncIterator

import pytest

from gateway.contract.codes import Code
from gateway.guard import Ask, Guard, Mode, Outcome, Restored, Stamps, keys
from gateway.guard.restoring import Fields
from tests.integration.guard_asks import DAY, HOUR, SEQ, a_claim, a_customer, a_plan, an_ask, back, permissive, window

pytestmark = pytest.mark.integration

PLAN = a_plan(window(2, HOUR), window(5, 365 * DAY, "Y"), same_text_ms=30_000)


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
