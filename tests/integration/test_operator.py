"""What an operator types: refusals in one line, registrations that mean something, and a Redis that may evict."""

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis
from gateway_rig import Gateway, environment, gateway
from typer.testing import CliRunner

from gateway.assemble.preparing import demo_form
from gateway.cli import app
from gateway.contract.consent import Event, EventKind
from gateway.contract.registry import Client, ReplyRoute, Sender
from gateway.guard import keys, person
from gateway.guard.guard import Guard
from gateway.ledger import events
from gateway.ledger.appender import Appender
from gateway.ledger.certificate import holds
from gateway.ledger.keys import Keys
from gateway.local.parts import Part, free_port
from gateway.records import registry, webhooks
from gateway.settle.notices import Notices
from gateway.settle.seals import open_secret

pytestmark = pytest.mark.integration

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002", cap_per_day=7)
BY = ("--by", "Li Lei", "--reason", "a test")
PORTS = ("--service-port", "10690003", "--marketing-port", "10690004")
EVICTS = "maxmemory-policy is allkeys-lru: must be `noeviction`: an evicted opt-out would be a permission"
LOGS = {"prepare", "rebuild", "audit", "settle", "edge"}
"""They set up how a process logs or collects garbage, which is for a process of their own."""
NOWHERE = "127.0.0.1:1"


class Operator:
    """A shell with an installation's environment."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = {name: value for name, value in env.items() if name.startswith("ASSENT_")}

    def types(self, *words: str, **settings: str) -> tuple[int, str, str]:
        """Exit status, output, and what was said beside it."""
        given = self.env | {f"ASSENT_{name.upper()}": value for name, value in settings.items()}
        if words[0] in LOGS:
            ended = subprocess.run(
                [sys.executable, "-m", "gateway", *words],
                env=os.environ | given,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            return ended.returncode, ended.stdout.strip(), ended.stderr
        done = CliRunner().invoke(app, words, env=given)
        return done.exit_code, done.stdout.strip(), done.stderr

    def is_refused(self, *words: str, **settings: str) -> str:
        """The one line that says why."""
        status, _, said = self.types(*words, **settings)
        assert status == 1, said
        assert said.startswith("assent: ")
        assert said.count("\n") == 1, said
        return said.removeprefix("assent: ").strip()


@pytest.fixture(scope="module")
def installation(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    env = environment(
        tmp_path_factory.mktemp("operator"),
        free_port(),
        redis_url=redis_url,
        kafka=kafka_bootstrap,
        prefix=topic_prefix,
        database_url=database_url,
    )

    async def register() -> None:
        connection = await asyncpg.connect(database_url)
        await registry.put_sender(connection, ACME.model_copy(update={"carrier": "http"}))
        await connection.close()

    asyncio.run(register())
    return env


@pytest.fixture
def operator(installation: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Operator:
    for name in [name for name in os.environ if name.startswith("ASSENT_")]:
        monkeypatch.delenv(name)
    return Operator(installation)


def registered(operator: Operator) -> registry.Registry:
    async def load() -> registry.Registry:
        connection = await asyncpg.connect(operator.env["ASSENT_DATABASE_URL"])
        try:
            return await registry.load(connection)
        finally:
            await connection.close()

    return asyncio.run(load())


# --- the cache -----------------------------------------------------------------------------------------------------


async def test_an_audit_says_what_differs_and_ends_with_status_1_until_it_is_repaired(operator: Operator) -> None:
    server = redis.Redis.from_url(operator.env["ASSENT_REDIS_URL"])
    stranger = b"\x03" * 16
    await server.set(keys.PERSON[3] + stranger, person.tombstone(0))
    status, said, _ = await asyncio.to_thread(operator.types, "audit", "cache")
    assert (status, "Redis: 0 equal, 0 behind, 0 different, 0 missing, 1 unknown" in said) == (1, True), said
    assert "16 lanes are empty" in said
    status, said, _ = await asyncio.to_thread(operator.types, "audit", "cache", "--repair")
    assert (status, "1 repaired" in said) == (0, True), said
    assert await server.get(keys.PERSON[3] + stranger) is None
    await server.aclose()
    assert "Redis does not answer" in operator.is_refused("audit", "cache", redis_url=f"redis://{NOWHERE}/0")


# --- breakers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["bogus:x", "", "all ", "class:spam", "port:10 69", "campaign:", "sender:Acme"])
def test_a_scope_that_stops_nothing_is_refused_with_the_forms(operator: Operator, scope: str) -> None:
    said = operator.is_refused("stop", scope, *BY)
    assert "all; class:verification" in said
    assert "list_source:<name>" in said
    assert registered(operator).breakers == ()


def test_stop_and_resume_need_words_and_resume_something_stopped(operator: Operator) -> None:
    assert operator.is_refused("stop", "all", "--by", " ", "--reason", "r").startswith("--by must say something")
    assert operator.is_refused("stop", "all", "--by", "b", "--reason", "").startswith("--reason must say something")
    assert operator.types("stop", "port:10690002", *BY)[:2] == (0, "port:10690002 is stopped")
    said = operator.is_refused("resume", "port:10690001", *BY)
    assert said == "port:10690001 is not stopped; stopped: port:10690002"
    assert registered(operator).breakers == ("port:10690002",)
    said = operator.types("resume", "port:10690002", "--trickle", "--permille", "25", *BY)[:2]
    assert said == (0, "port:10690002 lets 25 in 1,000 recipients through")
    assert registered(operator).breakers == ()
    assert [(one.scope, one.permille) for one in registered(operator).trickles] == [("port:10690002", 25)]
    assert operator.types("resume", "port:10690002", *BY)[:2] == (0, "port:10690002 is resumed")
    assert registered(operator).breakers == ()
    assert registered(operator).trickles == ()


def test_a_stop_waits_for_no_ledger(operator: Operator) -> None:
    assert operator.types("stop", "campaign:x", *BY, redis_url="bogus")[:2] == (0, "campaign:x is stopped")
    assert registered(operator).breakers == ("campaign:x",)
    assert operator.types("resume", "campaign:x", *BY)[0] == 0


# --- clients and senders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("Shop", "--senders", "acme"), "a name is 1 to 32"),
        (("assent", "--senders", "acme"), "client assent is the gateway's own"),
        (("shop", "--senders", "acme,nope"), "no sender nope; there are: acme"),
        (("shop",), "--senders: name the senders"),
        (("shop", "--senders", "acme", "--roles", "send,fly"), "no role fly; --roles are send"),
        (("shop", "--senders", "acme", "--roles", ""), "--roles are send"),
        (("shop", "--senders", "*", "--purposes", "marketin"), "no purpose or topic marketin; there are: account"),
    ],
)
def test_a_client_that_means_nothing_is_not_added(operator: Operator, words: tuple[str, ...], why: str) -> None:
    before = registered(operator)
    assert operator.is_refused("client", "add", *words).startswith(why)
    assert registered(operator) == before


def test_a_client_is_replaced_only_when_that_is_said(operator: Operator) -> None:
    status, key, _ = operator.types("client", "add", "twice", "--senders", "acme", "--purposes", "marketing")
    assert status == 0
    pepper = bytes.fromhex(operator.env["ASSENT_PEPPER"])

    def now() -> Client:
        return next(client for client in registered(operator).clients if client.id == "twice")

    assert now() == Client(
        id="twice", key_digests=(registry.key_digest(pepper, key),), senders=("acme",), purposes=("marketing",)
    )
    said = operator.is_refused("client", "add", "twice", "--senders", "*")
    assert said.startswith("client twice exists: --replace")
    assert now().key_digests == (registry.key_digest(pepper, key),)
    status, other, _ = operator.types("client", "add", "twice", "--senders", "*", "--replace")
    assert status == 0
    assert now().key_digests == (registry.key_digest(pepper, other),) != (registry.key_digest(pepper, key),)
    assert now().senders == ("*",)


def test_a_client_gets_its_webhook_secret_once_and_keeps_it_when_it_is_replaced(operator: Operator) -> None:
    status, key, said = operator.types("client", "add", "hooked", "--senders", "acme")
    assert status == 0
    secret = said.split("webhook secret, shown this once: ")[1].split()[0]
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert key not in said
    _, _, again = operator.types("client", "add", "hooked", "--senders", "acme", "--replace")
    assert "whsec_" not in again
    stored = asyncio.run(fetch(operator, "SELECT secret FROM client_webhooks WHERE client = 'hooked'"))[0]["secret"]
    assert secret.encode() not in stored
    assert open_secret(secrets_of(operator), "hooked", stored) == secret


def test_a_client_is_told_where_the_operator_says(operator: Operator) -> None:
    assert operator.types("client", "add", "told", "--senders", "acme")[0] == 0
    url = "https://hooks.example/x?key=s3cr3t"
    status, out, said = operator.types("client", "webhook", "told", "--url", url, "--replies", "acme")
    assert (status, out) == (0, "")
    assert said.strip() == "client told: https://hooks.example: statuses, replies to acme"
    status, secret, said = operator.types("client", "webhook", "told", "--rotate", "--no-statuses")
    assert status == 0
    assert secret.startswith("whsec_")
    assert "https://hooks.example: replies to acme" in said
    row = asyncio.run(fetch(operator, "SELECT * FROM client_webhooks WHERE client = 'told'"))[0]
    assert (row["statuses"], row["replies"]) == (False, ["acme"])
    assert open_secret(secrets_of(operator), "told", row["secret"]) == secret
    assert row["former"] is not None
    assert 23 < (row["former_until"] / 1000 - time.time()) / 3600 <= 24
    assert "no address of its own" in operator.types("client", "webhook", "told", "--off")[2]
    for words, why in (
        (("nobody",), "no client nobody"),
        (("told", "--url", "http://hooks.example/x"), "--url must be https"),
        (("told", "--url", "https://10.0.0.1/x"), "--url points into a network"),
        (("told", "--url", url, "--replies", "bolt"), "--replies: bolt is not among"),
        (("told", "--url", url, "--off"), "--off and --url contradict"),
        (("told", "--no-statuses"), "client told has no address"),
    ):
        assert operator.is_refused("client", "webhook", *words).startswith(why)
    allow = {"webhook_allow": "10.20.0.0/16", "webhook_ports": "9443"}
    inside = ("client", "webhook", "told", "--url", "https://10.20.0.9:9443/x")
    assert operator.types(*inside, **allow)[0] == 0
    assert operator.is_refused(*inside, webhook_allow="ten").startswith("ASSENT_WEBHOOK_ALLOW is a list of networks")
    assert operator.is_refused(*inside, webhook_ports="0").startswith("ASSENT_WEBHOOK_ALLOW is a list of networks")


def test_an_operator_lists_what_was_given_up_on_and_has_it_sent_again(operator: Operator) -> None:
    made = Notices(secrets_of(operator)).address("lost", "https://hooks.example/x")

    async def fill() -> str:
        connection = await asyncpg.connect(operator.env["ASSENT_DATABASE_URL"])
        row = webhooks.Row(uuid.uuid4(), made.name, "message.status", None, None, 1_000, b"x")
        await webhooks.remember(connection, [made], 1_000)
        await webhooks.enqueue(connection, [row])
        await webhooks.dead(connection, [(row.id, 0, "timeout")], 2_000)
        await connection.close()
        return str(row.id)

    name = asyncio.run(fill())
    status, out, _ = operator.types("webhooks", "dead", "--client", "lost")
    assert status == 0
    assert out.split() == [name, "lost", "message.status", "1970-01-01T00:00:01+00:00", "0", "tries", "timeout"]
    assert operator.types("webhooks", "replay")[0] == 2
    assert operator.is_refused("webhooks", "replay", str(uuid.uuid4())).startswith("there is no such dead webhook")
    assert operator.types("webhooks", "replay", name)[1] == "1 will be sent again"
    assert operator.types("webhooks", "dead", "--client", "lost")[1] == ""
    assert operator.types("webhooks", "replay", "--client", "lost")[1] == "0 will be sent again"


async def fetch(operator: Operator, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(operator.env["ASSENT_DATABASE_URL"])
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


def secrets_of(operator: Operator) -> Keys:
    return Keys(bytes.fromhex(operator.env["ASSENT_MASTER_KEY"]), bytes.fromhex(operator.env["ASSENT_PEPPER"]))


def test_a_carrier_is_a_client_without_senders(operator: Operator) -> None:
    assert operator.types("client", "add", "smsc", "--roles", "carrier:http")[0] == 0
    assert "smsc" in {client.id for client in registered(operator).clients}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("b", "--signature", "Bee", *PORTS, "--pack", "us"), "there is no pack 'us'; --pack is one of: cn"),
        (("b", "--signature", "【Bee】", *PORTS), "--signature has 2 to 16 characters"),
        (("b", "--signature", "Bee", "--service-port", "1x", "--marketing-port", "1069"), "--service-port is 3 to 20"),
        (("b", "--signature", "Bee", "--service-port", "1069", "--marketing-port", "1069"), "a port has one use"),
        (("B!", "--signature", "Bee", *PORTS), "a name is 1 to 32"),
        (("acme", "--signature", "Bee", *PORTS), "sender acme exists: --replace"),
        (
            ("b", "--signature", "Bee", "--service-port", "10690003", "--marketing-port", "10690001"),
            "a port has one sender: 10690001 is acme's",
        ),
    ],
)
def test_a_sender_that_means_nothing_is_not_added(operator: Operator, words: tuple[str, ...], why: str) -> None:
    before = registered(operator)
    assert operator.is_refused("sender", "add", *words).startswith(why)
    assert registered(operator) == before


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nope", "--port", "10690002", "--by", "li"), "no sender nope; there are: acme"),
        (("acme", "--port", "10690009", "--by", "li"), "--port is one of this sender's: 10690001, 10690002"),
        (("acme", "--port", "10690002", "--by", " "), "--by names who attests"),
        (("acme", "--port", "10690002", "--by", "li", "--tested-at", "2999-01-01"), "--tested-at lies ahead"),
    ],
)
def test_what_attests_nothing_is_refused(operator: Operator, words: tuple[str, ...], why: str) -> None:
    assert operator.is_refused("sender", "attest", *words).startswith(why)


def test_an_attested_route_is_known_and_outlives_a_replacement(operator: Operator) -> None:
    status, said, _ = operator.types(
        "sender", "attest", "acme", "--port", "10690002", "--by", "li.lei", "--tested-at", "2026-11-01T08:00:00"
    )
    assert (status, said) == (0, "sender acme: replies to 10690002 are attested free")
    (before,) = registered(operator).senders
    assert before.reply_routes == (ReplyRoute(port="10690002", free=True, tested_at=1_793_520_000),)
    assert operator.types("sender", "attest", "acme", "--port", "10690002", "--by", "li", "--not-free")[0] == 0
    (after,) = registered(operator).senders
    assert [(route.port, route.free) for route in after.reply_routes] == [("10690002", False)]
    clear(operator)


def clear(operator: Operator) -> None:
    async def work() -> None:
        connection = await asyncpg.connect(operator.env["ASSENT_DATABASE_URL"])
        await connection.execute("DELETE FROM reply_routes")
        await connection.close()

    asyncio.run(work())


def test_a_replaced_sender_keeps_its_carrier(operator: Operator) -> None:
    words = ("acme", "--signature", "Acme", "--service-port", "10690001", "--marketing-port", "10690002")
    assert operator.types("sender", "add", *words, "--cap-per-day", "9", "--replace")[0] == 0
    assert registered(operator).senders == (ACME.model_copy(update={"carrier": "http", "cap_per_day": 9}),)


# --- a person's rights ---------------------------------------------------------------------------------------------


def recorded(operator: Operator, to: str) -> str:
    """A person with a consent; their subject."""

    async def grant() -> str:
        keys = Keys(bytes.fromhex(operator.env["ASSENT_MASTER_KEY"]), bytes.fromhex(operator.env["ASSENT_PEPPER"]))
        guard = await Guard.connect(operator.env["ASSENT_REDIS_URL"])
        async with asyncpg.create_pool(operator.env["ASSENT_DATABASE_URL"], min_size=1, max_size=1) as pool:
            appender = Appender(pool, keys, guard)
            await appender.start()
            subject = keys.subject(to)
            data = events.grant("acme", ["marketing"], evidence={"phone": to, "ip": "192.0.2.1"})
            now = int(time.time() * 1000)
            act = {"number": to, "subject": subject, "occurred_at_ms": now, "data": data}
            await appender.append([Event(event_id=to, kind=EventKind.GRANT, **act)])
            await appender.stop()
        await guard.close()
        return subject.hex()

    return asyncio.run(grant())


def test_a_person_is_exported_and_erased_by_subject_number_or_stdin(operator: Operator, tmp_path: Path) -> None:
    to = "+8613500000001"
    subject = recorded(operator, to)
    status, text, _ = operator.types("person", "export", subject, "--by", "Li Lei")
    assert status == 0
    file = json.loads(text)
    assert file["events"][0]["data"]["evidence"]["ip"] == "192.0.2.1"
    page = tmp_path / "file.html"
    done = CliRunner().invoke(app, ["person", "export", "-", "--out", str(page)], env=operator.env, input=f"{to}\n")
    assert done.exit_code == 0, done.stderr
    assert page.stat().st_mode & 0o777 == 0o600
    assert to[3:] not in page.read_text()
    assert "192.0.2.1" in page.read_text()
    certificate = tmp_path / "certificate.json"
    assert operator.types("person", "erase", to, "--out", str(certificate))[0] == 0
    signed = json.loads(certificate.read_text())
    assert signed["certificate"]["status"] == "restricted"
    assert holds(signed["certificate"], signed["signature"], signed["key"])
    readable = tmp_path / "certificate.html"
    assert operator.types("person", "erase", subject, "--out", str(readable))[0] == 0
    assert "Certificate of erasure" in readable.read_text()
    file = json.loads(operator.types("person", "export", subject)[1])
    assert "data" not in file["events"][0]
    assert file["person"]["restricted"]["kept"]
    looks = [one for one in file["events"] if one["kind"] == "access"]
    assert len(looks) == 2


@pytest.mark.parametrize("verb", ["export", "erase"])
def test_nobody_and_no_number_are_said_without_repeating_them(operator: Operator, verb: str) -> None:
    recorded(operator, "+8613500000002")
    assert operator.is_refused("person", verb, "+8613500000009") == "nothing is recorded about this recipient"
    assert operator.is_refused("person", verb, "12345").startswith("neither a mobile number")


# --- parts that are away, or wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "setting", "value", "said"),
    [
        (("stop", "all", *BY), "database_url", f"postgresql://assent@{NOWHERE}/x", "PostgreSQL does not answer"),
        (("client", "add", "x", "--senders", "*"), "database_url", "bogus", "ASSENT_DATABASE_URL is no address"),
        (("rebuild",), "redis_url", f"redis://{NOWHERE}/0", "Redis does not answer"),
        (("rebuild",), "redis_url", "bogus", "ASSENT_REDIS_URL must be redis://"),
        (("client", "add", "x", "--senders", "*"), "pepper", "ab", "ASSENT_PEPPER (at least 64 hex digits)"),
        (("prepare",), "master_key", "xy", "ASSENT_PEPPER (at least 64 hex digits)"),
        (("settle",), "pepper", "cd" * 32, "this database was made with another pepper; give"),
        (("edge",), "pepper", "cd" * 32, "this database was made with another pepper; give"),
    ],
)
def test_what_is_wrong_is_one_line(
    operator: Operator, words: tuple[str, ...], setting: str, value: str, said: str
) -> None:
    assert operator.types("stop", "campaign:first", *BY)[0] == 0  # so that the database has an owner
    assert operator.is_refused(*words, **{setting: value}).startswith(said)


async def beats(server: "redis.Redis", for_s: float) -> int:
    """By how much the ledger process's beat moves meanwhile."""
    before = int(await server.hget("cfg", "n") or 0)
    await asyncio.sleep(for_s)
    return int(await server.hget("cfg", "n") or 0) - before


def test_a_form_is_added_and_what_is_wrong_with_one_is_said_at_once(operator: Operator, tmp_path: Path) -> None:
    example = demo_form().decode()
    file = tmp_path / "form.toml"
    file.write_text(example)
    assert operator.types("form", "add", str(file))[:2] == (0, "form acme is there, version 1: /c/acme")
    assert operator.types("form", "add", str(file))[:2] == (0, "form acme is there, version 1: /c/acme")
    file.write_text(example.replace("privacy@acme.example", "data@acme.example"))
    assert operator.types("form", "add", str(file))[:2] == (0, "form acme is there, version 2: /c/acme")
    for old, new, why in (
        ("每周至多2条", "每周至多两条", "topics.0.words.zh.frequency: does not state max_per_week in digits"),
        ("marketing.promotion", "transaction.order", "topics.1.topic: no marketing topic that consent permits"),
        ('sender = "acme"', 'sender = "nobody"', "no sender nobody; there are: acme"),
        ('id = "acme"', "", "id: Field required"),
        ('id = "acme"', "id = ", "the form is not TOML: "),
        ("http://localhost:8000", "http://shop.example", "allowed_origins.1: Value error, an origin is https"),
    ):
        file.write_text(example.replace(old, new))
        assert operator.is_refused("form", "add", str(file)).startswith(why)


async def test_a_redis_that_may_evict_is_refused_at_start_and_gets_no_beat(
    own_part: Callable[[str], Part], kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path: Path
) -> None:
    url = own_part("valkey").endpoint
    stack = {
        "redis_url": url,
        "kafka": kafka_bootstrap,
        "prefix": f"{topic_prefix}evict.",
        "database_url": database_url,
    }
    server = redis.from_url(url)
    async with gateway(tmp_path, ("ledger",), **stack) as running:  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not await beats(server, 0.2):
                pass
        await server.config_set("maxmemory-policy", "allkeys-lru")
        await asyncio.sleep(1)  # a beat that was under way
        assert await beats(server, 2.0) == 0
        await refuses_to_start(running)
        await server.config_set("maxmemory-policy", "noeviction")
        async with asyncio.timeout(10):
            while not await beats(server, 0.2):
                pass
    assert "redis_not_trusted" in running.logs()["ledger"]
    await server.aclose()


async def refuses_to_start(running: Gateway) -> None:
    """Every process that holds permissions; an edge of several workers too."""
    running.env["ASSENT_WORKERS"] = "3"
    for words in (("edge",), ("settle",)):
        ended = await asyncio.to_thread(running.command, *words)
        assert ended.returncode == 1
        told = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
        assert told == [f"assent: this Redis may not hold permissions: {EVICTS}"]
