"""Delivery over real Valkey and Kafka, for `test_deliver.py` and the process that it kills.

`python -m tests.integration.deliver_rig REDIS KAFKA PREFIX LOG` runs one deliverer until it is killed; its
carrier appends every id to LOG before it answers, slowly.
"""

import asyncio
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count

from gateway.carriers.carrier import Submit, Submitted
from gateway.carriers.simulator import Profile, Simulator
from gateway.contract.consent import Relationship, State
from gateway.contract.decision import Class
from gateway.contract.ids import subject_of
from gateway.contract.message import SendRequest
from gateway.contract.registry import Client, Registry, ReplyRoute, Sender
from gateway.contract.wire import Accepted, Receipt, Result
from gateway.deliver.means import Means
from gateway.deliver.outbox import Outbox
from gateway.deliver.slots import Slots
from gateway.deliver.worker import Deliver
from gateway.guard import Cfg, Guard, Lease
from gateway.intake import Answer, Intake
from gateway.rules.pack import load
from gateway.stream.codec import decode
from gateway.stream.producer import Producer
from gateway.stream.reader import Reader
from gateway.stream.topics import Topics, ensure

PEPPER = b"p" * 32
CLS = Class.TRANSACTIONAL
CLIENT = Client(id="shop", senders=("acme",))
ROUTE = ReplyRoute(port="10690002", free=True, tested_at=int(time.time()))
SENDER = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002", reply_routes=(ROUTE,))
REGISTRY = Registry(lanes=16, clients=(CLIENT,), senders=(SENDER,))
PARTITIONS = 2
_texts = count()


class Noting:
    """A simulated carrier that writes down what reaches it, in order, before it answers."""

    def __init__(self, profile: Profile, note: Callable[[Sequence[Submit]], None], name: str = "simulator") -> None:
        self.receipts: list[Receipt] = []
        self._note = note
        self._carrier = Simulator(self._emit, profile=profile, name=name)
        self.name = name

    async def _emit(self, receipts: Sequence[Receipt]) -> None:
        self.receipts += receipts

    async def submit(self, messages: Sequence[Submit], *, write_by: float | None = None) -> list[Submitted]:
        assert write_by is not None
        assert time.monotonic() < write_by
        self._note(messages)
        return await self._carrier.submit(messages, write_by=write_by)

    async def close(self) -> None:
        await self._carrier.close()


@dataclass
class Rig:
    """Everything around a deliverer. `beat` keeps `cfg` fresh while it is set."""

    kafka: str
    topics: Topics
    guard: Guard
    cfg: Cfg
    producer: Producer
    intake: Intake
    registry: Registry = REGISTRY
    seq: int = 0
    beating: bool = True
    wire: list[Submit] = field(default_factory=list)

    def subject(self, number: str) -> bytes:
        return subject_of(PEPPER, number)

    async def know(self, numbers: Sequence[str]) -> None:
        """Each number has a standing order with the sender."""
        self.seq += 1
        order = Relationship(at=1, entry=self.seq)
        states = [(self.subject(n), State(seq=self.seq, relationships={"acme/order": order})) for n in numbers]
        await self.guard.apply(states)

    async def send(self, numbers: Sequence[str], **fields: object) -> list[str]:
        """Accepted and published; the ids in order."""
        await self.know(numbers)
        ids = []
        for start in range(0, len(numbers), 500):
            requests = [
                SendRequest.model_validate(
                    {"to": n, "sender": "acme", "purpose": "transaction.shipping", "text": f"Parcel {next(_texts)}"}
                    | fields
                )
                for n in numbers[start : start + 500]
            ]
            answers = await self.intake.send(CLIENT, requests)
            assert all(isinstance(answer, Answer) for answer in answers), answers[:3]
            ids += [answer.id for answer in answers if isinstance(answer, Answer)]
        return ids

    def means(self, carriers: Mapping[str, Noting], **changes: object) -> Means:
        slots = {name: Slots(name, window=2000, rate=20_000) for name in carriers}
        means = Means(
            cls=CLS,
            guard=self.guard,
            cfg=self.cfg,
            outbox=Outbox(self.producer, self.topics),
            carriers=carriers,
            slots=slots,
            default=next(iter(carriers)),
            packs=self.intake.packs,
        )
        return replace(means, **changes)  # type: ignore[arg-type]

    @asynccontextmanager
    async def delivering(self, profile: Profile | None = None, **changes: object) -> AsyncIterator[Noting]:
        """A deliverer of this process while the body runs."""
        carrier = Noting(profile or Profile(latency_s=0.005, receipt_s=0.01), self.wire.extend)
        deliver = Deliver(self.means({"simulator": carrier}, **changes), self.kafka, session_s=6.0)
        await deliver.start()
        running = asyncio.create_task(deliver.run())
        try:
            yield carrier
        finally:
            await deliver.stop()
            await running
            await carrier.close()

    async def results(
        self, done: Callable[[dict[str, list[Result]]], bool], within_s: float = 15.0
    ) -> dict[str, list[Result]]:
        """Every result so far by id, once `done` says so; else as they are after `within_s`."""
        found: dict[str, list[Result]] = defaultdict(list)
        await self._read(
            self.topics.results, lambda value: _file(found, decode(Result, value)), lambda: done(found), within_s
        )
        return found

    async def stop_sender(self) -> None:
        """Open the sender's breaker, and wait until `cfg` says so."""
        self.registry = self.registry.model_copy(update={"breakers": ("sender:acme",)})
        async with asyncio.timeout(5):
            while not self.cfg.open_scope("acme", CLS):  # noqa: ASYNC110 - it is polled
                await asyncio.sleep(0.05)

    async def held(self, count: int, within_s: float = 10.0) -> list[Accepted]:
        """What `messages.held` holds, once there are `count`."""
        found: list[Accepted] = []
        await self._read(
            self.topics.held, lambda value: found.append(decode(Accepted, value)), lambda: len(found) >= count, within_s
        )
        return found

    async def _read(
        self, topic: str, take: Callable[[bytes | None], object], done: Callable[[], bool], within_s: float
    ) -> None:
        reader = Reader(self.kafka, [topic], self.topics, "test")
        try:
            for place in await reader.start():
                reader.seek(place, 0)
            until = time.monotonic() + within_s
            while time.monotonic() < until:
                for messages in (await reader.getmany(0.05, 5000)).values():
                    for message in messages:
                        take(message.value)
                if done():
                    return
        finally:
            await reader.stop()


def _file(found: dict[str, list[Result]], result: Result) -> None:
    found[result.id].append(result)


@asynccontextmanager
async def rigged(redis_url: str, kafka: str, prefix: str, *, beating: bool = True) -> AsyncIterator[Rig]:
    """A rig; with `beating` it also plays the ledger process."""
    topics = Topics(prefix)
    await ensure(kafka, topics, PARTITIONS, 1)
    guard = await Guard.connect(redis_url)
    cfg = Cfg(guard.server)
    producer = Producer(kafka, topics)
    await producer.start()
    packs = {"cn": load("cn")}
    intake = Intake(
        guard=guard, cfg=cfg, lease=Lease(guard.server), producer=producer, topics=topics, packs=packs, pepper=PEPPER
    )
    rig = Rig(kafka, topics, guard, cfg, producer, intake)
    tasks = []
    if beating:
        await guard.set_cursors(0)
        tasks.append(asyncio.create_task(_beat(rig)))
    await cfg.start()
    async with asyncio.timeout(10):
        while not cfg.fresh:
            await asyncio.sleep(0.05)
            await cfg.poll()
    try:
        yield rig
    finally:
        for task in tasks:
            task.cancel()
        await cfg.close()
        await producer.stop()
        await guard.close()


async def _beat(rig: Rig) -> None:
    beat = 0
    while True:
        if rig.beating:
            beat += 1
            await rig.guard.write_cfg(beat, 0, rig.registry)
        await asyncio.sleep(0.1)


async def _main(redis_url: str, kafka: str, prefix: str, log: str) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(messages: Sequence[Submit]) -> None:
        os.write(fd, "".join(f"{message.ref}\n" for message in messages).encode())

    async with rigged(redis_url, kafka, prefix, beating=False) as rig:
        carrier = Noting(Profile(latency_s=0.25), note)
        deliver = Deliver(rig.means({"simulator": carrier}), kafka, session_s=6.0)
        await deliver.start()
        await deliver.run()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:5]))
