"""Runs the Merkle vectors that transparency-dev/merkle publishes (its folder `testdata`) through our verifiers.

    python tests/interop/published_vectors.py <checkout of github.com/transparency-dev/merkle>/testdata

They came after the last tagged version of that module, so the module proxy does not carry them and `make test-interop`
cannot; take a checkout. At its commit 417fb0c they are 98 and 98, and all verdicts agree but one, on purpose: two equal
"roots" that are no hashes ("don't care", sizes 1 and 1) are refused here.
"""

import json
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from gateway.ledger.merkle import HASH_BYTES, ProofError, verify_consistency, verify_inclusion


def holds(kind: str, vector: dict[str, Any]) -> bool:
    """Whether we accept a vector."""
    proof = [b64decode(one) for one in vector["proof"] or ()]
    try:
        if kind == "inclusion":
            leaf, root = b64decode(vector["leafHash"] or ""), b64decode(vector["root"] or "")
            verify_inclusion(leaf, vector["leafIdx"], vector["treeSize"], proof, root)
        else:
            roots = (b64decode(vector["root1"] or ""), b64decode(vector["root2"] or ""))
            verify_consistency(vector["size1"], vector["size2"], proof, *roots)
    except ProofError:
        return False
    return True


def main(folder: Path) -> int:
    """Print the counts and each difference; 1 unless there were vectors and all agreed."""
    seen = wrong = 0
    for kind in ("inclusion", "consistency"):
        for file in sorted((folder / kind).rglob("*.json")):
            vector = json.loads(file.read_text("utf-8"))
            hashes = kind == "inclusion" or len(b64decode(vector["root1"])) == HASH_BYTES
            wanted = hashes and not vector["wantErr"]
            seen += 1
            if holds(kind, vector) != wanted:
                wrong += 1
                print(f"differs: {file.relative_to(folder)}: {vector['desc']}")
    print(f"{seen} vectors, {wrong} differ")
    return int(not seen or wrong > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
