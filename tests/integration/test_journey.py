"""A message's whole life through the real processes and the simulated carrier, with two edge workers."""

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio
import redis
from aiokafka import AIOKafkaConsumer, TopicPartition
from gateway_rig import FINAL, PARTITIONS, Gateway, at, gateway, number, numbers, shipping
from hook_receiver import receiving
from standardwebhooks import Webhook

from gateway import telemetry
from gateway.assemble.webhooks import DEMO_SECRET
from gateway.contract.codes import Code
from gateway.contract.registry import Client
from gateway.ledger.checkpoint import Checkpoint, open_checkpoint
from gateway.ledger.layout import Tile
from gateway.ledger.leaf import decode
from gateway.ledger.merkle import inclusion_proof, leaf_hash, verify_inclusion
from gateway.ledger.note import Verifier
from gateway.ledger.tiles import Tiles
from gateway.ledger.verify import verify
from gateway.records import registry
from gateway.stream import Topics

pytestmark = pytest.mark.integration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ENDS = {
    "delivered": ("delivered", "none"),
    "dead_number": ("undelivered", "dead_number"),
    "suspended": ("undelivered", "suspended"),
    "content": ("rejected", "content"),
    "throttled": ("delivered", "none"),
    "carrier_opt_out": ("undelivered", "carrier_opt_out"),
    "expired": ("expired", "transient"),
    "silent": ("sent", "none"),  # `unknown` once the carrier has been silent for its 72 hours
    "duplicated": ("delivered", "none"),
    "early": ("delivered", "none"),
    "out_of_order": ("delivered", "none"),
    "doubtful": ("delivered", "none"),
    "vanished": ("unknown", "none"),
}
"""Status and cause that each simulator number documents."""

UNMET = {
    "assent_alerts_recent",
    "assent_archived_total",
    "assent_breaker_opens_total",
    "assent_clicks_left_out_total",
    "assent_complaint_figures_missing",
    "assent_complaints_total",
    "assent_console_sign_ins_total",
    "assent_opt_ins_total",
    "assent_log_attested_age_seconds",
    "assent_publish_failed_total",
    "assent_dead_letters_total",
    "assent_replies_total",
    "assent_answers_total",
    "assent_voided_total",
    "assent_cache_cold_total",
    "assent_receipt_orphans",
    "assent_receipts_missing_total",
}
"""Metrics of what does not happen in this journey."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gate(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    async with gateway(
        tmp_path_factory.mktemp("journey"),
        redis_url=redis_url,
        kafka=kafka_bootstrap,
        prefix=topic_prefix,
        database_url=database_url,
        workers="2",
        simulator_latency_ms="5",
    ) as running:
        yield running


def at_ms(written: str) -> float:
    """A time as answers write it: RFC 3339, in UTC."""
    assert written.endswith("Z")
    return datetime.fromisoformat(written).timestamp() * 1000


def statuses(message: dict[str, Any]) -> list[str]:
    return [step["status"] for step in message["timeline"]]


async def test_from_post_to_delivered_with_one_trace(gate: Gateway, topic_prefix: str, kafka_bootstrap: str) -> None:
    to = await gate.customer()
    head = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    body = shipping(to, client_ref=f"ref-{uuid.uuid4().hex}", campaign="autumn")
    gate.sent.append(body["text"])
    answer = await gate.post("/v1/messages", body, headers=head)
    assert answer.status_code == 202, answer.text
    assert answer.headers["trace-id"] == TRACE
    accepted = answer.json()
    message = await gate.until(accepted["id"], "delivered")
    assert statuses(message) == ["queued", "sent", "delivered"]
    times = [at_ms(step["at"]) for step in message["timeline"]]
    assert times == sorted(times)
    assert message["decision"] == accepted["decision"]
    assert message["decision"]["basis"] == "relationship"
    assert message["decision"]["ledger_entry"] >= 1
    assert (message["parts"], message["campaign"], message["client_ref"]) == (1, "autumn", body["client_ref"])
    assert message["port"] == "10690001"
    (receipt,) = message["receipts"]
    assert (receipt["raw"], receipt["code"], receipt["carrier"]) == ("DELIVRD", "000", "simulator")
    assert not {to, to[3:], body["text"]} & set(re.findall(r'[^"]+', httpx.Response(200, json=message).text))
    traces = await traces_of(kafka_bootstrap, topic_prefix, accepted["id"])
    assert traces == {"messages.transactional": TRACE, "results": TRACE}


async def traces_of(bootstrap: str, prefix: str, message_id: str) -> dict[str, str | None]:
    """The trace that each topic's record of the message carries."""
    found = {}
    for topic, value in await records(bootstrap, prefix):
        document = json.loads(value)
        if document.get("id") == message_id:
            found[topic] = document.get("trace")
    return found


async def records(bootstrap: str, prefix: str, *, keys: bool = False) -> list[tuple[str, bytes]]:
    """Every record's value (or key) now in the gateway's topics."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        places = [TopicPartition(name, one) for name in Topics(prefix).all() for one in range(PARTITIONS)]
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        places = [place for place in places if ends[place] > begins[place]]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, begins[place])
        rows = []
        while places:
            for place, batch in (await consumer.getmany(timeout_ms=2000)).items():
                rows += [(place.topic.removeprefix(prefix), (row.key if keys else row.value) or b"") for row in batch]
                if batch and batch[-1].offset + 1 >= ends[place]:
                    places.remove(place)
        return rows
    finally:
        await consumer.stop()


async def test_every_simulator_number_ends_as_documented(gate: Gateway) -> None:
    document = (await gate.http.get("/v1/purposes")).json()
    listed = {row["number"]: row["outcome"] for row in document["simulator_numbers"]}
    assert set(listed.values()) == set(ENDS)
    await gate.orders(list(listed))
    accepted = {to: await gate.send(shipping(to)) for to in listed}
    for to, outcome in listed.items():
        status, cause = ENDS[outcome]
        message = await gate.until(accepted[to]["id"], status)
        assert message["cause"] == cause, (outcome, message)
        if outcome == "throttled":
            assert message["attempt"] == 3
        if outcome == "duplicated":
            await asyncio.sleep(0.5)
            again = await gate.view(message["id"])
            assert (again["status"], len(again["receipts"])) == ("delivered", 3)
        if outcome == "out_of_order":
            await asyncio.sleep(0.5)
            assert (await gate.view(message["id"]))["status"] == "delivered"


async def test_a_batch_of_a_thousand_is_delivered_each_once(gate: Gateway) -> None:
    people = numbers(1000)
    await gate.orders(people[:990])
    bodies = [shipping(to, client_ref="batch") for to in people]
    gate.sent += [*people, *(body["text"] for body in bodies)]
    answer = await gate.post("/v1/messages/batch", {"messages": bodies})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [row["status"] for row in results] == ["accepted"] * 990 + ["refused"] * 10
    assert {row.get("code") for row in results[990:]} == {"relationship.missing"}
    ids = [row["id"] for row in results[:990]]
    assert len(set(ids)) == 990
    assert await gate.all_until("batch", ids, {"delivered"}, within_s=30) == {"delivered": 990}


async def test_the_same_key_gives_the_same_answer_on_any_worker_and_after_the_end(gate: Gateway) -> None:
    to, key = await gate.customer(), uuid.uuid4().hex
    body = shipping(to, idempotency_key=key)
    gate.sent.append(body["text"])

    async def fresh() -> httpx.Response:
        async with httpx.AsyncClient(base_url=gate.url, headers=gate.http.headers, timeout=10) as alone:
            return await alone.post("/v1/messages", json=body)

    answers = await asyncio.gather(*(fresh() for _ in range(12)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    message_id = answers[0].json()["id"]
    message = await gate.until(message_id, "delivered")
    assert statuses(message).count("sent") == 1
    assert (await fresh()).content == answers[0].content
    conflict = await gate.post("/v1/messages", body | {"text": body["text"] + "!"})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency.conflict")
    found = (await gate.http.get("/v1/messages", params={"to": to})).json()["messages"]
    assert [row["id"] for row in found] == [message_id]


async def test_not_before_is_held_then_delivered(gate: Gateway) -> None:
    to = await gate.customer()
    accepted = await gate.send(shipping(to, not_before=at(seconds=2)))
    assert accepted["status"] == "held"
    assert accepted["release_at"]
    held = await gate.until(accepted["id"], "held")
    assert statuses(held) == ["held"]
    message = await gate.until(accepted["id"], "delivered")
    assert statuses(message)[0] == "held"
    due = next(at_ms(step["at"]) for step in message["timeline"] if step["status"] == "sent")
    assert due >= at_ms(message["accepted_at"]) + 1900


async def test_a_held_message_whose_permission_goes_meanwhile_is_cancelled(gate: Gateway) -> None:
    """Nothing but the release decides: it was permitted when it was accepted."""
    to = await gate.customer()
    accepted = await gate.send(shipping(to, not_before=at(seconds=2)))
    assert accepted["status"] == "held"
    await gate.ok(f"/v1/recipients/{to}/withdraw", {"sender": "acme", "reason": "asked on the telephone"})
    message = await gate.until(accepted["id"], "cancelled")
    assert message["code"] == Code.SUPPRESSED
    assert "sent" not in statuses(message)


async def test_the_persons_own_hours_hold_marketing(gate: Gateway) -> None:
    """By day: hours of the pack that do not contain now. At night the pack holds until it opens, then asks again."""
    to = number()
    await gate.consents([to], ["marketing"])
    hour = int((at(hours=8))[11:13])
    hours = {"start": "16:00", "end": "20:00"} if hour < 14 else {"start": "08:00", "end": "12:00"}
    answer = await gate.http.put(f"/v1/recipients/{to}/preferences", json={"sender": "acme", "hours": hours})
    assert answer.status_code == 200, answer.text
    body = shipping(to) | {"purpose": "marketing.promotion"}
    refused = await gate.post("/v1/messages", body | {"on_quiet": "refuse"})
    assert (refused.status_code, refused.json()["code"]) == (429, "quiet.hours")
    assert int(refused.headers["retry-after"]) >= 1
    held = await gate.send(body)
    assert held["status"] == "held"
    opens = int(hours["start"][:2]) if 8 <= hour < 20 else 8
    assert held["release_at"][11:13] == f"{(opens - 8) % 24:02d}"


async def test_support_finds_messages_by_recipient_and_reference(gate: Gateway) -> None:
    to, ref = await gate.customer(), f"case-{uuid.uuid4().hex}"
    first = await gate.send(shipping(to, client_ref=ref))
    second = await gate.send(shipping(to))
    for one in (first, second):
        await gate.until(one["id"], "delivered")
    by_number = (await gate.http.get("/v1/messages", params={"to": to})).json()["messages"]
    assert [row["id"] for row in by_number] == [second["id"], first["id"]]
    by_subject = await gate.http.get("/v1/messages", params={"to": by_number[0]["subject"]})
    assert by_subject.json()["messages"] == by_number
    by_ref = (await gate.http.get("/v1/messages", params={"client_ref": ref})).json()["messages"]
    assert [row["id"] for row in by_ref] == [first["id"]]


async def test_a_person_who_asks_for_erasure_is_restricted_and_not_messaged_again(gate: Gateway) -> None:
    to = await gate.customer()
    sent = await gate.send(shipping(to))
    await gate.until(sent["id"], "delivered")
    assert (await gate.http.get(f"/v1/recipients/{to}")).json()["number"] == f"+861********{to[-2:]}"
    await gate.ok(f"/v1/recipients/{to}/withdraw", {"sender": "acme", "reason": "asked"})
    asked = await gate.http.delete(f"/v1/recipients/{to}/personal-data")
    assert asked.status_code == 200, asked.text
    certificate = asked.json()["certificate"]
    kept = {row["what"]: row["until"] for row in certificate["kept"]}
    assert kept["consent_records"] == kept["send_records"] == certificate["erasure_due"]
    seen = (await gate.http.get(f"/v1/recipients/{asked.json()['subject']}")).json()
    assert seen["relationships"] == {}
    assert len(seen["restricted"]["kept"]) == 3
    assert [row["reason"] for row in seen["suppressions"]] == ["opt_out"]
    file = (await gate.http.get(f"/v1/recipients/{to}/personal-data")).json()
    assert (file["messages"], file["replies"]) == ([], [])
    refused = await gate.post("/v1/messages", shipping(to))
    assert refused.status_code == 403
    await gate.orders([to])
    refused = await gate.post("/v1/messages", shipping(to))
    assert (refused.status_code, refused.json()["code"]) == (403, "suppressed")


async def test_an_erased_person_is_forgotten_by_the_ledger_process_when_it_is_due(gate: Gateway) -> None:
    to = number()
    body = {"recipient": to, "scope": "all", "reason": "manual"}
    subject = (await gate.ok("/v1/suppressions", body))["subject"]
    waiting = "SELECT count(*) FROM erasures_due WHERE subject = $1"
    connection = await asyncpg.connect(gate.env["ASSENT_DATABASE_URL"])
    try:
        await connection.execute("INSERT INTO erasures_due VALUES ($1, 1, 1)", bytes.fromhex(subject))
        gate.kill("ledger")
        await gate.restart("ledger")
        async with asyncio.timeout(20):
            while await connection.fetchval(waiting, bytes.fromhex(subject)):  # noqa: ASYNC110 - another process erases
                await asyncio.sleep(0.1)
    finally:
        await connection.close()
    async with asyncio.timeout(20):
        while (answer := await gate.http.get(f"/v1/recipients/{subject}")).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # the edge has not seen the new ledger process's beat yet
    seen = answer.json()
    assert "number" not in seen
    assert [row["kind"] for row in seen["history"]] == ["erasure", "access"]
    assert [row["reason"] for row in seen["suppressions"]] == ["manual"]


async def test_a_stopped_scope_keeps_what_waits_until_a_person_resumes_it(gate: Gateway) -> None:
    to = await gate.customer()
    held = await gate.send(shipping(to, not_before=at(seconds=2), campaign="winter"))
    who = {"by": "Li Lei", "reason": "complaints"}
    await gate.ok("/v1/breakers/campaign:winter/open", who)
    await code_until(gate, shipping(to, campaign="winter"), 503, "breaker.open")
    await asyncio.sleep(2.5)
    assert (await gate.view(held["id"]))["status"] == "held"
    resumed = await asyncio.to_thread(
        gate.command, "resume", "campaign:winter", "--by", "Han Meimei", "--reason", "list cleaned"
    )
    assert resumed.returncode == 0, resumed.stderr
    await gate.until(held["id"], "delivered")
    listed = (await gate.http.get("/v1/breakers")).json()["breakers"]
    assert [(row["scope"], row["is_open"], row["changed_by"]) for row in listed] == [
        ("campaign:winter", False, "Han Meimei")
    ]


async def code_until(gate: Gateway, body: dict[str, Any], status: int, code: str) -> None:
    for _ in range(60):
        answer = await gate.post("/v1/messages", body)
        if answer.status_code == status:
            assert answer.json()["code"] == code
            assert answer.headers["retry-after"]
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{code} was not answered within 6 s")


# --- what can be proved ----------------------------------------------------------------------------------------------


async def test_a_delivered_messages_evidence_verifies_over_http_and_from_the_command_line(
    gate: Gateway, tmp_path: Path
) -> None:
    to = await gate.customer()
    sent = await gate.send(shipping(to))
    message = await gate.until(sent["id"], "delivered")
    answer = await gate.http.get(f"/v1/evidence/{sent['id']}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    keys = (await gate.http.get("/v1/ledger/keys")).text.split()
    report = verify(answer.content, keys)
    assert report.good, report.checks
    assert report.told["message"]["status"] == "delivered"
    assert [entry["kind"] for entry in report.told["entries"]] == ["relationship", "access"]  # the look itself
    for nobody in ("²", "0", "9" * 30, str(uuid.uuid4()), "..%2F..%2Fetc"):
        assert (await gate.http.get(f"/v1/evidence/{nobody}")).status_code == 404
    out, when = tmp_path / "found.zip", str(message["accepted_at"])
    asked = ("--recipient", to, "--port", message["port"], "--at", when, "--by", "Li Lei", "--out", str(out))
    exported = await asyncio.to_thread(gate.command, "evidence", "export", *asked)
    assert exported.returncode == 0, exported.stderr
    assert to not in exported.stdout + exported.stderr
    again = verify(out.read_bytes(), keys)
    assert again.good, again.checks
    assert again.told["message"]["id"] == sent["id"]
    assert [entry["kind"] for entry in again.told["entries"]] == ["relationship", "access", "access"]


async def test_evidence_is_not_for_every_client(gate: Gateway) -> None:
    to = await gate.customer()
    sent = await gate.send(shipping(to))
    await gate.until(sent["id"], "delivered")
    connection = await asyncpg.connect(gate.env["ASSENT_DATABASE_URL"])
    try:
        digest = registry.key_digest(bytes.fromhex(gate.env["ASSENT_PEPPER"]), "curious-key")
        roles = ("send", "consent", "read", "suppress")
        await registry.put_client(connection, Client(id="curious", key_digests=(digest,), senders=("*",), roles=roles))
        looks = await connection.fetchval("SELECT count(*) FROM consent_events WHERE kind = 'access'")
        async with httpx.AsyncClient(base_url=gate.url, headers={"authorization": "Bearer curious-key"}) as http:
            for _ in range(100):
                answer = await http.get(f"/v1/evidence/{sent['id']}")
                if answer.status_code != 401:
                    break
                await asyncio.sleep(0.1)
        assert (answer.status_code, answer.json()["code"]) == (403, "client.forbidden")
        assert await connection.fetchval("SELECT count(*) FROM consent_events WHERE kind = 'access'") == looks
    finally:
        await connection.close()


async def checkpoint_of(gate: Gateway, least: int) -> Checkpoint:
    """The published checkpoint once it covers so many entries, which is within a second of their answer."""
    keys = [Verifier(one) for one in (await gate.http.get("/v1/ledger/keys")).text.split()]
    async with asyncio.timeout(1.0):
        while True:
            raw = (await gate.http.get("/v1/ledger/checkpoint")).content
            found = open_checkpoint(raw, "assent.test", keys)[0]
            if found.size >= least:
                return found
            await asyncio.sleep(0.02)


async def copied(gate: Gateway, size: int, folder: Path) -> Tiles:
    """The log's tiles as anybody gets them over HTTP, without a key; a partial one that is gone is asked for whole."""
    async with httpx.AsyncClient(base_url=gate.url) as http:
        for level in (None, *range(6)):
            count = size >> 8 * (level or 0)
            for index in range(-(-count // 256)):
                tile = Tile(level, index, min(256, count - 256 * index))
                answer = await http.get(f"/v1/ledger/{tile.path}")
                if answer.status_code == 404:
                    tile = Tile(level, index)
                    answer = await http.get(f"/v1/ledger/{tile.path}")
                assert answer.status_code == 200, tile.path
                place = folder / tile.path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(answer.content)
    return Tiles(folder)


async def test_an_acknowledged_act_is_in_the_log_within_a_second_and_proved_from_tiles_alone(
    gate: Gateway, tmp_path: Path
) -> None:
    to = number()
    order = {"recipient": to, "sender": "acme", "kind": "order", "ref": "o-2", "occurred_at": at(seconds=-1)}
    seq = (await gate.ok("/v1/relationships", order))["seq"]
    checkpoint = await checkpoint_of(gate, seq)
    tiles = await copied(gate, checkpoint.size, tmp_path)
    entry = tiles.entries((seq - 1) // 256, checkpoint.size)[(seq - 1) % 256]
    path = inclusion_proof(seq - 1, checkpoint.size, tiles.reader(checkpoint.size))
    verify_inclusion(leaf_hash(entry), seq - 1, checkpoint.size, path, checkpoint.root)
    connection = await asyncpg.connect(gate.env["ASSENT_DATABASE_URL"])
    try:
        row = await connection.fetchrow("SELECT tag, commitment FROM consent_events WHERE seq = $1", seq)
    finally:
        await connection.close()
    assert decode(entry)[2:] == (row["tag"], row["commitment"])


async def test_the_whole_log_fits_the_database(gate: Gateway) -> None:
    plain, deep = await asyncio.gather(
        *(asyncio.to_thread(gate.command, "ledger", "verify", *more) for more in ((), ("--deep",)))
    )
    for found in (plain, deep):
        assert found.returncode == 0, found.stdout + found.stderr
        counts = re.search(r"([\d,]+) entries, ([\d,]+) full tiles, checkpoints of", found.stdout)
        assert counts
        assert int(counts[1].replace(",", "")) > 1000
    assert re.search(r"[\d,]{4,} bodies opened, [\d,]{4,} people", deep.stdout), deep.stdout


# --- what the processes leave behind; keep these last ----------------------------------------------------------------


def total(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    pattern = re.compile(rf"^{name}(?:{{(.*)}})? (\S+)$", re.MULTILINE)
    rows = [(dict(re.findall(r'(\w+)="([^"]*)"', found or "")), float(value)) for found, value in pattern.findall(text)]
    return sum(value for had, value in rows if labels.items() <= had.items())


async def test_a_client_is_called_about_its_messages_where_each_says(gate: Gateway) -> None:
    to = await gate.customer()
    async with receiving() as receiver:
        url = receiver.url("/flaky/1?key=s3cr3t")
        gate.sent.append("s3cr3t")
        body = shipping(to, callback_url=url, client_ref="called-1")
        sent = await gate.send(body)
        plain = await gate.send(shipping(to))
        await gate.until(sent["id"], "delivered")
        await gate.until(plain["id"], "delivered")
        await receiver.until(lambda: [one for one in receiver.got if one.data["status"] == "delivered"], 20)
        await receiver.until(lambda: max(Counter(one.id for one in receiver.got).values()) == 2, 20)
    assert {one.data["id"] for one in receiver.got} == {sent["id"]}
    for one in receiver.got:
        told = Webhook(DEMO_SECRET).verify(one.body, one.headers)
        assert told["data"]["client_ref"] == "called-1"
        assert to[1:] not in one.body.decode()
        assert body["text"] not in one.body.decode()
    answer = await gate.post("/v1/messages", shipping(to, callback_url="http://10.0.0.1/x"))
    assert (answer.status_code, answer.json()["detail"]) == (422, "callback_url: must be https")


async def test_metrics_of_all_processes_agree(gate: Gateway) -> None:
    await asyncio.sleep(1.5)  # what the tests before this one did is counted by now
    before = (await gate.http.get("/metrics")).text
    assert all(f"# TYPE {one.name} " in before for one in telemetry.metrics())
    shown = set(re.findall(r"^(\w+?)(?:_count)?[ {]", before, re.MULTILINE))
    missing = {one.name for one in telemetry.metrics()} - shown
    assert missing <= UNMET, missing - UNMET
    people = numbers(40)
    await gate.orders(people)
    for to in people:
        await gate.send(shipping(to))
    refused = await gate.post("/v1/messages", shipping(number()))
    assert refused.status_code == 403
    for _ in range(100):
        after = (await gate.http.get("/metrics")).text
        ended = total(after, "assent_end_to_end_seconds_count") - total(before, "assent_end_to_end_seconds_count")
        if ended >= 40:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)  # every process flushes its own counts once a second
    after = (await gate.http.get("/metrics")).text

    def grew(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    assert grew("assent_admissions_total", code="accepted", cls="transactional") == 40
    assert grew("assent_admissions_total", code="relationship.missing") == 1
    assert grew("assent_admission_seconds_count", route="messages") == 41
    assert grew("assent_submissions_total", carrier="simulator", outcome="submitted") == 40
    assert grew("assent_wait_seconds_count", cls="transactional") == 40
    assert grew("assent_receipts_total", status="delivered") == 40
    assert grew("assent_receipts_seen_total") == 40
    assert grew("assent_end_to_end_seconds_count", cls="transactional") == 40
    assert grew("assent_events_total", kind="relationship") == 40
    assert grew("assent_dead_letters_total") == 0
    assert not re.search(r"\b1[3-9]\d{9}\b", after)


async def test_no_number_and_no_text_is_left_where_it_must_not_be(
    gate: Gateway, redis_url: str, topic_prefix: str, kafka_bootstrap: str
) -> None:
    assert len(gate.sent) > 1000
    written = "\n".join(gate.logs().values())
    with redis.Redis.from_url(redis_url) as server:
        keys = b"\n".join(server.scan_iter(count=5000)).decode("latin-1")
    of_kafka = await records(kafka_bootstrap, topic_prefix, keys=True)
    kafka_keys = b"\n".join(key for _, key in of_kafka).decode("latin-1")
    assert len(of_kafka) > 1000
    for place, text in (("a log", written), ("a Redis key", keys), ("a Kafka key", kafka_keys)):
        found = {one for one in gate.sent if (one.removeprefix("+86") in text or repr(one)[1:-1] in text)}
        assert not found, f"{place} holds {len(found)} numbers or texts"
    assert '"level": "error"' not in written, [line for line in written.splitlines() if '"error"' in line][:5]


def test_the_logs_are_json(gate: Gateway) -> None:
    for name, text in gate.logs().items():
        for line in text.splitlines():
            assert line.startswith("{"), f"{name}: {line[:200]}"
            assert json.loads(line)["event"]


def test_final_statuses_are_a_closed_set() -> None:
    assert {status for status, _ in ENDS.values()} <= FINAL | {"sent"}
