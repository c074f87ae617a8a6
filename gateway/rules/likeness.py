"""Whether a reply is like the refusals that people wrote: a weight for each short piece of text, learned beforehand.

Owns the form of the weights' file and the sum; `tests/replies/learn.py` makes the file. It is asked last, about what
the phrases of the pack leave: the words of somebody who misspells, or says it as nobody thought of. Pure, and bounded
by the length of the text.
"""

from collections.abc import Iterable
from hashlib import sha256
from math import sqrt

from gateway.rules.phrases import Phrases

LONGEST = 4
"""Characters of a piece."""
ALWAYS = ""
"""The piece that every text has."""


def pieces(view: str) -> set[str]:
    """All runs of up to `LONGEST` characters."""
    return {view[at : at + size] for size in range(1, LONGEST + 1) for at in range(len(view) - size + 1)}


def left(text: str, languages: Iterable[Phrases]) -> str | None:
    """What a plain text says in the language it is written in, exceptions crossed out; None: in none of them."""
    return next((view for one in languages if (view := one.left(text)) is not None), None)


class Likeness:
    """What was learned; `least`: from which sum on a text is taken for a refusal."""

    __slots__ = ("_least", "_weights")

    def __init__(self, written: str, digest: str, least: int) -> None:
        """`written`: a piece and its weight a line. Raises ValueError for a text of another digest."""
        if sha256(written.encode()).hexdigest() != digest:
            raise ValueError("the weights are not those that the pack names")
        rows = (line.rpartition("\t") for line in written.splitlines())
        self._weights = {piece: int(weight) for piece, _, weight in rows}
        self._least = least

    def refuses(self, view: str) -> bool:
        """Whether what is left of a text is like a refusal."""
        found, weights = pieces(view), self._weights
        return weights[ALWAYS] + sum([weights.get(piece, 0) for piece in found]) / sqrt(len(found)) >= self._least
