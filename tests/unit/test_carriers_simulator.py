"""The simulated carrier: every special number, seeded chance, receipts from one wheel."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from gateway.carriers.carrier import (
    Doubtful,
    NeverSeen,
    Rejected,
    Retry,
    Seen,
    StillUnknown,
    Submit,
    Taken,
    Unwritten,
)
from gateway.carriers.outcomes import Profile, draw, outcome_of
from gateway.carriers.simulator import SIMULATOR_NUMBERS, Simulator
from gateway.contract.decision import Cause, Status
from gateway.contract.wire import Receipt

FAST = Profile(latency_s=0.001, receipt_s=0.01)
NUMBERS = {special.outcome: special.number for special in SIMULATOR_NUMBERS}


class Inbox:
    def __init__(self, failures: int = 0) -> None:
        self.receipts: list[Receipt] = []
        self.calls: list[int] = []
        self.failures = failures

    async def __call__(self, receipts: Sequence[Receipt]) -> None:
        if self.failures:
            self.failures -= 1
            raise TimeoutError
        self.calls.append(len(receipts))
        self.receipts += receipts


async def once(outcome: str, attempt: int = 1) -> tuple[object, list[Receipt]]:
    inbox = Inbox()
    carrier = Simulator(inbox, profile=FAST)
    (answer,) = await carrier.submit([Submit("m1", NUMBERS[outcome], "10690001", "x", attempt=attempt)])
    await carrier.close()
    return answer, inbox.receipts


@pytest.mark.parametrize(
    ("outcome", "status", "cause", "receipts"),
    [
        ("delivered", Status.DELIVERED, Cause.NONE, 1),
        ("dead_number", Status.UNDELIVERED, Cause.DEAD_NUMBER, 1),
        ("suspended", Status.UNDELIVERED, Cause.SUSPENDED, 1),
        ("carrier_opt_out", Status.UNDELIVERED, Cause.CARRIER_OPT_OUT, 1),
        ("expired", Status.EXPIRED, Cause.TRANSIENT, 1),
        ("duplicated", Status.DELIVERED, Cause.NONE, 3),
    ],
)
async def test_special_numbers_that_are_taken(outcome: str, status: Status, cause: Cause, receipts: int) -> None:
    answer, got = await once(outcome)
    assert isinstance(answer, Taken)
    assert [(r.status, r.cause, r.carrier_id, r.ref) for r in got] == [
        (status, cause, answer.carrier_id, "m1")
    ] * receipts


async def test_the_other_special_numbers() -> None:
    answer, got = await once("content")
    assert (answer, got) == (Rejected("KEYWORD", Cause.CONTENT), [])
    answer, got = await once("silent")
    assert isinstance(answer, Taken)
    assert got == []
    answer, got = await once("vanished")
    assert (answer, got) == (Doubtful("answer.lost"), [])
    answer, got = await once("doubtful")
    assert answer == Doubtful("answer.lost")
    assert [(r.status, r.ref) for r in got] == [(Status.DELIVERED, "m1")]
    answer, got = await once("out_of_order")
    assert [r.status for r in got] == [Status.DELIVERED, Status.SENT]


async def test_throttled_twice_then_delivered() -> None:
    for attempt in (1, 2):
        answer, got = await once("throttled", attempt)
        assert isinstance(answer, Retry)
        assert (answer.cause, got) == (Cause.FLOW, [])
    answer, got = await once("throttled", 3)
    assert isinstance(answer, Taken)
    assert len(got) == 1


async def test_a_receipt_before_the_answer() -> None:
    inbox = Inbox()
    carrier = Simulator(inbox, profile=Profile(latency_s=0.05))
    answering = asyncio.create_task(carrier.submit([Submit("m1", NUMBERS["early"], "1069", "x")]))
    await asyncio.sleep(0.01)
    assert not answering.done()
    assert [r.ref for r in inbox.receipts] == [None]
    (answer,) = await answering
    assert isinstance(answer, Taken)
    assert answer.carrier_id == inbox.receipts[0].carrier_id
    await carrier.close()


async def test_nothing_is_submitted_after_the_fence() -> None:
    inbox = Inbox()
    carrier = Simulator(inbox, profile=FAST)
    late = await carrier.submit([Submit("m1", "+8613800000000", "1069", "x")], write_by=time.monotonic() - 0.001)
    assert late == [Unwritten()]
    await carrier.close()
    assert inbox.receipts == []


def test_everybody_else_is_delivered_unless_the_profile_says_otherwise() -> None:
    assert Profile().shares() == ()
    shares = Profile(dead_number=0.1, silent=0.2).shares()
    points = [draw(b"s" * 16, f"m{n}", 1).point for n in range(4000)]
    counts = Counter(outcome_of("+8613800000000", point, shares) for point in points)
    assert 300 < counts["dead_number"] < 500
    assert 650 < counts["silent"] < 950
    assert sum(counts.values()) == 4000


def test_chance_is_a_function_of_seed_id_and_attempt() -> None:
    first, again, other, retry = (
        draw(seed, "m1", attempt) for seed, attempt in ((b"a" * 16, 1), (b"a" * 16, 1), (b"b" * 16, 1), (b"a" * 16, 2))
    )
    assert first == again
    assert first.carrier_id not in (other.carrier_id, retry.carrier_id)
    assert first.point == retry.point
    with pytest.raises(ValueError, match="more than 1"):
        Profile(silent=0.7, doubtful=0.4).shares()


async def test_a_faulty_emit_loses_no_receipt() -> None:
    inbox = Inbox(failures=2)
    carrier = Simulator(inbox, profile=FAST)
    await carrier.submit([Submit(f"m{n}", "+8613800000000", "1069", "x") for n in range(10)])
    await carrier.close()
    assert sorted(r.ref or "" for r in inbox.receipts) == sorted(f"m{n}" for n in range(10))


async def test_receipts_come_in_batches_from_one_task() -> None:
    inbox = Inbox()
    carrier = Simulator(inbox, profile=FAST)
    before = len(asyncio.all_tasks())
    for start in range(0, 6400, 64):
        await carrier.submit([Submit(f"m{n}", "+8613800000000", "1069", "x") for n in range(start, start + 64)])
        assert len(asyncio.all_tasks()) <= before + 1
    await carrier.close()
    assert carrier.waiting == 0
    assert len(inbox.receipts) == 6400
    assert len(inbox.calls) < 640


async def test_it_can_be_asked_about_the_answers_it_lost_and_forgets_the_rest() -> None:
    inbox = Inbox()
    carrier = Simulator(inbox, profile=FAST)
    outcomes = ("doubtful", "vanished", "delivered")
    await carrier.submit([Submit(outcome, NUMBERS[outcome], "10690001", "x") for outcome in outcomes])
    found, vanished, *rest = await carrier.query([*outcomes, "stranger"])
    await carrier.close()
    assert isinstance(found, Seen)
    assert (found.status, found.word, found.carrier_id) == (Status.DELIVERED, "DELIVRD", inbox.receipts[0].carrier_id)
    assert vanished == NeverSeen(final=False)
    assert rest == [StillUnknown(), StillUnknown()]
