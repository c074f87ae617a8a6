"""What a refusal withdraws, and under which event id."""

import pytest

from gateway.contract.consent import EventKind
from gateway.contract.decision import Class
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.rules.pack import load
from gateway.settle.replies import Registry, Scope, event_of, scope_for

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002", pack="cn")
REGISTRY = Registry((ACME,), {"cn": load("cn")})


def reply(text: str = "R", port: str = "10690002", **more: object) -> Reply:
    fields = {"carrier": "sim", "reply_id": "r1", "sender_number": "+8613800000000", "subject": "0a" * 16}
    return Reply(text=text, port=port, at=5, received_at=9, **{**fields, **more})


@pytest.mark.parametrize("text", ["R", " r ", "Ｔ", "td", "退订", "拒收。", "STOP"])
def test_exact_words_refuse(text: str) -> None:
    assert REGISTRY.refuses(reply(text))
    assert REGISTRY.refuses(reply(text, port="999"))


@pytest.mark.parametrize("text", ["", "Y", "thanks, R you there", "好的"])
def test_other_words_do_not_unless_the_receiver_has_blocked_already(text: str) -> None:
    assert not REGISTRY.refuses(reply(text))
    assert REGISTRY.refuses(reply(text, blocked=True))


@pytest.mark.parametrize(
    ("port", "last", "text"),
    [
        ("10690002", ("acme", "transaction.order"), "acme#marketing"),
        ("10690001", ("acme", "transaction.shipping"), "acme/transaction.shipping"),
        ("10690001", None, "acme"),
        ("10690001", ("other", "transaction.shipping"), "acme"),
        ("10690009", ("acme", "transaction.order"), "*#marketing"),
        ("1069000299", ("acme", "transaction.order"), "acme#marketing"),
        ("1069000199", ("acme", "transaction.order"), "acme/transaction.order"),
    ],
)
def test_the_scope_is_what_was_last_sent_from_that_port(port: str, last: tuple[str, str] | None, text: str) -> None:
    assert scope_for(reply(port=port), REGISTRY.owner(port), last).text() == text


def test_one_port_for_both_uses_is_a_service_port() -> None:
    both = ACME.model_copy(update={"marketing_port": "10690001"})
    assert scope_for(reply(port="10690001"), both, ("acme", "marketing.promotion")).text() == "acme/marketing.promotion"


def test_the_event_is_the_persons_and_holds_from_our_receipt_of_it() -> None:
    event = event_of(reply("T"), Scope("acme", cls=Class.MARKETING))
    assert (event.kind, event.subject, event.occurred_at_ms) == (EventKind.WITHDRAWAL, b"\x0a" * 16, 9)
    assert (event.data["sender"], event.data["cls"], event.data["text"]) == ("acme", "marketing", "T")


def test_an_id_used_twice_by_a_carrier_loses_nobodys_refusal() -> None:
    scope = Scope("acme", cls=Class.MARKETING)
    assert event_of(reply(), scope).event_id == event_of(reply(), scope).event_id
    others = [
        event_of(reply(subject="0b" * 16), scope),
        event_of(reply(), Scope("acme")),
        event_of(reply(carrier="x"), scope),
    ]
    assert len({event_of(reply(), scope).event_id, *(one.event_id for one in others)}) == 4
    assert len(event_of(reply(reply_id="\n" * 500), scope).event_id) < 100


@pytest.mark.parametrize("text", ["Y", " y ", "Ｙ。", "yes", "是", "同意", "回复Y"])
def test_exact_words_affirm_to_the_ports_owner_only(text: str) -> None:
    assert REGISTRY.affirmed(reply(text, port="10690001")) == ACME
    assert REGISTRY.affirmed(reply(text, port="10690002")) == ACME
    assert REGISTRY.affirmed(reply(text, port="999")) is None
    assert REGISTRY.affirmed(reply(text, port="10690001", blocked=True)) is None


@pytest.mark.parametrize("text", ["", "R", "Yes please", "不同意", "Y?N", "好的", "1"])
def test_other_words_affirm_nothing(text: str) -> None:
    assert REGISTRY.affirmed(reply(text, port="10690001")) is None


def test_a_refusal_of_a_question_about_consent_is_one_of_marketing() -> None:
    assert REGISTRY.asks(ACME, "consent.confirm")
    assert REGISTRY.asks(ACME, "consent.preferences")
    assert not REGISTRY.asks(ACME, "transaction.order")
