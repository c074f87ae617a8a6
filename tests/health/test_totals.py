"""Hours and days say what the minutes say, and totals over any span are the sum of its minutes."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import pytest_asyncio

from gateway.contract.decision import Cause
from gateway.contract.health import Act, Signal, key_of
from gateway.contract.scope import of_sender
from gateway.records import health, links, partitions, settlement, signals, weighing
from gateway.records.migrate import FILES, migrate, migrations
from gateway.records.settlement import Minute
from gateway.records.spans import calendar
from gateway.rules.breaker import Counts, Tally

pytestmark = pytest.mark.integration
T0 = 29_400_000 - 29_400_000 % 1440
"""A day's first minute."""
DAYS = 34
NOW = T0 + (DAYS - 1) * 1440 + 754
SENDERS, CAMPAIGNS, PORTS, LISTS = ("acme", "beta"), ("may", "june", None), ("1069", "1070"), ("import", None)
CARRIERS = ("sim", "http")
BY: list[health.Dimension | None] = [None, *health.DIMENSIONS]
APART = """
SELECT count(*) FROM (
    SELECT minute / {size} AS at, {columns}, sum(n) AS n FROM {table}_minutes GROUP BY minute / {size}, {columns}
) a FULL JOIN (SELECT {step} AS at, {columns}, n FROM {table}_{step}s) b USING (at, {columns})
WHERE a.n IS DISTINCT FROM b.n
"""
Dims = dict[str, str | None]


class Filled:
    """A database with random buckets, and the same counts in memory."""

    def __init__(self, conn: Any) -> None:
        self.conn, self.origins = conn, dict[int, Dims]()
        self.outcomes: Counter[Minute] = Counter()
        self.acts: Counter[tuple[int, int, str, int]] = Counter()

    async def fill(self, seed: int) -> None:
        dice = random.Random(seed)
        for n in range(12):
            of: Dims = {
                "sender": dice.choice(SENDERS), "campaign": dice.choice(CAMPAIGNS), "port": dice.choice(PORTS),
                "list_source": dice.choice(LISTS), "purpose": dice.choice(("marketing.promotion", "invite.restock")),
            }  # fmt: skip
            fields = ("demo", of["sender"], of["purpose"], "marketing", of["port"], "cn@1", "consent")
            digest = n.to_bytes(16, "big")
            numbers = await settlement.origin_ids(self.conn, [(digest, (*fields, of["campaign"], of["list_source"]))])
            self.origins[numbers[digest]] = {**of, "client": "demo"}
        for _ in range(60):
            changes = Counter[Minute]()
            for _ in range(40):
                minute, origin = T0 + dice.randrange(DAYS * 1440), dice.choice(list(self.origins))
                status, cause = dice.choice(((2, 0), (3, 0), (4, 0), (4, 0), (5, 1), (7, 6), (9, 0)))
                key = Minute(minute, origin, "" if status == 2 else dice.choice(CARRIERS), status, cause)
                changes[key] += dice.randint(1, 500)
            await settlement.count(self.conn, changes)
            self.outcomes += changes
            told = [
                Signal(
                    dice.choice(list(Act)), dice.randbytes(16), T0 + dice.randrange(DAYS * 1440), 0,
                    dice.choice([*self.origins, None]), carrier=dice.choice(CARRIERS),
                )
                for _ in range(20)
            ]  # fmt: skip
            await signals.note(self.conn, told)
            self.acts.update((one.minute, one.origin or 0, one.carrier or "", one.act.value) for one in told)

    def expected(
        self, since: int, until: int, by: str | None, where: Mapping[health.Dimension, str]
    ) -> dict[Any, Counter[Any]]:
        found: dict[Any, Counter[Any]] = {} if by else {None: Counter()}

        def take(minute: int, origin: int, carrier: str, what: Any, n: int) -> None:
            of = {**self.origins.get(origin, {}), "carrier": carrier}
            inside = since <= minute < until and all(of.get(name) == value for name, value in where.items())
            if inside and (origin or not (by or where)):
                found.setdefault((of[by] or None) if by else None, Counter())[what] += n

        for (minute, origin, carrier, status, cause), n in self.outcomes.items():
            take(minute, origin, carrier, ("status", status, cause), n)
        for (minute, origin, carrier, act), n in self.acts.items():
            take(minute, origin, carrier, ("act", act), n)
        return found


def told(of: Counter[Any]) -> tuple[int, ...]:
    statuses = [sum(n for what, n in of.items() if what[:2] == ("status", one)) for one in (2, 3, 4, 5, 7, 9)]
    return (*statuses, *(of["act", one.value] for one in Act))


def read(of: health.Totals) -> tuple[int, ...]:
    return (
        of.accepted, of.sent, of.delivered, of.undelivered, of.rejected, of.unknown, of.complaints, of.unsubscribes,
        of.replied, of.clicks,
    )  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled(database_url: str) -> AsyncIterator[Filled]:
    conn = await asyncpg.connect(database_url)
    made = Filled(conn)
    await made.fill(20_261_125)
    yield made
    await conn.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_hours_and_days_are_the_sums_of_minutes(filled: Filled) -> None:
    for table, columns in (("outcome", "origin, carrier, status, cause"), ("signal", "origin, carrier, signal")):
        for step, size in (("hour", 60), ("day", 1440)):
            apart = await filled.conn.fetchval(APART.format(size=size, columns=columns, table=table, step=step))
            assert apart == 0
    assert await filled.conn.fetchval("SELECT sum(n) FROM outcome_days") == filled.outcomes.total()
    assert await filled.conn.fetchval("SELECT sum(n) FROM signal_days") == filled.acts.total()


@pytest.mark.asyncio(loop_scope="module")
async def test_totals_of_any_span_are_the_sum_of_its_minutes(filled: Filled) -> None:
    dice = random.Random(7)
    asked: list[dict[health.Dimension, str]] = [
        {},
        {"sender": "acme"},
        {"campaign": "may", "port": "1069"},
        {"carrier": "http"},
    ]
    for n in range(48):
        since = T0 + dice.randrange(DAYS * 1440)
        until = since + dice.choice((1, 59, 61, 1440, 7 * 1440, 30 * 1440)) + dice.randrange(90)
        where, by = asked[n % 4], BY[n % 8]
        within: dict[health.Dimension, list[str]] = {name: [value] for name, value in where.items()}
        found = await health.totals(filled.conn, since, until, by=by, where=within)
        expected = filled.expected(since, until, by, where)
        assert {key: read(of) for key, of in found.items()} == {key: told(of) for key, of in expected.items()}


@pytest.mark.asyncio(loop_scope="module")
async def test_causes_and_steps(filled: Filled) -> None:
    whole = (await health.totals(filled.conn, T0, T0 + DAYS * 1440, where={"sender": ["acme"]}))[None]
    assert whole.causes == {Cause.DEAD_NUMBER: whole.undelivered, Cause.CONTENT: whole.rejected}
    for step in health.STEPS:
        steps = await health.series(filled.conn, T0 + 5, T0 + DAYS * 1440, step, where={"sender": ["acme"]})
        assert [at for at, _, _ in steps] == sorted({at for at, _, _ in steps})
        assert all(at % health.STEPS[step] == 0 for at, _, _ in steps)
        if step == "day":
            assert sum(of.delivered for _, _, of in steps) == whole.delivered
    with pytest.raises(health.TooMuch):
        await health.series(filled.conn, T0 + 5, T0 + DAYS * 1440, "minute", by="campaign", most=100)


@pytest.mark.asyncio(loop_scope="module")
async def test_days_of_a_time_zone_and_months_hold_what_lies_between_their_edges(filled: Filled) -> None:
    edges = calendar(T0, T0 + 9 * 1440, "day", ZoneInfo("Asia/Shanghai"))
    assert edges[0] == T0 - 480
    found = await health.series_between(filled.conn, edges, where={"sender": ["beta"]})
    assert len(found) == 10
    for at, _, of in found:
        assert read(of) == told(filled.expected(at, at + 1440, None, {"sender": "beta"})[None])


def scopes_of(of: Dims) -> dict[str, dict[health.Dimension, str]]:
    """The scopes of an origin's messages, and what each has in common."""
    sender = of["sender"] or ""
    found: dict[str, dict[health.Dimension, str]] = {f"sender:{sender}": {"sender": sender}}
    if of["port"]:
        found[f"port:{of['port']}"] = {"port": of["port"]}
    for kind in ("campaign", "list_source"):
        if name := of[kind]:
            found[of_sender(kind, sender, name)] = {"sender": sender, kind: name}  # type: ignore[dict-item]
    return found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("now", [NOW, T0 + (DAYS - 1) * 1440, T0 + (DAYS - 2) * 1440 + 1439, T0 + 33 * 1440 + 60])
async def test_a_breaker_reads_every_scope_to_the_minute_and_counts_from_its_floor(filled: Filled, now: int) -> None:
    floors = {
        "sender:acme": now - 2 * 1440 - 17, "campaign:acme/may": now - 90, "list_source:import": now - 200,
        "list_source:beta/import": now - 3 * 1440, "port:1069": now - 31 * 1440,
    }  # fmt: skip
    effective = floors | {f"list_source:{sender}/import": now - 200 for sender in SENDERS}
    begins = {"day": now - 1440, "month": now - 30 * 1440}
    scopes: dict[str, dict[health.Dimension, str]] = {}
    for of in filled.origins.values():
        scopes |= scopes_of(of)
    counting, late = weighing.Counting(), T0 + 99 * 1440
    found = await counting.counts(filled.conn, now, floors)
    assert set(found) == set(scopes)
    for scope, where in scopes.items():
        tallies = []
        for begin in begins.values():
            of_ = filled.expected(max(begin, effective.get(scope, 0)), late, None, where)[None]
            tallies.append(Tally(told(of_)[2], of_["act", 1], 0, of_["act", 2]))
        assert found[scope] == Counts(*tallies), scope
        assert await weighing.counts_of(filled.conn, scope, now, floors, SENDERS) == found[scope], scope
    assert await counting.counts(filled.conn, now, floors) == found, "looked at again"
    acted = await counting.counts(filled.conn, now, floors, acted=True)
    whole = await weighing.Counting().counts(filled.conn, now, {})
    assert acted == {scope: found[scope] for scope, of in whole.items() if any(one[1] or one[3] for one in of)}
    assert acted


async def test_an_update_fills_hours_and_days_from_the_minutes_there_are(postgres_url: str, tmp_path: Path) -> None:
    """The tables of the version before, with counts in them, brought up to this one."""
    admin = await asyncpg.connect(postgres_url)
    await admin.execute("DROP DATABASE IF EXISTS before_0016")
    await admin.execute("CREATE DATABASE before_0016")
    dsn = postgres_url.rpartition("/")[0] + "/before_0016"
    for one in migrations():
        if one.name < "0016":
            (tmp_path / f"{one.name}.sql").write_text(one.sql)
    await migrate(dsn, tmp_path)
    conn = await asyncpg.connect(dsn)
    await conn.execute("INSERT INTO outcome_minutes SELECT m, 1, 'sim', 4, 0, 3 FROM generate_series(0, 2999) m")
    await conn.execute("INSERT INTO signal_minutes SELECT m, 1, 2, 1 FROM generate_series(0, 2999) m")
    await migrate(dsn, FILES)
    days = [tuple(row) for row in await conn.fetch("SELECT day, n FROM outcome_days ORDER BY 1")]
    assert days == [(0, 4320), (1, 4320), (2, 360)]
    assert await conn.fetchval("SELECT count(*) FROM outcome_hours WHERE n = 180") == 50
    assert [row["n"] for row in await conn.fetch("SELECT n FROM signal_days ORDER BY day")] == [1440, 1440, 120]
    assert await signals.note(conn, [Signal(Act.REPLY, key_of("a"), 0, 0, 1)])
    await conn.close()
    await admin.execute("DROP DATABASE before_0016")
    await admin.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_too_old_goes_and_days_stay(filled: Filled) -> None:
    """Last in this file: it takes minutes and hours away."""
    conn, cut = filled.conn, T0 + 20 * 1440
    days = await conn.fetchval("SELECT sum(n) FROM outcome_days") + await conn.fetchval(
        "SELECT sum(n) FROM signal_days"
    )
    await partitions.drop_buckets_before(conn, "minute", cut + 1440)
    await partitions.drop_buckets_before(conn, "hour", cut // 60)
    for table in ("outcome", "signal"):
        assert await conn.fetchval(f"SELECT min(minute) FROM {table}_minutes") >= cut + 1440  # noqa: S608
        assert cut // 60 <= await conn.fetchval(f"SELECT min(hour) FROM {table}_hours") < cut // 60 + 24  # noqa: S608
    assert days == filled.outcomes.total() + filled.acts.total()
    whole = (await health.totals(conn, T0, T0 + DAYS * 1440))[None]
    assert read(whole) == told(filled.expected(T0, T0 + DAYS * 1440, None, {})[None]), "whole days need nothing finer"
    await signals.purge(conn, cut)
    assert await conn.fetchval("SELECT min(minute) FROM signals") >= cut
    await links.add_clicks(conn, "00000000-0000-0000-0000-000000000001", 1, {})
    await conn.execute("UPDATE click_flushes SET at = at - interval '25 hours'")
    await links.add_clicks(conn, "00000000-0000-0000-0000-000000000002", 1, {})
    await links.purge(conn)
    assert await conn.fetchval("SELECT count(*) FROM click_flushes") == 1
