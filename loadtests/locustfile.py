"""Realistic traffic in open arrivals: `make load HOST=http://127.0.0.1:8080 RATE=200 DURATION=60`.

Seeds its own recipients, then sends RATE requests a second whatever the answers' speed (a slow server gets a queue, not
a rest), and measures each from the moment it was planned for. Exits 1 on an unexpected code, on a p99 over LOAD_P99_MS,
on refusal shares off by more than 0.2 points, on a repeat answered with another id, and when too few of the planned
requests could be sent. Loopback only, unless LOAD_ANYWHERE=1. What is planned and how it is judged: `traffic.py`.
"""

import os
import random
import secrets
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent.pool import Pool
from locust import FastHttpUser, events, task
from locust.env import Environment

from loadtests.traffic import BATCH_EVERY, BLOCKS, PER_BATCH, REPEAT_EVERY, People, Plan, Tally, seconds_of


def asked(name: str, default: str) -> str:
    """A variable, or its default where it is not set or empty."""
    return os.environ.get(name) or default


try:
    RATE = float(asked("LOAD_RATE", "200"))
    SECONDS = seconds_of(asked("LOAD_SECONDS", "60"))
    P99_MS = float(asked("LOAD_P99_MS", "250"))
    BLOCK = int(asked("LOAD_BLOCK", str(secrets.randbelow(BLOCKS))))
except ValueError as fault:
    sys.exit(f"load: {fault}")
KEY = asked("LOAD_KEY", "demo-key")
SENDER = asked("LOAD_SENDER", "acme")
IN_FLIGHT = 1_000
SEED_PAGE = 500
SEEDERS = 4
END_S = 15.0
TELL_S = 5.0

run = secrets.token_hex(4)
people = People.of(RATE, SECONDS, BLOCK)
plan = Plan(people, run, SENDER)
tally = Tally(P99_MS)


class Service(FastHttpUser):
    """One internal service: a source of arrivals, not a loop of request and wait."""

    concurrency = IN_FLIGHT
    network_timeout = 10.0
    connection_timeout = 5.0

    @task
    def everything(self) -> None:
        """Seed, send, end the run."""
        try:
            self._seed()
            if tally.unexpected:
                print("the recipients could not be seeded: nothing was sent")
            else:
                self._arrivals()
        finally:
            self.environment.runner.quit()

    # --- recipients ---------------------------------------------------------------------------------------------

    def _seed(self) -> None:
        """Record the permissions that the traffic relies on: orders, consents, and people who then opt out."""
        then = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        buyers, members, left = (people.all(group) for group in ("buyers", "members", "left"))
        print(f"seeding {len(buyers):,} buyers, {len(members):,} members, {len(left)} who opted out …", flush=True)
        pool = Pool(SEEDERS)
        for page in pages([*buyers, *left]):
            orders = [order(number, then) for number in page]
            pool.spawn(self._ask, "/v1/relationships/batch", {"relationships": orders}, "seed orders")
        for page in pages([*members, *left]):
            consents = [consent(number, then) for number in page]
            pool.spawn(self._ask, "/v1/consents/batch", {"consents": consents}, "seed consents")
        pool.join()
        for number in left:
            body = {"sender": SENDER, "reason": "load test"}
            pool.spawn(self._ask, f"/v1/recipients/{number}/withdraw", body, "seed opt-outs")
        pool.join()
        self.environment.stats.clear_all()

    def _ask(self, path: str, body: dict[str, Any], name: str) -> None:
        if tally.unexpected:
            return
        status, answer = self._post(path, body, name)
        refused = [result for result in answer.get("results", ()) if "code" in result]
        if status not in {200, 201} or refused:
            tally.unexpected[f"{name}: {code_of(status, refused[0] if refused else answer)}"] += 1

    # --- traffic ------------------------------------------------------------------------------------------------

    def _arrivals(self) -> None:
        """Poisson arrivals at RATE until the time is over."""
        clock, gaps, pool, serial = time.perf_counter, random.Random(11), Pool(IN_FLIGHT), count(1)
        start = at = told = clock()
        while (at := at + gaps.expovariate(RATE)) - start < SECONDS:
            if (wait := at - clock()) > 0:
                gevent.sleep(wait)
            tally.planned += 1
            if pool.free_count() > 0:
                tally.sent += 1
                pool.spawn(self._batch if next(serial) % BATCH_EVERY == 0 else self._single, at)
            if clock() - told >= TELL_S:
                told = clock()
                print(f"{told - start:4.0f} s: {tally.sent:,} requests, {tally.messages:,} answers", flush=True)
        if not pool.join(timeout=END_S):
            tally.unexpected[f"no answer within {END_S:.0f} s of the end"] += len(pool)

    def _single(self, planned_at: float) -> None:
        kind, body = plan.message()
        status, answer = self._post("/v1/messages", body, "POST /v1/messages")
        tally.latencies_ms.append((time.perf_counter() - planned_at) * 1e3)
        tally.answer(kind, code_of(status, answer))
        if kind == "permitted" and len(tally.latencies_ms) % REPEAT_EVERY == 0:
            _, again = self._post("/v1/messages", body, "POST /v1/messages (same key)")
            tally.repeated(answer.get("id"), again.get("id"))

    def _batch(self, _planned_at: float) -> None:
        items = [plan.message() for _ in range(PER_BATCH)]
        body = {"messages": [message for _, message in items]}
        status, answer = self._post("/v1/messages/batch", body, "POST /v1/messages/batch")
        results = answer.get("results") or [answer] * PER_BATCH
        for (kind, _), result in zip(items, results, strict=True):
            tally.answer(kind, code_of(status, result))

    def _post(self, path: str, body: dict[str, Any], name: str) -> tuple[int, dict[str, Any]]:
        """The status and the document of an answer; 0 and nothing when there was none."""
        headers = {"Authorization": f"Bearer {KEY}"}
        with self.client.post(path, json=body, headers=headers, name=name, catch_response=True) as response:
            try:
                answer = response.json() if response.status_code else {}
            except ValueError:
                answer = {}
            if 0 < response.status_code < 500:
                response.success()  # refusals are planned; the tally judges them
            else:
                response.failure(f"status {response.status_code}")
            return response.status_code, answer if isinstance(answer, dict) else {}


def code_of(status: int, answer: dict[str, Any]) -> str:
    """A refusal's code, or `accepted` or `held`, or the bare status where an answer says neither."""
    said = answer.get("code") or (answer.get("status") if "id" in answer else None)
    return str(said or (f"status {status}" if status else "no answer"))


def pages(numbers: list[str]) -> Iterator[list[str]]:
    """Slices of what one call may carry."""
    return (numbers[start : start + SEED_PAGE] for start in range(0, len(numbers), SEED_PAGE))


def order(number: str, then: str) -> dict[str, Any]:
    """An order relationship."""
    return {"recipient": number, "sender": SENDER, "kind": "order", "ref": f"{run}-{number[-9:]}", "occurred_at": then}


def consent(number: str, then: str) -> dict[str, Any]:
    """A marketing consent with its evidence."""
    return {
        "recipient": number,
        "sender": SENDER,
        "topics": ["marketing"],
        "action": "grant",
        "channel": "web",
        "occurred_at": then,
        "evidence": {"checkbox_checked": True, "form_version": "load-1"},
    }


@events.init.add_listener
def stay_home(environment: Environment, **_: object) -> None:
    """Refuse to load what is not on this machine."""
    host = urlsplit(environment.host or "").hostname
    if host not in {"127.0.0.1", "localhost", "::1"} and not os.environ.get("LOAD_ANYWHERE"):
        sys.exit("load: goes to loopback only; LOAD_ANYWHERE=1 to aim it at a gateway of your own")


@events.quitting.add_listener
def judge(environment: Environment, **_: object) -> None:
    """Print what was seen and set the exit status."""
    print()
    for line in tally.lines(SECONDS):
        print(line)
    faults = tally.faults()
    for fault in faults:
        print(f"FAILED {fault}")
    print("load: FAILED" if faults else "load: passed")
    environment.process_exit_code = 1 if faults else 0
