"""Which message caused a complaint: by recipient (the candidates are theirs), port, time and text. Pure.

1. A candidate fits when its port is the complaint's, or begins it (a carrier appends digits), and it was sent no later
   than the complaint, give or take the clocks (`SKEW_MS`), and no longer than `REACH_MS` before.
2. Where the complaint quotes what a candidate said (`similarity` of `QUOTED` or more), only those remain that say it
   about as well as the best (`MARGIN`): the others were not meant.
3. One that remains alone is it. Of several, the last is it when it lies far nearer to the complaint than the one before
   (`APART_MS` and `TIMES`); otherwise a person decides among them.

With neither a port nor quoted words nothing but the recipient speaks for a message: then a person decides even about
one. People quote a part, add words of their own, and write full-width or with spaces: letters and digits alone are
compared, in pairs, and the shorter text's pairs are looked for in the longer one.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from gateway.contract.complaint import Matching

SKEW_MS = 3_600_000
REACH_MS = 31 * 86_400_000
QUOTED = 0.6
MARGIN = 0.15
APART_MS = 86_400_000
TIMES = 4
LEAST_PAIRS = 5
"""Fewer are a word or two of anybody's, not a quotation."""


class Candidate(NamedTuple):
    """A message that went to the person. `text` where it is still kept."""

    id: str
    origin: int
    port: str
    sender: str
    campaign: str | None
    sent_ms: int
    text: str | None = None
    permission: int | None = None
    """The ledger entry it relied on."""
    carrier: str | None = None
    """Which has it, where that is known yet."""


class Match(NamedTuple):
    """What was found: `best` is the message where it is clear, the likeliest one where it is not."""

    verdict: Matching
    best: Candidate | None = None
    plausible: tuple[Candidate, ...] = ()


NOBODY = Match(Matching.UNMATCHED)


def match(port: str | None, at_ms: int, text: str, candidates: Sequence[Candidate]) -> Match:
    """The message that a complaint is about."""
    fitting = [one for one in candidates if _fits(one, port, at_ms)]
    if not fitting:
        return NOBODY
    pairs = _pairs(text)
    likeness = {one.id: _shared(pairs, _pairs(one.text or "")) for one in fitting}
    best = max(likeness.values())
    quoted = best >= QUOTED
    left = [one for one in fitting if not quoted or likeness[one.id] >= best - MARGIN]
    left.sort(key=lambda one: (abs(at_ms - one.sent_ms), -one.sent_ms, one.id))
    if (quoted or port is not None) and _clear(left, at_ms):
        return Match(Matching.MATCHED, left[0], (left[0],))
    return Match(Matching.AMBIGUOUS, left[0], tuple(left))


def _fits(one: Candidate, port: str | None, at_ms: int) -> bool:
    if port is not None and not port.startswith(one.port):
        return False
    return at_ms - REACH_MS <= one.sent_ms <= at_ms + SKEW_MS


def _clear(left: Sequence[Candidate], at_ms: int) -> bool:
    """Whether the nearest stands alone, or far apart from the next."""
    if len(left) == 1:
        return True
    first, second = (abs(at_ms - one.sent_ms) for one in left[:2])
    return second - first >= APART_MS and second >= TIMES * first


def similarity(said: str, sent: str) -> float:
    """How much of the shorter text is found in the longer one, 0 to 1; 0 where either says too little to compare."""
    return _shared(_pairs(said), _pairs(sent))


def _shared(one: Counter[str], other: Counter[str]) -> float:
    least = min(one.total(), other.total())
    if least < LEAST_PAIRS:
        return 0.0
    return (one & other).total() / least


@lru_cache(maxsize=128)
def _pairs(text: str) -> Counter[str]:
    """How often each pair is there; kept for a while, for a campaign said the same to all. Not to be changed."""
    return Counter(map("".join, pairwise(folded(text))))


@lru_cache(maxsize=128)
def folded(text: str) -> str:
    """Letters and digits alone, in one width and case."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
