"""The projection on real PostgreSQL and Valkey: whatever is lost, the cache is right, or it is cold and says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from gateway.contract.consent import Event, EventKind, State
from gateway.contract.ids import LANES
from gateway.contract.registry import Registry
from gateway.guard import keys as guard_keys
from gateway.guard import person
from gateway.guard.cfg import Cfg
from gateway.guard.cursors import Cursors
from gateway.guard.guard import Guard
from gateway.guard.server import GuardUnavailable
from gateway.ledger import events, projection
from gateway.ledger import rebuild as filling
from gateway.ledger.appender import Appender, LedgerUnavailable
from gateway.ledger.keys import Keys
from gateway.ledger.projection import Projection
from gateway.ledger.rebuild import rebuild

pytestmark = pytest.mark.integration

KEYS = Keys(b"m" * 32, b"p" * 32)
PEOPLE = [f"+86139{n:08d}" for n in range(120)]


class Interrupted(Guard):
    """A real guard with a hook before each write of states, where faults are put."""

    before_apply: Callable[[], Awaitable[None]] | None = None

    async def apply_encoded(self, states: Sequence[tuple[bytes, bytes]], *, blocking: bool = False) -> list[int]:
        if self.before_apply is not None:
            await self.before_apply()
        return await super().apply_encoded(states, blocking=blocking)

    async def fill(self, states: Sequence[tuple[bytes, bytes]]) -> None:
        if self.before_apply is not None:
            await self.before_apply()
        await super().fill(states)


@pytest.fixture(scope="module")
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as made:
        yield made


@pytest.fixture
async def guard(redis_url: str) -> AsyncIterator[Interrupted]:
    made = Interrupted((await Guard.connect(redis_url)).server)
    await made.server.command("FLUSHDB")
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same loops, faster."""
    for name, seconds in (("FOLLOW_S", 0.01), ("TEND_S", 0.02), ("AGAIN_S", 0.05), ("PAGE", 50)):
        monkeypatch.setattr(projection, name, seconds)
    monkeypatch.setattr(filling, "PAGE", 40)
    monkeypatch.setattr(filling, "APPLYING", 1)


_serial = iter(range(10_000_000))


def grant(to: str) -> Event:
    data = events.grant("acme", ["marketing"])
    subject, serial = KEYS.subject(to), next(_serial)
    return Event(
        event_id=f"g{serial}", kind=EventKind.GRANT, number=to, subject=subject, occurred_at_ms=serial, data=data
    )


async def registry() -> Registry:
    return Registry(lanes=LANES, clients=(), senders=())


@asynccontextmanager
async def projecting(
    url: str, guard: Guard, load: Callable[[], Awaitable[Registry]] = registry
) -> AsyncIterator[Projection]:
    made = Projection(url, guard, load)
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(what: Callable[[], Awaitable[bool]], seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not await what():  # noqa: ASYNC110 - another process would be watched the same way
            await asyncio.sleep(0.01)


class Waiting:
    """A recovery that ends when somebody else has learned from Redis who the senders are, as settle must."""

    def __init__(self) -> None:
        self.known = asyncio.Event()

    async def run(self, *_: Any) -> None:
        await self.known.wait()


async def test_who_starts_after_a_flush_learns_the_senders_before_the_lanes_are_open(
    guard: Interrupted, database_url: str
) -> None:
    """Else settle, which the lanes wait for, would wait for the lanes."""
    waiting, cfg = Waiting(), Cfg(guard.server)
    made = Projection(database_url, guard, registry, waiting)  # type: ignore[arg-type]
    task = asyncio.ensure_future(made.run())
    await cfg.start()
    try:

        async def told() -> bool:
            return cfg.registry is not None

        await until(told)
        assert (cfg.fresh, made.seq) == (False, -1)
        assert all(cursor is None or cursor < 0 for cursor in await guard.cursors())
        waiting.known.set()

        async def opened() -> bool:
            return cfg.fresh

        await until(opened)
    finally:
        task.cancel()
        await asyncio.gather(task, cfg.close(), return_exceptions=True)


async def head(pool: Any) -> int:
    seq: int = await pool.fetchval("SELECT seq FROM ledger_head")
    return seq


async def beat(guard: Guard) -> int:
    return int(await guard.server.command("HGET", guard_keys.CFG, "n") or 0)


async def wrong(pool: Any, guard: Guard) -> list[str]:
    """Everybody whose cached state is not what PostgreSQL says."""
    rows = await pool.fetch("SELECT subject, state FROM subject_states")
    names = [guard_keys.PERSON[row["subject"][0]] + row["subject"] for row in rows]
    found = [await guard.server.command("GET", name) for name in names]
    return [
        row["subject"].hex()
        for row, raw in zip(rows, found, strict=True)
        if raw != person.encode(State.model_validate_json(row["state"]))
    ]


async def whole(pool: Any, guard: Guard) -> bool:
    """Every lane is at the head, and so is everybody."""
    seq = await head(pool)
    return await Cursors(guard.server).read() == [seq] * LANES and not await wrong(pool, guard)


@pytest.fixture
async def appender(pool: Any, guard: Interrupted) -> Appender:
    made = Appender(pool, KEYS, Guard(guard.server))
    await made.start()
    await made.append([grant(to) for to in PEOPLE])
    return made


async def test_a_flushed_cache_is_filled_and_then_followed(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    async with projecting(database_url, guard) as running:
        await until(lambda: whole(pool, guard))
        assert running.seq == await head(pool)
        await appender.append([grant(to) for to in PEOPLE])
        await until(lambda: whole(pool, guard))
        await guard.server.command("FLUSHDB")
        await appender.append([grant(PEOPLE[0])])
        await until(lambda: whole(pool, guard))


async def test_what_died_between_commit_and_guard_is_applied(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    broken = Interrupted(guard.server)

    async def lose() -> None:
        raise GuardUnavailable("lost")

    broken.before_apply = lose
    async with projecting(database_url, guard):
        await until(lambda: whole(pool, guard))
        with pytest.raises(LedgerUnavailable):
            await Appender(pool, KEYS, broken).append([grant(to) for to in PEOPLE[:7]])
        await until(lambda: whole(pool, guard))


async def test_a_flush_while_following_never_passes_for_a_current_cache(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    """The cursor is moved from what it was believed to be; a blind write would call an empty lane current for good."""
    async with projecting(database_url, guard):
        await until(lambda: whole(pool, guard))

        async def flush() -> None:
            guard.before_apply = None
            await guard.server.command("FLUSHDB")

        guard.before_apply = flush
        await appender.append([grant(PEOPLE[0])])
        await until(lambda: whole(pool, guard))
        assert guard.before_apply is None


async def test_a_second_flush_in_the_middle_of_a_fill_starts_it_over(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    async def flush_before_the_second_page() -> None:
        if await Cursors(guard.server).read() != [None] * LANES and await guard.server.command("DBSIZE") > LANES:
            guard.before_apply = None
            await guard.server.command("FLUSHDB")

    await guard.server.command("FLUSHDB")
    guard.before_apply = flush_before_the_second_page
    await rebuild(database_url, guard, lambda *_told: None)
    assert guard.before_apply is None
    assert await Cursors(guard.server).read() == [None] * LANES
    async with projecting(database_url, guard):
        await until(lambda: whole(pool, guard))


async def test_a_lane_that_fell_back_is_replayed_from_its_own_cursor(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    """What a failover to a replica looks like: one lane's cursor and states are older."""
    async with projecting(database_url, guard):
        await until(lambda: whole(pool, guard))
        lane = KEYS.subject(PEOPLE[3])[0] & 15
        back = await head(pool)
        await appender.append([grant(to) for to in PEOPLE])
        await until(lambda: whole(pool, guard))
        for to in PEOPLE:
            subject = KEYS.subject(to)
            if subject[0] & 15 == lane:
                await guard.server.command("SET", guard_keys.PERSON[subject[0]] + subject, person.tombstone(1))
        await guard.server.command("SET", guard_keys.CURSOR[lane], back)
        await until(lambda: whole(pool, guard))


async def test_rebuild_tells_its_progress_and_leaves_good_lanes_good(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    told: list[tuple[str, int, int]] = []
    filled = await rebuild(database_url, guard, lambda *step: told.append(step))
    assert (filled.recipients, told[-1]) == (len(PEOPLE), ("recipients", len(PEOPLE), len(PEOPLE)))
    assert await whole(pool, guard)
    await Cursors(guard.server).move(10**6, {0: await head(pool)})
    await rebuild(database_url, guard, lambda *_told: None)
    assert (await Cursors(guard.server).read())[0] == 10**6


async def test_a_rebuild_copies_only_what_is_of_this_form_and_of_the_rows_own_seq(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    """Rows of a version before have no copy; one that a version before has changed since has an old one."""
    for what, to in zip(
        ("encoded = NULL, form = NULL", "encoded = '\\x0000000001'::bytea", "form = form + 1", "encoded = ''"),
        PEOPLE,
        strict=False,
    ):
        await pool.execute(f"UPDATE subject_states SET {what} WHERE subject = $1", KEYS.subject(to))  # noqa: S608
    await guard.server.command("FLUSHDB")
    filled = await rebuild(database_url, guard, lambda *_told: None)
    assert filled.recipients == len(PEOPLE)
    assert await whole(pool, guard)
    found = await pool.fetchval("SELECT count(*) FROM subject_states WHERE form = $1", person.FORM)
    assert found == len(PEOPLE) - 2
    await appender.append([grant(to) for to in PEOPLE[:4]])
    kept = await pool.fetch("SELECT state, encoded FROM subject_states WHERE form = $1", person.FORM)
    assert len(kept) == len(PEOPLE)
    assert all(row["encoded"] == person.encode(State.model_validate_json(row["state"])) for row in kept)


async def test_a_cache_ahead_of_the_database_is_not_followed_and_no_beat_is_given(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    async with projecting(database_url, guard):
        await until(lambda: whole(pool, guard))
    await guard.set_cursors(10**6)
    before = await beat(guard)
    async with projecting(database_url, guard):
        await asyncio.sleep(0.3)
    assert await beat(guard) == before


async def test_the_beat_stands_still_while_postgresql_does_not_answer(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    reachable = True

    async def load() -> Registry:
        if not reachable:
            raise ConnectionRefusedError
        return await registry()

    async def moves() -> bool:
        before = await beat(guard)
        await asyncio.sleep(0.1)
        return before < await beat(guard)

    async with projecting(database_url, guard, load):
        await until(moves)
        reachable = False
        await asyncio.sleep(0.1)
        assert not await moves()
        reachable = True
        await until(moves)


async def test_a_second_process_waits_and_takes_over(
    database_url: str, pool: Any, guard: Interrupted, appender: Appender
) -> None:
    async with projecting(database_url, guard) as second:
        await until(lambda: whole(pool, guard))
        async with projecting(database_url, guard) as waiting:
            await asyncio.sleep(0.2)
            assert (second.seq, waiting.seq) == (await head(pool), -1)
            await pool.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND "
                "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )

            async def one_projects() -> bool:
                return {-1} < {second.seq, waiting.seq}

            await until(one_projects)
            await appender.append([grant(PEOPLE[0])])
            await until(lambda: whole(pool, guard))
