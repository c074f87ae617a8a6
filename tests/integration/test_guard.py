"""Admission on a real server: bindings, modes, all-or-nothing, concurrency, checks, time."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from gateway.contract.codes import Code
from gateway.contract.consent import Consent, Preference, State, Suppression
from gateway.contract.decision import Basis, Class, Reason
from gateway.contract.ids import lane_of, new_id
from gateway.guard import Ask, Binding, Guard, Mode, keys
from tests.integration.guard_asks import (
    DAY,
    HOUR,
    MINUTE,
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

MIDNIGHT = 25_000 * DAY
"""A midnight far enough ahead that nothing expires in the server's own time."""


@pytest.fixture(scope="module")
async def guard(redis_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(redis_url)
    await made.set_cursors(SEQ)
    yield made
    await made.close()


@pytest.fixture
async def clock(guard: Guard) -> AsyncIterator[Guard]:
    """The guard, whose clock the test sets."""
    yield guard
    guard.now_ms = 0


async def admitted(guard: Guard, *asks: Ask) -> list[str]:
    return [v.code.value if v.code else v.state for v in await guard.admit(asks, SEQ)]


def at(ask: Ask, now_ms: int) -> Ask:
    day = now_ms // DAY * DAY
    return ask._replace(midnights=(day - DAY, day, day + DAY))


# --- idempotency keys ----------------------------------------------------------------------------------------------


async def test_the_first_binding_wins(guard: Guard) -> None:
    key, other = os.urandom(16), os.urandom(16)
    one = Binding(key, new_id(1), b"f" * 16)
    two = Binding(key, new_id(2), b"f" * 16)
    three = Binding(key, new_id(3), b"g" * 16)
    four = Binding(other, new_id(4), b"f" * 16)
    got = await guard.bind([one, two, three, four])
    assert [(b.id, b.fresh, b.conflict) for b in got] == [
        (one.id, True, False),
        (one.id, False, False),
        (one.id, False, True),
        (four.id, True, False),
    ]
    ttl = await guard.server.command("PTTL", keys.BINDING[key[0]] + key)
    assert DAY - MINUTE < ttl <= DAY
    await guard.unbind([two, three])  # neither stands
    assert not (await guard.bind([two]))[0].fresh
    await guard.unbind([one])
    (again,) = await guard.bind([two])
    assert not again.fresh  # it was bound again since: whoever did so may have been admitted
    await guard.unbind([one._replace(repeats=again.repeats)])
    assert (await guard.bind([two]))[0].fresh


# --- admission -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 64])
async def test_64_callers_at_once_get_exactly_what_fits(guard: Guard, limit: int) -> None:
    subject, plan = await a_customer(guard), a_plan(window(limit, HOUR), window(64, DAY, "D"))
    answers = await asyncio.gather(*(admitted(guard, *(an_ask(subject, plan) for _ in range(3))) for _ in range(64)))
    codes = [code for answer in answers for code in answer]
    assert codes.count("reserved") == limit
    assert codes.count("window.exceeded") == 192 - limit


async def test_a_refused_message_consumes_nothing(guard: Guard) -> None:
    subject = await a_customer(guard)
    narrow, wide = a_plan(window(1, HOUR, "N"), window(9, HOUR, "W")), a_plan(window(2, HOUR, "W"))
    batch = [an_ask(subject, plan) for plan in (narrow, narrow, narrow, wide, wide)]
    full = "window.exceeded"
    assert await admitted(guard, *batch) == ["reserved", full, full, "reserved", full]
    assert [await guard.record(ask.id) is not None for ask in batch] == [True, False, False, True, False]


async def test_more_than_64_keep_their_order(guard: Guard) -> None:
    subjects = [await a_customer(guard, lane % 16) for lane in range(4)]
    plan = a_plan(window(20, HOUR))
    asks = [an_ask(subjects[n % 4], plan) for n in range(200)]
    verdicts = await guard.admit(asks, SEQ)
    for subject in subjects:
        codes = [v.code for v, ask in zip(verdicts, asks, strict=True) if ask.subject == subject]
        assert codes == [None] * 20 + [Code.WINDOW_EXCEEDED] * 30


async def test_the_same_id_again_replays(guard: Guard) -> None:
    subject, plan = await a_customer(guard), a_plan(window(1, HOUR))
    ask = an_ask(subject, plan, bound=True)
    first, again = await guard.admit([ask, ask._replace(answer=b"other")], SEQ)
    assert (first.replay, again.replay, again.answer, again.state) == (False, True, b"answer", "reserved")
    assert (again.entry, again.basis_key, again.stamp_ms) == (4, "acme/order", first.stamp_ms)
    assert (await guard.claim([a_claim(ask)], SEQ))[0].kind == "go"
    assert (await guard.done([ask.id])) == [True]
    replayed = (await guard.admit([ask], SEQ))[0]
    assert (replayed.state, replayed.answer) == ("done", b"answer")
    assert await guard.server.command("PTTL", keys.record(keys.raw_id(ask.id))) > 23 * HOUR


async def test_an_unbound_record_is_short_lived_once_done(guard: Guard) -> None:
    ask = an_ask(await a_customer(guard), a_plan())
    assert await admitted(guard, ask) == ["reserved"]
    await guard.claim([a_claim(ask)], SEQ)
    await guard.done([ask.id])
    assert 0 < await guard.server.command("PTTL", keys.record(keys.raw_id(ask.id))) <= HOUR


async def test_a_hold_consumes_at_release(guard: Guard) -> None:
    subject, plan = await a_customer(guard), a_plan(window(1, HOUR))
    held, other = an_ask(subject, plan, mode=Mode.HOLD), an_ask(subject, plan)
    assert await admitted(guard, held, held, other) == ["held", "held", "reserved"]
    release = held._replace(mode=Mode.RELEASE)
    assert await admitted(guard, release) == ["window.exceeded"]
    assert await guard.void([back(other)], Code.UNAVAILABLE) == ["void"]
    verdicts = [(await guard.admit([release], SEQ))[0] for _ in range(2)]
    assert [(v.state, v.replay) for v in verdicts] == [("reserved", False), ("reserved", True)]
    view = await guard.record(held.id)
    assert view is not None
    assert view.fields == ("T/acme",)


async def test_a_cancelled_hold_is_not_released(guard: Guard) -> None:
    held = an_ask(await a_customer(guard), a_plan(), mode=Mode.HOLD)
    assert await admitted(guard, held) == ["held"]
    assert await guard.void([back(held)], Code.SUPPRESSED) == ["void"]
    verdict = (await guard.admit([held._replace(mode=Mode.RELEASE)], SEQ))[0]
    assert (verdict.state, verdict.replay, verdict.answer) == ("void", True, b"answer")


async def test_void_gives_back_once_and_admits_again(guard: Guard) -> None:
    subject = await a_customer(guard)
    plan = a_plan(window(2, HOUR), same_text_ms=30_000)
    one, two = (an_ask(subject, plan, text_hash=b"t" * 8, bound=True) for _ in range(2))
    assert await admitted(guard, one, two) == ["reserved", "window.exceeded"]
    assert await guard.void([back(one), back(one), back(two)], Code.UNAVAILABLE) == ["void", "void", "absent"]
    assert await guard.refund([back(one)]) == [False]
    assert await admitted(guard, one, two) == ["reserved", "window.exceeded"]
    third = an_ask(subject, plan)
    assert await admitted(guard, third, an_ask(subject, plan)) == ["reserved", "window.exceeded"]
    assert await guard.refund([back(third), back(third)]) == [True, False]


async def test_a_request_serves_one_message(guard: Guard) -> None:
    subject = await a_customer(guard)
    plan = a_plan(basis=Basis.REQUEST, relationships=())
    request = subject[:1] + os.urandom(15)
    asks = [an_ask(subject, plan, request=request, request_ttl_ms=MINUTE, bound=True) for _ in range(2)]
    assert await admitted(guard, an_ask(subject, plan), *asks) == ["request.missing", "reserved", "request.missing"]
    await guard.void([back(asks[0])], Code.UNAVAILABLE)
    assert await admitted(guard, asks[1], asks[0]) == ["request.missing", "reserved"]
    assert 0 < await guard.server.command("PTTL", keys.REQUEST[request[0]] + request) <= MINUTE


async def test_the_opt_out_confirmation_needs_an_opt_out(guard: Guard) -> None:
    subject = await a_customer(guard)
    plan = a_plan(basis=Basis.OPT_OUT, relationships=(), ignored_reasons=1 << Reason.OPT_OUT, cls=Class.CONSENT)
    ask = an_ask(subject, plan)
    assert await admitted(guard, ask) == ["request.missing"]
    other = State(seq=6, suppressions={"other": [Suppression(reason=Reason.OPT_OUT, at=1, entry=6)]})
    await guard.apply([(subject, other)])
    assert await admitted(guard, ask) == ["request.missing"]
    mine = State(seq=7, suppressions={"acme#marketing": [Suppression(reason=Reason.OPT_OUT, at=1, entry=7)]})
    await guard.apply([(subject, mine)])
    assert await admitted(guard, ask) == ["reserved"]


@pytest.mark.parametrize(
    ("basis", "reasons", "code"),
    [
        (Basis.CONSENT, [Reason.OPT_OUT], "consent.withdrawn"),
        (Basis.CONSENT, [Reason.OPT_OUT, Reason.COMPLAINT], "suppressed"),
        (Basis.CONSENT, [Reason.MANUAL], "suppressed"),
        (Basis.RELATIONSHIP, [Reason.OPT_OUT], "suppressed"),
    ],
)
async def test_what_stops(guard: Guard, basis: Basis, reasons: list[Reason], code: str) -> None:
    subject = await a_customer(guard)
    plan = a_plan(basis=basis, consents=("acme/marketing",), approved_ignored_reasons=1 << Reason.OPT_OUT)
    stops = {"acme": [Suppression(reason=reason, at=1, entry=6) for reason in reasons]}
    await guard.apply([(subject, permissive(6).model_copy(update={"suppressions": stops}))])
    assert await admitted(guard, an_ask(subject, plan)) == [code]
    approved = await admitted(guard, an_ask(subject, plan, approved=True))
    assert approved == ["reserved" if reasons == [Reason.OPT_OUT] else "suppressed"]


async def test_a_block_stops_its_scopes_at_once(guard: Guard) -> None:
    subject = await a_customer(guard)
    ask = an_ask(subject, a_plan())
    assert await guard.block(subject, ["other#marketing"]) == 0
    assert await admitted(guard, ask._replace(id=new_id(lane_of(subject)))) == ["reserved"]
    await guard.block(subject, ["acme"])
    await guard.block(subject, ["third"])
    assert await admitted(guard, ask) == ["suppressed"]
    await guard.unblock(subject)
    assert await admitted(guard, ask) == ["reserved"]


async def test_a_block_stands_until_every_act_it_stands_for_is_recorded(guard: Guard) -> None:
    subject = await a_customer(guard)
    ask = an_ask(subject, a_plan())
    for scopes, token in ((["acme"], "a"), (["other"], "b"), (["other"], "b"), (["acme"], "c")):
        await guard.block(subject, scopes, token)
    for token in ("unknown", "b", "a"):
        await guard.unblock(subject, token)
        assert await admitted(guard, ask) == ["suppressed"], token
    await guard.unblock(subject, "c")
    assert await admitted(guard, ask) == ["reserved"]
    many = await a_customer(guard)
    for n in range(70):
        await guard.block(many, ["acme"], f"t{n}")
    for n in range(70):
        await guard.unblock(many, f"t{n}")
    assert await admitted(guard, an_ask(many, a_plan())) == ["suppressed"]


# --- time ----------------------------------------------------------------------------------------------------------


async def test_calendar_days_turn_at_midnight(clock: Guard) -> None:
    subject, plan = await a_customer(clock), a_plan(window(2, DAY, "M", calendar=True))
    codes = []
    for moment in (-HOUR, -1, -1, 0, HOUR, DAY - 1, DAY, 2 * DAY - 1, 2 * DAY + 5):
        clock.now_ms = MIDNIGHT + moment
        codes += await admitted(clock, at(an_ask(subject, plan), clock.now_ms))
    full = "window.exceeded"
    assert codes == ["reserved", "reserved", full, "reserved", "reserved", full, "reserved", "reserved", "reserved"]


async def test_the_servers_clock_decides_the_day(clock: Guard) -> None:
    """The caller's list was made before midnight, the server is past it; and the other way round."""
    subject, plan = await a_customer(clock), a_plan(window(1, DAY, "M", calendar=True))
    listed = (MIDNIGHT - DAY, MIDNIGHT, MIDNIGHT + DAY)
    for moment, code in ((-1, "reserved"), (0, "reserved"), (1, "window.exceeded"), (DAY, "reserved")):
        clock.now_ms = MIDNIGHT + moment
        assert await admitted(clock, an_ask(subject, plan, midnights=listed)) == [code]
    clock.now_ms = MIDNIGHT + 5 * DAY  # a list five days old: the day is taken too long, never too short
    assert await admitted(clock, an_ask(subject, plan, midnights=listed)) == ["window.exceeded"]


async def test_rolling_windows_and_their_wait(clock: Guard) -> None:
    subject, plan = await a_customer(clock), a_plan(window(2, HOUR))
    clock.now_ms = MIDNIGHT
    assert await admitted(clock, an_ask(subject, plan)) == ["reserved"]
    clock.now_ms = MIDNIGHT + 1000
    assert await admitted(clock, an_ask(subject, plan)) == ["reserved"]
    clock.now_ms = MIDNIGHT + 2000
    (verdict,) = await clock.admit([an_ask(subject, plan)], SEQ)
    assert (verdict.window, verdict.retry_after_ms) == ("T/acme 2", HOUR - 2000)
    for moment, code in ((HOUR - 1, "window.exceeded"), (HOUR, "reserved"), (HOUR, "window.exceeded")):
        clock.now_ms = MIDNIGHT + moment
        assert await admitted(clock, an_ask(subject, plan)) == [code]


async def test_a_clock_that_steps_back_admits_no_more(clock: Guard) -> None:
    subject, plan = await a_customer(clock), a_plan(window(2, HOUR), window(2, DAY, "M", calendar=True))
    codes = []
    for moment in (0, -DAY, -2 * DAY, -HOUR):
        clock.now_ms = MIDNIGHT + moment
        codes += await admitted(clock, at(an_ask(subject, plan), MIDNIGHT))
    assert codes == ["reserved", "reserved", "window.exceeded", "window.exceeded"]


async def test_windows_live_as_long_as_they_count(guard: Guard) -> None:
    subject = await a_customer(guard)
    name = keys.WINDOWS[subject[0]] + subject
    await admitted(guard, an_ask(subject, a_plan(window(9, HOUR))))
    short = await guard.server.command("PTTL", name)
    assert HOUR < short <= 2 * HOUR
    await admitted(guard, an_ask(subject, a_plan(window(9, MINUTE))))
    assert short - MINUTE < await guard.server.command("PTTL", name) <= short
    await admitted(guard, an_ask(subject, a_plan(window(9, 365 * DAY, "Y"))))
    assert await guard.server.command("PTTL", name) > 365 * DAY


async def test_a_refund_takes_exactly_its_own_stamps(clock: Guard) -> None:
    subject, plan = await a_customer(clock), a_plan(window(9, HOUR), same_text_ms=30_000)
    name = keys.WINDOWS[subject[0]] + subject
    asks = []
    for n in range(4):
        clock.now_ms = MIDNIGHT + n // 2
        asks.append(an_ask(subject, plan, text_hash=b"text-00%d" % n))
        assert await admitted(clock, asks[-1]) == ["reserved"]
    assert await clock.void([back(asks[2])], Code.UNAVAILABLE) == ["void"]
    log, texts = await clock.server.command("HMGET", name, "T/acme", "x")
    stamps = [MIDNIGHT, MIDNIGHT, MIDNIGHT + 1]
    assert [int.from_bytes(log[at : at + 6], "big") for at in range(0, len(log), 6)] == stamps
    assert [texts[at : at + 8] for at in range(0, len(texts), 14)] == [b"text-000", b"text-001", b"text-003"]


async def test_consent_terms_and_preferences_tighten(clock: Guard) -> None:
    subject = a_subject()
    plan = a_plan(
        window(9, DAY, "M/acme"),
        basis=Basis.CONSENT,
        consents=("acme/marketing",),
        cls=Class.MARKETING,
        topics=("marketing.promotion", "marketing"),
        weekly_field="M/acme",
        quiet=True,
    )
    until = (MIDNIGHT + 20 * DAY) // 1000
    state = State(
        seq=SEQ,
        consents={"acme/marketing": Consent(at=1, until=until, max_per_week=2, entry=3)},
        preferences={"*": Preference(max_per_week=3, hours=(540, 660)), "acme": Preference(hours=(600, 720))},
    )
    await clock.apply([(subject, state)])
    clock.now_ms = MIDNIGHT
    (quiet,) = await clock.admit([an_ask(subject, plan, minute_of_day=660)], SEQ)
    assert (quiet.code, quiet.hours) == (Code.QUIET_HOURS, (600, 660))
    assert await admitted(clock, an_ask(subject, plan, minute_of_day=700, mode=Mode.HOLD)) == ["held"]
    assert await admitted(clock, an_ask(subject, plan), an_ask(subject, plan)) == ["reserved", "reserved"]
    (full,) = await clock.admit([an_ask(subject, plan)], SEQ)
    assert (full.window, full.retry_after_ms) == ("terms", 7 * DAY)
    plain = {"acme/marketing": Consent(at=1, entry=3)}
    stricter = State(seq=6, consents=plain, preferences={"*": Preference(max_per_week=2)})
    await clock.apply([(subject, stricter)])
    (full,) = await clock.admit([an_ask(subject, plan)], SEQ)
    assert full.window == "preference *"
    unwanted = State(seq=7, consents=stricter.consents, preferences={"acme": Preference(topics=["invite"])})
    await clock.apply([(subject, unwanted)])
    assert await admitted(clock, an_ask(subject, plan)) == ["preference.unwanted"]
    await clock.apply([(subject, state.model_copy(update={"seq": 8}))])
    clock.now_ms = until * 1000
    assert await admitted(clock, an_ask(subject, plan)) == ["consent.missing"]


# --- checks --------------------------------------------------------------------------------------------------------


async def test_a_check_says_every_rule_and_writes_nothing(guard: Guard) -> None:
    subject = await a_customer(guard)
    plan = a_plan(window(2, HOUR), window(9, DAY, "D", calendar=True), same_text_ms=30_000)
    ask = an_ask(subject, plan, text_hash=b"s" * 8)
    assert await admitted(guard, ask) == ["reserved"]
    before = await guard.server.command("DBSIZE")
    (verdict,) = await guard.admit([an_ask(subject, plan, text_hash=b"s" * 8, mode=Mode.CHECK)], SEQ + 1)
    assert verdict.code is Code.CACHE_COLD
    assert [(r.rule, r.code and r.code.value, r.detail, r.counted, r.limit) for r in verdict.trace] == [
        ("cache", "cache.cold", "", -1, -1),
        ("suppression", None, "", -1, -1),
        ("basis", None, "acme/order", 4, -1),
        ("window", None, "T/acme 2", 1, 2),
        ("window", None, "D 9", 1, 9),
        ("same_text", "window.exceeded", "", 1, 1),
    ]
    assert await guard.server.command("DBSIZE") == before
    with pytest.raises(ValueError, match="alone"):
        await guard.admit([ask, ask._replace(mode=Mode.CHECK)], SEQ)


async def test_a_check_agrees_with_the_admission(guard: Guard) -> None:
    stranger, customer = a_subject(), await a_customer(guard)
    request = a_plan(basis=Basis.REQUEST, relationships=())
    for ask in (
        an_ask(stranger, a_plan()),
        an_ask(customer, a_plan(window(1, HOUR))),
        an_ask(customer, a_plan(window(1, HOUR))),
        an_ask(customer, request),
        an_ask(customer, request, request=customer[:1] + b"r" * 15, request_ttl_ms=MINUTE),
        an_ask(customer, request, request=customer[:1] + b"r" * 15, request_ttl_ms=MINUTE),
    ):
        (checked,) = await guard.admit([ask._replace(mode=Mode.CHECK)], SEQ)
        (decided,) = await guard.admit([ask], SEQ)
        assert (checked.code, checked.window) == (decided.code, decided.window)
        assert decided.code or (checked.entry, checked.basis_key) == (decided.entry, decided.basis_key)
