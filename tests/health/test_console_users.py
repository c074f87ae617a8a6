"""Users and sessions of the console in PostgreSQL: when a session is over, and what ends all of them."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from gateway.console.desk import Desk
from gateway.console.files import while_standing
from gateway.contract.console import May, Role
from gateway.records import users


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("DELETE FROM console_users")
    await users.put(connection, "mei", "kept-1", Role.OPERATOR, by="test")
    yield connection
    await connection.close()


async def signed_in(conn: Any, token: str) -> bytes:
    kept = await users.kept(conn, "mei")
    assert kept is not None
    assert await users.begin(conn, token, kept)
    return users.digest_of(token)


async def stands(conn: Any, digest: bytes, *, using: bool = False) -> bool:
    return digest in await users.standing(conn, [digest], using=using)


async def aged(conn: Any, **columns: timedelta) -> None:
    for name, age in columns.items():
        await conn.execute(f"UPDATE console_sessions SET {name} = clock_timestamp() - $1::interval", age)  # noqa: S608


async def test_a_session_idles_out_unless_it_is_used_and_ends_after_its_longest(conn: Any) -> None:
    digest = await signed_in(conn, "one")
    await aged(conn, used_at=timedelta(minutes=29))
    assert await stands(conn, digest)
    assert await stands(conn, digest, using=True)
    await aged(conn, started_at=timedelta(hours=11, minutes=59))
    assert await stands(conn, digest), "it was used a moment ago"
    await aged(conn, used_at=timedelta(minutes=31))
    assert not await stands(conn, digest, using=True)
    await aged(conn, used_at=timedelta(0), started_at=timedelta(hours=12, seconds=1))
    assert not await stands(conn, digest, using=True)
    await users.sweep(conn)
    assert await conn.fetchval("SELECT count(*) FROM console_sessions") == 0


@pytest.mark.parametrize("what", ["password", "role", "disabled"])
async def test_what_changes_a_user_ends_every_session_at_once(conn: Any, what: str) -> None:
    digests = [await signed_in(conn, token) for token in ("one", "two")]
    match what:
        case "password":
            assert await users.set_password(conn, "mei", "kept-2", by="mei")
        case "role":
            assert not await users.put(conn, "mei", "kept-2", Role.VIEWER, by="lead")
        case _:
            assert await users.disable(conn, "mei", by="lead")
    assert await users.standing(conn, digests) == {}
    assert (await users.acts(conn))[0].name == "mei"


async def test_nobody_signs_in_with_what_was_changed_meanwhile(conn: Any) -> None:
    kept = await users.kept(conn, "mei")
    assert kept is not None
    await users.set_password(conn, "mei", "kept-2", by="mei")
    assert not await users.begin(conn, "late", kept)
    await users.disable(conn, "mei", by="lead")
    assert not await users.begin(conn, "later", kept._replace(password="kept-2"))
    assert await conn.fetchval("SELECT count(*) FROM console_sessions") == 0


async def test_wrong_passwords_are_counted_until_a_right_one(conn: Any) -> None:
    for _ in range(3):
        await users.failed(conn, "mei")
    kept = await users.kept(conn, "mei")
    assert kept is not None
    assert (kept.failures, kept.since_s < 5) == (3, True)
    await signed_in(conn, "one")
    kept = await users.kept(conn, "mei")
    assert kept is not None
    assert kept.failures == 0
    assert [act.act for act in await users.acts(conn, 4)] == ["signed_in", "refused", "refused", "refused"]


async def test_a_session_says_who_it_is_and_how_they_like_it(conn: Any) -> None:
    digest = await signed_in(conn, "one")
    await users.prefer(conn, "mei", lang="en", theme=None, zone="UTC")
    session = (await users.standing(conn, [digest]))[digest]
    assert (session.name, session.lang, session.theme, session.zone) == ("mei", "en", None, "UTC")
    assert session.may(May.MOVE)
    assert not session.may(May.PEOPLE)
    await users.end(conn, digest)
    assert not await stands(conn, digest)
    assert (await users.acts(conn, 1))[0].act == "signed_out"
    assert await conn.fetchval("SELECT count(*) FROM console_sessions WHERE digest = $1", b"one".ljust(32)) == 0


async def test_an_export_ends_with_the_session_it_was_asked_for_in(conn: Any) -> None:
    await users.put(conn, "mei", "kept-1", Role.COMPLIANCE, by="test")
    digest = await signed_in(conn, "exporting")
    session = (await users.standing(conn, [digest]))[digest]
    parts: dict[str, Any] = dict.fromkeys(Desk.__dataclass_fields__)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        await users.disable(conn, "mei", by="test")
        yield b"second"

    taken = while_standing(Desk(**parts | {"pool": conn}), session, pieces())
    assert await anext(taken) == b"first"
    with pytest.raises(ConnectionAbortedError):
        await anext(taken)
