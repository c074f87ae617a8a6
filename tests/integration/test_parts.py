"""The embedded servers: settings that guarantees stand on, and data that survives a kill."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.local import postgres
from gateway.local.parts import Part, PartError, Postgres, Valkey, bring_up, free_port

pytestmark = pytest.mark.integration

OwnPart = Callable[[str], Part]


def again(part: Part) -> None:
    """Kill the server and start it again over the same data."""
    part.child.kill()
    assert not part.ready()
    part.start()
    until = time.monotonic() + 30
    while not part.ready():
        assert time.monotonic() < until, part.child.said()
        time.sleep(0.02)


def test_valkey_never_evicts_and_keeps_what_it_acknowledged_a_second_ago(own_part: OwnPart) -> None:
    part = own_part("valkey")
    with redis.Redis.from_url(part.endpoint, decode_responses=True) as server:
        assert server.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert int(server.config_get("hash-max-listpack-value")["hash-max-listpack-value"]) >= 512
        assert server.config_get("appendfsync")["appendfsync"] == "everysec"
        server.set("kept", "yes")
        again(part)
        assert server.get("kept") == "yes"


async def test_postgres_wants_a_password_syncs_and_keeps_commits_through_a_kill(own_part: OwnPart) -> None:
    part = own_part("postgres")
    connection = await asyncpg.connect(part.endpoint)
    assert await connection.fetchval("SHOW fsync") == "on"
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.execute("CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)")
    connection.terminate()
    again(part)
    connection = await asyncpg.connect(part.endpoint)
    assert await connection.fetchval("SELECT x FROM kept") == 7
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(part.endpoint.replace("assent:", "assent:not"), timeout=5)


async def test_kafka_keeps_what_it_acknowledged_through_a_kill(own_part: OwnPart) -> None:
    part = own_part("kafka")
    admin = AIOKafkaAdminClient(bootstrap_servers=part.endpoint)
    await admin.start()
    await admin.create_topics([NewTopic("kept", 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=part.endpoint, acks="all", enable_idempotence=True) as producer:
        for n in range(100):
            await producer.send_and_wait("kept", str(n).encode())
    again(part)
    async with AIOKafkaConsumer(bootstrap_servers=part.endpoint, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition("kept", 0)])
        kept: list[int] = []
        async with asyncio.timeout(10):
            while len(kept) < 100:
                rows = await consumer.getmany(timeout_ms=500)
                kept += [int(row.value or b"") for batch in rows.values() for row in batch]
    assert kept == list(range(100))


def test_a_part_that_cannot_start_says_why(parts_dir: Path) -> None:
    port = free_port()
    first, second = (Valkey(parts_dir / f"same-port-{n}", port, parts_dir / f"log/same{n}.log") for n in range(2))
    bring_up([first])
    try:
        second.prepare()
        second.start()
        while second.child.alive():
            time.sleep(0.02)
        assert "in use" in second.child.said()
    finally:
        first.stop()


def test_data_of_another_postgres_version_is_refused_untouched(parts_dir: Path) -> None:
    data = parts_dir / "old/data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("13\n")
    with pytest.raises(RuntimeError, match="made by PostgreSQL 13"):
        bring_up([Postgres(parts_dir / "old", free_port(), parts_dir / "log/old.log")])
    assert [file.name for file in data.iterdir()] == ["PG_VERSION"]


def test_a_part_that_ends_early_is_an_error_with_its_last_words(parts_dir: Path) -> None:
    part = Valkey(parts_dir / "broken", free_port(), parts_dir / "log/broken.log")
    part.prepare()
    (parts_dir / "broken/appendonlydir").write_text("not a folder")
    with pytest.raises(PartError, match=r"Valkey: exit 1\n(.|\n)*appendonlydir"):
        bring_up([part])


def test_root_keeps_data_where_its_user_can_reach_it(parts_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root a closed home moves only the data, and a home that was removed does not find the old data again."""
    monkeypatch.setattr(postgres, "REACHABLE", parts_dir / "reachable")
    (parts_dir / "reachable").mkdir(mode=0o711)
    (parts_dir / "reachable").chmod(0o711)
    closed = parts_dir / "closed"
    folders = set()
    for _ in range(2):
        closed.mkdir(mode=0o700)
        part = Postgres(closed / "postgres", free_port(), parts_dir / "log/closed.log")
        try:
            bring_up([part])
            folders.add(part.child.command[part.child.command.index("-D") + 1])
            assert (part.note is None) == (os.geteuid() != 0)
        finally:
            part.stop()
        shutil.rmtree(closed)
    inside = {folder.startswith(str(closed)) for folder in folders}
    assert inside == ({False} if os.geteuid() == 0 else {True})
    assert len(folders) == (2 if os.geteuid() == 0 else 1)


def test_root_copies_binaries_that_its_user_cannot_reach(parts_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the environment is below /root: a copy runs, libraries included; others run the package's own."""
    package = postgres.newest_install().parent
    closed = parts_dir / "closed-site"
    closed.mkdir(mode=0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    monkeypatch.setattr(postgres, "folder_of", lambda _: closed / package.name)
    copies = parts_dir / "reachable-site"
    monkeypatch.setattr(postgres, "REACHABLE", copies)
    part = Postgres(parts_dir / "open-home", free_port(), parts_dir / "log/open-home.log")
    try:
        bring_up([part])
        assert Path(part.child.command[0]).is_relative_to(copies if os.geteuid() == 0 else closed)
        assert copies.exists() == (os.geteuid() == 0)
    finally:
        part.stop()
        shutil.rmtree(closed)
