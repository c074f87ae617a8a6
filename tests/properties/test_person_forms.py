"""A state written from its stored JSON is, byte for byte, the state written from the model."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.consent import Consent, Preference, Relationship, State, Suppression
from gateway.contract.decision import Reason
from gateway.guard import person
from gateway.ledger.rows import STATED, decode_state, encode_state, stated

KEYS = st.sampled_from(["acme/marketing", "acme/order", "acme", "*", "acme#marketing", "b/invite.restock", "短"])
TIMES = st.sampled_from([0, 1, 1_790_000_000, 2**40])
ENTRIES = st.integers(0, 2**39)
HOURS = st.none() | st.tuples(st.integers(0, 1439), st.integers(0, 1440))

CONSENTS = st.builds(
    Consent, at=TIMES, until=TIMES, max_per_week=st.sampled_from([0, 1, 64]), entry=ENTRIES, proven_at=TIMES
)
RELATIONSHIPS = st.builds(Relationship, at=TIMES, expires=TIMES, entry=ENTRIES)
SUPPRESSIONS = st.builds(Suppression, reason=st.sampled_from(list(Reason)).map(int), at=TIMES, entry=ENTRIES)
PREFERENCES = st.builds(
    Preference, topics=st.lists(KEYS, max_size=3), max_per_week=st.sampled_from([0, 2, 64]), hours=HOURS
)
STATES = st.builds(
    State,
    seq=ENTRIES,
    consents=st.dictionaries(KEYS, CONSENTS, max_size=4),
    relationships=st.dictionaries(KEYS, RELATIONSHIPS, max_size=4),
    suppressions=st.dictionaries(KEYS, st.lists(SUPPRESSIONS, max_size=3), max_size=4),
    preferences=st.dictionaries(KEYS, PREFERENCES, max_size=4),
    opt_outs=st.dictionaries(KEYS, TIMES, max_size=2),
    erased_at_ms=TIMES,
)


@given(STATES)
def test_the_stored_form_and_the_model_are_written_alike(state: State) -> None:
    stored = encode_state(state)
    assert person.encode_raw(orjson.loads(stored)) == person.encode(decode_state(stored)) == person.encode(state)


@given(STATES)
def test_what_a_row_keeps_beside_the_state_is_what_the_state_says(state: State) -> None:
    """The appender writes it, a rebuild copies it, the audit makes it anew: one and the same."""
    row = dict(zip(STATED, stated(b"s" * 16, state), strict=True))
    assert row["encoded"] == person.encode_raw(orjson.loads(row["state"]))
    assert (person.seq_of(row["encoded"]), row["form"]) == (row["seq"], person.FORM) == (state.seq, person.FORM)


@given(STATES)
def test_so_is_one_that_spells_its_defaults_out(state: State) -> None:
    assert person.encode_raw(orjson.loads(state.model_dump_json())) == person.encode(state)


@pytest.mark.parametrize("stored", [{}, {"seq": 1, "consents": {"acme/marketing": {"at": 1}}}, {"seq": None}])
def test_what_lacks_a_part_is_never_written(stored: dict[str, object]) -> None:
    with pytest.raises((LookupError, TypeError, AttributeError)):
        person.encode_raw(stored)
