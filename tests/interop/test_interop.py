"""A log that our code wrote, before programs that we did not: Tessera's fsck, x/mod, torchwood, a real litewitness.

Needs Go; the modules, pinned in go.mod and go.sum, come through its ordinary proxy. Run by `make test-interop`.
"""

import json
import os
import socket
import sqlite3
import subprocess
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import ledger_vectors
import pytest
import pytest_asyncio

from gateway.ledger.checkpoint import Checkpoint, InclusionProof, open_checkpoint, verify_proof
from gateway.ledger.growing import Edge, grow
from gateway.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    ProofError,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)
from gateway.ledger.note import COSIGNATURE, Signer, Verifier, add_signature, generate, sign
from gateway.ledger.tiles import Tiles
from gateway.ledger.witness import Witness, WitnessConflictError, WitnessRefusedError

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
ORIGIN = "interop.example/assent"
SKEY, VKEY = generate(ORIGIN, seed=b"l" * 32)
WITNESS = "witness.example/interop"
WITNESS_SEED = b"w" * 32
_, WITNESS_VKEY = generate(WITNESS, COSIGNATURE, WITNESS_SEED)
SIZES = [1, 256, 300, 700]
ENTRIES = ledger_vectors.entries(SIZES[-1])


# --- their programs and our log --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `interop` (the programs beside this file) and `litewitness`."""
    folder = tmp_path_factory.mktemp("bin")
    for package in (".", "filippo.io/torchwood/cmd/litewitness"):
        done = subprocess.run(
            ["go", "build", "-mod=readonly", "-o", f"{folder}/", package],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=540,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder


def ask(programs: Path, word: str, *words: str, **asked: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / "interop", word, *words],
        input=json.dumps(asked, default=lambda value: b64encode(value).decode()),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@dataclass(frozen=True)
class Log:
    """A folder as it is served, grown to each of `SIZES`; `signed` is the checkpoint of each."""

    folder: Path
    tiles: Tiles
    signed: dict[int, bytes]

    @property
    def read(self) -> Any:
        return self.tiles.reader(SIZES[-1])


def written(folder: Path, entries: list[bytes], sizes: list[int], skey: str = SKEY) -> Log:
    tiles, edge, signed = Tiles(folder), Edge(), {}
    for size in sizes:
        edge, writes = grow(edge, entries[edge.size : size])
        tiles.write(writes)
        signed[size] = sign(Checkpoint(ORIGIN, size, edge.root()).text(), [Signer(skey)])
    (folder / "checkpoint").write_bytes(signed[sizes[-1]])
    return Log(folder, tiles, signed)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return written(tmp_path / "log", ENTRIES, SIZES)


# --- Tessera's fsck --------------------------------------------------------------------------------------------------


def test_fsck_finds_the_log_sound_at_every_size(programs: Path, log: Log) -> None:
    for size in SIZES:
        (log.folder / "checkpoint").write_bytes(log.signed[size])
        assert told(ask(programs, "fsck", str(log.folder), VKEY)) == "sound", size


@pytest.mark.parametrize(
    "path",
    [
        *("checkpoint", "tile/entries/000", "tile/entries/002.p/188"),
        *("tile/0/000", "tile/0/001", "tile/0/002.p/188", "tile/1/000.p/2"),
    ],
)
def test_fsck_finds_a_flipped_byte(programs: Path, log: Log, path: str) -> None:
    file = log.folder / path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert ask(programs, "fsck", str(log.folder), VKEY).returncode == 1


@pytest.mark.parametrize("path", ["tile/entries/001", "tile/0/002.p/188", "tile/1/000.p/2"])
def test_fsck_misses_a_tile_that_is_gone(programs: Path, log: Log, path: str) -> None:
    (log.folder / path).unlink()
    assert ask(programs, "fsck", str(log.folder), VKEY).returncode == 1


def test_fsck_wants_the_logs_own_key(programs: Path, log: Log) -> None:
    assert ask(programs, "fsck", str(log.folder), generate(ORIGIN)[1]).returncode == 1


# --- x/mod and transparency-dev/merkle -------------------------------------------------------------------------------


def test_our_checkpoint_and_proofs_pass_with_them(programs: Path, log: Log) -> None:
    size = SIZES[-1]
    content = [{"Index": n, "Size": size, "Leaf": leaf_hash(ENTRIES[n])} for n in range(0, size, 7)]
    root = open_checkpoint(log.signed[size], ORIGIN, [Verifier(VKEY)])[0].root
    for one in content:
        one |= {"Root": root, "Proof": inclusion_proof(one["Index"], size, log.read)}
    pairs = [(old, new) for old in SIZES for new in SIZES if old <= new]
    steps = [
        {
            "Old": old,
            "New": new,
            "OldRoot": ledger_vectors.rooted(ENTRIES[:old]),
            "NewRoot": ledger_vectors.rooted(ENTRIES[:new]),
            "Proof": consistency_proof(old, new, log.read),
        }
        for old, new in pairs
    ]
    found = told(
        ask(
            programs,
            "verdicts",
            Vkey=VKEY,
            Checkpoint=log.signed[size].decode(),
            Inclusion=content,
            Consistency=steps,
        )
    )
    assert (found["Origin"], found["Size"], b64decode(found["Root"])) == (ORIGIN, size, root)
    for verdict in (*found["Inclusion"], *found["Consistency"]):
        assert verdict == {"Merkle": True, "Mod": True}
    assert (len(found["Inclusion"]), len(found["Consistency"])) == (len(content), len(pairs))


def test_a_changed_checkpoint_does_not_open_with_them(programs: Path, log: Log) -> None:
    raw = log.signed[700].decode()
    for wrong in (raw.replace("700", "701"), raw.replace(ORIGIN, "interop.example/other"), raw[:-4] + "AA=\n"):
        assert ask(programs, "verdicts", Vkey=VKEY, Checkpoint=wrong).returncode == 1


@pytest.fixture(scope="session")
def published(programs: Path) -> dict[str, Any]:
    """The vectors that come with the module: entries, and roots and nodes of their trees."""
    found: dict[str, Any] = told(ask(programs, "published"))
    return found


def test_the_published_roots_and_nodes_are_ours(published: dict[str, Any]) -> None:
    leaves = [leaf_hash(b64decode(one)) for one in published["entries"]]
    frontier, roots = Frontier(), [EMPTY_ROOT]
    for leaf in leaves:
        frontier.append(leaf)
        roots.append(frontier.root())
    assert [b64decode(one) for one in published["roots"]] == roots
    assert len(roots) == 9
    level = leaves
    for nodes in published["nodes"]:
        assert [b64decode(one) for one in nodes] == level
        level = [node_hash(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]


class Tree:
    """All proofs over some entries, and each of them spoiled in the ways that published test vectors spoil them."""

    def __init__(self, entries: list[bytes]) -> None:
        self._leaves = [leaf_hash(entry) for entry in entries]

    def root(self, begin: int, end: int) -> bytes:
        frontier = Frontier()
        for leaf in self._leaves[begin:end]:
            frontier.append(leaf)
        return frontier.root()

    def read(self, nodes: Any) -> list[bytes]:
        return [self.root(index << level, (index + 1) << level) for level, index in nodes]

    def inclusion(self, index: int, size: int) -> list[dict[str, Any]]:
        leaf, root = self._leaves[index], self.root(0, size)
        proof, some = inclusion_proof(index, size, self.read), sha256(b"some").digest()
        good = {"Index": index, "Size": size, "Leaf": leaf, "Root": root, "Proof": proof}
        places = [
            (index + 1, size),
            (index ^ 2, size),
            (max(index - 1, 0), size),
            (index, size * 2),
            (index, size // 2),
        ]
        return [
            good,
            *(good | {"Index": one, "Size": other} for one, other in places),
            *(good | {"Leaf": one} for one in (b"WrongLeaf", some, root)),
            *(good | {"Root": one} for one in (b"", EMPTY_ROOT, some, leaf)),
            *(good | {"Proof": one} for one in spoiled(proof, [root, leaf])),
        ]

    def consistency(self, old: int, new: int) -> list[dict[str, Any]]:
        before, after = self.root(0, old), self.root(0, new)
        proof = consistency_proof(old, new, self.read)
        good = {"Old": old, "New": new, "OldRoot": before, "NewRoot": after, "Proof": proof}
        sizes = [(old - 1, new), (old + 1, new), (old ^ 2, new), (old, new * 2), (old, new // 2), (0, new)]
        return [
            good,
            *(good | {"Old": one, "New": other} for one, other in sizes),
            *(good | {"OldRoot": one} for one in (b"WrongRoot", after)),
            *(good | {"NewRoot": one} for one in (b"WrongRoot", before)),
            good | {"OldRoot": after, "NewRoot": before},
            good | {"Old": 0, "Proof": []},
            *(good | {"Proof": one} for one in spoiled(proof, [before, after])),
        ]


def spoiled(proof: list[bytes], others: list[bytes]) -> list[list[bytes]]:
    wrong = [[], *([*proof, one] for one in (b"", *others)), *([one, *proof] for one in (b"", *others))]
    for n, one in enumerate(proof):
        wrong.append([*proof[:n], bytes([one[0] ^ 16]) + one[1:], *proof[n + 1 :]])
        wrong.append([*proof[:n], *proof[n + 1 :]])
        wrong.append([*proof[:n], one, *proof[n:]])
        wrong.append([*proof[:n], one[:-1], *proof[n + 1 :]])
    return wrong


def holds(one: dict[str, Any]) -> bool:
    try:
        if "Leaf" in one:
            verify_inclusion(one["Leaf"], one["Index"], one["Size"], one["Proof"], one["Root"])
        else:
            verify_consistency(one["Old"], one["New"], one["Proof"], one["OldRoot"], one["NewRoot"])
    except ProofError:
        return False
    return True


def test_both_libraries_and_we_agree_on_every_good_and_spoiled_proof(
    programs: Path, published: dict[str, Any], log: Log
) -> None:
    small = Tree([b64decode(one) for one in published["entries"]])
    large = Tree([b"%d" % n for n in range(80)])
    inclusion = [one for size in range(1, 9) for index in range(size) for one in small.inclusion(index, size)]
    inclusion += [one for size in (33, 64, 79) for index in range(0, size, 5) for one in large.inclusion(index, size)]
    consistency = [one for new in range(1, 9) for old in range(1, new + 1) for one in small.consistency(old, new)]
    consistency += [one for new in (33, 64, 79) for old in range(1, new, 5) for one in large.consistency(old, new)]
    checkpoint = log.signed[700].decode()
    found = told(
        ask(programs, "verdicts", Vkey=VKEY, Checkpoint=checkpoint, Inclusion=inclusion, Consistency=consistency)
    )
    good = 0
    for one, theirs in zip(inclusion + consistency, found["Inclusion"] + found["Consistency"], strict=True):
        ours = holds(one)
        good += ours
        if one.get("Old") == 0:
            assert not ours, "consistency from size 0"
            assert not theirs["Mod"]
            continue
        whole = all(len(value) == 32 for value in (one.get("OldRoot", b"x" * 32), one.get("Root", b"x" * 32)))
        assert ours == theirs["Mod"], one
        assert ours == theirs["Merkle"] or not whole, one
    assert good >= 36 * 2 + 2 * 30
    assert len(inclusion) + len(consistency) > 3000


# --- torchwood's tlog-proofs -----------------------------------------------------------------------------------------


def test_our_tlog_proof_holds_with_torchwood(programs: Path, log: Log) -> None:
    index, size = 345, 700
    text = open_checkpoint(log.signed[size], ORIGIN, [Verifier(VKEY)])[0].text()
    skey, vkey = generate("witness.example/ours", COSIGNATURE)
    signed = add_signature(log.signed[size], [Signer(skey).sign(text, int(time.time()))])
    path = tuple(inclusion_proof(index, size, log.read))
    good = InclusionProof(index, path, signed).encode()
    extra = InclusionProof(index, path, signed, b"extra").encode()
    wrong = [
        InclusionProof(index + 1, path, signed).encode(),
        InclusionProof(index, path[1:], signed).encode(),
        InclusionProof(index, (path[1], path[0], *path[2:]), signed).encode(),
        good.replace(b"700", b"701"),
        InclusionProof(index, path, log.signed[size]).encode(),
    ]
    asked = [one.decode() for one in (good, extra, *wrong)]
    policy = f"log {VKEY}\nwitness one {vkey}\nquorum one\n"
    found = told(ask(programs, "proofs", Policy=policy, Entry=ENTRIES[index], Proofs=asked))
    assert found[:2] == ["", ""]
    assert all(found[2:])
    assert all(told(ask(programs, "proofs", Policy=policy, Entry=ENTRIES[0], Proofs=asked)))


# --- a real witness --------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def listening(port: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "litewitness ended"
        time.sleep(0.05)
    raise AssertionError("litewitness does not listen")


@pytest.fixture
def witness_url(programs: Path, tmp_path: Path) -> Iterator[str]:
    """A litewitness on its own port that knows our log by its key."""
    agent_socket, database, port = tmp_path / "agent", tmp_path / "witness.db", free_port()
    agent = subprocess.Popen(
        [programs / "interop", "agent", agent_socket, WITNESS_SEED.hex()], stdout=subprocess.PIPE, text=True
    )
    started = [agent]
    try:
        assert agent.stdout is not None
        words = {"-name": WITNESS, "-db": database, "-ssh-agent": agent_socket, "-key": agent.stdout.readline().strip()}
        words["-listen"] = f"127.0.0.1:{port}"
        litewitness = subprocess.Popen(
            [programs / "litewitness", *(os.fspath(word) for pair in words.items() for word in pair)],
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(litewitness)
        listening(port, litewitness)
        with sqlite3.connect(database, timeout=10) as known:
            known.execute("INSERT INTO log VALUES (?, 0, ?)", (ORIGIN, b64encode(EMPTY_ROOT).decode()))
            known.execute("INSERT INTO key VALUES (?, ?)", (ORIGIN, VKEY))
        known.close()
        yield f"http://127.0.0.1:{port}/"
    finally:
        for process in reversed(started):
            process.kill()
            process.wait(10)
        if agent.stdout is not None:
            agent.stdout.close()


@pytest_asyncio.fixture
async def witness(witness_url: str) -> AsyncIterator[Witness]:
    one = Witness(witness_url, WITNESS_VKEY)
    yield one
    await one.close()


async def test_a_witness_cosigns_as_the_log_grows(programs: Path, log: Log, witness: Witness) -> None:
    known, before = 0, int(time.time())
    for size in SIZES:
        signature = await witness.cosign(
            log.signed[size], known, lambda old, size=size: consistency_proof(old, size, log.read)
        )
        known = size
        assert (signature.name, signature.time_s is not None and before <= signature.time_s) == (WITNESS, True)
    cosigned = add_signature(log.signed[700], [signature])
    _, note = open_checkpoint(cosigned, ORIGIN, [Verifier(VKEY), Verifier(WITNESS_VKEY)])
    assert [one.name for one in note.verified] == [ORIGIN, WITNESS]
    proof = InclusionProof(5, tuple(inclusion_proof(5, 700, log.read)), cosigned).encode()
    verify_proof(proof, leaf_hash(ENTRIES[5]), ORIGIN, [Verifier(VKEY), Verifier(WITNESS_VKEY)])
    policy = f"log {VKEY}\nwitness w {WITNESS_VKEY}\nquorum w\n"
    assert told(ask(programs, "proofs", Policy=policy, Entry=ENTRIES[5], Proofs=[proof.decode()])) == [""]


async def test_a_witness_says_which_size_it_knows(log: Log, witness: Witness) -> None:
    await witness.add_checkpoint(log.signed[256], 0, [])
    with pytest.raises(WitnessConflictError) as found:
        await witness.add_checkpoint(log.signed[700], 0, [])
    assert found.value.size == 256
    for forgotten in (0, 1, 300):
        assert await witness.cosign(log.signed[700], forgotten, lambda old: consistency_proof(old, 700, log.read))


async def test_a_witness_refuses_a_rollback(log: Log, witness: Witness) -> None:
    await witness.add_checkpoint(log.signed[700], 0, [])
    proof = consistency_proof(256, 300, log.read)
    with pytest.raises(WitnessConflictError) as found:
        await witness.add_checkpoint(log.signed[300], 256, proof)
    assert found.value.size == 700
    with pytest.raises(WitnessConflictError):
        await witness.cosign(log.signed[300], 256, lambda _old: proof)


async def test_a_witness_refuses_a_forged_history(tmp_path: Path, log: Log, witness: Witness) -> None:
    await witness.add_checkpoint(log.signed[300], 0, [])
    forged = written(tmp_path / "forged", [ENTRIES[1], ENTRIES[0], *ENTRIES[2:]], SIZES)
    for size in (300, 700):
        with pytest.raises(WitnessRefusedError) as found:
            await witness.add_checkpoint(forged.signed[size], 300, consistency_proof(300, size, forged.read))
        assert found.value.status == 422
    assert await witness.add_checkpoint(log.signed[700], 300, consistency_proof(300, 700, log.read))


async def test_a_witness_refuses_another_key_and_another_log(tmp_path: Path, witness: Witness) -> None:
    stranger = written(tmp_path / "stranger", ENTRIES[:1], [1], generate(ORIGIN)[0])
    with pytest.raises(WitnessRefusedError) as found:
        await witness.add_checkpoint(stranger.signed[1], 0, [])
    assert found.value.status == 403
    elsewhere = sign(Checkpoint("interop.example/other", 1, leaf_hash(b"")).text(), [Signer(SKEY)])
    with pytest.raises(WitnessRefusedError) as found:
        await witness.add_checkpoint(elsewhere, 0, [])
    assert found.value.status == 404
