"""What the console's door asks of a request: where it comes from, by which name it came, and where it may lead."""

import sys
from typing import Any

import pytest

from gateway.assemble.console import open_desk
from gateway.assemble.parts import Misconfigured
from gateway.console import door, signing
from gateway.console.desk import Desk
from gateway.settings import Settings

PUBLIC = "https://console.example.com"


def desk(public_url: str | None = None) -> Desk:
    parts: dict[str, Any] = dict.fromkeys(Desk.__dataclass_fields__)
    return Desk(**parts | {"public_url": public_url})


def scope(**headers: str) -> dict[str, Any]:
    return {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize(
    ("public", "host", "origin", "ours"),
    [
        (None, "127.0.0.1:8081", "http://127.0.0.1:8081", True),
        (None, "127.0.0.1:8081", "http://127.0.0.1:8080", False),
        (None, "127.0.0.1:8081", "https://127.0.0.1:8081", False),
        (None, "127.0.0.1:8081", "null", False),
        (None, "127.0.0.1:8081", "", False),
        (PUBLIC, "console.example.com", PUBLIC, True),
        (PUBLIC, "console.example.com", "http://console.example.com", False),
        (PUBLIC, "console.example.com", "https://console.example.com.evil.example", False),
        (f"{PUBLIC}/", "10.0.0.7:8081", PUBLIC, True),
        (PUBLIC, "console.example.com", "", False),
    ],
)
def test_only_a_page_of_ours_changes_anything(public: str | None, host: str, origin: str, ours: bool) -> None:
    assert door.same_origin(desk(public), scope(host=host, origin=origin)) is ours


def test_two_origins_are_none() -> None:
    twice = {"headers": [(b"host", b"127.0.0.1:1"), *[(b"origin", b"http://127.0.0.1:1")] * 2]}
    assert not door.same_origin(desk(), twice)


@pytest.mark.parametrize(
    ("public", "host", "ours"),
    [
        (None, "127.0.0.1:8081", True),
        (None, "localhost:8081", True),
        (None, "[::1]:8081", True),
        (None, "rebound.example:8081", False),
        (None, "127.0.0.1.rebound.example", False),
        (PUBLIC, "console.example.com", True),
        (PUBLIC, "127.0.0.1:8081", True),
        (PUBLIC, "other.example.com", False),
    ],
)
def test_another_name_that_leads_here_is_not_ours(public: str | None, host: str, ours: bool) -> None:
    assert door.host_is_ours(desk(public), scope(host=host)) is ours


def test_cookies_are_bound_to_tls_and_host_where_others_reach_it() -> None:
    assert (door.cookie_name(desk(PUBLIC)), door.secure(desk(PUBLIC))) == ("__Host-assent", True)
    assert door.token_of(desk(PUBLIC), scope(cookie="assent_console=planted; __Host-assent=right")) == "right"
    assert door.token_of(desk(PUBLIC), scope(cookie="assent_console=planted")) is None
    assert door.token_of(desk(), scope(cookie="a=b; assent_console=right")) == "right"


@pytest.mark.parametrize(
    "to", ["//evil.example", "/\\evil.example", "https://evil.example", "/\tx", "/sign-out", "", "/a\r\nset-cookie: x"]
)
def test_signing_in_leads_nowhere_else(to: str) -> None:
    assert signing.path_within(to) == "/"
    assert signing.path_within("/breakers") == "/breakers"


def test_an_address_has_so_many_tries_a_minute() -> None:
    tries = signing.Tries()
    assert all(tries.allows("a", 100.0 + n) for n in range(signing.TRIES))
    assert not tries.allows("a", 130.0)
    assert tries.allows("b", 130.0)
    assert tries.allows("a", 100.0 + signing.TRIES_S + 1)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("40", True),
        ("3", True),
        ('42["event",{"id":1,"client_id":"own","args":["a \\"client_id\\":\\"other\\" b"]}]', True),
        ('4217["handshake",{"client_id":"own"}]', True),
        ('42["event",{"client_id":"other"}]', False),
        ('42["event",{"client_id" : "other"}]', False),
        ('42["event",{"client\\u005fid":"other"}]', False),
        ('42["event",{"client_id":"own","client_id":"other"}]', False),
        ('421 ["event",{"client_id":"own"}]', False),
        ('42/other,["event",{"client_id":"own"}]', False),
        ('451-["event",{"client_id":{"_placeholder":true,"num":0}}]', False),
        ('42["event",' + "[" * 100_000, False),
        ('42["event"]', False),
        ("bAAAA", False),
        ("", False),
    ],
)
async def test_a_live_connection_speaks_for_its_own_page_however_it_is_written(text: str, passes: bool) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "websocket.receive", "text": text}

    got = await door.Live(receive, "own").receive()
    assert got["type"] == ("websocket.receive" if passes else "websocket.disconnect")


async def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nicegui", None)
    with pytest.raises(Misconfigured, match="extra `console`"):
        async with open_desk(Settings()):
            pass
