"""The shape of a pack file: every key it may have, its type and its notation.

Owns the models that a pack's TOML is checked against, and its notations: periods ("10m"), limits ("5/1h", "3/day") and
how long a record is kept ("5 months", "for good").
Pure; a value that does not fit is an error with its path, which `pack` turns into file and line.
"""

import re
from typing import Annotated, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from gateway.contract.consent import Kind
from gateway.contract.decision import Basis, Class

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PERIOD = re.compile(r"([1-9][0-9]{0,4})([smhd])")
_LIMIT = re.compile(r"([1-9][0-9]?)/(day|[1-9][0-9]{0,4}[smhd])")
_KEEP = re.compile(r"([1-9][0-9]?) months")
FOR_GOOD = "for good"
MAX_LIMIT = 64
"""The longest log of times a window keeps (`guard`)."""


class Limit(NamedTuple):
    """At most `most` in `period_ms`; `calendar`: in the local calendar day instead of any 24 hours."""

    most: int
    period_ms: int
    calendar: bool


def period_ms(written: str) -> int:
    """A period such as "30s", "10m", "24h" or "180d"; ValueError when it is none."""
    match = _PERIOD.fullmatch(written)
    if match is None:
        raise ValueError(f"not a period such as 10m or 24h: {written!r}")
    return int(match[1]) * _UNITS_MS[match[2]]


def limit_of(written: str) -> Limit:
    """A limit such as "5/1h" (rolling) or "3/day" (calendar); ValueError when it is none."""
    match = _LIMIT.fullmatch(written)
    if match is None or int(match[1]) > MAX_LIMIT:
        raise ValueError(f"not a limit such as 5/1h or 3/day, at most {MAX_LIMIT}: {written!r}")
    calendar = match[2] == "day"
    return Limit(int(match[1]), _UNITS_MS["d"] if calendar else period_ms(match[2]), calendar)


def months_of(written: str) -> int | None:
    """How many calendar months "5 months" names; none for "for good"; ValueError for anything else."""
    if written == FOR_GOOD:
        return None
    match = _KEEP.fullmatch(written)
    if match is None:
        raise ValueError(f"not a time to keep such as 5 months, or for good: {written!r}")
    return int(match[1])


def _months(written: str) -> str:
    if months_of(written) is None:
        raise ValueError("needs an end: so many months")
    return written


def is_limit(written: str) -> bool:
    """Whether a purpose's window is a limit of its own; otherwise it names a shared window."""
    return "/" in written


def minute_of(written: str) -> int:
    """The minute of the day that `HH:MM` names; 24:00 is the day's end."""
    return int(written[:2]) * 60 + int(written[3:])


def _period(written: str) -> str:
    period_ms(written)
    return written


def _limit(written: str) -> str:
    limit_of(written)
    return written


def _window(written: str) -> str:
    return _limit(written) if is_limit(written) else written


def _keep(written: str) -> str:
    months_of(written)
    return written


def _zone(written: str) -> str:
    try:
        ZoneInfo(written)
    except (ZoneInfoNotFoundError, ValueError, OSError) as fault:
        raise ValueError(f"not a time zone: {written!r}") from fault
    return written


Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Words = Annotated[tuple[Text, ...], Field(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Shared = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]{0,7}$")]
Dotted = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}(\.[a-z_]{1,32}){0,2}$")]
Time = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
Period = Annotated[str, AfterValidator(_period)]
Written = Annotated[str, AfterValidator(_limit)]
Windowed = Annotated[str, AfterValidator(_window)]
Keep = Annotated[str, AfterValidator(_keep)]
Months = Annotated[str, AfterValidator(_months)]
Zone = Annotated[str, AfterValidator(_zone)]
Refused = Literal["purpose", "marketing", "sender"]
"""What a refusal in answer to a message ends: its purpose, the sender's marketing, or everything of the sender."""
ReasonName = Literal["opt_out", "complaint", "dead_number", "manual", "carrier", "regulator"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceTable(_Table):
    """Where a rule comes from: a law, a carrier's terms, a standard, or this pack's own default."""

    kind: Literal["law", "carrier", "standard", "default"]
    title: Text
    title_zh: Text


class SignatureTable(_Table):
    """The brackets around a sender's name, and how long the name may be."""

    open: Annotated[str, StringConstraints(min_length=1, max_length=1)]
    close: Annotated[str, StringConstraints(min_length=1, max_length=1)]
    min: Annotated[int, Field(ge=1)]
    max: Annotated[int, Field(ge=1)]
    source: Name


class LengthTable(_Table):
    """The longest text, in UTF-16 units, everything included."""

    max: Annotated[int, Field(ge=1, le=2000)]
    source: Name


class RefusalTextTable(_Table):
    """The way out that a text offers: what is added, what is taken as present, what else is recognised."""

    add: Text
    accepted: Words
    other: tuple[Text, ...] = ()
    source: Name


class WordsTable(_Table):
    """The words by which a person refuses, or agrees to what they were just asked to confirm."""

    words: Words
    source: Name


class FoldingTable(_Table):
    """Pairs of characters: the first is read as the second."""

    same: tuple[Annotated[str, StringConstraints(min_length=2, max_length=2)], ...]
    source: Name


class LanguageTable(_Table):
    """How people refuse in free text in one language, and call for help, in the notation of `rules.phrases`."""

    joined: bool
    near: dict[str, Annotated[int, Field(ge=1, le=3)]] = {}
    refuse: Words
    unless: tuple[Text, ...] = Field(default=(), alias="except")
    help: tuple[Text, ...] = ()
    words: dict[Name, Words] = {}


class LikeTable(_Table):
    """What is learned about free text: the file of weights beside the packs, and from which sum on a text refuses."""

    weights: Annotated[str, StringConstraints(pattern=r"^[a-z.]+\.tsv$")]
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
    least: int


class FreeTextTable(_Table):
    """What a person says who writes none of the exact words."""

    courtesy: tuple[Text, ...] = ()
    like: LikeTable | None = None
    languages: dict[Name, LanguageTable]
    source: Name


class AnswerTexts(_Table):
    """What is answered in one language; `{sender}` is the sender's signature."""

    marketing: Text
    purpose: Text
    sender: Text
    keep: Text
    help: Text


class AnswersTable(_Table):
    """What the gateway itself answers to a reply: under which purposes, how long it may still do so, in which words."""

    opt_out: Dotted
    help: Dotted
    life: Period
    texts: Annotated[dict[Name, AnswerTexts], Field(min_length=1)]
    source: Name


class ReplyRouteTable(_Table):
    """How long ago a port's reply route must have been seen to work."""

    tested_within: Period
    source: Name


class PromotionalTable(_Table):
    """The words that make a text promotional, and what merely contains them."""

    words: Words
    exceptions: tuple[Text, ...] = ()
    source: Name


class HoursTable(_Table):
    """The local hours in which quiet purposes may be sent."""

    start: Time
    end: Time
    source: Name


class ClassTable(_Table):
    """A class: the use of the port it goes through, and whether it may promote."""

    title: Text
    title_zh: Text
    port: Literal["service", "marketing"]
    promotional: bool
    source: Name


class KindTable(_Table):
    """A relationship kind and its default life."""

    title: Text
    title_zh: Text
    life: Period | None = None
    source: Name


class LimitTable(_Table):
    """One limit of a shared window: per sender, or over all senders."""

    limit: Written
    scope: Literal["sender", "all"]
    weekly: bool = False


class BasisTable(_Table):
    """A basis and the law that asks for it."""

    title: Text
    title_zh: Text
    source: Name


class WindowTable(_Table):
    """A window that several purposes share."""

    title: Text
    title_zh: Text
    limits: Annotated[tuple[LimitTable, ...], Field(min_length=1)]
    same_text: Period | None = None
    source: Name


What = Literal["consent_records", "send_records", "refusals"]
Since = Literal["end", "sending", "refusal"]
SINCE: dict[What, Since] = {"consent_records": "end", "send_records": "sending", "refusals": "refusal"}
"""From when each kind of record may be counted: what a law means by it is not a pack's to change."""


class RetentionTable(_Table):
    """What outlasts a demand for erasure: which records, how long, counted from what, under which law."""

    what: What
    keep: Keep
    since: Since
    title: Text
    title_zh: Text
    source: Name


class BreakerLineTable(_Table):
    """A line that stops what passes it (`rules.breaker`): a rate with its minimum and its certainty, or a count."""

    counts: Literal["complaints", "confirmed", "unsubscribes"]
    scopes: Annotated[tuple[Literal["sender", "campaign", "port", "list_source"], ...], Field(min_length=1)]
    within: Literal["24h", "30d"]
    ppm: Annotated[float, Field(gt=0, lt=1_000_000)] | None = None
    min_delivered: Annotated[int, Field(ge=1)] = 1_000
    z: Annotated[float, Field(ge=0, le=10)] = 2.33
    few: Annotated[int, Field(ge=2)] | None = None
    most: Annotated[int, Field(ge=2)] | None = None
    title: Text
    title_zh: Text
    source: Name


class BreakerTable(_Table):
    """At which share of a line a scope warns, at which it has calmed down, and the lines."""

    warn: Annotated[float, Field(gt=0, lt=1)]
    calm: Annotated[float, Field(ge=0, lt=1)]
    source: Name
    lines: Annotated[dict[Name, BreakerLineTable], Field(min_length=1)]


class CleansingTable(_Table):
    """Whom a cleansing of a list finds: how long without a sign, how old a consent, how often dead."""

    engaged_within: Months
    consent_lasts: Months
    dead_days: Annotated[int, Field(ge=1, le=10)]
    recycled_after: Months
    recycled_silent: Months
    source: Name


class AsksTable(_Table):
    """What an exact yes to a question is consent to, and how long after the question it may come."""

    topics: Annotated[tuple[Dotted, ...], Field(min_length=1)]
    max_per_week: Annotated[int, Field(ge=1, le=MAX_LIMIT)]
    valid: Period
    within: Period


class PurposeTable(_Table):
    """One purpose: the row of the table a client's developer reads."""

    cls: Class = Field(alias="class")
    basis: Basis
    kinds: tuple[Kind, ...] = ()
    topics: tuple[Dotted, ...] = ()
    request_life: Period | None = None
    ignores: tuple[ReasonName, ...] = ()
    approved_ignores: tuple[ReasonName, ...] = ()
    stopped_by: tuple[Class, ...] = ()
    refusal_text: Literal["required", "forbidden", "optional"]
    quiet: bool
    windows: tuple[Windowed, ...]
    names: tuple[Text, ...] = ()
    refused: Refused = "purpose"
    asks: AsksTable | None = None
    source: Name
    title: Text
    title_zh: Text
    example: Text


RuleName = Literal[
    "client",
    "recipient",
    "purpose",
    "port",
    "content",
    "expiry",
    "breaker",
    "quota",
    "quiet_hours",
    "basis",
    "suppression",
    "preference",
    "windows",
    "same_text",
]
RULES: frozenset[str] = frozenset(get_args(RuleName))
"""Every rule a message is checked against, as `explain` lists them."""


class RuleTable(_Table):
    """What a rule is called in a trace, and its source where neither purpose, class nor window names one."""

    title: Text
    title_zh: Text
    source: Name | None = None


class PackTable(_Table):
    """A whole pack file."""

    format: Literal[1]
    name: Name
    version: Annotated[str, StringConstraints(pattern=r"^[0-9]{4}\.[0-9]{1,2}(\.[0-9]+)?$")]
    zone: Zone
    title: Text
    title_zh: Text
    notice: Text
    notice_zh: Text
    sources: dict[Name, SourceTable]
    signature: SignatureTable
    length: LengthTable
    refusal_text: RefusalTextTable
    refusal_words: WordsTable
    affirmative_words: WordsTable
    keep_words: WordsTable
    help_words: WordsTable
    folding: FoldingTable
    free_text: FreeTextTable
    answers: AnswersTable
    reply_route: ReplyRouteTable
    promotional: PromotionalTable
    hours: HoursTable
    classes: dict[Class, ClassTable]
    kinds: dict[Kind, KindTable]
    bases: dict[Basis, BasisTable]
    windows: dict[Shared, WindowTable] = {}
    rules: dict[RuleName, RuleTable]
    retention: tuple[RetentionTable, ...] = ()
    breaker: BreakerTable
    cleansing: CleansingTable
    purposes: Annotated[dict[Dotted, PurposeTable], Field(min_length=1)]
