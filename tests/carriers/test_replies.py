"""Replies from the carrier's callback to what follows: endings, one acknowledgement, solicited consent, help."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio
from edge_app import Running, running, settling
from opt_in_form import Codes, codes, number
from settle_world import accepted

from gateway.contract.codes import Code
from gateway.contract.consent import Event, EventKind
from gateway.contract.ids import subject_of
from gateway.contract.wire import Reply
from gateway.intake import Released, release
from gateway.ledger.events import grant
from gateway.records import inbound, registry
from gateway.records.inbound import Due
from gateway.records.personal import Personal
from gateway.stream import encode

pytestmark = pytest.mark.integration
SERVICE, MARKETING = "10690001", "10690002"
ACK = "consent.opt_out_ack"
QUESTION = "是否愿意接收新品与会员资讯？每周至多1条，有效期一年，愿意请回复Y。"
NO_WAY_OUT = Code.PORT_NO_REPLY_ROUTE


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with (
        running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served,
        settling(served, kafka_bootstrap, served.gate.intake),
    ):
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sent(edge: Running, kafka_bootstrap: str) -> AsyncIterator[Codes]:
    async with codes(edge, kafka_bootstrap) as read:
        yield read


async def post(edge: Running, person: str, text: str, port: str, **more: Any) -> None:
    """A carrier's callback, answered."""
    item = {"from": person, "to": port, "text": text, **more}
    answer = await edge.http.post(
        "/v1/carriers/http/replies", json={"replies": [item]}, headers=edge.as_("carrier-http")
    )
    assert answer.json() == {"taken": 1, "unreadable": 0}


async def replied(edge: Running, person: str, text: str, port: str = MARKETING) -> tuple[str, str | None]:
    """A reply that settle has read: what it meant, and the scope it ended."""
    name = uuid.uuid4().hex
    await post(edge, person, text, port, id=name)
    return await meaning(edge, name)


async def meaning(edge: Running, name: str) -> tuple[str, str | None]:
    async with asyncio.timeout(15):
        while True:
            row = await edge.gate.pool.fetchrow("SELECT meaning, scope FROM replies WHERE reply_id = $1", name)
            if row is not None:
                return row["meaning"], row["scope"]
            await asyncio.sleep(0.03)


async def answered(edge: Running, person: str) -> None:
    """Nothing is owed to the person any more."""
    subject = subject_of(edge.gate.pepper, person)
    async with asyncio.timeout(15):
        while await edge.gate.pool.fetchval("SELECT count(*) FROM answers_due WHERE subject = $1", subject):  # noqa: ASYNC110
            await asyncio.sleep(0.03)


async def customer(edge: Running, person: str) -> None:
    """Consents to marketing, and has an order."""
    now = datetime.now(UTC).isoformat()
    evidence = {"checkbox_checked": True, "form_version": "1"}
    grant = {"recipient": person, "sender": "acme", "topics": ["marketing"], "action": "grant", "channel": "web",
             "occurred_at": now, "evidence": evidence}  # fmt: skip
    order = {"recipient": person, "sender": "acme", "kind": "order", "ref": "1", "occurred_at": now}
    assert (await edge.http.post("/v1/consents", json=grant)).status_code == 201
    assert (await edge.http.post("/v1/relationships", json=order)).status_code == 201


async def send(edge: Running, person: str, purpose: str, text: str = "", **more: Any) -> tuple[int, str | None]:
    body = {"to": person, "sender": "acme", "purpose": purpose, "text": text or f"您好 {uuid.uuid4()}", **more}
    answer = await edge.http.post("/v1/messages", json=body)
    if answer.status_code == 202:
        await known(edge, answer.json()["id"])
        return 202, None
    return answer.status_code, answer.json()["code"]


async def known(edge: Running, message: str) -> None:
    """Settle knows the message."""
    async with asyncio.timeout(15):
        while not await edge.gate.pool.fetchval("SELECT count(*) FROM messages WHERE id = $1", message):  # noqa: ASYNC110
            await asyncio.sleep(0.03)


async def may(edge: Running, person: str, purpose: str) -> str | None:
    """The code that refuses a purpose to a person now, hours aside; none where it may be sent."""
    ref = {"ref": uuid.uuid4().hex, "occurred_at": datetime.now(UTC).isoformat()}
    body = {"to": person, "sender": "acme", "purpose": purpose, "text": "您好", "request": ref}
    answer = await edge.http.post("/v1/messages/check", json=body)
    assert answer.status_code == 200, answer.text
    code: str | None = answer.json()["code"]
    return code


async def history(edge: Running, person: str, kind: str) -> list[dict[str, Any]]:
    found = await edge.gate.reading.history(subject_of(edge.gate.pepper, person))
    return [row["data"] for row in found if row["kind"] == kind]


async def acks(edge: Running, sent: Codes, person: str, n: int) -> list[str]:
    """The texts of the acknowledgements a person was sent, each message id once, when there are `n`, or too many."""
    await answered(edge, person)
    until = time.monotonic() + 10
    await sent.drain()
    while len(found := own(sent, person)) < n and time.monotonic() < until:
        await sent.drain()
    return list(found.values())


def own(sent: Codes, person: str) -> dict[str, str]:
    return {one["id"]: one["text"] for one in sent.seen if one["to"] == person and one["purpose"] == ACK}


# --- endings and their acknowledgement -------------------------------------------------------------------------------


async def test_a_refusal_of_marketing_ends_it_and_is_acknowledged_once(edge: Running, sent: Codes) -> None:
    person = number()
    await customer(edge, person)
    assert await may(edge, person, "marketing.promotion") is None
    name = uuid.uuid4().hex
    for _ in range(3):
        await post(edge, person, "ＴＤ", MARKETING, id=name)
    assert await meaning(edge, name) == ("refusal", "acme#marketing")
    assert await replied(edge, person, "退订！") == ("refusal", "acme#marketing")
    assert await may(edge, person, "marketing.promotion") == "consent.withdrawn"
    assert await may(edge, person, "transaction.shipping") is None
    assert await acks(edge, sent, person, 1) == ["【Acme】您已退订Acme的营销短信，我们不会再向您发送。"]
    assert len(await history(edge, person, "withdrawal")) == 2  # one an act of the person's; the carrier's copies none
    assert await edge.gate.guard.server.command("EXISTS", block_of(edge, person)) == 0


def block_of(edge: Running, person: str) -> bytes:
    from gateway.guard import keys  # noqa: PLC0415 - the only look behind the guard

    subject = subject_of(edge.gate.pepper, person)
    return keys.BLOCK[subject[0]] + subject


async def test_free_text_is_in_force_before_the_answer_and_marked_as_inferred(edge: Running, sent: Codes) -> None:
    person = number()
    await customer(edge, person)
    await post(edge, person, "Please stop texting me", MARKETING, id="x" + person)
    assert await may(edge, person, "marketing.promotion") == "consent.withdrawn"
    await meaning(edge, "x" + person)
    (event,) = await history(edge, person, "withdrawal")
    assert (event["inferred"], event["text"]) == (True, "Please stop texting me")
    assert await acks(edge, sent, person, 1) == ["【Acme】You will get no more marketing messages from Acme."]


async def test_negations_end_nothing(edge: Running, sent: Codes) -> None:
    person = number()
    await customer(edge, person)
    assert await send(edge, person, "transaction.shipping", client_ref="order-7") == (202, None)
    assert await replied(edge, person, "不退订，什么时候到货", SERVICE) == ("other", None)
    assert await may(edge, person, "marketing.promotion") is None
    assert await acks(edge, sent, person, 0) == []


async def test_a_refusal_of_a_notice_ends_that_purpose(edge: Running, sent: Codes) -> None:
    person = number()
    await customer(edge, person)
    assert await send(edge, person, "transaction.shipping") == (202, None)
    assert await replied(edge, person, "N", SERVICE) == ("refusal", "acme/transaction.shipping")
    assert await may(edge, person, "transaction.shipping") == "suppressed"
    assert await may(edge, person, "transaction.order") is None
    assert await may(edge, person, "marketing.promotion") is None
    assert len(await acks(edge, sent, person, 1)) == 1


async def test_a_keeps_notices_and_ends_promotions(edge: Running, sent: Codes) -> None:
    person = number()
    await customer(edge, person)
    assert await send(edge, person, "transaction.shipping") == (202, None)
    assert await replied(edge, person, "a。", SERVICE) == ("keep", "acme#marketing")
    assert await may(edge, person, "transaction.shipping") is None
    assert await may(edge, person, "marketing.promotion") == "consent.withdrawn"
    (event,) = await history(edge, person, "withdrawal")
    assert event["keeps"] == ["transactional"]
    assert await acks(edge, sent, person, 1) == ["【Acme】您已取消接收Acme的营销短信；账单与通知照常发送。"]


async def test_who_leaves_again_after_coming_back_is_told_again(edge: Running, sent: Codes) -> None:
    person = number()
    await customer(edge, person)
    assert await replied(edge, person, "T") == ("refusal", "acme#marketing")
    assert len(await acks(edge, sent, person, 1)) == 1
    assert await replied(edge, person, "Y", SERVICE) == ("other", None)
    back = grant("acme", ["marketing"], lifts=True)
    subject, now = subject_of(edge.gate.pepper, person), int(time.time() * 1000)
    event = Event(event_id=f"back:{person}", kind=EventKind.GRANT, number=person, subject=subject, occurred_at_ms=now,
                  data=back)  # fmt: skip
    assert (await edge.gate.appender.append([event]))[0].refusal is None
    assert await may(edge, person, "marketing.promotion") is None
    assert await replied(edge, person, "T") == ("refusal", "acme#marketing")
    assert await may(edge, person, "marketing.promotion") == "consent.withdrawn"
    assert len(await acks(edge, sent, person, 2)) == 2


async def test_two_robots_that_answer_each_other_end(edge: Running, sent: Codes) -> None:
    """An autoresponder that says STOP to everything: its own answer is told once that all has ended, and no more."""
    person = number()
    await customer(edge, person)
    assert await replied(edge, person, "T") == ("refusal", "acme#marketing")
    for _ in range(4):
        await answered(edge, person)
        assert await replied(edge, person, "STOP", SERVICE) == ("refusal", "acme")
    assert len(await acks(edge, sent, person, 2)) == 2


# --- consent ---------------------------------------------------------------------------------------------------------


async def asked(edge: Running, person: str) -> tuple[int, str | None]:
    """The preference question is on its way, whatever the hour: admitted as deliver would see it."""
    from gateway.contract.message import SendRequest  # noqa: PLC0415
    from gateway.contract.registry import Client  # noqa: PLC0415
    from gateway.intake import Answer, Intake  # noqa: PLC0415

    gate, noon = edge.gate, _noon()
    intake = Intake(
        guard=gate.guard, cfg=gate.cfg, lease=gate.intake.lease, producer=gate.producer, topics=gate.topics,
        packs=gate.packs, pepper=gate.pepper, now_ms=lambda: noon,
    )  # fmt: skip
    request = SendRequest(to=person, sender="acme", purpose="consent.preferences", text=QUESTION)
    (answer,) = await intake.send(Client(id="shop", senders=("acme",)), [request])
    if not isinstance(answer, Answer):
        return 0, answer.code
    await known(edge, answer.id)
    return 202, None


def _noon() -> int:
    """The last noon in Shanghai, Unix ms."""
    day = 86_400_000
    return (int(time.time() * 1000) - 4 * 3_600_000) // day * day + 4 * 3_600_000


async def test_a_yes_to_an_open_question_is_consent_and_nothing_else_is(edge: Running) -> None:
    person = number()
    order = {"recipient": person, "sender": "acme", "kind": "order", "ref": "1", "occurred_at": "2026-11-01T00:00:00Z"}
    assert (await edge.http.post("/v1/relationships", json=order)).status_code == 201
    assert await replied(edge, person, "Y", SERVICE) == ("other", None)
    assert (await asked(edge, person))[0] == 202
    assert await replied(edge, person, "Yes please", SERVICE) == ("other", None)
    assert await replied(edge, person, "Y", "10690003") == ("other", None)
    assert await may(edge, person, "marketing.promotion") == "consent.missing"
    assert await replied(edge, person, "start", SERVICE) == ("affirmation", None)
    assert await may(edge, person, "marketing.promotion") is None
    assert await may(edge, person, "invite.restock") is None
    assert await replied(edge, person, "Y", SERVICE) == ("other", None)
    (grant,) = await history(edge, person, "grant")
    assert (grant["evidence"]["weight"], grant["lifts"], grant["max_per_week"]) == ("solicited_reply", True, 1)
    assert grant["evidence"]["question"]["purpose"] == "consent.preferences"


async def test_a_refused_question_ends_everything_but_codes_and_stays_refused(edge: Running, sent: Codes) -> None:
    person = number()
    await customer(edge, person)
    assert (await asked(edge, person))[0] == 202
    assert await replied(edge, person, "退订", SERVICE) == ("refusal", "acme")
    for purpose in ("marketing.promotion", "transaction.shipping"):
        assert await may(edge, person, purpose) in ("suppressed", "consent.withdrawn")
    assert await may(edge, person, "verification.code") is None
    assert await replied(edge, person, "Y", SERVICE) == ("other", None)
    assert await may(edge, person, "marketing.promotion") == "consent.withdrawn"
    assert len(await acks(edge, sent, person, 1)) == 1


async def test_a_notice_between_the_question_and_the_yes_leaves_it_unasked(edge: Running) -> None:
    person = number()
    await customer(edge, person)
    assert (await asked(edge, person))[0] == 202
    assert await replied(edge, person, "T") == ("refusal", "acme#marketing")  # to a marketing message: it answers too
    assert await replied(edge, person, "Y", SERVICE) == ("other", None)
    person = number()
    await customer(edge, person)
    assert (await asked(edge, person))[0] == 202
    assert await send(edge, person, "transaction.order") == (202, None)
    assert await replied(edge, person, "Y", SERVICE) == ("other", None)


async def test_help_is_answered_within_its_window(edge: Running, sent: Codes) -> None:
    person = number()
    assert await replied(edge, person, "HELP", SERVICE) == ("help", None)
    assert await replied(edge, person, "帮助", MARKETING) == ("help", None)
    await answered(edge, person)
    message = await sent.to(person)
    assert (message["purpose"], "Acme" in message["text"], "R" in message["text"]) == ("consent.help", True, True)
    await sent.drain()
    assert {one["id"] for one in sent.seen if one["to"] == person} == {message["id"]}


# --- the same again --------------------------------------------------------------------------------------------------


async def test_without_a_carriers_id_the_content_tells_within_seconds(edge: Running, sent: Codes) -> None:
    person, gate = number(), edge.gate
    await customer(edge, person)
    count = "SELECT count(*) FROM replies WHERE subject = $1"
    subject = subject_of(gate.pepper, person)
    at = datetime.now(UTC)
    for late_s, text in ((0, "T"), (9, "T"), (0, "hello"), (11, "T")):
        await post(edge, person, text, MARKETING, at=(at + timedelta(seconds=late_s)).isoformat())
    async with asyncio.timeout(15):
        while await gate.pool.fetchval(count, subject) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    assert await gate.pool.fetchval(count, subject) == 3
    assert len(await acks(edge, sent, person, 1)) == 1


async def test_a_copy_that_was_blocked_again_is_freed_again(edge: Running) -> None:
    """The carrier repeats a refusal hours later: its provisional block goes, for the event stands."""
    person, gate = number(), edge.gate
    await customer(edge, person)
    name = uuid.uuid4().hex
    await post(edge, person, "T", MARKETING, id=name)
    await meaning(edge, name)
    assert await send(edge, person, "transaction.shipping") == (202, None)
    subject, now = subject_of(gate.pepper, person), int(time.time() * 1000)
    again = Reply(carrier="http", reply_id=name, sender_number=person, subject=subject.hex(), port=SERVICE, text="T",
                  at=now, received_at=now, blocked=True)  # fmt: skip
    await gate.guard.block(subject, ["acme"], again.token)
    assert None not in await gate.producer.publish(gate.topics.replies, [(subject, encode(again))])
    async with asyncio.timeout(15):
        while await gate.guard.server.command("EXISTS", block_of(edge, person)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await may(edge, person, "transaction.shipping") is None


async def test_no_number_or_text_is_kept_in_the_open(edge: Running) -> None:
    person = number()
    await customer(edge, person)
    gate = edge.gate
    await replied(edge, person, "别再给我发了")
    for table in ("replies", "answers_due", "messages"):
        rows = await gate.pool.fetch(f"SELECT * FROM {table}")  # noqa: S608 - of this list
        text = orjson.dumps(
            [dict(row) for row in rows], default=lambda one: one.hex() if isinstance(one, bytes) else str(one)
        )
        assert person.removeprefix("+86").encode() not in text
        assert "别再给我发了".encode() not in text


async def test_an_erased_person_is_answered_no_more(edge: Running) -> None:
    person, gate = number(), edge.gate
    subject = subject_of(gate.pepper, person)
    async with gate.pool.acquire() as conn:
        await inbound.owe(conn, [Due(f"x-{person}", subject, "acme", ACK, b"", int(time.time() * 1000) + 3_600_000)])
        await Personal(gate.pool).cancel(subject)
        assert await conn.fetchval("SELECT count(*) FROM answers_due WHERE subject = $1", subject) == 0


# --- the way out -----------------------------------------------------------------------------------------------------


async def announced(edge: Running, fits: Any) -> None:
    async with asyncio.timeout(15):
        while edge.gate.cfg.registry is None or not fits(edge.gate.cfg.sender("acme")):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_marketing_needs_a_way_out_that_is_free_and_works(edge: Running) -> None:
    person, gate = number(), edge.gate
    await customer(edge, person)
    old = datetime.now(UTC) - timedelta(days=30, seconds=5)
    async with gate.pool.acquire() as conn:
        await registry.attest(conn, "acme", MARKETING, free=True, tested_at=old, by="li.lei")
    await announced(edge, lambda one: one.reply_routes[0].tested_at == int(old.timestamp()))
    assert await send(edge, person, "marketing.promotion") == (403, "port.no_reply_route")
    assert await may(edge, person, "marketing.promotion") == "port.no_reply_route"
    held = accepted(subject=subject_of(gate.pepper, person).hex(), to=person)
    assert await release(gate.intake, [held], _noon() + 86_400_000) == [Released("cancelled", NO_WAY_OUT)]
    assert await send(edge, person, "transaction.shipping") == (202, None)
    assert await replied(edge, number(), "thanks") == ("other", None)  # it works: somebody got through
    await announced(edge, lambda one: one.reply_routes[0].tested_at > old.timestamp() + 86_400)
    assert (await send(edge, person, "marketing.promotion"))[0] == 202
    async with gate.pool.acquire() as conn:
        await registry.attest(conn, "acme", MARKETING, free=False, tested_at=datetime.now(UTC), by="li.lei")
    await announced(edge, lambda one: not one.reply_routes[0].free)
    assert await send(edge, person, "marketing.promotion") == (403, "port.no_reply_route")
    async with gate.pool.acquire() as conn:
        await registry.attest(conn, "acme", MARKETING, free=True, tested_at=datetime.now(UTC), by="li.lei")
        said = await conn.fetch("SELECT attested_by, free FROM reply_route_acts WHERE sender = 'acme' ORDER BY id")
    assert [tuple(row) for row in said][-3:] == [("li.lei", True), ("li.lei", False), ("li.lei", True)]
    with pytest.raises(ValueError, match="somebody"):
        async with gate.pool.acquire() as conn:
            await registry.attest(conn, "acme", MARKETING, free=True, tested_at=old, by=" ")
