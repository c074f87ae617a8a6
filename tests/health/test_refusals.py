"""What the edge refuses is on the board within a second, by sender and reason, and nothing else is counted."""

import time

import asyncpg

from gateway.contract.codes import Code
from gateway.intake.refused import NOBODY, Refused
from gateway.records import refusals


async def test_each_second_is_added_to_its_minute_and_read_by_code(database_url: str) -> None:
    seen = Refused()
    seen.add("acme", Code.CONSENT_MISSING)
    seen.add("acme", Code.CONSENT_MISSING, 2)
    seen.add(NOBODY, Code.AUTH_INVALID)
    taken = seen.take()
    assert seen.take() == {}
    minute = int(time.time()) // 60
    connection = await asyncpg.connect(database_url)
    try:
        for _ in range(2):
            await refusals.add(connection, minute, taken)
        await refusals.add(connection, minute - 60, {("acme", Code.SUPPRESSED): 5})
        assert await refusals.totals(connection, minute, minute + 1) == {"consent.missing": 6, "auth.invalid": 2}
        assert await refusals.totals(connection, 0, minute + 1, "acme") == {"consent.missing": 6, "suppressed": 5}
        await refusals.forget(connection, minute)
        assert await refusals.totals(connection, 0, minute + 1, "acme") == {"consent.missing": 6}
    finally:
        await connection.close()
