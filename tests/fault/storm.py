"""A storm: messages and opt-outs at a steady pace while processes and parts are killed, frozen, cut off and emptied.

Some messages are for later and some the carrier takes only when they come again, so that holds and retries are in it.

Everything follows from a seed, but for what the machine does with time. The callers do what callers should: they give
each message a key and repeat it until it has an answer. What is kept of their answers is held against what reached the
carrier and what the gateway says became of each message (`reconcile`).
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import psutil
import redis.asyncio as redis
from gateway_rig import Gateway, numbers
from gateway_rig import at as moment
from http_carrier import KEY, Carrier

from gateway.contract.ids import subject_of
from gateway.local.parts import Part

BATCH = 25
CALLERS = 6
PER_PERSON = 8
"""Messages for each person on average; some come to more than the ten that a day allows."""
MOST_A_DAY = 10
LATER = 10
"""One message in so many is for a few seconds later: held, released, admitted again."""
PUT_OFF = 25
"""One in so many is not taken when it first comes to the carrier: held, and tried again."""
AGAIN_S = 0.25
FINAL = {"delivered", "undelivered", "expired", "rejected", "cancelled", "unknown"}
UNSENT = {"expired", "rejected", "cancelled"}
REPEAT = {"unavailable", "cache.cold", "internal"}
DRAIN_S = 240.0
ACKNOWLEDGED = """
SELECT m.id::text, m.subject, status_word(m.status) AS word, m.code IS NOT DISTINCT FROM 'unavailable' AS voided
FROM messages m JOIN message_origins o ON o.id = m.origin WHERE o.purpose = 'consent.opt_out_ack'
"""


@dataclass
class Storm:
    """One run: who is written to, what was answered, who has left and when that was acknowledged."""

    gate: Gateway
    carrier: Carrier
    parts: Mapping[str, Part]
    seed: int
    messages: int
    faults: Sequence[str]
    pace_s: float
    """Seconds for each fault."""
    leaving: int = 20
    """One person in so many opts out."""
    accepted: dict[str, str] = field(default_factory=dict)
    """Message id by key."""
    refused: Counter[str] = field(default_factory=Counter)
    left: dict[str, float] = field(default_factory=dict)
    """When an opt-out was acknowledged, by number."""
    replied: set[str] = field(default_factory=set)
    """Who of them left by a reply, which is answered by one message."""
    struck: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    """How often a breaker that had opened was let go on."""

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.people = numbers(max(self.messages // PER_PERSON, 20))
        self.ref = f"storm-{self.seed}-{random.SystemRandom().randrange(1 << 40):x}"
        self._next = 0
        self._began = 0.0

    async def run(self) -> None:
        """Prepare, then everything at once."""
        await self.gate.orders(self.people)
        self.carrier.putting_off = PUT_OFF
        seconds = len(self.faults) * self.pace_s
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._call(self.messages / seconds))
            group.create_task(self._leave(seconds))
            group.create_task(self._strike())

    # --- callers -----------------------------------------------------------------------------------------------------

    async def _call(self, rate: float) -> None:
        async with httpx.AsyncClient(base_url=self.gate.url, headers=self.gate.http.headers, timeout=5) as http:
            while self._next < self.messages:
                first, end = self._next, min(self._next + BATCH, self.messages)
                self._next = end
                await asyncio.sleep(max(0.0, self._began + first / rate - time.monotonic()))
                await self._answered(http, [self._message(n) for n in range(first, end)])

    def _message(self, n: int) -> dict[str, Any]:
        to = self.people[self.dice.randrange(len(self.people))]
        later = {"not_before": moment(seconds=1 + 5 * self.dice.random())} if n % LATER == 0 else {}
        return {
            "to": to,
            "sender": "acme",
            "purpose": "transaction.shipping",
            "text": f"您的订单{self.seed}-{n}已发货",
            "client_ref": self.ref,
            "idempotency_key": f"{self.ref}-{n}",
            **later,
        }

    async def _answered(self, http: httpx.AsyncClient, wanted: list[dict[str, Any]]) -> None:
        """Repeat until every message has an answer."""
        while wanted:
            with suppress(httpx.HTTPError):
                answer = await http.post("/v1/messages/batch", json={"messages": wanted})
                if answer.status_code == 200:
                    wanted = self._file(wanted, answer.json()["results"])
                else:
                    assert answer.status_code == 503, answer.text
            if wanted:
                await asyncio.sleep(AGAIN_S)

    def _file(self, wanted: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        again = []
        for body, result in zip(wanted, results, strict=True):
            if result["status"] in {"accepted", "held"}:
                self.accepted[body["idempotency_key"]] = result["id"]
            elif result["code"] in REPEAT:
                again.append(body)
            else:
                self.refused[result["code"]] += 1
        return again

    async def _leave(self, seconds: float) -> None:
        """Some people opt out, each at a moment of its own; acknowledged or asked again. Every second one replies T."""
        leaving = self.people[:: self.leaving]
        limits = httpx.Limits(max_connections=400)
        async with (
            httpx.AsyncClient(base_url=self.gate.url, headers=self.gate.http.headers, timeout=5, limits=limits) as http,
            asyncio.TaskGroup() as group,
        ):
            for n, number in enumerate(leaving):
                await asyncio.sleep(max(0.0, self._began + (n + 0.5) * seconds / len(leaving) - time.monotonic()))
                if n % 2:
                    self.replied.add(number)
                group.create_task(self._leaves(http, number))

    async def _leaves(self, http: httpx.AsyncClient, number: str) -> None:
        path, body = f"/v1/recipients/{number}/withdraw", {"sender": "acme", "reason": "asked"}
        head = {"idempotency-key": f"leave-{number[1:]}"}
        if number in self.replied:
            said = {"id": f"leave-{number[1:]}", "from": number, "to": "10690001", "text": "T"}
            path, body, head = "/v1/carriers/http/replies", {"replies": [said]}, KEY  # type: ignore[dict-item]
        while number not in self.left:
            with suppress(httpx.HTTPError):
                answer = await http.post(path, json=body, headers=head)
                if answer.status_code == 200:
                    self.left[number] = time.monotonic()
                    return
            await asyncio.sleep(AGAIN_S)

    async def race(self, seconds: float) -> None:
        """A backlog that drains while people leave: all is accepted before deliver starts, then both at once.

        The carrier takes as long for all of it as people take to leave.
        """
        await self.gate.orders(self.people)
        self.gate.processes["deliver"].stop()
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(self._call(1e9))
        self.carrier.pace_s = seconds / self.messages
        self.gate.start("deliver")
        await self.gate.ready("deliver")
        async with asyncio.timeout(60):
            while not self.carrier.submits:  # noqa: ASYNC110 - another process delivers
                await asyncio.sleep(0.02)
        self._began = time.monotonic()
        await self._leave(seconds)
        self.carrier.pace_s = 0.0

    @asynccontextmanager
    async def resuming(self) -> AsyncIterator[None]:
        """So many people leave that breakers open, as they should; somebody lets them go on, each within a second."""
        task = asyncio.create_task(self._resume())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _resume(self) -> None:
        act = {"by": "Li Lei", "reason": "a storm"}
        while True:
            await asyncio.sleep(1.0)
            with suppress(httpx.HTTPError, KeyError):
                standing = (await self.gate.http.get("/v1/breakers")).json()["breakers"]
                for one in standing:
                    if one["is_open"]:
                        await self.gate.post(f"/v1/breakers/{one['scope']}/close", act)
                        self.resumed += 1

    # --- faults ------------------------------------------------------------------------------------------------------

    async def _strike(self) -> None:
        for n, name in enumerate(self.faults):
            await asyncio.sleep(max(0.0, self._began + (n + 0.3) * self.pace_s - time.monotonic()))
            kind, _, whom = name.partition(" ")
            await FAULTS[kind](self, whom)
            self.struck[name] += 1
            dead = {one: process.child.ended() for one, process in self.gate.processes.items()}
            assert not any(dead.values()), f"after {name}: {dead}"  # nothing but a kill may end a process

    async def kill(self, name: str) -> None:
        self.gate.kill(name)
        await asyncio.sleep(self.dice.random() * 0.5)
        await self.gate.restart(name)

    async def pause(self, name: str) -> None:
        await self._frozen(self.gate.processes[name].child.pid)

    async def freeze(self, name: str) -> None:
        await self._frozen(self.parts[name].child.pid)

    async def _frozen(self, pid: int | None) -> None:
        assert pid is not None
        root = psutil.Process(pid)
        stopped = [root, *root.children(recursive=True)]
        for one in stopped:
            with suppress(psutil.NoSuchProcess):
                one.suspend()
        await asyncio.sleep(0.3 + self.dice.random() * 2.0)
        for one in stopped:
            with suppress(psutil.NoSuchProcess):
                one.resume()

    async def restart(self, name: str) -> None:
        part = self.parts[name]
        pid = part.child.pid
        assert pid is not None
        children = psutil.Process(pid).children(recursive=True)
        part.child.kill()
        await asyncio.to_thread(psutil.wait_procs, children, timeout=10)
        await asyncio.sleep(self.dice.random())
        part.start()
        await self._back(part)

    async def cut(self, name: str) -> None:
        """Every connection to the part ends."""
        if name == "valkey":
            async with redis.from_url(self.parts[name].endpoint) as server:
                await server.client_kill_filter(_type="normal", skipme=True)
            return
        connection = await asyncpg.connect(self.parts[name].endpoint)
        others = "pid <> pg_backend_pid() AND usename IS NOT NULL"
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")  # noqa: S608
        await connection.close()

    async def flush(self, name: str) -> None:
        async with redis.from_url(self.parts[name].endpoint) as server:
            await server.flushall()

    @staticmethod
    async def _back(part: Part) -> None:
        """Started again whenever it ends, as a supervisor does: the dead server's processes may still be leaving."""
        said: list[str] = []
        for _ in range(600):
            if part.ready():
                return
            if how := part.child.ended():
                said.append(f"{how}: {part.child.said()}")
                part.start()
            await asyncio.sleep(0.1)
        raise AssertionError(f"{part.name} did not come back within a minute\n{part.child.said()}\nbefore: {said[-3:]}")

    # --- what became of it -------------------------------------------------------------------------------------------

    async def drained(self) -> dict[str, str]:
        """The status of every message, once each has a last one."""
        return await drained(self.parts["postgres"].endpoint, self.ref, self.accepted.values(), DRAIN_S)

    async def unanswered(self) -> dict[str, list[str]]:
        """Of who left by a reply and was not acknowledged exactly once: what became of the messages made for it.

        One that was under way when its deliver process died ends as `unknown` and may never have been submitted; one
        that Kafka took too late was voided and made again.
        """
        connection = await asyncpg.connect(self.parts["postgres"].endpoint)
        until = time.monotonic() + DRAIN_S
        try:
            while True:
                found = self._wrong(await connection.fetch(ACKNOWLEDGED))
                if not found or time.monotonic() > until:
                    return found
                await asyncio.sleep(0.5)
        finally:
            await connection.close()

    def _wrong(self, rows: Sequence[Any]) -> dict[str, list[str]]:
        pepper, refs = bytes.fromhex(self.gate.env["ASSENT_PEPPER"]), self.carrier.refs
        made: dict[bytes, list[Any]] = {}
        for row in rows:
            made.setdefault(row["subject"], []).append(row)
        wrong = {}
        for number in self.replied:
            own = made.get(subject_of(pepper, number), [])
            words = sorted(row["word"] for row in own if not row["voided"])
            submitted = sum(refs[row["id"]] for row in own)
            if len(words) != 1 or words[0] not in FINAL or submitted not in ({0, 1} if words == ["unknown"] else {1}):
                wrong[number] = [*words, f"{submitted} submitted"]
        return wrong


async def drained(database_url: str, ref: str, ids: Collection[str], within_s: float) -> dict[str, str]:
    """The status of every message of a `client_ref`, once each of these ids has a last one, or the time is over."""
    connection = await asyncpg.connect(database_url)
    query = "SELECT id::text, status_word(status) AS word FROM messages WHERE client_ref = $1"
    until = time.monotonic() + within_s
    try:
        while True:
            ends = {row["id"]: row["word"] for row in await connection.fetch(query, ref)}
            if time.monotonic() > until or all(ends.get(one) in FINAL for one in ids):
                return ends
            await asyncio.sleep(0.5)
    finally:
        await connection.close()


@dataclass(frozen=True)
class Reconciled:
    """The counts, and what must be empty."""

    accepted: int
    refused: dict[str, int]
    submitted: int
    ends: dict[str, int]
    opted_out: int
    lost: list[str]
    twice: list[str]
    unasked: list[str]
    """Submitted, but never accepted."""
    contradicted: list[str]
    """Submitted, and said to have ended unsent; or delivered and never submitted."""
    over: list[str]
    """People who were sent more than a window allows."""
    late: list[float]
    """Seconds after an opt-out's acknowledgement at which something it covers was still submitted."""
    closest_s: float | None
    """How long before an acknowledgement the last submission that it covers arrived, at the least."""

    @property
    def good(self) -> bool:
        return not (self.lost or self.twice or self.unasked or self.contradicted or self.over or self.late)

    def __str__(self) -> str:
        wrong = {
            "lost": len(self.lost),
            "submitted twice": len(self.twice),
            "submitted unasked": len(self.unasked),
            "contradicted": len(self.contradicted),
            "over a window": len(self.over),
            "after an opt-out": len(self.late),
        }
        closest = "none" if self.closest_s is None else f"{self.closest_s:.3f} s"
        return (
            f"accepted {self.accepted:,}, refused {self.refused}, submitted {self.submitted:,}, ends {self.ends}, "
            f"opt-outs {self.opted_out:,}, "
            f"nearest submission {closest} before an acknowledgement; "
            + ", ".join(f"{name} {count}" for name, count in wrong.items())
        )


def reconcile(storm: Storm, ends: Mapping[str, str]) -> Reconciled:
    """Accepted ids = submitted ids + ids that ended unsent or unknown; nothing twice, over, or after an opt-out."""
    ids = set(storm.accepted.values())
    counts = Counter(one["ref"] for one in storm.carrier.submits)
    submitted = {ref for ref in counts if ref in ids or ref in ends}
    per_person: Counter[str] = Counter()
    gaps: list[float] = []
    for one, at in zip(storm.carrier.submits, storm.carrier.times, strict=True):
        if one["ref"] not in submitted:
            continue
        number = one["to"] if one["to"].startswith("+") else f"+{one['to']}"
        per_person[number] += 1
        if number in storm.left:
            gaps.append(storm.left[number] - at)
    return Reconciled(
        accepted=len(ids),
        refused=dict(storm.refused),
        submitted=len(submitted),
        ends=dict(Counter(ends.get(one, "absent") for one in ids)),
        opted_out=len(storm.left),
        lost=[one for one in ids if one not in submitted and ends.get(one) not in UNSENT | {"unknown"}],
        twice=[one for one in submitted if counts[one] > 1],
        unasked=[one for one in submitted if one not in ids],
        contradicted=[
            one
            for one in ids
            if (one in submitted and ends.get(one) in UNSENT) or (one not in submitted and ends.get(one) == "delivered")
        ],
        over=[number for number, n in per_person.items() if n > MOST_A_DAY],
        late=[-gap for gap in gaps if gap < 0],
        closest_s=min((gap for gap in gaps if gap >= 0), default=None),
    )


FAULTS: dict[str, Callable[[Storm, str], Awaitable[None]]] = {
    "kill": Storm.kill,
    "pause": Storm.pause,
    "freeze": Storm.freeze,
    "restart": Storm.restart,
    "cut": Storm.cut,
    "flush": Storm.flush,
}
PROCESSES = ("edge", "deliver", "settle", "ledger")
COMMON = (
    *(f"kill {name}" for name in PROCESSES),
    *(f"pause {name}" for name in PROCESSES),
    *(f"{kind} {name}" for kind in ("freeze", "restart") for name in ("valkey", "kafka", "postgres")),
    "cut valkey",
    "cut postgres",
)


def schedule(seed: int, count: int, flushes: int) -> list[str]:
    """So many faults, every kind before any comes again, and emptied caches among them."""
    dice, chosen = random.Random(seed), []
    while len(chosen) < count - flushes:
        chosen += dice.sample(COMMON, len(COMMON))
    chosen = chosen[: count - flushes]
    for n in range(flushes):
        chosen.insert((n + 1) * len(chosen) // (flushes + 1), "flush valkey")
    return chosen
