"""The console's users and sessions, and the record of what happened to them.

Owns tables `console_users`, `console_sessions` and `console_acts`. A session is its row: a password or role that
changes, and a user who is disabled, delete the rows in the same transaction: it is over everywhere at once. Only
a digest of what the cookie holds is kept. Each change and its act are one statement or one transaction.
"""

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from gateway.contract.console import Role, Session
from gateway.records.connection import Connection

if TYPE_CHECKING:
    import asyncpg

TIMEOUT_S = 1.5
IDLE_S = 30 * 60
LONGEST_S = 12 * 3600
TOUCH_S = 30
"""A session's last use is written at most this often."""
MOST = 200

_PUT = """
INSERT INTO console_users (name, password, role) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET password = $2, role = $3, disabled = false, failures = 0, failed_at = NULL,
    changed_at = clock_timestamp()
RETURNING xmax = 0
"""
_CHANGE = """
UPDATE console_users SET password = $2, failures = 0, failed_at = NULL, changed_at = clock_timestamp()
WHERE name = $1 RETURNING true
"""
_DISABLE = "UPDATE console_users SET disabled = $2, changed_at = clock_timestamp() WHERE name = $1 RETURNING true"
_END_ALL = "DELETE FROM console_sessions WHERE name = $1"
_ACT = "INSERT INTO console_acts (name, act, by) VALUES ($1, $2, $3)"
_USER = """
SELECT name, password, role, disabled, failures, extract(epoch FROM clock_timestamp() - failed_at)::float8 AS since_s
FROM console_users WHERE name = $1
"""
_USERS = "SELECT name, role, disabled, added_at, changed_at FROM console_users ORDER BY name"
_FAILED = """
WITH act AS (INSERT INTO console_acts (name, act, by) VALUES ($1, 'refused', $1))
UPDATE console_users SET failures = failures + 1, failed_at = clock_timestamp() WHERE name = $1
"""
_BEGIN = """
WITH who AS (
    UPDATE console_users SET failures = 0, failed_at = NULL WHERE name = $2 AND NOT disabled AND password = $3
    RETURNING name
), act AS (INSERT INTO console_acts (name, act, by) SELECT name, 'signed_in', name FROM who)
INSERT INTO console_sessions (digest, name) SELECT $1, name FROM who RETURNING true
"""
_STANDING = """
SELECT s.digest, u.name, u.role, u.lang, u.theme, u.zone,
    s.used_at < clock_timestamp() - make_interval(secs => $4) AS to_touch
FROM console_sessions s JOIN console_users u USING (name)
WHERE s.digest = ANY($1::bytea[]) AND NOT u.disabled
  AND s.used_at > clock_timestamp() - make_interval(secs => $2)
  AND s.started_at > clock_timestamp() - make_interval(secs => $3)
"""
_TOUCH = "UPDATE console_sessions SET used_at = clock_timestamp() WHERE digest = ANY($1::bytea[])"
_END = """
WITH gone AS (DELETE FROM console_sessions WHERE digest = $1 RETURNING name)
INSERT INTO console_acts (name, act, by) SELECT name, 'signed_out', name FROM gone
"""
_SWEEP = """
DELETE FROM console_sessions WHERE used_at < clock_timestamp() - make_interval(secs => $1)
    OR started_at < clock_timestamp() - make_interval(secs => $2)
"""
_PREFER = "UPDATE console_users SET lang = $2, theme = $3, zone = $4 WHERE name = $1"
_ACTS = "SELECT id, at, name, act, by FROM console_acts WHERE id < $2 ORDER BY id DESC LIMIT $1"

Database: TypeAlias = "Connection | asyncpg.Pool[asyncpg.Record]"


class Kept(NamedTuple):
    """A user as sign-in needs it."""

    name: str
    password: str
    role: Role
    disabled: bool
    failures: int
    since_s: float
    """Seconds since the last wrong password."""


class User(NamedTuple):
    """A user as listed."""

    name: str
    role: Role
    disabled: bool
    added_at: datetime
    changed_at: datetime


class Act(NamedTuple):
    """Something that happened to a user, or at the door."""

    id: int
    at: datetime
    name: str
    act: str
    by: str


def digest_of(token: str) -> bytes:
    """How a session's token is kept and found."""
    return hashlib.sha256(token.encode()).digest()


# --- users -----------------------------------------------------------------------------------------------------------


async def put(connection: Connection, name: str, password: str, role: Role, *, by: str) -> bool:
    """Add a user, or give one a new password and role; `password` as `rules.passwords` keeps it. Whether it is new."""
    async with connection.transaction():
        new = bool(await connection.fetchval(_PUT, name, password, role.value, timeout=TIMEOUT_S))
        await connection.execute(_END_ALL, name, timeout=TIMEOUT_S)
        await connection.execute(_ACT, name, "added" if new else "changed", by, timeout=TIMEOUT_S)
    return new


async def set_password(connection: Connection, name: str, password: str, *, by: str) -> bool:
    """Change it and end every session; False where there is no such user."""
    async with connection.transaction():
        if not await connection.fetchval(_CHANGE, name, password, timeout=TIMEOUT_S):
            return False
        await connection.execute(_END_ALL, name, timeout=TIMEOUT_S)
        await connection.execute(_ACT, name, "password", by, timeout=TIMEOUT_S)
    return True


async def disable(connection: Connection, name: str, *, disabled: bool = True, by: str) -> bool:
    """Keep somebody out from now on, or let them in again; False where there is no such user."""
    async with connection.transaction():
        if not await connection.fetchval(_DISABLE, name, disabled, timeout=TIMEOUT_S):
            return False
        await connection.execute(_END_ALL, name, timeout=TIMEOUT_S)
        await connection.execute(_ACT, name, "disabled" if disabled else "enabled", by, timeout=TIMEOUT_S)
    return True


async def users(database: Database) -> list[User]:
    """Every user."""
    found = await database.fetch(_USERS, timeout=TIMEOUT_S)
    return [User(row["name"], Role(row["role"]), *tuple(row)[2:]) for row in found]


async def prefer(
    database: Database,
    name: str,
    *,
    lang: str | None,
    theme: str | None,
    zone: str | None,
) -> None:
    """How a person likes to see the console; none: as the browser asks."""
    await database.execute(_PREFER, name, lang, theme, zone, timeout=TIMEOUT_S)


# --- sessions --------------------------------------------------------------------------------------------------------


async def kept(database: Database, name: str) -> Kept | None:
    """What sign-in checks a password against."""
    row = await database.fetchrow(_USER, name, timeout=TIMEOUT_S)
    if row is None:
        return None
    return Kept(name, row["password"], Role(row["role"]), row["disabled"], row["failures"], row["since_s"] or 1e9)


async def failed(database: Database, name: str) -> None:
    """Count a wrong password of a user that exists."""
    await database.execute(_FAILED, name, timeout=TIMEOUT_S)


async def begin(database: Database, token: str, user: Kept) -> bool:
    """Begin a session, unless the password changed or the user was disabled since `user` was read."""
    done: Any = await database.fetchval(_BEGIN, digest_of(token), user.name, user.password, timeout=TIMEOUT_S)
    return bool(done)


async def standing(database: Database, digests: list[bytes], *, using: bool = False) -> dict[bytes, Session]:
    """Those of these sessions that are not over. `using`: they are in use now, which keeps them from idling."""
    found = await database.fetch(_STANDING, digests, IDLE_S, LONGEST_S, TOUCH_S, timeout=TIMEOUT_S)
    if using and (touched := [row["digest"] for row in found if row["to_touch"]]):
        await database.execute(_TOUCH, touched, timeout=TIMEOUT_S)
    return {
        row["digest"]: Session(row["digest"], row["name"], Role(row["role"]), row["lang"], row["theme"], row["zone"])
        for row in found
    }


async def end(database: Database, digest: bytes) -> None:
    """Sign out."""
    await database.execute(_END, digest, timeout=TIMEOUT_S)


async def sweep(database: Database) -> None:
    """Delete sessions that are over."""
    await database.execute(_SWEEP, IDLE_S, LONGEST_S, timeout=TIMEOUT_S)


async def acts(database: Database, limit: int = MOST, before: int | None = None) -> list[Act]:
    """What happened last, the newest first; `before`: the number of the last one of the page before."""
    found = await database.fetch(_ACTS, min(limit, MOST), before or 2**62, timeout=TIMEOUT_S)
    return [Act(*row) for row in found]
