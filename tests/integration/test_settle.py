"""Settlement on real Kafka, PostgreSQL and Valkey: each statement once, whatever the order."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.contract.decision import Basis, Cause, Reason, Status
from gateway.contract.ids import new_id, subject_of
from gateway.contract.wire import DeadLetter, Reply
from gateway.stream import Reader, decode
from tests.integration.guard_asks import a_customer, a_plan, an_ask, window
from tests.integration.settle_world import HOUR_MS, PEPPER, World, a_world, accepted, now, receipt, submitted

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


async def test_a_message_is_followed_from_acceptance_to_delivery(world: World) -> None:
    subject = random.randbytes(16)
    message = accepted(
        subject=subject.hex(), client_ref="order-1", campaign="may", long_windows=[("M/acme", 99)], request_ref="q1"
    )
    async with world.settling():
        await world.accept(message)
        await world.becomes(message.id, Status.QUEUED)
        await world.say(world.names.results, submitted(message.id, carrier_id="77"))
        await world.becomes(message.id, Status.SENT)
        await world.say(world.names.receipts, *[receipt(ref=message.id, carrier_id="77")] * 2)
        found = await world.becomes(message.id, Status.DELIVERED)
    assert [(entry.status, entry.code) for entry in found.timeline] == [
        (Status.QUEUED, None), (Status.SENT, "0"), (Status.DELIVERED, "000")
    ]  # fmt: skip
    assert [entry.raw for entry in found.receipts] == ["DELIVRD"]
    assert found.decision is not None
    assert (found.decision.basis, found.decision.ledger_entry, found.decision.pack) == (Basis.CONSENT, 7, "cn@1")
    assert (found.client, found.campaign, found.carrier, found.carrier_id) == ("demo", "may", "sim", "77")
    for found_by in ({"subject": subject}, {"client_ref": "order-1"}, {"subject": subject, "client_ref": "order-1"}):
        assert await world.messages.search(**found_by) == [found]
    assert await world.messages.search(subject=subject, client="another") == []
    assert await world.messages.search(subject=subject, before=message.id) == []
    assert await world.counted() == {2: 1, 3: 1, 4: 1}
    assert await world.value("SELECT stamp FROM long_windows WHERE subject = $1 AND field = 'M/acme'", subject) == 99
    assert await world.value("SELECT ref FROM used_requests WHERE subject = $1", subject) == "q1"
    words = await world.pool.fetchrow("SELECT status, sender FROM message_log WHERE id = $1", message.id)
    assert tuple(words) == ("delivered", "acme")


async def test_a_flush_that_takes_too_long_is_tried_with_less_until_it_passes(world: World) -> None:
    """A busy PostgreSQL ends statements after five seconds: the same again would take as long, for ever."""
    messages = [accepted() for _ in range(1_200)]
    await world.accept(*messages)
    settle = world.settle(most_records=1_000)
    write, sizes = settle._write, list[int]()

    async def slow(conn: Any, known: Any, buffer: Any) -> Any:
        sizes.append(len(buffer))
        if len(buffer) > 300:
            raise TimeoutError
        return await write(conn, known, buffer)

    settle._write = slow  # type: ignore[method-assign]
    stop = asyncio.Event()
    task = asyncio.create_task(settle.run(stop))
    ids = [message.id for message in messages]
    await world.until(lambda: world.value("SELECT count(*) = 1200 FROM messages WHERE id = ANY($1)", ids), 30)
    stop.set()
    await task
    assert max(sizes) > 300


async def test_receipts_find_their_message_before_the_result_by_case_zeros_and_base(world: World) -> None:
    first, second, third = accepted(), accepted(), accepted()
    async with world.settling():
        await world.accept(first, second, third)
        await world.say(world.names.receipts, receipt(carrier_id="a1f"), receipt(carrier_id="171421", raw_code="d"))
        await world.until(lambda: world.value("SELECT count(*) = 2 FROM orphans"))
        await world.say(
            world.names.results,
            submitted(first.id, carrier_id="000A1F"),
            submitted(second.id, carrier_id="29d9d"),
            submitted(third.id, carrier_id="B0b"),
        )
        await world.becomes(first.id, Status.DELIVERED)
        await world.becomes(second.id, Status.DELIVERED)
        await world.becomes(third.id, Status.SENT)
        assert await world.value("SELECT count(*) FROM orphans") == 0
    async with world.settling():  # nothing remembered: the map in PostgreSQL answers
        await world.say(world.names.receipts, receipt(carrier_id="00b0B"))
        await world.becomes(third.id, Status.DELIVERED)


async def test_an_orphan_survives_a_restart(world: World) -> None:
    message = accepted()
    async with world.settling():
        await world.say(world.names.receipts, receipt(carrier_id="c0ffee"))
        await world.until(lambda: world.value("SELECT count(*) = 1 FROM orphans"))
    async with world.settling():
        await world.accept(message)
        await world.say(world.names.results, submitted(message.id, carrier_id="C0FFEE"))
        await world.becomes(message.id, Status.DELIVERED)


async def test_a_copy_published_after_a_restart_changes_nothing(world: World) -> None:
    message = accepted()
    async with world.settling():
        await world.accept(message)
        await world.say(world.names.results, submitted(message.id, carrier_id="c7"))
        before = await world.becomes(message.id, Status.SENT)
    counted = await world.counted()
    other = accepted()
    async with world.settling():
        await world.accept(message, other)
        await world.becomes(other.id, Status.QUEUED)
        assert await world.messages.by_id(message.id) == before
    assert await world.counted() == {**counted, 2: counted[2] + 1}


async def test_a_held_message_is_released_days_later(world: World) -> None:
    made = now() - 3 * 24 * HOUR_MS
    message = accepted(id=new_id(1, made), accepted_at=made, due=now(), entry=1)
    async with world.settling():
        await world.say(world.names.held, message)
        await world.becomes(message.id, Status.HELD)
    async with world.settling():
        await world.accept(message.model_copy(update={"due": None, "entry": 2}))
        released = await world.becomes(message.id, Status.QUEUED)
    assert released.decision is not None
    assert released.decision.ledger_entry == 2


async def test_what_nobody_can_settle_is_a_dead_letter_and_the_rest_goes_on(world: World) -> None:
    good = accepted()
    async with world.settling():
        await world.accept(accepted(subject="zz"), good)
        await world.say(world.names.receipts, b"{not json", receipt(ref=good.id, raw_code="a\0b"))
        await world.say(world.names.replies, b"[]")
        assert (await world.becomes(good.id, Status.DELIVERED)).code == "ab"
        reader = Reader(world.bootstrap, [world.names.dead], world.names, "test")
        for place in await reader.start():
            reader.seek(place, 0)
        letters: list[DeadLetter] = []
        async with asyncio.timeout(10):
            while len(letters) < 3:
                batch = await reader.getmany(0.2, 10)
                letters += [decode(DeadLetter, one.value) for found in batch.values() for one in found]
        await reader.stop()
    assert {(one.topic, one.error) for one in letters} == {
        ("messages.marketing", "Unfit"), ("receipts", "Undecodable"), ("replies", "Undecodable")
    }  # fmt: skip


async def test_a_record_that_came_in_late_is_cancelled_unless_its_id_was_accepted_again(world: World) -> None:
    """Kafka answered too late, so the caller was told 503; deliver found the message void."""
    subject, before = random.randbytes(16), await world.counted()
    first = accepted(subject=subject.hex(), long_windows=[("M/acme", now() - 5_000)])
    late = submitted(first.id, outcome="cancelled", code="unavailable", carrier="", at=now() + 10_000)
    stamps = "SELECT array_agg(stamp) FROM long_windows WHERE subject = $1"
    async with world.settling():
        await world.accept(first)
        await world.say(world.names.results, late)
        found = await world.becomes(first.id, Status.CANCELLED)
        assert (found.code, found.timeline[-1].code) == ("unavailable", "unavailable")
        assert await world.value(stamps, subject) is None
        assert await world.value("SELECT count(*) FROM refunds_due WHERE id = $1", first.id) == 0
        again = now() + 60_000
        await world.accept(first.model_copy(update={"accepted_at": now(), "long_windows": [("M/acme", again)]}))
        await world.say(world.names.results, submitted(first.id), late)
        await world.becomes(first.id, Status.SENT)
        assert await world.value(stamps, subject) == [again]
    after = await world.counted()
    gained = {status: n - before.get(status, 0) for status, n in after.items() if n != before.get(status, 0)}
    assert gained == {2: 1, 3: 1}


async def test_a_rejection_gives_window_slots_and_long_windows_back_once(world: World) -> None:
    subject = await a_customer(world.guard)
    ask = an_ask(subject, a_plan(window(1, 24 * HOUR_MS)))
    (verdict,) = await world.guard.admit([ask], 0)
    assert verdict.code is None
    message = accepted(id=ask.id, subject=subject.hex(), long_windows=[("M/acme", 5)])
    async with world.settling():
        await world.accept(message)
        await world.say(world.names.results, submitted(ask.id, outcome="rejected", code="KEYWORD", cause=Cause.CONTENT))
        found = await world.becomes(ask.id, Status.REJECTED)
        assert (found.code, found.cause) == ("KEYWORD", Cause.CONTENT)
        await world.until(lambda: world.value("SELECT count(*) = 0 FROM refunds_due"))
    record = await world.guard.record(ask.id)
    assert record is not None
    assert record.refunded
    (again,) = await world.guard.admit([an_ask(subject, a_plan(window(1, 24 * HOUR_MS)))], 0)
    assert again.code is None
    assert await world.value("SELECT count(*) FROM long_windows WHERE subject = $1", subject) == 0


async def test_a_carriers_blacklist_becomes_a_suppression(world: World) -> None:
    subject = random.randbytes(16)
    message = accepted(subject=subject.hex())
    async with world.settling():
        await world.accept(message)
        await world.say(
            world.names.receipts,
            receipt(ref=message.id, status=Status.UNDELIVERED, raw_status="BLACK", cause=Cause.CARRIER_OPT_OUT),
        )
        state = await world.until(lambda: world.appender.state(subject))
        await world.until(lambda: world.value("SELECT count(*) = 0 FROM suppressions_due"))
    assert [one.reason for one in state.suppressions["acme#marketing"]] == [Reason.CARRIER]


def reply(number: str, text: str, **more: object) -> Reply:
    fields = {"carrier": "sim", "reply_id": random.randbytes(6).hex(), "port": "10690002", "blocked": True}
    subject = subject_of(PEPPER, number).hex()
    return Reply(sender_number=number, subject=subject, text=text, at=now(), received_at=now(), **{**fields, **more})


async def test_a_refusal_becomes_one_event_and_the_provisional_block_gives_way_to_it(world: World) -> None:
    number = f"+86139{random.randrange(10**8):08d}"
    subject, said = subject_of(PEPPER, number), reply(number, "退订")
    await world.guard.block(subject, ["acme#marketing"])
    async with world.settling():
        await world.say(world.names.replies, said, said, reply(number, "谢谢", blocked=False))
        await world.until(lambda: world.value("SELECT count(*) = 2 FROM replies WHERE subject = $1", subject))
    state = await world.appender.state(subject)
    assert state is not None
    assert [one.reason for one in state.suppressions["acme#marketing"]] == [Reason.OPT_OUT]
    assert len(await world.appender.history(subject)) == 1
    assert await world.appender.number(subject) == number
    meanings = await world.pool.fetch("SELECT meaning, scope FROM replies WHERE subject = $1 ORDER BY meaning", subject)
    assert [tuple(row) for row in meanings] == [("other", None), ("refusal", "acme#marketing")]
    plan = a_plan(basis=Basis.CONSENT, consents=("acme/marketing",), relationships=(), scopes=("acme#marketing",))
    (verdict,) = await world.guard.admit([an_ask(subject, plan)], 0)
    assert verdict.code is not None  # by the event; the block itself is gone
    assert await world.guard.server.command("EXISTS", b"b" + _tagged(subject)) == 0


async def test_one_replys_event_does_not_lift_the_block_of_the_next(world: World) -> None:
    number = f"+86139{random.randrange(10**8):08d}"
    subject = subject_of(PEPPER, number)
    first, second = reply(number, "R"), reply(number, "R", port="10690001")
    await world.guard.block(subject, ["acme#marketing"], first.token)
    await world.guard.block(subject, ["acme"], second.token)
    async with world.settling():
        await world.say(world.names.replies, first)
        await world.until(lambda: world.value("SELECT count(*) = 1 FROM replies WHERE subject = $1", subject))
        (verdict,) = await world.guard.admit([an_ask(subject, a_plan(relationships=(), basis=Basis.REQUEST))], 0)
        assert verdict.code == "suppressed"
        await world.say(world.names.replies, second)
        await world.until(lambda: world.value("SELECT count(*) = 2 FROM replies WHERE subject = $1", subject))
    assert await world.guard.server.command("EXISTS", b"b" + _tagged(subject)) == 0


def _tagged(subject: bytes) -> bytes:
    from gateway.guard import keys  # noqa: PLC0415 - the only look behind the guard

    return keys.BLOCK[subject[0]][1:] + subject


@pytest.mark.parametrize(("port", "scope"), [("10690001", "acme/transaction.order"), ("10699999", "*#marketing")])
async def test_the_scope_follows_the_port_and_what_was_last_sent_from_it(world: World, port: str, scope: str) -> None:
    number = f"+86139{random.randrange(10**8):08d}"
    subject = subject_of(PEPPER, number)
    made = new_id(3, now() - 5)  # ids of one millisecond have no order
    earlier = accepted(id=made, subject=subject.hex(), purpose="membership.tier", port="10690001")
    latest = accepted(subject=subject.hex(), purpose="transaction.order", port="10690001")
    async with world.settling():
        await world.accept(earlier)
        await world.becomes(earlier.id, Status.QUEUED)
        await world.accept(latest)
        await world.becomes(latest.id, Status.QUEUED)
        await world.say(world.names.replies, reply(number, "R", port=port))
        await world.until(lambda: world.value("SELECT count(*) = 1 FROM replies WHERE subject = $1", subject))
    state = await world.appender.state(subject)
    assert state is not None
    assert list(state.suppressions) == [scope]
