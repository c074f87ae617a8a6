"""Migrations, and the registry's tables behind `cfg`."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from gateway.contract.registry import Client, Sender
from gateway.records import registry
from gateway.records.migrate import MigrationError, migrate, migrations

pytestmark = pytest.mark.integration

PEPPER = b"p" * 32


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Any]:
    made = await asyncpg.connect(database_url)
    yield made
    await made.close()


@pytest.fixture
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    name = f"ledger_{uuid.uuid4().hex[:10]}"
    server = await asyncpg.connect(postgres_url)
    await server.execute(f'CREATE DATABASE "{name}"')
    yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    await server.close()


async def _applied(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        return [row["name"] for row in await connection.fetch("SELECT name FROM migrations ORDER BY name")]
    finally:
        await connection.close()


async def test_migrations_run_once_whoever_comes_first(empty_url: str) -> None:
    await asyncio.gather(*(migrate(empty_url) for _ in range(3)))
    await migrate(empty_url)
    assert await _applied(empty_url) == [one.name for one in migrations()]


async def test_a_changed_file_stops_and_a_failing_one_leaves_nothing(empty_url: str, tmp_path: Path) -> None:
    first, second = tmp_path / "0001_one.sql", tmp_path / "0002_two.sql"
    first.write_text("CREATE TABLE one (a int);")
    second.write_text("CREATE TABLE two (a int); SELECT 1 / 0;")
    with pytest.raises(MigrationError, match="0002_two"):
        await migrate(empty_url, tmp_path)
    assert await _applied(empty_url) == ["0001_one"]
    second.write_text("CREATE TABLE two (a int);")
    await migrate(empty_url, tmp_path)
    first.write_text("CREATE TABLE one (b int);")
    with pytest.raises(MigrationError, match="changed"):
        await migrate(empty_url, tmp_path)
    (tmp_path / "0002_again.sql").write_text("")
    with pytest.raises(MigrationError, match="0002"):
        await migrate(empty_url, tmp_path)


async def test_the_demo_can_be_seeded_again(connection: Any) -> None:
    for _ in range(2):
        await registry.seed_demo(connection, PEPPER)
    loaded = await registry.load(connection)
    clients = {client.id: client for client in loaded.clients}
    assert clients.keys() == {"assent", "demo", "carrier-http"}
    assert clients["assent"].key_digests == ()
    assert clients["demo"].key_digests == (registry.key_digest(PEPPER, "demo-key"),)
    assert "demo-key" not in loaded.model_dump_json()
    assert [sender.marketing_port for sender in loaded.senders] == ["10690002"]


async def test_clients_and_senders_are_replaced_whole(connection: Any) -> None:
    given = Client(id="shop", key_digests=("ab",), senders=("acme",), purposes=("transaction",), quota_per_minute=5)
    await registry.put_client(connection, given)
    await registry.put_client(connection, given.model_copy(update={"key_digests": ("cd",)}))
    sender = Sender(
        id="zeta", signature="泽塔", service_port="1069111", marketing_port="1069222", cap_per_day=9, carrier="http"
    )
    await registry.put_sender(connection, sender)
    loaded = await registry.load(connection)
    assert next(one for one in loaded.clients if one.id == "shop").key_digests == ("cd",)
    assert sender in loaded.senders
    with pytest.raises(ValueError, match="built-in"):
        await registry.put_client(connection, Client(id="assent", key_digests=("ab",)))


async def test_a_breaker_moves_only_by_somebody_and_for_a_reason(connection: Any) -> None:
    scope = "sender:acme"
    for is_open, reason in ((True, "complaints"), (False, "list cleaned")):
        await registry.set_breaker(connection, scope, is_open=is_open, by="li.lei", reason=reason)
        assert (scope in (await registry.load(connection)).breakers) is is_open
    acts = await connection.fetch("SELECT is_open, acted_by, reason FROM breaker_acts ORDER BY id")
    assert [tuple(act) for act in acts] == [(True, "li.lei", "complaints"), (False, "li.lei", "list cleaned")]
    (standing,) = await registry.breakers(connection)
    assert (standing.is_open, standing.changed_by, standing.reason) == (False, "li.lei", "list cleaned")
    for by, reason in (("", "x"), ("x", " ")):
        with pytest.raises(ValueError, match="somebody"):
            await registry.set_breaker(connection, scope, is_open=False, by=by, reason=reason)
