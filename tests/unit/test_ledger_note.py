"""Signed notes: the specification's own example, what is refused, and that a changed byte never passes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.note import (
    COSIGNATURE,
    NoteError,
    Signature,
    Signer,
    Verifier,
    add_signature,
    generate,
    open_note,
    sign,
    split,
)

SEED = bytes(range(32))
SKEY, VKEY = generate("log.example/one", seed=SEED)
WITNESS_SKEY, WITNESS_VKEY = generate("witness.example", COSIGNATURE, b"w" * 32)
TEXT = "first line\n\nthird line — 同意\n"
NOTE = sign(TEXT, [Signer(SKEY)])


def test_the_specifications_example_opens() -> None:
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    raw = (
        "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7"
        "Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
    ).encode()
    note = open_note(raw, [Verifier(vkey)])
    assert note.text == "This is an example message.\n"
    assert [(one.name, one.key_id) for one in note.verified] == [("example.com/foo", 0x530D903A)]
    assert str(Verifier(vkey)) == vkey


def test_the_cosignature_specifications_example_has_its_time() -> None:
    raw = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+"
        "zyWE+xeMcTOAYQ8=\n— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJs"
        "X3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    ).encode()
    text, lines = split(raw)
    assert text.count("\n") == 3
    assert int.from_bytes(lines[1].raw[:8], "big") == 1679315147
    assert "".join(line.line() for line in lines).encode() == raw.partition(b"\n\n")[2]


def test_what_was_signed_opens_and_says_who() -> None:
    other = generate("log.example/two")
    raw = sign(TEXT, [Signer(SKEY), Signer(other[0])])
    raw = add_signature(raw, [Signer(WITNESS_SKEY).sign(TEXT, 1_700_000_000)])
    note = open_note(raw, [Verifier(VKEY), Verifier(WITNESS_VKEY)])
    assert note.text == TEXT
    assert [(one.name, one.time_s) for one in note.verified] == [
        ("log.example/one", None),
        ("witness.example", 1_700_000_000),
    ]
    assert [one.name for one in note.unverified] == ["log.example/two"]
    assert add_signature(raw, note.verified) == raw


def test_a_key_is_its_text() -> None:
    assert Signer(SKEY).vkey() == VKEY == str(Verifier(VKEY))
    assert generate("a", seed=SEED) == generate("a", seed=SEED) != generate("b", seed=SEED)
    assert generate("a")[0] != generate("a")[0]
    both = generate("a", seed=SEED)[1], generate("a", COSIGNATURE, SEED)[1]
    assert len({Verifier(vkey).key_id for vkey in both}) == 2


def test_a_signer_key_is_never_shown() -> None:
    secret = SKEY.rpartition("+")[2]
    assert secret not in repr(Signer(SKEY)) + str(Signer(SKEY))
    for wrong in (SKEY[:-1], SKEY.replace("one+", "two+"), SKEY.removeprefix("PRIVATE+"), SKEY + "\n", SKEY + "AAAA"):
        with pytest.raises(NoteError) as found:
            Signer(wrong)
        assert secret[:8] not in str(found.value)
        assert found.value.__cause__ is None


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\nb", "a\x00b", "\u3000", "a\tb"])
def test_names_that_no_key_may_have(name: str) -> None:
    with pytest.raises(NoteError):
        generate(name)


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "a", "a+b", "a+00000000+", "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"),
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3Q==",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n",
        "example.com/foo+530d903a+ AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
)
def test_verifier_keys_that_are_none(wrong: str) -> None:
    with pytest.raises(NoteError):
        Verifier(wrong)


def lines(*signatures: str) -> bytes:
    return f"text\n\n{''.join(signatures)}".encode()


GOOD = Signer(SKEY).sign("text\n").line()


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"\n", b"text\n", b"text\n\n", b"\n\n", lines(GOOD[:-1]), lines(GOOD, "\n"), lines("\n", GOOD)),
        *(lines("- log.example/one AAAAAAAA\n"), lines("—log.example/one AAAAAAAA\n"), lines("— AAAAAAAA\n")),
        *(lines(GOOD, "—  AAAAAAAA\n"), lines(GOOD, "— a\n"), lines(GOOD, "— a AAAA\n"), lines(GOOD, "— a AAAAAA==\n")),
        *(lines(GOOD, "— a+b AAAAAAAA\n"), lines(GOOD, "— a A\u00c4AAAAAA\n"), lines(GOOD, "— a AAAAAAB=\n")),
        *(lines(GOOD, "— a AAAAAAAA \n"), lines(GOOD, "— a AAAAAAAA\r\n"), lines(GOOD, "— a AAAA-_AA\n")),
        *(lines(GOOD).replace(b"text", b"te\x00xt"), lines(GOOD).replace(b"text", b"te\txt")),
        lines(GOOD).replace(b"text", b"te\xffxt"),
        lines(*[GOOD] * 101),
        b"x" * 1_000_001 + lines(GOOD),
    ],
)
def test_malformed_notes_are_refused_whole(raw: bytes) -> None:
    with pytest.raises(NoteError):
        open_note(raw, [Verifier(VKEY)])


def test_only_known_keys_count_and_all_of_theirs_must_hold() -> None:
    stranger, strange = generate("log.example/one")
    with pytest.raises(NoteError, match="no signature of a known key"):
        open_note(NOTE, [Verifier(strange)])
    with pytest.raises(NoteError, match="no signature of a known key"):
        open_note(NOTE, [])
    forged = Signer(SKEY).sign("another text\n")
    with pytest.raises(NoteError, match="does not verify"):
        open_note(sign(TEXT, [Signer(stranger)]) + forged.line().encode(), [Verifier(strange), Verifier(VKEY)])
    assert open_note(add_signature(NOTE, [forged]), [Verifier(VKEY)]).text == TEXT


def test_a_signature_of_one_type_is_none_of_the_other() -> None:
    skey, vkey = generate("both.example", seed=SEED)
    _, cosigner = generate("both.example", COSIGNATURE, SEED)
    plain = Signer(skey).sign(TEXT)
    posing = plain._replace(key_id=Verifier(cosigner).key_id, raw=bytes(8) + plain.raw)
    with pytest.raises(NoteError, match="does not verify"):
        open_note(f"{TEXT}\n{posing.line()}".encode(), [Verifier(cosigner), Verifier(vkey)])


def test_two_keys_of_one_name_and_id_are_refused() -> None:
    verifier, other = Verifier(VKEY), Verifier(generate("log.example/one")[1])
    other.key_id = verifier.key_id
    with pytest.raises(NoteError, match="same id"):
        open_note(NOTE, [verifier, other])
    assert open_note(NOTE, [verifier, verifier]).verified


def test_a_cosignature_and_nothing_else_has_a_time() -> None:
    with pytest.raises(ValueError, match="has a time"):
        Signer(WITNESS_SKEY).sign(TEXT)
    with pytest.raises(ValueError, match="has a time"):
        Signer(SKEY).sign(TEXT, 1)
    for wrong in (-1, 2**63):
        with pytest.raises(ValueError, match="impossibly"):
            Signer(WITNESS_SKEY).sign(TEXT, wrong)
    late = Signer(WITNESS_SKEY).sign(TEXT, 7)
    moved = late._replace(raw=(8).to_bytes(8, "big") + late.raw[8:])
    for wrong_line in (moved, late._replace(raw=late.raw[:7]), late._replace(raw=late.raw + b"x")):
        with pytest.raises(NoteError):
            Verifier(WITNESS_VKEY).verify(TEXT, wrong_line.raw)
    assert Verifier(WITNESS_VKEY).verify(TEXT, late.raw) == 7


def test_texts_that_cannot_be_signed() -> None:
    for text in ("", "no end", "a\tb\n", "a\x1fb\n"):
        with pytest.raises(NoteError):
            sign(text, [Signer(SKEY)])
    with pytest.raises(NoteError):
        sign(TEXT, [])


@settings(max_examples=300)
@given(st.integers(0, len(NOTE) * 8 - 1))
def test_a_flipped_bit_never_gives_another_text(bit: int) -> None:
    raw = bytearray(NOTE)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(NoteError):
        open_note(bytes(raw), [Verifier(VKEY)])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(raw: bytes) -> None:
    with pytest.raises(NoteError):
        open_note(raw + b"\n\n" + raw, [Verifier(VKEY)])


def test_a_signature_line_comes_back() -> None:
    one = Signature("witness.example", 0x01020304, b"\x00" * 72)
    assert split(f"t\n\n{one.line()}".encode())[1] == [one]
