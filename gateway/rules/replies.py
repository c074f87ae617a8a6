"""What an inbound message means: a refusal, an exact yes, "only bills and notices", a call for help, or none of these.

Pure and bounded: the receiver reads every reply with it before the carrier is answered. A word of the pack's lists
counts whatever its case, width, spaces, punctuation, emoji or traditional characters, and only where the reply is that
word. What refuses or calls for help in free text is said by the pack's phrases (`rules.phrases`), or is
like what people refused with (`rules.likeness`), and is marked as inferred. Nothing but an exact word ever affirms, and
it means something only to somebody who was asked: whether they were is `settle`'s to know. First of all comes refusal:
no text is both.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from gateway.rules.likeness import left
from gateway.rules.pack import Pack
from gateway.rules.phrases import plain
from gateway.rules.wording import bare

ASKS = "?"
"""Who writes `Y?` has not said yes."""
_APART = re.compile(r"(?<![a-z0-9])[a-z](?![a-z0-9])")
STRIPS = 6
"""Words of politeness that are taken off a reply at most."""


class Meaning(StrEnum):
    """What a reply means."""

    REFUSAL = "refusal"
    KEEP = "keep"
    """Promotions end, bills and notices stay."""
    AFFIRMATION = "affirmation"
    HELP = "help"
    OTHER = "other"


class Read(NamedTuple):
    """A reply as it was read. `inferred`: by what the text says, not by an exact word."""

    meaning: Meaning
    inferred: bool = False


def read(text: str, pack: Pack) -> Read:
    """What a reply means by a pack's words and phrases."""
    folded = plain(text, pack.same)
    word = bare(folded)
    exact = _exactly(word, folded, pack)
    if exact is not None:
        return Read(exact)
    if _again(word, pack) or _politely(word, folded, pack) or any(one.said(folded) for one in pack.refusals):
        return Read(Meaning.REFUSAL, inferred=True)
    if any(one.said(folded) for one in pack.calls):
        return Read(Meaning.HELP, inferred=True)
    rest = left(folded, pack.refusals)
    if pack.like is not None and rest is not None and pack.like.refuses(rest):
        return Read(Meaning.REFUSAL, inferred=True)
    return Read(Meaning.OTHER)


def _exactly(word: str, folded: str, pack: Pack) -> Meaning | None:
    """What a reply means that is a word of the pack's lists."""
    if word in pack.refusal_words:
        return Meaning.REFUSAL
    if word in pack.keep_words:
        return Meaning.KEEP
    if word in pack.affirmative_words and ASKS not in folded:
        return Meaning.AFFIRMATION
    return Meaning.HELP if word in pack.help_words else None


def _again(word: str, pack: Pack) -> bool:
    """Whether it is one refusal word, said over and over; a letter says it from the third time on."""
    size = (word + word).find(word, 1)
    least = 2 if size > 1 else 3
    return least * size <= len(word) and word[:size] in pack.refusal_words


def _politely(word: str, folded: str, pack: Pack) -> bool:
    """Whether it is a refusal word with nothing but politeness around it; a letter stands apart: "hit" is not hi, T."""
    for _ in range(STRIPS):
        around = next((one for one in pack.courtesy if word.startswith(one) or word.endswith(one)), None)
        if around is None:
            return False
        word = word[len(around) :] if word.startswith(around) else word[: -len(around)]
        if word in pack.refusal_words:
            return len(word) > 1 or not word.isascii() or _APART.search(folded) is not None
    return False
