"""The registry and its beat as a process sees them, and client quotas across processes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.contract.decision import Class
from gateway.contract.registry import Client, Registry, Sender
from gateway.guard import Cfg, Guard, Lease, keys

pytestmark = pytest.mark.integration

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")


def registry(*breakers: str) -> Registry:
    client = Client(id="demo", key_digests=("aa", "bb"), senders=("acme",))
    return Registry(lanes=16, clients=(client,), senders=(ACME,), breakers=breakers)


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
async def guard(redis_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(redis_url)
    await made.server.command("FLUSHDB")
    yield made
    await made.close()


async def test_nothing_is_fresh_before_the_beat_moves(guard: Guard) -> None:
    clock = Clock()
    cfg = Cfg(guard.server, monotonic=clock)
    await cfg.poll()
    assert (cfg.registry, cfg.fresh, cfg.age_s) == (None, False, float("inf"))
    await guard.write_cfg(7, 41, registry())
    await cfg.poll()
    assert cfg.registry == registry()
    assert not cfg.fresh  # it may be as old as the server
    await guard.write_cfg(8, 42, registry())
    await cfg.poll()
    assert (cfg.fresh, cfg.min_seq, cfg.age_s) == (True, 42, 0.0)


async def test_a_beat_that_stands_still_is_not_fresh_after_ten_seconds(guard: Guard) -> None:
    clock = Clock()
    cfg = Cfg(guard.server, monotonic=clock)
    for beat in (1, 2):
        await guard.write_cfg(beat, 0, registry())
        await cfg.poll()
    clock.s += 9.9
    await cfg.poll()
    assert cfg.fresh
    clock.s += 0.1
    assert not cfg.fresh
    await guard.write_cfg(1, 0, registry())  # a new ledger process counts from the beginning
    await cfg.poll()
    assert cfg.fresh


async def test_the_body_is_parsed_only_when_it_changed(guard: Guard) -> None:
    cfg = Cfg(guard.server)
    await guard.write_cfg(1, 0, registry())
    await cfg.poll()
    first = cfg.registry
    await guard.write_cfg(2, 0, registry())
    await cfg.poll()
    assert cfg.registry is first
    await guard.write_cfg(3, 0, registry("all"))
    await cfg.poll()
    assert cfg.open_scope("acme", Class.MARKETING) == "all"


async def test_lookups_and_breakers(guard: Guard) -> None:
    cfg = Cfg(guard.server)
    scopes = ("class:marketing", "sender:other", "campaign:spring", "port:10690001", "list_source:x")
    await guard.write_cfg(1, 0, registry(*scopes))
    await cfg.poll()
    assert (cfg.client_by_digest("bb") or ACME).id == "demo"
    assert cfg.client_by_digest("cc") is None
    assert cfg.sender("acme") == ACME
    assert cfg.open_scope("acme", Class.MARKETING, "spring") == "class:marketing"
    assert cfg.open_scope("acme", Class.TRANSACTIONAL, "spring", "10690001") == "port:10690001"
    assert cfg.open_scope("acme", Class.TRANSACTIONAL, "spring") == "campaign:spring"
    assert cfg.open_scope("acme", Class.TRANSACTIONAL, None, "10690002", "x") == "list_source:x"
    assert cfg.open_scope("other", Class.TRANSACTIONAL) == "sender:other"
    assert cfg.open_scope("acme", Class.TRANSACTIONAL, "x", "1", "spring") is None


async def test_one_senders_campaign_is_stopped_and_no_others_of_that_name(guard: Guard) -> None:
    cfg = Cfg(guard.server)
    await guard.write_cfg(1, 0, registry("campaign:acme/spring", "list_source:acme/fair/2019"))
    await cfg.poll()
    assert cfg.open_scope("acme", Class.MARKETING, "spring") == "campaign:acme/spring"
    assert cfg.open_scope("other", Class.MARKETING, "spring") is None
    assert cfg.open_scope("acme", Class.MARKETING, None, None, "fair/2019") == "list_source:acme/fair/2019"
    assert cfg.open_scope("other", Class.MARKETING, None, None, "fair/2019") is None


async def test_polling_outlives_a_bad_value(guard: Guard) -> None:
    cfg = Cfg(guard.server)
    await cfg.start()
    try:
        await guard.server.command("HSET", keys.CFG, "n", 1, "s", 0, "v", "x", "b", "{")
        await asyncio.sleep(0.6)
        assert not cfg.fresh
        for beat in (2, 3):
            await guard.write_cfg(beat, 5, registry())
            await asyncio.sleep(0.6)
        assert cfg.fresh
    finally:
        await cfg.close()


async def test_a_quota_is_never_passed_and_little_is_left_over(guard: Guard) -> None:
    clock, quota = Clock(), 1000
    clock.s = 60 * 1000 + 45.0
    workers = [Lease(guard.server, now_s=clock) for _ in range(4)]
    answers = await asyncio.gather(*(worker.take("demo", quota, 3) for _ in range(100) for worker in workers))
    taken = 3 * answers.count(None)
    assert quota - 4 * 13 <= taken <= quota
    assert {answer for answer in answers if answer is not None} == {15.0}
    clock.s += 15
    assert await workers[0].take("demo", quota) is None
    assert await workers[0].take("other", 5, 6) == 60.0
    assert await workers[0].take("other", 5, 5) is None
    assert 0 < await guard.server.command("TTL", keys.quota("demo", 60 * 1001)) <= 120


async def test_what_was_taken_in_an_earlier_minute_is_not_given_back_to_this_one(guard: Guard) -> None:
    clock, quota = Clock(), 10
    clock.s = 60 * 3000 + 59.5
    lease, other = Lease(guard.server, now_s=clock), Lease(guard.server, now_s=clock)
    before = clock.s
    assert await lease.take("late", quota, 6) is None
    clock.s += 1
    assert await lease.take("late", quota, 1) is None  # its minute turns
    lease.give("late", 6, before)
    answers = [await worker.take("late", quota) for _ in range(8) for worker in (lease, other)]
    assert answers.count(None) == quota - 1
    clock.s += 60
    assert await lease.take("late", quota, 6) is None
    lease.give("late", 6, clock.s)  # of this minute: used again
    assert await lease.take("late", quota, quota) is None
    assert await other.take("late", quota) == 59.5


async def test_a_day_given_back_to_after_midnight_stays_within_its_cap(guard: Guard) -> None:
    day, lease = 86_400, Lease(guard.server)
    assert await lease.take("sender/acme", 5, 5, day=(0, day)) is None
    assert await lease.take("sender/acme", 5, 2, day=(day, 2 * day)) is None
    lease.give("sender/acme", 5, day - 1)
    assert await lease.take("sender/acme", 5, 4, day=(day, 2 * day)) is not None
    assert await lease.take("sender/acme", 5, 3, day=(day, 2 * day)) is None


async def test_a_lease_asks_the_server_once_a_chunk(guard: Guard) -> None:
    lease = Lease(guard.server, now_s=Clock())
    await lease.take("demo", 60_000)
    await guard.server.command("CONFIG", "RESETSTAT")
    for _ in range(599):
        assert await lease.take("demo", 60_000) is None
    info: bytes = await guard.server.command("INFO", "commandstats")
    assert b"cmdstat_evalsha" not in info
