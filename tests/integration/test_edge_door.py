"""The door: no key, no answer; roles; stale or missing registry; deadlines; faults of the parts behind."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from edge_app import Running, running

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.message import MAX_BATCH
from gateway.edge import bodies
from gateway.edge.gate import Unanswered
from gateway.edge.problems import Refused
from gateway.guard import Cfg

pytestmark = pytest.mark.integration
PUBLIC = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/{name}"}
PUBLIC |= {"/c/widget.js", "/c/form.js", "/c/form.css"}
PEOPLE = {"/c/{name}", "/c/{name}/confirm", "/l/{link}"}
PEOPLE |= {"/v1/ledger/checkpoint", "/v1/ledger/keys", "/v1/ledger/tile/{path}"}
"""Pages of forms, links, files of the log: no key, and what is not there is not there."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        yield served


def routes(edge: Running) -> list[tuple[str, str]]:
    """Every method and path the application has, hot routes and all."""
    found = [
        (method, route.path_format)  # type: ignore[attr-defined]
        for route in edge.app.routes
        for method in sorted(route.methods or ())  # type: ignore[attr-defined]
    ]
    documented = {(m.upper(), path) for path, item in edge.app.openapi()["paths"].items() for m in item}
    assert documented - set(found) == set()
    return found


def _named(path: str) -> str:
    return "swagger-ui.css" if path.startswith("/docs/") else "none"


def address(path: str) -> str:
    sample = {
        "number": "+8613800000000",
        "id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "scope": "all",
        "carrier": "http",
    }
    return re.sub(r"\{(\w+)\}", lambda match: sample.get(match[1], _named(path)), path)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["code"] == code
    return document


@pytest.mark.parametrize(
    "given",
    [{}, {"authorization": "Bearer wrong"}, {"authorization": "key-of-shop"}, {"authorization": "Basic a2V5"},
     {"authorization": "Bearer key-of-shop more"}, {"authorization": "Bearer é".encode("latin-1")}],
)  # fmt: skip
async def test_every_route_but_the_public_ones_needs_a_key(edge: Running, given: dict[str, Any]) -> None:
    seen = set()
    async with httpx.AsyncClient(base_url=edge.url) as stranger:
        for method, path in routes(edge):
            answer = await stranger.request(method, address(path), headers=given, content=b"{")
            if path in PUBLIC:
                seen.add(path)
                assert answer.status_code == 200, path
            elif path in PEOPLE:
                seen.add(path)
                assert answer.status_code in {404, 422, 503}, path
            else:
                assert answer.headers["www-authenticate"] == 'Bearer realm="assent"'
                problem(answer, 401, "auth.invalid")
    assert seen == PUBLIC | PEOPLE


async def test_every_route_has_a_role_or_is_open_to_any_client(edge: Running) -> None:
    """A client without any role gets nowhere but to the two documents about the rules."""
    open_to_any = {"/v1/codes", "/v1/purposes"}
    for method, path in routes(edge):
        if path in PUBLIC | PEOPLE:
            continue
        answer = await edge.http.request(method, address(path), headers=edge.as_("carrier-http"), content=b"{}")
        if path in open_to_any:
            assert answer.status_code == 200
        elif path.startswith("/v1/carriers/"):
            assert answer.status_code == 422
        elif path.startswith("/v1/webhooks/"):  # a client's own dead letters, of which this one has none
            assert answer.status_code in {200, 404}
        else:
            problem(answer, 403, "client.forbidden")


async def test_a_carriers_key_is_for_that_carrier(edge: Running) -> None:
    answer = await edge.http.post("/v1/carriers/other/receipts", json={}, headers=edge.as_("carrier-http"))
    problem(answer, 403, "client.forbidden")


async def test_what_is_not_there(edge: Running) -> None:
    problem(await edge.http.get("/nowhere"), 404, "not_found")
    problem(await edge.http.get("/v1/nowhere"), 404, "not_found")
    problem(await edge.http.get("/v1/consents/"), 404, "not_found")
    problem(await edge.http.get("/docs/..%2fapp.py"), 404, "not_found")
    for path, allowed in (("/v1/messages", "GET, POST"), ("/v1/consents", "POST"), ("/v1/messages/batch", "GET, POST")):
        answer = await edge.http.delete(path)
        problem(answer, 405, "method.not_allowed")
        assert answer.headers["allow"] == allowed


async def test_readiness_asks_every_part(edge: Running) -> None:
    answer = await edge.http.get("/readyz")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()["parts"]) == {"cfg", "redis", "kafka", "postgresql"}
    await edge.gate.guard.server.command("CONFIG", "SET", "hash-max-listpack-value", "64")
    try:
        unready = await edge.http.get("/readyz")
        assert unready.status_code == 503
        assert "512" in unready.json()["parts"]["redis"]["problems"][0]
    finally:
        await edge.gate.guard.server.command("CONFIG", "SET", "hash-max-listpack-value", "512")


async def test_metrics_hold_no_number(edge: Running) -> None:
    secret = "+8613812345678"
    body = {"to": secret, "sender": "acme", "purpose": "transaction.shipping", "text": secret}
    problem(await edge.http.post("/v1/messages", json=body), 403, "relationship.missing")
    text = (await edge.http.get("/metrics")).text
    assert 'assent_admissions_total{cls="transactional",code="relationship.missing"}' in text
    assert secret[3:] not in text
    assert (await edge.http.post("/v1/messages", content=b"no")).status_code == 422
    assert 'assent_admissions_total{cls="none",code="request.invalid"}' in (await edge.http.get("/metrics")).text


async def test_the_documents_need_nobody_elses_host(edge: Running) -> None:
    page = await edge.http.get("/docs")
    found = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert found
    for link in found:
        assert not urlsplit(link).netloc
        assert (await edge.http.get(link)).status_code == 200


async def test_codes_are_the_closed_set(edge: Running) -> None:
    listed = (await edge.http.get("/v1/codes")).json()["codes"]
    assert [one["code"] for one in listed] == [code.value for code in Code]


async def test_purposes_say_what_is_enforced(edge: Running) -> None:
    document = (await edge.http.get("/v1/purposes")).json()
    assert {"marketing.promotion", "transaction.shipping"} <= {one["purpose"] for one in document["purposes"]}
    assert document["simulator_numbers"][0]["number"].startswith("+86")


@asynccontextmanager
async def silence(edge: Running) -> AsyncIterator[Cfg]:
    """No beat is seen any more, and none is remembered."""
    cfg = edge.gate.cfg
    registry, moved_at = cfg.registry, cfg._moved_at
    await cfg.close()
    cfg._moved_at = None
    try:
        yield cfg
    finally:
        cfg.registry, cfg._moved_at = registry, moved_at
        await cfg.start()


async def test_a_stale_registry_stops_sending_and_reading_but_not_leaving(edge: Running) -> None:
    async with silence(edge):
        body = {"to": "+8613800000000", "sender": "acme", "purpose": "transaction.shipping", "text": "hi"}
        answer = await edge.http.post("/v1/messages", json=body)
        assert int(answer.headers["retry-after"]) >= 1
        problem(answer, 503, "unavailable")
        problem(await edge.http.post("/v1/messages/batch", json={"messages": [body, body]}), 503, "unavailable")
        problem(await edge.http.post("/v1/messages/check", json=body), 503, "unavailable")
        problem(await edge.http.get("/v1/recipients/+8613800000000"), 503, "unavailable")
        left = await edge.http.post("/v1/recipients/+8613800000000/withdraw", json={"reason": "x"})
        assert left.status_code == 200
        assert (await edge.http.get("/readyz")).status_code == 503


async def test_without_a_registry_nobody_is_known(edge: Running) -> None:
    async with silence(edge) as cfg:
        cfg.registry = None
        for path in ("/v1/messages", "/v1/consents", "/v1/recipients/+8613800000000/withdraw"):
            problem(await edge.http.post(path, json={}), 503, "unavailable")


class _Faulty:
    """Stands in for a part, and does with every call what the test says."""

    def __init__(self, does: Any) -> None:
        self._does = does

    def __getattr__(self, name: str) -> Any:
        async def call(*_args: Any, **_more: Any) -> Any:
            return await self._does()

        return call


SECRET = "13812345678"


async def _raise() -> None:
    raise RuntimeError(SECRET)


async def _hang() -> None:
    await asyncio.sleep(60)


async def _refuse() -> None:
    raise ConnectionRefusedError(SECRET)


@pytest.mark.parametrize(
    ("does", "status", "code"), [(_raise, 500, "internal"), (_hang, 503, "unavailable"), (_refuse, 503, "unavailable")]
)
async def test_a_fault_behind_is_answered_in_time_and_without_its_words(
    edge: Running, capfd: pytest.CaptureFixture[str], does: Any, status: int, code: str
) -> None:
    real, loop = edge.gate.intake, asyncio.get_running_loop()
    reading = edge.gate.reading
    faulty = _Faulty(does)
    faulty.refused = real.refused
    object.__setattr__(edge.gate, "intake", faulty)
    object.__setattr__(edge.gate, "reading", _Faulty(does))
    start = loop.time()
    try:
        sent, looked = await asyncio.gather(
            edge.http.post("/v1/messages", json={"to": SECRET, "sender": "acme", "purpose": "a.b", "text": SECRET}),
            edge.http.get(f"/v1/recipients/{SECRET}"),
        )
    finally:
        object.__setattr__(edge.gate, "intake", real)
        object.__setattr__(edge.gate, "reading", reading)
    for answer in (sent, looked):
        problem(answer, status, code)
        assert SECRET not in answer.text
        assert status == 500 or answer.headers["retry-after"] == "1"
    assert loop.time() - start < 2
    told = "".join(capfd.readouterr())
    assert SECRET not in told
    assert (edge.gate.unanswered.messages, edge.gate.unanswered.bytes) == (0, 0)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/consents"])
async def test_a_slow_body_has_a_deadline(edge: Running, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.2)
    address = urlsplit(edge.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-of-shop\r\ncontent-length: 100\r\n\r\n{{"
    writer.write(head.encode())
    async with asyncio.timeout(2):
        status = await reader.readline()
        rest = await reader.readuntil(b"}")
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    assert status.split()[1] == b"408"
    assert json.loads(rest.rpartition(b"\r\n\r\n")[2])["code"] == "request.timeout"
    assert edge.gate.unanswered.bytes == 0


async def test_a_caller_that_leaves_half_way_leaves_nothing(edge: Running) -> None:
    address = urlsplit(edge.url)
    for path in ("/v1/messages", "/v1/consents"):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-of-shop\r\ncontent-length: 100\r\n\r\n{{"
        writer.write(head.encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        assert edge.gate.unanswered.bytes == 100
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(1):
            while edge.gate.unanswered.bytes:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


def test_the_bound_counts_bytes_before_they_are_read(edge: Running) -> None:
    bound = edge.gate.unanswered
    small = [bodies.SINGLE] * (bound.max_bytes // bodies.SINGLE)
    for size in small:
        bound.take(size)
    try:
        with pytest.raises(Refused) as refused:
            bound.take(1)
        assert refused.value.refusal == Refusal(Code.UNAVAILABLE, refused.value.refusal.detail, 1)
    finally:
        bound.give(sum(small), 0)


async def test_batches_leave_room_for_single_messages_and_opt_outs(edge: Running) -> None:
    bound = Unanswered()
    with suppress(Refused):
        while True:
            bound.count(MAX_BATCH)
    with suppress(Refused):
        while True:
            bound.take(bodies.BULK)
    bound.count(1)
    bound.take(bodies.SINGLE)
    full = edge.gate.unanswered
    full.messages += full.max_messages
    try:
        stop = await edge.http.post(f"/v1/recipients/{'0a' * 16}/withdraw", json={"reason": "asked"})
        assert stop.status_code == 200, stop.text
    finally:
        full.messages -= full.max_messages
