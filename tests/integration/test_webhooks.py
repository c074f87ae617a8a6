"""The sender of webhooks on real PostgreSQL, against receivers that fail in every way."""

import asyncio
import datetime as dt
import random
import signal
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook

from gateway.contract.decision import Status
from gateway.contract.webhook import MessageStatus, RecipientData, RecipientSaid, StatusData
from gateway.ledger.keys import Keys
from gateway.records import subscriptions, webhooks
from gateway.records.personal import Personal
from gateway.rules.reach import PORTS, Reach, networks
from gateway.settle.notices import Notices
from gateway.settle.seals import notice_id, seal_body, seal_secret
from gateway.settle.webhooks.lanes import NEW, WIDEST
from gateway.settle.webhooks.schedule import Outcome
from gateway.settle.webhooks.sending import Sending
from gateway.settle.webhooks.wire import Resolver, Wire
from tests.integration.gateway_rig import ROOT, environment
from tests.integration.hook_receiver import Receiver, receiving

pytestmark = pytest.mark.integration

KEYS = Keys(bytes.fromhex("cd" * 32), bytes.fromhex("ab" * 32))
SECRET, FORMER = "whsec_" + "QUJD" * 8, "whsec_" + "REVG" * 8
LOCAL = Reach(local=True)


def now() -> int:
    return time.time_ns() // 1_000_000


class Queue:
    """Short ways to fill the queue and to look at it."""

    def __init__(self, pool: Any) -> None:
        self.pool, self.notices = pool, Notices(KEYS)

    async def client(self, name: str) -> None:
        async with self.pool.acquire() as conn:
            await subscriptions.put_secret(conn, name, seal_secret(KEYS, name, SECRET), None)

    async def add(self, url: str, n: int = 1, client: str = "shop", made_at: int | None = None) -> list[uuid.UUID]:
        """So many statuses for an address."""
        address = self.notices.address(client, url)
        rows = []
        for _ in range(n):
            message, at = str(uuid.uuid4()), dt.datetime.now(dt.UTC)
            data = StatusData(id=message, status=Status.SENT, attempt=1, parts=1, at=at, rank=9)
            name = notice_id(KEYS, message)
            sealed = seal_body(KEYS, name, MessageStatus(timestamp=at, data=data))
            rows.append(webhooks.Row(name, address.name, "message.status", message, None, made_at or now(), sealed))
        async with self.pool.acquire() as conn, conn.transaction():
            await webhooks.remember(conn, [address], now())
            await webhooks.enqueue(conn, rows)
        return [row.id for row in rows]

    async def value(self, query: str, *args: Any) -> Any:
        return await self.pool.fetchval(query, *args)

    async def until(self, query: str, *args: Any, within_s: float = 15.0) -> None:
        async with asyncio.timeout(within_s):
            while not await self.value(query, *args):  # noqa: ASYNC110 - another task writes what is waited for
                await asyncio.sleep(0.03)

    async def row(self, name: uuid.UUID) -> Any:
        return await self.pool.fetchrow("SELECT * FROM webhooks WHERE id = $1", name)

    def sending(self, reach: Reach = LOCAL, **more: Any) -> Sending:
        wire = Wire(reach, resolve=more.pop("resolve", Resolver()), deadline_s=more.pop("deadline_s", 1.0))
        return Sending(self.pool, KEYS, wire, **more)

    @asynccontextmanager
    async def sends(self, **more: Any) -> AsyncIterator[Sending]:
        stop, one = asyncio.Event(), self.sending(**more)
        task = asyncio.create_task(one.run(stop))
        try:
            yield one
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)


@pytest.fixture
async def queue(database_url: str) -> AsyncIterator[Queue]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=10, command_timeout=20) as pool:
        await pool.execute("TRUNCATE webhooks, webhook_addresses, client_webhooks CASCADE")
        made = Queue(pool)
        for name in ("shop", "other"):
            await made.client(name)
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


NONE_WAITS = "SELECT count(*) = 0 FROM webhooks"


# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_what_is_taken_in_is_signed_and_leaves_nothing_behind(queue: Queue, receiver: Receiver) -> None:
    ids = await queue.add(receiver.url("/ok"), 30)
    async with queue.sends():
        await queue.until(NONE_WAITS)
    assert sorted(one.id for one in receiver.got) == sorted(map(str, ids))
    for one in receiver.got:
        assert Webhook(SECRET).verify(one.body, one.headers)["data"]["status"] == "sent"
        assert one.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert one.headers["content-type"] == "application/json"
        assert "authorization" not in one.headers


async def test_both_secrets_sign_while_a_rotation_lasts(queue: Queue, receiver: Receiver) -> None:
    async with queue.pool.acquire() as conn:
        await subscriptions.put_secret(conn, "shop", seal_secret(KEYS, "shop", FORMER), now() + 3_600_000)
    await queue.add(receiver.url("/ok"))
    async with queue.sends():
        await queue.until(NONE_WAITS)
    (both,) = receiver.got
    for secret in (SECRET, FORMER):
        Webhook(secret).verify(both.body, both.headers)
    async with queue.pool.acquire() as conn:
        await conn.execute("UPDATE client_webhooks SET former_until = $1 WHERE client = 'shop'", now() - 1)
    await queue.add(receiver.url("/ok"))
    async with queue.sends():
        await queue.until(NONE_WAITS)
    assert len(receiver.got[-1].headers["webhook-signature"].split(" ")) == 1


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/status/500", "refused 500"),
        ("/status/404", "refused 404"),
        ("/redirect", "refused 302"),
        ("/later/1800", "refused 503"),
        ("/hang", "timeout"),
        ("/slow", "timeout"),
        ("/cut", "unreachable RemoteProtocolError"),
    ],
)
async def test_whatever_else_comes_is_tried_again_later(queue: Queue, receiver: Receiver, path: str, last: str) -> None:
    (name,) = await queue.add(receiver.url(path))
    async with queue.sends(draw=lambda: 0.5):
        await queue.until("SELECT last IS NOT NULL FROM webhooks")
    row, waited_s = await queue.row(name), 5 if "later" not in path else 1980
    assert (row["last"], row["attempts"], row["dead_at"]) == (last, 1, None)
    assert waited_s - 3 < (row["due_at"] - now()) / 1000 <= waited_s
    assert len(receiver.got) == 1
    assert not receiver.of("/ok")


async def test_nobody_listening_is_tried_again(queue: Queue) -> None:
    await queue.add("http://127.0.0.1:1/x")
    async with queue.sends():
        await queue.until("SELECT last = 'unreachable ConnectError' FROM webhooks")


async def test_an_endless_answer_is_not_read_to_its_end(queue: Queue, receiver: Receiver) -> None:
    await queue.add(receiver.url("/big"))
    async with queue.sends():
        await queue.until(NONE_WAITS)


async def test_it_comes_again_under_the_same_id_and_is_taken_in_at_last(queue: Queue, receiver: Receiver) -> None:
    (name,), began = await queue.add(receiver.url("/flaky/2")), now()
    async with queue.sends(clock=lambda: began + 100 * (now() - began), draw=lambda: 0.0):
        await queue.until(NONE_WAITS)
    assert [one.id for one in receiver.got] == [str(name)] * 3
    assert len({one.body for one in receiver.got}) == 1


async def test_after_ten_tries_it_is_dead_and_a_replay_sends_it_again(queue: Queue, receiver: Receiver) -> None:
    (name,) = await queue.add(receiver.url("/status/503"))
    async with queue.sends():
        for _ in range(10):
            await queue.pool.execute("UPDATE webhooks SET due_at = 0 WHERE dead_at IS NULL")
            seen = len(receiver.got)
            await receiver.until(lambda seen=seen: len(receiver.got) > seen)
            await queue.until("SELECT due_at > $1 OR dead_at IS NOT NULL FROM webhooks", now() - 60_000)
            await asyncio.sleep(0.1)
        await queue.until("SELECT dead_at IS NOT NULL FROM webhooks")
        async with queue.pool.acquire() as conn:
            (dead,) = await webhooks.dead_ones(conn, "shop", None, 10)
            assert (dead.id, dead.attempts, dead.last, dead.kept) == (name, 10, "refused 503", True)
            assert await webhooks.dead_ones(conn, "other", None, 10) == []
            assert await webhooks.replay(conn, now(), client="other", one=name) == 0
            receiver.answers["/status/503"] = "/ok"
            assert await webhooks.replay(conn, now(), client="shop", one=name) == 1
            assert await webhooks.replay(conn, now(), client=None) == 0
        await queue.until(NONE_WAITS)
    assert {one.id for one in receiver.got} == {str(name)}
    assert len(receiver.got) == 11


async def test_gone_stops_an_address_and_a_replay_opens_it(queue: Queue, receiver: Receiver) -> None:
    url = receiver.url("/status/410")
    await queue.add(url, 20)
    async with queue.sends():
        await queue.until("SELECT count(*) = 20 FROM webhooks WHERE dead_at IS NOT NULL AND last = 'gone'")
        called = len(receiver.got)
        assert called <= 2
        assert await queue.add(url)
        assert await queue.value("SELECT count(*) FROM webhooks") == 20
        await queue.add(receiver.url("/ok"))
        await receiver.until(lambda: receiver.of("/ok"))
        receiver.answers["/status/410"] = "/ok"
        async with queue.pool.acquire() as conn:
            assert await webhooks.replay(conn, now(), client="shop") == 20
        await queue.until(NONE_WAITS)
    assert len(receiver.of("/status/410")) == called + 20


async def test_without_a_secret_nothing_is_sent_and_it_waits_for_one(queue: Queue, receiver: Receiver) -> None:
    await queue.add(receiver.url("/ok"), client="nobody")
    async with queue.sends():
        await queue.until("SELECT last = 'unsigned' FROM webhooks")
        assert not receiver.got
        await queue.client("nobody")
        await queue.pool.execute("UPDATE webhooks SET due_at = 0")
        await queue.until(NONE_WAITS)


async def test_what_is_three_days_old_is_given_up(queue: Queue, receiver: Receiver) -> None:
    await queue.add(receiver.url("/ok"), made_at=now() - 3 * 86_400_000)
    async with queue.sends():
        await queue.until("SELECT last = 'expired' AND dead_at IS NOT NULL FROM webhooks")
    assert not receiver.got


# --- fairness and crashes --------------------------------------------------------------------------------------------


async def test_receivers_that_hang_delay_nobody(queue: Queue, receiver: Receiver) -> None:
    """Forty receivers that hang, with a backlog each, most of them of the same client, and one that answers."""
    async with receiving(hosts=40) as second:
        for n in range(40):
            await queue.add(f"http://127.0.0.{n + 1}:{second.port}/hang", 25, client="shop" if n % 4 else "other")
        async with queue.sends(deadline_s=3.0):
            await receiver.until(lambda: len(second.got) >= 80)
            began = time.monotonic()
            await queue.add(receiver.url("/ok"), 200)
            await receiver.until(lambda: len(receiver.of("/ok")) == 200)
            assert time.monotonic() - began < 3.0
            await queue.until("SELECT count(*) > 0 FROM webhooks WHERE last = 'timeout'")
            assert len(second.most_at_once) == 40
            assert max(second.most_at_once.values()) == NEW
        assert max(receiver.most_at_once.values()) <= WIDEST


async def test_several_senders_share_the_queue_and_send_each_once(queue: Queue, receiver: Receiver) -> None:
    ids = await queue.add(receiver.url("/ok"), 150) + await queue.add(receiver.url("/ok?b"), 150, client="other")
    async with queue.sends(), queue.sends(), queue.sends():
        await queue.until(NONE_WAITS)
    assert sorted(one.id for one in receiver.got) == sorted(map(str, ids))


async def test_a_late_mark_does_not_undo_what_another_sender_did_since(queue: Queue) -> None:
    (name,) = await queue.add("http://127.0.0.1:1/x")
    async with queue.pool.acquire() as conn:
        (mine,) = await webhooks.take(conn, now(), lease_ms=0, most=5, each=5, rooms={})
        (theirs,) = await webhooks.take(conn, now() + 1, lease_ms=30_000, most=5, each=5, rooms={})
        assert (mine.attempts, theirs.attempts) == (1, 2)
        await webhooks.again(conn, [(name, 1, 0, "timeout")])
        await webhooks.dead(conn, [(name, 1, "timeout")], now())
    row = await queue.row(name)
    assert (row["dead_at"], row["last"]) == (None, None)
    assert row["due_at"] > now()


async def test_killed_between_the_call_and_its_mark_it_is_sent_again_under_its_id(
    queue: Queue, receiver: Receiver, database_url: str, tmp_path: Path
) -> None:
    """The real command: killed while the receiver has the body and has not answered."""
    env = environment(
        tmp_path / "env",
        0,
        redis_url="redis://127.0.0.1:1/0",
        kafka="127.0.0.1:1",
        prefix="x",
        database_url=database_url,
    )
    (name,) = await queue.add(receiver.url("/hang"))
    words = [sys.executable, "-m", "gateway", "webhooks"]
    first = subprocess.Popen(words, env=env, cwd=ROOT)  # noqa: ASYNC220 - its start takes a moment
    try:
        await receiver.until(lambda: receiver.got, 30)
        first.send_signal(signal.SIGKILL)
        first.wait()
        row = await queue.row(name)
        assert (row["attempts"], row["dead_at"]) == (1, None)
        assert 0 < row["due_at"] - now() <= 30_000
        receiver.answers["/hang"] = "/ok"
        await queue.pool.execute("UPDATE webhooks SET due_at = $1", now())  # the lease, over
        second = subprocess.Popen(words, env=env, cwd=ROOT)  # noqa: ASYNC220 - as above
        try:
            await queue.until(NONE_WAITS, within_s=30)
            second.send_signal(signal.SIGTERM)
            assert second.wait(20) == 0
        finally:
            second.kill()
    finally:
        first.kill()
    assert [one.id for one in receiver.got] == [str(name)] * 2


async def test_told_to_stop_it_finishes_the_calls_it_is_in(queue: Queue, receiver: Receiver) -> None:
    await queue.add(receiver.url("/hang"))
    async with queue.sends(deadline_s=2.0):
        await receiver.until(lambda: receiver.got)
    assert await queue.value("SELECT last FROM webhooks") == "timeout"


async def test_postgresql_away_for_a_moment_is_waited_out(queue: Queue, receiver: Receiver) -> None:
    async with queue.sends():
        for _ in range(3):
            await queue.pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await queue.add(receiver.url("/ok"), 5)
            await asyncio.sleep(random.uniform(0.1, 0.4))
        await queue.until(NONE_WAITS)
    assert len({one.id for one in receiver.got}) == 15


# --- the wire --------------------------------------------------------------------------------------------------------


def answers(*addresses: str) -> Any:
    asked: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return addresses

    resolve.asked = asked  # type: ignore[attr-defined]
    return resolve


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",), ("10.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::1",), ("::ffff:127.0.0.1",), ("64:ff9b::7f00:1",),
        ("169.254.169.254",), ("2002:7f00:1::",), ("fe80::1",), (), ("0.0.0.0",), ("100.64.0.1",),
    ],
)  # fmt: skip
async def test_a_name_with_one_address_we_do_not_call_is_not_called(addresses: tuple[str, ...]) -> None:
    wire = Wire(Reach(), resolve=answers(*addresses), deadline_s=1)
    assert await wire.post("https://hooks.example/a", {}, b"{}") == Outcome("forbidden")


async def test_a_name_that_moves_after_it_was_looked_at_is_not_followed(receiver: Receiver) -> None:
    """Rebinding: the first answer is fine, a second would lead inside. There is no second question."""
    asked = 0

    async def rebinding(host: str, port: int) -> Sequence[str]:
        nonlocal asked
        asked += 1
        return ["192.0.2.1"] if asked == 1 else ["127.0.0.1"]

    reach = Reach(networks("192.0.2.0/24"), PORTS | {receiver.port})
    wire = Wire(reach, resolve=rebinding, deadline_s=1)
    outcome = await wire.post(f"https://hooks.example:{receiver.port}/ok", {}, b"{}")
    assert outcome.label in {"timeout", "unreachable"}
    assert asked == 1
    assert not receiver.got
    assert await wire.post(f"https://hooks.example:{receiver.port}/ok", {}, b"{}") == Outcome("forbidden")


async def test_an_address_that_was_let_in_before_the_rules_were_is_not_called() -> None:
    wire = Wire(Reach(), resolve=answers("8.8.8.8"), deadline_s=1)
    for url in ("http://shop.example/", "https://u:p@shop.example/", "https://127.0.0.1/", "https://shop.example:22/"):
        assert await wire.post(url, {}, b"{}") == Outcome("forbidden")


async def test_a_look_up_that_hangs_ends_with_the_deadline() -> None:
    async def hanging(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    wire, began = Wire(Reach(), resolve=hanging, deadline_s=0.3), time.monotonic()
    assert await wire.post("https://hooks.example/a", {}, b"{}") == Outcome("timeout")
    assert time.monotonic() - began < 2


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for a name, and a caller's that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    day = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(day - dt.timedelta(days=1))
        .not_valid_after(day + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cadata=built.public_bytes(serialization.Encoding.PEM).decode())


async def test_the_pinned_address_is_asked_for_the_name_in_host_sni_and_certificate(tmp_path: Path) -> None:
    server, trust = certificate(tmp_path, "hooks.example")
    names: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    async with receiving(server) as receiver:
        reach = Reach(networks("127.0.0.0/8"), PORTS | {receiver.port})
        wire = Wire(reach, resolve=answers("127.0.0.1"), trust=trust, deadline_s=3)
        url = f"https://hooks.example:{receiver.port}/ok?a=%20b&c={{}}"
        assert (await wire.post(url, {"webhook-id": "1"}, b"{}")).label == "delivered"
        assert names == ["hooks.example"]
        assert receiver.got[0].headers["host"] == f"hooks.example:{receiver.port}"
        assert receiver.got[0].path == "/ok?a=%20b&c={}"
        other = await wire.post(f"https://other.example:{receiver.port}/ok", {}, b"{}")
        assert other == Outcome("unreachable", "ConnectError")
        assert len(receiver.got) == 1


async def test_the_next_try_asks_another_of_a_names_addresses(receiver: Receiver) -> None:
    reach = Reach(local=True)
    wire = Wire(reach, resolve=answers("127.0.0.99", "127.0.0.1"), deadline_s=2)
    assert (await wire.post(f"http://localhost:{receiver.port}/ok", {}, b"{}", 1)).label == "unreachable"
    assert (await wire.post(f"http://localhost:{receiver.port}/ok", {}, b"{}", 2)).label == "delivered"


# --- retention -------------------------------------------------------------------------------------------------------


async def test_what_people_wrote_goes_after_three_days_and_with_their_erasure(queue: Queue) -> None:
    address = queue.notices.address("shop", "http://127.0.0.1:1/x")
    at, subjects = dt.datetime.now(dt.UTC), [b"a" * 16, b"b" * 16, b"c" * 16]
    rows = []
    for subject, age_ms in zip(subjects, (0, 4 * 86_400_000, 0), strict=True):
        data = RecipientData(
            id="r", carrier="sim", sender="acme", port="10690001", subject=subject.hex(), text="早上好", at=at
        )
        name = notice_id(KEYS, subject.hex())
        sealed = seal_body(KEYS, name, RecipientSaid(type="recipient.reply", timestamp=at, data=data))
        assert "早上好".encode() not in sealed
        rows.append(webhooks.Row(name, address.name, "recipient.reply", None, subject, now() - age_ms, sealed))
    async with queue.pool.acquire() as conn:
        await webhooks.remember(conn, [address], now())
        await webhooks.enqueue(conn, rows)
        assert await webhooks.purge(conn, now(), 183) == 1
        old = await queue.row(rows[1].id)
        assert (old["sealed"], old["subject"], old["last"]) == (None, None, "expired")
        assert await webhooks.replay(conn, now(), client="shop") == 0
        await Personal(queue.pool).forget(subjects[2])
        assert await queue.row(rows[2].id) is None
        assert await queue.row(rows[0].id) is not None
        assert await webhooks.purge(conn, now() + 31 * 86_400_000, 183) >= 1
        await conn.execute("DELETE FROM webhooks")
        await webhooks.purge(conn, now() + 200 * 86_400_000, 183)
        assert await queue.value("SELECT count(*) FROM webhook_addresses") == 0


async def test_the_levels_are_what_waits(queue: Queue) -> None:
    await queue.add("http://127.0.0.1:1/x", 3, made_at=5)
    await queue.pool.execute("UPDATE webhooks SET dead_at = 6 WHERE id = (SELECT min(id::text)::uuid FROM webhooks)")
    async with queue.pool.acquire() as conn:
        assert await webhooks.levels(conn) == webhooks.Levels(2, 5, 1)
