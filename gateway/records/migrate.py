"""Brings a database's tables up to this version: the numbered `.sql` files of `migrations/`, each exactly once.

Every file runs in its own transaction together with the row that remembers it, so a crash leaves either both or
neither; run it again. Two processes starting at once take turns behind an advisory lock. A file that was applied is
never edited: its SHA-256 is remembered, and a difference stops the start: nobody would know what the tables are.
A database that knows files newer than this code is left alone: migrations only add, so that a rolling deployment works.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import NamedTuple

import asyncpg

FILES = Path(__file__).parent / "migrations"
LOCK = 0x4153_5345_4E54  # "ASSENT": the advisory lock of migrations
CONNECT_S = 10.0
LOCK_S = 120.0
FILE_S = 600.0

REMEMBER = """
CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY,
    sha256 bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""


class MigrationError(Exception):
    """The database cannot be brought to this version; the text says which file and why."""


class Migration(NamedTuple):
    """One file: its name without the suffix, which orders it, its text, and its digest."""

    name: str
    sql: str
    sha256: bytes


def migrations(folder: Path = FILES) -> list[Migration]:
    """Every migration in order. Two files of one number are an error: their order would be an accident."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        raw = path.read_bytes()
        found.append(Migration(path.stem, raw.decode(), hashlib.sha256(raw).digest()))
    numbers = [migration.name.partition("_")[0] for migration in found]
    twice = {number for number in numbers if numbers.count(number) > 1}
    if twice:
        raise MigrationError(f"two migrations have the number {', '.join(sorted(twice))}")
    return found


async def migrate(dsn: str, folder: Path = FILES) -> None:
    """Apply what is missing. Waits at most two minutes for another process that is doing the same."""
    wanted = migrations(folder)
    connection = await asyncpg.connect(dsn, timeout=CONNECT_S)
    try:
        async with asyncio.timeout(LOCK_S):
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await connection.execute(REMEMBER, timeout=CONNECT_S)
        rows = await connection.fetch("SELECT name, sha256 FROM migrations", timeout=CONNECT_S)
        applied: dict[str, bytes] = {row["name"]: row["sha256"] for row in rows}
        for migration in wanted:
            if migration.name not in applied:
                await _apply(connection, migration)
            elif applied[migration.name] != migration.sha256:
                raise MigrationError(f"{migration.name}.sql was changed after it had been applied")
    finally:
        await connection.close(timeout=CONNECT_S)


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql, timeout=FILE_S)
            await connection.execute(
                "INSERT INTO migrations (name, sha256) VALUES ($1, $2)",
                migration.name,
                migration.sha256,
                timeout=CONNECT_S,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"{migration.name}.sql: {error}") from error
