"""What a pack's file may not say, beyond the shape of its keys.

Pure. `references` works on the raw table, so that one load reports names that stand for nothing together with wrong
types; `contradictions` on a table of the right shape.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.contract.consent import Kind
from gateway.contract.decision import Basis, Class
from gateway.rules import shape
from gateway.rules.phrases import PhraseError, Phrases
from gateway.rules.wording import bare

Problem = tuple[tuple[str | int, ...], str]
"""A path in the file, and what is wrong there."""


def references(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Names that stand for nothing, looked for before types are known so that one load reports everything."""
    sources = raw.get("sources")
    known = sources if isinstance(sources, dict) else {}
    for path, table in _tables(raw, ()):
        if path[:1] != ("sources",) and isinstance(table.get("source"), str) and table["source"] not in known:
            yield (*path, "source"), f"unknown source {table['source']!r}"
    windows, purposes = raw.get("windows"), raw.get("purposes")
    for name, purpose in purposes.items() if isinstance(purposes, dict) else ():
        used = purpose.get("windows") if isinstance(purpose, dict) else None
        for window in used if isinstance(used, list) else ():
            if isinstance(window, str) and not shape.is_limit(window) and window not in (windows or {}):
                yield ("purposes", name, "windows"), f"unknown window {window!r}"


def _tables(
    raw: Mapping[str, Any], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    for key, value in raw.items():
        rows = enumerate(value) if path == () and isinstance(value, list) else ()
        for place, table in [((*path, key), value), *((((*path, key, n), row)) for n, row in rows)]:
            if isinstance(table, dict):
                yield place, table
                yield from _tables(table, place)


def contradictions(table: shape.PackTable) -> Iterator[Problem]:
    """What has the right shape and cannot be meant."""
    if shape.minute_of(table.hours.start) >= shape.minute_of(table.hours.end):
        yield ("hours", "end"), "ends before it starts"
    if table.signature.min > table.signature.max:
        yield ("signature", "max"), "is less than min"
    if table.refusal_text.add not in table.refusal_text.accepted:
        yield ("refusal_text", "add"), "is not among the accepted forms"
    refusing = set(map(bare, (*table.refusal_words.words, *table.refusal_text.accepted)))
    for word in table.affirmative_words.words:
        if not bare(word) or bare(word) in refusing:
            yield ("affirmative_words", "words"), f"{word!r} is empty, or refuses"
    yield from _replies(table)
    needed: dict[str, tuple[Iterable[str], Iterable[str]]] = {
        "classes": (Class, table.classes),
        "kinds": (Kind, table.kinds),
        "bases": (Basis, table.bases),
        "rules": (shape.RULES, table.rules),
    }
    for key, (names, present) in needed.items():
        for name in sorted(set(names) - set(present)):
            yield (key,), f"{name} is missing"
    yield from _retained(table.retention)
    yield from _answers(table)
    yield from _breaker(table.breaker)
    for name, purpose in table.purposes.items():
        for key, what in _misfits(purpose):
            yield ("purposes", name, key), what


def _replies(table: shape.PackTable) -> Iterator[Problem]:
    """One word has one meaning, a pair two characters, and phrases their notation."""
    meant: dict[str, str] = {}
    exact = {
        "refusal_words": table.refusal_words.words,
        "affirmative_words": table.affirmative_words.words,
        "keep_words": table.keep_words.words,
        "help_words": table.help_words.words,
    }
    for key, words in exact.items():
        for word in words:
            if meant.setdefault(bare(word), key) != key:
                yield (key, "words"), f"{word!r} is one of {meant[bare(word)]} too"
    for pair in table.folding.same:
        if pair[0] == pair[1]:
            yield ("folding", "same"), f"{pair!r} is a character and itself"
    for name, language in table.free_text.languages.items():
        for key, phrases in (("refuse", language.refuse), ("except", language.unless), ("help", language.help)):
            for phrase in phrases:
                try:
                    Phrases(language.words, [phrase], (), joined=language.joined, near={})
                except PhraseError as fault:
                    yield ("free_text", "languages", name, key), str(fault)


def _answers(table: shape.PackTable) -> Iterator[Problem]:
    """What is answered has a purpose made for it, and a yes grants only what consent can permit."""
    for key, basis in (("opt_out", Basis.OPT_OUT), ("help", Basis.REQUEST)):
        purpose = table.purposes.get(getattr(table.answers, key))
        if purpose is None or purpose.basis is not basis:
            yield ("answers", key), f"is no purpose on basis {basis.value!r}"
    permitted = {
        name for name, one in table.purposes.items() if one.cls is Class.MARKETING and one.basis is Basis.CONSENT
    }
    permitted |= {name.partition(".")[0] for name in permitted}
    for name, purpose in table.purposes.items():
        for topic in purpose.asks.topics if purpose.asks else ():
            if topic not in permitted:
                yield ("purposes", name, "asks"), f"{topic} is no marketing topic that consent permits"


def _retained(rows: tuple[shape.RetentionTable, ...]) -> Iterator[Problem]:
    for n, row in enumerate(rows):
        if row.since != shape.SINCE[row.what]:
            yield ("retention", n, "since"), f"{row.what} are counted from the {shape.SINCE[row.what]}"
        if row.what in [other.what for other in rows[:n]]:
            yield ("retention", n, "what"), f"{row.what} have a row already"
        if (row.keep == shape.FOR_GOOD) != (row.what == "refusals"):
            yield ("retention", n, "keep"), "refusals are kept for good, and nothing else is"


def _breaker(table: shape.BreakerTable) -> Iterator[Problem]:
    if table.calm >= table.warn:
        yield ("breaker", "calm"), "is not below warn"
    for name, line in table.lines.items():
        if line.ppm is None and line.most is None:
            yield ("breaker", "lines", name), "is no line: it has neither ppm nor most"
        if line.few is not None and line.most is not None and line.few > line.most:
            yield ("breaker", "lines", name, "few"), "is more than most"


def _misfits(purpose: shape.PurposeTable) -> Iterator[tuple[str, str]]:
    by_act = purpose.basis in {Basis.REQUEST, Basis.OPT_OUT}
    if by_act and purpose.request_life is None:
        yield "basis", "a person's act needs request_life"
    if not by_act and purpose.request_life is not None:
        yield "request_life", f"has no meaning on basis {purpose.basis.value!r}"
    if purpose.basis is Basis.RELATIONSHIP and not purpose.kinds:
        yield "basis", "a relationship needs kinds"
    if purpose.basis is not Basis.RELATIONSHIP and purpose.kinds:
        yield "kinds", f"has no meaning on basis {purpose.basis.value!r}"
    if by_act and purpose.topics:
        yield "topics", f"has no meaning on basis {purpose.basis.value!r}"
    if purpose.cls is Class.MARKETING and purpose.refusal_text != "required":
        yield "refusal_text", "marketing needs its refusal text"
    if not by_act and not purpose.windows:
        yield "windows", "only a single-use act may go without a window"
    if len(set(purpose.windows)) < len(purpose.windows):
        yield "windows", "names a window twice"
