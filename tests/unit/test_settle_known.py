"""What a settler remembers is bounded, and the oldest gives way."""

from gateway.settle.known import MOST_CARRIER_IDS, MOST_ORPHANS, Known


def test_the_oldest_gives_way() -> None:
    known = Known()
    for at in range(2 * MOST_CARRIER_IDS + 1):
        known.keep_carrier_id(f"sim/{at}", "x")
    assert len(known.carrier_ids) == MOST_CARRIER_IDS
    assert next(iter(known.carrier_ids)) == f"sim/{MOST_CARRIER_IDS + 1}"


def test_what_is_known_already_makes_no_room() -> None:
    known = Known()
    for at in range(MOST_CARRIER_IDS):
        known.keep_carrier_id(f"sim/{at}", "x")
    known.keep_carrier_id("sim/0", "y")
    assert known.carrier_ids["sim/0"] == "y"
    assert len(known.carrier_ids) == MOST_CARRIER_IDS


def test_too_many_waiting_receipts_are_not_remembered_but_asked_for() -> None:
    known = Known()
    known.add_orphans([f"sim/{at}" for at in range(MOST_ORPHANS - 1)])
    assert known.orphans is not None
    known.add_orphans(["sim/one more"])
    assert known.orphans is None
    known.add_orphans(["sim/another"])
    assert known.orphans is None
