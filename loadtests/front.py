"""What the edge costs, next to two floors that are measured in the same seconds: a bare echo and a raw `send()`.

Rounds alternate, so that a slow moment of the machine is in both sides of a ratio. Only what a request costs the
edge's own process is counted; answers that are not what was asked for end the bench.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.contract.decision import Class
from gateway.guard import Guard
from gateway.stream import Topics
from loadtests.cache import info
from loadtests.figures import Figure, ratio
from loadtests.generator import BrokenRun, Outcome, drive, post, quantile
from loadtests.meter import Meter, cpu_s, rss_mb
from loadtests.people import KEY, Messages
from loadtests.say import Teller
from loadtests.stack import Stack

RAW = "bench.raw"
SINGLE_CONNECTIONS = 64
BATCH_CONNECTIONS = 4
BATCH = 500
WARM_S = 1.0
MOST_503 = 0.05
OVER_ECHO = 3.3
OVER_SEND = 3.3
BATCH_US = 28
P99_MS = 40
REST_MB = 150
FLAT = 1.1


@dataclass(slots=True)
class Round:
    """One measured run: what each message cost the process that answered, and every latency."""

    us: float
    outcome: Outcome
    spent: dict[str, float] = field(default_factory=dict)
    messages: int = 0


def _expect(outcome: Outcome, status: int) -> None:
    """Every answer is the one wanted, but for a few 503 of a starved machine, which are counted against the run."""
    others = set(outcome.statuses) - {status, 503}
    if others or outcome.statuses[503] > MOST_503 * outcome.requests:
        raise BrokenRun(f"answers {dict(outcome.statuses)}, the last one: {outcome.sample[:300]!r}")


class Front:
    """Measures one edge. `sent` counts every message it took."""

    def __init__(self, stack: Stack, messages: Messages, teller: Teller, *, rounds: int, seconds: float) -> None:
        self._stack, self._messages, self._teller = stack, messages, teller
        self._rounds, self._seconds = rounds, seconds
        self._edge = stack.pids()["edge"]
        self._calls = self._singles = 0
        self.record_bytes = 400

    async def singles(self) -> list[Figure]:
        """Echo, single POST without a key, and with one, in turn."""
        port, echo = self._stack.floor()
        logging_port, logging = self._stack.floor("log")
        await self._until_open(port)
        await self._until_open(logging_port)
        body = next(self._messages.single(keyed=False)).partition(b"\r\n\r\n")[2]
        floor = itertools.repeat(post("/v1/messages", body, KEY))
        plain, keyed = self._messages.single(keyed=False), self._messages.single(keyed=True)
        runs: dict[str, list[Round]] = {"echo": [], "logging": [], "plain": [], "keyed": []}
        for at in range(self._rounds + 1):
            seconds = self._seconds if at else WARM_S
            self._teller.step(f"single POST, {'round ' + str(at) if at else 'warming up'}: echo, plain, keyed")
            one = {
                "echo": await self._single(port, echo, floor, seconds),
                "logging": await self._single(logging_port, logging, floor, seconds),
                "plain": await self._single(self._stack.port, self._edge, plain, seconds, keyed=False),
                "keyed": await self._single(self._stack.port, self._edge, keyed, seconds, keyed=True),
            }
            if at:
                for name, run in one.items():
                    runs[name].append(run)
        return self._single_figures(runs)

    async def _scripts(self) -> int:
        """Script calls the Redis server has run so far."""
        guard = await Guard.connect(self._stack.valkey.endpoint)
        try:
            stats = (await info(guard, "commandstats")).get("cmdstat_evalsha", "calls=0,")
        finally:
            await guard.close()
        return int(stats.partition("calls=")[2].partition(",")[0])

    async def _single(
        self, port: int, pid: int, requests: Iterator[bytes], seconds: float, *, keyed: bool | None = None
    ) -> Round:
        calls, before = await self._scripts(), cpu_s(pid)
        outcome = await drive(port, requests, connections=SINGLE_CONNECTIONS, seconds=seconds)
        spent = cpu_s(pid) - before
        _expect(outcome, 202)
        if keyed is False:
            self._calls += await self._scripts() - calls
            self._singles += outcome.requests
        self._teller.progress(f"{outcome.requests / outcome.seconds:,.0f} requests/s")
        return Round(spent / outcome.requests * 1e6, outcome)

    def _single_figures(self, runs: dict[str, list[Round]]) -> list[Figure]:
        us = {name: [run.us for run in found] for name, found in runs.items()}
        late = [latency for run in runs["plain"] for latency in run.outcome.latencies]
        rate = median(run.outcome.requests / run.outcome.seconds for run in runs["plain"])
        away = sum(run.outcome.statuses[503] for found in runs.values() for run in found)
        return [
            Figure("bare uvicorn echo, CPU per request", median(us["echo"]), "µs"),
            Figure("the same with uvicorn's default access log", median(us["logging"]), "µs"),
            Figure("single POST, edge CPU per message", median(us["plain"]), "µs"),
            Figure("single POST with a key, edge CPU per message", median(us["keyed"]), "µs"),
            Figure("single POST : echo", ratio(us["plain"], us["echo"]), "x", OVER_ECHO, gates=True),
            Figure("single POST with a key : echo", ratio(us["keyed"], us["echo"]), "x", OVER_ECHO, gates=True),
            Figure("single POST : echo with its default access log", ratio(us["plain"], us["logging"]), "x"),
            Figure("single POST, 64 connections", rate, "/s"),
            Figure("single POST, messages per admission call", self._singles / max(1, self._calls), ""),
            Figure("single POST, p50 at 64 connections", quantile(late, 0.5) * 1e3, "ms"),
            Figure("single POST, p99 at 64 connections", quantile(late, 0.99) * 1e3, "ms", P99_MS),
            Figure("single POST, answered 503", away, "", 0),
        ]

    async def batches(self) -> list[Figure]:
        """500-batches and raw `send()`, in turn."""
        runs: list[Round] = []
        raw: list[float] = []
        await self._raw_topic()
        for at in range(self._rounds + 1):
            seconds = self._seconds if at else WARM_S
            self._teller.step(f"500-batch, {'round ' + str(at) if at else 'warming up'}: edge, then aiokafka send()")
            run = await self._batch(seconds)
            sent = await self._raw(seconds)
            if at:
                runs.append(run)
                raw.append(sent)
        us = [run.us for run in runs]
        kafka, redis = (median(run.spent[name] / run.messages * 1e6 for run in runs) for name in ("Kafka", "Valkey"))
        rate = median(run.messages / run.outcome.seconds for run in runs)
        return [
            Figure("raw aiokafka send(), CPU per record", median(raw), "µs", note=f"{self.record_bytes} bytes"),
            Figure("500-batch, edge CPU per message", median(us), "µs", BATCH_US),
            Figure("500-batch : raw send()", ratio(us, raw), "x", OVER_SEND, gates=True),
            Figure("500-batch, Kafka CPU per message", kafka, "µs"),
            Figure("500-batch, Redis CPU per message", redis, "µs"),
            Figure("500-batch, messages through one edge worker", rate, "/s"),
        ]

    async def _batch(self, seconds: float) -> Round:
        meter = Meter(self._stack.pids())
        feed = self._messages.batches(BATCH)
        accepted = 0

        def count(_status: int, body: bytes) -> None:
            nonlocal accepted
            accepted += body.count(b'"status":"accepted"')

        outcome = await drive(self._stack.port, feed, connections=BATCH_CONNECTIONS, seconds=seconds, answered=count)
        spent = meter.spent()
        _expect(outcome, 200)
        if accepted < (1 - MOST_503) * outcome.requests * BATCH:
            raise BrokenRun(f"{accepted} of {outcome.requests * BATCH} accepted; an answer: {outcome.sample[:300]!r}")
        self._teller.progress(f"{accepted / outcome.seconds:,.0f} messages/s")
        return Round(spent["edge"] / accepted * 1e6, outcome, spent, accepted)

    async def _raw_topic(self) -> None:
        """A topic like that of the messages, and the size of the records in that one."""
        messages = Topics().messages(Class.TRANSACTIONAL)
        consumer = AIOKafkaConsumer(bootstrap_servers=self._stack.bootstrap)
        admin = AIOKafkaAdminClient(bootstrap_servers=self._stack.bootstrap)
        await asyncio.gather(consumer.start(), admin.start())
        try:
            (found,) = await admin.describe_topics([messages])
            places = [TopicPartition(messages, part["partition"]) for part in found["partitions"]]
            made = await admin.create_topics([NewTopic(RAW, len(places), 1)])
            if any(code for _, code, _ in made.topic_errors):
                raise BrokenRun(f"topic {RAW} could not be made: {made.topic_errors}")
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            records = await consumer.getmany(timeout_ms=5000)
            sizes = [len(record.value) for page in records.values() for record in page]
            if not sizes:
                raise BrokenRun("no message can be read from Kafka")
            self.record_bytes = round(sum(sizes) / len(sizes))
        finally:
            await asyncio.gather(consumer.stop(), admin.close())

    async def _raw(self, seconds: float) -> float:
        command = [sys.executable, "-m", "loadtests.rawsend", self._stack.bootstrap, RAW]
        child = await asyncio.create_subprocess_exec(
            *command, str(self.record_bytes), str(seconds), stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(child.communicate(), seconds + 30)
        if child.returncode:
            raise BrokenRun(f"rawsend ended with {child.returncode}")
        found = json.loads(out)
        return float(found["cpu_s"] / found["messages"] * 1e6)

    async def memory(self, at_rest: float, warm: float, until: int) -> list[Figure]:
        """The worker's memory once it has taken `until` messages in all."""
        while (missing := until - self._messages.made) > 0:
            self._teller.progress(f"{self._messages.made:,} of {until:,} messages for the memory figure")
            await drive(
                self._stack.port,
                itertools.islice(self._messages.batches(BATCH), min(-(-missing // BATCH), 40)),
                connections=BATCH_CONNECTIONS,
                seconds=60,
            )
        now = rss_mb(self._edge)
        return [
            Figure("edge worker at rest", at_rest, "MB", REST_MB),
            Figure(f"edge worker after {self._messages.made:,} messages", now, "MB"),
            Figure("memory after all of them : after the first tenth", now / warm, "x", FLAT, gates=True),
        ]

    @staticmethod
    async def _until_open(port: int) -> None:
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise BrokenRun("the echo does not listen")
