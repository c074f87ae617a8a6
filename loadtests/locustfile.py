"""Realistic traffic in open arrivals: `make load HOST=http://127.0.0.1:8080 RATE=200 DURATION=60`.

Seeds its own recipients, then sends at RATE requests a second whatever the answers' speed (a slow server gets a queue,
not a rest): mixed purposes, 2 % to people without permission, 1 % to people who opted out, repeats of the same key, and
batches. Exits 1 on an unexpected code, on a p99 over LOAD_P99_MS (default 250), on refusal shares off by more than 0.2
points, on a repeat answered with another id, and when fewer than 95 % of the planned requests could be sent.
Loopback only unless LOAD_ANYWHERE=1. Every number is of a block that this file makes up.
"""

import os
import random
import time
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, events, task
from locust.env import Environment

RATE = float(os.environ.get("LOAD_RATE", "200"))
SECONDS = float(os.environ.get("LOAD_SECONDS", "60"))
P99_MS = float(os.environ.get("LOAD_P99_MS", "250"))
KEY = os.environ.get("LOAD_KEY", "demo-key")
SENDER = os.environ.get("LOAD_SENDER", "acme")
BATCH = 50
STRANGERS, OPTED_OUT = 0.02, 0.01
TOLERANCE = 0.002
IN_FLIGHT = 2_000
RUN = uuid.uuid4().hex[:8]
BLOCK = 10_000_000_000 + random.SystemRandom().randrange(0, 900) * 1_000_000
"""Eleven-digit numbers 13x… of this run."""

PERMITTED = ("transaction.order", "transaction.shipping", "transaction.delivery", "transaction.refund")
REFUSED_STRANGER = {"relationship.missing", "consent.missing"}
REFUSED_OPTED_OUT = {"suppressed", "consent.withdrawn"}


def number(kind: int, index: int) -> str:
    """A mainland mobile number: kind 0 permitted, 1 strangers, 2 opted out."""
    return f"+8613{(BLOCK // 1000 + kind * 300_000_000 + index) % 1_000_000_000:09d}"


class Tally:
    """What was planned and what came back."""

    def __init__(self) -> None:
        self.codes: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()
        self.messages = self.strangers = self.opted_out = self.repeats = self.planned = self.sent = 0

    def answer(self, kind: str, code: str) -> None:
        """One message's outcome: `accepted`, `held` or a refusal code, against what its kind should get."""
        self.messages += 1
        self.codes[code] += 1
        wanted = {"stranger": REFUSED_STRANGER, "opted_out": REFUSED_OPTED_OUT}.get(kind, {"accepted", "held"})
        if code not in wanted:
            self.unexpected[f"{kind}: {code}"] += 1
        elif kind == "stranger":
            self.strangers += 1
        elif kind == "opted_out":
            self.opted_out += 1

    def faults(self, p99_ms: float) -> list[str]:
        """Why this run failed; empty when it passed."""
        found = [f"unexpected {what} x{n}" for what, n in self.unexpected.most_common(10)]
        if self.messages == 0:
            return [*found, "nothing was sent"]
        shares = (("no permission", self.strangers, STRANGERS), ("opted out", self.opted_out, OPTED_OUT))
        for name, seen, planned in shares:
            if abs(seen / self.messages - planned) > TOLERANCE:
                found.append(f"refusals for {name}: {seen / self.messages:.2%}, planned {planned:.2%}")
        if p99_ms > P99_MS:
            found.append(f"p99 {p99_ms:.0f} ms is over {P99_MS:.0f} ms")
        if self.sent < 0.95 * self.planned:
            found.append(f"only {self.sent} of {self.planned} planned requests could be sent")
        return found


tally = Tally()


class Plan:
    """Which kind of message comes next: exact shares in every hundred, in a shuffled order."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self._next: list[str] = []
        self._serial = {kind: count() for kind in ("permitted", "stranger", "opted_out")}

    def message(self) -> tuple[str, dict[str, Any]]:
        """The kind and body of the next message."""
        if not self._next:
            self._next = ["stranger"] * 2 + ["opted_out"] + ["permitted"] * 97
            self._random.shuffle(self._next)
        kind = self._next.pop()
        at = next(self._serial[kind])
        serial = f"{RUN}-{kind[0]}{at}"
        pool = {"permitted": PEOPLE, "stranger": 100_000, "opted_out": LEFT}[kind]
        to = number(("permitted", "stranger", "opted_out").index(kind), at % pool)
        body: dict[str, Any] = {"to": to, "sender": SENDER, "idempotency_key": serial, "client_ref": serial}
        turn = at % 10
        if kind == "permitted" and turn == 9:  # noqa: PLR2004 - every tenth
            now = datetime.now(UTC).isoformat()
            body |= {"purpose": "verification.code", "text": f"验证码 {at % 1_000_000:06d}，5 分钟内有效。"}
            body["request"] = {"ref": serial, "occurred_at": now}
        elif kind == "permitted" and turn == 8 and at < PEOPLE:  # noqa: PLR2004 - once a person
            body |= {"purpose": "marketing.promotion", "text": f"本周新品到店，第 {at} 号会员专享。"}
        else:
            body |= {"purpose": PERMITTED[turn % 4], "text": f"您的订单 {serial} 有新的进展。"}
        return kind, body


PEOPLE = max(500, int(RATE * SECONDS * 4))
"""Permitted recipients: enough that nobody meets a window (10 a day) by chance."""
LEFT = max(20, min(200, PEOPLE // 20))
plan = Plan()


class Service(FastHttpUser):
    """One internal service: a source of arrivals, not a loop of request and wait."""

    concurrency = IN_FLIGHT
    network_timeout = 10.0
    connection_timeout = 5.0

    def on_start(self) -> None:
        """Record the permissions that the traffic relies on."""
        host = urlsplit(self.host or "").hostname
        if host not in {"127.0.0.1", "localhost", "::1"} and not os.environ.get("LOAD_ANYWHERE"):
            raise SystemExit("load goes to loopback only; LOAD_ANYWHERE=1 to aim it at a gateway of your own")
        self._headers = {"Authorization": f"Bearer {KEY}"}
        then = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        print(f"seeding {PEOPLE + LEFT} recipients …", flush=True)
        for start in range(0, PEOPLE, 1000):
            people = [number(0, at) for at in range(start, min(start + 1000, PEOPLE))]
            self._seed(people, then)
        gone = [number(2, at) for at in range(LEFT)]
        self._seed(gone, then)
        for to in gone:
            body = {"sender": SENDER, "reason": "load test"}
            self._post(f"/v1/recipients/{to}/withdraw", body, "seed withdraw")
        environment.stats.reset_all()

    def _seed(self, people: list[str], then: str) -> None:
        consent = {"sender": SENDER, "topics": ["marketing"], "action": "grant", "channel": "web", "occurred_at": then}
        evidence = {"checkbox_checked": True, "form_version": "load-1"}
        consents = [{"recipient": to, **consent, "evidence": evidence} for to in people]
        orders = [
            {"recipient": to, "sender": SENDER, "kind": "order", "ref": f"{RUN}-{to[-9:]}", "occurred_at": then}
            for to in people
        ]
        self._post("/v1/consents/batch", {"consents": consents}, "seed consents")
        self._post("/v1/relationships/batch", {"relationships": orders}, "seed relationships")

    def _post(self, path: str, body: dict[str, Any], name: str) -> dict[str, Any]:
        with self.rest("POST", path, json=body, headers=self._headers, name=name) as response:
            if response.status_code not in (200, 201):
                tally.unexpected[f"{name}: {response.status_code}"] += 1
                response.failure(f"{response.status_code}")
            return dict(response.js or {})

    @task
    def arrivals(self) -> None:
        """Poisson arrivals at RATE until the time is over."""
        clock, gaps, pool = time.perf_counter, random.Random(11), Pool(IN_FLIGHT)
        start = at = clock()
        serial = count(1)
        while (at := at + gaps.expovariate(RATE)) - start < SECONDS:
            if (wait := at - clock()) > 0:
                gevent.sleep(wait)
            tally.planned += 1
            if pool.free_count() > 0:
                tally.sent += 1
                pool.spawn(self._batch if next(serial) % 20 == 0 else self._single)
        pool.join(timeout=15)
        environment.runner.quit()

    def _single(self) -> None:
        kind, body = plan.message()
        first = self._send(kind, body, "POST /v1/messages")
        if kind == "permitted" and first and tally.messages % 100 == 0:
            tally.repeats += 1
            again = self._send(None, body, "POST /v1/messages (repeat)")
            if again != first:
                tally.unexpected["repeat: another id"] += 1

    def _send(self, kind: str | None, body: dict[str, Any], name: str) -> str | None:
        with self.client.post(
            "/v1/messages", json=body, headers=self._headers, name=name, catch_response=True
        ) as response:
            answer = response.json() if response.status_code else {}
            code = answer.get("code") or answer.get("status") or f"status {response.status_code}"
            if kind is not None:
                tally.answer(kind, code)
            response.success()
            return answer.get("id")

    def _batch(self) -> None:
        items = [plan.message() for _ in range(BATCH)]
        body = {"messages": [message for _, message in items]}
        with self.client.post(
            "/v1/messages/batch", json=body, headers=self._headers, name="POST /v1/messages/batch", catch_response=True
        ) as response:
            results = response.json().get("results") if response.status_code == 200 else None  # noqa: PLR2004
            if results is None:
                tally.unexpected[f"batch: status {response.status_code}"] += 1
                return
            for (kind, _), result in zip(items, results, strict=True):
                tally.answer(kind, result.get("code") or result.get("status"))
            response.success()


environment: Environment


@events.init.add_listener
def remember(environment: Environment, **_: object) -> None:
    """Keep the environment where users can stop it."""
    globals()["environment"] = environment


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """Print what was seen and set the exit status."""
    entry = environment.stats.get("POST /v1/messages", "POST")
    p99 = float(entry.get_response_time_percentile(0.99) or 0)
    faults = tally.faults(p99)
    codes = ", ".join(f"{code} {n}" for code, n in tally.codes.most_common())
    print(f"\n{tally.messages} messages in {tally.sent} requests, {tally.repeats} repeats: {codes}")
    print(f"single POST p50 {entry.median_response_time} ms, p99 {p99:.0f} ms")
    for fault in faults:
        print(f"FAILED {fault}")
    environment.process_exit_code = 1 if faults else 0
    print("load: FAILED" if faults else "load: passed")
