"""A consent form: what one sender asks for, topic by topic, and the exact text a person is shown.

A version is never changed; another text is another version. `shown` gives that text as one canonical JSON value (RFC
8785: its names are ASCII, its values strings and integers) with its SHA-256, which every record of an opt-in names; the
page renders these strings and no others. Pure; whether a form keeps its sender's rules is for `rules.forms` to say.
"""

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, Field, StringConstraints, model_validator

from gateway.contract.message import Dotted, Slug, Strict

Locale = Literal["zh", "en"]
LOCALES: tuple[Locale, ...] = ("zh", "en")
FIRST: Locale = "zh"
"""Every form has it: what is asked of a mainland number is asked in Chinese."""
MOST_TOPICS = 12
MOST_ORIGINS = 32
LOOPBACK = frozenset({"127.0.0.1", "localhost"})

PAGE: dict[Locale, dict[str, str]] = {
    "zh": {
        "topics_label": "请勾选您愿意接收的内容（可多选，均为自愿）",
        "number_label": "手机号码",
        "number_hint": "我们会发一条短信请您确认；未经确认，不会发送其他任何短信。",
        "submit": "同意并获取确认短信",
        "withdrawal_label": "如何退订",
        "notice_label": "隐私告知",
        "notice_link": "查看完整隐私政策",
        "terms_link": "查看服务条款（与本授权无关）",
        "language_link": "English",
    },
    "en": {
        "topics_label": "Tick what you would like to receive (any number; all of it is voluntary)",
        "number_label": "Mobile number",
        "number_hint": "We send one text message to confirm. Unless you confirm, nothing else is sent.",
        "submit": "Agree and get the confirmation",
        "withdrawal_label": "How to stop",
        "notice_label": "Privacy notice",
        "notice_link": "Read the full privacy policy",
        "terms_link": "Read the terms of service (not part of this consent)",
        "language_link": "中文",
    },
}
"""What the page says around a form's own words; part of what was shown."""


def _origin(written: str) -> str:
    parts = urlsplit(written)
    if f"{parts.scheme}://{parts.netloc}" != written or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an origin is scheme://host or scheme://host:port, without a path")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError("an origin is https (http on loopback only)")
    return written


Line = Annotated[
    str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True, pattern=r"^[^\x00-\x1f]+$")
]
Paragraph = Annotated[
    str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True, pattern=r"^[^\x00-\x08\x0b-\x1f]+$")
]
Link = Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[\x21-\x7e]+$")]
Origin = Annotated[str, StringConstraints(max_length=200, pattern=r"^[a-z0-9:/.-]+$"), AfterValidator(_origin)]


class TopicWords(Strict):
    """One box in one language. `frequency` states in words what `max_per_week` enforces."""

    label: Line
    description: Line
    frequency: Line


class FormTopic(Strict):
    """One box: the topic it permits and the terms it is given on."""

    topic: Dotted
    max_per_week: Annotated[int, Field(ge=1, le=64)]
    valid_days: Annotated[int, Field(ge=1, le=3650)] | None = None
    words: dict[Locale, TopicWords]


class FormWords(Strict):
    """The form's own text in one language."""

    title: Line
    intro: Paragraph
    withdrawal: Paragraph
    notice: Paragraph
    notice_url: Link
    terms_url: Link | None = None
    decline: Line


class FormDraft(Strict):
    """A form as it is handed in; the next version number is given when it is stored."""

    id: Slug
    sender: Slug
    contact: Line
    """Whom a person turns to about their data."""
    words: dict[Locale, FormWords]
    topics: Annotated[list[FormTopic], Field(min_length=1, max_length=MOST_TOPICS)]
    allowed_origins: Annotated[list[Origin], Field(default_factory=list, max_length=MOST_ORIGINS)]
    """Origins whose pages may show the form in a frame; none: it is shown on its own page only."""

    @model_validator(mode="after")
    def _agrees(self) -> "FormDraft":
        if FIRST not in self.words:
            raise ValueError(f"words: {FIRST} is missing")
        for one in self.topics:
            if one.words.keys() != self.words.keys():
                raise ValueError("topics: each has words in the form's own languages")
        names = [one.topic for one in self.topics]
        if len(set(names)) < len(names):
            raise ValueError("topics: a topic stands twice")
        if len(set(self.allowed_origins)) < len(self.allowed_origins):
            raise ValueError("allowed_origins: an origin stands twice")
        return self


class Form(FormDraft):
    """One version, as it is stored and for as long as consents name it."""

    version: Annotated[int, Field(ge=1)]
    created_at: datetime

    def locale(self, *wanted: str | None) -> Locale:
        """The first wanted language that the form speaks, else Chinese."""
        return next((one for want in wanted for one in LOCALES if one == want and one in self.words), FIRST)

    def other(self, locale: Locale) -> Locale | None:
        """The form's other language, where it has one."""
        return next((one for one in LOCALES if one != locale and one in self.words), None)

    def of(self, topics: list[str]) -> list[FormTopic]:
        """The boxes of these topics, in the form's order."""
        return [one for one in self.topics if one.topic in topics]


class Shown(NamedTuple):
    """What a person is shown: the value, its canonical bytes, and their SHA-256 in hex."""

    value: dict[str, Any]
    canonical: bytes
    sha256: str


def shown(form: Form, locale: Locale) -> Shown:
    """The exact text of a form's page in one language."""
    own = form.words[locale]
    unused = {name for name, used in (("terms_link", own.terms_url), ("language_link", form.other(locale))) if not used}
    value = {
        "form": form.id,
        "version": form.version,
        "locale": locale,
        "sender": form.sender,
        "contact": form.contact,
        **own.model_dump(exclude_none=True),
        **{name: text for name, text in PAGE[locale].items() if name not in unused},
        "topics": [{"topic": one.topic, **one.words[locale].model_dump()} for one in form.topics],
    }
    written = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return Shown(value, written, hashlib.sha256(written).hexdigest())
