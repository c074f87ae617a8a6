"""What messages said: stored once, opened by id, dropped with their day but for what a legal hold covers."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.contract.ids import id_time_ms, new_id
from gateway.ledger.keys import Keys
from gateway.ledger.sealing import Contents
from gateway.records import contents, holds, partitions, settlement
from gateway.records.contents import Content
from gateway.records.holds import Scope

pytestmark = pytest.mark.integration

DAY_MS = partitions.DAY_MS
T0 = 20_400 * DAY_MS
SEALING = Contents(Keys(bytes(32), bytes(32)))


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=0, max_size=6) as made:
        yield made


def row(message_id: str, text: str = "【Acme】您好") -> tuple[str, bytes]:
    return message_id, SEALING.seal(UUID(message_id).bytes, "+8613800138000", text)


async def test_contents_are_stored_once_and_opened_by_id(pool: Any) -> None:
    ids = [new_id(3, T0 + n) for n in range(3)]
    async with pool.acquire() as conn:
        await partitions.ensure(conn, [partitions.day_of(T0)])
        async with conn.transaction():
            assert await contents.add(conn, [row(ids[0], "first"), row(ids[1])]) == 2
        async with conn.transaction():
            assert await contents.add(conn, [row(ids[0], "again"), row(ids[2]), row(ids[2])]) == 1
        where = await conn.fetchval("SELECT DISTINCT tableoid::regclass::text FROM message_contents")
        assert where == partitions.name_of("message_contents", partitions.day_of(T0))
    assert await contents.texts(pool, SEALING.open, [*ids, new_id(3, T0)]) == {
        ids[0]: "first",
        ids[1]: "【Acme】您好",
        ids[2]: "【Acme】您好",
    }
    assert await contents.contents(pool, SEALING.open, [ids[0]]) == {ids[0]: Content("+8613800138000", "first")}
    assert await contents.texts(pool, SEALING.open, []) == {}


async def test_a_damaged_row_is_left_out_and_the_others_open(pool: Any) -> None:
    good, moved = new_id(3, T0 + 10), new_id(3, T0 + 11)
    async with pool.acquire() as conn, conn.transaction():
        await contents.add(conn, [row(good), (moved, row(good)[1])])
    assert set(await contents.texts(pool, SEALING.open, [good, moved])) == {good}


# --- legal holds -----------------------------------------------------------------------------------------------------


async def logged(conn: Any, message_id: str, subject: bytes, sender: str, campaign: str | None = None) -> None:
    """A message's row in the log, and its content."""
    named = ("demo", sender, "marketing.promotion", "marketing", "1069", "cn@1", "consent", campaign, None)
    digest = f"{sender}/{campaign}".encode()
    origin = (await settlement.origin_ids(conn, [(digest, named)]))[digest]
    fields = {"id": message_id, "subject": subject, "origin": origin, "accepted_at": id_time_ms(message_id), "rank": 3}
    fields |= {"status": 4, "cause": 0, "attempt": 1, "parts": 1, "parts_delivered": 1, "timeline": "[]"}
    await settlement.insert(conn, [tuple(fields.get(name) for name in settlement.COLUMNS)])
    async with conn.transaction():
        await contents.add(conn, [row(message_id)])


async def left(conn: Any, ids: list[str]) -> tuple[list[bool], list[bool]]:
    """Which of these the log and the contents still have."""
    log = {str(one["id"]) for one in await conn.fetch("SELECT id FROM messages WHERE id = ANY($1::uuid[])", ids)}
    kept = await contents.texts(conn, SEALING.open, ids)
    return [one in log for one in ids], [one in kept for one in ids]


async def drop(conn: Any, before_day: int) -> list[str]:
    return [name for table in partitions.BY_ID for name in await partitions.drop_before(conn, table, before_day)]


async def test_days_are_dropped_but_for_what_a_hold_covers_until_it_is_released(pool: Any) -> None:
    day = partitions.day_of(T0) + 10
    ids = [new_id(3, (day + n // 3) * DAY_MS + n) for n in range(6)]
    other = new_id(3, (day - 400) * DAY_MS)
    async with pool.acquire() as conn:
        await partitions.ensure(conn, [day, day + 1, day + 2])
        for n, one in enumerate([*ids, other]):
            await logged(conn, one, bytes([n]) * 16, ("acme", "bolt", "acme")[n % 3], "sale" if n % 3 == 2 else None)
        sale = await holds.add(conn, Scope(sender="acme", campaign="sale"), "Li Lei", "case 12")
        person = await holds.add(conn, Scope(subject=bytes([4]) * 16), "Li Lei", "case 13")
        elsewhere = await holds.add(conn, Scope(from_id=partitions.lowest_id((day + 2) * DAY_MS)), "Li Lei", "case 14")
        names = {partitions.name_of(table, d) for table in partitions.BY_ID for d in (day, day + 1)}
        assert not names & set(await drop(conn, day + 2))
        only = [False, False, True, False, True, True]
        assert await left(conn, [*ids, other]) == ([*only, False], [*only, False])
        files = "SELECT array_agg(pg_relation_filenode(oid::regclass)) FROM pg_class WHERE relname ~ '^messages_20'"
        before = await conn.fetchval(files)
        assert await drop(conn, day + 2) == []
        assert await conn.fetchval(files) == before  # looked at, not copied again
        assert await holds.release(conn, person, "Han Meimei", "closed")
        assert not await holds.release(conn, person, "Han Meimei", "closed")
        assert await drop(conn, day + 2) == []
        only = [False, False, True, False, False, True]
        assert await left(conn, ids) == (only, only)
        assert await holds.release(conn, sale, "Han Meimei", "closed")
        assert names <= set(await drop(conn, day + 2))
        assert await left(conn, ids) == ([False] * 6, [False] * 6)
        assert [one.id for one in await holds.listed(conn)] == [elsewhere]
        told = {one.id: (one.released_by, one.scope) for one in await holds.listed(conn, standing=False)}
        assert told[person] == ("Han Meimei", Scope(subject=bytes([4]) * 16))
        assert await holds.release(conn, elsewhere, "Han Meimei", "closed")


async def test_what_a_hold_covers_is_not_erased_until_it_is_released(pool: Any) -> None:
    day, subject = partitions.day_of(T0) + 20, b"h" * 16
    ids = [new_id(3, day * DAY_MS + n) for n in range(2)]
    async with pool.acquire() as conn:
        await partitions.ensure(conn, [day])
        await logged(conn, ids[0], subject, "acme", "held")
        await logged(conn, ids[1], subject, "acme")
        hold = await holds.add(conn, Scope(campaign="held"), "Li Lei", "case 15")
        assert not await contents.forget(conn, subject, day * DAY_MS + 5)
        assert (await left(conn, ids))[1] == [True, False]
        await contents.sweep(conn, day * DAY_MS + 2 * contents.LATE_MS)
        assert (await left(conn, ids))[1] == [True, False]
        await holds.release(conn, hold, "Li Lei", "closed")
        await contents.sweep(conn, day * DAY_MS + 2 * contents.LATE_MS)
        assert (await left(conn, ids))[1] == [False, False]
        assert await conn.fetchval("SELECT count(*) FROM content_erasures") == 0
