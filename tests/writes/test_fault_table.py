"""The fault table: every write between a POST and its end, lost before it is applied, and applied with its answer lost.

Real processes on real parts behind proxies that lose one chosen write each time (`tripwire`). What its caller does is
what callers should: it repeats until it has an answer. At the end everything is held against what reached the carrier.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
from agreement import agreement
from gateway_rig import Gateway, at, gateway, numbers, shipping
from http_carrier import Carrier, carrier
from storm import drained, reconcile
from tripwire import Between, Write, commits, commits_offset, produces, runs, states, tripwires

from gateway.guard import Guard
from tests.integration.hook_receiver import Receiver, receiving

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

EACH = 8
QUOTA = 10
"""Messages of a case, two for each person."""
WITHIN_S = 12.0
DRAIN_S = 30.0
LEASE_S = 35.0
"""As long as a webhook is leased, and a little."""


@dataclass
class World:
    """The gateway, and what its callers were told. Read by `reconcile` as a storm is."""

    gate: Gateway
    carrier: Carrier
    hooks: Receiver
    wires: dict[str, Between]
    database_url: str
    redis_url: str
    accepted: dict[str, str] = field(default_factory=dict)
    """Message id by key."""
    refused: Counter[str] = field(default_factory=Counter)
    left: dict[str, float] = field(default_factory=dict)
    refunded: dict[str, str] = field(default_factory=dict)
    """Who had one of ten messages rejected, and which: an eleventh reached the carrier."""
    replied: list[str] = field(default_factory=list)
    called_back: list[str] = field(default_factory=list)
    ref: str = field(default_factory=lambda: f"table-{uuid.uuid4().hex[:8]}")

    async def answered(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """Repeated until there is an answer other than 503."""
        until = time.monotonic() + WITHIN_S
        while True:
            try:
                answer = await self.gate.post(path, body, timeout=5, **more)
                if answer.status_code != 503:
                    return answer
            except httpx.HTTPError:
                answer = None
            assert time.monotonic() < until, f"no answer: {answer and answer.text}"
            await asyncio.sleep(0.1)

    async def asked(self, path: str, body: Any, wanted: Callable[[Any], bool]) -> None:
        """Asked again until the answer is what is wanted."""
        until = time.monotonic() + WITHIN_S
        while not wanted((answer := await self.answered(path, body)).json()):
            assert time.monotonic() < until, answer.text
            await asyncio.sleep(0.1)

    async def orders(self, people: Sequence[str]) -> None:
        rows = [
            {"recipient": to, "sender": "acme", "kind": "order", "ref": "o-1", "occurred_at": at(seconds=-1)}
            for to in people
        ]
        await self.asked(
            "/v1/relationships/batch",
            {"relationships": rows},
            lambda answer: {row["status"] for row in answer["results"]} == {"recorded"},
        )

    async def send(self, to: str, **more: Any) -> str:
        """One message with a key, accepted; its id."""
        key = uuid.uuid4().hex
        body = shipping(to, client_ref=self.ref, idempotency_key=key, **more)
        answer = await self.answered("/v1/messages", body)
        assert answer.status_code == 202, answer.text
        self.accepted[key] = answer.json()["id"]
        return self.accepted[key]

    async def status(self, message_id: str, *wanted: str) -> None:
        until = time.monotonic() + WITHIN_S
        while (found := (await self.gate.view(message_id))["status"]) not in wanted:
            assert time.monotonic() < until, f"{found}, wanted {wanted}"
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def wires(redis_url: str, kafka_bootstrap: str, database_url: str) -> Iterator[dict[str, Between]]:
    with tripwires({"redis": redis_url, "kafka": kafka_bootstrap, "postgres": database_url}) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    wires: dict[str, Between],
    redis_url: str,
    database_url: str,
    topic_prefix: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[World]:
    async with carrier() as there, receiving() as hooks:
        settings = {"carrier_url": there.url, "webhook_allow": "127.0.0.0/8", "webhook_ports": str(hooks.port)}
        async with gateway(
            tmp_path_factory.mktemp("table"),
            redis_url=wires["redis"].endpoint,
            kafka=wires["kafka"].endpoint,
            prefix=topic_prefix,
            database_url=wires["postgres"].endpoint,
            log_level="info",
            **settings,
        ) as gate:
            there.callback = gate.url
            yield World(gate, there, hooks, wires, database_url, redis_url)


# --- what is done while a write is lost ------------------------------------------------------------------------------


async def several(world: World) -> None:
    """Messages that go out at once."""
    people = numbers(EACH // 2)
    await world.orders(people)
    await asyncio.gather(*(world.send(to) for to in [*people, *people]))


async def within_a_quota(world: World) -> None:
    """A client that may send ten a minute sends ten, however its leases fared, or fewer; never more."""
    name = f"c{uuid.uuid4().hex[:8]}"
    words = ("client", "add", name, "--senders", "acme", "--quota", str(QUOTA))
    added = await asyncio.to_thread(world.gate.command, *words)
    assert added.returncode == 0, added.stderr
    head = {"authorization": f"Bearer {added.stdout.split()[-1]}"}
    people = numbers(QUOTA + 2)
    await world.orders(people)
    codes = Counter[str]()
    for to in people:
        key = uuid.uuid4().hex
        body = shipping(to, client_ref=world.ref, idempotency_key=key)
        while (answer := await world.answered("/v1/messages", body, headers=head)).status_code == 401:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # its key is announced within a second
        codes[answer.json().get("code", "accepted")] += 1
        if answer.status_code == 202:
            world.accepted[key] = answer.json()["id"]
    assert set(codes) == {"accepted", "client.quota"}
    assert codes["accepted"] <= QUOTA


async def later(world: World) -> None:
    """A message for the next moment, held until then."""
    (to,) = numbers(1)
    await world.orders([to])
    await world.status(await world.send(to, not_before=at(seconds=1)), "sent", "delivered", "unknown")


async def refused(world: World) -> None:
    """Nothing permits it: the key's binding is taken back."""
    (to,) = numbers(1)
    body = shipping(to, client_ref=world.ref, idempotency_key=uuid.uuid4().hex)
    answers = [await world.answered("/v1/messages", body) for _ in range(2)]
    assert [answer.json()["code"] for answer in answers] == ["relationship.missing"] * 2


async def unpublished(world: World) -> None:
    """Kafka is away for longer than a publish may take: the reservation is voided, the caller comes again."""
    (to,) = numbers(1)
    await world.orders([to])
    async with world.wires["kafka"].away():
        sending = asyncio.create_task(world.send(to))
        await asyncio.sleep(2.5)
    await sending


async def leaving(world: World) -> None:
    """Somebody opts out while messages to them wait."""
    (to,) = numbers(1)
    await world.orders([to])
    await world.send(to)
    held = await world.send(to, not_before=at(seconds=2))
    answer = await world.answered(f"/v1/recipients/{to}/withdraw", {"sender": "acme", "reason": "asked"})
    assert answer.status_code == 200, answer.text
    world.left[to] = time.monotonic()
    await world.status(held, "cancelled")


async def replying(world: World) -> None:
    """Somebody replies T to the marketing port: blocked, recorded, acknowledged once."""
    (to,) = numbers(1)
    await world.orders([to])
    await world.carrier.reply(to, "10690002", "T")
    world.replied.append(to)
    until = time.monotonic() + WITHIN_S
    while not acknowledgements(world, to):
        assert time.monotonic() < until, "no acknowledgement"
        await asyncio.sleep(0.05)


def acknowledgements(world: World, to: str) -> int:
    return sum(one["to"].lstrip("+") == to.lstrip("+") for one in world.carrier.submits)


async def rejecting(world: World) -> None:
    """The carrier rejects one of ten: its slot is given back once, so that one more goes and no second."""
    (to,) = numbers(1)
    await world.orders([to])
    first = await world.send(to)
    await world.status(first, "sent", "delivered")
    world.carrier.reporting = False
    ids = [first, *[await world.send(to) for _ in range(9)]]
    await world.status(ids[-1], "sent")
    world.carrier.reporting = True
    one = next(one for one in world.carrier.submits if one["ref"] == ids[-1])
    world.carrier.report(one["carrier_id"], "REJECTD", "REJECT", ref=ids[-1])
    for other in world.carrier.submits:
        if other["ref"] in ids[1:-1]:
            world.carrier.report(other["carrier_id"], "DELIVRD", "000", ref=other["ref"])
    await world.status(ids[-1], "rejected")
    world.refunded[to] = ids[-1]
    await refunded(world, to)
    answer = await world.answered("/v1/messages", shipping(to, idempotency_key=uuid.uuid4().hex))
    assert answer.json().get("code") == "window.exceeded", answer.text


async def refunded(world: World, to: str) -> None:
    """One more message goes, as soon as settle has given the slot back."""
    until = time.monotonic() + WITHIN_S
    while True:
        key = uuid.uuid4().hex
        answer = await world.answered("/v1/messages", shipping(to, client_ref=world.ref, idempotency_key=key))
        if answer.status_code == 202:
            world.accepted[key] = answer.json()["id"]
            return
        assert time.monotonic() < until, answer.text
        await asyncio.sleep(0.1)


async def blacklisted(world: World) -> None:
    """The carrier has a person on its own list: suppressed here too."""
    (to,) = numbers(1)
    await world.orders([to])
    world.carrier.reporting = False
    one = await world.send(to)
    await world.status(one, "sent")
    world.carrier.reporting = True
    taken = next(each for each in world.carrier.submits if each["ref"] == one)
    world.carrier.report(taken["carrier_id"], "UNDELIV", "MBBLACK", ref=one)
    await world.asked("/v1/messages/check", shipping(to), lambda answer: answer["code"] == "suppressed")


async def telling(world: World) -> None:
    """A client is told at its own address; where a take was lost, when its lease is over: looked at in the end."""
    (to,) = numbers(1)
    await world.orders([to])
    world.called_back.append(await world.send(to, callback_url=f"http://127.0.0.1:{world.hooks.port}/ok"))


def told(world: World, message_id: str) -> set[str]:
    """The ids of webhooks that told of the message's delivery."""
    return {got.id for got in world.hooks.got if got.data["id"] == message_id and got.data["status"] == "delivered"}


async def stopping(world: World) -> None:
    """A breaker opens and closes; what came in meanwhile is refused."""
    scope = f"campaign:c{uuid.uuid4().hex[:8]}"
    for act in ("open", "close"):
        answer = await world.answered(f"/v1/breakers/{scope}/{act}", {"by": "Li Wei", "reason": "a test"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["is_open"] is (act == "open")


class Row(NamedTuple):
    """A write: in which part, what it is, and what causes it."""

    part: str
    write: Callable[[World], Write]
    act: Callable[[World], Awaitable[None]]


def topic(name: str, of: Callable[[str], Write] = produces) -> Callable[[World], Write]:
    return lambda world: of(f"{world.gate.env['ASSENT_TOPIC_PREFIX']}{name}")


def always(write: Write) -> Callable[[World], Write]:
    return lambda _world: write


TABLE = {
    "take a webhook": Row("postgres", always(states("UPDATE webhooks w SET due_at = $2")), telling),
    "mark a webhook": Row("postgres", always(states("DELETE FROM webhooks WHERE id")), telling),
    "bind a key": Row("redis", always(runs("bind")), several),
    "lease a quota": Row("redis", always(runs("lease")), within_a_quota),
    "admit": Row("redis", always(runs("admit")), several),
    "publish": Row("kafka", topic("messages.transactional"), several),
    "claim": Row("redis", always(runs("claim")), several),
    "commit past a batch": Row("kafka", topic("deliver", commits_offset), several),
    "report a result": Row("kafka", topic("results"), several),
    "mark as done": Row("redis", always(runs("mark")), several),
    "take receipts in": Row("kafka", topic("receipts"), several),
    "settle a flush": Row("postgres", always(commits("UPDATE consumer_offsets")), several),
    "beat": Row("redis", always(lambda said: b"HSET" in said.raw and b"\r\ncfg\r\n" in said.raw), several),
    "take a binding back": Row("redis", always(runs("unbind")), refused),
    "void a reservation": Row("redis", always(runs("void")), unpublished),
    "publish to be held": Row("kafka", topic("messages.held"), later),
    "fill the due table": Row("postgres", always(commits("INSERT INTO held")), later),
    "commit what is held": Row("kafka", topic("hold", commits_offset), later),
    "release": Row("postgres", always(commits("DELETE FROM held")), later),
    "append an event": Row("postgres", always(commits("INSERT INTO consent_events")), leaving),
    "apply an event": Row("redis", always(runs("apply")), leaving),
    "move a cursor": Row("redis", always(runs("cursor")), leaving),
    "block at a reply": Row("redis", always(runs("block")), replying),
    "take a reply in": Row("kafka", topic("replies"), replying),
    "record a reply": Row("postgres", always(commits("INSERT INTO replies")), replying),
    "lift the block": Row("redis", always(runs("unblock")), replying),
    "acknowledge an opt-out": Row("postgres", always(states("DELETE FROM answers_due")), replying),
    "refund": Row("redis", always(runs("void")), rejecting),
    "remember a refund": Row("postgres", always(states("DELETE FROM refunds_due")), rejecting),
    "suppress for a carrier": Row("postgres", always(states("DELETE FROM suppressions_due")), blacklisted),
    "move a breaker": Row("postgres", always(states("INSERT INTO breaker_acts")), stopping),
}


@pytest.mark.parametrize("applied", [False, True], ids=["not applied", "applied"])
@pytest.mark.parametrize("name", TABLE)
async def test_a_write_that_errs_leaves_nothing_wrong(world: World, name: str, applied: bool) -> None:
    """It is met, and what was under way comes to its end."""
    row = TABLE[name]
    wire = world.wires[row.part].arm(row.write(world), applied=applied)
    await row.act(world)
    assert await asyncio.to_thread(wire.struck.wait, WITHIN_S), "it was never written"
    dead = {one: process.child.ended() for one, process in world.gate.processes.items() if process.child.pid}
    assert not any(dead.values()), dead


async def test_nothing_was_lost_doubled_or_sent_after_an_opt_out(world: World) -> None:
    """After all of them: each message once or not at all, as its row says."""
    assert len(world.accepted) > len(TABLE) * EACH // 2
    found = reconcile(world, await drained(world.database_url, world.ref, world.accepted.values(), DRAIN_S))  # type: ignore[arg-type]
    print(f"fault table: {found}")
    assert set(found.over) == set(world.refunded)
    assert set(found.contradicted) == set(world.refunded.values()), "submitted, and rejected by a receipt"
    assert replace(found, over=[], contradicted=[]).good, found
    assert {to: acknowledgements(world, to) for to in world.replied} == dict.fromkeys(world.replied, 1)
    until = time.monotonic() + LEASE_S
    while not all(told(world, one) for one in world.called_back):
        assert time.monotonic() < until, "a client was not told"
        await asyncio.sleep(0.1)
    assert {one: len(told(world, one)) for one in world.called_back} == dict.fromkeys(world.called_back, 1)
    guard = await Guard.connect(world.redis_url)
    try:
        await agreement(world.database_url, guard)
    finally:
        await guard.close()
