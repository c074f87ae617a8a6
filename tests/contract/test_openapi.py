"""The live edge against its own OpenAPI document: generated requests to every operation, none of them a fault of ours.

The server runs in a thread of its own, because the generated calls block. A 503 is no fault here: calls open breakers.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import schemathesis
from edge_app import key, running
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.edge.app import create_app
from gateway.edge.gate import Gate

pytestmark = pytest.mark.integration
EXAMPLES = 16
NUMBERS = ("+8613800000001", "13800000002", "+8613800000003")
PURPOSES = ("transaction.shipping", "marketing.promotion", "verification.code", "transaction.order")
FITTING = {"evidence": {"checkbox_checked": True, "form_version": "1"}, "topics": ["marketing"]}
HEALTH = list(HealthCheck)
SEEN: dict[str, set[int]] = {}
CONFORMANCE = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def served(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> Iterator[str]:
    """The address of an edge in another thread."""
    started, stop, urls = threading.Event(), asyncio.Event(), []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as edge:
            urls.append(edge.url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    with httpx.Client(base_url=urls[0], headers={"authorization": f"Bearer {key('head')}"}) as http:
        for number in NUMBERS:
            order = {"recipient": number, "sender": "acme", "kind": "order", "ref": "1"}
            kept = http.post("/v1/relationships", json=order | {"occurred_at": datetime.now(UTC).isoformat()})
            assert kept.status_code == 201
    yield urls[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(30)
    assert not thread.is_alive()


@asynccontextmanager
async def _unopened() -> AsyncIterator[Gate]:
    raise AssertionError("the document must not open the gate")
    yield


schema = schemathesis.openapi.from_dict(create_app(_unopened).openapi())
FOUND = [found.ok() for found in schema.get_all_operations()]
OPERATIONS = {operation.label: operation for operation in sorted(FOUND, key=lambda one: "/breakers" in one.path)}
"""Breakers last: an open one ends every send at once."""


def never_a_fault(_context: object, response: schemathesis.Response, _case: Case) -> None:
    """No 5xx but a 503 that says when to come back; no answer repeats a stack trace."""
    assert response.status_code < 500 or (response.status_code == 503 and "retry-after" in response.headers)


def known(value: Any, pick: int) -> Any:
    """The same value with names that exist here, or every generated call would end at the first check."""
    names = {"recipient": NUMBERS[pick % 3], "to": NUMBERS[pick % 3], "sender": "acme", "purpose": PURPOSES[pick % 4]}
    if isinstance(value, list):
        return [known(item, pick + n) for n, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    real = {name: names[name] if name in names else known(item, pick) for name, item in value.items()}
    return real | (FITTING if "channel" in real and pick % 2 else {})


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_operation_keeps_its_own_word(served: str, label: str, mode: GenerationMode) -> None:
    """Well-formed calls about people and senders that exist, then calls that do not fit the document."""
    operation, picks = OPERATIONS[label], iter(range(10_000))
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        return  # nothing about it can be wrong
    headers = {"authorization": f"Bearer {key('carrier-http' if '/v1/carriers' in label else 'head')}"}

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=HEALTH)
    def call(case: Case) -> None:
        pick = next(picks)
        if mode is GenerationMode.POSITIVE:
            case.body = known(case.body, pick)
            if "number" in (case.path_parameters or {}):
                case.path_parameters["number"] = NUMBERS[pick % 3]
        response = case.call_and_validate(base_url=served, headers=headers, checks=[never_a_fault, *CONFORMANCE])
        SEEN.setdefault(label, set()).add(response.status_code)

    call()


def test_the_calls_reached_what_they_were_for() -> None:
    """Generated calls that all end at the first check would prove nothing."""
    for label in ("POST /v1/messages", "POST /v1/consents", "POST /v1/relationships", "POST /v1/suppressions"):
        assert {status // 100 for status in SEEN[label]} >= {2, 4}, (label, SEEN[label])
