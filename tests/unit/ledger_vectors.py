"""The committed vectors (schemas/ledger/vectors.json), and what our code gives for the same input now."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from gateway.ledger.checkpoint import Checkpoint, InclusionProof
from gateway.ledger.growing import Edge, Write, grow
from gateway.ledger.leaf import Leaf, encode
from gateway.ledger.merkle import Frontier, consistency_proof, inclusion_proof, leaf_hash, root_of
from gateway.ledger.note import COSIGNATURE, Signer, add_signature, generate, sign
from gateway.ledger.tiles import Tiles

FILE = Path(__file__).parents[2] / "schemas/ledger/vectors.json"


def committed() -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(FILE.read_bytes())
    return document


def entries(count: int) -> list[bytes]:
    """Entry n of the vectors: a second after the one before it, tag and commitment from digests of its number."""
    return [
        encode(
            Leaf(
                version=1,
                at_ms=1_700_000_000_000 + 1000 * n,
                tag=sha256(b"tag %d" % n).digest()[:16],
                commitment=sha256(b"commitment %d" % n).digest(),
            )
        )
        for n in range(count)
    ]


def written(sizes: list[int]) -> tuple[Edge, list[Write]]:
    edge, writes, all_entries = Edge(), [], entries(max(sizes))
    for size in sizes:
        edge, more = grow(edge, all_entries[edge.size : size])
        writes += more
    return edge, writes


def computed(vectors: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`vectors` with every result computed anew; what is given (sizes, indices, seeds, times) is taken from them."""
    edge, writes = written(vectors["grown"])
    tiles = Tiles(folder)
    tiles.write(writes)
    read, content = tiles.reader(edge.size), entries(edge.size)
    skey, vkey = generate(vectors["origin"], seed=bytes.fromhex(vectors["log_seed"]))
    witness, witness_vkey = generate(vectors["witness"], COSIGNATURE, bytes.fromhex(vectors["witness_seed"]))
    text = Checkpoint(vectors["origin"], edge.size, root_of(edge.size, read)).text()
    signed = add_signature(sign(text, [Signer(skey)]), [Signer(witness).sign(text, vectors["cosigned_at_s"])])
    proof = vectors["proof"]["index"]
    path = tuple(inclusion_proof(proof, edge.size, read))
    return vectors | {
        "entries": {n: content[int(n)].hex() for n in vectors["entries"]},
        "leaf_hashes": {n: encoded(leaf_hash(content[int(n)])) for n in vectors["leaf_hashes"]},
        "roots": {n: encoded(rooted(content[: int(n)])) for n in vectors["roots"]},
        "inclusion": [
            one | {"proof": [*map(encoded, inclusion_proof(one["index"], one["size"], read))]}
            for one in vectors["inclusion"]
        ],
        "consistency": [
            one | {"proof": [*map(encoded, consistency_proof(one["old"], one["new"], read))]}
            for one in vectors["consistency"]
        ],
        "tiles": {name: sha256(tile).hexdigest() for name, tile in sorted(dict(writes).items())},
        "log_vkey": vkey,
        "witness_vkey": witness_vkey,
        "checkpoint": signed.decode(),
        "proof": {"index": proof, "text": InclusionProof(proof, path, signed, b"extra").encode().decode()},
    }


def rooted(some: list[bytes]) -> bytes:
    frontier = Frontier()
    for entry in some:
        frontier.append(leaf_hash(entry))
    return frontier.root()


def encoded(value: bytes) -> str:
    return b64encode(value).decode()
