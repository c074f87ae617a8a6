"""Recipients in E.164, and whose prefix a number has."""

import phonenumbers
import pytest
from phonenumbers import carrier

from gateway.rules.numbers import _PREFIXES, carrier_hint, parse, writer

MAINLAND = "+8613800138000"


@pytest.mark.parametrize(
    "written",
    [
        "13800138000",
        "8613800138000",
        "+8613800138000",
        "008613800138000",
        "+86 138-0013-8000",
        "+86 138 0013 8000",
        "(+86) 138.0013.8000",
        " 138 0013 8000 ",
        "１３８００１３８０００",
        "＋８６１３８００１３８０００",
        "\u202a+86138\u00a00013\u20118000\u202c",
        "00 86 13800138000",
    ],
)
def test_a_mainland_mobile_number_however_written(written: str) -> None:
    assert parse(written) == MAINLAND


@pytest.mark.parametrize(
    "written",
    [
        "",
        "+",
        "1",
        "1380013800",
        "138001380000",
        "12800138000",
        "+8612800138000",
        "010-88887777",
        "+861088887777",
        "+86 10 8888 7777",
        "4008001234",
        "10086",
        "1380013800a",
        "138OO138000",
        "+86138001380001",
        "+86138001380",
        "++8613800138000",
        "+8613800138000;ext=1",
        "+8613800138000,1",
        "13800138000 x 1",
        "8613800138000\n0",
        "一三八零零一三八零零零",
        "١٣٨٠٠١٣٨٠٠٠a",
        "+1800FLOWERS",
        "+12125551234567890",
        "+442071838750",
        "+85221234567",
        "+999123456789",
        "+1",
        "0",
        "0" * 40,
        "1" * 2000,
        "\ud800",
        "\x00" * 11,
    ],
)
def test_what_is_no_mobile_number(written: str) -> None:
    assert parse(written) is None


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+852 5123 4567", "+85251234567"),
        ("0085251234567", "+85251234567"),
        ("+853 6612 3456", "+85366123456"),
        ("+886 912 345 678", "+886912345678"),
        ("+44 7911 123456", "+447911123456"),
        ("+1 (415) 555-2671", "+14155552671"),
        ("+33 6 12 34 56 78", "+33612345678"),
        ("+81-90-1234-5678", "+819012345678"),
        ("+91 98765 43210", "+919876543210"),
        ("+39 312 345 6789", "+393123456789"),
    ],
)
def test_mobile_numbers_abroad(written: str, number: str) -> None:
    assert parse(written) == number


def test_the_fast_path_takes_what_libphonenumber_takes() -> None:
    for prefix in sorted(_PREFIXES):
        number = f"+86{prefix}".ljust(14, "5")
        assert parse(number) == number
        assert phonenumbers.is_possible_number(phonenumbers.parse(number, None))


@pytest.mark.parametrize(
    "written",
    [
        "13800138000",
        "013800138000",
        "+86013800138000",
        "86 0138-0013-8000",
        "tel:+8613800138000",
        "TEL:+86-138-0013-8000;phone-context=ims.mnc000.mcc460.3gppnetwork.org",
        "sip:+8613800138000@ims.mnc000.mcc460.3gppnetwork.org",
        "sips:013800138000@ims",
    ],
)
def test_who_wrote_is_known_however_a_carrier_names_them(written: str) -> None:
    assert writer(written) == MAINLAND


@pytest.mark.parametrize(
    "written", ["10086", "", "tel:", "sip:alice@example.org", "0" * 40, "0" + "1" * 200, "012800138000"]
)
def test_who_wrote_is_nobody(written: str) -> None:
    assert writer(written) is None


def test_who_wrote_from_abroad_is_read_as_they_are_written_to() -> None:
    assert writer("tel:+14155552671") == parse("+14155552671") is not None


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        ("+8613912345678", "mobile"),
        ("+8613012345678", "unicom"),
        ("+8618912345678", "telecom"),
        ("+8613491234567", "telecom"),
        ("+8613412345678", "mobile"),
        ("+8619212345678", "broadcast"),
        ("+8617012345678", "virtual"),
        ("+8615412345678", None),
        ("+85251234567", None),
    ],
)
def test_carrier_hints(number: str, hint: str | None) -> None:
    assert carrier_hint(number) == hint


def test_hints_agree_with_libphonenumber() -> None:
    """On every prefix where the library has an opinion and the number is no reseller's."""
    names = {"China Mobile": "mobile", "China Unicom": "unicom", "China Telecom": "telecom"}
    compared = 0
    for prefix, hint in _PREFIXES.items():
        number = f"+86{prefix}".ljust(14, "5")
        theirs = names.get(carrier.name_for_number(phonenumbers.parse(number, None), "en"))
        if theirs and hint in names.values():
            compared += 1
            assert hint == theirs, prefix
    assert compared >= 40
