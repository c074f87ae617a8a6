"""A rule pack: one jurisdiction's purposes, words, hours and windows, loaded from TOML and checked as a whole.

Owns the packaged files in `packs/` and the compiled `Pack` that the other rules read. `load` either gives a whole,
consistent pack or raises `PackError` with every problem, each with file and line; a process that cannot load its pack
does not start. Nothing here, or in any other module of this room, knows a purpose by name.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import orjson
from pydantic import ValidationError

from gateway.contract.consent import Kind
from gateway.contract.decision import Basis, Class, Reason
from gateway.rules import checks, lines, shape
from gateway.rules.breaker import Line, Lines
from gateway.rules.likeness import Likeness
from gateway.rules.phrases import Phrases, plain
from gateway.rules.wording import Words, bare

if TYPE_CHECKING:
    from gateway.rules.plan import Plan

_ASSIGNED = re.compile(r"\(at line (\d+), column \d+\)")


class PackError(Exception):
    """A pack that cannot be used; `problems` are `file:line: what`, every one that was found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Source:
    """Where a rule comes from."""

    kind: Literal["law", "carrier", "standard", "default"]
    title: str
    title_zh: str


@dataclass(frozen=True, slots=True)
class WindowRule:
    """At most `limit` in `period_ms` (or in the local calendar day). `shared`: the shared window it is part of."""

    limit: int
    period_ms: int
    calendar: bool
    written: str
    scope: Literal["purpose", "sender", "all"]
    shared: str | None
    weekly: bool
    source: Source


@dataclass(frozen=True, slots=True)
class Retention:
    """What outlasts a demand for erasure (`rules.retention`)."""

    what: shape.What
    months: int | None
    """Calendar months; none: for good."""
    zone: ZoneInfo
    """Where its days begin and end."""
    title: str
    title_zh: str
    source: Source


@dataclass(frozen=True, slots=True)
class Cleansing:
    """Whom a cleansing of a list finds (`rules.cleansing`). Months are calendar months of `zone`."""

    engaged_months: int
    consent_months: int
    dead_days: int
    recycled_months: int
    silent_months: int
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Asks:
    """What an exact yes in answer to a message is consent to."""

    topics: tuple[str, ...]
    max_per_week: int
    valid_s: int
    within_ms: int
    """How long after the message the yes may come."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a message is for, and with it everything the pack asks of the message."""

    name: str
    cls: Class
    basis: Basis
    kinds: tuple[Kind, ...]
    """Relationship kinds that permit it."""
    topics: tuple[str, ...]
    """Consent topics that permit it, in order."""
    ignored_reasons: int
    """Bitmask `1 << Reason`: suppressions that do not stop it."""
    approved_ignored_reasons: int
    """The same for a message that carries a named approval."""
    stopped_by: tuple[Class, ...]
    """Classes whose suppression stops it: its own, and those it would otherwise get round."""
    refusal_text: Literal["required", "forbidden", "optional"]
    quiet: bool
    """Whether it keeps to the pack's hours."""
    windows: tuple[WindowRule, ...]
    same_text_ms: int
    """The same text not again within this time; 0 for no such rule."""
    same_text_source: Source | None
    request_life_s: int | None
    """How old the person's own act may be; set where one act permits one message."""
    port_use: Literal["service", "marketing"]
    promotional: bool
    exceptions: Words
    """What is not promotional although it contains a promotional word."""
    refused: shape.Refused
    """What a refusal in answer to it ends."""
    asks: Asks | None
    """Where it is a question: what a yes grants."""
    title: str
    title_zh: str
    example: str
    source: Source

    @property
    def single_use(self) -> bool:
        """Whether each message uses up a person's act (a request, an opt-out)."""
        return self.request_life_s is not None


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """One loaded pack, immutable but for the plans compiled from it so far."""

    name: str
    version: str
    """Name and version, for example `cn@2026.11`."""
    zone: ZoneInfo
    zone_name: str
    hours: tuple[int, int]
    """Minutes of the local day: from, until."""
    purposes: Mapping[str, Purpose]
    refusal_text: str
    """What is added to a text that needs a way out and has none."""
    refusal_texts: Words
    """The forms taken as present."""
    refusal_hints: Words
    """Those and every other form recognised where none is allowed."""
    refusal_words: frozenset[str]
    """What a person writes to refuse, bare (see `wording.bare`)."""
    affirmative_words: frozenset[str]
    """What a person writes to confirm an opt-in of theirs, bare; never a refusal word."""
    keep_words: frozenset[str]
    """What ends promotions and keeps notices, bare."""
    help_words: frozenset[str]
    same: Mapping[int, str]
    """Characters read as others, for `str.translate`."""
    courtesy: tuple[str, ...]
    """Politeness around an exact word, bare, longer ones first."""
    refusals: tuple[Phrases, ...]
    """How people refuse in free text, a language each."""
    like: Likeness | None
    """What is like a refusal although no phrase says so."""
    calls: tuple[Phrases, ...]
    """How they call for help, a language each."""
    route_tested_ms: int
    """How long a test of a port's reply route counts."""
    promotional: Words
    retention: tuple[Retention, ...]
    breaker: Lines
    """What opens a breaker by itself."""
    cleansing: Cleansing
    notice: str
    """That this pack is a default for a lawyer to review."""
    notice_zh: str
    table: shape.PackTable
    """The file as written: titles, sources, limits."""
    plans: dict[tuple[str, str], "Plan"] = field(default_factory=dict, repr=False)

    def source(self, name: str) -> Source:
        """The source that a rule names."""
        return _source(self.table, name)

    def expires_s(self, kind: Kind, occurred_s: int, expires_s: int | None) -> int:
        """When a relationship ends (Unix s; 0: while it lasts): as its record says, else by its kind's default life."""
        if expires_s is not None:
            return expires_s
        life = self.table.kinds[kind].life
        return 0 if life is None else occurred_s + shape.period_ms(life) // 1000


def names() -> list[str]:
    """The packs that come with the gateway."""
    found = (Path(entry.name) for entry in (resources.files("gateway.rules") / "packs").iterdir())
    return sorted(entry.stem for entry in found if entry.suffix == ".toml")


def written(name: str) -> str:
    """The text of a pack that is here, as a person wrote it."""
    return (resources.files("gateway.rules") / f"packs/{name}.toml").read_text(encoding="utf-8")


def load(path_or_name: str) -> Pack:
    """The pack of that name, or in that `.toml` file. Raises `PackError` with every problem found."""
    if path_or_name.endswith(".toml"):
        try:
            text, where = Path(path_or_name).read_text(encoding="utf-8"), path_or_name
        except (OSError, UnicodeDecodeError) as fault:
            raise PackError([f"{path_or_name}:1: cannot be read ({type(fault).__name__})"]) from fault
    elif path_or_name in names():
        where, text = f"packs/{path_or_name}.toml", written(path_or_name)
    else:
        raise PackError([f"{path_or_name}:1: there is no such pack; there are {', '.join(names())}"])
    return compiled(_table(text, where))


def _table(text: str, where: str) -> shape.PackTable:
    """The text as a checked table."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        at = _ASSIGNED.search(str(fault))
        line = int(at[1]) if at else len(text.splitlines()) or 1
        raise PackError([f"{where}:{line}: not TOML: {_ASSIGNED.sub('', str(fault)).strip()}"]) from fault
    problems = list(checks.references(raw))
    table = None
    try:
        table = shape.PackTable.model_validate_json(orjson.dumps(raw))
    except ValidationError as fault:
        problems += [(error["loc"], _said(error["msg"], error["type"])) for error in fault.errors(include_url=False)]
    else:
        problems += checks.contradictions(table)
    if table is None or problems:
        at_line = lines.index(text)
        found = {(lines.line_of(at_line, path), ".".join(map(str, path)), what) for path, what in problems}
        raise PackError([f"{where}:{line}: {path or 'pack'}: {what}" for line, path, what in sorted(found)])
    return table


def _said(message: str, kind: str) -> str:
    return "unknown key" if kind == "extra_forbidden" else message.removeprefix("Value error, ")


def compiled(table: shape.PackTable) -> Pack:
    """The pack that a checked table describes."""
    texts = table.refusal_text
    same = {ord(pair[0]): pair[1] for pair in table.folding.same}
    return Pack(
        name=table.name,
        version=f"{table.name}@{table.version}",
        zone=ZoneInfo(table.zone),
        zone_name=table.zone,
        hours=(shape.minute_of(table.hours.start), shape.minute_of(table.hours.end)),
        purposes={name: _purpose(name, row, table) for name, row in table.purposes.items()},
        refusal_text=texts.add,
        refusal_texts=Words(texts.accepted),
        refusal_hints=Words((*texts.accepted, *texts.other)),
        refusal_words=_exact((*table.refusal_words.words, *texts.accepted), same),
        affirmative_words=_exact(table.affirmative_words.words, same),
        keep_words=_exact(table.keep_words.words, same),
        help_words=_exact(table.help_words.words, same),
        same=same,
        courtesy=tuple(sorted(_exact(table.free_text.courtesy, same), key=lambda word: (-len(word), word))),
        refusals=tuple(_phrases(one, one.refuse, same, one.near) for one in table.free_text.languages.values()),
        like=_like(table.free_text.like),
        calls=tuple(_phrases(one, one.help, same, {}) for one in table.free_text.languages.values() if one.help),
        promotional=Words(table.promotional.words),
        route_tested_ms=shape.period_ms(table.reply_route.tested_within),
        retention=tuple(_retention(row, table) for row in table.retention),
        breaker=_breaker(table),
        cleansing=_cleansing(table),
        notice=table.notice,
        notice_zh=table.notice_zh,
        table=table,
    )


def _exact(words: Iterable[str], same: Mapping[int, str]) -> frozenset[str]:
    return frozenset(bare(plain(word, same)) for word in words)


def _phrases(
    table: shape.LanguageTable, phrases: Iterable[str], same: Mapping[int, str], near: Mapping[str, int]
) -> Phrases:
    words = {name: [plain(word, same) for word in listed] for name, listed in table.words.items()}
    return Phrases(words, phrases, table.unless, joined=table.joined, near=near)


def _like(table: shape.LikeTable | None) -> Likeness | None:
    """Raises PackError where the weights are missing or are others: they are as much the pack as its words."""
    if table is None:
        return None
    try:
        weights = (resources.files("gateway.rules") / f"packs/{table.weights}").read_text(encoding="utf-8")
        return Likeness(weights, table.sha256, table.least)
    except (OSError, ValueError) as fault:
        raise PackError([f"packs/{table.weights}:1: {fault}"]) from fault


def _retention(row: shape.RetentionTable, table: shape.PackTable) -> Retention:
    zone, source = ZoneInfo(table.zone), _source(table, row.source)
    return Retention(row.what, shape.months_of(row.keep), zone, row.title, row.title_zh, source)


def _breaker(table: shape.PackTable) -> Lines:
    rows = [
        Line(
            name,
            row.counts,
            frozenset(row.scopes),
            row.within,
            row.ppm,
            row.min_delivered,
            row.z,
            row.few,
            row.most,
            _source(table, row.source),
        )
        for name, row in table.breaker.lines.items()
    ]
    return Lines(table.breaker.warn, table.breaker.calm, tuple(rows))


def _cleansing(table: shape.PackTable) -> Cleansing:
    row = table.cleansing
    engaged, consent, recycled, silent = (
        shape.months_of(written) or 0
        for written in (row.engaged_within, row.consent_lasts, row.recycled_after, row.recycled_silent)
    )
    return Cleansing(engaged, consent, row.dead_days, recycled, silent, ZoneInfo(table.zone))


def _purpose(name: str, row: shape.PurposeTable, table: shape.PackTable) -> Purpose:
    of_class = table.classes[row.cls]
    shared = [table.windows[window] for window in row.windows if not shape.is_limit(window)]
    same_text = max((window for window in shared if window.same_text), key=_same_text_ms, default=None)
    own_topics = (name, name.partition(".")[0]) if row.basis is Basis.CONSENT else ()
    return Purpose(
        name=name,
        cls=row.cls,
        basis=row.basis,
        kinds=row.kinds,
        topics=tuple(dict.fromkeys((*own_topics, *row.topics))),
        ignored_reasons=_mask(row.ignores),
        approved_ignored_reasons=_mask((*row.ignores, *row.approved_ignores)),
        stopped_by=tuple(dict.fromkeys((row.cls, *row.stopped_by))),
        refusal_text=row.refusal_text,
        quiet=row.quiet,
        windows=tuple(rule for window in row.windows for rule in _windows(window, row, table)),
        same_text_ms=_same_text_ms(same_text) if same_text else 0,
        same_text_source=_source(table, same_text.source) if same_text else None,
        request_life_s=shape.period_ms(row.request_life) // 1000 if row.request_life else None,
        port_use=of_class.port,
        promotional=of_class.promotional,
        exceptions=Words((*table.promotional.exceptions, *row.names)),
        refused=row.refused,
        asks=_asks(row.asks) if row.asks else None,
        title=row.title,
        title_zh=row.title_zh,
        example=row.example,
        source=_source(table, row.source),
    )


def _asks(row: shape.AsksTable) -> Asks:
    return Asks(row.topics, row.max_per_week, shape.period_ms(row.valid) // 1000, shape.period_ms(row.within))


def _windows(written: str, row: shape.PurposeTable, table: shape.PackTable) -> Iterator[WindowRule]:
    if shape.is_limit(written):
        yield WindowRule(*shape.limit_of(written), written, "purpose", None, False, _source(table, row.source))
        return
    window = table.windows[written]
    for part in window.limits:
        rule = shape.limit_of(part.limit)
        yield WindowRule(*rule, part.limit, part.scope, written, part.weekly, _source(table, window.source))


def _same_text_ms(window: shape.WindowTable) -> int:
    return shape.period_ms(window.same_text) if window.same_text else 0


def _mask(reasons: tuple[str, ...]) -> int:
    mask = 0
    for reason in reasons:
        mask |= 1 << Reason[reason.upper()]
    return mask


def _source(table: shape.PackTable, name: str) -> Source:
    found = table.sources[name]
    return Source(found.kind, found.title, found.title_zh)
