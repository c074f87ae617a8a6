"""Phrases of a language, written so that a lawyer can read them, and found in what people write.

Owns the notation of a pack's `free_text` and the two views of a text that phrases are looked for in. Pure, and bounded:
a text is at most `MOST` characters, every repetition has a limit, so no text costs more than its length.

A phrase is a row of elements with spaces between:

    word        this word                       a|b         one of these
    {list}      one of the language's list      {list}*     none to a few of them      x?   there or not
    ..          a few words of one sentence     ...         the same, across sentences
    ^ and $     a sentence begins, ends         !x          not followed by x (also !{list})

`words` of a language are written without spaces in the text (Chinese: `joined`) or with them. A phrase of `except` is
crossed out before those of `refuse` are looked for, so it takes their meaning away.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

MOST = 500
"""Characters of a reply that are read; what somebody means stands at its beginning."""
_REPEAT = {True: "{0,4}", False: "{0,6}"}
"""By `joined`: what is written without spaces can be taken apart in many ways."""
_ELEMENT = re.compile(r"(!?)(\^|\$|\.\.\.?|\{[a-z_]+\}|[^{}^$?*!]+)([?*]?)")
_APOSTROPHES = str.maketrans("", "", "'’‘`´")
_BLANK = re.compile(r"[^\S\n]+")
_JOINED = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[a-z]")
_DRAWN_OUT = re.compile(r"([a-z])\1{2,}")
_WORDS = re.compile(r"[a-z0-9]+|[^a-z0-9\s]")
SHORTEST = 4
"""Letters of a text that says something in a language that is written with spaces."""
EDGE, GAP = "|", "#"
"""A sentence's end, and what was crossed out, in a view."""


class PhraseError(ValueError):
    """A phrase that is not of the notation; the text says which and why."""


def plain(text: str, same: Mapping[int, str]) -> str:
    """The first `MOST` characters in plain form: width, case, invisible characters, `same` (traditional characters)."""
    folded = unicodedata.normalize("NFKC", text[:MOST]).casefold()[:MOST]
    if folded.isascii():
        return folded
    return "".join([one for one in folded if unicodedata.category(one) not in ("Cf", "Mn")]).translate(same)


def joined(text: str) -> str:
    """A plain text as Chinese is read: letters and digits, spaces dropped, sentences between edges."""
    found = [one if one.isalnum() else EDGE for one in text if not one.isspace() or one == "\n"]
    return EDGE + "".join(found) + EDGE


def spaced(text: str, near: Mapping[str, int]) -> str:
    """A plain text as English is read: words between single spaces; whatever is no Latin word ends a sentence.

    `near`: words that are recognised although misspelt, and by how many letters.
    """
    letters = _DRAWN_OUT.sub(r"\1", text.translate(_APOSTROPHES))
    words = _WORDS.findall(letters.replace("-", " ").replace("\n", "."))
    known = {word: _recognised(word, near) if word[0].isalnum() else EDGE for word in set(words)}
    return f" {EDGE} {' '.join([known[word] for word in words])} {EDGE} "


def _recognised(word: str, near: Mapping[str, int]) -> str:
    for known, most in near.items():
        if word[0] == known[0] and abs(len(word) - len(known)) <= most and _within(most, word, known):
            return known
    return word


def _within(most: int, one: str, other: str) -> bool:
    """Whether so few letters are inserted, dropped, changed or swapped with a neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > most:  # later rows are no lower
            return False
    return row[-1] <= most


class Phrases:
    """What is said in a language in many ways, compiled: its phrases, and what takes their meaning away."""

    __slots__ = ("_except", "_joined", "_near", "_said")

    def __init__(
        self,
        words: Mapping[str, Sequence[str]],
        phrases: Iterable[str],
        unless: Iterable[str],
        *,
        joined: bool,
        near: Mapping[str, int],
    ) -> None:
        """Raises PhraseError for a phrase that is not of the notation, or names a list that is not in `words`."""
        self._joined, self._near = joined, near
        self._said = _compiled(phrases, words, joined=joined)
        self._except = _compiled(unless, words, joined=joined)

    def said(self, text: str) -> bool:
        """Whether a plain text says what one of the phrases says, somewhere where no exception covers it."""
        if not self._joined and _LATIN.search(text) is None:
            return False
        if not self._joined:
            return self._says(spaced(text, self._near), f" {GAP} ")
        apart = _BLANK.sub(EDGE, text.strip())  # "不要 退订" may be two sentences: whoever may mean a refusal does
        return self._says(joined(text), GAP) or (EDGE in apart and self._says(joined(apart), GAP))

    def left(self, text: str) -> str | None:
        """What is left of a text of this language when its exceptions are crossed out; None: of another, of none."""
        if self._joined:
            return self._except.sub(GAP, joined(text)) if _JOINED.search(text) else None
        if len(_LATIN.findall(text)) < SHORTEST or _JOINED.search(text):
            return None
        return self._except.sub(f" {GAP} ", spaced(text, self._near))

    def _says(self, view: str, gap: str) -> bool:
        if self._said.search(view) is None:
            return False
        return self._said.search(self._except.sub(gap, view)) is not None


def _compiled(phrases: Iterable[str], words: Mapping[str, Sequence[str]], *, joined: bool) -> re.Pattern[str]:
    found = [_phrase(phrase, words, joined=joined) for phrase in phrases]
    if not found:
        return re.compile("(?!)")
    # Every element of a spaced phrase begins with a space: `re` then tries the phrases at those alone.
    return re.compile(_tree(found) if joined else f"(?= )(?:{_tree(found)})")


def _tree(phrases: Iterable[Sequence[str]]) -> str:
    """Any of the phrases; what several begin with is tried once for all of them."""
    rest: dict[str, list[Sequence[str]]] = {}
    for first, *more in filter(None, phrases):
        rest.setdefault(first, []).append(more)
    return "|".join(first if [] in more else f"{first}(?:{_tree(more)})" for first, more in rest.items())


def _phrase(phrase: str, words: Mapping[str, Sequence[str]], *, joined: bool) -> Sequence[str]:
    parts = [_part(written, words, phrase, joined=joined) for written in phrase.split()]
    if not parts:
        raise PhraseError("a phrase is empty")
    return parts


def _part(written: str, words: Mapping[str, Sequence[str]], phrase: str, *, joined: bool) -> str:
    match = _ELEMENT.fullmatch(written)
    if match is None:
        raise PhraseError(f"{phrase!r}: {written!r} is not of the notation")
    denied, core, times = match.groups()
    if core in _ANY[joined]:
        if denied or times:
            raise PhraseError(f"{phrase!r}: {core} stands alone")
        return _ANY[joined][core]
    named = core[0] == "{"
    if named and core[1:-1] not in words:
        raise PhraseError(f"{phrase!r}: there is no list {core}")
    one = _one_of(words[core[1:-1]] if named else core.split("|"), joined=joined)
    if denied:
        return f"(?!{one})"
    return one + {"": "", "?": "?", "*": _REPEAT[joined]}[times]


def _one_of(words: Iterable[str], *, joined: bool) -> str:
    """Any of the words, longer ones first. A word that ends with a space in a view needs no look ahead."""
    longest = sorted({word.translate(_APOSTROPHES) for word in words}, key=lambda word: (-len(word), word))
    if joined:
        return f"(?:{'|'.join(re.escape(word.replace(' ', '')) for word in longest)})"
    return f"(?: (?:{'|'.join(re.escape(word) for word in longest)})(?= ))"


_ANY = {
    True: {"^": r"(?<=\|)", "$": r"(?=\|)", "..": "[^|#]{0,6}", "...": "[^#]{0,12}"},
    False: {"^": r"(?<=\|)", "$": r"(?= \|)", "..": "(?: [^ |#]+(?= )){0,4}", "...": "(?: [^ #]+(?= )){0,8}"},
}
