"""The due table, daily partitions, and a settle transaction's rules, on real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.contract.decision import Class
from gateway.contract.ids import id_time_ms, new_id
from gateway.records import held, partitions, settlement
from gateway.records.held import Held
from gateway.records.messages import Messages
from gateway.records.partitions import DAY_MS, day_of, lowest_id
from gateway.records.settlement import Minute, Superseded

pytestmark = pytest.mark.integration

T0 = 1_760_000_000_000
MARKETING, TRANSACTIONAL = Class.MARKETING, Class.TRANSACTIONAL


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=6) as made:
        yield made


@pytest.fixture
async def conn(pool: Any) -> AsyncIterator[Any]:
    """A connection whose writes are undone, so that tests do not meet each other's rows."""
    async with pool.acquire() as made:
        transaction = made.transaction()
        await transaction.start()
        yield made
        await transaction.rollback()


def waiting(due: int = 10, attempt: int = 1, cls: Class = MARKETING, scope: str | None = None, **more: Any) -> Held:
    fields = {"id": new_id(1), "expires_at": 1_000, "payload": b"{}", **more}
    return Held(due=due, attempt=attempt, cls=cls, scope=scope, **fields)


async def test_due_rows_come_by_class_and_time_and_parked_ones_wait(conn: Any) -> None:
    late, early, future = waiting(9), waiting(3), waiting(11)
    other, parked = waiting(1, cls=TRANSACTIONAL), waiting(1, scope="sender:acme")
    await held.add(conn, [late, early, future, other, parked])
    assert await held.due(conn, MARKETING, 10, 10) == [early, late]
    assert await held.due(conn, MARKETING, 10, 1) == [early]
    assert await held.due(conn, TRANSACTIONAL, 10, 10) == [other]
    assert await held.scopes(conn) == ["sender:acme"]
    assert await held.unpark(conn, "sender:acme", 10) == 1
    assert await held.due(conn, MARKETING, 10, 1) == [parked._replace(scope=None)]
    await held.park(conn, [early.id], "all")
    assert await held.due(conn, MARKETING, 10, 10) == [parked._replace(scope=None), late]
    await held.delete(conn, [late.id, future.id])
    assert await held.count(conn) == 3


async def test_scopes_are_found_and_let_go_in_bounded_steps_and_many_rows_are_estimated(
    conn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = ["all", "campaign:a", "sender:acme"]
    await held.add(conn, [waiting(scope=scope) for scope in scopes for _ in range(7)] + [waiting()])
    assert await held.scopes(conn) == scopes
    assert [await held.unpark(conn, "campaign:a", 4) for _ in range(3)] == [4, 3, 0]
    assert await held.scopes(conn) == ["all", "sender:acme"]
    assert await held.count(conn) == 22
    await conn.execute("ANALYZE held")
    monkeypatch.setattr(held, "COUNTED", 3)
    assert await held.count(conn) == 22


async def test_the_newest_attempt_of_a_message_stays_and_adding_again_changes_nothing(conn: Any) -> None:
    first = waiting(3)
    second = first._replace(attempt=2, due=5, payload=b"2")
    await held.add(conn, [second, first])
    await held.add(conn, [first])
    await held.add(conn, [second._replace(due=4)])
    assert await held.due(conn, MARKETING, 10, 10) == [second]


async def test_expired_rows_are_found_parked_or_not(conn: Any) -> None:
    rows = [waiting(expires_at=5), waiting(expires_at=4, scope="all"), waiting(expires_at=6)]
    await held.add(conn, rows)
    assert await held.expired(conn, 5, 10) == [rows[1], rows[0]]


async def test_two_holders_share_the_rows_and_a_rollback_gives_them_back(pool: Any) -> None:
    rows = [waiting(n) for n in range(6)]
    async with pool.acquire() as one, pool.acquire() as two:
        await held.add(one, rows)
        first, second = one.transaction(), two.transaction()
        await first.start()
        await second.start()
        mine, theirs = await held.due(one, MARKETING, 10, 3), await held.due(two, MARKETING, 10, 10)
        assert [*mine, *theirs] == rows
        await first.rollback()
        await second.rollback()
        assert await held.due(two, MARKETING, 10, 10) == rows
        await held.delete(one, [row.id for row in rows])


async def test_a_days_ids_lie_in_its_partition_and_early_rows_move_into_it(pool: Any) -> None:
    day = day_of(T0)
    rows = {n: _row(new_id(2, (day + n) * DAY_MS + 5)) for n in (0, 1)}
    async with pool.acquire() as conn:
        await settlement.insert(conn, list(rows.values()))
        await asyncio.gather(*(_ensure(pool, [day, day + 1]) for _ in range(3)))
        for n, row in rows.items():
            found = await conn.fetchrow("SELECT tableoid::regclass::text, id FROM messages WHERE id = $1", row[0])
            assert tuple(map(str, found)) == (partitions.name_of("messages", day + n), row[0])
        assert await conn.fetchval("SELECT count(*) FROM ONLY messages_other") == 0
        assert await partitions.drop_before(conn, "messages", day + 1) == [partitions.name_of("messages", day)]
        assert await Messages(pool).by_id(rows[0][0]) is None
        assert await Messages(pool).by_id(rows[1][0]) is not None
        assert ("carrier_ids", day) in await partitions.existing(conn)


async def _ensure(pool: Any, days: list[int]) -> None:
    async with pool.acquire() as conn:
        await partitions.ensure(conn, days)


def _row(message_id: str, subject: bytes = b"s" * 16, rank: int = 3) -> tuple[Any, ...]:
    given = {"id": message_id, "subject": subject, "rank": rank, "status": 2, "cause": 0, "attempt": 1, "parts": 1}
    return tuple({**given, "parts_delivered": 0, "timeline": "[]"}.get(name) for name in settlement.COLUMNS)


def test_the_lowest_id_of_a_time_is_below_every_id_made_then() -> None:
    for ms in (T0, T0 + 1, DAY_MS * 20_000):
        assert lowest_id(ms) <= new_id(0, ms) < lowest_id(ms + 1)
        assert id_time_ms(lowest_id(ms)) == ms


async def test_offsets_move_only_from_where_they_are(conn: Any) -> None:
    await settlement.begin_offsets(conn, "t", {("results", 0): 5, ("results", 1): 7})
    await settlement.begin_offsets(conn, "t", {("results", 0): 0})
    await settlement.move_offsets(conn, "t", {("results", 0): (5, 6), ("results", 1): (7, 9)})
    assert await settlement.offsets(conn, "t") == {("results", 0): 6, ("results", 1): 9}
    with pytest.raises(Superseded):
        await settlement.move_offsets(conn, "t", {("results", 0): (5, 8)})
    with pytest.raises(Superseded):
        await settlement.move_offsets(conn, "t", {("receipts", 0): (0, 8)})


async def test_rows_are_replaced_whole_and_counted_by_minute(conn: Any) -> None:
    ids = [new_id(1, T0 + n) for n in range(3)]
    await settlement.insert(conn, [_row(one) for one in ids])
    await settlement.update(conn, [_row(ids[1], rank=9), _row(ids[2], subject=b"t" * 16, rank=8)])
    assert {str(row["id"]): row["rank"] for row in await settlement.rows(conn, ids)} == dict(
        zip(ids, (3, 9, 8), strict=True)
    )
    bucket = Minute(1, 2, "sim", 4, 0)
    for n in (2, 3, -1):
        await settlement.count(conn, {bucket: n, bucket._replace(minute=2): 0})
    assert [tuple(row) for row in await conn.fetch("SELECT * FROM outcome_minutes")] == [(1, 2, "sim", 4, 0, 4)]


async def test_an_origin_is_stored_once(conn: Any) -> None:
    fields = ("demo", "acme", "a.b", "marketing", "1", "cn@1", "consent", None, None)
    first = await settlement.origin_ids(conn, [(b"1" * 16, fields), (b"2" * 16, (*fields[:7], "may", "list"))])
    again = await settlement.origin_ids(conn, [(b"2" * 16, (*fields[:7], "may", "list"))])
    assert again == {b"2" * 16: first[b"2" * 16]}
    assert [tuple(row)[1:] for row in await settlement.origins(conn, [first[b"1" * 16]])] == [fields]


async def test_of_a_carriers_id_used_twice_the_latest_message_counts(conn: Any) -> None:
    old, new = new_id(1, T0), new_id(1, T0 + 9)
    await settlement.remember_carrier_ids(conn, [("c/1", new, T0 + 9), ("c/1", old, T0), ("c/2", old, T0)])
    assert await settlement.find_carrier_ids(conn, ["c/1", "c/2", "c/3"]) == {"c/1": new, "c/2": old}


async def test_orphans_are_taken_once_oldest_first(conn: Any) -> None:
    await settlement.keep_orphans(conn, [("c/1", T0 + 2, '{"n":2}'), ("c/1", T0 + 1, '{"n":1}'), ("c/2", T0, "{}")])
    assert sorted(await settlement.orphan_keys(conn, 10)) == ["c/1", "c/1", "c/2"]
    assert [row["receipt"] for row in await settlement.take_orphans(conn, ["c/1"])] == ['{"n":1}', '{"n":2}']
    assert await settlement.take_orphans(conn, ["c/1"]) == []


async def test_what_is_owed_is_remembered_once_and_paid_away(conn: Any) -> None:
    one = new_id(1)
    for _ in range(2):
        await settlement.owe(conn, "refunds_due", [(one, b"s" * 16)])
    await settlement.owe(conn, "suppressions_due", [])
    assert await settlement.refunds_due(conn, 9) == [(one, b"s" * 16)]
    await settlement.paid(conn, "refunds_due", [one])
    assert await settlement.refunds_due(conn, 9) == []
    with pytest.raises(ValueError, match="messages"):
        await settlement.paid(conn, "messages", [one])


async def test_searches_page_backwards_through_days(pool: Any) -> None:
    subject, day = b"z" * 16, day_of(T0) + 10
    ids = [new_id(1, day * DAY_MS + n * DAY_MS // 2) for n in range(5)]
    async with pool.acquire() as conn:
        await partitions.ensure(conn, [day, day + 1])
        await settlement.insert(conn, [_row(one, subject) for one in ids])
    reader = Messages(pool)
    page = await reader.search(subject=subject, limit=2)
    rest = await reader.search(subject=subject, limit=9, before=page[-1].id)
    assert [one.id for one in [*page, *rest]] == ids[::-1]
    assert await reader.search(subject=subject, client="demo") == []
    assert page[0].client is None
    with pytest.raises(ValueError, match="subject"):
        await reader.search()
