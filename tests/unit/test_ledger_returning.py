"""What is put back of a message, by where its record stands and what became of it."""

from typing import Any

import pytest

from gateway.contract.decision import Basis, Class
from gateway.contract.ids import new_id
from gateway.contract.registry import Registry, Sender
from gateway.contract.wire import Accepted, Result
from gateway.guard import Restored
from gateway.ledger.outcomes import Outcomes
from gateway.ledger.returning import Book, Place, Returning, Spelling
from gateway.rules.pack import load
from gateway.stream import encode

NOW = 1_795_000_000_000
HOUR, DAY = 3_600_000, 86_400_000
SUBJECT = bytes([0x13]) + bytes(15)
SENDER = Sender(id="acme", signature="Acme", service_port="1", marketing_port="2")
BOOK = Book(Registry(lanes=16, clients=(), senders=(SENDER,)), {"cn": load("cn")})
SPELLING = Spelling(
    answer=lambda due, parts, pack: f"{due}/{parts}/{pack}".encode(),
    text_hash=lambda text: text.encode().ljust(8)[:8],
    request=lambda subject, sender, purpose, ref: subject[:1] + f"{sender}{purpose}{ref}".encode(),
)
WINDOW = 256
COMMITTED = 10_000
KEY = "ab" * 16 + "cd" * 16


def a_message(age_ms: int = HOUR // 2, **changes: Any) -> dict[str, Any]:
    at = NOW - age_ms
    fields: dict[str, Any] = {
        "id": new_id(3, at), "client": "shop", "sender": "acme", "purpose": "transaction.shipping",
        "cls": Class.TRANSACTIONAL, "subject": SUBJECT.hex(), "to": "+8613800000000", "text": "Parcel", "parts": 2,
        "port": "1", "pack": "cn@2026.11", "basis": Basis.RELATIONSHIP, "entry": 7, "accepted_at": at,
        "expires_at": at + DAY, "stamp": at + 5,
    }  # fmt: skip
    return Accepted(**(fields | changes)).model_dump(mode="json", exclude_none=True)


def returning(*results: dict[str, Any], lanes: range = range(16)) -> Returning:
    outcomes = Outcomes(NOW - HOUR)
    for result in results:
        at = result.pop("at", NOW)
        said = Result(**({"attempt": 1, "cls": Class.TRANSACTIONAL, "carrier": "x", "at": at} | result))
        outcomes.take(said.id.encode(), encode(said), at)
    return Returning(BOOK, outcomes, SPELLING, now_ms=NOW, window=WINDOW, lanes=lanes)


def published(said: dict[str, Any], offset: int, *results: dict[str, Any]) -> Restored:
    made = returning(*results).published(said, Place(1, offset, COMMITTED))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("offset", "state", "place"),
    [
        (COMMITTED, "reserved", (0, 0)),
        (COMMITTED + 900, "reserved", (0, 0)),
        (COMMITTED - 1, "taken", (1, COMMITTED - 1)),
        (COMMITTED - WINDOW, "taken", (1, COMMITTED - WINDOW)),
        (COMMITTED - WINDOW - 1, "done", (1, COMMITTED - WINDOW - 1)),
    ],
)
def test_the_commit_says_how_far_it_got(offset: int, state: str, place: tuple[int, int]) -> None:
    """What may have been written is never `reserved`, what may not have been is never `done`."""
    made = published(a_message(), offset)
    assert (made.state, (made.partition, made.offset), made.attempt, made.entry) == (state, place, 1, 7)
    assert made.fields is not None
    assert made.fields.names == ("T/acme",)
    assert made.basis == -1


@pytest.mark.parametrize("offset", [COMMITTED + 1, COMMITTED - 1, 0])
@pytest.mark.parametrize(
    ("outcome", "state", "refunded"),
    [
        ("submitted", "done", False),
        ("doubtful", "done", False),
        ("rejected", "done", True),
        ("expired", "done", True),
        ("cancelled", "void", True),
    ],
)
def test_a_result_says_more(offset: int, outcome: str, state: str, refunded: bool) -> None:
    said = a_message()
    made = published(said, offset, {"id": said["id"], "outcome": outcome, "code": "suppressed"})
    assert (made.state, made.refunded, made.fields is None) == (state, refunded, refunded)
    assert made.code == ("suppressed" if state == "void" else "")
    assert made.answer == b""


@pytest.mark.parametrize("outcome", ["retrying", "parked"])
def test_a_message_that_goes_on_has_not_ended(outcome: str) -> None:
    said = a_message()
    assert published(said, COMMITTED - 1, {"id": said["id"], "outcome": outcome}).state == "taken"
    waits = returning({"id": said["id"], "outcome": outcome}).held(said | {"attempt": 2, "due": NOW + HOUR})
    assert waits is not None
    assert (waits.state, waits.attempt, waits.stamp_ms) == ("reserved", 2, said["stamp"])
    assert waits.fields is not None


def test_a_result_of_an_earlier_attempt_ends_nothing() -> None:
    said = a_message(attempt=2)
    assert published(said, COMMITTED + 1, {"id": said["id"], "outcome": "doubtful"}).state == "reserved"
    assert published(said, COMMITTED + 1, {"id": said["id"], "outcome": "rejected", "attempt": 3}).state == "done"


def test_a_held_message_has_consumed_nothing_and_remembers_when_it_is_due() -> None:
    said = a_message(stamp=None, due=NOW + HOUR, bound=KEY)
    made = returning().held(said)
    assert made is not None
    assert (made.state, made.fields, made.stamp_ms, made.bound) == ("held", None, 0, True)
    assert made.answer == f"{NOW + HOUR}/2/cn@2026.11".encode()
    gone = returning({"id": said["id"], "outcome": "expired"}).held(said)
    assert gone is not None
    assert (gone.state, gone.refunded, gone.answer) == ("done", True, made.answer)


def test_what_ended_long_ago_has_no_record_unless_it_has_a_key_or_a_copy() -> None:
    """Its stamps count all the same, as long as a window looks that far."""
    said = a_message(age_ms=3 * HOUR)
    assert published(said, 0).record_ttl_ms == 0
    assert published(said, 0).fields is not None
    assert published(said | {"bound": KEY}, 0).record_ttl_ms == 2 * DAY - 3 * HOUR
    waiting = returning()
    waiting.waiting.add(said["id"])
    copied = waiting.published(said, Place(1, 0, COMMITTED))
    assert copied is not None
    assert copied.record_ttl_ms == 2 * DAY - 3 * HOUR
    assert returning().published(a_message(age_ms=26 * HOUR), Place(1, 0, COMMITTED)) is None


def test_done_lives_an_hour_after_its_result() -> None:
    said = a_message()
    ended = {"id": said["id"], "outcome": "submitted", "at": NOW - HOUR // 4}
    assert published(said, 0, ended).record_ttl_ms == 3 * HOUR // 4


def test_a_consents_own_limit_counted_it_too() -> None:
    stamp = NOW - HOUR
    fields = [("M/acme", stamp), ("M", stamp), ("C/acme/marketing", stamp)]
    said = a_message(
        purpose="marketing.promotion", cls=Class.MARKETING, basis=Basis.CONSENT, stamp=stamp, long_windows=fields
    )
    made = published(said, 0)
    assert made.fields is not None
    assert set(made.fields.names) == {"M/acme", "M", "C/acme/marketing"}
    assert made.basis == 2


def test_the_text_only_while_it_may_not_go_out_again() -> None:
    assert published(a_message(age_ms=20_000), COMMITTED).text_hash == b"Parcel  "
    assert published(a_message(age_ms=40_000), COMMITTED).text_hash is None


def test_a_request_is_used_for_its_own_life() -> None:
    said = a_message(purpose="verification.code", basis=Basis.REQUEST, request_ref="r", age_ms=60_000, entry=None)
    made = published(said, COMMITTED)
    assert (made.request, made.request_ttl_ms) == (SUBJECT[:1] + b"acmeverification.coder", 600_000)
    assert published(said | {"accepted_at": NOW - 12 * 60_000}, COMMITTED).request is None


def test_a_binding_lives_what_is_left_of_its_day_and_in_its_own_lane() -> None:
    said = a_message(age_ms=HOUR, bound=KEY)
    bound = returning().binding(said)
    assert bound is not None
    assert (bound.digest, bound.value[16:], bound.ttl_ms) == (b"\xab" * 16, b"\xcd" * 16, 23 * HOUR)
    assert bound.value[:16].hex() == said["id"].replace("-", "")
    assert returning(lanes=range(11)).binding(said) is None
    assert returning().binding(said | {"accepted_at": NOW - DAY}) is None
    assert returning().binding(a_message()) is None


def test_a_sender_who_is_gone_leaves_records_but_no_windows() -> None:
    made = published(a_message(sender="gone"), COMMITTED)
    assert (made.state, made.fields) == ("reserved", None)


def test_what_looks_further_than_a_day_is_known_by_field() -> None:
    long = BOOK.long_fields()
    assert long["transaction.after_sales/acme"] == long["M/acme"] == long["M"] == long["C/acme/marketing"] == 7 * DAY
    assert long["membership.birthday/acme"] == 365 * DAY
    assert "T/acme" not in long
    assert set(BOOK.long_requests()) == {"invite.restock_requested"}


def test_outcomes_keep_the_last_word_and_forget_what_needs_no_record() -> None:
    one = new_id(1)
    said = Result(id=one, attempt=1, cls=Class.MARKETING, carrier="", outcome="submitted", at=0)
    outcomes = Outcomes(recent_ms=NOW)

    def take(at_ms: int = NOW, **changes: Any) -> None:
        outcomes.take(one.encode(), encode(said.model_copy(update=changes)), at_ms)

    take(NOW - 1)
    assert outcomes.of(one, 1) is None
    take(NOW - 1, outcome="rejected", attempt=2)
    assert outcomes.of(one, 1) == ("rejected", 2, NOW - 1, "")
    assert outcomes.of(one, 3) is None
    take(outcome="doubtful", attempt=3)
    take(outcome="cancelled", attempt=3, code="consent.withdrawn")
    take(outcome="doubtful", attempt=3)
    take(outcome="submitted", attempt=1)
    assert outcomes.of(one, 3) == ("cancelled", 3, NOW, "consent.withdrawn")
    take(outcome="cancelled", attempt=4, code="unavailable")
    assert outcomes.of(one, 4) == ("cancelled", 4, NOW, "unavailable")
    take(outcome="submitted", attempt=4)  # it was accepted again under its id
    take(outcome="cancelled", attempt=4, code="unavailable")
    assert outcomes.of(one, 4) == ("submitted", 4, NOW, "")
    outcomes.take(b"nonsense", b"{", NOW)
    outcomes.take(one.encode(), b"[]", NOW)
    assert len(outcomes) == 1
