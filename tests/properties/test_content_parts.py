"""Parts, against two public libraries: smsutil 1.1.3 counts parts, gsm0338 encodes septets.

Known differences, where the libraries are wrong or speak of something else:
- ESC (U+001B) is in smsutil's alphabet; it is no character but the escape to the extension table (3GPP TS 23.038), so
  such a text is UCS-2 here. gsm0338 takes it too.
- smsutil calls the empty text UCS-2 in no part; here it is GSM-7 in one. It is never sent.
- Two lone surrogates side by side, which only a broken encoder produces, are one character on the wire; smsutil counts
  them as two and may part them.
"""

import gsm0338
import smsutil
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.contract.decision import Refusal
from gateway.contract.registry import Sender
from gateway.rules import pack as packs
from gateway.rules.content import GSM7, GSM7_EXTENSION, compose, count_parts

_SEPTETS = gsm0338.Codec()
_GSM = st.text(st.sampled_from(GSM7 + GSM7_EXTENSION * 8), min_size=1, max_size=700)
_WIDE = st.text(st.sampled_from("一二😀𠮷é\u200d❤\ufe0fa€ "), min_size=1, max_size=300)
_ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1b"), min_size=1, max_size=300)
_LONG = st.builds(lambda head, text: head + text, st.integers(140, 160).map("a".__mul__), _GSM)

ACME = Sender(id="acme", signature="Acme", service_port="1", marketing_port="2")
CN = packs.load("cn")


@settings(max_examples=600, deadline=None)
@given(st.one_of(_GSM, _WIDE, _ANY, _LONG))
@example("a" * 152 + "€" + "a" * 152)
@example("一" * 66 + "😀" + "一" * 66)
def test_parts_are_what_smsutil_splits(text: str) -> None:
    encoding, units, parts = count_parts(text)
    split = smsutil.split(text)
    assert encoding == {"gsm0338": "gsm7", "utf_16_be": "ucs2"}[split.encoding]
    assert units == split.total_bytes // (1 if encoding == "gsm7" else 2)
    assert parts == len(split.parts)


@settings(max_examples=300, deadline=None)
@given(_GSM)
def test_units_are_the_septets_gsm0338_encodes(text: str) -> None:
    encoded, _ = _SEPTETS.encode(text)
    assert count_parts(text)[:2] == ("gsm7", len(encoded))


def test_the_alphabets_are_the_libraries() -> None:
    for code in range(0x10000):
        letter = chr(code)
        if letter != "\x1b" and not 0xD800 <= code < 0xE000:
            assert (count_parts(letter)[0] == "gsm7") is smsutil.is_valid_gsm(letter), hex(code)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=600), st.sampled_from(sorted(CN.purposes)))
def test_composing_never_fails_and_is_stable(text: str, purpose: str) -> None:
    made = compose(text, ACME, CN.purposes[purpose], CN)
    if not isinstance(made, Refusal):
        assert made.text.startswith("【Acme】")
        assert made.text.count("【") == made.text.count("】") == 1
        assert compose(made.text, ACME, CN.purposes[purpose], CN) == made


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([word for word in CN.table.promotional.words if " " not in word]),
    st.lists(st.sampled_from(["", " ", "\u200b", "\u3000", "\n", "\ufe0f"]), min_size=20, max_size=20),
    st.booleans(),
)
def test_no_spacing_width_or_case_hides_a_promotional_word(word: str, between: list[str], wide: bool) -> None:
    written = "".join(letter + gap for letter, gap in zip(word.upper() if wide else word, between, strict=False))
    if wide:
        written = "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in written)
    made = compose(f"订单已发货，{written}。", ACME, CN.purposes["transaction.order"], CN)
    assert isinstance(made, Refusal)
    assert made.code == "content.promotional"
