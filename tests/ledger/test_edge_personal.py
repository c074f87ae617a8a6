"""A person's rights over HTTP: the whole file, restriction and erasure, the certificate, and their readable forms."""

import html
import json
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from edge_app import Running, running

from gateway.contract.decision import Status
from gateway.ledger.certificate import holds
from gateway.ledger.events import canonical
from gateway.records import timeline

pytestmark = pytest.mark.integration
_numbers = iter(range(10_000_000, 99_999_999))
EVIDENCE = {
    "checkbox_checked": True,
    "form_version": "f-3",
    "ip": "192.0.2.1",
    "note": "<script>alert('13912345678')</script>",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        yield served


def number() -> str:
    return f"+86136{next(_numbers)}"


def at(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


async def grant(edge: Running, to: str, sender: str = "acme", client: str = "head", **more: Any) -> httpx.Response:
    body = {
        "recipient": to,
        "sender": sender,
        "topics": ["marketing"],
        "action": "grant",
        "channel": "web",
        "occurred_at": at(),
        "evidence": EVIDENCE | {"phone": to, "mobile": to[3:]},
        **more,
    }
    return await edge.http.post("/v1/consents", json=body, headers=edge.as_(client))


async def promote(edge: Running, to: str) -> httpx.Response:
    body = {"to": to, "sender": "acme", "purpose": "marketing.promotion", "text": f"新品 {uuid.uuid4()}"}
    return await edge.http.post("/v1/messages", json=body)


async def message(edge: Running, subject: str, sender: str, at_ms: int) -> str:
    """A delivered message, as settle leaves its row; its id."""
    origin = await edge.gate.pool.fetchval(
        "INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis) "
        "VALUES ($1, 'x', $2, 'marketing.promotion', 'marketing', '10690002', 'cn@2026.11', 'consent') RETURNING id",
        uuid.uuid4().bytes,
        sender,
    )
    steps = [timeline.Entry(at_ms, Status.QUEUED), timeline.Entry(at_ms + 1, Status.SENT)]
    name = uuid.uuid4()
    await edge.gate.pool.execute(
        "INSERT INTO messages (id, subject, origin, rank, status, timeline, accepted_at) VALUES ($1,$2,$3,1,$4,$5,$6)",
        name,
        bytes.fromhex(subject),
        origin,
        timeline.STATUS_NUMBERS[Status.SENT],
        timeline.encode(steps),
        at_ms,
    )
    return str(name)


async def reply(edge: Running, subject: str, port: str, at_ms: int) -> None:
    await edge.gate.pool.execute(
        "INSERT INTO replies VALUES ('c', $1, $2, $3, 'other', NULL, $4, $4)",
        str(uuid.uuid4()),
        bytes.fromhex(subject),
        port,
        at_ms,
    )


def path(of: str) -> str:
    return f"/v1/recipients/{of}/personal-data"


def raw_numbers(page: str, to: str) -> list[str]:
    return re.findall(rf"{to[3:]}|13912345678", page)


async def test_erased_at_once_where_no_law_keeps_anything(edge: Running) -> None:
    to = number()
    body = {"recipient": to, "scope": "all", "reason": "manual"}
    assert (await edge.http.post("/v1/suppressions", json=body)).status_code == 201
    erased = await edge.http.delete(path(to))
    assert erased.status_code == 200, erased.text
    answer = erased.json()
    assert (answer["status"], answer["certificate"]["status"]) == ("recorded", "erased")
    assert answer["certificate"]["erasure_due"] is None
    seen = (await edge.http.get(f"/v1/recipients/{to}")).json()
    assert [one["kind"] for one in seen["history"]] == ["erasure", "access"]
    assert [one["reason"] for one in seen["suppressions"]] == ["manual"]
    assert "restricted" not in seen
    assert (await edge.http.delete(path(number()))).status_code == 404
    assert (await edge.http.get(path(number()))).status_code == 404


async def test_restricted_while_a_law_keeps_the_record(edge: Running) -> None:
    to = number()
    subject = (await grant(edge, to)).json()["subject"]
    assert (await promote(edge, to)).status_code == 202
    asked = await edge.http.delete(path(to), headers={"Idempotency-Key": "k-1"})
    assert asked.status_code == 200, asked.text
    answer = asked.json()
    assert answer["certificate"]["status"] == "restricted"
    assert [one["what"] for one in answer["certificate"]["kept"]] == ["consent_records", "refusals"]
    refused = await promote(edge, to)
    assert (refused.status_code, refused.json()["code"]) == (403, "consent.missing")
    old = await grant(edge, to, occurred_at=at(days=-1))
    assert (old.status_code, old.json()["code"]) == (409, "consent.opted_out")
    seen = (await edge.http.get(f"/v1/recipients/{to}")).json()
    assert seen["consents"] == {}
    kept = seen["restricted"]["kept"]
    assert kept[0]["law"].startswith("MIIT Order 31")
    assert "第31号" in kept[0]["law_zh"]
    assert kept[0]["until"] == seen["restricted"]["until"] == answer["certificate"]["erasure_due"]
    assert [(one["kind"], "data" in one, "event_id" in one) for one in seen["history"]] == [
        ("grant", False, False),
        ("restriction", False, False),
        ("access", True, True),
    ]
    again = (await edge.http.delete(path(subject))).json()
    assert (again["seq"], again["duplicate"], again["certificate"]) == (answer["seq"], True, answer["certificate"])


async def test_the_file_of_a_restricted_person_holds_no_content(edge: Running) -> None:
    to = number()
    subject = (await grant(edge, to)).json()["subject"]
    now = int(datetime.now(UTC).timestamp() * 1000)
    await message(edge, subject, "acme", now)
    await reply(edge, subject, "10690002", now)
    await edge.http.delete(path(to))
    file = (await edge.http.get(path(to))).json()
    assert {one["what"] for one in file["person"]["restricted"]["kept"]} == {
        "consent_records",
        "send_records",
        "refusals",
    }
    assert [(one["kind"], "data" in one) for one in file["events"]][:2] == [("grant", False), ("restriction", False)]
    assert (file["messages"], file["replies"]) == ([], [])
    page = (await edge.http.get(path(to), params={"format": "html"})).text
    assert "仅作存储" in page
    assert "192.0.2.1" not in page


async def test_the_certificate_is_verified_by_its_key_and_by_no_other_byte(edge: Running) -> None:
    to = number()
    await grant(edge, to)
    answer = (await edge.http.delete(path(to))).json()
    stated, signature, key = answer["certificate"], bytes.fromhex(answer["signature"]), bytes.fromhex(answer["key"])
    assert key == edge.gate.appender.keys.record_verify_key()
    signed = canonical(stated)
    Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    assert holds(stated, answer["signature"], answer["key"])
    for n in range(0, len(signature), 7):
        flipped = bytearray(signature)
        flipped[n] ^= 1
        assert not holds(stated, flipped.hex(), answer["key"])
    later = {**stated, "erasure_due": "2026-01-01T00:00:00Z"}
    assert not holds(later, answer["signature"], answer["key"])
    assert (stated["subject"], stated["seq"], stated["event_id"]) == (
        answer["subject"],
        answer["seq"],
        answer["event_id"],
    )


async def test_the_file_holds_what_was_recorded_and_nothing_of_another_clients_sender(edge: Running) -> None:
    to = number()
    subject = (await grant(edge, to)).json()["subject"]
    await grant(edge, to, "bolt")
    now = int(datetime.now(UTC).timestamp() * 1000)
    own, theirs = [await message(edge, subject, sender, now) for sender in ("acme", "bolt")]
    await reply(edge, subject, "10690002", now)
    await reply(edge, subject, "1069000407", now)
    await reply(edge, subject, "95555", now)
    file = (await edge.http.get(path(to))).json()
    assert list(file["person"]["consents"]) == ["acme/marketing"]
    assert file["person"]["number"] == f"{to[:4]}{'*' * 8}{to[-2:]}"
    granted = file["events"][0]
    assert (granted["kind"], granted["state"], granted["data"]["evidence"]["ip"]) == ("grant", "Given", "192.0.2.1")
    assert granted["receipt"]["party_identification"] == {"party_name": "Acme", "entity_id": "acme"}
    assert granted["receipt"]["pii_processing"]["withdrawal_method"] == "拒收请回复R"
    assert [one["id"] for one in file["messages"]] == [own]
    assert (file["messages"][0]["purpose"], file["messages"][0]["port"]) == ("marketing.promotion", "10690002")
    assert [one["port"] for one in file["replies"]] == ["10690002"]
    assert "bolt" not in str(file)
    assert [one["what"] for one in file["retention"]] == ["consent_records", "send_records", "refusals"]
    other = (await edge.http.get(path(to), headers=edge.as_("other"))).json()
    assert [one["id"] for one in other["messages"]] == [theirs]
    assert [one["port"] for one in other["replies"]] == ["1069000407"]
    whole = (await edge.http.get(path(subject), headers=edge.as_("head"))).json()
    assert {one["id"] for one in whole["messages"]} == {own, theirs}
    assert len(whole["replies"]) == 3
    looks = [one["data"] for one in whole["events"] if one["kind"] == "access"]
    assert [(look["by"], "messages" in look["seen"]) for look in looks] == [("shop", True), ("other", True)]


@pytest.mark.parametrize("client", ["reads", "sends"])
async def test_the_file_and_the_erasure_are_the_operators(edge: Running, client: str) -> None:
    to = number()
    await grant(edge, to)
    for method in ("GET", "DELETE"):
        answer = await edge.http.request(method, path(to), headers=edge.as_(client))
        assert (answer.status_code, answer.json()["code"]) == (403, "client.forbidden")


async def test_the_pages_are_readable_and_hold_no_number(edge: Running) -> None:
    to = number()
    await grant(edge, to)
    pages = [
        await edge.http.get(path(to), params={"format": "html"}),
        await edge.http.delete(path(to), params={"format": "html"}),
    ]
    for page, words in zip(
        pages, (("个人信息副本", "A copy of personal data"), ("删除证明", "Certificate")), strict=True
    ):
        assert page.status_code == 200, page.text
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        assert all(word in page.text for word in (*words, "MIIT Order 31", "第31号"))
        assert raw_numbers(page.text, to) == []
        assert "<script" not in page.text
    assert "192.0.2.1" in pages[0].text
    assert f"{to[:4]}{'*' * 8}{to[-2:]}" in pages[0].text
    assert "&lt;script&gt;" in pages[0].text
    told = dict(
        zip(
            ("signed", "signature", "key"),
            re.findall(r"<td><code>([^<]*)</code></td>", pages[1].text)[-3:],
            strict=True,
        )
    )
    assert holds(json.loads(html.unescape(told["signed"])), told["signature"], told["key"])
    wrong = await edge.http.get(path(to), params={"format": "pdf"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "request.invalid")


async def test_who_comes_back_is_seen_again_and_what_was_restricted_is_not(edge: Running) -> None:
    to = number()
    await grant(edge, to)
    await edge.http.delete(path(to))
    order = {"recipient": to, "sender": "acme", "kind": "order", "ref": "1", "occurred_at": at(seconds=0.5)}
    assert (await edge.http.post("/v1/relationships", json=order)).status_code == 201
    seen = (await edge.http.get(f"/v1/recipients/{to}")).json()
    assert "restricted" not in seen
    assert list(seen["relationships"]) == ["acme/order"]
    assert [(one["kind"], "data" in one) for one in seen["history"]] == [
        ("grant", False),
        ("restriction", False),
        ("relationship", True),
        ("access", True),
    ]
    again = (await edge.http.delete(path(to))).json()
    assert (again["duplicate"], again["certificate"]["status"]) == (False, "restricted")
