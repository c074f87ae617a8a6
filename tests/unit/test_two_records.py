"""Both records of an opt-in: their bytes and signatures, what waits between them, and the grant they make."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.assemble.preparing import demo_form
from gateway.assemble.registering import draft_of
from gateway.contract.consent import EventKind, State
from gateway.contract.decision import Refusal
from gateway.contract.form import Form, shown
from gateway.ledger import events
from gateway.ledger.events import canonical
from gateway.ledger.keys import KeyMismatchError, Keys
from gateway.ledger.state import apply
from gateway.ledger.two_records import Asked, first_record, grant, seal, second_record, unseal

KEYS = Keys(b"m" * 32, b"p" * 32)
FORM = Form(**draft_of(demo_form()).model_dump(), version=3, created_at=datetime(2026, 11, 25, tzinfo=UTC))
NUMBER = "+8613800138000"
SUBJECT = KEYS.subject(NUMBER)
OPT_IN = "0a" * 16
AT = 1_764_000_000_000


def asked(**changes: Any) -> Asked:
    fields: dict[str, Any] = {
        "id": OPT_IN, "subject": SUBJECT, "number": NUMBER, "form": FORM, "party": "Acme", "locale": "zh",
        "sha256": shown(FORM, "zh").sha256, "ticked": ["marketing.promotion", "invite.new_arrival"],
        "events": [{"topic": "marketing.promotion", "ticked": True, "by": "touch", "trusted": True, "at": AT - 9}],
        "where": {"url": "https://gw.example/c/acme", "origin": "https://shop.example", "ip": "203.0.113.9"},
        "at_ms": AT,
    }  # fmt: skip
    return Asked(**(fields | changes))


CONTROL = {"method": "code", "where": {"ip": "203.0.113.9"}}


def test_the_first_record_says_what_was_shown_done_and_where() -> None:
    record = first_record(asked())
    assert (record["event_type"], record["event_state"], record["event_time"]) == ("first_record", "Requested", AT)
    assert record["pii_principal_id"] == SUBJECT.hex()
    assert record["withdrawal_method"] == FORM.words["zh"].withdrawal
    assert record["validity_duration"] == "P365D"
    proof = record["proof"]
    assert proof["notice"] == {"id": "acme", "version": 3, "sha256": shown(FORM, "zh").sha256, "language": "zh"}
    assert [box["default"] for box in proof["boxes"]] == [False, False]
    assert proof["terms"] == {"max_per_week": 1, "valid_days": 365}
    assert first_record(asked(events=None))["proof"]["events_recorded"] is False
    assert NUMBER not in orjson.dumps(record).decode()


def test_the_canonical_bytes_do_not_move() -> None:
    """A signature is over these bytes; another version of this code must find the same ones."""
    assert (
        hashlib.sha256(canonical(first_record(asked()))).hexdigest()
        == "3438cc80af430c21312f53d5082248729fe93c7cbea13616164b72b8803da1c0"
    )


def test_names_of_the_standard_are_there() -> None:
    names = {
        *("schema_version", "record_id", "pii_principal_id", "privacy_notice", "lawful_basis", "purpose_type"),
        *("pii_type", "collection_method", "retention_period", "recipient_third_parties", "withdrawal_method"),
        *("privacy_rights", "party_name", "party_role", "party_contact", "event_time", "event_type", "event_state"),
        *("validity_duration", "entity_id"),
    }
    assert names <= first_record(asked()).keys()


def test_what_waits_opens_with_its_key_and_id_only() -> None:
    sealed = seal(KEYS, asked())
    assert NUMBER.encode() not in sealed
    waiting = unseal(KEYS, OPT_IN, sealed)
    assert (waiting.number, waiting.sender, waiting.max_per_week) == (NUMBER, "acme", 1)
    assert waiting.topics == ["marketing.promotion", "invite.new_arrival"]
    for keys, opt_in, value in (
        (Keys(b"x" * 32, b"p" * 32), OPT_IN, sealed),
        (KEYS, "0b" * 16, sealed),
        (KEYS, OPT_IN, sealed[:-1]),
        (KEYS, OPT_IN, b""),
    ):
        with pytest.raises(KeyMismatchError):
            unseal(keys, opt_in, value)


def test_both_records_are_signed_and_bound_to_each_other() -> None:
    waiting = unseal(KEYS, OPT_IN, seal(KEYS, asked()))
    second = second_record(OPT_IN, SUBJECT, waiting, "m-1", AT + 60_000, CONTROL)
    event = grant(KEYS, OPT_IN, SUBJECT, waiting, second)
    evidence = orjson.loads(events.body(event))["data"]["evidence"]
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(evidence["key"]))
    for name in ("first", "second"):
        signature = bytes.fromhex(evidence[name]["signature"])
        key.verify(signature, canonical(evidence[name]["record"]))
        with pytest.raises(InvalidSignature):
            key.verify(signature, canonical(evidence[name]["record"] | {"event_time": AT + 1}))
    assert evidence["second"]["record"]["first_sha256"] == hashlib.sha256(canonical(first_record(asked()))).hexdigest()
    assert evidence["key"] == KEYS.record_verify_key().hex() != Keys(b"x" * 32, b"p" * 32).record_verify_key().hex()


def test_the_grant_lifts_what_is_older_and_carries_the_strictest_terms() -> None:
    waiting = unseal(KEYS, OPT_IN, seal(KEYS, asked()))
    event = grant(KEYS, OPT_IN, SUBJECT, waiting, second_record(OPT_IN, SUBJECT, waiting, None, AT, CONTROL))
    assert (event.kind, event.event_id, event.number, event.occurred_at_ms) == (
        EventKind.GRANT,
        f"opt-in:{OPT_IN}",
        NUMBER,
        AT,
    )
    assert (event.data["lifts"], event.data["max_per_week"]) == (True, 1)
    assert event.data["valid_until"] == AT // 1000 + 365 * 86_400

    def left(at_ms: int) -> State:
        what = event.model_copy(
            update={"kind": EventKind.WITHDRAWAL, "occurred_at_ms": at_ms, "data": {"sender": "acme"}}
        )
        state = apply(None, what, 1)
        assert isinstance(state, State)
        return state

    after = apply(left(AT - 1), event, 2)
    assert isinstance(after, State)
    assert after.suppressions == {}
    assert isinstance(apply(left(AT), event, 2), Refusal)


def test_a_code_is_kept_under_a_key_of_this_installation() -> None:
    digest = KEYS.code_digest(OPT_IN, "012345")
    assert len(digest) == 32
    others = [KEYS.code_digest("0b" * 16, "012345"), KEYS.code_digest(OPT_IN, "012346")]
    others.append(Keys(b"x" * 32, b"p" * 32).code_digest(OPT_IN, "012345"))
    assert len({digest, *others}) == 4
    assert "m" * 8 not in repr(KEYS)
