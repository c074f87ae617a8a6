"""What is gathered: by message, with nothing lost, and nothing inside that no row can hold."""

import gc
import weakref

import pytest

from gateway.contract.decision import Basis, Class, Status
from gateway.contract.ids import new_id
from gateway.contract.wire import Accepted, Receipt, Record, Result
from gateway.settle.buffer import Buffer, key_of, other_forms
from gateway.stream import Message, Place, Topics, encode

T0 = 1_760_000_000_000
NAMES = Topics("t.")


def accepted(**more: object) -> Accepted:
    fields = {
        "id": new_id(1, T0), "client": "demo", "sender": "acme", "purpose": "a.b", "cls": Class.MARKETING,
        "subject": "0a" * 16, "to": "+8613800000000", "text": "x", "parts": 1, "port": "1", "pack": "cn@1",
        "basis": Basis.CONSENT, "accepted_at": T0, "expires_at": T0,
    }  # fmt: skip
    return Accepted(**{**fields, **more})


def receipt(**more: object) -> Receipt:
    fields = {"carrier": "c", "carrier_id": "1", "status": Status.SENT, "raw_status": "E", "at": T0, "received_at": T0}
    return Receipt(**{**fields, **more})


def add(buffer: Buffer, topic: str, *values: bytes | Record | None, offset: int = 5) -> None:
    raw = [encode(value) if isinstance(value, Record) else value for value in values]
    place = Place(topic, 2)
    buffer.add(topic, 2, [Message(place, offset + n, b"k", value, T0) for n, value in enumerate(raw)], offset)


def test_one_message_gathers_what_four_topics_say() -> None:
    buffer, message = Buffer(NAMES), accepted()
    add(buffer, NAMES.held, message)
    add(buffer, NAMES.messages(Class.MARKETING), message)
    result = Result(
        id=message.id, attempt=1, cls=Class.MARKETING, carrier="C", outcome="submitted", carrier_id="0Ab", at=T0
    )
    add(buffer, NAMES.results, result)
    add(buffer, NAMES.receipts, receipt(ref=message.id.upper()))
    said = buffer.statements[message.id]
    assert [(one.kind, one.held) for one in said] == [
        ("accepted", True), ("accepted", False), ("result", False), ("receipt", False)
    ]  # fmt: skip
    assert buffer.carrier_ids == {"C/ab": (message.id, T0)}
    assert buffer.moves["messages.held", 2] == (5, 6)
    assert len(buffer) == 4


def test_offsets_cover_every_record_read_even_dead_ones_and_holes() -> None:
    buffer = Buffer(NAMES)
    add(buffer, NAMES.receipts, receipt(), b"{", None, offset=5)
    add(buffer, NAMES.receipts, receipt(), offset=11)
    assert buffer.moves == {("receipts", 2): (5, 12)}
    assert [(dead.message.offset, dead.error) for dead in buffer.dead] == [(6, "Undecodable"), (7, "Undecodable")]


@pytest.mark.parametrize(
    "bad",
    [
        accepted(id="no-uuid"), accepted(id="0199c82c-c000-4ccd-bd47-173745e46313"), accepted(subject="zz"),
        accepted(attempt=0), accepted(attempt=10**6), accepted(accepted_at=2**60), accepted(parts=-1),
    ],
)  # fmt: skip
def test_a_record_no_row_can_hold_is_dead_and_the_others_are_not(bad: Accepted) -> None:
    buffer = Buffer(NAMES)
    add(buffer, NAMES.messages(Class.MARKETING), bad, accepted())
    assert [dead.error for dead in buffer.dead] == ["Unfit"]
    assert len(buffer.statements) == 1


def test_a_nul_in_a_carriers_words_does_not_stop_settlement() -> None:
    buffer = Buffer(NAMES)
    add(buffer, NAMES.receipts, receipt(raw_code="A\0B", carrier_id="\0001"))
    assert (buffer.unresolved[0].raw_code, buffer.unresolved[0].carrier_id) == ("AB", "1")


LONG_AGO = new_id(1, T0 - 50 * 86_400_000)


@pytest.mark.parametrize(
    "ref", ["ours", "", LONG_AGO, "0199c82c-c000-4ccd-bd47-173745e46313"], ids=["word", "none", "old", "not v7"]
)
def test_a_reference_that_cannot_be_ours_is_looked_up_by_the_carriers_id(ref: str) -> None:
    buffer = Buffer(NAMES)
    add(buffer, NAMES.receipts, receipt(ref=ref))
    assert not buffer.statements
    assert len(buffer.unresolved) == 1


def test_ids_match_across_case_zeros_and_base_but_never_by_a_numeral_that_could_be_either() -> None:
    assert key_of("c", "00AB12") == key_of("c", "ab12") == "c/ab12"
    assert other_forms("c/ab12") == ["c/43794"]
    assert other_forms("c/43794") == ["c/ab12"]
    assert other_forms("c/4660") == []
    assert other_forms("c/xyz") == []
    assert other_forms("c/Ab-cd") == []


def test_a_buffer_is_freed_with_its_last_name() -> None:
    """Without the collector, which runs so seldom that what waits for it, a whole flush each time, would be a leak."""

    class Watched(Buffer):
        __slots__ = ("__weakref__",)

    gc.collect()
    gc.disable()
    try:
        buffer = Watched(Topics(""))
        for topic in ("results", "receipts", "messages.held", "messages.marketing"):
            buffer.add(topic, 0, [Message(Place(topic, 0), 0, None, b"{}", 0)], 0)
        assert len(buffer.dead) == 4
        left = weakref.ref(buffer)
        del buffer
        assert left() is None
    finally:
        gc.enable()
