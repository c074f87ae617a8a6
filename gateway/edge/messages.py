"""The hot routes: `POST /v1/messages`, `/v1/messages/batch` and `/v1/messages/check`, as raw ASGI.

FastAPI's own routing costs more than admitting a message, so these three paths never reach it; they are registered with
it for its OpenAPI and its 405s only. Promises the same as the door: a key first, a body within its limit, an answer
within the deadline, problems for everything else. A 202 is durable (`intake`); a crash before it leaves what `intake`
says it leaves.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from gateway import telemetry
from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.message import SendRequest
from gateway.contract.registry import Client
from gateway.edge import bodies, faults
from gateway.edge.door import LATE, Door, refuse
from gateway.edge.gate import Gate
from gateway.edge.problems import Headers, Refused, item_of, new_trace, trace_of, wrong
from gateway.edge.times import of_ms
from gateway.intake import Answer, check
from gateway.intake.refused import NOBODY

JSON = (b"content-type", b"application/json")
REQUESTS = TypeAdapter(list[SendRequest])
AWAY = frozenset({Code.UNAVAILABLE, Code.CACHE_COLD})
ROLE = "send"
NO_ROLE = Refusal(Code.CLIENT_FORBIDDEN, "needs role send")

Outcome = tuple[int, Headers, bytes]
Handle = Callable[[Gate, Client, bytes, Mapping[bytes, bytes], str | None], Awaitable[Outcome]]


def shown(answer: Answer) -> dict[str, Any]:
    """An answer as the caller sees it (`contract.message.SendAnswer`)."""
    decision: dict[str, Any] = {"basis": answer.basis, "pack": answer.pack}
    if answer.entry is not None:
        decision["ledger_entry"] = answer.entry
    document = {"id": answer.id, "status": answer.status, "parts": answer.parts, "decision": decision}
    if answer.release_at_ms is not None:
        document["release_at"] = of_ms(answer.release_at_ms)
    return document


def _json(status: int, value: Any, trace: str | None) -> Outcome:
    body = orjson.dumps(value, option=orjson.OPT_UTC_Z)
    headers = [JSON, (b"content-length", b"%d" % len(body))]
    if trace is not None:
        headers.append((b"trace-id", trace.encode()))
    return status, headers, body


def request_of(body: bytes, head: Mapping[bytes, bytes]) -> SendRequest:
    """The one message of a body, with the key of the header `Idempotency-Key` where one is given."""
    value = bodies.parse(body)
    given = head.get(b"idempotency-key")
    if given is not None and isinstance(value, dict):
        try:
            key = given.decode()
        except UnicodeDecodeError:
            raise wrong("Idempotency-Key", "The header is not UTF-8") from None
        if value.get("idempotency_key", key) != key:
            raise wrong("idempotency_key", "The header Idempotency-Key and the field differ; give one of them")
        value["idempotency_key"] = key
    return bodies.one(SendRequest, value, body)


async def send_one(gate: Gate, client: Client, body: bytes, head: Mapping[bytes, bytes], trace: str | None) -> Outcome:
    """POST /v1/messages."""
    request = request_of(body, head)
    gate.unanswered.count(1)
    try:
        (answer,) = await gate.intake.send(client, (request,), trace)
    finally:
        gate.unanswered.give(0, 1)
    if isinstance(answer, Refusal):
        raise Refused(answer, counted=True)
    return _json(202, shown(answer), trace or answer.id.replace("-", ""))


async def send_batch(
    gate: Gate, client: Client, body: bytes, head: Mapping[bytes, bytes], trace: str | None
) -> Outcome:
    """POST /v1/messages/batch: each message as if it had come alone.

    Where nothing could be decided because a part is away, the whole batch is answered 503: nothing of it was accepted,
    and a caller that looks at the status only must not take it for done.
    """
    if b"idempotency-key" in head:
        raise wrong("Idempotency-Key", "A batch has no key of its own; give each message its idempotency_key")
    items = bodies.batch(bodies.parse(body), "messages")
    gate.unanswered.count(len(items))
    try:
        found = bodies.each(REQUESTS, SendRequest, items, body)
        requests = [item[0] if isinstance(item, tuple) else item for item in found]
        answers = await gate.intake.send(client, requests, trace)
    finally:
        gate.unanswered.give(0, len(items))
    if all(isinstance(answer, Refusal) and answer.code in AWAY for answer in answers):
        raise Refused(next(answer for answer in answers if isinstance(answer, Refusal)), counted=True)
    results = [
        item_of(answer, item[1] if isinstance(item, tuple) else None) if isinstance(answer, Refusal) else shown(answer)
        for answer, item in zip(answers, found, strict=True)
    ]
    return _json(200, {"results": results}, trace or new_trace())


async def check_one(gate: Gate, client: Client, body: bytes, head: Mapping[bytes, bytes], trace: str | None) -> Outcome:
    """POST /v1/messages/check: every rule and its verdict; nothing is sent or counted."""
    found = await check(gate.intake, client, request_of(body, head), time.time_ns() // 1_000_000)
    if isinstance(found, Refusal):
        raise Refused(found)
    return _json(200, found, trace or new_trace())


class Sending:
    """One hot route as an ASGI application."""

    __slots__ = ("_door", "_handle", "_limit", "_route")

    def __init__(self, door: Door, route: str, limit: int, handle: Handle) -> None:
        self._door, self._route, self._limit, self._handle = door, route, limit, handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Whether `cfg` is fresh is for `intake` to say."""
        start = time.perf_counter()
        head = dict(scope["headers"])
        trace = trace_of(head)
        clock, unanswered, size = self._door.deadlines, None, 0
        try:
            gate = self._door.opened()
            client = self._door.keyring.client_of(gate, head)
            if ROLE not in client.roles:
                raise Refused(NO_ROLE)  # noqa: TRY301 - one way out for every refusal
            expected = bodies.declared(head, self._limit)
            unanswered = gate.unanswered
            unanswered.take(expected)
            size = expected
            body = await bodies.timely(receive, self._limit, clock)
            status, headers, answer = await self._handle(gate, client, body, head, trace)
        except bodies.Disconnected:
            return
        except asyncio.CancelledError:
            if not clock.forget():
                raise
            await self._refuse(send, Refused(LATE), trace)
        except Exception as fault:  # noqa: BLE001 - nothing may leave here unanswered
            await self._refuse(send, fault, trace)
        else:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": answer})
        finally:
            clock.forget()
            if size and unanswered is not None:
                unanswered.give(size, 0)
            telemetry.ADMISSION_SECONDS.observe(time.perf_counter() - start, self._route)

    async def _refuse(self, send: Send, fault: Exception, trace: str | None) -> None:
        trace = trace or new_trace()
        refused = faults.refused(fault, self._route, trace)
        if not refused.counted:
            telemetry.ADMISSIONS.add(1, refused.refusal.code, "none")
            if (gate := self._door.gate) is not None:
                gate.intake.refused.add(NOBODY, refused.refusal.code)
        await refuse(send, refused, trace)


def hot_routes(door: Door) -> dict[str, Sending]:
    """The routes that go past FastAPI, by path; all of them POST."""
    return {
        "/v1/messages": Sending(door, "messages", bodies.SINGLE, send_one),
        "/v1/messages/batch": Sending(door, "batch", bodies.BULK, send_batch),
        "/v1/messages/check": Sending(door, "check", bodies.SINGLE, check_one),
    }
