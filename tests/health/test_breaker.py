"""The breaker's evaluator on real PostgreSQL: it stops once, says so once, and respects what a person judged."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
import pytest_asyncio

from gateway.contract.decision import Class
from gateway.contract.health import Act, Alert, Signal, key_of
from gateway.contract.registry import Registry, Sender
from gateway.contract.wire import Accepted
from gateway.deliver import unparking
from gateway.guard.cfg import Cfg
from gateway.guard.guard import Guard
from gateway.ledger.appender import Appender
from gateway.ledger.events import SYSTEM
from gateway.ledger.keys import Keys
from gateway.ledger.reading import Reading
from gateway.records import breakers, held, registry, settlement, signals, weighing
from gateway.records.held import Held
from gateway.records.settlement import Minute
from gateway.rules.breaker import Counts, Tally
from gateway.rules.pack import load
from gateway.settle.breaker import Evaluator
from gateway.stream import encode

pytestmark = pytest.mark.integration

KEYS = Keys(b"m" * 32, b"p" * 32)
DELIVERED = 4
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'evaluator' AND random() < 0.6
"""
_names = iter(range(1_000_000))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guard(redis_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(redis_url)
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def appender(pool: Any, guard: Guard) -> AsyncIterator[Appender]:
    made = Appender(pool, KEYS, guard)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def evaluator(pool: Any, appender: Appender) -> Evaluator:
    return Evaluator(pool, appender, {"cn": load("cn")}, lambda: None, now_ms)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class World:
    """A sender of its own with one campaign: what was delivered, and what was complained about."""

    def __init__(self, pool: Any, origin: int, name: str) -> None:
        self.pool, self.origin, self.name = pool, origin, name
        self.scope = f"campaign:{name}/{name}"
        own = {f"{kind}:{name}/{name}" for kind in ("campaign", "list_source")}
        self.scopes = own | {f"sender:{name}", f"port:1069{name[1:]}"}

    async def delivered(self, n: int, minute: int | None = None) -> None:
        key = Minute(now_ms() // 60_000 if minute is None else minute, self.origin, "simulator", DELIVERED, 0)
        async with self.pool.acquire() as conn:
            await settlement.count(conn, {key: n})

    async def complained(self, n: int, minute: int | None = None, act: Act = Act.COMPLAINT) -> None:
        at = now_ms()
        told = [
            Signal(act, key_of(self.name, str(next(_names))), minute or at // 60_000, at, self.origin, carrier="c")
            for _ in range(n)
        ]
        async with self.pool.acquire() as conn, conn.transaction():
            await signals.note(conn, told)

    async def position(self, scope: str = "") -> registry.Breaker | None:
        standing = {one.scope: one for one in await registry.breakers(self.pool)}
        return standing.get(scope or self.scope)

    async def alerts(self, kind: str, scope: str = "") -> list[dict[str, Any]]:
        rows = await self.pool.fetch(
            "SELECT severity, summary, detail FROM alerts WHERE kind = $1 AND scope = $2", kind, scope or self.scope
        )
        return [{**row, "detail": orjson.loads(row["detail"])} for row in rows]

    async def told(self, scope: str = "") -> list[dict[str, Any]]:
        """The ledger's events about a scope."""
        events = await Reading(self.pool, KEYS).history(SYSTEM)
        found = [one["data"] for one in events if one["kind"] == "breaker"]
        return [one for one in found if one["scope"] == (scope or self.scope)]


@pytest_asyncio.fixture(loop_scope="module")
async def world(pool: Any) -> World:
    return await made(pool)


async def made(pool: Any, campaign: str = "") -> World:
    name = f"w{next(_names):05d}"
    port, campaign = f"1069{name[1:]}", campaign or name
    fields = ("demo", name, "marketing.promotion", "marketing", port, "cn@2026.11", "consent", campaign, name)
    digest = name.encode().ljust(16)
    async with pool.acquire() as conn:
        numbers = await settlement.origin_ids(conn, [(digest, fields)])
    return World(pool, numbers[digest], name)


async def look(pool: Any, evaluator: Evaluator) -> Any:
    async with pool.acquire() as conn:
        return await evaluator.look(conn)


@pytest.mark.asyncio(loop_scope="module")
async def test_it_warns_once_then_stops_once_and_names_the_list_to_clean(
    pool: Any, evaluator: Evaluator, world: World
) -> None:
    await world.delivered(10_000)
    await world.complained(13)
    assert set((await look(pool, evaluator)).warned) >= world.scopes
    assert (await look(pool, evaluator)) == ([], [])
    (warning,) = await world.alerts("breaker.warn")
    assert warning["severity"] == "warning"
    assert warning["summary"].startswith(f"{world.scope} is at ")
    assert await world.position() is None

    await world.complained(9)
    first = await look(pool, evaluator)
    assert set(first.opened) == world.scopes
    assert (await look(pool, evaluator)) == ([], [])
    (alert,) = await world.alerts("breaker.open")
    assert alert["severity"] == "critical"
    assert alert["summary"].startswith(f"{world.scope} is stopped: 22 complaints of 10,000 delivered in 24h: at least ")
    assert alert["summary"].endswith(f" Clean list_source:{world.name}/{world.name} first.")
    (named,) = alert["detail"]["clean"]["list_source"]
    assert named == {"name": f"{world.name}/{world.name}", "complaints": 22, "unsubscribes": 0, "delivered": 10_000}
    standing = await world.position()
    assert standing is not None
    assert (standing.position, standing.changed_by) == ("open", "assent")
    assert standing.figures == alert["detail"]
    assert standing.reason in alert["summary"]

    assert await world.told() == []  # stopped first, told then
    assert await evaluator.tell() == 4
    (event,) = await world.told()
    assert (event["open"], event["person"], event["why"]) == (True, "assent", standing.reason)
    assert await evaluator.tell() == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_a_stop_by_hand_is_told_to_the_ledger_and_what_goes_on_was_told_before(
    pool: Any, evaluator: Evaluator, world: World
) -> None:
    who = {"by": "Li Lei", "reason": "complaints"}
    await registry.set_breaker(pool, world.scope, is_open=True, **who)  # and whoever did so is gone
    await registry.set_breaker(pool, world.scope, is_open=True, permille=10, **who)
    await registry.set_breaker(pool, world.scope, is_open=False, **who)
    assert await world.told() == []
    assert await evaluator.tell() == 1
    (event,) = await world.told()
    assert (event["open"], event["person"], event["why"]) == (True, "Li Lei", "complaints")
    assert [act.recorded for act in await breakers.acts(pool, world.scope, None, 10)] == [True, True, True]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_scope_that_calmed_down_may_warn_again(pool: Any, evaluator: Evaluator, world: World) -> None:
    await world.delivered(10_000)
    await world.complained(13)
    await look(pool, evaluator)
    await world.delivered(2_000)  # below half of the line, not yet calm
    await look(pool, evaluator)
    await world.complained(2)
    assert (await look(pool, evaluator)).warned == []
    await world.delivered(15_000)
    await look(pool, evaluator)
    await world.complained(14)
    assert set((await look(pool, evaluator)).warned) == world.scopes
    assert len(await world.alerts("breaker.warn")) == 2


@pytest.mark.asyncio(loop_scope="module")
async def test_two_evaluators_at_once_stop_it_once(pool: Any, appender: Appender, world: World) -> None:
    """Without the advisory lock, which makes this rarer still: two that look in the same moment."""
    await world.delivered(5_000)
    await world.complained(30)
    several = [Evaluator(pool, appender, {"cn": load("cn")}, lambda: None, now_ms) for _ in range(4)]
    looks = await asyncio.gather(*(look(pool, one) for one in several))
    assert sum(world.scope in one.opened for one in looks) == 1
    assert len(await world.alerts("breaker.open")) == 1
    await asyncio.gather(*(one.tell() for one in several))
    assert len(await world.told()) == 1
    assert await pool.fetchval("SELECT count(*) FROM breaker_acts WHERE scope = $1", world.scope) == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_one_evaluates_and_another_takes_over_and_tells_what_the_first_did_not(
    pool: Any, appender: Appender, evaluator: Evaluator, world: World
) -> None:
    await world.delivered(5_000)
    await world.complained(30)
    await look(pool, evaluator)  # stops, and dies before the ledger hears
    assert await world.told() == []
    async with pool.acquire() as conn, pool.acquire() as other:
        assert await breakers.claim(conn)
        assert not await breakers.claim(other)
    await pool.expire_connections()
    running = asyncio.create_task(Evaluator(pool, appender, {"cn": load("cn")}, lambda: None, now_ms).run())
    try:
        async with asyncio.timeout(5):
            while not await world.told():  # noqa: ASYNC110 - it is polled
                await asyncio.sleep(0.05)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    # it died again after the ledger had it, before it noted so: told again, recorded once
    await pool.execute("UPDATE breaker_acts SET recorded = false WHERE scope = $1", world.scope)
    await evaluator.tell()
    assert len(await world.told()) == 1
    (act,) = await breakers.acts(pool, world.scope, None, 10)
    assert (act.position, act.acted_by, act.recorded) == ("open", "assent", True)


@pytest.mark.asyncio(loop_scope="module")
async def test_evaluators_whose_connections_are_cut_again_and_again_stop_and_tell_everything_once(
    pool: Any, guard: Guard, database_url: str
) -> None:
    dice, worlds = random.Random(7), [await made(pool) for _ in range(4)]
    for world in worlds:
        await world.delivered(5_000)
    named, cut = {"application_name": "evaluator"}, 0
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=6, server_settings=named) as first,
        asyncpg.create_pool(database_url, min_size=1, max_size=6, server_settings=named) as second,
    ):
        running = []
        for theirs in (first, second):
            own = Evaluator(theirs, Appender(theirs, KEYS, guard), {"cn": load("cn")}, lambda: None, now_ms)
            running.append(asyncio.create_task(own.run()))
        try:
            for world in worlds:
                await world.complained(30)
                for _ in range(4):
                    await asyncio.sleep(dice.uniform(0.02, 0.3))
                    cut += await pool.fetchval(CUT)
            scopes = [scope for world in worlds for scope in world.scopes]
            async with asyncio.timeout(20):
                while len(await _recorded(pool, scopes)) < len(scopes):  # noqa: ASYNC110 - it is polled
                    await asyncio.sleep(0.1)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    assert cut > len(worlds)
    for world in worlds:
        for scope in world.scopes:
            assert len(await breakers.acts(pool, scope, None, 10)) == 1
            assert len(await world.alerts("breaker.open", scope)) == 1
            assert len(await world.told(scope)) == 1


async def _recorded(pool: Any, scopes: list[str]) -> list[Any]:
    return list(await pool.fetch("SELECT scope FROM breaker_acts WHERE recorded AND scope = ANY($1::text[])", scopes))


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_judged_does_not_stop_again_and_what_comes_after_does(
    pool: Any, evaluator: Evaluator, world: World
) -> None:
    before = now_ms() // 60_000 - 30
    await world.delivered(5_000, before)
    await world.complained(30, before)
    assert world.scope in (await look(pool, evaluator)).opened
    for scope in world.scopes:
        await registry.set_breaker(pool, scope, is_open=False, by="li.lei", reason="list cleaned")
    assert (await look(pool, evaluator)) == ([], [])
    await world.complained(200, before)  # late, about what was sent before
    assert (await look(pool, evaluator)) == ([], [])
    await pool.execute(
        "UPDATE breakers SET changed_at = changed_at - interval '10 minutes' WHERE scope = $1", world.scope
    )
    await world.delivered(5_000, before + 25)
    await world.complained(30, before + 25)
    async with pool.acquire() as conn:
        floors = weighing.floors(await registry.breakers(conn))
        counts = await weighing.counts_of(conn, world.scope, now_ms() // 60_000, floors, {world.name})
    assert counts == Counts(Tally(5_000, 30), Tally(5_000, 30))
    assert (await look(pool, evaluator)).opened == [world.scope]
    assert len(await world.alerts("breaker.open")) == 2


@pytest.mark.asyncio(loop_scope="module")
async def test_a_campaign_of_the_same_name_is_each_senders_own(pool: Any, evaluator: Evaluator) -> None:
    bad, good = await made(pool, "double11"), await made(pool, "double11")
    await bad.delivered(5_000)
    await bad.complained(30)
    await good.delivered(900_000)  # together they would be far below the line
    opened = (await look(pool, evaluator)).opened
    assert f"campaign:{bad.name}/double11" in opened
    assert not [scope for scope in opened if good.name in scope or scope == "campaign:double11"]
    (alert,) = await bad.alerts("breaker.open", f"port:1069{bad.name[1:]}")
    assert [one["name"] for one in alert["detail"]["clean"]["campaign"]] == [f"{bad.name}/double11"]


@pytest.mark.asyncio(loop_scope="module")
async def test_by_hand_a_campaign_is_stopped_whoever_sends_it_and_letting_it_go_on_is_judged_for_all(
    pool: Any, evaluator: Evaluator
) -> None:
    one = await made(pool, "shared")
    scope, before = f"campaign:{one.name}/shared", now_ms() // 60_000 - 30
    await registry.set_breaker(pool, "campaign:shared", is_open=True, by="li.lei", reason="a rumour")
    await one.delivered(5_000, before)
    await one.complained(30, before)
    assert scope not in (await look(pool, evaluator)).opened, "it is stopped already"
    await registry.set_breaker(pool, "campaign:shared", is_open=False, by="li.lei", reason="list cleaned")
    assert scope not in (await look(pool, evaluator)).opened, "a person has judged this"
    await pool.execute(
        "UPDATE breakers SET changed_at = changed_at - interval '1 hour' WHERE scope = 'campaign:shared'"
    )
    assert scope in (await look(pool, evaluator)).opened


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_is_judged_by_what_was_delivered_long_ago(
    pool: Any, database_url: str, evaluator: Evaluator, world: World
) -> None:
    """What a month delivered is read once a minute; where that fails, no rate is made of the last hours alone."""
    minute = now_ms() // 60_000
    await world.delivered(90_000, minute - 300)
    await world.complained(20, minute - 300)
    counting, own = weighing.Counting(), await asyncpg.connect(database_url, command_timeout=0.3)
    try:
        counted = (await counting.counts(own, minute, {}, acted=True))[world.scope]
        assert counted == Counts(Tally(90_000, 20), Tally(90_000, 20))
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute("LOCK TABLE outcome_days")
            assert (await counting.counts(own, minute + 2, {}, acted=True))[world.scope] == counted
            with pytest.raises(TimeoutError):
                await counting.counts(own, minute + 4, {}, acted=True)
            with pytest.raises(TimeoutError):
                await weighing.Counting().counts(own, minute, {}, acted=True)
        assert (await counting.counts(own, minute + 4, {}, acted=True))[world.scope] == counted
    finally:
        await own.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_day_is_24_hours_and_not_25(pool: Any, evaluator: Evaluator, world: World) -> None:
    now = now_ms() // 60_000
    await world.delivered(5_000, now - 1_438)
    await world.complained(30, now - 1_443)
    async with pool.acquire() as conn:
        counts = await evaluator._counting.counts(conn, now, {})
    assert counts[world.scope] == Counts(Tally(5_000, 0), Tally(5_000, 30))


@pytest.mark.asyncio(loop_scope="module")
async def test_a_scope_is_stopped_though_nobody_can_say_in_time_what_to_clean(
    pool: Any, database_url: str, evaluator: Evaluator, world: World
) -> None:
    await world.delivered(6_000)
    await world.complained(60)
    own = await asyncpg.connect(database_url, command_timeout=5)
    try:
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute("LOCK TABLE outcome_minutes")  # what names the lists reads it, and the windows' edges
            began = time.monotonic()
            assert world.scopes <= set((await evaluator.look(own)).opened)
            assert time.monotonic() - began < 5
    finally:
        await own.close()
    assert [one["detail"]["clean"]["list_source"] for one in await world.alerts("breaker.open")] == [[]]


@pytest.mark.asyncio(loop_scope="module")
async def test_letting_go_on_what_is_not_stopped_forgets_nothing(pool: Any, evaluator: Evaluator, world: World) -> None:
    before = now_ms() // 60_000 - 30
    await world.delivered(5_000, before)
    await world.complained(30, before)
    for scope in world.scopes:
        await registry.set_breaker(pool, scope, is_open=False, by="li.lei", reason="just in case")
    assert world.scope in (await look(pool, evaluator)).opened
    for _ in range(2):
        act = await registry.set_breaker(pool, world.scope, is_open=False, by="li.lei", reason="list cleaned")
        await pool.execute(
            "UPDATE breakers SET changed_at = changed_at - interval '1 hour' WHERE scope = $1", world.scope
        )
    standing = await world.position()
    assert weighing.floor_of(standing) < now_ms() // 60_000 - 110, "closed twice, and counted from the first time"
    async with pool.acquire() as conn:
        kept = await breakers.acts(conn, world.scope, None, 10)
    assert kept[0].id == act
    assert [one.position for one in kept] == ["closed", "closed", "open", "closed"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_person_who_closes_while_it_counts_is_not_overruled(
    pool: Any, evaluator: Evaluator, world: World
) -> None:
    await world.delivered(5_000)
    await world.complained(30)
    alert = Alert(key="breaker.open/x", kind="breaker.open", severity="critical", scope=world.scope, summary="s")
    await registry.set_breaker(pool, world.scope, is_open=False, by="li.lei", reason="a drill")
    async with pool.acquire() as conn:
        for seen in (None, datetime.now(UTC) - timedelta(minutes=1)):
            act = await breakers.stop(conn, world.scope, seen, by="assent", reason="r", figures={}, alert=alert)
            assert act is None
    assert await world.alerts("breaker.open") == []


@pytest.mark.asyncio(loop_scope="module")
async def test_receipts_that_do_not_come_and_a_surge_of_opt_outs_stop_too(
    pool: Any, evaluator: Evaluator, world: World
) -> None:
    await world.complained(10)
    assert world.scope in (await look(pool, evaluator)).opened
    (alert,) = await world.alerts("breaker.open")
    assert "10 complaints of 0 delivered in 24h: the line is 10 before 1,000 are delivered" in alert["summary"]
    await registry.set_breaker(pool, world.scope, is_open=False, by="li.lei", reason="receipts came")
    await pool.execute(
        "UPDATE breakers SET changed_at = changed_at - interval '5 minutes' WHERE scope = $1", world.scope
    )
    await world.delivered(20_000)
    await world.complained(900, act=Act.UNSUBSCRIBE)
    assert world.scope in (await look(pool, evaluator)).opened
    standing = await world.position()
    assert standing is not None
    assert standing.reason.startswith("900 opt-outs of 20,000 delivered in 24h: at least ")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_trickle_is_judged_from_its_beginning_and_stopped_whole(
    pool: Any, evaluator: Evaluator, world: World
) -> None:
    await registry.set_breaker(pool, world.scope, is_open=True, by="li.lei", reason="a rumour")
    opened = (await registry.load(pool)).breakers
    assert world.scope in opened
    await registry.set_breaker(pool, world.scope, is_open=True, by="li.lei", reason="one in a hundred", permille=10)
    loaded = await registry.load(pool)
    assert world.scope not in loaded.breakers
    (trickle,) = [one for one in loaded.trickles if one.scope == world.scope]
    first = await world.position()
    assert first is not None
    assert first.opened_at is not None
    assert (first.position, first.is_open, trickle.permille) == ("trickle", True, 10)
    assert trickle.since == int(first.opened_at.timestamp() * 1000)
    assert first.opened_at < first.changed_at
    await registry.set_breaker(pool, world.scope, is_open=True, by="li.lei", reason="more", permille=50)
    (wider,) = [one for one in (await registry.load(pool)).trickles if one.scope == world.scope]
    people = [n.to_bytes(16, "big") for n in range(5_000)]
    assert {one for one in people if trickle.passes(one)} < {one for one in people if wider.passes(one)}
    assert 25 <= sum(map(trickle.passes, people)) <= 80
    await pool.execute(
        "UPDATE breakers SET changed_at = changed_at - interval '5 minutes' WHERE scope = $1", world.scope
    )
    await world.complained(10)
    assert world.scope in (await look(pool, evaluator)).opened
    assert world.scope in (await registry.load(pool)).breakers
    again = await world.position()
    assert again is not None
    assert (again.position, again.permille) == ("open", None)
    assert again.opened_at == again.changed_at
    moves = [(one.position, one.permille) for one in await breakers.acts(pool, world.scope, None, 10)]
    assert moves == [("open", None), ("trickle", 50), ("trickle", 10), ("open", None)]


@pytest.mark.asyncio(loop_scope="module")
async def test_what_regulators_and_carriers_bring_counts_for_the_port_it_names(
    pool: Any, evaluator: Evaluator, world: World
) -> None:
    port, at = f"1069{world.name[1:]}", now_ms()
    await world.delivered(900)

    async def brought(source: str, n: int, *, origin: int | None) -> None:
        rows = [(uuid.uuid4(), source, port, at, origin, at // 60_000) for _ in range(n)]
        await pool.executemany(
            "INSERT INTO complaints (id, source, port, at, received_at, match, origin, minute, scope, due_at) "
            "VALUES ($1, $2, $3, $4, $4, 'unmatched', $5, $6, '*', 0)",
            rows,
        )

    await brought("own", 30, origin=None)
    assert (await look(pool, evaluator)) == ([], [])
    await brought("12321", 6, origin=None)
    assert (await look(pool, evaluator)) == ([], [f"port:{port}"])
    await brought("carrier", 4, origin=world.origin)
    assert (await look(pool, evaluator)).opened == [f"port:{port}"]
    (alert,) = await world.alerts("breaker.open", f"port:{port}")
    assert "10 confirmed complaints of 900 delivered in 30d: the line is 10 before" in alert["summary"]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_port_that_is_nobodys_of_ours_wakes_nobody(pool: Any, appender: Appender, world: World) -> None:
    at, ours = now_ms(), f"1069{world.name[1:]}"
    known = Registry(
        lanes=16, clients=(), senders=(Sender(id="x", signature="X", service_port="1", marketing_port=ours),)
    )
    for port in ("95555", ours):
        rows = [(uuid.uuid4(), port, at, at // 60_000) for _ in range(12)]
        await pool.executemany(
            "INSERT INTO complaints (id, source, port, at, received_at, match, minute, scope, due_at) "
            "VALUES ($1, '12321', $2, $3, $3, 'unmatched', $4, '*', 0)",
            rows,
        )
    own = Evaluator(pool, appender, {"cn": load("cn")}, lambda: known, now_ms)
    opened = (await look(pool, own)).opened
    assert f"port:{ours}" in opened
    assert "port:95555" not in opened


# --- a trickle, in every process the same --------------------------------------------------------------------------


async def cfg_with(guard: Guard, loaded: Any) -> Cfg:
    cfg = Cfg(guard.server)
    for beat in (1, 2):
        await guard.write_cfg(beat + next(_names), 0, loaded)
        await cfg.poll()
    return cfg


@pytest.mark.asyncio(loop_scope="module")
async def test_parked_messages_of_a_trickle_go_by_their_recipients_and_the_others_stay(
    pool: Any, guard: Guard, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unparking, "WALK_AT_ONCE", 300)
    await registry.set_breaker(pool, world.scope, is_open=True, by="li.lei", reason="a rumour")
    rows = [_parked(world, n) for n in range(1_000)]
    async with pool.acquire() as conn:
        await held.add(conn, rows)
    cfg = await cfg_with(guard, await registry.load(pool))
    parking = unparking.Unparking(cfg, lambda: _transaction(pool))
    assert await parking.step() == unparking.PAUSE_S
    assert await _waiting(pool, world) == 1_000

    await registry.set_breaker(pool, world.scope, is_open=True, by="li.lei", reason="some", permille=100)
    cfg = await cfg_with(guard, await registry.load(pool))
    parking = unparking.Unparking(cfg, lambda: _transaction(pool))
    steps = 1
    while await parking.step() == 0.0:
        steps += 1
    assert steps == 4  # three full stretches and the rest: then it rests, though nine in ten still wait
    (trickle,) = [one for one in (await registry.load(pool)).trickles if one.scope == world.scope]
    passing = {row.id for n, row in enumerate(rows) if trickle.passes(_subject(n))}
    free = {str(row["id"]) for row in await pool.fetch("SELECT id FROM held WHERE scope IS NULL")}
    assert free & {row.id for row in rows} == passing
    assert 60 <= len(passing) <= 140
    for n in range(1_000):  # the edge and the last mile say the same
        stopped = cfg.open_scope(world.name, Class.MARKETING, world.name, subject=_subject(n))
        assert (stopped is None) == (rows[n].id in passing)
    assert cfg.open_scope(world.name, Class.MARKETING, world.name) == world.scope
    assert cfg.open_scope("another", Class.MARKETING, world.name) is None

    await registry.set_breaker(pool, world.scope, is_open=False, by="li.lei", reason="clean")
    cfg = await cfg_with(guard, await registry.load(pool))
    await unparking.Unparking(cfg, lambda: _transaction(pool)).step()
    assert await _waiting(pool, world) == 0


def _subject(n: int) -> bytes:
    return (n * 7919).to_bytes(16, "big")


def _parked(world: World, n: int) -> Held:
    accepted = Accepted(
        id=f"0193{n:04x}-0000-7000-8000-{int(world.name[1:]):012d}",
        client="demo",
        sender="x",
        purpose="marketing.promotion",
        cls=Class.MARKETING,
        subject=_subject(n).hex(),
        to="+8613800000000",
        text="t",
        parts=1,
        port="1",
        pack="cn",
        basis="consent",  # type: ignore[arg-type]
        accepted_at=1,
        expires_at=2**50,
        campaign=world.name,
    )
    return Held(accepted.id, now_ms(), 2**50, 1, Class.MARKETING, world.scope, encode(accepted))


@asynccontextmanager
async def _transaction(pool: Any) -> AsyncIterator[Any]:
    async with pool.acquire() as conn, conn.transaction():
        yield conn


async def _waiting(pool: Any, world: World) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM held WHERE scope = $1", world.scope))
