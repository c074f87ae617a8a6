"""The pages: templates, their files, and the headers that keep a page to itself.

Every text is escaped. A page names its own script and style and nothing else; it may be framed by the origins its form
allows, and only when it is asked for as a frame.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.contract.form import Form, Locale, shown
from gateway.edge.optin.words import WORDS

STATIC = {"widget.js": "text/javascript", "form.js": "text/javascript", "form.css": "text/css"}
HOUR_S = 3_600
HTML = "text/html; charset=utf-8"
LANGUAGES: dict[Locale, str] = {"zh": "zh-CN", "en": "en"}
Said = Literal["done", "declined", "refused"]
ALONE = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'"

_templates = Environment(
    loader=PackageLoader("gateway.edge.optin"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Place(NamedTuple):
    """Which form, in which language, in a frame or alone, and in a frame on which page."""

    form: Form
    locale: Locale
    embed: bool = False
    page: str = ""

    def address(self, locale: Locale) -> str:
        """Where the form's first page is."""
        given = {"lang": locale} | ({"embed": "1", "page": self.page} if self.embed else {})
        return f"/c/{self.form.id}?{urlencode(given)}"


class Page(NamedTuple):
    """A page to be answered."""

    status: int
    headers: dict[str, str]
    body: str


@cache
def static(name: str) -> bytes:
    """One of the files of `STATIC`."""
    return files("gateway.edge.optin").joinpath("static", name).read_bytes()


def asking(place: Place, *, error: str | None = None, status: int = 200, number: str = "") -> Page:
    """The form. Its boxes are never ticked, whatever was ticked before."""
    text, words = shown(place.form, place.locale), WORDS[place.locale]
    decline = place.form.words[place.locale].decline
    other = place.form.other(place.locale)
    return _page(
        place,
        status,
        "form.html",
        step="form",
        title=text.value["title"],
        t=text.value,
        sha256=text.sha256,
        error=None if error is None else words[error].format(decline=decline),
        number=number,
        missing={"topics": words["topics"].format(decline=decline), "number": words["number"]},
        other=None if other is None else {"lang": LANGUAGES[other], "address": place.address(other)},
    )


def confirming(place: Place, opt_in: str, masked: str | None, *, wrong: bool = False) -> Page:
    """The code. `masked`: the number as it may be shown; none where it is not known any more."""
    words = WORDS[place.locale]
    return _page(
        place,
        422 if wrong else 200,
        "code.html",
        step="code",
        title=words["code_title"],
        w=words,
        opt_in=opt_in,
        sent=None if masked is None else words["code_sent"].format(number=masked),
        error=words["code_wrong"] if wrong else None,
    )


def saying(place: Place, what: Said, status: int = 200) -> Page:
    """The end: done, declined, or not recorded."""
    words, own = WORDS[place.locale], place.form.words[place.locale]
    more = own.withdrawal if what == "done" else None
    said = {"title": words[f"{what}_title"], "text": words[what], "more": more}
    return _page(place, status, "said.html", step=what, **said)


def _page(place: Place, status: int, template: str, **values: Any) -> Page:
    values |= {
        "form": place.form,
        "place": place,
        "lang": LANGUAGES[place.locale],
        "again": place.address(place.locale),
        "origins": " ".join(place.form.allowed_origins) if place.embed else "",
    }
    return Page(status, _headers(place), _templates.get_template(template).render(values))


def _headers(place: Place) -> dict[str, str]:
    """A frame's ancestors are the form's; a page on its own has none."""
    origins = place.form.allowed_origins if place.embed else []
    headers = {
        "content-type": HTML,
        "content-security-policy": f"{ALONE}; frame-ancestors {' '.join(origins) or chr(39) + 'none' + chr(39)}",
        "content-language": LANGUAGES[place.locale],
        "cache-control": "no-store",
        "referrer-policy": "same-origin",
        "x-content-type-options": "nosniff",
    }
    return headers if origins else headers | {"x-frame-options": "DENY"}
