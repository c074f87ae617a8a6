"""Recipients in E.164.

Mainland numbers (`1[3-9]` and nine digits) take a path of one regular expression and never touch libphonenumber, which
costs some eighty times as much; it decides about all other countries. `prefixes.toml` gives the carrier a mainland
prefix was issued to: a hint, because numbers are portable (携号转网), to be corrected by what receipts say.
"""

import re
import tomllib
import unicodedata
from importlib import resources
from typing import Literal, cast

import phonenumbers

CarrierHint = Literal["mobile", "unicom", "telecom", "broadcast", "virtual"]

_MAINLAND = re.compile(r"(?:\+86|0086|86)?(1[3-9][0-9]{9})")
_TRUNK = re.compile(r"(?:\+86|0086|86)?0(1[3-9][0-9]{9})")
_SCHEME = re.compile(r"(?:tel|sips?):", re.IGNORECASE)
_INTERNATIONAL = re.compile(r"\+[1-9][0-9]{6,14}")
_MARKS = {ord(mark): None for mark in " \t\u00a0\u2009\u202f\u200b\u200e\u200f\u202a\u202c\u2060\ufeff-‐‑‒–—−().·"}
_LONGEST = 32
_MOBILE = frozenset({phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE})

_mainland = _MAINLAND.fullmatch


def parse(written: str) -> str | None:
    """The E.164 form of a mobile number as a person may write it, or none where it is no mobile number."""
    match = _mainland(written)
    if match is not None:
        return "+86" + match[1]
    if len(written) > _LONGEST:
        return None
    plain = unicodedata.normalize("NFKC", written).translate(_MARKS)
    match = _mainland(plain)
    if match is not None:
        return "+86" + match[1]
    if plain.startswith("00"):
        plain = "+" + plain[2:]
    if plain.startswith("+86") or _INTERNATIONAL.fullmatch(plain) is None:
        return None
    return _abroad(plain)


def writer(written: str) -> str | None:
    """`parse` of who wrote a reply, as carriers may name them: a URI (RFC 3966, RFC 3261), or with the trunk prefix 0.

    A refusal under a name that nobody is written to by would end nothing.
    """
    plain = _SCHEME.sub("", written.strip(), count=1).partition("@")[0].partition(";")[0]
    number = parse(plain)
    trunk = None if number is not None or len(plain) > _LONGEST else _TRUNK.fullmatch(plain.translate(_MARKS))
    return number if trunk is None else "+86" + trunk[1]


def _abroad(plain: str) -> str | None:
    try:
        number = phonenumbers.parse(plain, None)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.number_type(number) not in _MOBILE:  # an invalid number has type UNKNOWN
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _prefixes() -> dict[str, CarrierHint]:
    table = tomllib.loads((resources.files("gateway.rules") / "prefixes.toml").read_text(encoding="utf-8"))
    return {prefix: cast("CarrierHint", name) for name, prefixes in table["prefixes"].items() for prefix in prefixes}


_PREFIXES = _prefixes()


def carrier_hint(number: str) -> CarrierHint | None:
    """The carrier whose prefix an E.164 mainland number has; none for other numbers and unknown prefixes."""
    if not number.startswith("+86"):
        return None
    return _PREFIXES.get(number[3:7]) or _PREFIXES.get(number[3:6])
