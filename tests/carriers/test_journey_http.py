"""The same life through the HTTP carrier: a real server takes the submits and posts receipts and replies back."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from gateway_rig import Gateway, at, consent, gateway, number, numbers, shipping
from http_carrier import KEY, Carrier, carrier

pytestmark = pytest.mark.integration

SERVICE, MARKETING = "10690001", "10690002"
ACKNOWLEDGED = "【Acme】您已退订Acme的营销短信，我们不会再向您发送。"


@dataclass
class Both:
    gate: Gateway
    carrier: Carrier

    async def reached(self, message_id: str, within_s: float = 10.0) -> dict[str, str]:
        """The submit of a message, once it has reached the carrier."""
        until = time.monotonic() + within_s
        while True:
            for one in self.carrier.submits:
                if one["ref"] == message_id:
                    return one
            assert time.monotonic() < until, "the message did not reach the carrier"
            await asyncio.sleep(0.02)

    async def got(self, to: str, n: int = 1, within_s: float = 10.0) -> dict[str, str]:
        """The n-th submit to a person."""
        until = time.monotonic() + within_s
        while len(found := [one for one in self.carrier.submits if one["to"] == to]) < n:
            assert time.monotonic() < until, "nothing reached the carrier"
            await asyncio.sleep(0.02)
        return found[n - 1]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Both]:
    async with (
        carrier() as there,
        gateway(
            tmp_path_factory.mktemp("http"),
            redis_url=redis_url,
            kafka=kafka_bootstrap,
            prefix=topic_prefix,
            database_url=database_url,
            carrier_url=there.url,
            carrier_key="key-at-the-carrier",
        ) as gate,
    ):
        there.callback = gate.url
        yield Both(gate, there)


@pytest_asyncio.fixture(loop_scope="session")
async def paused(both: Both) -> AsyncIterator[Gateway]:
    """The gateway while nothing is delivered: what is accepted waits in Kafka. Ends with `restart("deliver")`."""
    both.gate.processes["deliver"].stop()
    yield both.gate
    if not both.gate.processes["deliver"].child.alive():
        await both.gate.restart("deliver")


def marketing(to: str, **more: Any) -> dict[str, Any]:
    return shipping(to, **more) | {"purpose": "marketing.promotion"}


async def refused(gate: Gateway, body: dict[str, Any]) -> tuple[int, str]:
    answer = await gate.post("/v1/messages", body)
    return answer.status_code, answer.json().get("code", "")


async def test_what_the_carrier_is_given_and_what_comes_back(both: Both) -> None:
    gate = both.gate
    to = await gate.customer()
    body = shipping(to)
    accepted = await gate.send(body)
    message = await gate.until(accepted["id"], "delivered")
    assert [step["status"] for step in message["timeline"]] == ["queued", "sent", "delivered"]
    submit = await both.reached(accepted["id"])
    assert (submit["to"], submit["from"], submit["text"]) == (to, SERVICE, f"【Acme】{body['text']}")
    assert both.carrier.refs[accepted["id"]] == 1
    assert both.carrier.heads[-1]["authorization"] == "Bearer key-at-the-carrier"
    assert "simulator_numbers" not in (await gate.http.get("/v1/purposes")).json()


async def test_a_receipt_is_taken_without_a_ref_late_twice_and_in_other_spellings(both: Both) -> None:
    gate = both.gate
    both.carrier.reporting = False
    try:
        accepted = await gate.send(shipping(await gate.customer()))
        submit = await both.reached(accepted["id"])
        await gate.until(accepted["id"], "sent")
    finally:
        both.carrier.reporting = True
    for _ in range(2):
        both.carrier.report(submit["carrier_id"], "undeliv", "MK:0001")
    message = await gate.until(accepted["id"], "undelivered")
    assert (message["cause"], message["code"]) == ("dead_number", "MK:0001")
    assert message["receipts"][0]["raw"] == "undeliv"


async def test_callbacks_need_the_carriers_own_key(both: Both) -> None:
    body = {"receipts": [{"carrier_id": "x", "status": "DELIVRD", "code": "0"}]}
    answer = await both.gate.post("/v1/carriers/http/receipts", body)
    assert (answer.status_code, answer.json()["code"]) == (403, "client.forbidden")
    async with httpx.AsyncClient(base_url=both.gate.url, timeout=10) as anyone:
        assert (await anyone.post("/v1/carriers/http/receipts", json=body)).status_code == 401
        answer = await anyone.post("/v1/messages", json=shipping(number()), headers=KEY)
    assert answer.status_code == 403


@pytest.mark.parametrize("word", ["R", "退订", "T", " ｔｄ。"])
async def test_a_refusal_word_stops_marketing_at_once(both: Both, word: str) -> None:
    gate = both.gate
    to = number()
    await gate.consents([to], ["marketing"])
    await gate.orders([to])
    first = await gate.post("/v1/messages/check", marketing(to))
    assert first.json()["status"] in {"accepted", "held"}
    await both.carrier.reply(to, MARKETING, word)
    assert await refused(gate, marketing(to)) == (403, "consent.withdrawn")
    await recorded(gate, to)
    assert await refused(gate, marketing(to)) == (403, "consent.withdrawn")
    older = await gate.post("/v1/consents", consent(to, ["marketing"], occurred_at=at(days=-1)))
    assert (older.status_code, older.json()["code"]) == (409, "consent.opted_out")
    sent = await gate.send(shipping(to))  # a notice of an order is another matter
    await gate.until(sent["id"], "delivered")


async def recorded(gate: Gateway, to: str) -> dict[str, Any]:
    """The opt-out, once it is an event and not only a block."""
    until = time.monotonic() + 10
    while True:
        seen = (await gate.http.get(f"/v1/recipients/{to}")).json()
        if seen.get("suppressions"):
            assert {row["reason"] for row in seen["suppressions"]} == {"opt_out"}
            return dict(seen)
        assert time.monotonic() < until, seen
        await asyncio.sleep(0.05)


async def test_a_reply_that_refuses_nothing_changes_nothing(both: Both) -> None:
    gate = both.gate
    to = await gate.customer()
    await both.carrier.reply(to, SERVICE, "谢谢，已收到")
    await gate.until((await gate.send(shipping(to)))["id"], "delivered")


async def test_what_waits_in_kafka_when_the_person_refuses_is_cancelled(both: Both, paused: Gateway) -> None:
    """Accepted, waiting, refused by reply: never submitted. The neighbour's message is."""
    gate = paused
    leaving, staying = numbers(2)
    await gate.orders([leaving, staying])
    waiting = [await gate.send(shipping(leaving)) for _ in range(3)]
    other = await gate.send(shipping(staying))
    await gate.until(other["id"], "queued")
    await both.carrier.reply(leaving, SERVICE, "退订")
    assert await refused(gate, shipping(leaving)) == (403, "suppressed")
    await gate.restart("deliver")
    await gate.until(other["id"], "delivered")
    for one in waiting:
        message = await gate.until(one["id"], "cancelled")
        assert message["code"] == "suppressed"
        assert both.carrier.refs[one["id"]] == 0


async def test_marketing_that_waits_is_not_submitted_after_a_refusal(both: Both, paused: Gateway) -> None:
    """In quiet hours it waits in the table of held messages instead of Kafka; it is not submitted either way."""
    gate = paused
    to = number()
    await gate.consents([to], ["marketing"])
    accepted = await gate.send(marketing(to))
    await both.carrier.reply(to, MARKETING, "R")
    await gate.restart("deliver")
    if accepted["status"] == "accepted":
        message = await gate.until(accepted["id"], "cancelled")
        assert message["code"] == "consent.withdrawn"
    else:
        await asyncio.sleep(1)
        assert (await gate.view(accepted["id"]))["status"] == "held"
    assert both.carrier.refs[accepted["id"]] == 0


async def test_after_a_withdrawal_is_acknowledged_nothing_more_is_submitted(both: Both) -> None:
    """A stream of messages to people who leave in the middle of it: the answer to each withdrawal draws the line."""
    gate = both.gate
    people = numbers(24)
    await gate.orders(people)
    left: dict[str, int] = {}

    async def stream(to: str) -> None:
        for _ in range(9):
            await gate.post("/v1/messages", shipping(to))
            await asyncio.sleep(0.02)

    async def leave(to: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await gate.ok(f"/v1/recipients/{to}/withdraw", {"sender": "acme", "reason": "asked"})
        left[to] = len(both.carrier.submits)

    await asyncio.gather(*(stream(to) for to in people), *(leave(to, n * 0.02) for n, to in enumerate(people)))
    await asyncio.sleep(1.5)
    late = [one for at_, one in enumerate(both.carrier.submits) if one["to"] in left and at_ >= left[one["to"]]]
    assert not late
    assert any(one["to"] in left for one in both.carrier.submits)


async def test_a_lost_answer_is_unknown_until_the_receipt_and_never_sent_again(both: Both) -> None:
    """The deliverer dies between the submit and its answer; the carrier took it, and its receipt says so later."""
    gate, there = both.gate, both.carrier
    there.reporting, there.answer_s = False, 30.0
    try:
        accepted = await gate.send(shipping(await gate.customer()))
        submit = await both.reached(accepted["id"])
        gate.kill("deliver")
        there.answer_s = 0.0
        await gate.restart("deliver")
        message = await gate.until(accepted["id"], "unknown", within_s=40)
        assert message["code"] == "owner.lost"
    finally:
        there.reporting, there.answer_s = True, 0.0
    there.report(submit["carrier_id"], "DELIVRD", "000", ref=accepted["id"])
    await gate.until(accepted["id"], "delivered")
    assert there.refs[accepted["id"]] == 1


@pytest.mark.parametrize("how", ["code", "Y"])
async def test_a_person_comes_back_by_two_records(both: Both, how: str) -> None:
    """Opted out by reply, then by the form and the phone: every process has its part in it."""
    gate, to = both.gate, number()
    await gate.consents([to], ["marketing"])
    await both.carrier.reply(to, MARKETING, "R")
    await recorded(gate, to)
    acknowledged = await both.got(to)
    assert (acknowledged["from"], acknowledged["text"]) == (SERVICE, ACKNOWLEDGED)
    async with httpx.AsyncClient(base_url=gate.url, timeout=10) as person:
        page = (await person.get("/c/acme")).text
        fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
        fields |= {"number": to, "topics": "marketing.promotion", "action": "agree"}
        asked = await person.post("/c/acme", data=fields)
        assert asked.status_code == 200, asked.text
        found = await both.got(to, 2)
        assert found["from"] == SERVICE
        assert found["text"].startswith("【Acme】")
        assert await refused(gate, marketing(to)) == (403, "consent.withdrawn")
        if how == "Y":
            await both.carrier.reply(to, SERVICE, "Y")
        else:
            (opt_in,) = re.findall(r'name="opt_in" value="([0-9a-f]{32})"', asked.text)
            (code,) = re.findall(r"(?<![0-9])[0-9]{6}(?![0-9])", found["text"])
            done = await person.post("/c/acme/confirm", data={"opt_in": opt_in, "code": code})
            assert done.status_code == 200, done.text
    until = time.monotonic() + 10
    while (await gate.post("/v1/messages/check", marketing(to))).json()["status"] not in {"accepted", "held"}:
        assert time.monotonic() < until, "the grant did not come"
        await asyncio.sleep(0.05)
    sent = await gate.post("/v1/messages", marketing(to))
    assert sent.status_code == 202
    written = "\n".join(gate.logs().values())
    assert to.removeprefix("+86") not in written
    assert [one["text"] for one in both.carrier.submits if one["to"] == to].count(ACKNOWLEDGED) == 1
    assert found["text"] not in written
