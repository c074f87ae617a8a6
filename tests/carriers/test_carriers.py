"""The generic HTTP carrier against real servers: the contract, and every way an answer can go missing on the wire."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from gateway.carriers.carrier import Doubtful, Rejected, Retry, Submit, Taken, Unwritten
from gateway.carriers.http import HttpCarrier
from gateway.contract.decision import Cause

pytestmark = pytest.mark.integration

Act = Callable[[dict[str, Any], asyncio.StreamWriter], Awaitable[None]]


def messages(n: int, start: int = 0) -> list[Submit]:
    return [Submit(f"m{i}", f"+86138{i:08d}", "10690001", f"【Acme】{i}") for i in range(start, start + n)]


class Server:
    """Reads whole requests and lets `act` write whatever bytes it likes."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.requests: list[dict[str, Any]] = []
        self.connections = self.now = self.most = 0
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                body = json.loads(await reader.readexactly(length))
                self.requests.append(body)
                self.now += 1
                self.most = max(self.most, self.now)
                await self.act(body, writer)
                self.now -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def seen(self) -> Counter[str]:
        return Counter(message["ref"] for request in self.requests for message in request["messages"])


def answer(body: dict[str, Any], status: str = "200 OK", headers: str = "", code: str = "0") -> bytes:
    results = [{"ref": m["ref"], "carrier_id": f"c-{m['ref']}", "code": code} for m in body["messages"]]
    content = json.dumps({"results": results}).encode()
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(content)}\r\n{headers}\r\n".encode() + content


async def takes(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(answer(body))


@asynccontextmanager
async def serving(act: Act = takes) -> AsyncIterator[Server]:
    made = Server(act)
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/submit"
    try:
        yield made
    finally:
        server.close()


@asynccontextmanager
async def carrying(url: str, **settings: Any) -> AsyncIterator[HttpCarrier]:
    carrier = HttpCarrier(url, **({"answer_within_s": 5.0} | settings))
    try:
        yield carrier
    finally:
        await carrier.close()


async def test_the_contract_over_a_real_http_server() -> None:
    seen: list[tuple[Any, str | None]] = []

    async def submit(request: Request) -> JSONResponse:
        body = await request.json()
        seen.append((body, request.headers.get("authorization")))
        return JSONResponse(
            {"results": [{"ref": m["ref"], "carrier_id": f"X{i}", "code": "0"} for i, m in enumerate(body["messages"])]}
        )

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = Starlette(routes=[Route("/send", submit, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    async with carrying(f"http://127.0.0.1:{port}/send", key="secret") as carrier:
        answers = await carrier.submit(messages(3), write_by=time.monotonic() + 1)
    server.should_exit = True
    await running
    assert answers == [Taken("X0"), Taken("X1"), Taken("X2")]
    assert seen == [
        (
            {"messages": [{"ref": m.ref, "to": m.to, "from": m.sender_port, "text": m.text} for m in messages(3)]},
            "Bearer secret",
        )
    ]


async def test_requests_hold_at_most_100_and_connections_are_kept() -> None:
    async with serving() as server, carrying(server.url, window=2) as carrier:
        answers = await carrier.submit(messages(250))
        for start in range(10):
            await carrier.submit(messages(5, start=1000 + start * 5))
    assert answers == [Taken(f"c-m{i}") for i in range(250)]
    assert sorted(len(request["messages"]) for request in server.requests[:3]) == [50, 100, 100]
    assert server.connections <= 2
    assert server.most <= 2


async def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    async with carrying(url) as carrier:
        assert await carrier.submit(messages(2)) == [Retry("connect.failed", Cause.FLOW)] * 2


async def cut_at_once(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def cut_in_the_head(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    writer.close()


async def cut_in_the_body(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(answer(body)[:-9])
    writer.close()


async def garbage(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff\x16\x03 not http at all\r\n\r\n" * 20)
    writer.close()


async def wrong_length(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: nine\r\n\r\n{}")
    writer.close()


async def hangs(_body: dict[str, Any], _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3)


async def drips(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(30):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.1)


async def endless(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(64):
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


async def not_json(_body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>")


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (cut_at_once, "answer.cut"),
        (reset, "answer.cut"),
        (cut_in_the_head, "answer.cut"),
        (cut_in_the_body, "answer.cut"),
        (garbage, "answer.cut"),
        (wrong_length, "answer.cut"),
        (hangs, "answer.timeout"),
        (drips, "answer.timeout"),
        (endless, "answer.too_large"),
        (not_json, "answer.malformed"),
    ],
)
async def test_once_written_a_lost_answer_is_doubtful_and_never_sent_again(act: Act, why: str) -> None:
    async with serving(act) as server, carrying(server.url, answer_within_s=0.4) as carrier:
        start = time.monotonic()
        assert await carrier.submit(messages(3)) == [Doubtful(why)] * 3
        assert time.monotonic() - start < 1.5
    assert server.seen == {"m0": 1, "m1": 1, "m2": 1}


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        ("429 Too Many Requests", "retry-after: 3\r\n", Retry("http 429", Cause.FLOW, 3.0)),
        ("503 Service Unavailable", "retry-after: 1\r\n", Retry("http 503", Cause.FLOW, 1.0)),
        ("503 Service Unavailable", "", Doubtful("http 503")),
        ("500 Internal Server Error", "", Doubtful("http 500")),
        ("401 Unauthorized", "", Retry("http 401", Cause.FLOW)),
        ("302 Found", "location: /elsewhere\r\n", Retry("http 302", Cause.FLOW)),
    ],
)
async def test_statuses(status: str, headers: str, expected: object) -> None:
    async def act(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body, status, headers))

    async with serving(act) as server, carrying(server.url) as carrier:
        assert await carrier.submit(messages(4)) == [expected] * 4
    assert len(server.requests) == 1


async def test_one_bad_message_does_not_refuse_the_others() -> None:
    taken: Counter[str] = Counter()

    async def act(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        bad = any(m["ref"] in ("m5", "m40") for m in body["messages"])
        if not bad:
            taken.update(m["ref"] for m in body["messages"])
        writer.write(answer(body, "422 Unprocessable Content" if bad else "200 OK"))

    async with serving(act) as server, carrying(server.url) as carrier:
        answers = await carrier.submit(messages(64), write_by=time.monotonic() + 5)
    assert [i for i, one in enumerate(answers) if one == Rejected("http 422", Cause.OTHER)] == [5, 40]
    assert sum(isinstance(one, Taken) for one in answers) == 62
    assert set(taken.values()) == {1}
    assert len(taken) == 62


async def test_nothing_is_written_after_the_fence() -> None:
    async with serving() as server, carrying(server.url) as carrier:
        late = await carrier.submit(messages(2), write_by=time.monotonic() - 0.001)
        assert late == [Unwritten()] * 2
    assert server.requests == []


async def test_waiting_for_a_connection_past_the_fence_writes_nothing() -> None:
    async def slow(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(answer(body))

    async with serving(slow) as server, carrying(server.url, window=1) as carrier:
        first = asyncio.create_task(carrier.submit(messages(1), write_by=time.monotonic() + 1))
        await asyncio.sleep(0.05)
        second = await carrier.submit(messages(1, start=1), write_by=time.monotonic() + 0.1)
        assert (await first, second) == ([Taken("c-m0")], [Unwritten()])
        assert await carrier.submit(messages(1, start=2), write_by=time.monotonic() + 1) == [Taken("c-m2")]
    assert set(server.seen) == {"m0", "m2"}


async def test_a_connection_the_carrier_closed_while_idle_costs_no_doubt() -> None:
    async def once(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body))
        await writer.drain()
        writer.close()

    async with serving(once) as server, carrying(server.url) as carrier:
        for i in range(3):
            assert await carrier.submit(messages(1, start=i)) == [Taken(f"c-m{i}")]
            await asyncio.sleep(0.05)
    assert server.connections == 3


async def test_a_lost_answer_does_not_spoil_the_next() -> None:
    turn = iter((hangs, takes, cut_in_the_body, takes, garbage, takes))

    async def act(body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await next(turn)(body, writer)

    async with serving(act) as server, carrying(server.url, window=1, answer_within_s=0.3) as carrier:
        answers = [(await carrier.submit(messages(1, start=i)))[0] for i in range(6)]
    assert [isinstance(one, Taken) for one in answers] == [False, True] * 3
    assert set(server.seen.values()) == {1}


async def test_a_connection_is_left_before_a_carrier_would_end_it_in_the_middle_of_a_request() -> None:
    """Common servers end an idle connection after 5 s; what is written at that moment is in doubt for good."""
    async with serving() as server, carrying(server.url) as carrier:
        for i, idle_s in enumerate((0.5, 3.2, 0.0)):
            await carrier.submit(messages(1, start=i))
            await asyncio.sleep(idle_s)
    assert server.connections == 2
