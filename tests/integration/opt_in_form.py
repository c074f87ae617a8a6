"""A consent form for tests, and a person who fills it in over HTTP."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaConsumer
from edge_app import Running

from gateway.assemble.preparing import demo_form
from gateway.assemble.registering import draft_of
from gateway.contract.decision import Class
from gateway.contract.form import FormDraft

DRAFT: FormDraft = draft_of(demo_form())
TOPIC = "marketing.promotion"
ARRIVALS = "invite.new_arrival"
_numbers = itertools.count(10_000_000)
_addresses = itertools.count(1)


def number() -> str:
    return f"+86137{next(_numbers)}"


def draft(**changes: Any) -> dict[str, Any]:
    return DRAFT.model_copy(update=changes).model_dump(mode="json")


class Codes:
    """What the gateway sent: the confirmation messages in Kafka, by the number they went to."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.seen: list[dict[str, Any]] = []

    async def drain(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=200)).values():
            self.seen += [orjson.loads(record.value) for record in records]

    async def to(self, person: str, n: int = 1) -> dict[str, Any]:
        """The n-th message to a person."""
        async with asyncio.timeout(10):
            while len(found := [one for one in self.seen if one["to"] == person]) < n:
                await self.drain()
        return found[n - 1]

    async def code(self, person: str, n: int = 1) -> str:
        found = re.search(r"(?<![0-9])[0-9]{6}(?![0-9])", (await self.to(person, n))["text"])
        assert found
        return found[0]

    async def count(self, person: str) -> int:
        await self.drain()
        return len([one for one in self.seen if one["to"] == person])


@asynccontextmanager
async def codes(edge: Running, bootstrap: str) -> AsyncIterator[Codes]:
    topic = edge.gate.topics.messages(Class.CONSENT)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        yield Codes(consumer)
    finally:
        await consumer.stop()


class Browser:
    """A person at the form, from an address of their own, without a script."""

    def __init__(self, edge: Running, form: str = "acme", **headers: str) -> None:
        self.edge, self.form = edge, form
        n = next(_addresses)
        self.ip = headers.pop("ip", f"198.51.{n // 250}.{n % 250 + 1}")
        self.headers = {"x-forwarded-for": self.ip, "user-agent": "test", "origin": edge.url} | headers

    async def get(self, **params: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.edge.url) as http:
            return await http.get(f"/c/{self.form}", params=params, headers=self.headers)

    async def post(self, fields: Any, path: str = "") -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.edge.url, timeout=10) as http:
            return await http.post(f"/c/{self.form}{path}", data=fields, headers=self.headers)

    async def start(self, person: str, *topics: str, **changes: Any) -> httpx.Response:
        page = await self.get(lang=changes.get("lang", "zh"))
        fields = hidden(page.text) | {"number": person, "topics": list(topics or (TOPIC,)), "action": "agree"} | changes
        return await self.post(fields)

    async def confirm(self, opt_in: str, code: str) -> httpx.Response:
        return await self.post({"opt_in": opt_in, "code": code, "lang": "zh"}, "/confirm")


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def opt_in_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return hidden(answer.text)["opt_in"]
