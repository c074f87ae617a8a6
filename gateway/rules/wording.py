"""How words are found in a text that may be written to hide them.

Owns folding and the patterns built from a pack's word lists. A word is found whatever its case and width (Ａ is a), and
with spaces or invisible characters between its letters; a Latin word only as a whole word. Pure.

The patterns run on the raw text, because folding each text costs more than searching it: the plain variants of a letter
are part of the pattern, and only a text with rarer compatibility forms (`rare`) is folded first.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator

_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0"
)
_BETWEEN = rf"[\s{_INVISIBLE}]*"
_LATIN = "A-Za-zＡ-Ｚａ-ｚ"
_WIDTH = 0xFEE0  # from ASCII to its full-width form
BLANK = (
    " \t\n\r\v\f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
)
"""What a text may begin and end with without meaning anything, for `str.strip`."""

# BMP first, then one range: `re` scans such a set at a few nanoseconds a character, and two ranges at twice that.
_RARE = re.compile(
    "[ªº²³¹\u0300-\u036f\u1d00-\u1dbf\u2070-\u209f\u2100-\u218f\u2460-\u24ff\u2e80-\u2fdf\u3200-\u33ff\uf900-\ufaff"
    "\ufb00-\ufb06\ufe30-\ufe6f\U0001d400-\U0001f2ff]"
)
_COMMON = frozenset("一二三四五六七八九十大小中下上全会员第件买购现至立满低年时得免送加包开到单款仓利欢场订复回请收")


def fold(text: str) -> str:
    """The text in its plain form: NFKC (width, circles, compatibility ideographs) without case."""
    return unicodedata.normalize("NFKC", text).casefold()


def bare(text: str) -> str:
    """The folded text's letters and digits alone: what two spellings of one word have in common."""
    return "".join(filter(str.isalnum, fold(text)))


def rare(text: str) -> bool:
    """Whether folding could reveal a word that `Words` does not see in the text as written."""
    return _RARE.search(text) is not None


class Words:
    """A list of words, compiled.

    Two patterns: Latin words, whose first letters are few, and all others. The others are tried only on a text that has
    one of their anchors, each word's least common character: a pattern that stops at every digit costs ten times more.
    """

    __slots__ = ("_anchors", "_latin", "_other")

    def __init__(self, words: Iterable[str]) -> None:
        plain = {"".join(fold(word).split()) for word in words}
        latin = {word for word in plain if _is_latin(word[0])}
        anchors = {form for word in plain - latin for form in _variants(_anchor(word))}
        self._latin = _pattern(latin)
        self._other = _pattern(plain - latin)
        self._anchors = re.compile(f"[{''.join(map(re.escape, sorted(anchors)))}]" if anchors else "(?!)")

    def found(self, text: str) -> bool:
        """Whether any word stands in the text."""
        return next(self.matches(text), None) is not None

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        """Every place where a word stands, overlapping ones too: the non-Latin words in order, then the Latin ones."""
        if self._anchors.search(text) is not None:
            yield from _each(self._other, text)
        yield from _each(self._latin, text)


def _each(words: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    match = words.search(text)
    while match is not None:
        yield match
        match = words.search(text, match.start() + 1)


def _anchor(word: str) -> str:
    return next((letter for letter in reversed(word) if not letter.isascii() and letter not in _COMMON), word[0])


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """What finds any of the words. Longer words are tried first where they begin alike."""
    tails: defaultdict[str, list[str]] = defaultdict(list)
    for word in sorted(words, key=lambda word: (-len(word), word)):
        for first in _variants(word[0]):
            tails[first].append(_tail(word))
    # Each alternative starts with a literal: `re` then skips to the first letter that can start a word at all.
    branches = [
        re.escape(letter) + (f"(?:{'|'.join(rest)})" if len(rest) > 1 else rest[0]) for letter, rest in tails.items()
    ]
    return re.compile("|".join(branches) if branches else "(?!)")


def _variants(letter: str) -> list[str]:
    forms = {letter, letter.upper()}
    forms |= {chr(ord(form) + _WIDTH) for form in tuple(forms) if "!" <= form <= "~"}
    return sorted(form for form in forms if len(form) == 1)


def _tail(word: str) -> str:
    whole = f"(?<![{_LATIN}].)" if _is_latin(word[0]) else ""
    rest = "".join(f"{_BETWEEN}[{''.join(map(re.escape, _variants(letter)))}]" for letter in word[1:])
    if _is_latin(word[-1]):
        return f"{whole}{rest}(?![{_LATIN}])"
    return f"{whole}{rest}(?![0-9０-９])" if word[-1].isdecimal() else f"{whole}{rest}"


def _is_latin(letter: str) -> bool:
    return letter.isascii() and letter.isalpha()
