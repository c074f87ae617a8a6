"""What a consent form must say by its sender's pack, and the words of the message that confirms it.

Pure. A form that breaks a rule is told every fault at once. The confirmation names sender, type and frequency (MIIT
Order 31: a request for consent says what, from whom and how often) and is held to the pack's rules for its purpose
before the form is taken, so that no person's opt-in fails on the form's own words.
"""

import re
from collections.abc import Iterator, Sequence

from gateway.contract.decision import Basis, Class, Refusal
from gateway.contract.form import FormDraft, FormTopic, Locale
from gateway.contract.registry import Sender
from gateway.rules import content
from gateway.rules.pack import Pack, Purpose

CONFIRMATION: dict[Locale, tuple[str, str, str]] = {
    "zh": (
        "{name}请您确认订阅：{asked}。验证码{code}，10分钟内有效；或直接回复Y确认。非本人操作请忽略，不回复即视为不同意。",
        "{label}（{frequency}）",
        "、",
    ),
    "en": (
        "{name}: confirm that you asked for {asked}. Code {code}, valid 10 minutes; or reply Y. Not you? Ignore this.",
        "{label} ({frequency})",
        ", ",
    ),
}
Fault = tuple[str, str]
"""The field, and what is wrong with it."""


def confirmation(sender: Sender, topics: Sequence[FormTopic], locale: Locale, code: str) -> str:
    """The text of the message that asks for the second record, without the signature that is added to it."""
    whole, each, between = CONFIRMATION[locale]
    words = [one.words[locale] for one in topics]
    asked = between.join(each.format(label=one.label, frequency=one.frequency) for one in words)
    return whole.format(name=sender.signature, asked=asked, code=code)


def topics(pack: Pack) -> frozenset[str]:
    """What a form may ask for: purposes of class marketing that consent permits, and their first segments."""
    names = {name for name, one in pack.purposes.items() if one.cls is Class.MARKETING and one.basis is Basis.CONSENT}
    return frozenset(names | {name.partition(".")[0] for name in names})


def faults(form: FormDraft, sender: Sender, pack: Pack, confirm: Purpose) -> Iterator[Fault]:
    """Everything that keeps the form from being asked in this sender's name. `confirm`: its message's purpose."""
    known = topics(pack)
    for at, one in enumerate(form.topics):
        if one.topic not in known:
            yield f"topics.{at}.topic", "no marketing topic that consent permits; see GET /v1/purposes"
        for locale, words in one.words.items():
            if not re.search(rf"(?<![0-9]){one.max_per_week}(?![0-9])", words.frequency):
                yield f"topics.{at}.words.{locale}.frequency", "does not state max_per_week in digits"
    for locale, own in form.words.items():
        if sender.signature not in f"{own.title}\n{own.intro}":
            yield f"words.{locale}.intro", "title or intro must name the sender by its signature"
        text = confirmation(sender, form.topics, locale, "000000")
        composed = content.compose(text, sender, confirm, pack)
        if isinstance(composed, Refusal):
            yield f"topics.words.{locale}", f"the confirmation message would be refused: {composed.code}"
