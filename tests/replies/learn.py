"""Makes the weights of `gateway.rules.likeness` from the labelled replies: `python -m tests.replies.learn`.

A logistic regression on the pieces of what the phrases of the pack leave of each reply (`Phrases.left`), made of
`tuned.tsv` and `learned.tsv`, never of what is held out. Misspelt copies are added of refusals and of the others alike,
so that a slip is no sign of either. The same files give the same weights; their digest is written into the pack.
"""

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from gateway.rules import pack as packs
from gateway.rules.likeness import ALWAYS, left, pieces
from gateway.rules.pack import Pack
from gateway.rules.phrases import plain
from tests.replies.measure import SETS, Row, rows_of

DIGEST = re.compile(r'(\[free_text\.like\]\nweights = .*\nsha256 = ")[0-9a-f]{64}')
ROUNDS, RATE, SEED = 30, 0.3, 1
LEAST_SEEN = 3
"""In how many texts a piece stands that gets a weight."""
SCALE = 100
COPIES = 3
SOUNDS = (
    "发法罚",
    "再在",
    "要药耀",
    "退推腿",
    "订定丁",
    "信心新性",
    "收手受",
    "拒据聚",
    "扰绕饶",
    "给个",
    "别憋",
    "息系",
    "告高",
    "短断",
)
"""Characters that are written for each other: they sound alike."""


def misspelt(text: str, chance: random.Random) -> str:
    """A text with a slip or two: letters swapped, dropped or doubled, another character of the same sound."""
    letters = list(text)
    places = [at for at, one in enumerate(letters) if one.isascii() and one.isalpha()]
    for at in chance.sample(places, min(len(places), 1 + len(places) // 20)):
        if at + 1 < len(letters) and chance.random() < 0.5:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        else:
            letters[at] = chance.choice(("", letters[at] * 2))
    for at, one in enumerate(letters):
        sound = next((sound for sound in SOUNDS if one and one in sound), "")
        if sound and chance.random() < 0.5:
            letters[at] = chance.choice(sound)
    return "".join(letters)


def examples(rows: Iterable[Row], pack: Pack) -> list[tuple[list[str], bool]]:
    """What is learned from: the pieces of a reply, and whether it refuses."""
    chance = random.Random(SEED)
    found: dict[str, bool] = {}
    for label, text in rows:
        for one in (text, *(misspelt(text, chance) for _ in range(COPIES))):
            view = left(plain(one, pack.same), pack.refusals)
            if view is not None:
                found.setdefault(view, label == "refusal")
    return [(sorted(pieces(view)), refuses) for view, refuses in found.items()]


def learned(data: list[tuple[list[str], bool]]) -> dict[str, float]:
    """The weights: gradient descent with a step for each piece that shrinks as it is used (Adagrad)."""
    seen = Counter(piece for found, _ in data for piece in found)
    kept = [
        ([one for one in found if seen[one] >= LEAST_SEEN], refuses, math.sqrt(len(found))) for found, refuses in data
    ]
    weights = {piece: 0.0 for piece, times in seen.items() if times >= LEAST_SEEN} | {ALWAYS: 0.0}
    used = dict.fromkeys(weights, 1e-3)
    order = random.Random(SEED)
    for _ in range(ROUNDS):
        order.shuffle(kept)
        for found, refuses, size in kept:
            total = weights[ALWAYS] + sum([weights[piece] for piece in found]) / size
            error = 1 / (1 + math.exp(-max(-30.0, min(30.0, total)))) - refuses
            weights[ALWAYS] -= 0.02 * error
            step = error / size
            for piece in found:
                used[piece] += step * step
                weights[piece] -= RATE * step / math.sqrt(used[piece])
    return weights


def written(weights: dict[str, float]) -> str:
    """The file: a piece and its weight a line."""
    whole = {piece: round(weight * SCALE) for piece, weight in weights.items()}
    return "".join(f"{piece}\t{whole[piece]}\n" for piece in sorted(whole) if whole[piece] or piece == ALWAYS)


def main() -> None:
    pack = packs.load("cn")
    rows = [row for name in ("tuned.tsv", "learned.tsv") for row in rows_of(SETS / name, pack)]
    content = written(learned(examples(rows, pack)))
    folder = Path(str(resources.files("gateway.rules"))) / "packs"
    (folder / "cn.likeness.tsv").write_text(content, "utf-8")
    text = (folder / "cn.toml").read_text("utf-8")
    digest = hashlib.sha256(content.encode()).hexdigest()
    (folder / "cn.toml").write_text(DIGEST.sub(rf"\g<1>{digest}", text, count=1), "utf-8")
    print(f"{len(rows)} replies, {len(content.splitlines())} weights")


if __name__ == "__main__":
    main()
