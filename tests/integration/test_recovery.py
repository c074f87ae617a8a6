"""A lane loses everything and heals: nobody gets one message more, nothing is lost, nothing goes twice."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.assemble.recovering import recovery
from gateway.carriers.outcomes import Profile
from gateway.contract.codes import Code
from gateway.contract.decision import Class, Refusal
from gateway.contract.ids import LANES, lane_of, new_id
from gateway.contract.wire import Accepted, Result
from gateway.guard import keys
from gateway.guard.cursors import Cursors
from gateway.intake import Answer
from gateway.ledger import projection
from gateway.ledger.rebuild import rebuild
from gateway.local.parts import Part, bring_up
from gateway.rules.pack import load
from gateway.stream.codec import decode
from tests.integration.agreement import agreement
from tests.integration.recovery_rig import LANDING_S, SENDERS, Lanes, lanes, settings_for
from tests.integration.test_deliver_hold import holding

pytestmark = pytest.mark.integration

DAY_MS = 86_400_000
SHIPPING = Class.TRANSACTIONAL
WAITING = "SELECT * FROM held WHERE id = ANY($1)"
_counter = iter(range(1, 1_000_000))


def number() -> str:
    """A number nobody else uses."""
    return f"+86137{next(_counter):08d}"


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in (("FOLLOW_S", 0.02), ("TEND_S", 0.05), ("AGAIN_S", 0.1)):
            patch.setattr(projection, name, seconds)
        yield


@pytest.fixture(scope="module")
async def rig(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, quick: None
) -> AsyncIterator[Lanes]:
    """One installation for all of them; every number, text and key is used by one test only."""
    async with lanes(redis_url, kafka_bootstrap, topic_prefix, database_url) as made:
        yield made


@pytest.fixture(autouse=True)
async def agreed(rig: Lanes) -> AsyncIterator[None]:
    """Whatever a test did to the lanes, afterwards Redis and PostgreSQL agree."""
    yield
    await agreement(rig.dsn, rig.guard)


@pytest.fixture
def noon(rig: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intake believes that it is noon of the recipients' day, so that no hour of the clock is quiet."""
    today = datetime.now(ZoneInfo("Asia/Shanghai")).replace(hour=12, minute=0)
    monkeypatch.setattr(rig.intake, "_now_ms", lambda: int(today.timestamp() * 1000))


def read(value: bytes | None) -> tuple[Accepted, bytes]:
    return decode(Accepted, value), value or b""


async def reported(rig: Lanes, ids: Iterable[str], within_s: float = 20.0) -> dict[str, list[Result]]:
    """The results of these messages, once there is one of each."""
    wanted = set(ids)
    found = await rig.results(lambda found: wanted <= set(found), within_s=within_s)
    assert wanted <= set(found), "lost"
    return found


def wire(rig: Lanes, ids: Iterable[str]) -> Counter[str]:
    """How often each of these reached the carrier."""
    wanted = set(ids)
    return Counter(message.ref for message in rig.wire if message.ref in wanted)


def once(ids: Iterable[str]) -> Counter[str]:
    return Counter(dict.fromkeys(ids, 1))


def code(answer: Answer | Refusal) -> Code | None:
    return answer.code if isinstance(answer, Refusal) else None


async def test_full_windows_are_full_after_a_flush(rig: Lanes, noon: None) -> None:
    """Rolling (ten notices a day), calendar (three of anybody's marketing), long (three of after-sales in a week)."""
    one, other, third = number(), number(), number()
    shipped = [code(await rig.ask(one)) for _ in range(11)]
    cared = [code(await rig.ask(third, "transaction.after_sales")) for _ in range(4)]
    sold = [code(await rig.ask(other, "marketing.promotion", sender=sender.id)) for sender in SENDERS]
    assert (shipped.count(None), shipped[-1]) == (10, Code.WINDOW_EXCEEDED)
    assert (cared.count(None), cared[-1]) == (3, Code.WINDOW_EXCEEDED)
    assert (sold.count(None), sold[-1]) == (3, Code.WINDOW_EXCEEDED)
    before = await rig.everything(b"w")
    await rig.forget_and_heal()
    assert code(await rig.ask(one)) is Code.WINDOW_EXCEEDED
    assert code(await rig.ask(third, "transaction.after_sales")) is Code.WINDOW_EXCEEDED
    assert code(await rig.ask(other, "marketing.promotion", sender="dome")) is Code.WINDOW_EXCEEDED
    assert code(await rig.ask(other, "marketing.survey", sender="acme")) is Code.WINDOW_EXCEEDED
    assert await rig.everything(b"w") == before
    key = keys.WINDOWS[rig.subject(third)[0]] + rig.subject(third)
    assert 6 * DAY_MS < await rig.guard.server.command("PTTL", key) < 8 * DAY_MS


async def test_the_same_text_is_the_same_after_a_flush(rig: Lanes) -> None:
    one = number()
    assert code(await rig.ask(one, text="Twice")) is None
    await rig.forget_and_heal()
    assert code(await rig.ask(one, text="Twice")) is Code.WINDOW_EXCEEDED
    assert code(await rig.ask(one, text="Once")) is None


async def test_a_key_keeps_its_answer(rig: Lanes) -> None:
    now, later, gone = number(), number(), number()
    due = datetime.now(UTC) + timedelta(hours=2)
    first = await rig.ask(now, text="Once", idempotency_key="k1")
    held = await rig.ask(later, text="Later", idempotency_key="k2", not_before=due)
    done = await rig.ask(gone, text="Gone", idempotency_key="k3")
    assert isinstance(first, Answer)
    assert isinstance(held, Answer)
    assert isinstance(done, Answer)
    async with rig.delivering():
        await reported(rig, [first.id, done.id])
    await rig.forget_and_heal()
    again = [
        await rig.ask(now, text="Once", idempotency_key="k1"),
        await rig.ask(later, text="Later", idempotency_key="k2", not_before=due),
        await rig.ask(gone, text="Gone", idempotency_key="k3"),
    ]
    assert again == [answer._replace(replayed=True) for answer in (first, held, done)]
    assert code(await rig.ask(now, text="Another", idempotency_key="k1")) is Code.IDEMPOTENCY_CONFLICT
    assert code(await rig.ask(number(), text="Once", idempotency_key="k1")) is Code.IDEMPOTENCY_CONFLICT


async def test_no_key_is_bound_while_the_lane_is_cold(rig: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a key whose first message is not back yet would be bound anew, and sent under two ids."""
    one = number()
    first = await rig.ask(one, text="Once", idempotency_key="kc")
    assert isinstance(first, Answer)
    await rig.flush()
    answers = []
    while not isinstance(answer := await rig.ask(one, text="Once", idempotency_key="kc"), Answer):
        answers.append(answer.code)
        await asyncio.sleep(0.01)
    assert set(answers) <= {Code.CACHE_COLD, Code.UNAVAILABLE}
    assert Code.CACHE_COLD in answers
    assert answer.id == first.id


async def test_a_used_request_stays_used(rig: Lanes) -> None:
    one, act = number(), {"ref": "r1", "occurred_at": datetime.now(UTC)}
    assert code(await rig.ask(one, "verification.code", request=act, text="Your code is 1234")) is None
    await rig.forget_and_heal()
    again = await rig.ask(one, "verification.code", request=act, text="Your code is 1235")
    assert code(again) is Code.REQUEST_MISSING


async def test_a_request_used_weeks_ago_comes_from_postgresql(rig: Lanes, noon: None) -> None:
    one, old = number(), int(time.time() * 1000) - 20 * DAY_MS
    subject = rig.subject(one)
    sent = new_id(lane_of(subject), old)
    origin = await rig.pool.fetchval(
        "INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis) "
        "VALUES ('x', 'shop', 'acme', 'invite.restock_requested', 'marketing', '1', 'p', 'request') RETURNING id"
    )
    await rig.pool.execute(
        "INSERT INTO messages (id, origin, rank, status, timeline) VALUES ($1, $2, 1, 2, '[]')", sent, origin
    )
    await rig.pool.execute("INSERT INTO used_requests VALUES ($1, 'acme', 'r2', $2, $3)", subject, sent, old)
    await rig.forget_and_heal()
    shown = {"ref": "r2", "occurred_at": datetime.fromtimestamp(old / 1000, UTC)}
    assert code(await rig.ask(one, "invite.restock_requested", request=shown)) is Code.REQUEST_MISSING
    assert code(await rig.ask(one, "invite.restock_requested", request=shown | {"ref": "r3"})) is None


async def test_windows_older_than_a_day_come_from_postgresql(rig: Lanes, noon: None) -> None:
    one, other, now = number(), number(), int(time.time() * 1000)
    name = "transaction.after_sales/acme"
    rows = [(rig.subject(one), name, now - n * DAY_MS, new_id(0)) for n in (2, 3, 6)]
    rows += [(rig.subject(other), name, now - n * DAY_MS, new_id(0)) for n in (2, 3, 8)]
    await rig.pool.executemany("INSERT INTO long_windows VALUES ($1, $2, $3, $4)", rows)
    await rig.forget_and_heal()
    assert code(await rig.ask(one, "transaction.after_sales")) is Code.WINDOW_EXCEEDED
    assert code(await rig.ask(other, "transaction.after_sales")) is None
    assert code(await rig.ask(other, "transaction.after_sales")) is Code.WINDOW_EXCEEDED


async def test_what_was_given_back_stays_given_back(rig: Lanes) -> None:
    """The carrier refuses this number, and an opt-out stops that one: neither used up a place."""
    refused, stopped = "+8619900000004", number()
    lost = await rig.ask(refused, idempotency_key="kr")
    gone = await rig.ask(stopped)
    rest = [await rig.ask(stopped, "transaction.order") for _ in range(9)]
    assert all(isinstance(answer, Answer) for answer in (lost, gone, *rest))
    await rig.guard.block(rig.subject(stopped), ["acme/transaction.shipping"])
    async with rig.delivering():
        found = await reported(rig, [answer.id for answer in (lost, gone, *rest)])  # type: ignore[union-attr]
    assert isinstance(lost, Answer)
    assert isinstance(gone, Answer)
    assert (found[lost.id][0].outcome, found[gone.id][0].outcome) == ("rejected", "cancelled")
    await rig.forget_and_heal()
    view, voided = await rig.guard.record(lost.id), await rig.guard.record(gone.id)
    assert view is not None
    assert voided is not None
    assert (view.state, view.refunded, voided.state, voided.code) == ("done", True, "void", "suppressed")
    assert code(await rig.ask(stopped, "transaction.order")) is None
    assert code(await rig.ask(stopped, "transaction.order")) is Code.WINDOW_EXCEEDED


async def test_putting_back_twice_changes_nothing(rig: Lanes, database_url: str) -> None:
    people = [number() for _ in range(30)]
    ids = await rig.send(people * 3)
    keyed = [await rig.ask(one, idempotency_key=f"t{n}") for n, one in enumerate(people)]
    await rig.send(people[:5], not_before=datetime.now(UTC) + timedelta(hours=1))
    assert all(isinstance(answer, Answer) for answer in keyed)
    async with rig.delivering():
        await reported(rig, ids[::2])
    windows = await rig.everything(b"wiu")
    await rig.forget_and_heal()
    assert await rig.everything(b"wiu") == windows
    before = await rig.everything()
    told: list[tuple[str, int, int]] = []
    filled = await rebuild(database_url, rig.guard, lambda *step: told.append(step), rig.recovery)
    assert await rig.everything() == before
    assert filled.messages >= len(ids)
    assert filled.recipients >= len(people)
    assert {"recipients", "messages"} <= {stage for stage, _, _ in told}
    done, total = [step[1:] for step in told if step[0] == "messages"][-1]
    assert done == total


async def test_half_of_the_lanes(rig: Lanes) -> None:
    """One node of a cluster comes back empty: its lanes heal, the others are not touched."""
    people = [number() for _ in range(40)]
    first = [await rig.ask(one, text="Once", idempotency_key=f"h{n}") for n, one in enumerate(people)]
    before = await rig.everything()
    lost = [tag.encode() for tag in keys.TAGS[:8]]
    gone = [key for key in await rig.guard.server.command("KEYS", "*") if key[2:].partition(b"}")[0] in lost]
    await rig.guard.server.command("DEL", *gone)
    cursors = await Cursors(rig.guard.server).read()
    assert {cursor is None for cursor in cursors[8:]} == {False}
    await rig.healed()
    after = await rig.everything(b"wiu")
    assert after == {key: value for key, value in before.items() if key[:1] in {b"w", b"i", b"u"}}
    again = [await rig.ask(one, text="Once", idempotency_key=f"h{n}") for n, one in enumerate(people)]
    assert again == [answer._replace(replayed=True) for answer in first]  # type: ignore[union-attr]


async def test_held_messages_are_released_once(rig: Lanes, database_url: str) -> None:
    people = [number() for _ in range(20)]
    await rig.know(people)
    ids = await rig.send(people, not_before=datetime.now(UTC) + timedelta(seconds=2))
    async with holding(rig, rig.pool):
        async with asyncio.timeout(8):
            while len(rows := await rig.pool.fetch(WAITING, ids)) < len(ids):  # noqa: ASYNC110 - another process'
                await asyncio.sleep(0.02)
        await rig.forget_and_heal()
        assert {(await rig.guard.record(one)).state for one in ids} == {"held"}  # type: ignore[union-attr]
        async with rig.delivering():
            await reported(rig, ids)
            await rig.forget_and_heal()
            # as if the holder had died between its publish and its commit
            await rig.pool.executemany(
                "INSERT INTO held VALUES ($1, $2, $3, $4, $5, $6, $7)", [tuple(row) for row in rows]
            )
            async with asyncio.timeout(8):
                while await rig.pool.fetch(WAITING, ids):  # noqa: ASYNC110 - another process'
                    await asyncio.sleep(0.02)
            await reported(rig, await rig.send(people))  # in the same partitions, behind any copy
    assert wire(rig, ids) == once(ids)


async def test_nobody_gets_one_more_and_nothing_is_lost_or_doubled_through_flushes(rig: Lanes) -> None:
    """Senders, deliverers and copies at work while everything is forgotten, three times."""
    people = [number() for _ in range(40)]
    await rig.know(people)
    accepted: list[tuple[str, str]] = []
    stop = asyncio.Event()

    async def send(mine: list[str], who: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            for one in mine:
                answer = await rig.ask(one, idempotency_key=f"b{who}.{n}.{one}")
                if isinstance(answer, Answer):
                    accepted.append((one, answer.id))
                    again = await rig.ask(one, idempotency_key=f"b{who}.{n}.{one}")  # another text: a conflict
                    assert code(again) in {Code.IDEMPOTENCY_CONFLICT, Code.CACHE_COLD, Code.UNAVAILABLE}
            await asyncio.sleep(0.02)

    async with rig.delivering(Profile(latency_s=0.05, receipt_s=0.01)):
        senders = [asyncio.create_task(send(people[n::4], n)) for n in range(4)]
        for _ in range(3):
            await asyncio.sleep(0.3)
            await rig.forget_and_heal()
        await asyncio.sleep(0.5)
        stop.set()
        await asyncio.gather(*senders)
        ids = {one for _, one in accepted}
        await reported(rig, ids)
    assert wire(rig, ids) == once(ids)
    by_person = Counter(message.to for message in rig.wire if message.to in people)
    assert max(by_person.values()) == 10, "one more than the window"
    assert max(Counter(message.ref for message in rig.wire).values()) == 1, "twice"


async def test_a_backlog_is_delivered_once_though_its_records_are_forgotten(rig: Lanes) -> None:
    people = [number() for _ in range(900)]
    ids = await rig.send(people)
    mine = set(ids)
    async with rig.delivering(Profile(latency_s=0.05)):
        while len(wire(rig, ids)) < 200:  # noqa: ASYNC110 - the carrier has no event
            await asyncio.sleep(0.005)
        await rig.flush()
        reached = len(wire(rig, ids))
        values: list[bytes | None] = []
        await rig._read(rig.topics.messages(SHIPPING), values.append, lambda: len(values) >= len(ids), 5)
        copies = [pair for pair in map(read, values) if pair[0].id in mine][::3]
        pairs = [(bytes.fromhex(accepted.subject), value) for accepted, value in copies]
        await rig.producer.publish(rig.topics.messages(SHIPPING), pairs)
        await rig.healed()
        await reported(rig, ids)
        await reported(rig, await rig.send(people[:20]))  # behind the copies
    assert reached < len(ids), "flushed too late to show anything"
    assert len(copies) >= len(ids) // 3
    assert wire(rig, ids) == once(ids)


async def test_a_deliverer_is_killed_and_its_claims_are_forgotten(
    rig: Lanes, redis_url: str, kafka_bootstrap: str, tmp_path: Path
) -> None:
    """Whoever comes next finds out from what was put back what may have been written, and sends none of it again."""
    people = [number() for _ in range(500)]
    await rig.know(people)
    keyed = await asyncio.gather(*(rig.ask(one, idempotency_key=f"d{one}") for one in people))
    ids = [answer.id for answer in keyed if isinstance(answer, Answer)]
    assert len(ids) == len(people)
    log, words = tmp_path / "wire.log", ["-m", "tests.integration.deliver_rig", redis_url, kafka_bootstrap]
    with subprocess.Popen([sys.executable, *words, rig.topics.prefix, str(log)]) as process:  # noqa: ASYNC220
        until = time.monotonic() + 20
        while not log.exists() or len(log.read_text().splitlines()) < 130:
            assert time.monotonic() < until, "the deliverer never submitted"
            await asyncio.sleep(0.005)
        process.kill()
    before = log.read_text().splitlines()
    await rig.forget_and_heal()
    async with rig.delivering():
        found = await reported(rig, ids, within_s=30)
    assert 0 < len(before) < len(ids), "killed too early or too late to show anything"
    sent = Counter(before) + wire(rig, ids)
    assert max(sent.values()) == 1, "twice"
    unsent = {one for one in ids if one not in sent}
    assert unsent <= {one for one in ids if {result.outcome for result in found[one]} == {"doubtful"}}, "lost"


async def test_without_kafka_the_lanes_stay_cold(rig: Lanes, redis_url: str, database_url: str) -> None:
    one = number()
    assert code(await rig.ask(one)) is None
    settings = settings_for(redis_url, "127.0.0.1:1", rig.topics.prefix, database_url)
    await rig.rest()
    await rig.project(recovery(settings, rig.guard, {"cn": load("cn")}, landing_s=LANDING_S))
    await rig.flush()
    await asyncio.sleep(LANDING_S + 0.8)
    cursors = await Cursors(rig.guard.server).read()
    assert all(cursor is None or cursor < 0 for cursor in cursors)
    assert code(await rig.ask(one)) in {Code.CACHE_COLD, Code.UNAVAILABLE}
    await rig.rest()
    await rig.project()
    await rig.healed()
    assert [code(await rig.ask(one)) for _ in range(10)] == [None] * 9 + [Code.WINDOW_EXCEEDED]


async def test_nothing_opens_before_settle_has_read_the_replies(rig: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal that was acknowledged is only in Kafka while settle is away: its block went with the lane."""
    await rig.producer.publish(rig.topics.replies, [(b"k", b"{}")])
    await rig.flush()
    await asyncio.sleep(LANDING_S + 0.8)
    assert not any(cursor is not None and cursor >= 0 for cursor in await Cursors(rig.guard.server).read())
    partitions = await rig.producer.partitions(rig.topics.replies) or 0
    await rig.pool.executemany(
        "INSERT INTO consumer_offsets VALUES ('settle.replies', 'replies', $1, 1)", [(n,) for n in range(partitions)]
    )
    await rig.healed()


async def test_a_server_that_comes_back_empty(
    rig: Lanes, own_part: Callable[[str], Part], kafka_bootstrap: str, topic_prefix: str, database_url: str
) -> None:
    """Killed, its files gone: what replaces it is a new server at the same address."""
    valkey = own_part("valkey")
    await rig.rest()
    async with lanes(valkey.endpoint, kafka_bootstrap, f"{topic_prefix}{next(_counter)}.", database_url) as other:
        await _comes_back_empty(other, valkey)
    await rig.project()
    await rig.healed()


async def _comes_back_empty(rig: Lanes, valkey: Part) -> None:
    one = number()
    first = await rig.ask(one, text="Once", idempotency_key="kv")
    assert isinstance(first, Answer)
    assert [code(await rig.ask(one)) for _ in range(9)] == [None] * 9
    valkey.child.kill()
    shutil.rmtree(valkey.home)  # type: ignore[attr-defined]
    bring_up([valkey])
    await rig.healed()
    await agreement(rig.dsn, rig.guard)
    assert len([c for c in await Cursors(rig.guard.server).read() if c is not None]) == LANES
    assert code(await rig.ask(one)) is Code.WINDOW_EXCEEDED
    assert await rig.ask(one, text="Once", idempotency_key="kv") == first._replace(replayed=True)
    async with rig.delivering():
        await rig.results(lambda found: len(found) == 10)
    assert sorted(Counter(message.ref for message in rig.wire).values()) == [1] * 10
