"""What a refusal ends though settlement is behind, a carrier repeats ids, or a process died before its record."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.contract.consent import State
from gateway.contract.decision import Class, Reason, Status
from gateway.contract.ids import new_id, subject_of
from gateway.contract.wire import Accepted, Record, Reply
from gateway.records import settlement
from gateway.rules.pack import load
from gateway.rules.replies import Meaning, Read
from gateway.settle.abreast import MOST_S, Abreast, NotYetError
from gateway.settle.ending import Scope, event_of
from gateway.settle.taken import Taken
from gateway.stream import Reader
from tests.integration.settle_world import ACME, PEPPER, World, a_world, accepted, now

pytestmark = pytest.mark.integration
SERVICE, MARKETING = "10690001", "10690002"
NOTED = "SELECT count(*) = $2 FROM replies WHERE subject = $1"
OWED = "SELECT count(*) FROM answers_due WHERE subject = $1"


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


def number() -> str:
    return f"+86139{random.randrange(10**8):08d}"


def notice(to: str, purpose: str, at: int) -> Accepted:
    """A message from the service port, accepted at a time."""
    cls = Class(purpose.partition(".")[0]) if purpose.startswith("verification") else Class.TRANSACTIONAL
    subject = subject_of(PEPPER, to).hex()
    return accepted(id=new_id(3, at), to=to, subject=subject, purpose=purpose, cls=cls, port=SERVICE, accepted_at=at)


def reply(to: str, text: str = "T", port: str = SERVICE, **more: Any) -> Reply:
    fields = {"carrier": "sim", "reply_id": random.randbytes(6).hex(), "at": now(), "received_at": now()}
    fields |= {"sender_number": to, "subject": subject_of(PEPPER, to).hex(), "text": text, "port": port}
    return Reply.model_validate({**fields, "blocked": text == "T", **more})


async def write(world: World, *messages: Accepted) -> None:
    for one in messages:
        await world.say(world.names.messages(one.cls), one)


async def settled(world: World, to: str, *said: Record, n: int) -> State:
    """What stands about a person once so many of their replies are noted."""
    subject = subject_of(PEPPER, to)
    await world.say(world.names.replies, *said)
    await world.until(lambda: world.value(NOTED, subject, n))
    state = await world.appender.state(subject)
    assert state is not None
    return state


def opted_out(state: State) -> set[str]:
    return {scope for scope, held in state.suppressions.items() if any(one.reason == Reason.OPT_OUT for one in held)}


async def test_a_refusal_waits_for_the_message_that_it_answers(world: World) -> None:
    """Settle was away: its replies are read at once, the messages before them are still to be written."""
    to = number()
    earlier, latest = notice(to, "membership.tier", now() - 60_000), notice(to, "transaction.order", now() - 5_000)
    async with world.settling():
        await write(world, earlier)
        await world.becomes(earlier.id, Status.QUEUED)
    await write(world, latest)
    said = reply(to, received_at=now() + 2_000)
    await world.guard.block(subject_of(PEPPER, to), ["acme"], said.token)
    async with world.settling(flush_s=1.5):
        assert opted_out(await settled(world, to, said, n=1)) == {"acme/transaction.order"}


async def test_it_waits_no_longer_than_it_must_and_then_knows_nothing(world: World) -> None:
    """Settlement that stands still holds refusals up once, for as long as it may; then they end everything."""
    reader = Reader(world.bootstrap, [world.names.messages(Class.TRANSACTIONAL)], world.names, "test")
    late, seconds = notice(number(), "transaction.order", now() - 5_000), [0.0]
    abreast = Abreast(reader, world.names, "nobody", monotonic=lambda: seconds[0])
    await write(world, late)
    async with world.pool.acquire() as conn:
        for at in (0.0, MOST_S - 1):
            seconds[0] = at
            with pytest.raises(NotYetError):
                await abreast.of(conn, now() + 5_000)
        seconds[0] = MOST_S
        assert not await abreast.of(conn, now() + 5_000)
        ends = await reader.since(now() + 5_000, [world.names.messages(cls) for cls in Class])
        assert ends is not None
        told = {(world.names.label(place.topic), place.partition): end for place, end in ends.items()}
        await settlement.begin_offsets(conn, "nobody", told)
        assert await abreast.of(conn, now() + 5_000)
        await write(world, late)
        with pytest.raises(NotYetError):
            await abreast.of(conn, now() + 5_000)
    await reader.stop()


async def test_a_refusal_is_not_about_what_was_sent_after_it(world: World) -> None:
    to = number()
    before, after = notice(to, "transaction.shipping", now() - 90_000), notice(to, "transaction.order", now() - 10_000)
    async with world.settling():
        await write(world, before, after)
        await world.becomes(after.id, Status.QUEUED)
        await world.becomes(before.id, Status.QUEUED)
        state = await settled(world, to, reply(to, received_at=now() - 60_000), n=1)
    assert opted_out(state) == {"acme/transaction.shipping"}


async def test_a_code_between_a_notice_and_its_refusal_leaves_the_refusal_its_effect(world: World) -> None:
    to, stranger = number(), number()
    shipped = notice(to, "transaction.shipping", now() - 9_000)
    codes = [notice(one, "verification.code", now() - 4_000) for one in (to, stranger)]
    async with world.settling():
        await write(world, shipped, *codes)
        for one in (shipped, *codes):
            await world.becomes(one.id, Status.QUEUED)
        assert opted_out(await settled(world, to, reply(to), n=1)) == {"acme/transaction.shipping"}
        assert opted_out(await settled(world, stranger, reply(stranger), n=1)) == {"acme"}


async def test_a_carrier_that_uses_an_id_again_loses_no_refusal(world: World) -> None:
    to = number()
    subject = subject_of(PEPPER, to)
    hello = reply(to, "什么时候到货", MARKETING)
    refusal = reply(to, "T", MARKETING, reply_id=hello.reply_id)
    await world.guard.block(subject, ["acme#marketing"], refusal.token)
    async with world.settling():
        await world.say(world.names.replies, hello)
        await world.until(lambda: world.value(NOTED, subject, 1))
        await world.say(world.names.replies, refusal)
        await world.until(lambda: world.appender.state(subject))
        state = await settled(world, to, refusal, hello, reply(to, "谢谢", MARKETING), n=2)
    assert opted_out(state) == {"acme#marketing"}
    assert await world.value(OWED, subject) == 1
    assert len(await world.appender.history(subject)) == 1


async def test_said_again_before_and_after_a_crash_it_is_acknowledged_once(world: World) -> None:
    """The second refusal's event stands, its batch does not: read again, it is no news."""
    to = number()
    subject = subject_of(PEPPER, to)
    first, second = (reply(to, "T", MARKETING, received_at=now() - ago) for ago in (5_000, 1_000))
    taken = Taken(second, Read(Meaning.REFUSAL), ACME, load("cn"), ())
    async with world.settling():
        await settled(world, to, first, n=1)
        assert await world.value(OWED, subject) == 1
        appended = await world.appender.append([event_of(second, taken.read, Scope("acme", cls=Class.MARKETING))])
        assert appended[0].refusal is None
        await settled(world, to, second, n=2)
    assert await world.value(OWED, subject) == 1


async def test_a_record_that_names_nobody_stops_nobodys_refusal(world: World) -> None:
    to = number()
    bad = [
        reply(to, subject="0a"),
        reply(to, subject=""),
        reply(to, subject="zz" * 16),
        reply(to, received_at=-1),
    ]
    async with world.settling():
        state = await settled(world, to, *bad, reply(to, port=MARKETING, at=1 << 80), n=1)
    assert opted_out(state) == {"acme#marketing"}
