"""What settlement has told to clients: which changes, to whom, in the same commit, and nothing of anybody's number."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.contract.decision import Cause, Status
from gateway.contract.ids import subject_of
from gateway.contract.wire import Reply
from gateway.records import subscriptions, webhooks
from gateway.settle.notices import Notices
from gateway.settle.seals import open_body, seal_secret
from tests.integration.settle_world import KEYS, NUMBER, PEPPER, World, a_world, accepted, now, receipt, submitted

pytestmark = pytest.mark.integration
URL = "https://hooks.example/assent?token=of-the-receiver"
SECRET = "whsec_" + "QUJD" * 8


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


async def subscribe(world: World, client: str, url: str | None, **more: Any) -> None:
    address = None if url is None else Notices(KEYS).address(client, url)
    async with world.pool.acquire() as conn, conn.transaction():
        await subscriptions.put_secret(conn, client, seal_secret(KEYS, client, SECRET), None)
        if address is not None:
            await webhooks.remember(conn, [address], now())
        await subscriptions.subscribe(conn, client, address=address and address.name, called_again=True, **more)


async def told(world: World, where: str = "true", *args: Any) -> list[dict[str, Any]]:
    query = f"SELECT id, sealed FROM webhooks WHERE {where} ORDER BY made_at, id"  # noqa: S608 - ours
    rows = await world.pool.fetch(query, *args)
    return [orjson.loads(open_body(KEYS, row["id"], row["sealed"])) for row in rows]


async def statuses(world: World, message_id: str) -> list[str]:
    found = await told(world, "message = $1", message_id)
    return [one["data"]["status"] for one in sorted(found, key=lambda one: one["data"]["rank"])]


async def test_each_change_after_the_answer_is_told_where_the_message_says(world: World) -> None:
    message, silent = accepted(callback_url=URL, client_ref="order-1"), accepted()
    async with world.settling():
        await world.accept(message, silent)
        await world.becomes(message.id, Status.QUEUED)
        assert await statuses(world, message.id) == []
        await world.say(world.names.results, submitted(message.id, carrier_id="77"), submitted(silent.id))
        await world.becomes(message.id, Status.SENT)
    async with world.settling():  # nothing remembered: the row in PostgreSQL knows its address
        await world.say(world.names.receipts, *[receipt(ref=message.id, carrier_id="77")] * 2)
        await world.becomes(message.id, Status.DELIVERED)
    found = await told(world, "message = $1", message.id)
    assert [one["data"]["status"] for one in found] == ["sent", "delivered"]
    last = found[-1]
    assert last["type"] == "message.status"
    assert {name: last["data"][name] for name in ("id", "client_ref", "cause", "code", "attempt", "parts")} == {
        "id": message.id, "client_ref": "order-1", "cause": "none", "code": "000", "attempt": 1, "parts": 1
    }  # fmt: skip
    assert last["data"]["at"] == last["timestamp"]
    assert NUMBER[1:] not in str(found)
    assert await statuses(world, silent.id) == []
    assert await world.value("SELECT callback IS NULL FROM messages WHERE id = $1", silent.id)
    for column in ("sealed", "name", "lane"):
        stored = await world.value(f"SELECT string_agg({column}, '') FROM webhook_addresses")  # noqa: S608 - ours
        assert b"hooks.example" not in stored
        assert b"token" not in stored


async def test_what_happens_within_one_flush_is_told_once_as_it_stands(world: World) -> None:
    message = accepted(callback_url=URL)
    await world.accept(message)
    await world.say(world.names.results, submitted(message.id, outcome="rejected", code="8", cause=Cause.CONTENT))
    async with world.settling():
        await world.becomes(message.id, Status.REJECTED)
    (one,) = await told(world, "message = $1", message.id)
    assert (one["data"]["status"], one["data"]["cause"], one["data"]["code"]) == ("rejected", "content", "8")


async def test_a_held_message_that_is_released_is_told_of_and_one_that_was_accepted_is_not(world: World) -> None:
    held = accepted(callback_url=URL, due=now())
    async with world.settling():
        await world.say(world.names.held, held)
        await world.becomes(held.id, Status.HELD)
        assert await statuses(world, held.id) == []
        await world.accept(held.model_copy(update={"due": None}))
        await world.becomes(held.id, Status.QUEUED)
        assert await statuses(world, held.id) == ["queued"]
    both = accepted(callback_url=URL, due=now())
    await world.say(world.names.held, both)
    await world.accept(both.model_copy(update={"due": None}))
    async with world.settling():
        await world.becomes(both.id, Status.QUEUED)
    assert await statuses(world, both.id) == ["queued"]


async def test_news_that_comes_before_its_message_is_told_with_it(world: World) -> None:
    message = accepted(callback_url=URL)
    async with world.settling():
        await world.say(world.names.results, submitted(message.id))
        await world.until(lambda: world.value("SELECT count(*) = 1 FROM messages WHERE id = $1", message.id))
        assert await statuses(world, message.id) == []
        await world.accept(message)
        await world.until(lambda: world.value("SELECT callback IS NOT NULL FROM messages WHERE id = $1", message.id))
    assert await statuses(world, message.id) == ["sent"]
    async with world.settling():
        await world.say(world.names.receipts, receipt(ref=message.id))
        await world.becomes(message.id, Status.DELIVERED)
    assert await statuses(world, message.id) == ["sent", "delivered"]


async def test_a_copy_of_an_acceptance_and_a_receipt_that_says_nothing_new_tell_nothing(world: World) -> None:
    message = accepted(callback_url=URL)
    async with world.settling():
        await world.accept(message)
        await world.say(world.names.results, submitted(message.id))
        await world.becomes(message.id, Status.SENT)
    async with world.settling():
        await world.accept(message)
        await world.say(world.names.receipts, receipt(ref=message.id, status=Status.SENT, raw_status="ACCEPTD"))
        other = accepted()
        await world.accept(other)
        await world.becomes(other.id, Status.QUEUED)
    assert await statuses(world, message.id) == ["sent"]


async def test_a_clients_own_address_is_told_of_messages_that_name_none(world: World) -> None:
    await subscribe(world, "till", "https://till.example/hooks")
    plain, named = accepted(client="till"), accepted(client="till", callback_url=URL)
    async with world.settling():
        await world.accept(plain, named)
        await world.say(world.names.results, submitted(plain.id), submitted(named.id))
        await world.becomes(plain.id, Status.SENT)
        await world.becomes(named.id, Status.SENT)
        addresses = await world.pool.fetch("SELECT message, address, client FROM webhooks WHERE client = 'till'")
        assert {row["message"] for row in addresses} == {uuid.UUID(plain.id), uuid.UUID(named.id)}
        assert len({row["address"] for row in addresses}) == 2
        await subscribe(world, "till", "https://till.example/hooks", statuses=False)
        await asyncio.sleep(1.2)
        later = accepted(client="till")
        await world.accept(later)
        await world.say(world.names.results, submitted(later.id))
        await world.becomes(later.id, Status.SENT)
    assert await statuses(world, later.id) == []


async def test_an_address_that_is_gone_is_told_nothing_more(world: World) -> None:
    url = "https://gone.example/x"
    async with world.pool.acquire() as conn:
        address = Notices(KEYS).address("demo", url)
        await webhooks.remember(conn, [address], now())
        await webhooks.gone(conn, [address.name], now())
    message = accepted(callback_url=url)
    async with world.settling():
        await world.accept(message)
        await world.say(world.names.results, submitted(message.id))
        await world.becomes(message.id, Status.SENT)
    assert await statuses(world, message.id) == []


def reply(number: str, text: str, **more: object) -> Reply:
    fields = {"carrier": "sim", "reply_id": random.randbytes(6).hex(), "port": "10690002", "blocked": False}
    subject = subject_of(PEPPER, number).hex()
    return Reply(sender_number=number, subject=subject, text=text, at=now(), received_at=now(), **{**fields, **more})


async def test_replies_go_to_those_who_follow_the_sender_and_a_repeated_one_goes_once(world: World) -> None:
    await subscribe(world, "care", "https://care.example/hooks", replies=["acme"])
    await subscribe(world, "all", "https://all.example/hooks", replies=["*"], statuses=False)
    await subscribe(world, "deaf", "https://deaf.example/hooks")
    await subscribe(world, "else", "https://else.example/hooks", replies=["bolt"])
    number = f"+86139{random.randrange(10**8):08d}"
    asks, refuses, nobodys = reply(number, "什么时候到?"), reply(number, "退订"), reply(number, "你好", port="10699999")
    subject = subject_of(PEPPER, number)
    async with world.settling():
        await world.say(world.names.replies, asks, asks, refuses, nobodys)
        await world.until(lambda: world.value("SELECT count(*) = 3 FROM replies WHERE subject = $1", subject))
        assert await world.value("SELECT count(*) FROM webhooks WHERE subject = $1", subject) == 4
        found = await told(world, "subject = $1 AND client = 'care'", subject)
        for column in await world.pool.fetch("SELECT sealed FROM webhooks WHERE subject = $1", subject):
            assert number.encode() not in column["sealed"]
        await world.pool.execute("DELETE FROM webhooks WHERE subject = $1", subject)  # as if they were delivered
        await world.say(world.names.replies, asks, refuses)
        again = reply(number, "谢谢")
        await world.say(world.names.replies, again)
        await world.until(lambda: world.value("SELECT count(*) = 4 FROM replies WHERE subject = $1", subject))
        assert await world.value("SELECT count(*) FROM webhooks WHERE subject = $1", subject) == 2
    by_kind = {one["type"]: one["data"] for one in found}
    assert set(by_kind) == {"recipient.reply", "recipient.opted_out"}
    said, out = by_kind["recipient.reply"], by_kind["recipient.opted_out"]
    assert (said["text"], said["from"], said["sender"], said["port"]) == ("什么时候到?", number, "acme", "10690002")
    assert (said["id"], said["subject"]) == (asks.reply_id, subject.hex())
    assert (out["scope"], out["from"], "text" in out) == ("acme#marketing", number, False)
