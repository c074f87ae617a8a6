"""Health counts each message and each act once, through kill -9, cut connections, duplicates and a whole replay."""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Cause, Reason, Status
from gateway.contract.health import Act
from gateway.contract.ids import new_id, subject_of
from gateway.contract.wire import Record, Reply
from gateway.ledger.events import suppression, withdrawal
from gateway.records import buckets, health, personal
from gateway.settle.recount import recount
from gateway.settle.withdrawals import CONSUMER, Withdrawals
from tests.integration.settle_world import KEYS, PEPPER, World, a_world, accepted, now, receipt, submitted

pytestmark = pytest.mark.integration
DAY_MS = 86_400_000
PEOPLE = 240
KILLS = 2
READ = "topic IN ('results', 'receipts', 'replies', 'consent_events') OR topic LIKE 'messages.%'"
"""What is a place in Kafka or the ledger, and no time of a look for silence."""


@pytest.fixture(scope="module")
async def world(kafka_bootstrap: str, topic_prefix: str, redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with a_world(kafka_bootstrap, topic_prefix, redis_url, database_url) as made:
        yield made


class Traffic:
    """What is said about the messages of many people, and what all of it comes to."""

    def __init__(self, dice: random.Random) -> None:
        self.accepted: list[Record] = []
        self.said: list[tuple[str, Record]] = []
        self.replies: list[Reply] = []
        self.wanted: Counter[str] = Counter()
        for n in range(PEOPLE):
            self._one(f"+86138{n:08d}", dice)

    def _one(self, number: str, dice: random.Random) -> None:
        subject, want = subject_of(PEPPER, number), self.wanted
        campaign, purpose = dice.choice(("may", "june", None)), dice.choice(("marketing.promotion", "invite.restock"))
        one = accepted(to=number, subject=subject.hex(), campaign=campaign, purpose=purpose, list_source="import")
        self.accepted.append(one)
        want["accepted"] += 1
        end = dice.choice((Status.DELIVERED, Status.DELIVERED, Status.UNDELIVERED, Status.UNKNOWN, None, "rejected"))
        if end == "rejected":
            self.said.append(("results", submitted(one.id, outcome="rejected", code="K", cause=Cause.CONTENT)))
            want["rejected"] += 1
            return
        self.said.append(("results", submitted(one.id, carrier_id=one.id[:8])))
        want["sent"] += 1
        if end is not None:
            cause = Cause.DEAD_NUMBER if end is Status.UNDELIVERED else Cause.NONE
            self.said.append(("receipts", receipt(ref=one.id, status=end, raw_status=end.value, cause=cause)))
            if end is Status.UNKNOWN and dice.random() < 0.5:
                end = Status.DELIVERED
                self.said.append(("receipts", receipt(ref=one.id)))
            want[end.value] += 1
        reply = dice.choice(("R", "谢谢", "几点开门？", None, None))
        if reply is not None:
            for text in (reply, "还有吗") if reply != "R" else (reply,):
                self.replies.append(
                    Reply(
                        carrier="sim", reply_id=dice.randbytes(6).hex(), port="10690002", sender_number=number,
                        subject=subject.hex(), text=text, at=now(), received_at=now(), blocked=False,
                    )
                )  # fmt: skip
            want["unsubscribes" if reply == "R" else "replied"] += 1


async def publish(world: World, said: list[tuple[str, Record]]) -> None:
    for topic in ("results", "receipts"):
        await world.say(getattr(world.names, topic), *(record for name, record in said if name == topic))


async def settled(world: World) -> bool:
    """Whether both readers have read everything."""
    seen = await world.value("SELECT sum(next_offset) FROM consumer_offsets WHERE consumer LIKE 'settle%'")
    await asyncio.sleep(0.6)
    return bool(seen) and seen == await world.value(
        "SELECT sum(next_offset) FROM consumer_offsets WHERE consumer LIKE 'settle%'"
    )


def read(of: health.Totals) -> dict[str, int]:
    names = ("accepted", "sent", "delivered", "undelivered", "rejected", "unknown", "unsubscribes", "replied", "clicks")
    return {name: n for name in names if (n := getattr(of, name))}


async def agrees(world: World) -> None:
    """Records, minutes, hours and days say the same."""
    async with world.pool.acquire() as conn:
        for day in (now() // DAY_MS, now() // DAY_MS - 1):
            assert (await recount(conn, day)).apart == {}


async def totals(world: World, by: health.Dimension | None = None, **where: Any) -> dict[str | None, health.Totals]:
    minute = now() // 60_000
    async with world.pool.acquire() as conn:
        return await health.totals(conn, minute - 1440, minute + 2, by=by, where=where or None)


async def test_counts_are_exact_through_kills_duplicates_and_a_replay(
    world: World, database_url: str, redis_url: str, topic_prefix: str
) -> None:
    dice = random.Random(4)
    traffic = Traffic(dice)
    child = ("-m", "tests.carriers.reply_dies", world.bootstrap, topic_prefix, redis_url, database_url, "never")
    await world.accept(*traffic.accepted)  # type: ignore[arg-type]  # they are
    for n in range(KILLS):
        part = traffic.said[n::KILLS]
        process = await asyncio.create_subprocess_exec(sys.executable, *child)
        await publish(world, part + dice.sample(part, len(part) // 3))
        if n == 0:  # a reply is about a message that settlement knows
            await world.until(lambda: world.value("SELECT count(*) = $1 FROM messages", PEOPLE), 60)
        await world.say(world.names.replies, *traffic.replies[n::KILLS], *dice.sample(traffic.replies, 10))
        await asyncio.sleep(0.4 + dice.random())
        process.kill()
        await process.wait()
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> "
    async with world.settling():
        for _ in range(4):
            await asyncio.sleep(0.3)
            async with world.pool.acquire() as conn:
                await conn.execute(f"{cut} pg_backend_pid()")
    first, ends = None, dict[tuple[str, str, int], int]()

    async def reached() -> bool:
        return not ends or ends == await offsets(world)

    for _ in range(2):  # as it went on, and once more with every offset at its beginning
        async with world.settling():
            await agrees(world)  # in one snapshot, while it settles
            await world.until(lambda: world.value("SELECT count(*) = $1 FROM replies", len(traffic.replies)), 60)
            await world.until(lambda: settled(world), 60)
            await world.until(lambda: _caught_up(world), 60)
            await world.until(reached, 60)
        ends = await offsets(world)
        await agrees(world)
        found = (await totals(world))[None]
        assert read(found) == traffic.wanted
        assert found.causes == {Cause.DEAD_NUMBER: found.undelivered, Cause.CONTENT: found.rejected}
        assert (await totals(world, sender=["acme"]))[None] == found
        assert first is None or found == first
        first = found
        await world.pool.execute(f"UPDATE consumer_offsets SET next_offset = 0 WHERE {READ}")  # noqa: S608
    by = await totals(world, "campaign")
    assert sum(of.delivered for of in by.values()) == traffic.wanted["delivered"]
    assert set(by) == {"may", "june", None}
    carriers = await totals(world, "carrier")
    assert sum(of.unsubscribes for of in carriers.values()) == traffic.wanted["unsubscribes"]
    assert carriers["sim"].unsubscribes, "of those answered after their submit was known"


async def offsets(world: World) -> dict[tuple[str, str, int], int]:
    query = f"SELECT consumer, topic, partition, next_offset FROM consumer_offsets WHERE {READ}"  # noqa: S608
    rows = await world.pool.fetch(query)
    return {tuple(row)[:3]: row["next_offset"] for row in rows}


async def _caught_up(world: World) -> bool:
    """Whether the follower of withdrawals is at the ledger's head."""
    at = "SELECT next_offset = (SELECT seq FROM ledger_head) FROM consumer_offsets WHERE consumer = $1"
    return bool(await world.value(at, CONSUMER))


async def test_a_way_out_counts_for_the_last_message_of_that_sender_and_erasure_takes_the_name_off(
    world: World,
) -> None:
    known, old, stranger, entered = (subject_of(PEPPER, f"+86137{n:08d}") for n in range(4))
    before_that = now() - 60_000
    first = accepted(id=new_id(3, before_that), accepted_at=before_that, subject=known.hex(), campaign="early")
    last = accepted(subject=known.hex(), campaign="late")
    await world.accept(
        first, last, accepted(subject=old.hex(), accepted_at=now() - 31 * DAY_MS), accepted(subject=entered.hex())
    )
    async with world.settling():
        await world.becomes(last.id, Status.QUEUED)
        await world.until(lambda: settled(world))
    at = now()
    others = withdrawal("bolt", why="page")
    acts = [
        _event("a", known, withdrawal("acme", why="page"), at), _event("b", known, others, at),
        _event("a2", known, withdrawal("acme", ["membership"], why="page"), at),
        _event("c", old, withdrawal("acme", why="call"), at), _event("d", stranger, withdrawal(why="call"), at),
        _event("e", entered, suppression("acme", Reason.OPT_OUT, why="call"), at, EventKind.SUPPRESSION),
        _event("f", entered, suppression("acme", Reason.MANUAL, why="call"), at, EventKind.SUPPRESSION),
    ]  # fmt: skip
    await world.appender.append(acts)
    before = (await totals(world))[None].unsubscribes
    follower = Withdrawals(world.pool, KEYS, lambda: now() + 5_000)
    while await follower.follow():
        pass
    after = await totals(world, "campaign", sender=["acme"])
    assert (after["late"].unsubscribes, "early" in after and after["early"].unsubscribes) == (1, 0)
    assert (await totals(world))[None].unsubscribes - before == 5, "one message is left once"
    attributed = await world.value(
        "SELECT count(*) FROM signals WHERE subject = ANY($1::bytea[]) AND message IS NOT NULL",
        [known, old, stranger, entered],
    )
    assert attributed == 2
    await personal.Personal(world.pool).forget(known)
    assert await world.value("SELECT count(*) FROM signals WHERE subject = $1", known) == 0
    assert (await totals(world, campaign=["late"]))[None].unsubscribes == 1


def _event(name: str, subject: bytes, data: dict[str, Any], at: int, kind: EventKind = EventKind.WITHDRAWAL) -> Event:
    return Event(event_id=name, kind=kind, number=None, subject=subject, occurred_at_ms=at, data=data)


async def test_a_recount_finds_what_is_wrong_and_mends_it(world: World) -> None:
    days = (now() // DAY_MS - 1, now() // DAY_MS)  # both: midnight may have passed since the tests above
    async with world.pool.acquire() as conn:
        right = [(d, unit, await buckets.stored(conn, "outcome", unit, d)) for d in days for unit in buckets.UNITS]
        of_days = sum(len(counts) for _, unit, counts in right if unit == "day")
        assert of_days
        await conn.execute(
            "UPDATE outcome_hours SET n = n + 1 WHERE ctid = (SELECT ctid FROM outcome_hours WHERE hour >= $1 LIMIT 1)",
            days[0] * 24,
        )
        await conn.execute("DELETE FROM outcome_days WHERE day >= $1", days[0])
        await conn.execute(
            "UPDATE signal_minutes SET n = 0 WHERE ctid = "
            "(SELECT ctid FROM signal_minutes WHERE signal = $1 AND minute >= $2 LIMIT 1)",
            Act.UNSUBSCRIBE.value, days[0] * 1440,
        )  # fmt: skip
        found = [Counter((await recount(conn, day)).apart) for day in days]
        assert sum(found, Counter[str]()) == {"outcome_hours": 1, "outcome_days": of_days, "signal_minutes": 1}
        assert any([(await recount(conn, day, repair=True)).repaired for day in days])
        for day, unit, counts in right:
            assert await buckets.stored(conn, "outcome", unit, day) == counts
    await agrees(world)
