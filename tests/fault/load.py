"""A steady stream of messages and consents whose every answer is kept, and what must be true of them at the end."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from gateway_rig import Gateway, consent, numbers, shipping
from http_carrier import Carrier

RATE = 40
CONSENTS = 8
"""One arrival in so many records a consent."""
STRANGERS = 10
"""One message in so many goes to somebody who permitted nothing."""
ANSWER_S = 2.0


@dataclass
class Shot:
    """One request and its answer; status 0 where the connection broke."""

    path: str
    body: dict[str, Any]
    stranger: bool = False
    at: float = 0.0
    took_s: float = 0.0
    status: int = 0
    code: str = ""
    retry_after: str | None = None
    id: str = ""

    async def fire(self, gate: Gateway) -> None:
        self.at = time.monotonic()
        try:
            answer = await gate.http.post(self.path, json=self.body)
        except httpx.HTTPError:
            self.status = 0
        else:
            self.status = answer.status_code
            document = answer.json()
            self.code, self.id = document.get("code", ""), document.get("id", "")
            self.retry_after = answer.headers.get("retry-after")
        self.took_s = time.monotonic() - self.at


@dataclass
class Load:
    """Open arrivals at `RATE` a second. `ref` names its messages."""

    gate: Gateway
    carrier: Carrier
    people: Sequence[str]
    ref: str = field(default_factory=lambda: f"load-{uuid.uuid4().hex[:12]}")
    shots: list[Shot] = field(default_factory=list)
    late_s: float = 0.0
    """The most by which this process itself was late; no answer can be seen sooner."""
    _stopped: bool = False
    _strangers: list[str] = field(default_factory=lambda: numbers(200))

    def _next(self, n: int) -> Shot:
        if n % CONSENTS == 0:
            body = consent(numbers(1)[0], ["marketing"], event_id=f"{self.ref}-{n}")
            return Shot("/v1/consents", body)
        stranger = n % STRANGERS == 3
        pool = self._strangers if stranger else self.people
        body = shipping(pool[n % len(pool)], client_ref=self.ref, idempotency_key=f"{self.ref}-{n}")
        return Shot("/v1/messages", body, stranger)

    async def run(self) -> None:
        firing: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        n = 0
        while not self._stopped:
            n += 1
            await asyncio.sleep(max(0.0, began + n / RATE - time.monotonic()))
            self.late_s = max(self.late_s, time.monotonic() - began - n / RATE)
            shot = self._next(n)
            self.shots.append(shot)
            task = asyncio.create_task(shot.fire(self.gate))
            firing.add(task)
            task.add_done_callback(firing.discard)
        await asyncio.gather(*firing)

    def stop(self) -> None:
        self._stopped = True

    # --- looking at it ---------------------------------------------------------------------------------------------

    def messages(self, since: float = 0.0, until: float = float("inf")) -> list[Shot]:
        """Shots at people who permitted it, fired in a span of time."""
        every = (shot for shot in self.shots if shot.path == "/v1/messages" and not shot.stranger)
        return [shot for shot in every if since <= shot.at < until]

    def consents(self, since: float = 0.0, until: float = float("inf")) -> list[Shot]:
        return [shot for shot in self.shots if shot.path == "/v1/consents" and since <= shot.at < until]

    def flows(self, n: int = 5) -> bool:
        """Whether the last few answered shots were all taken."""
        answered = [shot for shot in self.shots if shot.took_s and not shot.stranger][-n:]
        return len(answered) == n and all(shot.status in {201, 202} for shot in answered)

    async def until_it_flows(self, within_s: float) -> float:
        """Seconds until messages and consents are taken again."""
        began = time.monotonic()
        mark = len(self.shots)
        while len(self.shots) < mark + 5 or not self.flows():
            assert time.monotonic() - began < within_s, Counter((s.status, s.code) for s in self.shots[-20:])
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    def check_answers(self) -> None:
        """Every request was answered in time, with a code of the closed set and when to come again."""
        for shot in self.shots:
            assert shot.status in {201, 202, 403, 503}, (shot.status, shot.code)
            assert shot.took_s < ANSWER_S + self.late_s + 0.1, (shot.took_s, self.late_s, shot.path, shot.code)
            if shot.status == 503:
                assert shot.code in {"unavailable", "cache.cold"}, shot.code
                assert shot.retry_after is not None
            if shot.stranger:
                assert (shot.status, shot.code) == (403, "relationship.missing") or shot.status == 503
            else:
                assert shot.status != 403, shot.code

    async def complete(self) -> None:
        """What a caller does about an answer it did not get: the same again, with the same key."""
        for shot in self.messages():
            if shot.status != 202:
                again = Shot(shot.path, shot.body)
                await again.fire(self.gate)
                assert again.status == 202, (again.status, again.code, shot.status, shot.code)
                shot.id = again.id
        for shot in self.consents():
            if shot.status != 201:
                again = Shot(shot.path, shot.body)
                await again.fire(self.gate)
                assert again.status == 201, (again.status, again.code)

    async def check_ends(self, allowed: Sequence[str] = ("delivered",), within_s: float = 40) -> Counter[str]:
        """Nothing accepted is lost, nothing is sent twice, nothing to anybody who permitted nothing."""
        await self.complete()
        shots = self.messages()
        ids = [shot.id for shot in shots]
        assert len(set(ids)) == len(ids)
        ends = await self.gate.all_until(self.ref, ids, allowed, within_s=within_s)
        assert set(ends) <= set(allowed), ends
        reached = Counter(one["text"] for one in self.carrier.submits)
        twice = [text for text, n in reached.items() if n > 1]
        assert not twice, f"{len(twice)} sent more than once"
        if tuple(allowed) == ("delivered",):
            assert all(reached[f"【Acme】{shot.body['text']}"] == 1 for shot in shots)
        strange = {shot.body["text"] for shot in self.shots if shot.stranger}
        assert not {text.removeprefix("【Acme】") for text in reached} & strange
        return ends


@asynccontextmanager
async def load(gate: Gateway, carrier: Carrier, people: Sequence[str]) -> AsyncIterator[Load]:
    """A load that flows; stopped at the end of the block, its answers awaited."""
    one = Load(gate, carrier, people)
    running = asyncio.create_task(one.run())
    try:
        await one.until_it_flows(20)
        yield one
        one.stop()
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
