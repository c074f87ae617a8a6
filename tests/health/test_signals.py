"""Signals count once, with what they are about or not at all; alerts are raised once."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from gateway.contract.health import Act, Alert, Signal, key_of
from gateway.records import alerts, signals

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def conn(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def complaint(name: str, minute: int, origin: int | None = 7) -> Signal:
    return Signal(Act.COMPLAINT, key_of("test", name), minute, minute * 60_000, origin)


async def counted(conn: "asyncpg.Connection[asyncpg.Record]", minute: int) -> dict[tuple[int, int], int]:
    rows = await conn.fetch("SELECT origin, signal, n FROM signal_minutes WHERE minute = $1", minute)
    return {(row["origin"], row["signal"]): row["n"] for row in rows}


async def test_what_is_told_twice_counts_once(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    first = await signals.note(conn, [complaint("a", 100), complaint("b", 100), complaint("c", 100, None)])
    again = await signals.note(conn, [complaint("a", 100), complaint("d", 100)])
    assert len(first) == 3
    assert again == {(1, key_of("test", "d"))}
    assert await counted(conn, 100) == {(7, 1): 3, (0, 1): 1}


async def test_many_who_tell_the_same_at_once_count_it_once(
    conn: "asyncpg.Connection[asyncpg.Record]", database_url: str
) -> None:
    async with asyncpg.create_pool(database_url, min_size=8, max_size=8) as pool:

        async def tell(n: int) -> int:
            async with pool.acquire() as one, one.transaction():
                told = [complaint(f"r{(n + k) % 40}", 200) for k in range(40)]
                return len(await signals.note(one, sorted(told)))

        assert sum(await asyncio.gather(*map(tell, range(32)))) == 40
    assert await counted(conn, 200) == {(7, 1): 40}


async def test_a_transaction_that_fails_leaves_no_count(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    transaction = conn.transaction()
    await transaction.start()
    await signals.note(conn, [complaint("gone", 300)])
    await transaction.rollback()
    assert await counted(conn, 300) == {}
    assert await signals.note(conn, [complaint("gone", 300)])


async def test_an_alert_is_raised_once(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    said = {"kind": "breaker.warn", "severity": "warning", "scope": "sender:acme", "summary": "s"}
    alert = Alert.model_validate({"key": "breaker.warn/sender:acme/1", **said})
    assert await alerts.put(conn, alert)
    assert not await alerts.put(conn, alert)
