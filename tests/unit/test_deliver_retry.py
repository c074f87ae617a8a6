"""Retry schedules, what a takeover makes of a record, and how a carrier's answers are filed: all pure."""

import pytest

from gateway.carriers.carrier import Doubtful, Rejected, Retry, Taken, Unwritten
from gateway.contract.decision import Basis, Cause, Class
from gateway.contract.registry import Sender
from gateway.contract.wire import Accepted
from gateway.deliver.means import Item
from gateway.deliver.retry import SCHEDULES, WAIT_HERE_S, Again, GiveUp, next_attempt
from gateway.deliver.review import Ended, InDoubt, Requeue, Skip, SubmitNow, finding
from gateway.deliver.routing import carrier_of
from gateway.deliver.submission import file_answers
from gateway.guard import RecordView
from gateway.rules.pack import load
from gateway.rules.plan import plan
from gateway.stream.reader import Place

FAR = 10**13
SENDER = Sender(id="acme", signature="Acme", service_port="1", marketing_port="2")


def wait_s(attempt: int, cause: Cause, after_s: float | None = None, chance: float = 0.0) -> float:
    again = next_attempt(attempt, cause, after_s, now_ms=0, expires_at_ms=FAR, chance=chance)
    assert isinstance(again, Again)
    return again.due_ms / 1000


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_ends(cause: Cause) -> None:
    attempt, waits = 1, []
    while isinstance(again := next_attempt(attempt, cause, None, now_ms=0, expires_at_ms=FAR, chance=0.0), Again):
        waits.append(again.due_ms)
        attempt += 1
        assert attempt < 100
    assert again == GiveUp(expired=False)
    assert waits == sorted(waits)
    assert len(waits) == (SCHEDULES[cause].attempts - 1 if cause in SCHEDULES else 0)


def test_waits_grow_to_their_bound_and_spread() -> None:
    assert [wait_s(n, Cause.FLOW) for n in (1, 2, 3, 4)] == [0.25, 0.5, 1.0, 2.0]
    assert wait_s(23, Cause.FLOW) == 900
    assert wait_s(1, Cause.FLOW, chance=1.0) == pytest.approx(0.3)
    assert sum(wait_s(n, Cause.FLOW) for n in range(1, 24)) > 2.5 * 3600


def test_the_carrier_can_only_lengthen_the_wait() -> None:
    assert wait_s(1, Cause.FLOW, after_s=7) == 7
    assert wait_s(1, Cause.TRANSIENT, after_s=0.1) == 5


def test_short_waits_stay_here() -> None:
    again = next_attempt(1, Cause.FLOW, None, now_ms=0, expires_at_ms=FAR, chance=0.0)
    assert again == Again(250, 0.25)
    again = next_attempt(1, Cause.FLOW, WAIT_HERE_S + 0.1, now_ms=0, expires_at_ms=FAR, chance=0.0)
    assert again == Again(1100, None)


def test_no_attempt_after_the_messages_end() -> None:
    assert next_attempt(1, Cause.FLOW, 5, now_ms=0, expires_at_ms=5000, chance=0.0) == GiveUp(expired=True)


def view(state: str, attempt: int, at: tuple[int, int] = (0, 7), code: str | None = None) -> RecordView:
    blank = dict.fromkeys(RecordView._fields)
    where = {"state": state, "attempt": attempt, "partition": at[0], "offset": at[1], "code": code}
    return RecordView(**blank | where)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (None, InDoubt(1)),
        (view("done", 1), Skip()),
        (view("done", 3), Skip()),
        (view("taken", 1), InDoubt(1)),
        (view("taken", 2), InDoubt(2)),  # a short retry of this very record
        (view("taken", 1, (0, 8)), Skip()),  # this one was a copy
        (view("taken", 2, (1, 3)), Skip()),
        (view("unwritten", 1), SubmitNow(1)),
        (view("unwritten", 2), SubmitNow(2)),
        (view("unwritten", 1, (0, 8)), Skip()),
        (view("reserved", 2), Requeue(2)),  # recorded, perhaps not published
        (view("reserved", 1), InDoubt(1)),  # the claim was lost with a server
        (view("held", 1), InDoubt(1)),
        (view("void", 1, code="suppressed"), Ended(1, "suppressed")),
        (view("void", 2, code="consent.withdrawn"), Ended(2, "consent.withdrawn")),
        (view("void", 1, code="unavailable"), Ended(1, "unavailable")),  # its caller was told 503
    ],
)
def test_what_a_new_owner_makes_of_a_record(record: RecordView | None, found: object) -> None:
    assert finding(record, 1, 0, 7) == found


def test_a_record_older_than_the_attempt_is_in_doubt() -> None:
    for state in ("taken", "unwritten", "reserved", "done"):
        assert finding(view(state, 1), 2, 0, 7) == InDoubt(2)


def item(attempt: int = 1) -> Item:
    accepted = Accepted(
        id="0191e7f0-0000-7000-8000-00000000000a", attempt=attempt, client="c", sender="acme",
        purpose="transaction.shipping", cls=Class.TRANSACTIONAL, subject="00" * 16, to="+8613800000000", text="t",
        parts=2, port="1", pack="cn@1", basis=Basis.RELATIONSHIP, accepted_at=0, expires_at=FAR, trace="tr",
    )  # fmt: skip
    subject = bytes(16)
    return Item(accepted, subject, Place("t", 0), 7, subject, plan(load("cn"), SENDER, "transaction.shipping"), "http")


def test_answers_are_filed_by_what_follows() -> None:
    items = [item() for _ in range(6)]
    answers = [
        Taken("c1"), Rejected("BLACK", Cause.CARRIER_OPT_OUT), Doubtful("answer.cut"), Unwritten(),
        Retry("THROTTLED", Cause.FLOW), Retry("LIMIT", Cause.FREQUENCY),
    ]  # fmt: skip
    filed = file_answers(items, answers, now_ms=5, chance=0.0)
    assert [(r.outcome, r.carrier_id, r.code, r.cause) for r in filed.results] == [
        ("submitted", "c1", None, Cause.NONE),
        ("rejected", None, "BLACK", Cause.CARRIER_OPT_OUT),
        ("doubtful", None, "answer.cut", Cause.NONE),
    ]
    assert {(r.carrier, r.parts, r.at, r.trace, r.attempt) for r in filed.results} == {("http", 2, 5, "tr", 1)}
    assert (filed.stale, filed.here, filed.here_s) == ([items[3]], [items[4]], 0.25)
    assert [(one, due) for one, due, _ in filed.later] == [(items[5], 3_600_005)]


def test_the_last_attempt_ends_rejected_with_the_carriers_code() -> None:
    last = item(SCHEDULES[Cause.TRANSIENT].attempts)
    filed = file_answers([last], [Retry("MK:0010", Cause.TRANSIENT)], now_ms=0, chance=0.0)
    assert [(r.outcome, r.code, r.cause) for r in filed.results] == [("rejected", "MK:0010", Cause.TRANSIENT)]


def test_a_sender_keeps_to_its_own_carrier() -> None:
    own = SENDER.model_copy(update={"carrier": "east"})
    assert carrier_of(SENDER, "http", {"http", "east"}) == "http"
    assert carrier_of(own, "http", {"http", "east"}) == "east"
    assert carrier_of(own, "http", {"http"}) is None
