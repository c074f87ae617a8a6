"""Consent events appended as fast as callers can, then as they come at half that rate; what each costs.

Callers are coroutines of this process, as requests are in an edge: each act is built, named and appended by the real
`Appender`, on real PostgreSQL and Valkey, and counts when it is acknowledged: durable, and in force in the guard. The
CPU figure of this process therefore holds the waiting caller too, but not the drawing and building of acts: that is the
load's own, is timed apart and taken off.
Half of the acts are grants, a fifth withdrawals, the rest orders; over so many people that most acts meet a stranger or
somebody of long ago.
"""

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Iterator

import asyncpg

from gateway.contract.consent import Event, EventKind
from gateway.guard import Guard
from gateway.ledger import events
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from loadtests.figures import Figure
from loadtests.generator import quantile
from loadtests.meter import Meter
from loadtests.say import Teller

EVENTS_S = 8_000
P99_MS = 30
PYTHON_US = 80
CALLERS = 900
WARM_S = 2.0
TICK_S = 0.001
GRANTS, WITHDRAWALS = 0.5, 0.7
AHEAD = 64
"""Acts built at once: to time each would cost a good part of it, and these hold the loop for half a millisecond."""


class Acts:
    """Acts without end, by people drawn again and again; `spent_s` is the CPU time that building them took."""

    def __init__(self, keys: Keys, people: int, seed: int = 1) -> None:
        self._keys, self._people, self._draw = keys, people, random.Random(seed)
        self._run, self._made = os.urandom(4).hex(), 0
        self._ready: deque[Event] = deque()
        self.spent_s = 0.0

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield self.act()

    def act(self) -> Event:
        """The next one."""
        if not self._ready:
            began = time.thread_time()
            self._ready.extend(self._act() for _ in range(AHEAD))
            self.spent_s += time.thread_time() - began
        return self._ready.popleft()

    def _act(self) -> Event:
        self._made += 1
        number = f"+86138{self._draw.randrange(self._people):08d}"
        kind, data = self._what(self._draw.random())
        return Event(
            event_id=f"{self._run}-{self._made}",
            kind=kind,
            number=number,
            subject=self._keys.subject(number),
            occurred_at_ms=time.time_ns() // 1_000_000,
            data=data,
        )

    def _what(self, drawn: float) -> tuple[EventKind, dict[str, object]]:
        if drawn < GRANTS:
            proof = {"channel": "web", "evidence": {"form_version": "2026-11", "ip": "203.0.113.7", "method": "form"}}
            return EventKind.GRANT, events.grant("acme", ["marketing.promotion"], max_per_week=3, lifts=True, **proof)
        if drawn < WITHDRAWALS:
            return EventKind.WITHDRAWAL, events.withdrawal("acme", ["marketing"], why="TD")
        expires = int(time.time()) + 180 * 86_400
        return EventKind.RELATIONSHIP, events.relationship("acme", "order", f"SO-{self._made}", expires)


class Load:
    """Acts given to one appender, and how long each waited for its answer."""

    def __init__(self, appender: Appender, acts: Acts) -> None:
        self._appender, self._acts = appender, acts
        self.waits_s: list[float] = []
        self._running: set[asyncio.Task[None]] = set()

    async def closed(self, callers: int, seconds: float) -> float:
        """So many callers, each with its next act as soon as its last is answered; events a second."""
        self.waits_s.clear()
        began = time.perf_counter()
        await asyncio.gather(*(self._caller(began + seconds) for _ in range(callers)))
        return len(self.waits_s) / (time.perf_counter() - began)

    async def _caller(self, until: float) -> None:
        while (now := time.perf_counter()) < until:
            await self._append(now)

    async def arriving(self, rate: float, seconds: float) -> None:
        """Acts at a steady rate whatever the answers do; waits count from when each was due."""
        self.waits_s.clear()
        began, sent = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            while sent / rate <= passed:
                task = asyncio.create_task(self._append(began + sent / rate))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                sent += 1
            await asyncio.sleep(TICK_S)
        while self._running:
            await asyncio.wait(self._running)

    async def _append(self, due: float) -> None:
        (answer,) = await self._appender.append([self._acts.act()])
        if answer.seq is None and answer.refusal is None:
            raise RuntimeError("an act was neither recorded nor refused")
        self.waits_s.append(time.perf_counter() - due)


async def measure(
    dsn: str, guard: Guard, pids: dict[str, int], teller: Teller, *, people: int, seconds: float
) -> list[Figure]:
    """Both loads on a fresh ledger; `pids`: PostgreSQL's and Valkey's."""
    keys = Keys(os.urandom(32), os.urandom(32))
    async with asyncpg.create_pool(dsn, min_size=2, max_size=4) as pool:
        appender = Appender(pool, keys, guard)
        await appender.start()
        acts = Acts(keys, people)
        load = Load(appender, acts)
        await load.closed(CALLERS, WARM_S)
        teller.step(f"{CALLERS} callers, {people:,} people, {seconds:.0f} s of acts as fast as they are answered")
        meter, cpu, building = Meter(pids), time.process_time(), acts.spent_s
        rate = await load.closed(CALLERS, seconds)
        building, done = acts.spent_s - building, len(load.waits_s)
        mine = time.process_time() - cpu - building
        us = {"Python": mine / done * 1e6} | {name: s / done * 1e6 for name, s in meter.spent().items()}
        busy = [quantile(load.waits_s, q) * 1000 for q in (0.5, 0.99)]
        teller.step(f"{rate:,.0f} a second; now {rate / 2:,.0f} a second for {seconds:.0f} s, as they come")
        await load.arriving(rate / 2, seconds)
        half = [quantile(load.waits_s, q) * 1000 for q in (0.5, 0.99)]
        await appender.stop()
    note = f"its caller included, the {building / done * 1e6:.1f} µs to build an act not"
    return [
        Figure("appended, durable and in force", rate, "events/s", EVENTS_S, least=True, gates=True),
        Figure("answer at that load, p50", busy[0], "ms", note=f"{CALLERS} callers"),
        Figure("answer at that load, p99", busy[1], "ms", note=f"{CALLERS} callers"),
        Figure("answer at half that load, p50", half[0], "ms", note="open arrivals"),
        Figure("answer at half that load, p99", half[1], "ms", P99_MS, gates=True, note="open arrivals"),
        Figure("CPU per event, Python", us["Python"], "µs", PYTHON_US, gates=True, note=note),
        Figure("CPU per event, PostgreSQL", us["postgres"], "µs"),
        Figure("CPU per event, Valkey", us["valkey"], "µs"),
    ]
