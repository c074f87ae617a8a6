"""The closed set of codes, and every relationship kind with every purpose, over HTTP against the real processes.

Each code has a real request that is answered with it; what only a fault can bring names the test that brings it. A code
or a pair that is not covered fails.
"""

import ast
import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
import redis
from gateway_rig import ROOT, Gateway, at, consent, gateway, number, shipping

from gateway.contract.codes import MEANINGS, Code
from gateway.contract.consent import Kind
from gateway.contract.registry import Client, Sender
from gateway.ledger.recovery import LANDING_S
from gateway.records import registry

pytestmark = pytest.mark.integration

PEPPER = bytes.fromhex("ab" * 32)
CLIENTS = (
    Client(id="narrow", senders=("acme",), purposes=("transaction",), roles=("send",)),
    Client(id="thrifty", senders=("acme",), roles=("send",), quota_per_minute=3),
)
SENDERS = (
    Sender(id="bolt", signature="Bolt", service_port="10690003", marketing_port="10690004"),
    Sender(id="mute", signature="Mute", service_port="10690007", marketing_port="10690008"),
    Sender(id="capped", signature="Capped", service_port="10690005", marketing_port="10690006", cap_per_day=3),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    async with gateway(
        tmp_path_factory.mktemp("contract"),
        ("ledger", "edge"),
        redis_url=redis_url,
        kafka=kafka_bootstrap,
        prefix=topic_prefix,
        database_url=database_url,
    ) as running:
        connection = await asyncpg.connect(database_url)
        for client in CLIENTS:
            digests = (registry.key_digest(PEPPER, f"key-of-{client.id}"),)
            await registry.put_client(connection, client.model_copy(update={"key_digests": digests}))
        for sender in SENDERS:
            await registry.put_sender(connection, sender)
            if sender.id == "mute":
                continue
            now = datetime.now(UTC)
            await registry.attest(connection, sender.id, sender.marketing_port, free=True, tested_at=now, by="us")
        await connection.close()
        await _known(running)
        yield running


async def _known(gate: Gateway) -> None:
    """The edge knows the clients and senders that were just added."""
    until = time.monotonic() + 10
    while (await gate.http.get("/v1/codes", headers=key("thrifty"))).status_code != 200:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


def key(client: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-of-{client}"}


# --- codes ---------------------------------------------------------------------------------------------------------

Produce = Callable[[Gateway], Awaitable[httpx.Response]]
BY_REQUEST: dict[Code, list[Produce]] = {}
BY_FAULT = {
    Code.INTERNAL: "tests/integration/test_edge_door.py::test_a_fault_behind_is_answered_in_time_and_without_its_words",
    Code.UNAVAILABLE: "tests/fault/test_parts_away.py::test_a_part_away_is_answered_in_time_and_nothing_is_lost",
    Code.CLEANSING_LATE: "tests/health/test_cleansing_edge.py::test_what_is_too_late_is_said",
}
"""Codes that no request brings while every part works and no day passes, with the test that brings them."""


def brings(code: Code) -> Callable[[Produce], Produce]:
    def keep(produce: Produce) -> Produce:
        BY_REQUEST.setdefault(code, []).append(produce)
        return produce

    return keep


def message(code: Code, *, prepared: Callable[[Gateway, str], Awaitable[None]] | None = None, **fields: Any) -> None:
    """A message to a person with an order (and what else is prepared) that is refused with the code."""

    async def produce(gate: Gateway) -> httpx.Response:
        to = await gate.customer()
        if prepared is not None:
            await prepared(gate, to)
        body = {name: value for name, value in (shipping(to) | fields).items() if value is not None}
        answer = await gate.post("/v1/messages", body)
        in_batch = await gate.post("/v1/messages/batch", {"messages": [body]})
        if answer.status_code != 503:  # a batch of which nothing could be decided is a 503 itself
            (item,) = in_batch.json()["results"]
            assert (item["status"], item["code"]) == ("refused", answer.json()["code"])
        if "to" in body and code not in UNCHECKED:
            traced = (await gate.post("/v1/messages/check", body)).json()
            assert (traced.get("status"), traced["code"]) in {("refused", code), (MEANINGS[code].status, code)}
        return answer

    BY_REQUEST.setdefault(code, []).append(produce)


UNCHECKED = {Code.QUIET_HOURS}
"""What `/v1/messages/check` answers in its own words."""


async def agrees(gate: Gateway, to: str) -> None:
    await gate.consents([to], ["marketing"])


async def agreed_and_left(gate: Gateway, to: str) -> None:
    await agrees(gate, to)
    await gate.ok(f"/v1/recipients/{to}/withdraw", {"sender": "acme", "topics": ["marketing"], "reason": "asked"})


async def complained(gate: Gateway, to: str) -> None:
    await gate.ok("/v1/suppressions", {"recipient": to, "reason": "complaint"})


async def wants_news_only(gate: Gateway, to: str) -> None:
    await gate.consents([to], ["marketing", "invite"])
    answer = await gate.http.put(
        f"/v1/recipients/{to}/preferences", json={"sender": "acme", "topics": ["invite.new_arrival"]}
    )
    assert answer.status_code == 200, answer.text


def other_hours() -> dict[str, str]:
    """Four of the pack's hours that begin in two hours or later, at any time of the day."""
    return {"start": "16:00", "end": "20:00"} if int(at(hours=8)[11:13]) < 14 else {"start": "08:00", "end": "12:00"}


async def wants_other_hours(gate: Gateway, to: str) -> None:
    await agrees(gate, to)
    answer = await gate.http.put(f"/v1/recipients/{to}/preferences", json={"sender": "acme", "hours": other_hours()})
    assert answer.status_code == 200, answer.text


async def has_had_this_text(gate: Gateway, to: str) -> None:
    await gate.send(shipping(to, "您的包裹已发货"))


promotion = {"purpose": "marketing.promotion", "text": "新品上市"}
message(Code.REQUEST_INVALID, colour="red")
message(Code.REQUEST_INVALID, text=None)
message(Code.REQUEST_INVALID, purpose="transaction.none_such")
message(Code.REQUEST_INVALID, expires_at="2026-01-01T00:00:00Z")
message(Code.REQUEST_INVALID, not_before="2099-01-01T00:00:00Z")
message(Code.REQUEST_INVALID, not_before=at(hours=2), expires_at=at(hours=1))
message(Code.REQUEST_INVALID, template="t")
message(Code.CLIENT_FORBIDDEN, sender="nobody")
message(Code.RECIPIENT_INVALID, to="+8612345")
message(Code.RECIPIENT_INVALID, to="12345678901")
message(Code.TEMPLATE_UNKNOWN, text=None, template="t-1", params={"a": "b"})
message(Code.PORT_USE, port="10690002")
message(Code.PORT_USE, port="10690001", **promotion)
message(Code.PORT_NO_REPLY_ROUTE, sender="mute", **promotion)
message(Code.CONTENT_SIGNATURE, text="【Other】您的订单已发货")
message(Code.CONTENT_BRACKETS, text="您的订单【A1】已发货")
message(Code.CONTENT_REFUSAL_TEXT, text="您的订单已发货,拒收请回复R")
message(Code.CONTENT_REFUSAL_TEXT, purpose="marketing.promotion", text="新品上市,拒收请回复R,欢迎选购")
message(Code.CONTENT_PROMOTIONAL, text="您的订单已发货,全场五折优惠")
message(Code.CONTENT_TOO_LONG, text="长" * 500)
message(Code.CONTENT_EMPTY, text="【Acme】 ")
message(Code.CONSENT_MISSING, **promotion)
message(Code.CONSENT_WITHDRAWN, prepared=agreed_and_left, **promotion)
message(Code.RELATIONSHIP_MISSING, purpose="billing.statement", text="您的账单已出")
message(Code.REQUEST_MISSING, purpose="verification.code", text="验证码 123456")
message(
    Code.REQUEST_MISSING,
    purpose="verification.code",
    text="验证码 123456",
    request={"ref": "r", "occurred_at": at(minutes=-11)},
)
message(Code.PREFERENCE_UNWANTED, prepared=wants_news_only, **promotion)
message(Code.SUPPRESSED, prepared=complained)
message(Code.WINDOW_EXCEEDED, prepared=has_had_this_text, text="您的包裹已发货")
message(Code.QUIET_HOURS, prepared=wants_other_hours, on_quiet="refuse", **promotion)


@brings(Code.MESSAGE_EXPIRED)
async def expires_before_it_may_go(gate: Gateway) -> httpx.Response:
    to = number()
    await wants_other_hours(gate, to)
    return await gate.post("/v1/messages", shipping(to, expires_at=at(minutes=1)) | promotion)


@brings(Code.REQUEST_INVALID)
async def no_json(gate: Gateway) -> httpx.Response:
    return await gate.http.post("/v1/messages", content=b'{"to": "\xff"')


@brings(Code.REQUEST_INVALID)
async def too_many(gate: Gateway) -> httpx.Response:
    return await gate.post("/v1/messages/batch", {"messages": [{}] * 1001})


@brings(Code.REQUEST_TOO_LARGE)
async def long_body(gate: Gateway) -> httpx.Response:
    return await gate.http.post("/v1/messages", content=b" " * (64 * 1024 + 1))


@brings(Code.REQUEST_TOO_LARGE)
async def ten_megabytes(gate: Gateway) -> httpx.Response:
    return await gate.http.post("/v1/messages/batch", content=b"[" * (10 << 20))


@brings(Code.AUTH_INVALID)
async def no_key(gate: Gateway) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gate.url, timeout=10) as anyone:
        return await anyone.post("/v1/messages", json=shipping(number()))


@brings(Code.AUTH_INVALID)
async def wrong_key(gate: Gateway) -> httpx.Response:
    return await gate.post("/v1/messages", shipping(number()), headers={"authorization": "Bearer demo-key2"})


@brings(Code.NOT_FOUND)
async def no_such_message(gate: Gateway) -> httpx.Response:
    return await gate.http.get("/v1/messages/01a20ba2-e26e-75f9-8041-c906038dc8e5")


@brings(Code.NOT_FOUND)
async def no_such_address(gate: Gateway) -> httpx.Response:
    return await gate.http.get("/v1/nothing")


@brings(Code.METHOD_NOT_ALLOWED)
async def patch(gate: Gateway) -> httpx.Response:
    return await gate.http.patch("/v1/messages", json={})


@brings(Code.CLIENT_FORBIDDEN)
async def not_its_purpose(gate: Gateway) -> httpx.Response:
    return await gate.post("/v1/messages", shipping(number()) | promotion, headers=key("narrow"))


@brings(Code.CLIENT_FORBIDDEN)
async def not_its_role(gate: Gateway) -> httpx.Response:
    return await gate.post("/v1/consents", consent(number(), ["marketing"]), headers=key("narrow"))


async def until_refused(gate: Gateway, sender: str, **more: Any) -> httpx.Response:
    """Three a period are let through, no more; which minute it is may change once on the way."""
    to = number()
    await gate.orders([to], sender=sender)
    for n in range(8):
        answer = await gate.post("/v1/messages", shipping(to) | {"sender": sender}, **more)
        if answer.status_code != 202:
            assert n in (range(3, 7) if more else {3}), n
            assert int(answer.headers["retry-after"]) >= 1
            return answer
    pytest.fail("nothing was refused")


@brings(Code.CLIENT_QUOTA)
async def used_up_quota(gate: Gateway) -> httpx.Response:
    return await until_refused(gate, "acme", headers=key("thrifty"))


@brings(Code.CLIENT_QUOTA)
async def senders_cap(gate: Gateway) -> httpx.Response:
    return await until_refused(gate, "capped")


@brings(Code.REQUEST_MISSING)
async def request_used_twice(gate: Gateway) -> httpx.Response:
    body = shipping(number(), "您的验证码为 482913") | {
        "purpose": "verification.code",
        "request": {"ref": "login-1", "occurred_at": at(seconds=-1)},
    }
    await gate.send(body)
    return await gate.post("/v1/messages", body)


@brings(Code.WINDOW_EXCEEDED)
async def two_codes_a_minute(gate: Gateway) -> httpx.Response:
    body = shipping(number(), "您的验证码为 482913") | {"purpose": "verification.code"}
    await gate.send(body | {"request": {"ref": "login-1", "occurred_at": at(seconds=-1)}})
    answer = await gate.post("/v1/messages", body | {"request": {"ref": "login-2", "occurred_at": at(seconds=-1)}})
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    return answer


@brings(Code.WINDOW_EXCEEDED)
async def eleven_notices(gate: Gateway) -> httpx.Response:
    to = await gate.customer()
    bodies = [shipping(to) for _ in range(11)]
    results = (await gate.ok("/v1/messages/batch", {"messages": bodies}))["results"]
    assert [row["status"] for row in results] == ["accepted"] * 10 + ["refused"]
    return await gate.post("/v1/messages", shipping(to))


@brings(Code.CONSENT_OPTED_OUT)
async def older_grant(gate: Gateway) -> httpx.Response:
    to = number()
    await agreed_and_left(gate, to)
    return await gate.post("/v1/consents", consent(to, ["marketing"], occurred_at=at(days=-1)))


@brings(Code.IDEMPOTENCY_CONFLICT)
async def another_body(gate: Gateway) -> httpx.Response:
    body = shipping(await gate.customer(), idempotency_key="one")
    await gate.send(body)
    return await gate.post("/v1/messages", body | {"client_ref": "another"})


@brings(Code.CASE_STATE)
async def closed_before_it_was_answered(gate: Gateway) -> httpx.Response:
    told = {"source": "own", "reporter": number(), "port": "10690001", "at": at(), "text": "不要再发了"}
    case = (await gate.ok("/v1/complaints", told))["id"]
    return await gate.post(f"/v1/complaints/{case}/close", {"by": "Li Lei", "outcome": "resolved"})


@brings(Code.CLEANSING_STATE)
async def undone_before_it_was_applied(gate: Gateway) -> httpx.Response:
    act = {"by": "Li Lei", "reason": "test"}
    job = (await gate.ok("/v1/cleansings", {"scope": "campaign:none", **act}))["id"]
    return await gate.post(f"/v1/cleansings/{job}/undo", act)


@brings(Code.BREAKER_OPEN)
async def stopped_campaign(gate: Gateway) -> httpx.Response:
    await gate.ok("/v1/breakers/campaign:spring/open", {"by": "Li Lei", "reason": "test"})
    body = shipping(await gate.customer(), campaign="spring")
    until = time.monotonic() + 5
    while (answer := await gate.post("/v1/messages", body)).status_code == 202:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)
        body = shipping(await gate.customer(), campaign="spring")
    return answer


EVIDENCE: list[dict[str, Any] | None] = [
    None,
    {},
    {"form_version": "f"},
    {"checkbox_checked": True},
    {"checkbox_checked": False, "form_version": "f"},
    {"checkbox_checked": True, "form_version": " "},
    {"checkbox_checked": True, "form_version": "f", "default_checked": True},
    *({"checkbox_checked": True, "form_version": "f", "method": m} for m in ("registration", "Silence", "purchase")),
]


def insufficient(evidence: dict[str, Any] | None) -> None:
    @brings(Code.EVIDENCE_INSUFFICIENT)
    async def grant(gate: Gateway) -> httpx.Response:
        return await gate.post("/v1/consents", consent(number(), ["marketing"], evidence=evidence))


for _one in EVIDENCE:
    insufficient(_one)


@brings(Code.REQUEST_TIMEOUT)
async def unfinished_body(gate: Gateway) -> httpx.Response:
    """Ten seconds without the rest of a body; written by hand, for a client library would not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-key\r\nContent-Length: 9\r\n\r\n{"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 13)
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    content = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return httpx.Response(int(lines[0].split()[1]), headers=headers, content=content)


@brings(Code.CACHE_COLD)
async def flushed_cache(gate: Gateway) -> httpx.Response:
    """Everything in Redis is gone: nothing is sent until the projection has filled it again, and then it is."""
    to = await gate.customer()
    url = gate.env["ASSENT_REDIS_URL"]
    with redis.Redis.from_url(url) as server:
        server.flushdb()
    refused = await gate.post("/v1/messages", shipping(to))
    until = time.monotonic() + LANDING_S + 20
    while (answer := await gate.post("/v1/messages", shipping(to))).status_code == 503:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)
    assert answer.status_code == 202, answer.text
    return refused


SLOW = {Code.REQUEST_TIMEOUT}
LAST = {Code.CACHE_COLD}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def slow(gate: Gateway) -> AsyncIterator[dict[Code, "asyncio.Task[httpx.Response]"]]:
    """What takes seconds runs beside the other tests."""
    tasks = {code: asyncio.create_task(BY_REQUEST[code][0](gate)) for code in SLOW}  # type: ignore[arg-type]
    yield tasks
    await asyncio.gather(*tasks.values(), return_exceptions=True)


# --- pairs: before the codes, whose last one empties the cache -------------------------------------------------------

ORDER, BOOKING, SERVICE, MEMBERSHIP, ACCOUNT = Kind.ORDER, Kind.BOOKING, Kind.SERVICE, Kind.MEMBERSHIP, Kind.ACCOUNT
PERMITS: dict[str, tuple[Kind, ...] | Code] = {
    "verification.code": Code.REQUEST_MISSING,
    "account.security": (ACCOUNT,),
    "transaction.order": (ORDER,),
    "transaction.shipping": (ORDER,),
    "transaction.delivery": (ORDER,),
    "transaction.signed": (ORDER,),
    "transaction.refund": (ORDER,),
    "transaction.after_sales": (ORDER,),
    "transaction.appointment": (BOOKING,),
    "transaction.recall": (ORDER,),
    "billing.statement": (SERVICE,),
    "service.notice": (SERVICE,),
    "membership.points": (MEMBERSHIP,),
    "membership.tier": (MEMBERSHIP,),
    "membership.points_expiry": Code.CONSENT_MISSING,
    "membership.birthday": Code.CONSENT_MISSING,
    "membership.member_day": Code.CONSENT_MISSING,
    "invite.restock": Code.CONSENT_MISSING,
    "invite.new_arrival": Code.CONSENT_MISSING,
    "invite.limited": Code.CONSENT_MISSING,
    "invite.restock_requested": Code.REQUEST_MISSING,
    "marketing.promotion": Code.CONSENT_MISSING,
    "marketing.survey": Code.CONSENT_MISSING,
    "consent.confirm": Code.REQUEST_MISSING,
    "consent.preferences": (ORDER, BOOKING, SERVICE, MEMBERSHIP),
    "consent.opt_out_ack": Code.REQUEST_MISSING,
    "consent.help": Code.REQUEST_MISSING,
}
"""The kinds that permit a purpose, or the code with which every kind alone is refused."""
QUIET = {
    "transaction.after_sales",
    "billing.statement",
    "service.notice",
    "invite.restock_requested",
    "consent.preferences",
    *(name for name, row in PERMITS.items() if row is Code.CONSENT_MISSING),
    "membership.points",
    "membership.tier",
}
PAIRS = list(itertools.product(Kind, PERMITS))


async def examples(gate: Gateway) -> dict[str, dict[str, Any]]:
    document = (await gate.http.get("/v1/purposes")).json()
    return {row["purpose"]: row for row in document["purposes"]}


async def test_every_purpose_of_the_pack_is_in_the_table(gate: Gateway) -> None:
    listed = await examples(gate)
    assert set(listed) == set(PERMITS)
    assert {name for name, row in listed.items() if row["hours"] is not None} == QUIET
    assert {row["kind"] for row in (await gate.http.get("/v1/purposes")).json()["relationships"]} == set(Kind)


def quiet_now() -> bool:
    return not 8 <= int(at(hours=8)[11:13]) < 20


async def test_every_kind_with_every_purpose(gate: Gateway) -> None:
    """A person with one relationship of one kind, and nothing else, for each pair."""
    listed = await examples(gate)
    people = {pair: number() for pair in PAIRS}
    for kind in Kind:
        await gate.orders([to for (one, _), to in people.items() if one is kind], kind=kind)
    wrong = []
    for (kind, purpose), to in people.items():
        body = {"to": to, "sender": "acme", "purpose": purpose, "text": listed[purpose]["example"]}
        quiet_before = quiet_now()
        answer = await gate.post("/v1/messages", body)
        document = answer.json()
        permits = PERMITS[purpose]
        if isinstance(permits, Code) or kind not in permits:
            code = permits if isinstance(permits, Code) else Code.RELATIONSHIP_MISSING
            right = answer.status_code == 403 and document["code"] == code
        else:
            held = purpose in QUIET and (quiet_before or quiet_now())
            right = answer.status_code == 202 and document["decision"]["basis"] == "relationship"
            right = right and document["status"] in ({"held", "accepted"} if held else {"accepted"})
        if not right:
            wrong.append((kind.value, purpose, answer.status_code, document.get("code")))
    assert not wrong
    assert len(people) == len(Kind) * len(PERMITS)


async def test_a_relationship_with_another_sender_permits_nothing(gate: Gateway) -> None:
    listed = await examples(gate)
    for kind in Kind:
        to = number()
        await gate.orders([to], kind=kind, sender="bolt")
        purposes = [name for name, row in PERMITS.items() if not isinstance(row, Code) and kind in row]
        bodies = [{"to": to, "sender": "acme", "purpose": p, "text": listed[p]["example"]} for p in purposes]
        results = (await gate.ok("/v1/messages/batch", {"messages": bodies}))["results"]
        assert {row["code"] for row in results} == {"relationship.missing"}


async def test_what_no_relationship_permits_its_own_basis_does(gate: Gateway) -> None:
    listed = await examples(gate)
    for purpose, permits in PERMITS.items():
        if not isinstance(permits, Code):
            continue
        to = number()
        body = {"to": to, "sender": "acme", "purpose": purpose, "text": listed[purpose]["example"]}
        if permits is Code.CONSENT_MISSING:
            await gate.consents([to], [purpose])
        elif purpose == "consent.opt_out_ack":
            await agreed_and_left(gate, to)
        body["request"] = {"ref": "r-1", "occurred_at": at(seconds=-1)}
        answer = await gate.post("/v1/messages", body)
        assert answer.status_code == 202, (purpose, answer.text)
        basis = answer.json()["decision"]["basis"]
        assert basis == ("consent" if permits is Code.CONSENT_MISSING else listed[purpose]["basis"])


def test_every_code_is_brought_about() -> None:
    assert set(BY_REQUEST) | set(BY_FAULT) == set(Code)
    assert not set(BY_REQUEST) & set(BY_FAULT)


@pytest.mark.parametrize("code", [*(code for code in Code if code not in LAST), *LAST], ids=str)
async def test_code(gate: Gateway, slow: dict[Code, "asyncio.Task[httpx.Response]"], code: Code) -> None:
    if code in BY_FAULT:
        file, _, name = BY_FAULT[code].partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert name in {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        return
    for produce in BY_REQUEST[code]:
        answer = await (slow[code] if code in slow else produce(gate))
        assert answer.status_code == MEANINGS[code].status, (produce.__name__, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        document = answer.json()
        assert document["code"] == code, (produce.__name__, document)
        assert document["type"] == f"urn:assent:problem:{code}"
        assert document["title"] == MEANINGS[code].title
        assert document["trace"] == answer.headers["trace-id"]
        if answer.status_code in {429, 503}:
            assert int(answer.headers["retry-after"]) == document["retry_after"] >= 1
        assert not {"+86139", "已发货"} & set(answer.text.split('"'))


async def test_the_codes_are_listed_for_callers(gate: Gateway) -> None:
    listed = (await gate.http.get("/v1/codes")).json()["codes"]
    assert [row["code"] for row in listed] == list(Code)
