"""Delivery end to end on real Kafka and Valkey: once each, in order, and what a crash, an opt-out or a breaker does."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.carriers.outcomes import Profile
from gateway.contract.codes import Code
from gateway.contract.consent import Relationship, State, Suppression
from gateway.contract.decision import Cause, Reason
from gateway.contract.wire import Accepted, DeadLetter, Result
from gateway.guard import VoidAsk
from gateway.guard.keys import CURSOR
from gateway.local.parts import Part
from gateway.stream.codec import decode
from tests.integration.deliver_rig import CLS, Rig, rigged

pytestmark = pytest.mark.integration

_counter = iter(range(1, 1_000_000))


def numbers(n: int) -> list[str]:
    """Numbers nobody else uses."""
    return [f"+86138{next(_counter):08d}" for _ in range(n)]


@pytest.fixture
async def rig(redis_url: str, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[Rig]:
    async with rigged(redis_url, kafka_bootstrap, f"{topic_prefix}{next(_counter)}.") as made:
        yield made


def outcomes(found: dict[str, list[Result]]) -> Counter[str]:
    return Counter(result.outcome for results in found.values() for result in results)


async def test_each_message_is_submitted_once_and_reported(rig: Rig) -> None:
    ids = await rig.send(numbers(3000))
    start, cpu = time.perf_counter(), time.process_time()
    async with rig.delivering() as carrier:
        found = await rig.results(lambda found: len(found) == len(ids))
        spent = time.process_time() - cpu
        print(f"\n{len(ids) / (time.perf_counter() - start):.0f}/s, {spent / len(ids) * 1e6:.0f} µs CPU a message")
    assert sorted(message.ref for message in rig.wire) == sorted(ids)
    assert outcomes(found) == {"submitted": len(ids)}
    assert {result.carrier_id for results in found.values() for result in results} >= {
        receipt.carrier_id for receipt in carrier.receipts
    }
    assert {await rig.guard.record(one) and (await rig.guard.record(one)).state for one in ids[:20]} == {"done"}  # type: ignore[union-attr]


async def test_order_holds_per_recipient(rig: Rig) -> None:
    people = numbers(20)
    for _ in range(6):
        await rig.send(people)
    async with rig.delivering():
        await rig.results(lambda found: len(found) == 120)
    order: dict[str, list[str]] = defaultdict(list)
    for message in rig.wire:
        order[message.to].append(message.ref)
    assert all(refs == sorted(refs, key=lambda ref: ref[:13]) and len(refs) == 6 for refs in order.values())


async def test_a_suppression_after_acceptance_stops_it(rig: Rig) -> None:
    people = numbers(100)
    ids = await rig.send(people)
    rig.seq += 1
    stopped = {"acme": [Suppression(reason=Reason.OPT_OUT, at=1, entry=rig.seq)]}
    order = {"acme/order": Relationship(at=1, entry=1)}
    states = [(rig.subject(n), State(seq=rig.seq, relationships=order, suppressions=stopped)) for n in people[:50]]
    await rig.guard.apply(states)
    async with rig.delivering():
        found = await rig.results(lambda found: len(found) == 100)
    assert {found[one][0].outcome for one in ids[:50]} == {"cancelled"}
    assert {found[one][0].code for one in ids[:50]} == {"suppressed"}
    assert sorted(message.ref for message in rig.wire) == sorted(ids[50:])


async def test_a_copy_of_a_message_is_dropped(rig: Rig) -> None:
    ids = await rig.send(numbers(10))
    copies = []
    await rig._read(rig.topics.messages(CLS), copies.append, lambda: len(copies) == 10, 5)
    pairs = [(bytes.fromhex(decode(Accepted, value).subject), value or b"") for value in copies]
    await rig.producer.publish(rig.topics.messages(CLS), pairs)
    async with rig.delivering():
        await rig.results(lambda found: len(found) == 10)
        later = await rig.send(numbers(4))
        found = await rig.results(lambda found: len(found) == 14)
    assert sorted(message.ref for message in rig.wire) == sorted(ids + later)
    assert outcomes(found) == {"submitted": 14}


async def test_throttling_is_waited_out_and_the_rest_is_filed(rig: Rig) -> None:
    special = ["+8619900000005", "+8619900000004", "+8619900000012"]
    throttled, refused, lost = await rig.send(special)
    async with rig.delivering():
        found = await rig.results(
            lambda found: len(found) == 3 and found[throttled][-1].outcome == "submitted", within_s=10
        )
    assert [message.attempt for message in rig.wire if message.ref == throttled] == [1, 2, 3]
    assert [result.attempt for result in found[throttled]] == [3]
    assert (found[refused][0].outcome, found[refused][0].code, found[refused][0].cause) == (
        "rejected", "KEYWORD", Cause.CONTENT,
    )  # fmt: skip
    assert (found[lost][0].outcome, len([m for m in rig.wire if m.ref == lost])) == ("doubtful", 1)


async def test_later_retries_wait_in_the_held_topic(rig: Rig) -> None:
    (one,) = await rig.send(["+8619900000005"])
    async with rig.delivering(chance=lambda: 20.0):  # five times the wait: no longer a short one
        held = await rig.held(1)
        found = await rig.results(bool)
    assert [(h.id, h.attempt, h.due is not None) for h in held] == [(one, 2, True)]
    assert [(r.outcome, r.attempt, r.code) for r in found[one]] == [("retrying", 1, "THROTTLED")]
    view = await rig.guard.record(one)
    assert view is not None
    assert (view.state, view.attempt) == ("reserved", 2)


async def test_what_expired_is_not_sent(rig: Rig) -> None:
    ids = await rig.send(numbers(10))
    async with rig.delivering(now_ms=lambda: time.time_ns() // 1_000_000 + 2 * 86_400_000):
        found = await rig.results(lambda found: len(found) == 10)
    assert outcomes(found) == {"expired": 10}
    assert {found[one][0].code for one in ids} == {"message.expired"}
    assert rig.wire == []
    view = await rig.guard.record(ids[0])
    assert view is not None
    assert view.refunded


async def test_an_open_breaker_parks(rig: Rig) -> None:
    ids = await rig.send(numbers(10))
    await rig.stop_sender()
    async with rig.delivering():
        held = await rig.held(10)
        found = await rig.results(lambda found: len(found) == 10)
    assert sorted(h.id for h in held) == sorted(ids)
    assert {(h.parked, h.attempt) for h in held} == {("sender:acme", 2)}
    assert outcomes(found) == {"parked": 10}
    assert rig.wire == []


async def test_a_cold_cache_sends_nothing_until_it_is_warm(rig: Rig) -> None:
    ids = await rig.send(numbers(10))
    for key in CURSOR:
        await rig.guard.server.command("DEL", key)
    async with rig.delivering():
        await asyncio.sleep(0.6)
        assert rig.wire == []
        await rig.guard.set_cursors(0)
        await rig.results(lambda found: len(found) == 10)
    assert sorted(message.ref for message in rig.wire) == sorted(ids)


async def test_unreadable_records_go_to_the_dead_letters(rig: Rig) -> None:
    """Also one that would not fit a letter whole: its beginning is kept, and its place."""
    large = b"x" * 850_000
    bad = [(b"k", b'{"v": 1}'), (b"k", b"nonsense"), (b"K" * 40_000, large)]
    await rig.producer.publish(rig.topics.messages(CLS), bad)
    ids = await rig.send(numbers(2))
    letters: list[bytes | None] = []
    async with rig.delivering():
        await rig.results(lambda found: len(found) == 2)
        await rig._read(rig.topics.dead, letters.append, lambda: len(letters) == 3, 5)
    found = [decode(DeadLetter, letter) for letter in letters]
    assert {one.topic for one in found} == {f"messages.{CLS.value}"}
    assert {one.error for one in found} == {"Undecodable"}
    kept = sorted((base64.b64decode(one.value_b64) for one in found), key=len)
    assert kept[:2] == [b'{"v": 1}', b"nonsense"]
    assert len(kept[2]) > 500_000
    assert large.startswith(kept[2])
    assert sorted(message.ref for message in rig.wire) == sorted(ids)


async def test_what_its_caller_was_told_503_about_ends_as_cancelled(rig: Rig) -> None:
    """Its record was voided after the deadline of its publish, and came in all the same."""
    to = numbers(3)
    ids = await rig.send(to)
    asks = [VoidAsk(one, rig.subject(number)) for one, number in zip(ids[:2], to, strict=False)]
    assert await rig.guard.void(asks, Code.UNAVAILABLE) == ["void", "void"]
    async with rig.delivering():
        found = await rig.results(lambda found: len(found) == 3)
    assert [message.ref for message in rig.wire] == [ids[2]]
    ended = [found[one] for one in ids[:2]]
    assert {(one.outcome, one.code) for said in ended for one in said} == {("cancelled", "unavailable")}


async def test_an_id_that_was_voided_and_accepted_again_is_submitted_once_and_not_cancelled(rig: Rig) -> None:
    """The first record came in late, the second by a repeat of the same key: either may be claimed, the other drops."""
    (to,) = numbers(1)
    (one,) = await rig.send([to], text="Parcel", idempotency_key="again")
    assert await rig.guard.void([VoidAsk(one, rig.subject(to))], Code.UNAVAILABLE) == ["void"]
    assert await rig.send([to], text="Parcel", idempotency_key="again") == [one]
    async with rig.delivering():
        found = await rig.results(lambda _found: False, 1.5)
    assert [message.ref for message in rig.wire] == [one]
    assert [said.outcome for said in found[one]] == ["submitted"]


async def test_an_orderly_handover_loses_and_doubts_nothing(rig: Rig) -> None:
    ids = await rig.send(numbers(1500))
    for _ in range(3):
        async with rig.delivering(Profile(latency_s=0.05)):
            await asyncio.sleep(0.25)
    async with rig.delivering():
        found = await rig.results(lambda found: len(found) == len(ids))
    assert sorted(message.ref for message in rig.wire) == sorted(ids)
    assert outcomes(found) == {"submitted": len(ids)}


async def test_members_that_come_and_go_share_the_work(rig: Rig) -> None:
    ids = await rig.send(numbers(1500))
    slow = Profile(latency_s=0.05)
    async with rig.delivering(slow):
        await asyncio.sleep(0.2)
        async with rig.delivering(slow):
            await asyncio.sleep(0.5)
        ids += await rig.send(numbers(500))
        found = await rig.results(lambda found: len(found) == len(ids))
    assert sorted(message.ref for message in rig.wire) == sorted(ids)
    assert outcomes(found) == {"submitted": len(ids)}


async def test_a_guard_that_hangs_delays_and_changes_nothing(
    own_part: Callable[[str], Part], kafka_bootstrap: str, topic_prefix: str
) -> None:
    valkey = own_part("valkey")
    pid = valkey.child.pid
    assert pid
    async with rigged(valkey.endpoint, kafka_bootstrap, f"{topic_prefix}{next(_counter)}.") as rig:
        ids = await rig.send(numbers(1000))
        async with rig.delivering(Profile(latency_s=0.05)):
            while len(rig.wire) < 200:  # noqa: ASYNC110 - the carrier has no event
                await asyncio.sleep(0.005)
            os.killpg(pid, signal.SIGSTOP)
            await asyncio.sleep(2.5)
            reached = len(rig.wire)
            await asyncio.sleep(0.3)
            assert len(rig.wire) == reached < len(ids)
            os.killpg(pid, signal.SIGCONT)
            found = await rig.results(lambda found: len(found) == len(ids))
    assert sorted(message.ref for message in rig.wire) == sorted(ids)
    assert outcomes(found) == {"submitted": len(ids)}


async def test_kill_9_in_the_middle(rig: Rig, redis_url: str, kafka_bootstrap: str, tmp_path: Path) -> None:
    ids = await rig.send(numbers(600))
    log = tmp_path / "wire.log"
    command = [
        sys.executable,
        "-m",
        "tests.integration.deliver_rig",
        redis_url,
        kafka_bootstrap,
        rig.topics.prefix,
        str(log),
    ]
    with subprocess.Popen(command) as process:  # noqa: ASYNC220 - it is only killed
        until = time.monotonic() + 20
        while not log.exists() or len(log.read_text().splitlines()) < 130:
            assert time.monotonic() < until, "the deliverer never submitted"
            await asyncio.sleep(0.005)
        process.kill()
    before = log.read_text().splitlines()
    assert len(before) < len(ids), "killed too late to show anything"
    async with rig.delivering():
        found = await rig.results(lambda found: len(found) == len(ids), within_s=25)
    wire = before + [message.ref for message in rig.wire]
    assert max(Counter(wire).values()) == 1, "submitted twice"
    by_outcome = {one: {result.outcome for result in found[one]} for one in ids}
    assert all(by_outcome.values()), "lost"
    doubtful = {one for one, seen in by_outcome.items() if seen == {"doubtful"}}
    assert {one for one in ids if one not in set(wire)} <= doubtful
    assert {one for one in before if "submitted" not in by_outcome[one]} <= doubtful
    assert doubtful
    assert len(doubtful) <= 2 * 256
