"""The console's words: a dictionary for each language, in data files, with the same keys in each.

Promises: a missing key is a fault that names it, never an empty page; a test holds the files against each other.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Final

LANGUAGES: Final = {"zh": "zh-CN", "en": "en-US"}
"""Ours, and as a page declares it."""


class Words:
    """One language."""

    def __init__(self, lang: str, told: dict[str, str]) -> None:
        self.lang, self._told = lang, told

    def __getitem__(self, key: str) -> str:
        return self._told[key]

    def __call__(self, key: str, **values: object) -> str:
        """The words of a key, with values filled in."""
        return self._told[key].format(**values)

    def __contains__(self, key: str) -> bool:
        return key in self._told

    def get(self, key: str, otherwise: str) -> str:
        """The words of a key that data made, such as a code or a kind."""
        return self._told.get(key, otherwise)

    def keys(self) -> set[str]:
        """Every key."""
        return set(self._told)


@cache
def words(lang: str) -> Words:
    """A language's words: every file of its folder."""
    folder = files("gateway.console").joinpath("words", lang)
    told: dict[str, str] = {}
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if file.name.endswith(".toml"):
            found = tomllib.loads(file.read_text("utf-8"))
            twice = told.keys() & found.keys()
            if twice:
                raise ValueError(f"{file.name} says {sorted(twice)} again")
            told |= found
    return Words(lang, told)


def preferred(accept: str) -> str:
    """The language that an Accept-Language header likes best of ours; Chinese where it names none of them."""
    ranked: list[tuple[float, str]] = []
    for part in accept.split(",")[:20]:
        tag, _, weight = part.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        if primary in LANGUAGES:
            try:
                ranked.append((float(weight.strip().removeprefix("q=") or 1), primary))
            except ValueError:
                continue
    best = max(ranked, key=lambda one: one[0], default=(0.0, "zh"))
    return best[1] if best[0] > 0 else "zh"
