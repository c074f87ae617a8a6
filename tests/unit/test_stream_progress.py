"""What may be committed while records finish in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.stream.progress import Progress


def test_nothing_is_committable_before_the_first_record() -> None:
    assert Progress().position is None


def test_a_gap_holds_the_position() -> None:
    progress = Progress()
    for offset in (5, 6, 7):
        progress.begin(offset)
    progress.finish(7)
    progress.finish(6)
    assert progress.position == 5
    assert len(progress) == 3
    progress.finish(5)
    assert progress.position == 8
    assert len(progress) == 0


def test_an_offset_below_what_was_begun_is_a_fault() -> None:
    progress = Progress()
    progress.begin(9)
    with pytest.raises(ValueError, match="rising"):
        progress.begin(9)


@given(st.data())
def test_the_position_is_the_first_unfinished_offset(data: st.DataObject) -> None:
    offsets = sorted(data.draw(st.sets(st.integers(0, 60), min_size=1)))
    order = data.draw(st.permutations(offsets))
    progress = Progress()
    for offset in offsets:
        progress.begin(offset)
    unfinished = set(offsets)
    for offset in order:
        progress.finish(offset)
        unfinished.discard(offset)
        assert progress.position == (min(unfinished) if unfinished else offsets[-1] + 1)
