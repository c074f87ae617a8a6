"""The servers the guard runs on: a cluster, one that stops, freezes, refuses, has a replica, or is set up wrong."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.crc import key_slot

from gateway.contract.codes import Code
from gateway.contract.consent import Suppression
from gateway.contract.decision import Reason
from gateway.contract.ids import LANES
from gateway.guard import Attempt, Binding, Cfg, Guard, GuardUnavailable, Lease, Outcome, Review, keys, person
from gateway.guard.link import IN_FLIGHT
from gateway.local.parts import Part, bring_up
from tests.integration.guard_asks import HOUR, SEQ, a_claim, a_customer, a_plan, an_ask, back, permissive, window

pytestmark = pytest.mark.integration

PLAN = a_plan(window(1, HOUR), same_text_ms=30_000)


@contextmanager
def takes(least_s: float, most_s: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert least_s <= time.monotonic() - began <= most_s


@contextmanager
def frozen(part: Part) -> Iterator[None]:
    assert part.child.pid is not None
    os.kill(part.child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(part.child.pid, signal.SIGCONT)


@pytest.fixture
async def guard(redis_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(redis_url)
    await made.set_cursors(SEQ)
    yield made
    await made.close()


async def lives(guard: Guard, names: list[bytes]) -> list[tuple[bytes, int]]:
    """Each key's value but for its times, and how long it lives, in minutes."""
    values = [await guard.server.command("GET", name) for name in names]
    return [
        (value[:1], (await guard.server.command("PTTL", name) + 30_000) // 60_000)
        for name, value in zip(names, values, strict=True)
    ]


async def test_a_server_without_msetex_writes_the_same(redis_url: str) -> None:
    """Redis before 8.4 and Valkey before 9.1 refuse the command; here a user who may not use it."""
    plain = await Guard.connect(redis_url)
    await plain.set_cursors(SEQ)
    await plain.server.command("ACL", "SETUSER", "elder", "on", ">x", "~*", "+@all", "-msetex")
    elder = await Guard.connect(redis_url.replace("redis://", "redis://elder:x@"))
    found = []
    for guard in (plain, elder):
        subjects = [await a_customer(plain) for _ in range(3)]
        asks = [an_ask(subject, PLAN, bound=at == 0) for at, subject in enumerate(subjects)]
        keyed = [Binding(os.urandom(16), ask.id, b"f" * 16) for ask in asks]
        assert all(bound.fresh for bound in await guard.bind(keyed))
        assert [v.code for v in await guard.admit([*asks, asks[0]], SEQ)] == [None] * 4
        names = [keys.record(keys.raw_id(ask.id)) for ask in asks]
        names += [keys.BINDING[one.digest[0]] + one.digest for one in keyed]
        states = [await lives(plain, names)]
        assert {c.kind for c in await guard.claim([a_claim(ask) for ask in asks], SEQ)} == {Outcome.GO}
        states.append(await lives(plain, names))
        assert await guard.done([ask.id for ask in asks]) == [True] * 3
        states.append(await lives(plain, names[:3]))
        found.append(states)
    await elder.close()
    await plain.close()
    assert found[0] == found[1]
    assert [state for state, _ in found[0][2]] == [b"d"] * 3
    assert found[0][2][0][1] > found[0][2][1][1]


# --- a cluster -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def cluster(cluster_url: str) -> AsyncIterator[Guard]:
    made = await Guard.connect(cluster_url, timeout_s=5)
    await made.set_cursors(SEQ)
    yield made
    await made.close()


async def test_a_message_goes_its_whole_way_on_a_cluster(cluster: Guard) -> None:
    assert await cluster.verify() == []
    assert await cluster.cursors() == [SEQ] * LANES
    subjects = [await a_customer(cluster, lane) for lane in range(LANES)]
    asks = [an_ask(subject, PLAN) for subject in subjects for _ in range(2)]
    keyed = [Binding(os.urandom(16), ask.id, b"f" * 16) for ask in asks]
    assert all(bound.fresh for bound in await cluster.bind(keyed))
    again = await cluster.bind(keyed)
    assert [b.id for b in again] == [ask.id for ask in asks]
    await cluster.unbind([one._replace(repeats=b.repeats) for one, b in list(zip(keyed, again, strict=True))[1:]])
    assert [b.fresh for b in await cluster.bind(keyed)] == [False] + [True] * 31
    assert [v.code for v in await cluster.admit(asks, SEQ)] == [None, Code.WINDOW_EXCEEDED] * LANES
    assert {v.code for v in await cluster.admit(asks, SEQ + 1)} == {Code.CACHE_COLD}
    going = asks[::2]
    fences = await cluster.apply([(subject, permissive(6)) for subject in subjects])
    assert fences == [0] * LANES
    await cluster.block(subjects[0], ["acme"])
    got = await cluster.claim([a_claim(ask, offset) for offset, ask in enumerate(going)], SEQ)
    assert [c.kind for c in got] == [Outcome.REFUSED] + [Outcome.GO] * 15
    assert all(await cluster.apply([(subject, permissive(7)) for subject in subjects[1:]], blocking=True))
    assert await cluster.done([ask.id for ask in going[1:3]]) == [True, True]
    assert await cluster.requeue([Attempt(going[3].id, 1)]) == [True]
    assert await cluster.unwritten([going[4].id]) == [True]
    reviews = await cluster.review([Attempt(ask.id, 1) for ask in going[:6]])
    assert reviews == [Review.VOID, Review.DONE, Review.DONE, Review.DONE, Review.UNWRITTEN, Review.OTHER]
    assert await cluster.void([back(ask) for ask in (going[3], going[5])], Code.UNAVAILABLE) == ["void", "taken"]
    assert await cluster.refund([back(going[5]), back(going[3])]) == [True, False]
    view = await cluster.record(going[5].id)
    assert view is not None
    assert view.refunded


async def test_a_cluster_spreads_the_lanes(cluster: Guard) -> None:
    for lane in range(LANES):
        await a_customer(cluster, lane)
    sizes = await cluster.server.primaries("DBSIZE")
    assert len(sizes) == 3
    assert all(sizes)


async def test_a_slot_that_moved_is_followed(cluster: Guard, cluster_url: str) -> None:
    """MOVED: another node owns it now. ASK: it is on its way, and this key is already there."""
    ports = [int(address.rpartition(":")[2]) for address in cluster_url.removeprefix("redis+cluster://").split(",")]
    nodes = [redis.Redis(port=port) for port in ports]
    ids = [node.execute_command("CLUSTER", "MYID") for node in nodes]
    subject = await a_customer(cluster, 0)  # its slot belongs to the first node
    slot = key_slot(keys.PERSON[subject[0]] + subject)
    ask = an_ask(subject, PLAN)
    nodes[1].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    nodes[0].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    try:
        names = nodes[0].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        nodes[0].execute_command("MIGRATE", "127.0.0.1", ports[1], "", 0, 5000, "REPLACE", "KEYS", *names)
        name = keys.PERSON[subject[0]] + subject
        assert len(await cluster.server.command("GET", name)) > 5
        with pytest.raises(GuardUnavailable, match="TRYAGAIN"):  # several keys while their slot moves: fail closed
            await cluster.admit([ask], SEQ)
        for node in (nodes[1], nodes[0], nodes[2]):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        assert (await cluster.admit([ask], SEQ))[0].code is None
    finally:
        for node in nodes:
            node.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")


async def test_a_frozen_node_holds_up_its_own_lanes_only(cluster: Guard, cluster_url: str) -> None:
    guard = await Guard.connect(cluster_url, timeout_s=0.5)
    asks = [an_ask(await a_customer(cluster, lane), PLAN) for lane in (1, 8, 15)]  # a node each
    port = int(cluster_url.split(",", maxsplit=1)[0].rpartition(":")[2])
    pid = redis.Redis(port=port).info("server")["process_id"]
    assert [v.code for ask in asks[1:] for v in await guard.admit([ask], SEQ)] == [None, None]
    os.kill(pid, signal.SIGSTOP)
    try:
        with takes(0.25, 0.7), pytest.raises(GuardUnavailable):
            await guard.admit(asks[:1], SEQ)
        for ask in asks[1:] * 3:  # the map is read again, elsewhere; nobody else waits for the frozen node
            with takes(0, 0.25):
                assert (await guard.admit([ask], SEQ))[0].replay
            await asyncio.sleep(0.2)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (await guard.admit(asks[:1], SEQ))[0].code is None
    await guard.close()


async def test_many_first_calls_at_once(cluster_url: str, cluster: Guard) -> None:
    """All of them wait for one reading of the map."""
    asks = [an_ask(await a_customer(cluster, lane), PLAN) for lane in range(LANES)]
    guard = await Guard.connect(cluster_url, timeout_s=2)
    verdicts = await asyncio.gather(*(guard.admit([ask], SEQ) for ask in asks))
    assert [v.code for (v,) in verdicts] == [None] * LANES
    await guard.close()


async def test_no_cluster_there(valkey_url: str) -> None:
    for url in ("redis+cluster://127.0.0.1:1,127.0.0.1:2", valkey_url.replace("redis://", "redis+cluster://")):
        guard = await Guard.connect(url, timeout_s=0.5)
        for _ in range(2):
            with takes(0, 0.6), pytest.raises(GuardUnavailable):
                await guard.cursors()
        await guard.close()


async def test_cfg_and_leases_on_a_cluster(cluster: Guard) -> None:
    assert await Lease(cluster.server).take("c", 1000, 5) is None
    cfg = Cfg(cluster.server)
    await cfg.poll()
    assert not cfg.fresh


# --- a server that goes away ---------------------------------------------------------------------------------------


async def test_a_server_that_stops_and_returns(own_part: Callable[[str], Part]) -> None:
    part = own_part("valkey")
    guard = await Guard.connect(part.endpoint, timeout_s=0.5)
    await guard.set_cursors(SEQ)
    subject = await a_customer(guard)
    assert (await guard.admit([an_ask(subject, PLAN)], SEQ))[0].code is None
    await asyncio.to_thread(part.stop)
    for _ in range(3):
        with takes(0, 0.7), pytest.raises(GuardUnavailable):
            await guard.admit([an_ask(subject, PLAN)], SEQ)
    await asyncio.to_thread(bring_up, [part])
    await guard.set_cursors(SEQ)
    assert (await guard.admit([an_ask(subject, PLAN)], SEQ))[0].code in {
        Code.WINDOW_EXCEEDED,
        None,
        Code.RELATIONSHIP_MISSING,
    }
    await guard.close()


async def test_a_frozen_server_is_given_up_in_time_and_used_again(own_part: Callable[[str], Part]) -> None:
    part = own_part("valkey")
    guard = await Guard.connect(part.endpoint, timeout_s=0.3)
    await guard.set_cursors(SEQ)
    subject = await a_customer(guard)
    ask = an_ask(subject, PLAN)
    with frozen(part):
        with takes(0.25, 0.8):
            calls = [guard.admit([one], SEQ) for one in (ask, an_ask(subject, PLAN))]
            faults = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(fault) for fault in faults] == [GuardUnavailable] * 2
        assert subject.hex() not in str(faults)
        with takes(0, 0.8), pytest.raises(GuardUnavailable):
            await guard.claim([a_claim(ask)], SEQ)
    # Whether the first calls were carried out is not known: the same ids again are safe, and count once.
    codes = [v.code for v in await guard.admit([ask, an_ask(subject, PLAN)], SEQ)]
    assert codes in ([None, Code.WINDOW_EXCEEDED], [Code.WINDOW_EXCEEDED] * 2)
    await guard.close()


async def test_nothing_there_at_start() -> None:
    guard = await Guard.connect("redis://127.0.0.1:1/0", timeout_s=0.5)
    with takes(0, 0.6), pytest.raises(GuardUnavailable, match="ConnectionRefused"):
        await guard.cursors()
    cfg = Cfg(guard.server)
    await cfg.start()
    assert not cfg.fresh
    await cfg.close()
    await guard.close()


async def test_too_many_calls_at_once_fail_at_once(own_part: Callable[[str], Part]) -> None:
    part = own_part("valkey")
    guard = await Guard.connect(part.endpoint, timeout_s=1)
    await guard.cursors()
    with frozen(part):
        calls = [asyncio.ensure_future(guard.cursors()) for _ in range(IN_FLIGHT)]
        await asyncio.sleep(0.05)
        with takes(0, 0.5), pytest.raises(GuardUnavailable):
            await guard.cursors()
        faults = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(fault, GuardUnavailable) for fault in faults)
    assert await guard.cursors() == [None] * LANES
    await guard.close()


async def test_a_caller_that_gives_up_takes_nobody_elses_reply(guard: Guard) -> None:
    tasks = [asyncio.ensure_future(guard.server.command("ECHO", str(n))) for n in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.result() for task in tasks[1::2]] == [b"%d" % n for n in range(1, 50, 2)]
    assert await guard.server.command("ECHO", "next") == b"next"


async def test_passwords_and_read_only_replicas(own_part: Callable[[str], Part]) -> None:
    primary, replica = own_part("valkey"), own_part("valkey")
    with redis.Redis.from_url(primary.endpoint) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">p%40ss", "~*", "+@all")
        admin.config_set("repl-diskless-sync-delay", 0)
    open_guard = await Guard.connect(primary.endpoint.replace("redis://", "redis://app:p%2540ss@"))
    await open_guard.set_cursors(SEQ)
    wrong = await Guard.connect(primary.endpoint.replace("redis://", "redis://app:wrong@"))
    with pytest.raises(GuardUnavailable, match="WRONGPASS"):
        await wrong.cursors()
    subject = await a_customer(open_guard)
    host, _, port = primary.endpoint.removeprefix("redis://").partition("/")[0].partition(":")
    with redis.Redis.from_url(replica.endpoint) as admin:
        admin.execute_command("REPLICAOF", host, port)
        until = time.monotonic() + 10
        while b"connected" not in admin.execute_command("ROLE"):
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        stopped = permissive(6).model_copy(
            update={"suppressions": {"acme": [Suppression(reason=Reason.MANUAL, at=1, entry=6)]}}
        )
        await open_guard.apply([(subject, stopped)], blocking=True)
        assert admin.get(keys.PERSON[subject[0]] + subject)[:5] == bytes([0, 0, 0, 0, 6])
    with frozen(replica), takes(0, 1.5), pytest.raises(GuardUnavailable):
        await open_guard.apply([(subject, permissive(7))], blocking=True)
    read_only = await Guard.connect(replica.endpoint)
    with pytest.raises(GuardUnavailable, match="READONLY"):
        await read_only.admit([an_ask(subject, PLAN)], SEQ)
    for guard in (open_guard, wrong, read_only):
        await guard.close()


# --- a server set up wrong -----------------------------------------------------------------------------------------


async def test_readiness_names_what_is_wrong(own_part: Callable[[str], Part]) -> None:
    part = own_part("valkey")
    guard = await Guard.connect(part.endpoint)
    assert await guard.verify() == []
    await guard.server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "hash-max-listpack-value", "64")
    await guard.server.command("SET", keys.LANES_CHECK, 32)
    vouched = await Guard.connect(part.endpoint, vouched=True)
    problems = await guard.verify()
    assert problems == await vouched.verify(), "vouching never stands against what can be read"
    assert [problem.split(":")[0] for problem in problems] == [
        "this server was filled with 32 lanes, this version has 16",
        "maxmemory-policy is allkeys-lru",
        "hash-max-listpack-value is 64",
    ]
    await guard.server.command("SET", keys.LANES_CHECK, 16)
    await guard.server.command("ACL", "SETUSER", "default", "-config")
    unread = await guard.verify()
    assert [problem.split(" (")[0] for problem in unread] == [
        "maxmemory-policy could not be read",
        "hash-max-listpack-value could not be read",
    ]
    assert all("ASSENT_REDIS_TRUSTED=true" in problem for problem in unread)
    assert await vouched.verify() == []
    await vouched.server.command("SET", keys.LANES_CHECK, 32)
    assert [problem.split(":")[0] for problem in await vouched.verify()] == [problems[0].split(":")[0]]
    await guard.close()
    await vouched.close()


async def test_a_hundred_bytes_a_recipient(own_part: Callable[[str], Part]) -> None:
    part = own_part("valkey")
    guard = await Guard.connect(part.endpoint, timeout_s=5)

    async def used() -> int:
        info: bytes = await guard.server.command("INFO", "memory")
        return int(info.split(b"used_memory:")[1].split(b"\r")[0])

    before, many = await used(), 57_000  # the hash table is about as full as at 1,000,000: 0.87 of a power of two
    one = person.encode(permissive(1_000_000).model_copy(update={"relationships": {}}))
    for _ in range(many // 1000):
        await guard.apply_encoded([(os.urandom(16), one) for _ in range(1000)])
    assert (await used() - before) / many <= 100
    await guard.close()
