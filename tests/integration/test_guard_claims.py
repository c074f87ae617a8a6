"""The last look before the wire, and the projection beside it: each state a claim can meet, fences, seq, cold lanes."""

import time
from collections.abc import AsyncIterator

import pytest

from gateway.contract.codes import Code
from gateway.contract.consent import State, Suppression
from gateway.contract.decision import Basis, Reason
from gateway.contract.ids import new_id
from gateway.guard import Ask, Attempt, Claimed, Guard, Mode, Outcome, Review, keys, person
from tests.integration.guard_asks import (
    HOUR,
    SEQ,
    a_claim,
    a_customer,
    a_plan,
    a_subject,
    an_ask,
    back,
    permissive,
    window,
)

pytestmark = pytest.mark.integration

GO, DROP, REFUSED, COLD = Outcome.GO, Outcome.DROP, Outcome.REFUSED, Outcome.COLD
PLAN = a_plan(window(2, HOUR), same_text_ms=30_000)
OPTED_OUT = {"acme": [Suppression(reason=Reason.OPT_OUT, at=1, entry=6)]}


@pytest.fixture(scope="module")
async def guard(redis_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(redis_url)
    await made.set_cursors(SEQ)
    yield made
    await made.close()


async def reserved(guard: Guard, mode: Mode = Mode.ADMIT) -> Ask:
    ask = an_ask(await a_customer(guard), PLAN, mode=mode, bound=True)
    assert (await guard.admit([ask], SEQ))[0].code is None
    return ask


async def claimed(guard: Guard, ask: Ask, offset: int = 1, attempt: int = 1, partition: int = 0) -> Outcome:
    return (await guard.claim([a_claim(ask, offset, attempt, partition)], SEQ))[0].kind


async def test_one_of_two_copies_goes(guard: Guard) -> None:
    ask = await reserved(guard)
    both = [a_claim(ask, 7), a_claim(ask, 8), a_claim(ask, 7)]
    assert [c.kind for c in await guard.claim(both, SEQ)] == [GO, DROP, GO]
    assert await claimed(guard, ask, 7, partition=1) is DROP
    view = await guard.record(ask.id)
    assert view is not None
    assert (view.state, view.attempt, view.partition, view.offset, view.entry) == ("taken", 1, 0, 7, 4)
    assert (view.fields, view.answer, view.bound) == (("T/acme",), b"answer", True)


async def test_done_and_void_drop(guard: Guard) -> None:
    one, two = await reserved(guard), await reserved(guard)
    assert await claimed(guard, one) is GO
    assert await guard.done([one.id, two.id]) == [True, False]
    assert await guard.void([back(one), back(two)], Code.UNAVAILABLE) == ["done", "void"]
    assert [await claimed(guard, ask) for ask in (one, two)] == [DROP, DROP]


async def test_a_held_message_that_was_published_goes(guard: Guard) -> None:
    """A failover lost the release's write; the published copy proves the release."""
    assert await claimed(guard, await reserved(guard, Mode.HOLD)) is GO


async def test_a_retry_is_no_copy(guard: Guard) -> None:
    ask = await reserved(guard)
    assert await claimed(guard, ask, 1) is GO
    assert await guard.requeue([Attempt(ask.id, 2), Attempt(ask.id, 1), Attempt(ask.id, 1)]) == [False, True, False]
    assert await claimed(guard, ask, 1) is DROP
    assert await claimed(guard, ask, 5, attempt=2) is GO
    assert await claimed(guard, ask, 6, attempt=2) is DROP
    assert await guard.requeue([Attempt(ask.id, 2)]) == [True]
    view = await guard.record(ask.id)
    assert view is not None
    assert (view.attempt, view.fields) == (3, ("T/acme",))


async def test_a_retrys_release_checks_again_and_consumes_nothing(guard: Guard) -> None:
    ask = await reserved(guard)
    assert (await guard.admit([an_ask(ask.subject, PLAN)], SEQ))[0].code is None
    await claimed(guard, ask)
    await guard.requeue([Attempt(ask.id, 1)])
    again = ask._replace(mode=Mode.RELEASE, attempt=2)
    (verdict,) = await guard.admit([again], SEQ)
    assert (verdict.code, verdict.state, verdict.replay) == (None, "reserved", False)
    (early,) = await guard.admit([again._replace(attempt=1)], SEQ)
    assert early.replay
    await guard.apply([(ask.subject, permissive(6).model_copy(update={"suppressions": OPTED_OUT}))])
    assert (await guard.admit([again], SEQ))[0].code is Code.SUPPRESSED
    assert await guard.void([back(ask)], Code.SUPPRESSED) == ["void"]
    await guard.apply([(ask.subject, permissive(7))])
    codes = [v.code for v in await guard.admit([an_ask(ask.subject, PLAN) for _ in range(2)], SEQ)]
    assert codes == [None, Code.WINDOW_EXCEEDED]


async def test_a_retry_goes_although_a_failover_lost_its_requeue(guard: Guard) -> None:
    ask = await reserved(guard)
    assert await claimed(guard, ask, 1) is GO
    assert await claimed(guard, ask, 9, attempt=2) is GO


async def test_unwritten_goes_again(guard: Guard) -> None:
    ask = await reserved(guard)
    await claimed(guard, ask, 3)
    assert await guard.unwritten([ask.id, ask.id]) == [True, False]
    assert await guard.review([Attempt(ask.id, 1)]) == [Review.UNWRITTEN]
    assert await claimed(guard, ask, 3) is GO
    assert await guard.review([Attempt(ask.id, 1), Attempt(new_id(3), 1)]) == [Review.OTHER, Review.ABSENT]
    assert await guard.done([ask.id]) == [True]
    assert await guard.review([Attempt(ask.id, 1)]) == [Review.DONE]


async def test_unwritten_may_be_done(guard: Guard) -> None:
    """A message that expired on the way back is reported without being written."""
    ask = await reserved(guard)
    await claimed(guard, ask)
    await guard.unwritten([ask.id])
    assert await guard.done([ask.id]) == [True]
    assert await claimed(guard, ask) is DROP


@pytest.mark.parametrize("first_taken", [False, True])
async def test_an_opt_out_refuses_and_gives_back(guard: Guard, first_taken: bool) -> None:
    ask = await reserved(guard)
    if first_taken:  # the process died before it committed, and the person opted out meanwhile
        assert await claimed(guard, ask) is GO
    await guard.apply([(ask.subject, permissive(6).model_copy(update={"suppressions": OPTED_OUT}))])
    (refused,) = await guard.claim([a_claim(ask)], SEQ)
    assert refused == Claimed(REFUSED, Code.SUPPRESSED)
    view = await guard.record(ask.id)
    assert view is not None
    assert (view.state, view.code, view.refunded, view.answer) == ("void", "suppressed", True, b"answer")
    assert await claimed(guard, ask) is DROP
    assert await guard.review([Attempt(ask.id, 1)]) == [Review.VOID]
    assert await guard.refund([back(ask)]) == [False]
    await guard.apply([(ask.subject, permissive(7))])
    codes = [v.code for v in await guard.admit([an_ask(ask.subject, PLAN, text_hash=ask.text_hash)], SEQ)]
    assert codes == [None]
    assert (await guard.admit([an_ask(ask.subject, PLAN)], SEQ))[0].code is None
    assert (await guard.admit([an_ask(ask.subject, PLAN)], SEQ))[0].code is Code.WINDOW_EXCEEDED


async def test_an_ended_relationship_and_a_block_refuse(guard: Guard) -> None:
    one, two = await reserved(guard), await reserved(guard)
    await guard.apply([(one.subject, State(seq=6))])
    await guard.block(two.subject, ["acme"])
    got = await guard.claim([a_claim(one), a_claim(two)], SEQ)
    assert [c.code for c in got] == [Code.RELATIONSHIP_MISSING, Code.SUPPRESSED]


async def test_a_used_request_is_the_messages_own(guard: Guard) -> None:
    subject = await a_customer(guard)
    ask = an_ask(subject, a_plan(basis=Basis.REQUEST, relationships=()), request=subject, request_ttl_ms=HOUR)
    assert (await guard.admit([ask], SEQ))[0].code is None
    assert await claimed(guard, ask) is GO


async def test_nothing_known_goes_only_with_permission(guard: Guard) -> None:
    known, stranger = an_ask(await a_customer(guard), PLAN), an_ask(a_subject(), PLAN)
    got = await guard.claim([a_claim(known), a_claim(stranger)], SEQ)
    assert [(c.kind, c.code) for c in got] == [(GO, None), (REFUSED, Code.RELATIONSHIP_MISSING)]
    assert await claimed(guard, known, 2) is DROP
    assert await guard.server.command("PTTL", keys.record(keys.raw_id(known.id))) > 23 * HOUR


async def test_a_claim_leaves_a_fence_that_stops_the_acknowledgement(guard: Guard) -> None:
    ask = await reserved(guard)
    assert await guard.apply([(ask.subject, permissive(6))]) == [0]
    before = time.time_ns() // 1_000_000
    assert await claimed(guard, ask) is GO
    after = time.time_ns() // 1_000_000
    (fence,) = await guard.apply([(ask.subject, permissive(7))], blocking=True)
    assert before + 1000 <= fence <= after + 1000
    assert await guard.block(ask.subject, ["acme"]) == fence
    assert await guard.apply([(ask.subject, permissive(3)), (a_subject(), permissive())]) == [fence, 0]


# --- the projection ------------------------------------------------------------------------------------------------


async def test_only_newer_states_are_written(guard: Guard) -> None:
    subject = a_subject()
    name = keys.PERSON[subject[0]] + subject
    await guard.apply([(subject, permissive(9)), (subject, State(seq=8)), (subject, State(seq=9))])
    assert len(await guard.server.command("GET", name)) > 5
    await guard.apply([(subject, State(seq=10)), (subject, permissive(9))])
    assert await guard.server.command("GET", name) == bytes([0, 0, 0, 0, 10])
    assert await guard.server.command("PTTL", name) == -1


@pytest.mark.parametrize("kind", ["standalone", "cluster"])
async def test_filling_writes_what_is_missing_or_older_and_nothing_else(
    redis_url: str, cluster_url: str, kind: str
) -> None:
    guard = await Guard.connect(redis_url if kind == "standalone" else cluster_url)
    newcomers, known = [a_subject() for _ in range(3000)], [a_subject() for _ in range(300)]
    old, new, newest = (person.encode(permissive(seq)) for seq in (8, 9, 10))

    async def held(subjects: list[bytes]) -> set[bytes]:
        return {await guard.server.command("GET", keys.PERSON[subject[0]] + subject) for subject in subjects}

    await guard.fill([(subject, new) for subject in newcomers])
    assert await held(newcomers) == {new}
    await guard.apply_encoded([(subject, (old, newest)[at % 2]) for at, subject in enumerate(known)])
    late = [a_subject() for _ in range(300)]
    await guard.fill([pair for one, other in zip(known, late, strict=True) for pair in ((one, new), (other, new))])
    assert (await held(known[::2]), await held(known[1::2]), await held(late)) == ({new}, {newest}, {new})
    assert await guard.server.command("PTTL", keys.PERSON[late[0][0]] + late[0]) == -1
    await guard.fill([])
    await guard.close()


async def test_an_event_does_not_touch_blocks_windows_and_records(guard: Guard) -> None:
    ask = await reserved(guard)
    first = ask.subject[0]
    names = [keys.WINDOWS[first] + ask.subject, keys.BLOCK[first] + ask.subject, keys.record(keys.raw_id(ask.id))]
    await guard.block(ask.subject, ["acme"])
    before = [await guard.server.command("DUMP", name) for name in names]
    await guard.apply([(ask.subject, State(seq=6))])
    assert [await guard.server.command("DUMP", name) for name in names] == before


async def test_a_lane_behind_is_cold(guard: Guard) -> None:
    cold, warm = an_ask(await a_customer(guard, 2), PLAN), an_ask(await a_customer(guard, 3), PLAN)
    try:
        await guard.set_cursors(9)
        await guard.set_cursors(8, [2])
        assert [v.code for v in await guard.admit([cold, warm], 9)] == [Code.CACHE_COLD, None]
        assert [c.kind for c in await guard.claim([a_claim(cold), a_claim(warm)], 9)] == [COLD, GO]
        assert (await guard.cursors())[1:4] == [9, 8, 9]
        await guard.server.command("DEL", keys.CURSOR[2])
        assert [v.code for v in await guard.admit([cold], 0)] == [Code.CACHE_COLD]
        assert (await guard.cursors())[2] is None
    finally:
        await guard.set_cursors(SEQ)


async def test_a_flush_is_cold_at_once(guard: Guard) -> None:
    ask = await reserved(guard)
    await guard.server.command("FLUSHDB")
    await guard.server.command("SCRIPT", "FLUSH")
    assert (await guard.admit([ask], SEQ))[0].code is Code.CACHE_COLD
    assert await guard.claim([a_claim(ask)], SEQ) == [Claimed(COLD, Code.CACHE_COLD)]
    await guard.set_cursors(SEQ)
    assert (await guard.admit([ask], SEQ))[0].code is Code.RELATIONSHIP_MISSING


async def test_unknown_scripts_are_loaded(guard: Guard) -> None:
    subject = await a_customer(guard)
    asks = [an_ask(subject, a_plan(window(1, HOUR))) for _ in range(2)]
    await guard.server.command("SCRIPT", "FLUSH")
    assert [v.code for v in await guard.admit(asks, SEQ)] == [None, Code.WINDOW_EXCEEDED]
    await guard.server.command("SCRIPT", "FLUSH")
    assert await guard.apply([(subject, permissive(6))], blocking=True) == [0]
