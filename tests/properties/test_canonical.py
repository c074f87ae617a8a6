"""The canonical bytes do not depend on the way they were written: what needs no turning is written at once."""

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import events

NAMES = st.text(max_size=4) | st.sampled_from(["a", "b", "\r", "ö", "\U0001f600", "\ufb33", "aa", "A", ""])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**53 - 1, 2**53, -(2**53), 0])
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=25
)


@given(VALUES)
def test_both_ways_write_the_same(value: object) -> None:
    assert events.canonical(value) == orjson.dumps(events._plain(value, 0))


@given(VALUES)
def test_what_was_written_is_written_the_same_again(value: object) -> None:
    written = events.canonical(value)
    assert events.canonical(json.loads(written)) == written
