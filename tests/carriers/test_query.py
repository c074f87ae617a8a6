"""A lost answer, found again by asking the carrier: the real HTTP carrier, settle, the loop and the store."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from gateway.carriers.carrier import Doubtful, QueryFailed, Submit
from gateway.carriers.http import HttpCarrier
from gateway.carriers.query import BELIEVE_AFTER_MS
from gateway.contract.consent import Relationship, State
from gateway.contract.decision import Status
from gateway.contract.wire import Accepted
from gateway.deliver import query
from gateway.deliver.outbox import Outbox
from gateway.deliver.query import Queries
from gateway.guard import Claim, Outcome, keys
from tests.integration.guard_asks import a_plan, a_subject, an_ask, window
from tests.integration.http_carrier import Carrier, carrier
from tests.integration.settle_world import HOUR_MS, World, a_world, accepted, now, receipt, submitted

pytestmark = pytest.mark.integration
WAITING = "SELECT count(*) FROM doubts"


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


@pytest.fixture(autouse=True)
async def nothing_doubted(world: World) -> None:
    await world.pool.execute("TRUNCATE doubts")


@pytest.fixture
async def there() -> AsyncIterator[Carrier]:
    async with carrier() as one:
        one.reporting = False
        yield one


@asynccontextmanager
async def connected(there: Carrier, *, final: bool = False) -> AsyncIterator[HttpCarrier]:
    http = HttpCarrier(there.url, query_url=there.query_url, query_final=final)
    yield http
    await http.close()


async def lose(world: World, http: HttpCarrier, *messages: Accepted) -> None:
    """Submit, get no answer, and report what deliver would."""
    await world.accept(*messages)
    answers = await http.submit([Submit(one.id, one.to, one.port, one.text) for one in messages])
    assert {type(answer) for answer in answers} == {Doubtful}
    doubtful = {"outcome": "doubtful", "carrier": "http", "code": "http 500"}
    await world.say(world.names.results, *(submitted(one.id, **doubtful) for one in messages))


def queries(world: World, http: HttpCarrier, ahead_ms: int) -> Queries:
    outbox = Outbox(world.producer, world.names)
    return Queries(world.pool, outbox, {"http": http}, ["marketing"], now_ms=lambda: now() + ahead_ms)


async def ask(world: World, http: HttpCarrier, ahead_ms: int) -> int:
    return await queries(world, http, ahead_ms).step("http", http)


async def known(world: World, message: Accepted, count: int = 1) -> None:
    await world.until(
        lambda: world.value("SELECT count(*) = $2 FROM doubts WHERE id = $1", message.id, count), deadline_s=10
    )


async def test_a_lost_answer_is_found_again_and_later_receipts_of_its_id_too(world: World, there: Carrier) -> None:
    there.losing = True
    message = accepted()
    async with connected(there) as http, world.settling(asked={"http"}):
        await lose(world, http, message)
        await world.becomes(message.id, Status.UNKNOWN)
        await known(world, message)
        assert await ask(world, http, 25_000) == 0, "not before half a minute"
        assert await ask(world, http, 31_000) == 1
        found = await world.becomes(message.id, Status.DELIVERED)
        assert await world.value(WAITING) == 0
        assert (found.carrier, found.attempt) == ("http", 1)
        held = await world.value("SELECT carrier_id FROM messages WHERE id = $1", message.id)
        assert await world.value("SELECT id::text FROM carrier_ids WHERE key = $1", f"http/{held}") == message.id
        assert await ask(world, http, 400_000) == 0
    assert there.refs == {message.id: 1}
    assert there.asked == [[message.id]]


async def test_what_the_carrier_never_saw_stays_unknown_and_is_not_sent_again(world: World, there: Carrier) -> None:
    there.deaf = True
    message = accepted()
    async with connected(there) as http, world.settling(asked={"http"}):
        await lose(world, http, message)
        await known(world, message)
        for ahead_ms in (31_000, 301_000, 1_801_000, 10_801_000):
            assert await ask(world, http, ahead_ms) == 1, ahead_ms
        await known(world, message, 0)
        await world.until(
            lambda: world.value("SELECT code = 'carrier.not_found' FROM messages WHERE id = $1", message.id)
        )
        await world.becomes(message.id, Status.UNKNOWN)
        assert len(there.asked) == 4
        assert there.submits == []
        await world.say(world.names.receipts, receipt(carrier="http", ref=message.id))  # it had it after all
        await world.becomes(message.id, Status.DELIVERED)


@pytest.mark.parametrize(("final", "left"), [(False, True), (True, False)])
async def test_window_slots_come_back_only_where_the_carriers_word_counts(
    world: World, there: Carrier, final: bool, left: bool
) -> None:
    """Admitted and claimed as deliver does it, then lost on the way: the record's refund flag tells."""
    there.deaf = True
    message = await admitted(world)
    async with connected(there, final=final) as http, world.settling(asked={"http"}):
        await lose(world, http, message)
        await world.guard.done([message.id])
        await known(world, message)
        assert await ask(world, http, 31_000) == 1
        assert await consumed(world, message), "half a minute is too early to believe it"
        assert await ask(world, http, BELIEVE_AFTER_MS + 1_000) == 1
        await known(world, message, int(left))
        await world.until(
            lambda: world.value("SELECT code = 'carrier.not_found' FROM messages WHERE id = $1", message.id)
        )
        if left:
            await asyncio.sleep(0.5)
            assert await consumed(world, message)
        else:
            await world.until(lambda: returned(world, message))
        await world.becomes(message.id, Status.UNKNOWN)


async def test_a_receipt_that_comes_first_leaves_nothing_to_ask(world: World, there: Carrier) -> None:
    there.losing = True
    message = accepted()
    async with connected(there) as http, world.settling(asked={"http"}):
        await lose(world, http, message)
        await known(world, message)
        await world.say(world.names.receipts, receipt(carrier="http", ref=message.id))
        await world.becomes(message.id, Status.DELIVERED)
        assert await ask(world, http, 31_000) == 0
        assert await world.value(WAITING) == 0
    assert there.asked == []


async def test_a_carrier_whose_query_fails_is_asked_again_and_the_schedule_stands(world: World, there: Carrier) -> None:
    there.losing = True
    messages = [accepted() for _ in range(230)]
    async with connected(there) as http, world.settling(asked={"http"}):
        for first in range(0, len(messages), 100):
            await lose(world, http, *messages[first : first + 100])
        await world.until(lambda: world.value(f"{WAITING} HAVING count(*) = 230"))
        with hurried(), asking(queries(world, http, 31_000)):
            for there.asking in ("500", "429", "no json", '{"results": 7}'):
                mark = len(there.asked)
                await world.until(lambda mark=mark: more(there, mark + 1))
            assert await world.value(WAITING) == 230
            there.asking = ""
            await world.until(lambda: world.value("SELECT count(*) = 0 FROM doubts"))
        ids = [message.id for message in messages]
        await world.until(
            lambda: world.value("SELECT count(*) = 230 FROM messages WHERE id = ANY($1) AND status = 4", ids)
        )
    assert max(map(len, there.asked)) == 100
    assert set(there.refs.values()) == {1}


async def test_a_carrier_that_is_away_or_has_no_such_address_is_a_failed_query(there: Carrier) -> None:
    nobody = HttpCarrier(there.url, query_url="http://127.0.0.1:9/query")
    nowhere = HttpCarrier(there.url)
    assert (nobody.can_query, nowhere.can_query) == (True, False)
    for http, why in ((nobody, "ConnectError"), (nowhere, "query.none")):
        with pytest.raises(QueryFailed, match=why):
            await http.query(["a"])
        await http.close()


async def test_a_crash_between_what_was_learned_and_its_row_asks_again_and_changes_nothing(
    world: World, there: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.losing = True
    message = accepted()
    async with connected(there) as http, world.settling(asked={"http"}):
        await lose(world, http, message)
        await known(world, message)
        monkeypatch.setattr(query.doubts, "remove", dies)
        with pytest.raises(ZeroDivisionError):
            await ask(world, http, 31_000)
        monkeypatch.undo()
        counted = await world.counted()
        await world.becomes(message.id, Status.DELIVERED)
        await world.until(lambda: world.value("SELECT n > 0 FROM outcome_minutes WHERE status = 4 LIMIT 1"))
        assert await ask(world, http, 31_000) == 0, "the lease still runs"
        after = await world.counted()
        assert await ask(world, http, 200_000) == 0, "known by now"
        assert await world.value(WAITING) == 0
        assert after.get(9, 0) <= counted.get(9, 0)
    assert len(there.asked) == 1


async def test_another_class_and_a_carrier_that_is_not_asked_are_left_alone(world: World, there: Carrier) -> None:
    there.losing = True
    message, other = accepted(), accepted()
    async with connected(there) as http:
        async with world.settling(asked={"http"}):
            await lose(world, http, message)
            await known(world, message)
            outbox = Outbox(world.producer, world.names)
            urgent = Queries(world.pool, outbox, {"http": http}, ["verification"], now_ms=lambda: now() + 31_000)
            assert await urgent.step("http", http) == 0
        async with world.settling():
            await lose(world, http, other)
            await world.becomes(other.id, Status.UNKNOWN)
            await known(world, other, 0)
    assert there.asked == []


# --- ways to look -----------------------------------------------------------------------------------------------------


async def dies(_conn: Any, ids: Sequence[str]) -> None:
    if ids:
        raise ZeroDivisionError


async def more(there: Carrier, count: int) -> bool:
    return len(there.asked) >= count


@contextmanager
def hurried() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "FAILED_S", (0.05, 0.1))
        patch.setattr(query, "LEASE_MS", 100)
        patch.setattr(query, "EVERY_S", 0.01)
        yield


@contextmanager
def asking(loop: Queries) -> Iterator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()


async def admitted(world: World) -> Accepted:
    """Let through by the guard, its window consumed, and claimed."""
    subject, rules = a_subject(), a_plan(window(3, HOUR_MS))
    await world.guard.apply([(subject, State(seq=1, relationships={"acme/order": Relationship(at=1, entry=1)}))])
    ask = an_ask(subject, rules)
    (verdict,) = await world.guard.admit([ask], 1)
    assert verdict.code is None
    (claimed,) = await world.guard.claim([Claim(ask.id, 1, subject, rules, 0, 0)], 1)
    assert claimed.kind is Outcome.GO
    return accepted(id=ask.id, subject=subject.hex())


async def consumed(world: World, message: Accepted) -> bool:
    """Whether the recipient's windows hold anything."""
    subject = bytes.fromhex(message.subject)
    return bool(await world.guard.server.command("HEXISTS", keys.WINDOWS[subject[0]] + subject, "T/acme"))


async def returned(world: World, message: Accepted) -> bool:
    return not await consumed(world, message)
