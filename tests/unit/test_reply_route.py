"""Marketing goes only from a port that leads back: attested free, and seen to work lately."""

import pytest

from gateway.carriers.receipts import ReplyIn
from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.ids import CONTENT, content_id
from gateway.contract.message import SendRequest
from gateway.contract.registry import Client, ReplyRoute, Sender
from gateway.edge.callbacks import said_at
from gateway.intake.prepare import Prepared, Route, Routes, prepare
from gateway.rules.pack import load

DAY = 86_400
TESTED = 1_795_000_000
NOON_MS = 1_795_579_200_000
"""2026-11-25 12:00 in Shanghai, six days later."""
SHOP = Client(id="shop", senders=("*",))
CN = load("cn")


def route(purpose: str, *routes: ReplyRoute) -> Route:
    acme = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002", reply_routes=routes)
    found = Routes({"acme": acme}, {"cn": CN}).find(SHOP, "acme", purpose)
    assert isinstance(found, Route)
    return found


def asked(purpose: str, **more: object) -> SendRequest:
    return SendRequest.model_validate(
        {"to": "+8613800000000", "sender": "acme", "purpose": purpose, "text": "您好", **more}
    )


def attested(port: str = "10690002", *, free: bool = True, at: int = TESTED) -> ReplyRoute:
    return ReplyRoute(port=port, free=free, tested_at=at)


@pytest.mark.parametrize(
    ("routes", "passes"),
    [
        ((), False),
        ((attested(),), True),
        ((attested(free=False),), False),
        ((attested("10690001"),), False),
        ((attested("10690001"), attested()), True),
        ((attested(at=NOON_MS // 1000 - 30 * DAY),), False),
        ((attested(at=NOON_MS // 1000 - 30 * DAY + 1),), True),
    ],
)
def test_marketing_needs_its_port_to_lead_back(routes: tuple[ReplyRoute, ...], passes: bool) -> None:
    found = prepare(asked("marketing.promotion"), route("marketing.promotion", *routes), NOON_MS)
    if passes:
        assert isinstance(found, Prepared)
        assert found.late is None
    else:
        assert isinstance(found, Refusal)
        assert found.code is Code.PORT_NO_REPLY_ROUTE


def test_nothing_else_needs_one() -> None:
    for purpose in ("transaction.shipping", "service.notice"):
        assert isinstance(prepare(asked(purpose), route(purpose), NOON_MS), Prepared)


def test_what_was_accepted_under_its_key_stays_accepted() -> None:
    found = prepare(asked("marketing.promotion", idempotency_key="k"), route("marketing.promotion"), NOON_MS)
    assert isinstance(found, Prepared)
    assert found.late is not None
    assert found.late.code is Code.PORT_NO_REPLY_ROUTE


@pytest.mark.parametrize("given", [{}, {"id": ""}, {"id": "  "}, {"id": None}])
def test_a_reply_without_an_id_is_still_a_reply(given: dict[str, str | None]) -> None:
    read = ReplyIn.model_validate({"from": "13800000000", "to": "10690002", "text": "T", **given})
    assert read.id is None


def test_a_contents_id_tells_person_port_and_text_apart_and_says_nothing() -> None:
    pepper, subject = b"p" * 32, b"s" * 16
    first = content_id(pepper, subject, "10690002", "T", 5)
    assert first.startswith(CONTENT)
    assert first.endswith(":5")
    others = [
        content_id(b"q" * 32, subject, "10690002", "T", 5),
        content_id(pepper, b"t" * 16, "10690002", "T", 5),
        content_id(pepper, subject, "10690001", "T", 5),
        content_id(pepper, subject, "10690002", "R", 5),
    ]
    assert len({first, *others}) == 5
    assert first.rpartition(":")[0] == content_id(pepper, subject, "10690002", "T", 6).rpartition(":")[0]


NOW_MS = 1_795_485_600_000
"""2026-11-24T02:00:00Z."""


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (None, NOW_MS),
        ("2026-11-24T10:00:00+08:00", NOW_MS),
        ("2026-11-24 10:00:00", NOW_MS + 8 * 3_600_000),  # no zone: the same when it is brought again, whatever it is
        ("2026-11-23T02:00:00Z", NOW_MS - 86_400_000),
        ("2000-01-01T00:00:00Z", NOW_MS),  # a clock that stands still would make one reply of all that anybody writes
        ("2612-01-01T00:00:00Z", NOW_MS),
        ("0001-01-01T00:00:00", NOW_MS),
    ],
)
def test_a_reply_without_an_id_is_known_again_by_its_carriers_time(at: str | None, said: int) -> None:
    read = ReplyIn.model_validate({"from": "13800000000", "to": "10690002", "text": "T", "at": at})
    assert said_at(read, NOW_MS) == said
