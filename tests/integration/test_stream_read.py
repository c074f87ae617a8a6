"""Reading from a real broker: commits, rebalances, dead letters."""

import asyncio
import base64
import itertools
import os
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.contract.wire import DeadLetter, Reply
from gateway.stream import (
    Consumer,
    GroupLag,
    GroupReader,
    Message,
    OffsetsLost,
    Place,
    Producer,
    Reader,
    Topics,
    decode,
    encode,
    ensure,
)

pytestmark = pytest.mark.integration
PARTITIONS = 4


@pytest.fixture
async def topics(kafka_bootstrap: str, topic_prefix: str) -> Topics:
    names = Topics(f"{topic_prefix}{os.urandom(3).hex()}.")
    await ensure(kafka_bootstrap, names, PARTITIONS, 1)
    return names


@pytest.fixture
async def producer(kafka_bootstrap: str, topics: Topics) -> AsyncIterator[Producer]:
    publishing = Producer(kafka_bootstrap, topics)
    assert await publishing.start()
    yield publishing
    await publishing.stop()


def reply(number: int) -> bytes:
    return encode(
        Reply(
            carrier="c",
            reply_id=str(number),
            sender_number="+8613800138000",
            subject="ab" * 16,
            port="1",
            text="R",
            at=1,
            received_at=2,
        )
    )


class Member:
    """A group member as deliver uses it: commit first, then keep what was read."""

    def __init__(self, bootstrap: str, topics: Topics, kept: list[tuple[Place, int]], back: int = 0) -> None:
        self.reader = GroupReader(
            bootstrap,
            topics.hold_group(),
            [topics.held],
            topics,
            consumer="test",
            on_assigned=self.assigned,
            on_revoked=self.revoked,
            session_s=6.0,
        )
        self.kept, self.back = kept, back
        self.moves: list[tuple[str, int]] = []
        self.busy = asyncio.Lock()
        self.early = 0
        self.ready = self.ending = False

    async def assigned(self, places: frozenset[Place], _epoch: int) -> None:
        for place in places:
            self.reader.seek(place, max(0, await self.reader.committed(place) - self.back))
        await asyncio.sleep(0.05)  # whatever is read meanwhile was read too early
        self.ready = True
        self.moves.append(("assigned", len(places)))

    async def revoked(self, places: frozenset[Place], _epoch: int) -> None:
        async with self.busy:  # the batch in hand ends before the partitions go
            self.ready = False
            self.moves.append(("revoked", len(places)))

    async def run(self) -> None:
        while not self.ending:
            read = await self.reader.getmany(0.1, 20)
            self.early += bool(read.batch) and not self.ready
            async with self.busy:
                ends = {place: messages[-1].offset + 1 for place, messages in read.batch.items()}
                if ends and await self.reader.commit(ends, read.epoch):
                    self.kept += [(place, row.offset) for place, rows in read.batch.items() for row in rows]
                await asyncio.sleep(0.005)

    async def leave(self, run: asyncio.Task[None]) -> None:
        self.ending = True
        await run
        await self.reader.stop()


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a broker
            await asyncio.sleep(0.02)


async def test_a_rebalance_neither_loses_nor_doubles_what_is_committed_ahead(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    """One member, then two, then the other one alone, while records keep coming."""
    kept: list[tuple[Place, int]] = []
    sent: list[tuple[Place, int]] = []
    numbers = itertools.count()

    async def send(count: int) -> None:
        answers = await producer.publish(topics.held, [(os.urandom(16), reply(next(numbers))) for _ in range(count)])
        sent.extend((Place(topics.held, at.partition), at.offset) for at in answers if at is not None)

    first, second = (Member(kafka_bootstrap, topics, kept) for _ in range(2))
    await send(300)
    await first.reader.start()
    runs = [asyncio.create_task(first.run())]
    await until(lambda: len(kept) >= 100)
    await second.reader.start()
    runs.append(asyncio.create_task(second.run()))
    await send(300)
    await until(lambda: len(kept) >= 500)
    assert len(first.reader.places) == len(second.reader.places) == PARTITIONS // 2
    await first.leave(runs[0])
    await send(300)
    await until(lambda: len(kept) >= len(sent) == 900)
    await asyncio.sleep(0.3)
    await second.leave(runs[1])
    assert sorted(kept) == sorted(sent)
    assert first.moves[:3] == [("assigned", 4), ("revoked", 4), ("assigned", 2)]
    assert second.moves == [("assigned", 2), ("revoked", 2), ("assigned", 4), ("revoked", 4)]
    assert first.early == second.early == 0


async def test_an_assignment_that_is_over_commits_nothing(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    await producer.publish(topics.held, [(b"k", reply(1))] * 5)
    member = Member(kafka_bootstrap, topics, [])
    await member.reader.start()
    read = await member.reader.getmany(2.0, 3)
    (place,) = read.batch
    assert [row.offset for row in read.batch[place]] == [0, 1, 2]
    assert member.reader.still_owned(place, read.epoch)
    assert not member.reader.still_owned(place, read.epoch - 1)
    assert not await member.reader.commit({place: 3}, read.epoch - 1)
    assert not await member.reader.commit({Place(topics.results, 0): 3}, read.epoch)
    assert await member.reader.commit({place: 2}, read.epoch)
    assert await member.reader.committed(place) == 2
    assert member.reader.lag()[place] == 2
    lag = GroupLag(kafka_bootstrap, topics.hold_group(), topics.held)
    assert await lag.records() == 3
    await lag.stop()
    await member.reader.stop()
    assert not member.reader.still_owned(place, read.epoch)
    assert not await member.reader.commit({place: 3}, read.epoch)
    again = Member(kafka_bootstrap, topics, [], back=1)
    await again.reader.start()
    rows = (await again.reader.getmany(2.0, 10)).batch[place]
    assert [row.offset for row in rows] == [1, 2, 3, 4]
    await again.reader.stop()


async def test_a_paused_partition_waits_and_loses_nothing(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    for number in range(PARTITIONS):
        await producer.publish(topics.held, [(b"k", b"v")] * 5, partition=number)
    member = Member(kafka_bootstrap, topics, [])
    await member.reader.start()
    waiting = Place(topics.held, 1)
    member.reader.pause([waiting])
    seen: list[Message] = []
    for _ in range(6):
        seen += [row for rows in (await member.reader.getmany(0.2, 7)).batch.values() for row in rows]
    assert {row.place.partition for row in seen} == {0, 2, 3}
    assert len(seen) == 15
    member.reader.resume([waiting])
    rows = (await member.reader.getmany(2.0, 10)).batch[waiting]
    assert [row.offset for row in rows] == [0, 1, 2, 3, 4]
    await member.reader.stop()


async def test_a_failing_assignment_hands_nothing_out_and_is_tried_again(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    await producer.publish(topics.held, [(b"k", b"v")] * 3)
    faults = [ConnectionError("PostgreSQL is away")]

    async def assigned(places: frozenset[Place], epoch: int) -> None:
        if faults:
            raise faults.pop()

    async def revoked(places: frozenset[Place], epoch: int) -> None: ...

    reader = GroupReader(
        kafka_bootstrap,
        topics.hold_group(),
        [topics.held],
        topics,
        consumer="t",
        on_assigned=assigned,
        on_revoked=revoked,
    )
    await reader.start()
    assert (await reader.getmany(0.5, 10)).batch == {}
    batch = (await reader.getmany(3.0, 10)).batch
    assert [row.offset for rows in batch.values() for row in rows] == [0, 1, 2]
    await reader.stop()


async def test_a_reader_starts_where_it_is_told_and_nowhere_else(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    for number in range(PARTITIONS):
        await producer.publish(topics.receipts, [(b"k", b"%d" % n) for n in range(10)], partition=number)
    reader = Reader(kafka_bootstrap, [topics.receipts], topics, "test")
    places = await reader.start()
    assert places == [Place(topics.receipts, number) for number in range(PARTITIONS)]
    with pytest.raises(OffsetsLost):
        await reader.getmany(2.0, 10)
    for place in places:
        reader.seek(place, 6)
    seen: list[int] = []
    while len(seen) < 4 * PARTITIONS:
        batch = await reader.getmany(2.0, 3)
        assert sum(map(len, batch.values())) <= 3
        seen += [row.offset for rows in batch.values() for row in rows]
    assert sorted(seen) == sorted([6, 7, 8, 9] * PARTITIONS)
    assert await reader.ends() == dict.fromkeys(places, 10)
    assert await reader.begins() == dict.fromkeys(places, 0)
    await reader.stop()


async def committed(bootstrap: str, group: str, topic: str) -> int:
    lag = GroupLag(bootstrap, group, topic)
    behind = await lag.records()
    await lag.stop()
    assert behind is not None
    return behind


async def test_work_in_any_order_commits_only_what_is_contiguous(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    """The third record never ends while 50 others do: its offset holds the commit, and it comes again."""
    group = topics.group("work")
    answers = await producer.publish(topics.replies, [(b"%d" % n, reply(n)) for n in range(53)], partition=0)
    assert None not in answers
    done: list[int] = []
    running: set[int] = set()
    most = 0
    gate = asyncio.Event()

    async def work(record: Reply, message: Message) -> None:
        nonlocal most
        running.add(message.offset)
        most = max(most, len(running))
        if message.offset == 3:
            await gate.wait()
        await asyncio.sleep((7 - message.offset % 7) / 1000)
        running.discard(message.offset)
        done.append(message.offset)

    def consumer() -> Consumer[Reply]:
        return Consumer(
            kafka_bootstrap,
            group,
            [topics.replies],
            topics,
            model=Reply,
            work=work,
            producer=producer,
            consumer="t",
            in_flight=10,
        )

    one = consumer()
    await one.start()
    run = asyncio.create_task(one.run())
    await until(lambda: len(done) == 52)
    await asyncio.sleep(0.4)
    assert most <= 10
    assert done != sorted(done)
    assert await committed(kafka_bootstrap, group, topics.replies) == 50
    gate.set()
    await until(lambda: len(done) == 53)
    await one.stop()
    await run
    assert await committed(kafka_bootstrap, group, topics.replies) == 0


async def test_one_key_is_worked_on_in_order(kafka_bootstrap: str, topics: Topics, producer: Producer) -> None:
    await producer.publish(topics.replies, [(b"%d" % (n % 3), reply(n)) for n in range(60)])
    order: dict[bytes | None, list[int]] = {}

    async def work(record: Reply, message: Message) -> None:
        number = int(record.reply_id)
        await asyncio.sleep((60 - number) / 5000)
        order.setdefault(message.key, []).append(number)

    consumer = Consumer(
        kafka_bootstrap,
        topics.group("order"),
        [topics.replies],
        topics,
        model=Reply,
        work=work,
        producer=producer,
        consumer="t",
    )
    await consumer.start()
    run = asyncio.create_task(consumer.run())
    await until(lambda: sum(map(len, order.values())) == 60)
    await consumer.stop()
    await run
    assert all(numbers == sorted(numbers) for numbers in order.values())


async def test_what_nobody_can_process_is_buried_and_the_rest_goes_on(
    kafka_bootstrap: str, topics: Topics, producer: Producer
) -> None:
    """Undecodable, always failing, failing once, and an outage that passes."""
    tries: dict[str, int] = {}
    done: list[str] = []

    async def work(record: Reply, message: Message) -> None:
        tries[record.reply_id] = tries.get(record.reply_id, 0) + 1
        match record.reply_id:
            case "1":
                raise ZeroDivisionError(record.text)
            case "2" if tries["2"] == 1:
                raise ZeroDivisionError
            case "3" if tries["3"] <= 4:
                raise ConnectionError
        done.append(record.reply_id)

    records = [(b"bad", b'{"text":"secret"}'), *((b"k%d" % n, reply(n)) for n in range(1, 5))]
    await producer.publish(topics.replies, records, partition=2)
    group = topics.group("bury")
    consumer = Consumer(
        kafka_bootstrap,
        group,
        [topics.replies],
        topics,
        model=Reply,
        work=work,
        producer=producer,
        consumer="settle",
        attempts=2,
    )
    await consumer.start()
    run = asyncio.create_task(consumer.run())
    await until(lambda: sorted(done) == ["2", "3", "4"])
    await consumer.stop()
    await run
    assert tries == {"1": 2, "2": 2, "3": 5, "4": 1}
    assert await committed(kafka_bootstrap, group, topics.replies) == 0
    graves = Reader(kafka_bootstrap, [topics.dead], topics, "test")
    for place in await graves.start():
        graves.seek(place, 0)
    letters: list[DeadLetter] = []
    while len(letters) < 2:
        for rows in (await graves.getmany(2.0, 10)).values():
            letters += [decode(DeadLetter, row.value) for row in rows]
    await graves.stop()
    first, second = sorted(letters, key=lambda letter: letter.offset)
    assert (first.topic, first.partition, first.offset) == ("replies", 2, 0)
    assert (first.error, first.key_hex) == ("Undecodable", b"bad".hex())
    assert base64.b64decode(first.value_b64) == records[0][1]
    assert (second.error, second.offset, second.consumer) == ("ZeroDivisionError", 1, "settle")
