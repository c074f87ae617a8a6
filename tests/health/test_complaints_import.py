"""A long file of complaints is taken in at a rate, in bounded memory; how it breaks off, and how it is completed.

`ASSENT_LONG=1` takes 100,000 lines in.
"""

import asyncio
import gc
import os
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import psutil
import pytest
import pytest_asyncio
from complaint_rig import DAY, HOUR, NOW, SALE, ZONE, World, world

from gateway.contract.complaint import Matching
from gateway.contract.ids import lane_of, new_id
from gateway.intake.complaint_file import Importing
from gateway.ledger.appender import LedgerUnavailable
from gateway.records import partitions
from gateway.rules.complaint_file import File, mapping

pytestmark = pytest.mark.integration
LINES = 100_000 if os.environ.get("ASSENT_LONG") else 3_000
HEAD = "举报编号,举报号码,被举报号码,举报时间,举报内容\n"
AT = datetime.fromtimestamp(NOW / 1000, UTC).astimezone(ZONE).strftime("%Y-%m-%d %H:%M:%S")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def at(redis_url: str, database_url: str) -> AsyncIterator[World]:
    async with world(redis_url, database_url) as made:
        yield made


def number(n: int, of: str = "+86137") -> str:
    return f"{of}{n:08d}"


def line(n: int, ref: str = "L") -> str:
    return f"{ref}{n},{number(n)},10690002,{AT},没同意过：{SALE[:24]}\n"


async def sent_to(at: World, first: int, last: int) -> None:
    """A message to each of these people, and to every tenth another of the same hour, with what they said."""
    async with at.pool.acquire() as conn:
        origin = await conn.fetchval(
            "INSERT INTO message_origins (digest, client, sender, purpose, class, port, pack, basis, campaign) "
            "VALUES ('long-long-long--', 'shop', 'acme', 'marketing.promotion', 'marketing', '10690002', 'cn@1', "
            "'consent', 'long') ON CONFLICT (digest) DO UPDATE SET client = 'shop' RETURNING id"
        )
        rows, said = [], []
        for n in range(first, last):
            subject = at.keys.subject(number(n))
            for again in range(2 if n % 10 == 0 else 1):
                sent = NOW - 3 * HOUR - again * HOUR // 2
                name = uuid.UUID(new_id(lane_of(subject), sent))
                steps = orjson.dumps([[sent, 2, 1], [sent + 1_000, 3, 1, "simulator", "0"]]).decode()
                rows.append((name, subject, origin, sent, 1, 3, steps))
                said.append((name, at.contents.seal(name.bytes, number(n), SALE)))
        columns = ["id", "subject", "origin", "accepted_at", "rank", "status", "timeline"]
        await conn.copy_records_to_table("messages", columns=columns, records=rows)
        await conn.copy_records_to_table("message_contents", columns=["id", "sealed"], records=said)


def importing(at: World, **more: Any) -> Importing:
    return Importing(at.means, File(mapping("12321"), ZONE, NOW), "cli/Li Lei", lambda: NOW, **more)


async def pieces(*lines: str, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    data = (HEAD + "".join(lines)).encode()
    for first in range(0, len(data), size):
        yield data[first : first + size]


@pytest.mark.timeout(900)
async def test_a_long_file_is_taken_in_quickly_and_in_bounded_memory(at: World) -> None:
    async with at.pool.acquire() as conn:
        await partitions.ensure(conn, range(NOW // DAY - 1, NOW // DAY + 1))
    for first in range(0, LINES, 10_000):
        await sent_to(at, first, min(first + 10_000, LINES))
    await at.pool.execute("ANALYZE messages, message_contents")
    process, most, done = psutil.Process(), 0, False

    async def lines() -> AsyncIterator[bytes]:
        yield HEAD.encode()
        for first in range(0, LINES, 1_000):
            yield "".join(line(n) for n in range(first, min(first + 1_000, LINES))).encode()

    async def watch() -> None:
        nonlocal most
        while not done:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.05)

    gc.collect()
    base, began, used = process.memory_info().rss, time.monotonic(), process.cpu_times().user
    watching = asyncio.create_task(watch())
    counts = await importing(at, at_once=4).run(lines())
    took, used = time.monotonic() - began, process.cpu_times().user - used
    done = True
    await watching
    print(f"{LINES:,} lines in {took:.1f} s, {LINES / took:,.0f} a second; CPU here {used / LINES * 1e6:.0f} µs a line")
    print(f"{(most - base) / 1e6:.1f} MB more at most")
    assert (counts.recorded, counts.duplicates, counts.rejected) == (LINES, 0, 0)
    assert counts.matches == {Matching.MATCHED: LINES * 9 // 10, Matching.AMBIGUOUS: LINES // 10, Matching.UNMATCHED: 0}
    assert most - base < 60e6
    assert await at.one("SELECT count(*) FROM complaints") == LINES
    assert await at.one("SELECT sum(n) FROM signal_days WHERE signal = 1") == LINES
    assert await at.one("SELECT count(*) FROM subject_suppressions") == LINES


async def test_what_breaks_off_in_the_middle_leaves_whole_batches_and_is_completed(at: World) -> None:
    """The ledger is away after a few batches, while others are under way."""
    lines = [line(n, "B") for n in range(3_000)]
    before = await at.one("SELECT count(*) FROM complaints")

    class Going:
        keys = at.keys
        lives = 3

        async def append(self, acts: Any) -> Any:
            self.lives -= 1
            if self.lives < 0:
                raise LedgerUnavailable("away")
            return await at.appender.append(acts)

    broken = importing(at, at_once=4)
    broken._means = at.means._replace(appender=Going())  # type: ignore[arg-type]
    with pytest.raises(LedgerUnavailable):
        await broken.run(pieces(*lines))
    assert [one for one in asyncio.all_tasks() if "take" in repr(one.get_coro())] == [], "nothing goes on behind it"
    taken = await at.one("SELECT count(*) FROM complaints") - before
    assert 0 < taken < 3_000
    counts = await importing(at, at_once=4).run(pieces(*lines))
    assert (counts.recorded, counts.duplicates) == (3_000 - taken, taken)
    assert await at.one("SELECT count(*) FROM complaints") - before == 3_000
    signals = await at.one("SELECT count(*) FROM signals WHERE signal = 1")
    assert signals == await at.one("SELECT count(*) FROM complaints")


async def test_lines_are_told_in_their_order_and_the_same_twice_is_one(at: World) -> None:
    lines = [line(n, "C") if n % 500 else f"C{n},no number,10690002,{AT},x\n" for n in range(2_000)]
    told: list[int] = []
    twice = importing(at, at_once=4, told=lambda bad: told.append(bad.line))
    counts = await twice.run(pieces(*lines, *lines))
    assert (counts.recorded, counts.duplicates, counts.rejected) == (1_996, 1_996, 8)
    assert told == sorted(told)
