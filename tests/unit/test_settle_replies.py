"""Whose a reply is, what a refusal ends and under which event id, and which yes answers a question."""

import pytest

from gateway.contract.consent import EventKind
from gateway.contract.decision import Class
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.records.inbound import Sent
from gateway.rules.pack import load
from gateway.rules.replies import Meaning, Read
from gateway.settle.asked import grant_of, question_of
from gateway.settle.ending import SKEW_MS, Scope, answered, event_of, scope_for
from gateway.settle.owners import Registry
from gateway.settle.taken import Taken

CN = load("cn")
ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002", pack="cn")
REGISTRY = Registry((ACME,), {"cn": CN})
REFUSAL, KEEP = Read(Meaning.REFUSAL), Read(Meaning.KEEP)
DAY_MS = 86_400_000


def reply(text: str = "R", port: str = "10690002", **more: object) -> Reply:
    fields = {"carrier": "sim", "reply_id": "r1", "sender_number": "+8613800000000", "subject": "0a" * 16}
    return Reply(**{"text": text, "port": port, "at": 5, "received_at": 9, **fields, **more})


def message(purpose: str, sender: str = "acme", at: int = 5) -> Sent:
    return Sent(f"m-{purpose}-{at}", at, None, "shop", sender, purpose)


@pytest.mark.parametrize("text", ["R", " r ", "Ｔ", "td", "退订", "拒收。", "STOP", "别再给我发了"])
def test_refusals_refuse_on_whoevers_port(text: str) -> None:
    for port in ("10690001", "10690002", "999"):
        assert REGISTRY.read(reply(text, port)).meaning is Meaning.REFUSAL


@pytest.mark.parametrize("text", ["", "Y", "thanks, R you there", "好的"])
def test_what_the_receiver_blocked_is_a_refusal(text: str) -> None:
    assert REGISTRY.read(reply(text)).meaning is not Meaning.REFUSAL
    assert REGISTRY.read(reply(text, blocked=True)) == Read(Meaning.REFUSAL, inferred=True)


def test_what_the_receiver_blocked_by_its_word_is_what_its_word_says() -> None:
    assert REGISTRY.read(reply("R", blocked=True)) == REFUSAL
    assert REGISTRY.read(reply("A", blocked=True)) == KEEP


@pytest.mark.parametrize("text", ["Y", "HELP", "START"])
def test_a_port_that_is_nobodys_knows_only_endings(text: str) -> None:
    assert REGISTRY.read(reply(text, "999")).meaning is Meaning.OTHER
    assert REGISTRY.read(reply(text, "10690001")).meaning in (Meaning.AFFIRMATION, Meaning.HELP)
    assert REGISTRY.read(reply("A", "999")) == KEEP


@pytest.mark.parametrize(
    ("port", "last", "text"),
    [
        ("10690002", message("transaction.order"), "acme#marketing"),
        ("10690001", message("transaction.shipping"), "acme/transaction.shipping"),
        ("10690001", None, "acme"),
        ("10690001", message("transaction.shipping", "other"), "acme"),
        ("10690009", message("transaction.order"), "*#marketing"),
        ("1069000299", message("transaction.order"), "acme#marketing"),
        ("1069000199", message("transaction.order"), "acme/transaction.order"),
        ("10690001", message("consent.preferences"), "acme"),
        ("10690001", message("consent.confirm"), "acme#marketing"),
        ("10690001", message("consent.opt_out_ack"), "acme"),
        ("10690001", message("no.such_purpose"), "acme/no.such_purpose"),
    ],
)
def test_the_scope_is_what_was_last_sent_from_that_port(port: str, last: Sent | None, text: str) -> None:
    owner = REGISTRY.owner(port)
    pack = None if owner is None else REGISTRY.pack(owner)
    assert scope_for(reply(port=port), Meaning.REFUSAL, owner, pack, last).text() == text
    wanted = "*#marketing" if owner is None else "acme#marketing"
    assert scope_for(reply("A", port), Meaning.KEEP, owner, pack, last).text() == wanted


@pytest.mark.parametrize(
    ("sent", "purpose"),
    [
        ([message("verification.code", at=4), message("transaction.shipping", at=3)], "transaction.shipping"),
        ([message("verification.code", at=n) for n in range(5)], None),
        ([message("consent.confirm", at=4), message("transaction.shipping", at=3)], "consent.confirm"),
        ([message("consent.opt_out_ack", at=4), message("transaction.shipping", at=3)], "consent.opt_out_ack"),
        ([message("transaction.order", at=6 + SKEW_MS), message("transaction.shipping", at=5)], "transaction.shipping"),
        ([message("transaction.order", at=5 + SKEW_MS), message("transaction.shipping", at=5)], "transaction.order"),
        ([message("transaction.order", at=6 + SKEW_MS)], None),
        ([message("transaction.order", "bolt", at=4), message("transaction.shipping", at=3)], "transaction.shipping"),
    ],
)
def test_a_refusal_answers_what_came_before_it_and_can_be_refused(sent: list[Sent], purpose: str | None) -> None:
    """A code is sent because it was asked for, refused or not: a refusal that ended codes would end nothing."""
    found = answered(sent, ACME, CN, 5)
    assert (found and found.purpose) == purpose


def test_who_refuses_after_a_code_leaves_the_notice_before_it_and_else_everything() -> None:
    code, notice = message("verification.code", at=8), message("transaction.shipping", at=7)
    for sent, text in (([code, notice], "acme/transaction.shipping"), ([code], "acme")):
        assert Taken(reply("R", "10690001"), REFUSAL, ACME, CN, sent).scope().text() == text


def test_senders_of_one_port_are_all_refused_there() -> None:
    """Nobody can register such; what the receiver has blocked of each is recorded of each."""
    bolt = ACME.model_copy(update={"id": "bolt", "service_port": "10690003"})
    registry = Registry((ACME, bolt), {"cn": CN})
    assert [one.id for one in registry.owners("10690002")] == ["acme", "bolt"]
    assert [one.id for one in registry.owners("106900021")] == ["acme", "bolt"]
    assert [one.id for one in registry.owners("10690001")] == ["acme"]
    assert registry.owners("12345") == []
    taken = Taken(reply("R"), REFUSAL, ACME, CN, [], [(bolt, CN)])
    assert [scope.text() for scope in taken.scopes()] == ["acme#marketing", "bolt#marketing"]


def test_one_port_for_both_uses_is_a_service_port() -> None:
    both = ACME.model_copy(update={"marketing_port": "10690001"})
    last = message("marketing.promotion")
    assert scope_for(reply(port="10690001"), Meaning.REFUSAL, both, CN, last).text() == "acme/marketing.promotion"


def test_the_event_is_the_persons_and_holds_from_our_receipt_of_it() -> None:
    event = event_of(reply("T"), REFUSAL, Scope("acme", cls=Class.MARKETING))
    assert (event.kind, event.subject, event.occurred_at_ms) == (EventKind.WITHDRAWAL, b"\x0a" * 16, 9)
    assert (event.data["sender"], event.data["cls"], event.data["text"]) == ("acme", "marketing", "T")
    assert "inferred" not in event.data
    assert "keeps" not in event.data


def test_the_event_says_what_was_inferred_and_what_is_kept() -> None:
    scope = Scope("acme", cls=Class.MARKETING)
    assert event_of(reply("别发了吧"), Read(Meaning.REFUSAL, inferred=True), scope).data["inferred"] is True
    assert event_of(reply("A"), KEEP, scope).data["keeps"] == ["transactional"]


def test_an_id_used_twice_by_a_carrier_loses_nobodys_refusal() -> None:
    scope = Scope("acme", cls=Class.MARKETING)
    first = event_of(reply(), REFUSAL, scope).event_id
    assert first == event_of(reply(), REFUSAL, scope).event_id
    others = [
        event_of(reply(subject="0b" * 16), REFUSAL, scope),
        event_of(reply(), REFUSAL, Scope("acme")),
        event_of(reply(carrier="x"), REFUSAL, scope),
    ]
    assert len({first, *(one.event_id for one in others)}) == 4
    assert len(event_of(reply(reply_id="\n" * 500), REFUSAL, scope).event_id) < 100


# --- solicited -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "at", "asked"),
    [
        ([], 10, False),
        ([message("consent.preferences")], 10, True),
        ([message("consent.preferences")], 5 + 30 * DAY_MS, True),
        ([message("consent.preferences")], 6 + 30 * DAY_MS, False),
        ([message("consent.preferences", at=20)], 10, False),
        ([message("consent.preferences", "bolt")], 10, False),
        ([message("transaction.order", at=7), message("consent.preferences")], 10, False),
        ([message("consent.help", at=7), message("consent.preferences")], 10, True),
        ([message("consent.opt_out_ack", at=7), message("consent.preferences")], 10, True),
        ([message("consent.confirm")], 10, False),
        ([message("verification.code")], 10, False),
    ],
)
def test_a_question_is_open_while_it_is_the_last_word(sent: list[Sent], at: int, asked: bool) -> None:
    assert (question_of(sent, ACME, CN, at) is not None) is asked


def test_a_solicited_yes_is_consent_to_what_was_asked() -> None:
    found = question_of([message("consent.preferences")], ACME, CN, 10)
    assert found is not None
    event = grant_of(reply("Y", "10690001", received_at=10_000), ACME, CN, *found)
    assert event.kind is EventKind.GRANT
    assert (event.data["topics"], event.data["max_per_week"], event.data["lifts"]) == (["marketing", "invite"], 1, True)
    assert event.data["valid_until"] == 10 + 365 * 86_400
    evidence = event.data["evidence"]
    assert (evidence["weight"], evidence["question"]["message_id"]) == ("solicited_reply", found[0].id)
    assert evidence["reply"]["text"] == "Y"
    assert event.event_id == grant_of(reply("Y", "10690001", received_at=10_000), ACME, CN, *found).event_id
