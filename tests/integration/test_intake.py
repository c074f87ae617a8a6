"""From admission to Kafka when something goes wrong half-way: a 202 is sent once, anything else costs nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.contract.codes import Code
from gateway.contract.consent import Relationship, State, Suppression
from gateway.contract.decision import Reason, Refusal
from gateway.contract.message import SendRequest
from gateway.contract.registry import Client
from gateway.guard import Lease
from gateway.intake import Answer, Intake
from gateway.rules.hours import midnights
from gateway.stream.producer import Pair, Producer, Published
from tests.integration.deliver_rig import CLIENT, PEPPER, Rig, rigged

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
_counter = iter(range(1, 1_000_000))


@pytest.fixture
async def rig(redis_url: str, kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[Rig]:
    async with rigged(redis_url, kafka_bootstrap, f"{topic_prefix}{next(_counter)}.") as made:
        yield made


class Unheard(Producer):
    """A producer whose acknowledgements do not come: what it publishes lands all the same, if `lands`."""

    lands = True

    def __init__(self, bootstrap: str, topics: Any) -> None:
        super().__init__(bootstrap, topics)
        self.published, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def publish(self, topic: str, records: Sequence[Pair], **how: Any) -> list[Published | None]:
        if self.lands:
            await super().publish(topic, records, **how)
        self.published.set()
        await self.go.wait()
        return [None] * len(records)


@pytest.fixture
async def unheard(rig: Rig) -> AsyncIterator[Unheard]:
    producer = Unheard(rig.kafka, rig.topics)
    await producer.start()
    yield producer
    await producer.stop()


def beside(rig: Rig, **changes: Any) -> Intake:
    """Another process's intake."""
    parts: dict[str, Any] = {
        "guard": rig.guard,
        "cfg": rig.cfg,
        "lease": Lease(rig.guard.server),
        "producer": rig.producer,
        "topics": rig.topics,
        "packs": rig.intake.packs,
        "pepper": PEPPER,
    }
    return Intake(**(parts | changes))


def number() -> str:
    return f"+86137{next(_counter):08d}"


def at(seconds: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def asking(to: str, key: str | None = "k", **fields: Any) -> SendRequest:
    given = {"to": to, "sender": "acme", "purpose": "transaction.shipping", "text": f"Parcel for {to[-6:]}"}
    return SendRequest.model_validate(given | {"idempotency_key": key and f"{key}{to}"} | fields)


async def one(intake: Intake, request: SendRequest) -> Answer | Refusal:
    (answer,) = await intake.send(CLIENT, (request,))
    return answer


def accepted(answer: Answer | Refusal) -> Answer:
    assert isinstance(answer, Answer), answer
    return answer


def refused(answer: Answer | Refusal) -> Code:
    assert isinstance(answer, Refusal), answer
    return answer.code


# --- quotas ----------------------------------------------------------------------------------------------------------


async def test_who_comes_back_when_a_quota_told_it_is_let_through(rig: Rig) -> None:
    """17.4 s into a minute 42.6 s are left: told 42, it would be refused again."""
    clock = [1_800_000_000 // 60 * 60 + 17.4]
    intake = beside(rig, lease=Lease(rig.guard.server, now_s=lambda: clock[0]))
    thrifty = Client(id="thrifty", senders=("acme",), quota_per_minute=1)
    people = [number() for _ in range(3)]
    await rig.know(people)
    asked = [asking(to, None) for to in people]
    accepted((await intake.send(thrifty, asked[:1]))[0])
    (second,) = await intake.send(thrifty, asked[1:2])
    assert isinstance(second, Refusal)
    assert (second.code, second.retry_after_s) == (Code.CLIENT_QUOTA, 43)
    clock[0] += second.retry_after_s
    accepted((await intake.send(thrifty, asked[2:]))[0])


# --- a repeat, and publishes that are not acknowledged ---------------------------------------------------------------


async def test_a_repeat_that_kafka_did_not_take_leaves_the_accepted_message_alone(rig: Rig, unheard: Unheard) -> None:
    to = number()
    await rig.know([to])
    first = accepted(await one(rig.intake, asking(to)))
    unheard.lands = False
    assert refused(await one(beside(rig, producer=unheard), asking(to))) is Code.UNAVAILABLE
    assert accepted(await one(rig.intake, asking(to))).id == first.id
    async with rig.delivering():
        await rig.results(lambda found: first.id in found)
    assert [message.ref for message in rig.wire] == [first.id]


async def test_a_repeat_that_was_accepted_outlives_the_first_ones_missing_acknowledgement(
    rig: Rig, unheard: Unheard
) -> None:
    to = number()
    await rig.know([to])
    unheard.go.clear()
    slow = asyncio.create_task(one(beside(rig, producer=unheard), asking(to)))
    await unheard.published.wait()
    repeat = accepted(await one(rig.intake, asking(to)))
    unheard.go.set()
    assert refused(await slow) is Code.UNAVAILABLE
    assert accepted(await one(rig.intake, asking(to))).id == repeat.id
    async with rig.delivering():
        await rig.results(lambda found: repeat.id in found)
    assert [message.ref for message in rig.wire] == [repeat.id]


async def test_a_message_kafka_did_not_take_gives_its_request_back(rig: Rig, unheard: Unheard) -> None:
    to = number()
    await rig.know([to])
    code = asking(
        to, None, purpose="verification.code", text="Code 123456", request={"ref": f"r{to}", "occurred_at": at()}
    )
    assert refused(await one(beside(rig, producer=unheard), code)) is Code.UNAVAILABLE
    accepted(await one(rig.intake, code))
    assert refused(await one(rig.intake, code)) is Code.REQUEST_MISSING


# --- the same key, the same answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("late", ["expired", "request too old", "quota", "breaker"])
async def test_the_same_key_gives_the_same_answer_when_time_has_passed(rig: Rig, late: str) -> None:
    to = number()
    await rig.know([to])
    client = CLIENT.model_copy(update={"quota_per_minute": 1, "id": "small"}) if late == "quota" else CLIENT
    fields: dict[str, Any] = {}
    if late == "expired":
        fields = {"expires_at": at(1.0)}
    elif late == "request too old":
        fields = {
            "purpose": "verification.code",
            "text": "Code 1",
            "request": {"ref": f"r{to}", "occurred_at": at(-598.8)},
        }
    request = asking(to, **fields)
    (first,) = await rig.intake.send(client, (request,))
    if late == "breaker":
        await rig.stop_sender()
    elif late != "quota":
        await asyncio.sleep(1.3)
    (again,) = await rig.intake.send(client, (request,))
    assert accepted(again)._replace(replayed=False) == accepted(first)
    (other,) = await rig.intake.send(client, (asking(to, "other", **fields),))
    (forgotten,) = await rig.intake.send(client, (asking(to, "other", **fields),))
    assert refused(other) is refused(forgotten)


async def test_a_cancelled_message_stays_cancelled_and_its_answer_stays(rig: Rig) -> None:
    to = number()
    await rig.know([to])
    first = accepted(await one(rig.intake, asking(to)))
    rig.seq += 1
    order = {"acme/order": Relationship(at=1, entry=1)}
    by_hand = {"acme": [Suppression(reason=Reason.MANUAL, at=1, entry=2)]}
    await rig.guard.apply([(rig.subject(to), State(seq=rig.seq, relationships=order, suppressions=by_hand))])
    async with rig.delivering():
        found = await rig.results(lambda found: first.id in found)
        assert [result.outcome for result in found[first.id]] == ["cancelled"]
        await rig.know([to])
        again = accepted(await one(rig.intake, asking(to)))
        assert again._replace(replayed=False) == first
        await asyncio.sleep(1.0)
    assert rig.wire == []


# --- hours -----------------------------------------------------------------------------------------------------------


async def test_what_waited_into_the_quiet_hours_waits_for_their_end(rig: Rig) -> None:
    to, zone = number(), rig.intake.packs["cn"].zone
    await rig.know([to])
    noon = midnights(zone, time.time_ns() // 1_000_000)[2] + 12 * HOUR_MS
    request = asking(to, None, purpose="transaction.after_sales")
    message = accepted(await one(beside(rig, now_ms=lambda: noon), request))
    assert message.status == "accepted"
    async with rig.delivering(now_ms=lambda: noon + 9 * HOUR_MS):
        (held,) = await rig.held(1)
    assert rig.wire == []
    assert (held.id, held.attempt, held.due, held.parked) == (message.id, 2, noon + 20 * HOUR_MS, None)
