"""The two-record opt-in (双录授权): what was shown and done, then control of the number; only both make a grant.

Owns the form of both records, how the first one waits (sealed) and how the two become one GRANT. A record is an object
of the field names of ISO/IEC TS 27560 with a proof block of ours, signed by this installation (Ed25519 over its
canonical bytes, `events.canonical`). The event's id is the opt-in's, so a code and a Y together are one grant; it has a
colon, which no client can write into one.

Nothing is stored here. A first record that is never confirmed never reaches the ledger: it is personal data of somebody
who may not have given it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gateway.contract.consent import Event, EventKind
from gateway.contract.form import Form, Locale
from gateway.ledger import events
from gateway.ledger.events import canonical
from gateway.ledger.keys import Keys

SCHEMA = "assent opt-in 1, after ISO/IEC TS 27560:2023"
WEIGHT = "two_records"
DECLARED = "declared"
"""The weight of evidence that another system states and we have not seen."""
RETENTION = "while the consent stands, and afterwards as long as it may have to be proven"
DAY_S = 86_400


class Asked(NamedTuple):
    """What is known when a person has agreed on a form's page, before they have shown that the number is theirs."""

    id: str
    subject: bytes
    number: str
    form: Form
    party: str
    """The sender's signature."""
    locale: Locale
    sha256: str
    """Of the text shown, hex (`contract.form.shown`)."""
    ticked: Sequence[str]
    events: Sequence[Mapping[str, Any]] | None
    """What the page's script saw of the person's own acts; none where it did not run."""
    where: Mapping[str, Any]
    """url, page, origin, ip, user_agent: where known."""
    at_ms: int


class Waiting(NamedTuple):
    """A first record as it waits: whose it is, and what both records and the grant are made of."""

    number: str
    sender: str
    topics: list[str]
    max_per_week: int
    valid_days: int | None
    first: dict[str, Any]
    """{record, signature}; the signature in hex."""


def first_record(asked: Asked) -> dict[str, Any]:
    """The record of what was shown, done and where; state Requested."""
    form, own = asked.form, asked.form.words[asked.locale]
    terms = _terms(asked)
    proof = {
        "notice": {"id": form.id, "version": form.version, "sha256": asked.sha256, "language": asked.locale},
        "boxes": [{"topic": one.topic, "default": False, "final": one.topic in asked.ticked} for one in form.topics],
        "events_recorded": asked.events is not None,
        "events": list(asked.events or ()),
        "where": dict(asked.where),
        "terms": terms,
    }
    return _record(asked.id, asked.subject, asked.at_ms, "first_record", "Requested") | {
        "party_name": asked.party,
        "party_role": "controller",
        "party_contact": form.contact,
        "entity_id": form.sender,
        "privacy_notice": own.notice_url,
        "privacy_rights": own.notice_url,
        "lawful_basis": "consent",
        "purpose_type": list(asked.ticked),
        "pii_type": ["mobile_number"],
        "collection_method": "web_form",
        "retention_period": RETENTION,
        "recipient_third_parties": ["carriers, to transmit the messages"],
        "withdrawal_method": own.withdrawal,
        "validity_duration": None if terms["valid_days"] is None else f"P{terms['valid_days']}D",
        "proof": proof,
    }


def _record(record_id: str, subject: bytes, at_ms: int, kind: str, state: str) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA,
        "record_id": record_id,
        "pii_principal_id": subject.hex(),
        "event_time": at_ms,
        "event_type": kind,
        "event_state": state,
    }


def _terms(asked: Asked) -> dict[str, int | None]:
    """The strictest of the ticked boxes: one grant has one set of terms, and none of them may be exceeded."""
    boxes = asked.form.of(list(asked.ticked))
    days = [one.valid_days for one in boxes if one.valid_days is not None]
    return {"max_per_week": min(one.max_per_week for one in boxes), "valid_days": min(days, default=None)}


def seal(keys: Keys, asked: Asked) -> bytes:
    """The first record, signed, with the number it waits for, sealed. Raises EventUnfitError."""
    record = first_record(asked)
    signature = keys.sign_record(canonical(record)).hex()
    waiting = {
        "number": asked.number,
        "sender": asked.form.sender,
        "topics": list(asked.ticked),
        **_terms(asked),
        "first": {"record": record, "signature": signature},
    }
    return keys.seal_pending(canonical(waiting), asked.id.encode())


def unseal(keys: Keys, opt_in: str, sealed: bytes) -> Waiting:
    """What `seal` took; KeyMismatchError where it does not open."""
    return Waiting(**orjson.loads(keys.open_pending(sealed, opt_in.encode())))


def second_record(
    opt_in: str, subject: bytes, waiting: Waiting, message_id: str | None, at_ms: int, control: Mapping[str, Any]
) -> dict[str, Any]:
    """The record of control of the number; state Given. `control`: method `code` or `reply`, and its circumstances."""
    first = hashlib.sha256(canonical(waiting.first["record"])).hexdigest()
    return _record(opt_in, subject, at_ms, "second_record", "Given") | {
        "first_sha256": first,
        "proof": {"confirmation_message": message_id, **control},
    }


def grant(keys: Keys, opt_in: str, subject: bytes, waiting: Waiting, second: Mapping[str, Any]) -> Event:
    """The one event that both records make; it lifts the sender's opt-outs that are older than the second record."""
    at_ms: int = second["event_time"]
    until_s = None if waiting.valid_days is None else at_ms // 1000 + waiting.valid_days * DAY_S
    evidence = {
        "weight": WEIGHT,
        "first": waiting.first,
        "second": {"record": second, "signature": keys.sign_record(canonical(second)).hex()},
        "key": keys.record_verify_key().hex(),
    }
    return Event(
        event_id=f"opt-in:{opt_in}",
        kind=EventKind.GRANT,
        number=waiting.number,
        subject=subject,
        occurred_at_ms=at_ms,
        data=events.grant(
            waiting.sender,
            waiting.topics,
            max_per_week=waiting.max_per_week,
            valid_until_s=until_s,
            lifts=True,
            by="assent",
            channel="form",
            evidence=evidence,
        ),
    )
