"""Contents at rest: bound to their message, closed to other installations."""

from uuid import UUID

from gateway.contract.ids import new_id
from gateway.ledger.keys import Keys
from gateway.ledger.sealing import DAY_MS, Contents

NUMBER, TEXT = "+8613800138000", "【Acme】您的订单已发货 \0 回复R退订"


def contents(master: int = 1) -> Contents:
    return Contents(Keys(bytes([master]) * 32, bytes(32)))


def test_what_is_sealed_opens_under_its_own_id_alone() -> None:
    one, other = UUID(new_id(1)).bytes, UUID(new_id(1)).bytes
    sealed = contents().seal(one, NUMBER, TEXT)
    assert contents().open(one, sealed) == (NUMBER, TEXT)
    assert contents().open(other, sealed) is None
    assert contents(2).open(one, sealed) is None
    for wrong in (b"", sealed[:-1], b"\x02" + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        assert contents().open(one, wrong) is None


def test_it_shows_neither_number_nor_text_and_never_the_same_twice() -> None:
    one = UUID(new_id(1)).bytes
    sealed = contents().seal(one, NUMBER, TEXT)
    assert NUMBER.encode() not in sealed
    assert "订单".encode() not in sealed
    assert sealed != contents().seal(one, NUMBER, TEXT)


def test_each_day_has_a_key_of_its_own() -> None:
    keys = Keys(bytes(32), bytes(32))
    day = 20_000
    nonce = bytes(12)
    assert keys.content_box(day).encrypt(nonce, b"x", None) != keys.content_box(day + 1).encrypt(nonce, b"x", None)
    sealing = Contents(keys)
    late, early = UUID(new_id(1, (day + 1) * DAY_MS)).bytes, UUID(new_id(1, (day + 1) * DAY_MS - 1)).bytes
    for at in (late, early):
        assert sealing.open(at, sealing.seal(at, NUMBER, TEXT)) == (NUMBER, TEXT)
