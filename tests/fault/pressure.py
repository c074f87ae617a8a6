"""More than can be done at once: what the backpressure tests send, and how they look at memory, order and delay."""

import asyncio
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import TZPATH

import httpx
import psutil
import pytest
from gateway_rig import Gateway, consent, shipping
from http_carrier import Carrier

BATCH = 500
SLOW_S = 60.0
MIB = 1 << 20


@contextmanager
def noon_in_shanghai(folder: Path) -> Iterator[None]:
    """Processes started now take it for midday there: marketing has quiet hours, and these tests run at any hour.

    They read their zone from a folder of this test's, in which it lies where it is noon.
    """
    hours = 13 - datetime.now(UTC).hour
    name = f"Etc/GMT{-hours:+d}" if hours else "Etc/GMT"
    (source,) = [found for path in TZPATH if (found := Path(path) / name).exists()][:1]
    (folder / "Asia").mkdir(parents=True)
    (folder / "Asia/Shanghai").write_bytes(source.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONTZPATH", ":".join([str(folder), *TZPATH]))
        yield


def promotion(to: str, text: str, **more: Any) -> dict[str, Any]:
    return shipping(to, text, purpose="marketing.promotion", **more)


def rss(gate: Gateway, *names: str) -> dict[str, float]:
    """MiB resident of processes of the gateway."""
    found = {}
    for name in names:
        pid = gate.processes[name].child.pid
        assert pid is not None
        found[name] = psutil.Process(pid).memory_info().rss / MIB
    return found


async def accept(gate: Gateway, bodies: Sequence[dict[str, Any]]) -> list[str]:
    """Post all of them under keys, a batch after the other, again while a part is too slow; their ids in order."""
    ids: list[str] = []
    for first in range(0, len(bodies), BATCH):
        batch = [{**body, "idempotency_key": uuid.uuid4().hex} for body in bodies[first : first + BATCH]]
        results = await _answered(gate, "/v1/messages/batch", {"messages": batch})
        assert {row["status"] for row in results} == {"accepted"}, Counter(row.get("code") for row in results)
        ids += [row["id"] for row in results]
    return ids


async def consent_all(gate: Gateway, people: Sequence[str], topics: Sequence[str]) -> None:
    """An express consent of each, a batch after the other, again while a part is too slow."""
    for first in range(0, len(people), BATCH):
        rows = [consent(to, topics) for to in people[first : first + BATCH]]
        results = await _answered(gate, "/v1/consents/batch", {"consents": rows})
        assert {row["status"] for row in results} == {"recorded"}, results[:3]


async def _answered(gate: Gateway, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The results, once no part of the gateway is too slow for any of them."""
    until = time.monotonic() + SLOW_S
    while True:
        answer = await gate.post(path, body)
        results: list[dict[str, Any]] = answer.json().get("results", [])
        if answer.status_code == 200 and not any(row.get("code") == "unavailable" for row in results):
            return results
        assert answer.status_code in {200, 503}, answer.text
        assert time.monotonic() < until, answer.text
        await asyncio.sleep(0.5)


async def arrived(there: Carrier, ids: Sequence[str], within_s: float) -> None:
    """Wait until each of them has reached the carrier."""
    until, wanted = time.monotonic() + within_s, set(ids)
    while missing := len(wanted - {one["ref"] for one in there.submits}):
        assert time.monotonic() < until, f"{missing} of {len(wanted)} have not arrived"
        await asyncio.sleep(0.2)


def out_of_order(there: Carrier, ids: Sequence[str]) -> int:
    """How many of them overtook an earlier one to the same recipient."""
    at = {one: n for n, one in enumerate(ids)}
    order: defaultdict[str, list[int]] = defaultdict(list)
    for one in there.submits:
        if one["ref"] in at:
            order[one["to"]].append(at[one["ref"]])
    return sum(late < early for seen in order.values() for early, late in pairwise(seen))


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@dataclass
class Posts:
    """Single messages at a steady pace: seconds to their answers, and from those to the carrier."""

    gate: Gateway
    there: Carrier
    people: Sequence[str]
    rate: float = 40.0
    answered_s: list[float] = field(default_factory=list)
    answered_at: dict[str, float] = field(default_factory=dict)
    _next: int = 0

    async def run(self, seconds: float) -> None:
        """For so long; each is answered 202."""
        began, count = time.monotonic(), int(seconds * self.rate)
        async with asyncio.TaskGroup() as group:
            for n in range(count):
                await asyncio.sleep(max(0.0, began + n / self.rate - time.monotonic()))
                group.create_task(self._one(self.people[self._next % len(self.people)]))
                self._next += 1

    async def _one(self, to: str) -> None:
        sent = time.monotonic()
        answer = await self.gate.http.post("/v1/messages", json=shipping(to))
        now = time.monotonic()
        assert answer.status_code == 202, answer.text
        self.answered_s.append(now - sent)
        self.answered_at[answer.json()["id"]] = now

    async def waits_s(self, within_s: float = 15.0) -> list[float]:
        """Seconds from each 202 to the carrier; what is there before its caller has read the answer waited none."""
        await arrived(self.there, list(self.answered_at), within_s)
        at = {one["ref"]: at for one, at in zip(self.there.submits, self.there.times, strict=True)}
        return [max(0.0, at[one] - answered) for one, answered in self.answered_at.items()]


@dataclass
class Greedy:
    """A client that sends ten times its quota, and later comes back when it was told to."""

    http: httpx.AsyncClient
    quota: int
    people: Sequence[str]
    codes: Counter[str] = field(default_factory=Counter)
    minutes: set[int] = field(default_factory=set)
    told_s: int = 0
    coming: "asyncio.Task[int] | None" = None

    async def devour(self) -> None:
        """Ten times the quota, then once more alone: when to come again is a header there."""
        bodies = [shipping(self.people[n % len(self.people)]) for n in range(10 * self.quota)]
        for first in range(0, len(bodies), 50):
            self.minutes.add(int(time.time() // 60))
            answer = await self.http.post("/v1/messages/batch", json={"messages": bodies[first : first + 50]})
            self.codes.update(row.get("code", row["status"]) for row in answer.json()["results"])
        answer = await self.http.post("/v1/messages", json=shipping(self.people[0]))
        if answer.status_code == 202:  # a minute has just begun
            self.minutes.add(int(time.time() // 60))
            return await self.devour()
        assert (answer.status_code, answer.json()["code"]) == (429, "client.quota"), answer.text
        self.told_s = int(answer.headers["retry-after"])
        self.coming = asyncio.create_task(self._again())
        return None

    async def _again(self) -> int:
        await asyncio.sleep(self.told_s)
        return (await self.http.post("/v1/messages", json=shipping(self.people[1]))).status_code

    async def close(self) -> None:
        if self.coming is not None:
            self.coming.cancel()
            with suppress(asyncio.CancelledError):
                await self.coming
        await self.http.aclose()
