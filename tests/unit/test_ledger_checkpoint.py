"""Checkpoints and tlog-proofs: exact text, strict reading, whose signature counts; and the committed vectors."""

from base64 import b64decode
from pathlib import Path

import ledger_vectors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    InclusionProof,
    open_checkpoint,
    parse,
    parse_proof,
    verify_proof,
)
from gateway.ledger.merkle import (
    EMPTY_ROOT,
    ProofError,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from gateway.ledger.note import COSIGNATURE, NoteError, Signer, Verifier, add_signature, generate, sign

ORIGIN = "log.example/assent"
SKEY, VKEY = generate(ORIGIN, seed=b"l" * 32)
WITNESS_SKEY, WITNESS_VKEY = generate("witness.example", COSIGNATURE, b"w" * 32)
KNOWN = [Verifier(VKEY), Verifier(WITNESS_VKEY)]
LEFT, RIGHT = leaf_hash(b"left"), leaf_hash(b"right")
CHECKPOINT = Checkpoint(ORIGIN, 2, node_hash(LEFT, RIGHT))
SIGNED = sign(CHECKPOINT.text(), [Signer(SKEY)])
PROOF = InclusionProof(1, (LEFT,), SIGNED).encode()
ROOT64 = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_the_specifications_example_is_read_and_written() -> None:
    text = f"example.com/behind-the-sofa\n20852163\n{ROOT64}\n"
    checkpoint = parse(text)
    assert checkpoint == Checkpoint("example.com/behind-the-sofa", 20852163, b64decode(ROOT64))
    assert checkpoint.text() == text
    assert parse(text + "more 1\n").extensions == ("more 1",)


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1),
    st.integers(1, 2**63 - 1),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1), max_size=2),
)
def test_a_checkpoint_comes_back(origin: str, size: int, root: bytes, extensions: list[str]) -> None:
    checkpoint = Checkpoint(origin, size, root, tuple(extensions))
    assert parse(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "o\n1\n", f"o\n1\n{ROOT64}", f"\n1\n{ROOT64}\n", f"o\n\n{ROOT64}\n", "o\n1\n\n"),
        *(f"o\n01\n{ROOT64}\n", f"o\n-1\n{ROOT64}\n", f"o\n+1\n{ROOT64}\n", f"o\n 1\n{ROOT64}\n", f"o\n1 \n{ROOT64}\n"),
        *(f"o\n1_0\n{ROOT64}\n", f"o\n٣\n{ROOT64}\n", f"o\n0x1\n{ROOT64}\n", f"o\n9223372036854775808\n{ROOT64}\n"),
        *(f"o\n{'9' * 5000}\n{ROOT64}\n", f"o\n1\n{ROOT64[:-1]}\n", f"o\n1\n{ROOT64[:-2]}J=\n", f"o\n1\n{ROOT64}=\n"),
        *(f"o\n1\n{ROOT64} \n", "o\n1\nAAAA\n", f"o\n1\n{ROOT64}\n\n", f"o\n1\n{ROOT64}\nx\n\n", f"o\r\n1\n{ROOT64}\n"),
        *(f"o\n0\n{ROOT64}\n", f"o\n1\n{ROOT64}\nex\ttension\n"),
    ],
)
def test_other_texts_are_no_checkpoint(text: str) -> None:
    with pytest.raises(CheckpointError):
        parse(text)


def test_the_empty_log_has_the_empty_root() -> None:
    assert parse(Checkpoint("o", 0, EMPTY_ROOT).text()).size == 0
    with pytest.raises(CheckpointError, match="empty log"):
        Checkpoint("o", 0, bytes(32))


def test_a_checkpoint_opens_with_its_log_and_its_witnesses() -> None:
    raw = add_signature(SIGNED, [Signer(WITNESS_SKEY).sign(CHECKPOINT.text(), 1_700_000_000)])
    checkpoint, note = open_checkpoint(raw, ORIGIN, KNOWN)
    assert checkpoint == CHECKPOINT
    assert [(one.name, one.time_s) for one in note.verified] == [(ORIGIN, None), ("witness.example", 1_700_000_000)]


def test_the_log_itself_has_to_have_signed() -> None:
    text = CHECKPOINT.text()
    cosigned = f"{text}\n{Signer(WITNESS_SKEY).sign(text, 1).line()}".encode()
    with pytest.raises(CheckpointError, match="log itself"):
        open_checkpoint(cosigned, ORIGIN, KNOWN)
    own, own_vkey = generate(ORIGIN, COSIGNATURE, b"c" * 32)
    with pytest.raises(CheckpointError, match="log itself"):
        open_checkpoint(f"{text}\n{Signer(own).sign(text, 1).line()}".encode(), ORIGIN, [Verifier(own_vkey)])
    other, other_vkey = generate("log.example/other")
    with pytest.raises(CheckpointError, match="log itself"):
        open_checkpoint(sign(text, [Signer(other)]), ORIGIN, [Verifier(other_vkey)])
    with pytest.raises(NoteError, match="known key"):
        open_checkpoint(SIGNED, ORIGIN, [Verifier(WITNESS_VKEY)])


def test_a_checkpoint_of_another_log_or_no_checkpoint_is_refused() -> None:
    elsewhere = sign(Checkpoint("log.example/other", 2, CHECKPOINT.root).text(), [Signer(SKEY)])
    with pytest.raises(CheckpointError, match="another log"):
        open_checkpoint(elsewhere, ORIGIN, KNOWN)
    with pytest.raises(CheckpointError):
        open_checkpoint(sign("a signed letter\n", [Signer(SKEY)]), ORIGIN, KNOWN)


def test_a_rotated_key_is_known_by_either() -> None:
    new, new_vkey = generate(ORIGIN, seed=b"n" * 32)
    raw = sign(CHECKPOINT.text(), [Signer(SKEY), Signer(new)])
    for verifier in (VKEY, new_vkey):
        assert open_checkpoint(raw, ORIGIN, [Verifier(verifier)])[0] == CHECKPOINT


# --- tlog-proofs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [None, b"", b"\x00anything"])
def test_a_proof_comes_back_and_holds(extra: bytes | None) -> None:
    proof = InclusionProof(1, (LEFT,), SIGNED, extra)
    assert parse_proof(proof.encode()) == proof
    assert verify_proof(proof.encode(), RIGHT, ORIGIN, KNOWN)[:2] == (proof, CHECKPOINT)


def test_a_proof_of_a_log_of_one_has_no_hashes() -> None:
    signed = sign(Checkpoint(ORIGIN, 1, LEFT).text(), [Signer(SKEY)])
    raw = InclusionProof(0, (), signed).encode()
    assert raw.startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\nlog.example")
    verify_proof(raw, LEFT, ORIGIN, KNOWN)


def test_a_proof_of_another_entry_place_or_path_does_not_hold() -> None:
    for wrong, leaf in (
        (PROOF, LEFT),
        (InclusionProof(0, (LEFT,), SIGNED).encode(), RIGHT),
        (InclusionProof(2, (LEFT,), SIGNED).encode(), RIGHT),
        (InclusionProof(1, (RIGHT,), SIGNED).encode(), RIGHT),
        (InclusionProof(1, (), SIGNED).encode(), RIGHT),
        (InclusionProof(1, (LEFT, LEFT), SIGNED).encode(), RIGHT),
    ):
        with pytest.raises(ProofError):
            verify_proof(wrong, leaf, ORIGIN, KNOWN)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", PROOF.partition(b"\n\n")[0], PROOF.partition(b"\n\n")[0] + b"\n\n", b"\n" + PROOF),
        *(
            PROOF.replace(b"@v1", b"@v2"),
            PROOF.replace(b"index 1", b"index 01"),
            PROOF.replace(b"index 1", b"index -1"),
        ),
        *(PROOF.replace(b"index 1\n", b""), PROOF.replace(b"index 1", b"index 1\nextra AAAA"), PROOF[:-1]),
        *(PROOF.replace(b"index 1", b"extra A\nindex 1"), PROOF.replace(b"index", "\u0131ndex".encode())),
        *(
            PROOF.replace(b"\n\n", b"\nAAAA\n\n", 1),
            PROOF.replace(b"\n", b"\r\n"),
            PROOF.replace(b"index 1", b"index 1 "),
        ),
        InclusionProof(1, (LEFT,) * 64, SIGNED).encode(),
    ],
)
def test_other_texts_are_no_proof(raw: bytes) -> None:
    with pytest.raises((CheckpointError, NoteError)):
        verify_proof(raw, RIGHT, ORIGIN, KNOWN)


@settings(max_examples=400)
@given(st.integers(0, len(PROOF) * 8 - 1))
def test_a_flipped_bit_of_a_proof_is_found(bit: int) -> None:
    raw = bytearray(PROOF)
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises((CheckpointError, NoteError, ProofError)):
        verify_proof(bytes(raw), RIGHT, ORIGIN, KNOWN)


# --- the committed vectors -------------------------------------------------------------------------------------------


def test_the_committed_vectors_are_what_our_code_gives(tmp_path: Path) -> None:
    vectors = ledger_vectors.committed()
    assert ledger_vectors.computed(vectors, tmp_path / "log") == vectors


def test_the_committed_proofs_hold() -> None:
    vectors = ledger_vectors.committed()
    content = ledger_vectors.entries(max(vectors["grown"]))

    def root(size: int) -> bytes:
        return ledger_vectors.rooted(content[:size])

    for one in vectors["inclusion"]:
        proof = [b64decode(h) for h in one["proof"]]
        verify_inclusion(leaf_hash(content[one["index"]]), one["index"], one["size"], proof, root(one["size"]))
    for one in vectors["consistency"]:
        proof = [b64decode(h) for h in one["proof"]]
        verify_consistency(one["old"], one["new"], proof, root(one["old"]), root(one["new"]))
    known = [Verifier(vectors["log_vkey"]), Verifier(vectors["witness_vkey"])]
    leaf = leaf_hash(content[vectors["proof"]["index"]])
    _, checkpoint, note = verify_proof(vectors["proof"]["text"].encode(), leaf, vectors["origin"], known)
    assert (checkpoint.size, len(note.verified)) == (700, 2)
