"""A consent form: what it must say, what of it is shown and hashed, and that its page shows exactly that."""

import hashlib
import re
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.assemble.preparing import demo_form
from gateway.assemble.registering import draft_of
from gateway.contract.form import LOCALES, PAGE, Form, FormDraft, Locale, shown
from gateway.contract.registry import Sender
from gateway.edge.optin.pages import Place, asking, confirming, saying
from gateway.edge.optin.words import WORDS
from gateway.ledger.events import canonical
from gateway.rules import content
from gateway.rules.content import Content
from gateway.rules.forms import confirmation, faults, topics
from gateway.rules.pack import load

ACME = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002")
CN = load("cn")
CONFIRM = CN.purposes["consent.confirm"]
DRAFT = draft_of(demo_form())
FORM = Form(**DRAFT.model_dump(), version=3, created_at=datetime(2026, 11, 25, tzinfo=UTC))


def changed(**changes: Any) -> dict[str, Any]:
    return DRAFT.model_dump(mode="json") | changes


def test_the_example_keeps_every_rule() -> None:
    assert list(faults(DRAFT, ACME, CN, CONFIRM)) == []
    assert [one.topic for one in DRAFT.topics] == ["invite.new_arrival", "marketing.promotion"]


@pytest.mark.parametrize("locale", LOCALES)
def test_what_is_shown_is_canonical_and_named_by_its_digest(locale: Locale) -> None:
    text = shown(FORM, locale)
    assert text.canonical == canonical(text.value)
    assert text.sha256 == hashlib.sha256(text.canonical).hexdigest()
    assert text.value["version"] == 3
    for other in (FORM.model_copy(update={"version": 4}), FORM.model_copy(update={"contact": "x"})):
        assert shown(other, locale).sha256 != text.sha256
    assert len({shown(FORM, one).sha256 for one in LOCALES}) == 2


def test_the_digest_of_a_known_text_does_not_move() -> None:
    """What was hashed once must be found by the same digest for as long as anyone may ask."""
    assert shown(FORM, "zh").sha256 == "4cef2fbb812ab90d8eb7ded37514d815014109c733507f98e9d7de79efc993c0"
    assert shown(FORM, "en").sha256 == "b2e22d05e41af3a11727e626fc4c9554b06804a8cce7583173fc9cbae5e1f2fc"


def test_both_languages_say_the_same_things() -> None:
    assert PAGE["zh"].keys() == PAGE["en"].keys()
    assert WORDS["zh"].keys() == WORDS["en"].keys()


def test_the_languages_are_the_forms_own() -> None:
    chinese = changed(words={"zh": changed()["words"]["zh"]})
    chinese["topics"] = [one | {"words": {"zh": one["words"]["zh"]}} for one in chinese["topics"]]
    form = Form(**chinese, version=1, created_at=datetime(2026, 11, 25, tzinfo=UTC))
    assert form.locale("en", "zh") == "zh"
    assert FORM.locale("de", None, "en") == "en"
    assert "language_link" not in shown(form, "zh").value
    assert "English" not in asking(Place(form, "zh")).body


@pytest.mark.parametrize(
    "changes",
    [
        {"words": {"en": changed()["words"]["en"]}},
        {"topics": []},
        {"topics": changed()["topics"] * 2},
        {"topics": [changed()["topics"][0] | {"words": {"zh": changed()["topics"][0]["words"]["zh"]}}]},
        {"topics": [changed()["topics"][0] | {"max_per_week": 0}]},
        {"id": "Not a slug"},
        {"contact": ""},
        {"contact": "a\nb"},
        {"allowed_origins": ["*"]},
        {"allowed_origins": ["https://shop.example/"]},
        {"allowed_origins": ["http://shop.example"]},
        {"allowed_origins": ["https://user@shop.example"]},
        {"allowed_origins": ["https://shop.example 'unsafe-inline'"]},
        {"allowed_origins": ["https://shop.example; script-src *"]},
        {"allowed_origins": ["https://shop.example"] * 2},
        {"nonsense": 1},
    ],
)
def test_a_form_that_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FormDraft.model_validate(changed(**changes))


def test_origins_a_form_may_name() -> None:
    origins = ["https://shop.example", "https://shop.example:8443", "http://localhost:3000", "http://127.0.0.1:8000"]
    assert FormDraft.model_validate(changed(allowed_origins=origins)).allowed_origins == origins


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("topics", 0, "topic"), "transaction.shipping", "topics.0.topic"),
        (("topics", 0, "topic"), "invite.restock_requested", "topics.0.topic"),
        (("topics", 0, "topic"), "consent", "topics.0.topic"),
        (("topics", 0, "max_per_week"), 3, "topics.0.words.zh.frequency"),
        (("topics", 0, "words", "zh", "frequency"), "偶尔", "topics.0.words.zh.frequency"),
        (("topics", 0, "words", "en", "frequency"), "At most 12 a week", "topics.0.words.en.frequency"),
        (("topics", 0, "words", "zh", "label"), "全场秒杀", "topics.words.zh"),
        (("topics", 0, "words", "zh", "label"), "【别家】", "topics.words.zh"),
    ],
)
def test_what_a_sender_may_not_ask(path: tuple[Any, ...], value: Any, field: str) -> None:
    raw = changed()
    at: Any = raw
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    assert field in [name for name, _ in faults(FormDraft.model_validate(raw), ACME, CN, CONFIRM)]


def test_the_sender_is_named() -> None:
    other = ACME.model_copy(update={"signature": "Bolt"})
    assert [name for name, _ in faults(DRAFT, other, CN, CONFIRM)] == ["words.zh.intro", "words.en.intro"]


def test_topics_are_marketing_by_consent_or_their_first_words() -> None:
    known = topics(CN)
    assert {"marketing", "invite", "membership", "marketing.promotion", "membership.birthday"} <= known
    assert not {"consent", "transaction", "membership.points", "invite.restock_requested"} & known


@pytest.mark.parametrize("locale", LOCALES)
def test_the_confirmation_names_sender_type_and_frequency(locale: Locale) -> None:
    text = confirmation(ACME, DRAFT.topics, locale, "012345")
    for told in ("Acme", "012345", "Y", *(one.words[locale].label for one in DRAFT.topics)):
        assert told in text
    for one in DRAFT.topics:
        assert one.words[locale].frequency in text
    composed = content.compose(text, ACME, CONFIRM, CN)
    assert isinstance(composed, Content)
    assert composed.text.startswith("【Acme】")


# --- pages -----------------------------------------------------------------------------------------------------------


def texts(page: str) -> set[str]:
    return {unescape(one).strip() for one in re.findall(r">([^<>]+)<", page.partition("<body>")[2])} - {""}


def strings(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {one for item in value.values() for one in strings(item)}
    if isinstance(value, list):
        return {one for item in value for one in strings(item)}
    return {str(value)}


@pytest.mark.parametrize("locale", LOCALES)
def test_the_page_shows_exactly_what_is_hashed(locale: Locale) -> None:
    page, told = texts(asking(Place(FORM, locale)).body), strings(shown(FORM, locale).value)
    assert page <= told
    unseen = {FORM.id, "3", locale, FORM.sender} | {one.topic for one in FORM.topics}
    links = {FORM.words[locale].notice_url, FORM.words[locale].terms_url}
    assert told - page <= unseen | links


def test_no_box_is_ticked_whatever_came_before() -> None:
    for page in (asking(Place(FORM, "zh")), asking(Place(FORM, "zh"), error="number", status=422, number="1")):
        assert page.body.count('type="checkbox"') == 2
        assert "checked" not in page.body


def test_everything_is_escaped() -> None:
    evil = '"><script>alert(1)</script>'
    words = FORM.words["zh"].model_copy(update={"title": evil, "notice": evil})
    form = FORM.model_copy(update={"words": {**FORM.words, "zh": words}})
    place = Place(form, "zh", embed=True, page=evil)
    for page in (asking(place, number=evil), confirming(place, evil, evil), saying(place, "done")):
        assert evil not in page.body
        assert page.body.count("<script") == 1


@pytest.mark.parametrize("embed", [True, False])
def test_a_page_is_framed_by_nobody_but_the_forms_origins(embed: bool) -> None:
    for form in (FORM, FORM.model_copy(update={"allowed_origins": []})):
        headers = asking(Place(form, "zh", embed)).headers
        policy = headers["content-security-policy"]
        allowed = " ".join(form.allowed_origins) if embed and form.allowed_origins else "'none'"
        assert policy.endswith(f"frame-ancestors {allowed}")
        assert ("x-frame-options" in headers) is (allowed == "'none'")
