"""Alerts reach the operators: queued exactly once, called at least once, signed, and nowhere they may not go."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import jsonschema
import orjson
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from gateway import telemetry
from gateway.assemble.alerts import rotate, send_to
from gateway.assemble.commands import Declined
from gateway.contract.health import Alert
from gateway.ledger.keys import Keys
from gateway.records import alerts, subscriptions, webhooks
from gateway.rules.reach import Reach
from gateway.settings import Settings
from gateway.settle.notices import Notices
from gateway.settle.seals import seal_secret
from gateway.settle.tending import Tending
from gateway.settle.webhooks.sending import Sending
from gateway.settle.webhooks.telling import MOST, OPERATORS, Telling
from gateway.settle.webhooks.wire import Resolver, Wire
from tests.integration.gateway_rig import ROOT, environment
from tests.integration.hook_receiver import Receiver, receiving

pytestmark = pytest.mark.integration

KEYS = Keys(bytes.fromhex("cd" * 32), bytes.fromhex("ab" * 32))
SECRET = "whsec_" + "QUJD" * 8
SCHEMA = orjson.loads((ROOT / "schemas/webhooks.schema.json").read_bytes())
_numbers = iter(range(10**6))


def now() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8, command_timeout=20) as one:
        await one.execute("TRUNCATE alerts, webhooks, webhook_addresses, client_webhooks CASCADE")
        yield one


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


async def put(pool: Any, n: int = 1, kind: str = "breaker.open") -> None:
    for _ in range(n):
        said = {"kind": kind, "severity": "critical", "scope": "sender:acme", "summary": "Acme is stopped."}
        alert = Alert.model_validate({"key": f"{kind}/{next(_numbers)}", "detail": {"ppm": 1200}, **said})
        async with pool.acquire() as conn:
            assert await alerts.put(conn, alert)


async def address(pool: Any, url: str) -> bytes:
    made = Notices(KEYS).address(OPERATORS, url)
    async with pool.acquire() as conn, conn.transaction():
        await subscriptions.put_secret(conn, OPERATORS, seal_secret(KEYS, OPERATORS, SECRET), None)
        await webhooks.remember(conn, [made], now())
        await subscriptions.subscribe(conn, OPERATORS, address=made.name, statuses=False, replies=(), called_again=True)
    return made.name


def settings(database_url: str) -> Settings:
    return Settings(database_url=SecretStr(database_url), pepper=SecretStr("ab" * 32), master_key=SecretStr("cd" * 32))


def telling(pool: Any) -> Telling:
    return Telling(pool, KEYS, "https://wiki.example/runbook/")


@asynccontextmanager
async def at_work(pool: Any) -> AsyncIterator[None]:
    """Tellers and senders, two of each, as two processes would have them."""
    stop = asyncio.Event()
    wires = [Wire(Reach(local=True), resolve=Resolver(), deadline_s=1.0) for _ in range(2)]
    work = [asyncio.create_task(Sending(pool, KEYS, wire).run(stop)) for wire in wires]
    work += [asyncio.create_task(telling(pool).run(stop)) for _ in range(2)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*work)


async def test_an_alert_is_told_once_signed_and_says_where_to_read_on(pool: Any, receiver: Receiver) -> None:
    await address(pool, receiver.url("/ok"))
    async with at_work(pool):
        await put(pool, 12)
        await receiver.until(lambda: len(receiver.got) >= 12)
        await asyncio.sleep(1.2)  # a second telling would come now
    assert len(receiver.got) == len({one.id for one in receiver.got}) == 12
    assert await pool.fetchval("SELECT count(*) FROM webhooks") == 0
    assert await pool.fetchval("SELECT bool_and(told) FROM alerts")
    body = Webhook(SECRET).verify(receiver.got[0].body, receiver.got[0].headers)
    jsonschema.validate(body, SCHEMA)
    assert body["type"] == "alert"
    assert {name: body["data"][name] for name in ("kind", "severity", "scope", "summary", "detail", "runbook")} == {
        "kind": "breaker.open", "severity": "critical", "scope": "sender:acme", "summary": "Acme is stopped.",
        "detail": {"ppm": 1200}, "runbook": "https://wiki.example/runbook/breaker-open.md",
    }  # fmt: skip
    assert {one.data["id"] for one in receiver.got} == {
        str(row[0]) for row in await pool.fetch("SELECT id FROM alerts")
    }


async def test_many_tellers_at_once_queue_each_alert_once(pool: Any) -> None:
    await address(pool, "https://oncall.example/assent")
    await put(pool, 2 * MOST + 7)
    counts = await asyncio.gather(*(telling(pool).round() for _ in range(6)))
    assert sum(counts) == 2 * MOST + 7
    assert await pool.fetchval("SELECT count(*) FROM webhooks WHERE kind = 'alert'") == 2 * MOST + 7
    assert await telling(pool).round() == 0


async def test_what_fails_before_the_commit_queues_and_marks_nothing(pool: Any) -> None:
    await address(pool, "https://oncall.example/assent")
    await put(pool)
    await pool.execute("ALTER TABLE alerts ADD CONSTRAINT down CHECK (NOT told)")
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await telling(pool).round()
    finally:
        await pool.execute("ALTER TABLE alerts DROP CONSTRAINT down")
    assert await pool.fetchval("SELECT count(*) FROM webhooks") == 0
    assert await telling(pool).round() == 1


async def test_a_receiver_that_fails_gets_it_again_under_the_same_id(pool: Any, receiver: Receiver) -> None:
    await address(pool, receiver.url("/flaky/1"))
    await put(pool)
    async with at_work(pool):
        await receiver.until(lambda: receiver.got)
        over = "UPDATE webhooks SET due_at = 0 WHERE last = 'refused 500' RETURNING true"
        async with asyncio.timeout(5):
            while not await pool.fetchval(over):  # noqa: ASYNC110 - the sender marks it; then its wait is over
                await asyncio.sleep(0.02)
        await receiver.until(lambda: len(receiver.got) >= 2 or None)
    assert len({one.id for one in receiver.got}) == 1


async def test_without_an_address_or_at_one_that_is_gone_alerts_wait_and_yesterdays_are_not_told(pool: Any) -> None:
    await put(pool, 2, "case.overdue")
    await put(pool, 1, "breaker.warn")
    await pool.execute("UPDATE alerts SET at = now() - interval '25 hours' WHERE kind = 'breaker.warn'")
    one = telling(pool)
    assert await one.round() == 0
    name = await address(pool, "https://oncall.example/assent")
    async with pool.acquire() as conn:
        await webhooks.gone(conn, [name], now())
    assert await one.round() == 0
    await one.measure()
    telemetry.flush()
    text = telemetry.exposition(None).decode()
    assert "assent_alerts_waiting 2.0" in text
    assert 'assent_alerts_recent{kind="case.overdue",severity="critical"} 2.0' in text
    await address(pool, "https://oncall.example/assent")
    assert await one.round() == 2
    await pool.execute("DELETE FROM webhooks")  # as if they were delivered
    await pool.execute("UPDATE alerts SET at = at - interval '2 hours'")
    await one.measure()
    telemetry.flush()
    text = telemetry.exposition(None).decode()
    assert "assent_alerts_waiting 0.0" in text
    assert 'assent_alerts_recent{kind="case.overdue",severity="critical"} 0.0' in text


async def test_the_gateways_own_messages_and_replies_are_not_told_to_operators(pool: Any) -> None:
    await address(pool, "https://oncall.example/assent")
    async with pool.acquire() as conn:
        (wanted,) = await subscriptions.subscriptions(conn)
    assert (wanted.client, wanted.statuses, wanted.replies) == (OPERATORS, False, ())


@pytest.mark.parametrize("url", ["http://oncall.example/x", "https://10.0.0.7/x", "https://169.254.169.254/latest"])
async def test_an_address_we_do_not_call_is_declined(pool: Any, database_url: str, url: str) -> None:
    with pytest.raises(Declined, match="the address"):
        await send_to(settings(database_url), url)
    assert await pool.fetchval("SELECT count(*) FROM client_webhooks") == 0


async def test_a_rotated_secret_signs_beside_the_former_one(pool: Any, receiver: Receiver, database_url: str) -> None:
    await address(pool, receiver.url("/ok"))
    told = await rotate(settings(database_url))
    assert told.origin == f"http://127.0.0.1:{receiver.port}"
    async with at_work(pool):
        await put(pool)
        (got,) = await receiver.until(lambda: receiver.got)
    assert told.secret is not None
    for secret in (SECRET, told.secret):
        Webhook(secret).verify(got.body, got.headers)


async def test_alerts_are_forgotten_with_the_records_of_their_time(pool: Any) -> None:
    await put(pool, 3)
    await pool.execute(
        "UPDATE alerts SET at = now() - interval '200 days' WHERE id = (SELECT min(id::text)::uuid FROM alerts)"
    )
    later = now() + 170 * 86_400_000
    await Tending(pool, 183, now).tend()
    assert await pool.fetchval("SELECT count(*) FROM alerts") == 2
    await Tending(pool, 150, lambda: later).tend()
    assert await pool.fetchval("SELECT count(*) FROM alerts") == 0


async def test_an_operator_sets_the_address_and_sees_a_test_alert_arrive(
    pool: Any, receiver: Receiver, database_url: str, tmp_path: Path
) -> None:
    env = environment(
        tmp_path, 1, redis_url="redis://127.0.0.1:1/0", kafka="127.0.0.1:1", prefix="", database_url=database_url
    )

    async def assent(*words: str) -> tuple[str, str]:
        command = [sys.executable, "-m", "gateway", "alerts", *words]
        done = await asyncio.to_thread(
            subprocess.run, command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip(), done.stderr

    secret, said = await assent("to", receiver.url("/ok?token=of-the-receiver"))
    assert f"alerts go to http://127.0.0.1:{receiver.port}" in said
    assert "token" not in said
    await put(pool, 1, "case.overdue")
    sender = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "webhooks", env=env, cwd=ROOT)
    try:
        await assent("test", "--by", "Li Lei")
        await receiver.until(lambda: {one.data["kind"] for one in receiver.got} == {"alert.test", "case.overdue"})
    finally:
        sender.terminate()
        await asyncio.wait_for(sender.wait(), 20)
    for one in receiver.got:
        Webhook(secret).verify(one.body, one.headers)
    shown = (await assent("list"))[0].splitlines()
    assert [line.split()[2] for line in shown] == ["case.overdue", "alert.test"]
    assert not any("not told" in line for line in shown)


async def test_listing_goes_on_after_an_id_and_begins_at_a_time(pool: Any) -> None:
    await put(pool, 5)
    async with pool.acquire() as conn:
        since = datetime.now(UTC) - timedelta(hours=1)
        first = await alerts.listed(conn, since, after=None, kind=None, limit=3)
        rest = await alerts.listed(conn, since, after=first[-1].id, kind="breaker.open", limit=3)
        assert len({one.id for one in (*first, *rest)}) == 5
        newest = await alerts.latest(conn, limit=3)
        older = await alerts.latest(conn, limit=3, before=newest[-1].id)
        assert [one.id for one in (*newest, *older)] == [one.id for one in reversed([*first, *rest])]
        assert await alerts.listed(conn, datetime.now(UTC) + timedelta(minutes=1), after=None, kind=None, limit=3) == []
