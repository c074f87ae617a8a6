"""What the consent pages believe of a request: its fields, its address, its origin."""

from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from gateway.edge.optin.submitted import Submission, confirmation, is_json, submission
from gateway.edge.optin.where import address_name, origin_of, same_host, seen
from gateway.edge.problems import Refused
from gateway.rules.reach import networks

FIELDS: dict[str, Any] = {"version": "1", "sha256": "0" * 64, "lang": "zh", "number": "138", "topics": ["a.b", "c"]}
ACT = {"topic": "a.b", "ticked": True, "by": "mouse", "trusted": True, "at": 5}


def form(**changes: Any) -> Submission:
    return submission(urlencode(FIELDS | changes, doseq=True).encode(), json=False)


def test_a_form_and_json_say_the_same() -> None:
    json = {**FIELDS, "version": 1, "acts": [ACT]}
    assert submission(orjson.dumps(json), json=True) == form(acts=orjson.dumps([ACT]).decode())
    assert form(embed="1", page="", acts="").embed is True
    assert form(acts="").acts is None


@pytest.mark.parametrize(
    "body",
    [
        b"version=1&version=2",
        b"\xff",
        b"no",
        b"",
        urlencode(FIELDS | {"nonsense": "1"}, doseq=True).encode(),
        urlencode(FIELDS | {"lang": "de"}, doseq=True).encode(),
        urlencode(FIELDS | {"number": "1" * 65}, doseq=True).encode(),
        urlencode(FIELDS | {"number": "1\0"}, doseq=True).encode(),
        urlencode(FIELDS | {"topics": ["a"] * 13}, doseq=True).encode(),
        urlencode(FIELDS | {"acts": orjson.dumps([ACT] * 65).decode()}, doseq=True).encode(),
        urlencode(FIELDS | {"acts": "{"}, doseq=True).encode(),
        b"&".join(b"a=1" for _ in range(100)),
    ],
)
def test_what_is_no_submission_is_refused_and_not_quoted(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        submission(body, json=False)
    assert "1111" not in repr(refused.value.errors)


def test_a_confirmation_is_short() -> None:
    assert confirmation(b"opt_in=x&code=+12+&lang=en", json=False).code == " 12 "
    with pytest.raises(Refused):
        confirmation(urlencode({"opt_in": "x", "code": "1" * 33}).encode(), json=False)


def test_ticks_must_lead_to_what_was_handed_in() -> None:
    def acts(*changes: dict[str, Any]) -> bool:
        return form(topics=["a.b"], acts=orjson.dumps([ACT | one for one in changes]).decode()).scripted()

    assert not form().scripted()
    assert not acts({})
    assert not acts({"trusted": False}, {"ticked": False}, {})
    assert acts()
    assert acts({"trusted": False})
    assert acts({}, {"ticked": False})
    assert acts({}, {"topic": "c"})


def test_the_content_type_tells() -> None:
    assert is_json("Application/JSON; charset=utf-8")
    assert not is_json("application/x-www-form-urlencoded")
    assert not is_json("")


# --- where -----------------------------------------------------------------------------------------------------------

PROXIES = networks("10.0.0.0/8, 192.0.2.7")
HEAD = {"host": "gw.example", "user-agent": "x" * 999, "x-forwarded-proto": "https"}


@pytest.mark.parametrize(
    ("peer", "forwarded", "ip"),
    [
        ("203.0.113.1", "198.51.100.1", "203.0.113.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2, 192.0.2.7", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_only_named_proxies_say_who_called(peer: str, forwarded: str, ip: str) -> None:
    found = seen(HEAD | {"x-forwarded-for": forwarded}, peer, "http", "/c/acme", PROXIES, None)
    assert found.ip == ip
    assert found.own == ("https" if peer == "10.0.0.1" else "http") + "://gw.example"
    assert len(found.user_agent) == 400


def test_the_public_address_is_the_operators() -> None:
    found = seen(HEAD, "203.0.113.1", "http", "/c/acme", (), "https://consent.example/")
    assert (found.own, found.url) == ("https://consent.example", "https://consent.example/c/acme")


def test_an_origin_is_ours_by_host_and_port() -> None:
    assert same_host("https://gw.example", "http://gw.example")
    assert same_host("https://GW.example:8080", "http://gw.example:8080")
    for other in ("null", "", "https://evil.example", "https://gw.example:1", "file://gw.example", "https://[::"):
        assert not same_host(other, "http://gw.example")


def test_origins_of_pages() -> None:
    assert origin_of("https://Shop.example:8443/a?b#c") == "https://shop.example:8443"
    for none in ("", "shop.example/a", "javascript:alert(1)", "https://[", "data:text/html,x"):
        assert origin_of(none) is None


def test_an_address_is_counted_under_a_keyed_name() -> None:
    one = address_name(b"p" * 32, "203.0.113.9")
    assert "203" not in one
    assert one != address_name(b"q" * 32, "203.0.113.9") != address_name(b"p" * 32, "203.0.113.10")
    assert address_name(b"p" * 32, "2001:db8::1") == address_name(b"p" * 32, "2001:db8::ffff")
    assert address_name(b"p" * 32, "2001:db8::1") != address_name(b"p" * 32, "2001:db8:0:1::1")
    assert address_name(b"p" * 32, "")


def test_proxies_that_are_none() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        networks("10.0.0.0/8, nonsense")
