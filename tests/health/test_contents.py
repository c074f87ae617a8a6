"""What messages said: stored once, sealed at rest, opened by id."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.contract.ids import new_id
from gateway.ledger.keys import Keys
from gateway.ledger.sealing import Contents
from gateway.records import contents, partitions
from gateway.records.contents import Content

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
