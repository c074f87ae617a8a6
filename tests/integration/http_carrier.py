"""A carrier over HTTP, as the generic HTTP connector knows one: takes submits, is asked, posts receipts and replies.

A real server on loopback. It writes down everything that reaches it, before it answers, and reports each message once
it was taken; like a carrier, it posts a report again until the gateway has acknowledged it.
"""

import asyncio
import itertools
import json
import socket
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn

KEY = {"authorization": "Bearer carrier-key"}


@dataclass
class Carrier:
    """What reached it, and what it does next. `callback`: the gateway's address, once known."""

    url: str = ""
    callback: str = ""
    submits: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """When each of them arrived, by the monotonic clock of this process."""
    heads: list[dict[str, str]] = field(default_factory=list)
    reporting: bool = True
    """Whether it reports what it took."""
    answer_s: float = 0.0
    pace_s: float = 0.0
    """Seconds that it takes for each message, one after the other, whatever the request."""
    losing: bool = False
    """Whether its answers to submits get lost: it has the messages, and nobody hears so."""
    deaf: bool = False
    """Whether submits get lost before it has them."""
    putting_off: int = 0
    """One message in so many it does not take when it first comes, for a cause that passes."""
    put_off: set[str] = field(default_factory=set)
    asking: str = ""
    """What it answers a query with instead of what it knows: an HTTP status, or a body that nobody can read."""
    asked: list[list[str]] = field(default_factory=list)
    """The refs of each query."""
    _busy_until: float = 0.0
    _ids: itertools.count = field(default_factory=lambda: itertools.count(1))  # type: ignore[type-arg]
    _reports: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    @property
    def refs(self) -> Counter[str]:
        """How often each message reached it."""
        return Counter(one["ref"] for one in self.submits)

    @property
    def query_url(self) -> str:
        """Where it is asked."""
        return self.url.replace("/submit", "/query")

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: one submit, or one query."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        self.heads.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if scope["path"] == "/query":
            await _answer(send, *self._known(json.loads(body)["refs"]))
            return
        if self.deaf:
            await _answer(send, 500, b"{}")
            return
        results = []
        for message in json.loads(body)["messages"]:
            if self._puts_off(message["ref"]):
                results.append({"ref": message["ref"], "code": "MK:0010"})
                continue
            carrier_id = f"C-{next(self._ids):08x}"
            self.submits.append({**message, "carrier_id": carrier_id})
            self.times.append(time.monotonic())
            results.append({"ref": message["ref"], "carrier_id": carrier_id, "code": "0"})
            if self.reporting:
                self.report(carrier_id, "DELIVRD", "000", ref=message["ref"])
        if self.answer_s:
            await asyncio.sleep(self.answer_s)
        await self._labour(len(results))
        await _answer(send, 500 if self.losing else 200, json.dumps({"results": results}).encode())

    def _puts_off(self, ref: str) -> bool:
        chosen = self.putting_off and zlib.crc32(ref.encode()) % self.putting_off == 0 and ref not in self.put_off
        if chosen:
            self.put_off.add(ref)
        return bool(chosen)

    async def _labour(self, messages: int) -> None:
        """As long as these messages take behind those before them; less where the pace is mended meanwhile."""
        now = time.monotonic()
        ready = self._busy_until = max(now, self._busy_until) + messages * self.pace_s
        while self.pace_s and time.monotonic() < ready:  # noqa: ASYNC110 - time ends it, or a pace that was mended
            await asyncio.sleep(0.05)
        if not self.pace_s:
            self._busy_until = 0.0

    def _known(self, refs: list[str]) -> tuple[int, bytes]:
        """What it says of messages: those that reached it are delivered."""
        self.asked.append(refs)
        if self.asking:
            return (int(self.asking), b"{}") if self.asking.isdigit() else (200, self.asking.encode())
        ids = {one["ref"]: one["carrier_id"] for one in self.submits}
        found: list[dict[str, str]] = []
        for ref in refs:
            if ref in ids:
                found.append({"ref": ref, "carrier_id": ids[ref], "status": "DELIVRD", "code": "000"})
            else:
                found.append({"ref": ref, "status": "NOTFOUND"})
        return 200, json.dumps({"results": found}).encode()

    def report(self, carrier_id: str, status: str, code: str, ref: str | None = None) -> None:
        """A receipt, to be posted until it is acknowledged."""
        receipt = {"carrier_id": carrier_id, "status": status, "code": code}
        self._reports.put_nowait(receipt if ref is None else {**receipt, "ref": ref})

    async def posting(self) -> None:
        """Post receipts, up to 200 at a time, until cancelled."""
        async with httpx.AsyncClient(headers=KEY, timeout=3) as http:
            while True:
                batch = [await self._reports.get()]
                await asyncio.sleep(0.05)
                while not self._reports.empty() and len(batch) < 200:
                    batch.append(self._reports.get_nowait())
                await self._post(http, "receipts", batch)

    async def _post(self, http: httpx.AsyncClient, what: str, batch: list[dict[str, Any]]) -> None:
        """Again and again, until it is acknowledged."""
        while True:
            with suppress(httpx.HTTPError):
                answer = await http.post(f"{self.callback}/v1/carriers/http/{what}", json={what: batch})
                assert answer.status_code in {200, 503}, answer.text
                if answer.status_code == 200:
                    return
            await asyncio.sleep(0.2)

    async def reply(self, sender: str, port: str, text: str) -> None:
        """An inbound message, posted until it is acknowledged."""
        one = {"id": f"R-{next(self._ids)}", "from": sender, "to": port, "text": text}
        async with httpx.AsyncClient(headers=KEY, timeout=3) as http:
            await self._post(http, "replies", [one])


async def _answer(send: Any, status: int, body: bytes) -> None:
    with suppress(OSError):
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def carrier() -> AsyncIterator[Carrier]:
    """A carrier that serves, until the end of the block."""
    one = Carrier()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    one.url = f"http://127.0.0.1:{listener.getsockname()[1]}/submit"
    config = uvicorn.Config(
        one.app, access_log=False, log_level="warning", lifespan="off", interface="asgi3", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    posting = asyncio.create_task(one.posting())
    try:
        yield one
    finally:
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        server.should_exit = True
        await serving
