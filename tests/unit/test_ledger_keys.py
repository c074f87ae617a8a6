"""The ledger's secrets: what opens what, and what nobody ever gets to see."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.ids import subject_of
from gateway.ledger import keys as module
from gateway.ledger.keys import KeyMismatchError, Keys, PersonKeys, bound_to, commit

MASTER, PEPPER = b"m" * 32, b"p" * 32
ALICE, BOB = b"a" * 16, b"b" * 16


def test_a_wrapped_key_opens_for_its_person_and_master_only() -> None:
    person, wrapped = Keys(MASTER, PEPPER).new(ALICE)
    sealed = person.seal(b"body", bound_to(1, 7))
    again = Keys(MASTER, PEPPER).unwrap(ALICE, wrapped)
    assert again.open(sealed, bound_to(1, 7)) == b"body"
    assert again.tag(1) == person.tag(1) != person.tag(2)
    for other, subject in ((Keys(b"x" * 32, PEPPER), ALICE), (Keys(MASTER, PEPPER), BOB)):
        with pytest.raises(KeyMismatchError):
            other.unwrap(subject, wrapped)
    with pytest.raises(KeyMismatchError):
        Keys(MASTER, PEPPER).unwrap(ALICE, wrapped[:-1])


@pytest.mark.parametrize("bound", [bound_to(1, 8), bound_to(2, 7)])
def test_a_body_is_bound_to_its_place_and_version(bound: bytes) -> None:
    person = PersonKeys(b"r" * 32)
    with pytest.raises(KeyMismatchError):
        person.open(person.seal(b"body", bound_to(1, 7)), bound)


def test_a_commitment_needs_its_salt() -> None:
    assert commit(b"body", b"1" * 32) != commit(b"body", b"2" * 32)
    assert len(commit(b"body", b"1" * 32)) == 32


@given(st.binary(max_size=200), st.text(max_size=40), st.binary(min_size=32, max_size=32))
def test_every_hmac_is_the_librarys(body: bytes, text: str, secret: bytes) -> None:
    """HMAC-SHA256 (RFC 2104) under a kept key or a new one, and a subject is what all others make it."""
    for pepper in (secret, secret * 2, secret * 3):
        keys = Keys(MASTER, pepper)
        assert keys.subject(text) == subject_of(pepper, text)
        names = hmac.digest(pepper, b"assent event id 1\x01", "sha256")
        assert keys.event_name(text) == hmac.digest(names, text.encode(), "sha256")[:16].hex()
    for salt in (secret, secret * 2, secret * 3):
        assert commit(body, salt) == hmac.digest(salt, body, "sha256")
    tags = hmac.digest(secret, b"assent tag 1\x01", "sha256")
    assert PersonKeys(secret).tag(7) == hmac.digest(tags, (7).to_bytes(8, "big"), "sha256")[:16]


def test_the_cache_is_bounded_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    keys = Keys(MASTER, PEPPER)
    wrapped = [keys.new(bytes([n]) * 16)[1] for n in range(3)]
    assert list(keys._kept) == wrapped[1:]
    keys.forget(wrapped[2])
    assert list(keys._kept) == wrapped[1:2]


def test_secrets_are_not_shown() -> None:
    keys = Keys(MASTER, PEPPER)
    person, wrapped = keys.new(ALICE)
    assert "m" * 8 not in f"{keys!r}{keys}{person!r}"
    with pytest.raises(KeyMismatchError) as caught:
        Keys(b"x" * 32, PEPPER).unwrap(ALICE, wrapped)
    assert caught.value.__cause__ is None
    assert wrapped.hex()[:8] not in str(caught.value)


@pytest.mark.parametrize(("master", "pepper"), [(b"", PEPPER), (b"m" * 31, PEPPER), (MASTER, b"p" * 31)])
def test_short_secrets_are_refused(master: bytes, pepper: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Keys(master, pepper)
