"""Two records make a grant, and nothing less: over HTTP by code, through settle by Y, and what neither may tell."""

import asyncio
import hashlib
import re
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import httpx
import orjson
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from edge_app import Running, running, settling
from opt_in_form import ARRIVALS, TOPIC, Browser, Codes, codes, draft, hidden, number, opt_in_of

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.form import Form, shown
from gateway.contract.ids import subject_of
from gateway.contract.wire import Reply
from gateway.guard import GuardUnavailable
from gateway.ledger.appender import LedgerUnavailable
from gateway.ledger.events import canonical
from gateway.records import forms
from gateway.settle.tending import Tending
from gateway.stream import encode

pytestmark = pytest.mark.integration
DAY_MS = 86_400_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def edge(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> AsyncIterator[Running]:
    async with running(redis_url, kafka_bootstrap, topic_prefix, database_url) as served:
        served.app.door.gate = replace(served.gate, trusted_proxies=(ip_network("127.0.0.0/8"),))
        added = await served.http.post("/v1/forms", json=draft())
        assert added.status_code == 201, added.text
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def sent(edge: Running, kafka_bootstrap: str) -> AsyncIterator[Codes]:
    async with codes(edge, kafka_bootstrap) as read:
        yield read


async def replied(edge: Running, person: str, text: str, port: str = "10690001", **more: Any) -> str:
    """A reply that settle has read; what it meant."""
    gate, name = edge.gate, uuid.uuid4().hex
    subject, now = subject_of(gate.pepper, person), time.time_ns() // 1_000_000
    fields = {"carrier": "sim", "reply_id": name, "sender_number": person, "subject": subject.hex(), "port": port}
    reply = Reply(text=text, at=now, **{**fields, "received_at": now, **more})
    assert None not in await gate.producer.publish(gate.topics.replies, [(subject, encode(reply))])
    async with asyncio.timeout(15):
        while True:
            meaning = await gate.pool.fetchval("SELECT meaning FROM replies WHERE reply_id = $1", name)
            if meaning is not None:
                return str(meaning)
            await asyncio.sleep(0.03)


async def promote(edge: Running, person: str, purpose: str = TOPIC) -> tuple[int, str | None]:
    body = {"to": person, "sender": "acme", "purpose": purpose, "text": f"新品 {uuid.uuid4()}"}
    answer = await edge.http.post("/v1/messages", json=body)
    return answer.status_code, answer.json().get("code")


async def withdraw(edge: Running, person: str, **scope: Any) -> None:
    left = await edge.http.post(f"/v1/recipients/{person}/withdraw", json={"reason": "asked", **scope})
    assert left.status_code == 200


async def grants(edge: Running, person: str) -> list[dict[str, Any]]:
    history = await edge.gate.reading.history(subject_of(edge.gate.pepper, person))
    return [row["data"] for row in history if row["kind"] == "grant"]


def declared(person: str, **evidence: Any) -> dict[str, Any]:
    told = {"checkbox_checked": True, "form_version": "f-3", **evidence}
    now = datetime.now(UTC).isoformat()
    return {"recipient": person, "sender": "acme", "topics": [TOPIC], "action": "grant", "channel": "web",
            "occurred_at": now, "evidence": told}  # fmt: skip


# --- by code ---------------------------------------------------------------------------------------------------------


async def test_both_records_make_one_grant_that_permits_what_was_ticked(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    opt_in = opt_in_of(await browser.start(person))
    assert await promote(edge, person) == (403, "consent.missing")
    message = await sent.to(person)
    assert message["client"] == "assent"
    assert message["purpose"] == "consent.confirm"
    for told in ("【Acme】", "优惠信息", "每周至多1条", "回复Y"):
        assert told in message["text"]
    done = await browser.confirm(opt_in, await sent.code(person))
    assert done.status_code == 200
    assert 'data-step="done"' in done.text
    assert (await promote(edge, person))[0] == 202
    assert await promote(edge, person, ARRIVALS) == (403, "consent.missing")
    (grant,) = await grants(edge, person)
    assert grant["topics"] == [TOPIC]
    assert grant["max_per_week"] == 1
    assert grant["valid_until"] > time.time() + 364 * 86_400
    again = await browser.confirm(opt_in, await sent.code(person))
    assert again.text == done.text
    assert len(await grants(edge, person)) == 1


async def test_the_evidence_is_whole_and_signed(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge, **{"user-agent": "Mozilla/5.0 (test)"})
    opt_in = opt_in_of(await browser.start(person, TOPIC, ARRIVALS))
    await browser.confirm(opt_in, await sent.code(person))
    (grant,) = await grants(edge, person)
    evidence = grant["evidence"]
    assert evidence["weight"] == "two_records"
    assert grant["max_per_week"] == 1
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(evidence["key"]))
    for name in ("first", "second"):
        key.verify(bytes.fromhex(evidence[name]["signature"]), canonical(evidence[name]["record"]))
    first, second = evidence["first"]["record"], evidence["second"]["record"]
    assert second["first_sha256"] == hashlib.sha256(canonical(first)).hexdigest()
    assert (first["event_state"], second["event_state"]) == ("Requested", "Given")
    async with edge.gate.pool.acquire() as conn:
        form = await forms.form(conn, "acme", first["proof"]["notice"]["version"])
    assert form is not None
    assert first["proof"]["notice"]["sha256"] == shown(form, "zh").sha256
    assert first["proof"]["where"]["ip"] == browser.ip
    assert first["proof"]["where"]["user_agent"] == "Mozilla/5.0 (test)"
    assert first["proof"]["where"]["url"] == f"{edge.url}/c/acme"
    assert first["proof"]["events_recorded"] is False
    assert first["proof"]["boxes"] == [
        {"topic": ARRIVALS, "default": False, "final": True},
        {"topic": TOPIC, "default": False, "final": True},
    ]
    assert second["proof"]["method"] == "code"
    assert second["proof"]["confirmation_message"] == (await sent.to(person))["id"]
    assert person not in orjson.dumps([first, second]).decode()


async def test_five_wrong_codes_and_no_more(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    opt_in = opt_in_of(await browser.start(person))
    code = await sent.code(person)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    answers = [await browser.confirm(opt_in, wrong) for _ in range(5)]
    answers += [await browser.confirm(opt_in, code), await browser.confirm("0" * 32, code)]
    assert {answer.status_code for answer in answers} == {422}
    assert len({answer.text.replace("0" * 32, opt_in) for answer in answers}) == 1
    assert await grants(edge, person) == []


async def test_a_code_that_is_over_grants_nothing(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    opt_in = opt_in_of(await browser.start(person))
    code = await sent.code(person)
    await edge.gate.pool.execute(
        "UPDATE opt_ins SET code_until = $2 WHERE id = $1", opt_in, time.time_ns() // 1_000_000
    )
    assert (await browser.confirm(opt_in, code)).status_code == 422
    assert await grants(edge, person) == []


async def test_a_code_typed_wide_or_spaced_is_the_code(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    opt_in = opt_in_of(await browser.start(person))
    code = await sent.code(person)
    wide = "".join(chr(ord(digit) + 0xFEE0) for digit in code)
    assert (await browser.confirm(opt_in, f" {wide[:3]} {wide[3:]} ")).status_code == 200


async def test_who_opted_out_comes_back_by_two_records_only(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    await withdraw(edge, person, sender="acme")
    refused = await edge.http.post("/v1/consents", json=declared(person, weight="two_records"))
    assert (refused.status_code, refused.json()["code"]) == (409, "consent.opted_out")
    opt_in = opt_in_of(await browser.start(person))
    assert (await browser.confirm(opt_in, await sent.code(person))).status_code == 200
    assert (await promote(edge, person))[0] == 202
    await withdraw(edge, person, sender="acme", topics=["marketing"])
    assert await promote(edge, person) == (403, "consent.withdrawn")
    assert (await browser.confirm(opt_in, await sent.code(person))).status_code == 200
    assert await promote(edge, person) == (403, "consent.withdrawn")


async def test_a_refusal_of_everybody_is_not_lifted_and_said_to_its_owner_only(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    head = edge.as_("head")
    await edge.http.post(f"/v1/recipients/{person}/withdraw", json={"reason": "all"}, headers=head)
    opt_in = opt_in_of(await browser.start(person))
    answer = await browser.confirm(opt_in, await sent.code(person))
    assert answer.status_code == 409
    assert 'data-step="refused"' in answer.text
    assert (await promote(edge, person))[0] == 403


async def test_erasure_ends_what_waits(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    await edge.http.post("/v1/consents", json=declared(person))
    opt_in = opt_in_of(await browser.start(person))
    code = await sent.code(person)
    erased = await edge.http.delete(f"/v1/recipients/{person}/personal-data")
    assert erased.status_code == 200, erased.text
    assert await edge.gate.pool.fetchval("SELECT count(*) FROM opt_ins WHERE id = $1", opt_in) == 0
    assert (await browser.confirm(opt_in, code)).status_code == 422


async def test_what_nobody_confirms_is_deleted(edge: Running) -> None:
    person = number()
    opt_in = opt_in_of(await Browser(edge).start(person))
    row = await edge.gate.pool.fetchrow("SELECT * FROM opt_ins WHERE id = $1", opt_in)
    assert person.encode() not in row["sealed"]
    now = time.time_ns() // 1_000_000
    await Tending(edge.gate.pool, 183, lambda: now + DAY_MS - 60_000).tend()
    assert await edge.gate.pool.fetchval("SELECT count(*) FROM opt_ins WHERE id = $1", opt_in) == 1
    await Tending(edge.gate.pool, 183, lambda: now + DAY_MS).tend()
    assert await edge.gate.pool.fetchval("SELECT count(*) FROM opt_ins WHERE id = $1", opt_in) == 0


async def test_json_does_the_same(edge: Running, sent: Codes) -> None:
    person, browser = number(), Browser(edge)
    fields = hidden((await browser.get(lang="en")).text)
    given = {
        "number": person,
        "topics": [TOPIC],
        "version": int(fields["version"]),
        "sha256": fields["sha256"],
        "lang": "en",
    }
    acts = [{"topic": TOPIC, "ticked": True, "by": "mouse", "trusted": True, "at": 5}]
    async with httpx.AsyncClient(base_url=edge.url, headers=browser.headers) as http:
        scripted = await http.post("/c/acme", json=given | {"acts": [acts[0] | {"trusted": False}]})
        assert (scripted.status_code, scripted.json()["code"]) == (422, "request.invalid")
        started = await http.post("/c/acme", json=given | {"acts": acts})
        assert started.json()["status"] == "pending"
        assert "reply Y" in (await sent.to(person))["text"]
        ask = {"opt_in": started.json()["opt_in"], "code": "0"}
        assert (await http.post("/c/acme/confirm", json=ask)).status_code == 422
        done = await http.post("/c/acme/confirm", json=ask | {"code": await sent.code(person)})
        assert done.json() == {"status": "granted"}
    (grant,) = await grants(edge, person)
    assert grant["evidence"]["first"]["record"]["proof"]["events"] == acts
    assert grant["evidence"]["first"]["record"]["proof"]["notice"]["language"] == "en"


# --- by reply --------------------------------------------------------------------------------------------------------


async def test_a_y_grants_what_waits_and_nothing_else_does(edge: Running, sent: Codes, kafka_bootstrap: str) -> None:
    person, stranger, browser = number(), number(), Browser(edge)
    async with settling(edge, kafka_bootstrap):
        assert await replied(edge, stranger, "Y") == "other"
        assert await grants(edge, stranger) == []
        opt_in = opt_in_of(await browser.start(person))
        assert await replied(edge, person, "Yes please") == "other"
        assert await replied(edge, person, "Y", port="10690003") == "other"
        early = time.time_ns() // 1_000_000 - 60_000
        assert await replied(edge, person, "Y", received_at=early) == "other"
        late = time.time_ns() // 1_000_000 + DAY_MS
        assert await replied(edge, person, "Y", received_at=late) == "other"
        assert await grants(edge, person) == []
        assert await replied(edge, person, " ｙ。") == "affirmation"
        assert (await promote(edge, person))[0] == 202
        assert await replied(edge, person, "Y") == "other"
        assert (await browser.confirm(opt_in, await sent.code(person))).status_code == 200
    (grant,) = await grants(edge, person)
    second = grant["evidence"]["second"]["record"]["proof"]
    assert (second["method"], second["reply"]["text"], second["reply"]["port"]) == ("reply", " ｙ。", "10690001")
    assert grant["evidence"]["weight"] == "two_records"


async def test_a_refusal_of_the_question_ends_it(edge: Running, sent: Codes, kafka_bootstrap: str) -> None:
    person, browser = number(), Browser(edge)
    async with settling(edge, kafka_bootstrap):
        opt_in = opt_in_of(await browser.start(person))
        message = (await sent.to(person))["id"]
        async with asyncio.timeout(10):
            while not await edge.gate.pool.fetchval(  # noqa: ASYNC110 - settle writes it
                "SELECT count(*) FROM messages WHERE id = $1", message
            ):
                await asyncio.sleep(0.03)
        assert await replied(edge, person, "R") == "refusal"
        assert await replied(edge, person, "Y") == "other"
        assert (await browser.confirm(opt_in, await sent.code(person))).status_code == 422
    state = await edge.gate.reading.state(subject_of(edge.gate.pepper, person))
    assert state is not None
    assert set(state.suppressions) == {"acme#marketing"}


# --- what no answer tells --------------------------------------------------------------------------------------------


async def test_every_number_is_answered_alike(edge: Running, sent: Codes) -> None:
    unknown, known, opted_out, suppressed, asked = (number() for _ in range(5))
    assert (await edge.http.post("/v1/consents", json=declared(known))).status_code == 201
    await withdraw(edge, opted_out, sender="acme")
    stop = {"recipient": suppressed, "scope": "sender", "sender": "acme", "reason": "complaint"}
    assert (await edge.http.post("/v1/suppressions", json=stop)).status_code == 201
    await Browser(edge).start(asked)
    answers, seconds = [], []
    for person in (unknown, known, opted_out, suppressed, asked):
        began = time.perf_counter()
        answer = await Browser(edge).start(person)
        seconds.append(time.perf_counter() - began)
        page = answer.text.replace(opt_in_of(answer), "opt-in").replace(f"{person[:4]}********{person[-2:]}", "number")
        answers.append((answer.status_code, page, sorted(set(answer.headers) - {"trace-id"})))
    assert len({repr(one) for one in answers}) == 1
    assert min(seconds) >= 0.3
    assert [await sent.count(one) for one in (unknown, opted_out, suppressed, asked)] == [1, 1, 0, 1]
    assert await edge.gate.pool.fetchval(
        "SELECT count(*) FROM opt_ins WHERE subject = $1", subject_of(edge.gate.pepper, suppressed)
    ) == 0  # fmt: skip


async def test_an_address_starts_so_many_and_no_more(edge: Running) -> None:
    browser = Browser(edge)
    answers: list[httpx.Response] = []
    while len(answers) <= 20 and (not answers or answers[-1].status_code == 422):
        answers.append(await browser.post(_fields(await browser.get())))
    assert len(answers) > 10  # ten a minute; a new minute may begin on the way
    last = answers[-1]
    assert last.status_code == 429
    assert int(last.headers["retry-after"]) >= 1
    assert 'role="alert"' in last.text
    assert (await Browser(edge).start(number())).status_code == 200


def _fields(page: httpx.Response) -> dict[str, Any]:
    """As handed in by somebody whose number is none."""
    return hidden(page.text) | {"number": "12345", "topics": TOPIC, "action": "agree"}


# --- parts that are away ----------------------------------------------------------------------------------------------


async def test_a_part_that_is_away_is_told_and_leaves_nothing(edge: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    person = number()

    async def away(*_args: Any, **_more: Any) -> Any:
        return [Refusal(Code.UNAVAILABLE)]

    async def gone(*_args: Any, **_more: Any) -> Any:
        raise GuardUnavailable("lease: TimeoutError")

    for part, name, does in ((edge.gate.intake, "send", away), (edge.gate.intake.lease, "take", gone)):
        with monkeypatch.context() as patched:
            patched.setattr(part, name, does)
            answer = await Browser(edge).start(person)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "您的选择尚未提交" in answer.text
        assert " checked" not in answer.text
    subject = subject_of(edge.gate.pepper, person)
    assert await edge.gate.pool.fetchval("SELECT count(*) FROM opt_ins WHERE subject = $1", subject) == 0


async def test_a_ledger_that_does_not_answer_costs_an_attempt_and_no_grant(
    edge: Running, sent: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, browser = number(), Browser(edge)
    opt_in = opt_in_of(await browser.start(person))
    append = edge.gate.appender.append

    async def applied_and_not_answered(acts: Any) -> Any:
        await append(acts)
        raise LedgerUnavailable("the answer is lost")

    with monkeypatch.context() as patched:
        patched.setattr(edge.gate.appender, "append", applied_and_not_answered)
        assert (await browser.confirm(opt_in, await sent.code(person))).status_code == 503
    assert (await browser.confirm(opt_in, await sent.code(person))).status_code == 200
    assert len(await grants(edge, person)) == 1


# --- what is handed in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"number": "12345"}, 422, "请填写有效的手机号码"),
        ({"topics": []}, 422, "请至少勾选一项"),
        ({"topics": ["invite.limited"]}, 422, "请至少勾选一项"),
        ({"version": "99"}, 422, "表单内容刚刚更新"),
        ({"sha256": "0" * 64}, 422, "表单内容刚刚更新"),
        ({"acts": "[]"}, 422, "请您本人勾选"),
        ({"action": "decline", "number": "", "topics": []}, 200, 'data-step="declined"'),
        ({"embed": "1", "page": "https://evil.example/x"}, 403, "client.forbidden"),
        ({"nonsense": "1"}, 422, "request.invalid"),
        ({"acts": "[[["}, 422, "request.invalid"),
    ],
)
async def test_what_does_not_fit(edge: Running, changes: dict[str, Any], status: int, said: str) -> None:
    answer = await Browser(edge).start(number(), **changes)
    assert answer.status_code == status, answer.text
    assert said in answer.text
    assert " checked" not in answer.text


async def test_other_pages_submit_nothing(edge: Running) -> None:
    for origin in ("https://evil.example", "null"):
        answer = await Browser(edge, origin=origin).start(number())
        assert (answer.status_code, answer.json()["code"]) == (403, "client.forbidden")


async def test_a_page_keeps_to_itself_and_a_frame_to_the_forms_origins(edge: Running) -> None:
    alone, framed = await Browser(edge).get(), await Browser(edge).get(embed=1, page="http://127.0.0.1:8000/shop?a=1")
    for answer in (alone, framed):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert not re.search(r"<script>|<style|style=|onclick", answer.text)
        assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in alone.headers["content-security-policy"]
    assert alone.headers["x-frame-options"] == "DENY"
    assert framed.headers["content-security-policy"].endswith(
        "frame-ancestors http://127.0.0.1:8000 http://localhost:8000"
    )
    assert hidden(framed.text)["page"] == "http://127.0.0.1:8000/shop?a=1"
    refused = await Browser(edge).get(embed=1, page="https://evil.example/")
    assert refused.status_code == 403


async def test_the_page_renders_exactly_what_is_hashed(edge: Running) -> None:
    async with edge.gate.pool.acquire() as conn:
        form = await forms.form(conn, "acme")
    assert form is not None
    for locale in ("zh", "en"):
        page = (await Browser(edge).get(lang=locale)).text
        texts = set(re.findall(r">\s*([^<>\s][^<>]*?)\s*<", page.partition("<body>")[2]))
        told = _strings(shown(form, locale).value)  # type: ignore[arg-type]
        assert all(any(text == one or text in one.split("\n") or text in one for one in told) for text in texts)
        assert hidden(page)["sha256"] == shown(form, locale).sha256  # type: ignore[arg-type]
        for topic in form.topics:
            assert topic.words[locale].frequency in page  # type: ignore[index]


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [one for item in value.values() for one in _strings(item)]
    if isinstance(value, list):
        return [one for item in value for one in _strings(item)]
    return [str(value)]


async def test_the_language_is_the_readers(edge: Running) -> None:
    assert 'lang="zh-CN"' in (await Browser(edge).get()).text
    english = await Browser(edge, **{"accept-language": "de, en;q=0.8, zh;q=0.5"}).get()
    assert 'lang="en"' in english.text.partition("<body>")[0]
    assert 'lang="zh-CN" data' in (await Browser(edge, **{"accept-language": "en"}).get(lang="zh")).text


# --- forms -----------------------------------------------------------------------------------------------------------


async def test_versions_grow_and_never_change(edge: Running) -> None:
    first = await edge.http.post("/v1/forms", json=draft(id="grows"))
    assert (first.status_code, first.json()["form"]["version"]) == (201, 1)
    assert (await edge.http.post("/v1/forms", json=draft(id="grows"))).json() == first.json()
    second = await edge.http.post("/v1/forms", json=draft(id="grows", contact="other@acme.example"))
    assert second.json()["form"]["version"] == 2
    assert second.json()["sha256"] != first.json()["sha256"]
    assert (await edge.http.get("/v1/forms/grows", params={"version": 1})).json() == first.json()
    assert (await edge.http.get("/v1/forms/grows")).json() == second.json()
    form = Form.model_validate(first.json()["form"])
    assert {locale: shown(form, locale).sha256 for locale in form.words} == first.json()["sha256"]
    both = await asyncio.gather(
        *(edge.http.post("/v1/forms", json=draft(id="grows", contact=f"{n}@x")) for n in range(6))
    )
    assert sorted(one.json()["form"]["version"] for one in both) == [3, 4, 5, 6, 7, 8]


async def test_a_form_that_may_not_be_asked(edge: Running) -> None:
    def topic(**changes: Any) -> list[dict[str, Any]]:
        return [draft()["topics"][0] | changes]

    for changes, field in (
        ({"topics": topic(topic="transaction.shipping")}, "topics.0.topic"),
        ({"topics": topic(max_per_week=3)}, "topics.0.words.zh.frequency"),
        ({"sender": "acme", "words": {"zh": draft()["words"]["zh"] | {"title": "x", "intro": "y"}},
          "topics": topic(words={"zh": draft()["topics"][0]["words"]["zh"]})}, "words.zh.intro"),
        ({"words": {"en": draft()["words"]["en"]}}, "body"),
        ({"allowed_origins": ["http://shop.example"]}, "allowed_origins.0"),
        ({"allowed_origins": ["https://shop.example/path"]}, "allowed_origins.0"),
    ):  # fmt: skip
        answer = await edge.http.post("/v1/forms", json=draft(id="bad") | changes)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == field
    other = await edge.http.post("/v1/forms", json=draft(), headers=edge.as_("other"))
    assert other.status_code == 403
    assert (await edge.http.get("/v1/forms/acme", headers=edge.as_("other"))).status_code == 404
    assert (await edge.http.get("/v1/forms/none")).status_code == 404


async def test_evidence_of_another_system_is_marked_so(edge: Running) -> None:
    for evidence, source in (({}, "shop"), ({"source": "crm", "imported": False, "weight": "two_records"}, "crm")):
        person = number()
        assert (await edge.http.post("/v1/consents", json=declared(person, **evidence))).status_code == 201
        (grant,) = await grants(edge, person)
        marked = {name: grant["evidence"][name] for name in ("imported", "source", "weight")}
        assert marked == {"imported": True, "source": source, "weight": "declared"}
        assert grant["lifts"] is False
