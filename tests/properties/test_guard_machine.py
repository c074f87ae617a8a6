"""The scripts against a plain model, on a real server: any sequence of admissions, claims, events and clock steps."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as for_all
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gateway.contract.codes import Code
from gateway.contract.consent import Consent, Preference, Relationship, State, Suppression
from gateway.contract.decision import Basis, Class
from gateway.contract.ids import new_id
from gateway.guard import Ask, Attempt, Claim, Guard, Mode, VoidAsk
from gateway.rules.plan import Plan, Window
from tests.properties.guard_model import Model

pytestmark = pytest.mark.integration

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SUBJECTS = [bytes([3]) + b"a" * 15, bytes([3]) + b"b" * 15]
TEXTS = [b"text-%03d" % n for n in range(6)]
REQUESTS = [bytes([3]) + bytes([n]) * 15 for n in range(12)]
SCOPES = ["*", "acme", "acme#marketing", "*/marketing"]


def a_plan(name: str, cls: Class, basis: Basis, **rest: Any) -> Plan:
    fields: dict[str, Any] = {
        "sender": "acme",
        "purpose": name,
        "cls": cls,
        "pack": "t@1",
        "basis": basis,
        "consents": (),
        "relationships": (),
        "scopes": ("*", "acme", f"*#{cls}", f"acme#{cls}"),
        "ignored_reasons": 0,
        "approved_ignored_reasons": 0,
        "preferences": ("acme", "*"),
        "topics": (name, name.split(".", maxsplit=1)[0]),
        "windows": (),
        "weekly_field": None,
        "same_text_ms": 0,
        "quiet": False,
        "zone": "UTC",
    }
    return Plan(**(fields | rest))


def w(written: str, field: str, limit: int, period_ms: int, *, calendar: bool = False) -> Window:
    return Window(f"{field} {written}", field, limit, period_ms, calendar, "test")


PLANS = [
    a_plan(
        "marketing.promotion",
        Class.MARKETING,
        Basis.CONSENT,
        consents=("acme/marketing.promotion", "acme/marketing"),
        scopes=("*", "acme", "acme#marketing", "*/marketing"),
        windows=(w("2/1h", "M/acme", 2, HOUR), w("3/day", "M", 3, DAY, calendar=True)),
        weekly_field="M/acme",
        quiet=True,
    ),
    a_plan(
        "transaction.order",
        Class.TRANSACTIONAL,
        Basis.RELATIONSHIP,
        relationships=("acme/order",),
        approved_ignored_reasons=2,
        windows=(w("3/1h", "T/acme", 3, HOUR),),
        same_text_ms=30_000,
    ),
    a_plan(
        "verification.code",
        Class.VERIFICATION,
        Basis.REQUEST,
        ignored_reasons=2,
        windows=(w("1/1m", "V/acme", 1, MINUTE),),
    ),
    a_plan(
        "consent.preferences",
        Class.CONSENT,
        Basis.RELATIONSHIP,
        relationships=("acme/order",),
        consents=("acme/marketing",),
        same_text_ms=30_000,
        quiet=True,
    ),
]

times = st.sampled_from([0, 0, 0, -HOUR, HOUR, DAY])
entries = st.integers(1, 99)


def mostly(common: Any, rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(common), st.just(common), st.just(common), rare)


CONSENTS = {"acme/marketing": (0, 0, 7)}
states = st.fixed_dictionaries(
    {
        "consents": mostly(
            CONSENTS,
            st.dictionaries(
                st.sampled_from(["acme/marketing.promotion", "acme/marketing"]),
                st.tuples(times, st.sampled_from([0, 1, 2]), entries),
            ),
        ),
        "relationships": mostly(
            {"acme/order": (0, 8)}, st.dictionaries(st.just("acme/order"), st.tuples(times, entries))
        ),
        "suppressions": mostly(
            {}, st.dictionaries(st.sampled_from(SCOPES), st.sets(st.sampled_from([1, 2, 4]), max_size=2), max_size=1)
        ),
        "preferences": st.one_of(
            st.just({}),
            st.dictionaries(
                st.sampled_from(["acme", "*"]),
                st.tuples(
                    mostly([], st.sampled_from([["marketing"], ["transaction"]])),
                    st.sampled_from([0, 1, 3]),
                    st.sampled_from([None, None, (600, 720), (660, 800)]),
                ),
                max_size=2,
            ),
        ),
    }
)
PERMISSIVE = {"consents": CONSENTS, "relationships": {"acme/order": (0, 8)}, "suppressions": {}, "preferences": {}}


def asks_of(plan: Plan) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "subject": st.sampled_from(SUBJECTS),
            "plan": st.just(plan),
            "text": st.sampled_from(TEXTS),
            "request": mostly(None, st.none())
            if plan.basis is not Basis.REQUEST
            else st.sampled_from([*REQUESTS, None]),
            "mode": mostly(Mode.ADMIT, st.just(Mode.HOLD)),
            "minute": st.sampled_from([650, 700, 720, 900]),
            "approved": mostly(False, st.booleans()),
            "bound": st.booleans(),
        }
    )


one_ask = st.sampled_from([*PLANS, PLANS[0], PLANS[1]]).flatmap(asks_of)


class Machine(RuleBasedStateMachine):
    url = ""
    start_ms = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.guard = self.wait(Guard.connect(self.url, timeout_s=5))
        self.wait(self.guard.server.command("FLUSHDB"))
        self.model = Model(self.start_ms, cursor=5)
        self.wait(self.guard.set_cursors(5))
        self.asks: dict[str, Ask] = {}
        self.seq = 10
        self.offset = 0
        for subject in SUBJECTS:
            self.apply(subject, PERMISSIVE, 0)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.wait(self.guard.close())
        self.loop.close()

    def midnights(self) -> tuple[int, ...]:
        day = self.model.now // DAY * DAY
        return tuple(day + DAY * n for n in range(-1, 9))

    def ask(self, given: dict[str, Any], message_id: str | None = None) -> Ask:
        ask = Ask(
            message_id or new_id(3),
            given["subject"],
            given["plan"],
            given["text"],
            self.midnights(),
            given["minute"],
            answer=b"answer",
            mode=given["mode"],
            bound=given["bound"],
            approved=given["approved"],
            request=given["request"],
            request_ttl_ms=DAY,
        )
        self.asks.setdefault(ask.id, ask)
        return ask

    def known(self, data: st.DataObject) -> Ask:
        return data.draw(st.sampled_from(list(self.asks.values())), "message")

    def decide(self, asks: list[Ask], min_seq: int = 5) -> None:
        self.guard.now_ms = self.model.now
        got = self.wait(self.guard.admit(asks, min_seq))
        for ask, verdict in zip(asks, got, strict=True):
            want = self.model.admit(ask, min_seq)
            seen = {"code": verdict.code and verdict.code.value}
            if verdict.code is None:
                seen |= {
                    "state": verdict.state,
                    "replay": verdict.replay,
                    "entry": verdict.entry,
                    "stamp": verdict.stamp_ms,
                }
            elif verdict.code is Code.WINDOW_EXCEEDED:
                seen["window"] = verdict.window
                assert verdict.retry_after_ms > 0
            assert seen == want, ask

    # --- what may happen -------------------------------------------------------------------------------------------

    @rule(given=st.lists(one_ask, min_size=1, max_size=5))
    def admits(self, given: list[dict[str, Any]]) -> None:
        self.decide([self.ask(one) for one in given])

    @rule(given=one_ask, copies=st.integers(2, 3))
    def admits_a_copy_in_one_batch(self, given: dict[str, Any], copies: int) -> None:
        self.decide([self.ask(given)] * copies)

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def admits_again(self, data: st.DataObject) -> None:
        self.decide([self.known(data)._replace(midnights=self.midnights())])

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), attempt=st.sampled_from([1, 1, 2]), minute=st.sampled_from([650, 900]))
    def releases(self, data: st.DataObject, attempt: int, minute: int) -> None:
        ask = self.known(data)
        self.decide(
            [ask._replace(mode=Mode.RELEASE, attempt=attempt, midnights=self.midnights(), minute_of_day=minute)]
        )

    @rule(given=one_ask, min_seq=mostly(5, st.just(6)))
    def admits_one(self, given: dict[str, Any], min_seq: int) -> None:
        self.decide([self.ask(given)], min_seq)

    @rule(given=one_ask, many=st.integers(2, 4))
    def bursts(self, given: dict[str, Any], many: int) -> None:
        self.decide([self.ask(given) for _ in range(many)])

    @rule(given=one_ask, others=st.lists(one_ask, max_size=2))
    def sends(self, given: dict[str, Any], others: list[dict[str, Any]]) -> None:
        """The whole way: admitted, claimed once, done."""
        asks = [self.ask(one | {"mode": Mode.ADMIT}) for one in (given, *others)]
        self.decide(asks)
        for ask in asks:
            self.offset += 1
            self.claim(Claim(ask.id, 1, ask.subject, ask.plan, 1, self.offset, ask.approved))

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), attempt=st.sampled_from([1, 1, 2]), again=st.booleans())
    def claims(self, data: st.DataObject, attempt: int, again: bool) -> None:
        ask = self.known(data)
        self.offset += not again
        self.claim(Claim(ask.id, attempt, ask.subject, ask.plan, 1, self.offset, ask.approved))

    def claim(self, claim: Claim) -> None:
        self.guard.now_ms = self.model.now
        (got,) = self.wait(self.guard.claim([claim], 5))
        assert (got.kind.value, got.code and got.code.value) == self.model.claim(claim, 5)

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def voids(self, data: st.DataObject) -> None:
        self.voids_one(self.known(data))

    def voids_one(self, ask: Ask) -> None:
        self.voids_with(ask, Code.UNAVAILABLE)

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        self.voids_with(self.known(data), Code.MESSAGE_EXPIRED)

    def voids_with(self, ask: Ask, code: Code) -> None:
        got = self.wait(self.guard.void([VoidAsk(ask.id, ask.subject, ask.request)], code))
        assert got == [self.model.void(ask.id, ask.subject, code.value, ask.request)]

    @precondition(lambda self: self.asks)
    @rule(data=st.data())
    def refunds(self, data: st.DataObject) -> None:
        ask = self.known(data)
        record = self.model.records.get(ask.id)
        want = record is not None and self.model.give_back(ask.subject, record)
        assert self.wait(self.guard.refund([VoidAsk(ask.id, ask.subject)])) == [want]

    @precondition(lambda self: self.asks)
    @rule(data=st.data(), step=st.sampled_from(["done", "unwritten", "requeue"]))
    def moves_on(self, data: st.DataObject, step: str) -> None:
        ask = self.known(data)
        record = self.model.records.get(ask.id)
        state = record.state if record else ""
        want = state == "taken" or (step == "done" and state == "unwritten")
        if step == "requeue":
            attempt = record.attempt if record else 1
            assert self.wait(self.guard.requeue([Attempt(ask.id, attempt + 1)])) == [False]
            got = self.wait(self.guard.requeue([Attempt(ask.id, attempt)]))
        else:
            got = self.wait(getattr(self.guard, step)([ask.id]))
        assert got == [want]
        if record and want:
            record.state = "reserved" if step == "requeue" else step
            record.attempt += step == "requeue"

    @rule(subject=st.sampled_from(SUBJECTS), parts=states, behind=mostly(0, st.just(3)))
    def applies(self, subject: bytes, parts: dict[str, Any], behind: int) -> None:
        self.apply(subject, parts, behind)

    def apply(self, subject: bytes, parts: dict[str, Any], behind: int) -> None:
        self.seq += 1
        state = self.state(parts, max(1, self.seq - behind))
        standing = self.model.persons.get(subject)
        if standing is None or standing.seq < state.seq:
            self.model.persons[subject] = state
        assert self.wait(self.guard.apply([(subject, state)])) == [self.model.fences.get(subject, 0)]

    def state(self, parts: dict[str, Any], seq: int) -> State:
        def at(step: int) -> int:
            return (self.model.now + step) // 1000 if step else 0

        return State(
            seq=seq,
            consents={
                k: Consent(at=1, until=at(t), max_per_week=n, entry=e) for k, (t, n, e) in parts["consents"].items()
            },
            relationships={
                k: Relationship(at=1, expires=at(t), entry=e) for k, (t, e) in parts["relationships"].items()
            },
            suppressions={
                k: [Suppression(reason=r, at=1, entry=1) for r in rs] for k, rs in parts["suppressions"].items()
            },
            preferences={
                k: Preference(topics=t, max_per_week=n, hours=h) for k, (t, n, h) in parts["preferences"].items()
            },
        )

    @rule(subject=st.sampled_from(SUBJECTS), scopes=st.sets(st.sampled_from(SCOPES), min_size=1, max_size=2))
    def blocks(self, subject: bytes, scopes: set[str]) -> None:
        self.model.blocks.setdefault(subject, set()).update(scopes)
        assert self.wait(self.guard.block(subject, sorted(scopes))) == self.model.fences.get(subject, 0)

    @rule(subject=st.sampled_from(SUBJECTS))
    def unblocks(self, subject: bytes) -> None:
        self.model.blocks.pop(subject, None)
        self.wait(self.guard.unblock(subject))

    @rule(step=st.sampled_from([1, 30_000, MINUTE, HOUR, HOUR, 5 * HOUR, DAY]))
    def time_passes(self, step: int) -> None:
        self.model.now += step

    @precondition(lambda self: self.model.edges())
    @rule(data=st.data(), short=st.sampled_from([0, 1]))
    def an_edge_comes(self, data: st.DataObject, short: int) -> None:
        """The moment at which some stamp leaves some window, or the millisecond before."""
        self.model.now = data.draw(st.sampled_from(self.model.edges()), "edge") - short

    @rule(step=st.sampled_from([1, 30_000, HOUR, 3 * HOUR]))
    def clock_steps_back(self, step: int) -> None:
        self.model.now = max(self.start_ms, self.model.now - step)

    # --- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def records_agree(self) -> None:
        for message_id, record in list(self.model.records.items())[-3:]:
            view = self.wait(self.guard.record(message_id))
            got = (view.state, view.attempt, view.stamp_ms, view.fields, view.refunded, view.code, view.entry)
            want = (
                record.state,
                record.attempt,
                record.stamp,
                record.fields,
                record.refunded,
                record.code,
                record.entry,
            )
            assert got == want

    @invariant()
    def no_window_holds_more_than_it_may(self) -> None:
        for plan in PLANS:
            for window in plan.windows:
                for subject in SUBJECTS:
                    stamps = self.model.logs.get((subject, window.field), [])
                    assert stamps == sorted(stamps)
                    for n in range(len(stamps) - window.limit):
                        first, last = stamps[n], stamps[n + window.limit]
                        apart = first // DAY != last // DAY if window.calendar else last - first >= window.period_ms
                        assert apart, (window, stamps)


def the_future() -> int:
    """An hour before a midnight that is far enough away for no key to expire in the server's own time."""
    return (int(time.time() * 1000) // DAY + 60) * DAY + 23 * HOUR


def test_the_scripts_do_what_the_model_does(redis_url: str) -> None:
    Machine.url, Machine.start_ms = redis_url, the_future()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=80,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


WINDOWED = [
    a_plan(
        "marketing.promotion",
        Class.MARKETING,
        Basis.CONSENT,
        consents=("acme/marketing",),
        windows=(w("2/1h", "M/acme", 2, HOUR), w("3/day", "M", 3, DAY, calendar=True)),
        weekly_field="M/acme",
        same_text_ms=1000,
    ),
    a_plan(
        "transaction.order",
        Class.TRANSACTIONAL,
        Basis.RELATIONSHIP,
        relationships=("acme/order",),
        windows=(w("2/1m", "T/acme", 2, MINUTE), w("4/1h", "T/acme", 4, HOUR), w("3/day", "M", 3, DAY, calendar=True)),
    ),
]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            [0, 1, 999, 1000, MINUTE - 1, MINUTE, 20 * MINUTE, HOUR - 1, HOUR, 12 * HOUR, DAY, -1, -HOUR, -DAY]
        ),
        st.integers(0, 1),
        st.integers(0, 1),
        st.booleans(),
    ),
    min_size=5,
    max_size=40,
)
limits = st.tuples(*[st.sampled_from([0, 1, 2, 5, 64])] * 3)


@for_all(steps=steps, limits=limits)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_windows_do_what_counting_does(
    redis_url: str, steps: list[tuple[int, int, int, bool]], limits: tuple[int, int, int]
) -> None:
    """Weekly limits of consents and preferences, rolling and calendar windows, same texts, refunds, clock steps."""
    Machine.url, Machine.start_ms = redis_url, the_future()
    machine = Machine()
    terms, own, everyones = limits
    parts = {
        **PERMISSIVE,
        "consents": {"acme/marketing": (0, terms, 7)},
        "preferences": {"acme": ([], own, None), "*": ([], everyones, None)},
    }
    machine.apply(SUBJECTS[0], parts, 0)
    for step, plan, text, back in steps:
        machine.model.now = max(Machine.start_ms, machine.model.now + step)
        given = {"subject": SUBJECTS[0], "plan": WINDOWED[plan], "text": TEXTS[text], "minute": 0}
        ask = machine.ask(given | {"mode": Mode.ADMIT, "bound": False, "approved": False, "request": None})
        machine.decide([ask])
        if back:
            machine.voids_one(ask)
    machine.no_window_holds_more_than_it_may()
    machine.teardown()
