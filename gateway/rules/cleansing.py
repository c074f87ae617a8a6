"""Cleansing a list: why each person on it should be taken off, or asked again. Pure; a pack says how long is too long.

A list is everybody to whom messages were accepted in a scope (a campaign, a list source, a sender, a port) in a time.
Each person has every reason that applies, and one *category*: the first of their reasons in the order below, which goes
from what forbids writing to them to what merely makes it pointless.

- **complained**: a complaint about the sender, or an authority's order, stands.
- **opted_out**: they, or their carrier for them, refused messages of the list's kind.
- **dead**: receipts of a dead number on two different days since anything was last delivered, or a standing suppression
  for it. One such receipt is often a switch's mistake.
- **recycled_risk**, a heuristic: the number was dead by that measure, and alive later; or every consent is older than
  `recycled_after` and nothing was delivered for `recycled_silent`. A number given back in mainland China goes to
  somebody else after some months, and nobody tells the sender.
- **consent_unproven**: they were written to on consent, and none stands, or none that stands carries evidence.
- **consent_old**: what stands is older than the pack allows, or over by its own terms.
- **never_engaged**: no reply but refusals within the months asked for, counted from their last consent, or, where none
  is known, from the list's first message to them. Only people written to on consent: a parcel's notice asks for no
  reply. Links are counted by campaign and never by person, so a click is nobody's.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.contract.consent import State
from gateway.contract.decision import Class, Reason
from gateway.rules.pack import Cleansing
from gateway.rules.retention import end_ms


class Category(IntEnum):
    """Where a person stands, in the order of precedence; the numbers are stored."""

    COMPLAINED = 1
    OPTED_OUT = 2
    DEAD = 3
    RECYCLED_RISK = 4
    CONSENT_UNPROVEN = 5
    CONSENT_OLD = 6
    NEVER_ENGAGED = 7
    HEALTHY = 8
    """No reason at all."""

    @property
    def word(self) -> str:
        """As answers and records name it."""
        return self.name.lower()


class Choice(StrEnum):
    """What is done about a category."""

    SUPPRESS = "suppress"
    REPERMISSION = "repermission"
    """They wait to be asked again, and get no marketing of the sender until then."""
    LEAVE = "leave"


PROPOSED: Mapping[Category, Choice] = {
    Category.COMPLAINED: Choice.SUPPRESS,
    Category.OPTED_OUT: Choice.LEAVE,  # the opt-out itself stops them; a second lock would outlive their own return
    Category.DEAD: Choice.SUPPRESS,
    Category.RECYCLED_RISK: Choice.SUPPRESS,
    Category.CONSENT_UNPROVEN: Choice.SUPPRESS,
    Category.CONSENT_OLD: Choice.REPERMISSION,
    Category.NEVER_ENGAGED: Choice.REPERMISSION,
    Category.HEALTHY: Choice.LEAVE,
}
"""What is proposed; a named person chooses."""
NEVER_ASKED = frozenset({Category.COMPLAINED, Category.OPTED_OUT, Category.DEAD, Category.RECYCLED_RISK})
"""Who refused must not be asked again, and behind these numbers is nobody, or somebody else."""
NEVER_LIFTED = frozenset({Category.COMPLAINED, Category.OPTED_OUT})
"""What an undo leaves as it is."""
_WHOLE_SENDER = frozenset({Category.COMPLAINED, Category.DEAD, Category.RECYCLED_RISK})


class Given(NamedTuple):
    """A consent that permits messages of the list. Unix ms; `until_ms` 0: without end."""

    at_ms: int
    until_ms: int
    proven: bool
    """Its record carries evidence."""


class Facts(NamedTuple):
    """What is known of one person toward one sender of the list. Times are Unix ms, none where there is none."""

    reasons: frozenset[Reason] = frozenset()
    """Of the standing suppressions that cover the list's messages."""
    complained: bool = False
    """A complaint of theirs about the sender, or about nobody knows whom, is recorded."""
    on_consent: bool = True
    """Some message of the list relied on consent."""
    consents: tuple[Given, ...] = ()
    dead_ms: tuple[int, ...] = ()
    """When it was learned that the number is dead, by whichever sender's message."""
    delivered_ms: int | None = None
    """When anything was last delivered to the number."""
    first_ms: int | None = None
    """The list's first message to them."""
    replied_ms: int | None = None
    """Their last reply to the sender that was no refusal."""


def reasons(facts: Facts, rule: Cleansing, engaged_months: int, now_ms: int) -> list[Category]:
    """Every reason that applies, in the order of precedence; none for a healthy one."""
    delivered = facts.delivered_ms or 0
    after = _days(rule, [at for at in facts.dead_ms if at > delivered]) if facts.dead_ms else 0
    before = _days(rule, [at for at in facts.dead_ms if at <= delivered]) if facts.dead_ms else 0
    found = {
        Category.COMPLAINED: facts.complained or not facts.reasons.isdisjoint({Reason.COMPLAINT, Reason.REGULATOR}),
        Category.OPTED_OUT: not facts.reasons.isdisjoint({Reason.OPT_OUT, Reason.CARRIER}),
        Category.DEAD: after >= rule.dead_days or Reason.DEAD_NUMBER in facts.reasons,
        Category.RECYCLED_RISK: before >= rule.dead_days or _forgotten(facts, rule, now_ms),
        Category.CONSENT_UNPROVEN: facts.on_consent and not any(one.proven for one in facts.consents),
        Category.CONSENT_OLD: bool(facts.on_consent and facts.consents) and not _current(facts, rule, now_ms),
        Category.NEVER_ENGAGED: _silent(facts, rule, engaged_months, now_ms),
    }
    return [category for category, applies in found.items() if applies]


def category_of(found: Iterable[Category]) -> Category:
    """The one that counts among a person's reasons."""
    return min(found, default=Category.HEALTHY)


def mask_of(found: Iterable[Category]) -> int:
    """Reasons as they are stored: bit n for category n."""
    return sum(1 << category for category in found)


def reasons_of(mask: int) -> list[Category]:
    """What `mask_of` took, in the order of precedence."""
    return [category for category in Category if mask >> category & 1]


def covering(state: State | None, scopes: Iterable[str]) -> frozenset[Reason]:
    """Why nothing may be sent in any of these scopes (`rules.plan.Plan.scopes` of the list's messages)."""
    if state is None or not state.suppressions:
        return frozenset()
    return frozenset(Reason(one.reason) for scope in scopes for one in state.suppressions.get(scope, ()))


def shows(evidence: Any) -> bool:
    """Whether a consent's record shows that the person agreed: both records, a question and its yes, or a ticked box.

    Evidence that another system states counts for what it states; `POST /v1/consents` takes none that shows less.
    """
    if not isinstance(evidence, Mapping):
        return False
    if all(evidence.get(one) for one in ("first", "second")) or all(evidence.get(one) for one in ("question", "reply")):
        return True
    ticked = evidence.get("checkbox_checked") is True and not evidence.get("default_checked")
    return ticked and bool(evidence.get("form_version"))


def chosen(asked: Mapping[Category, Choice]) -> dict[Category, Choice]:
    """The whole table: what was asked for, else what is proposed. ValueError for asking whom nobody may ask."""
    for category, choice in asked.items():
        if choice is Choice.REPERMISSION and category in NEVER_ASKED:
            raise ValueError(f"people of {category.word} are not asked again")
    return {category: asked.get(category, PROPOSED[category]) for category in Category}


def suppression_of(category: Category, sender: str) -> tuple[str, Reason]:
    """Scope and reason of the suppression a category gets.

    What is about the number stops everything of the sender; what is about the permission stops its marketing: somebody
    who answers no advertisement still wants to know that the parcel has come.
    """
    scope = sender if category in _WHOLE_SENDER else f"{sender}#{Class.MARKETING.value}"
    return scope, Reason.DEAD_NUMBER if category is Category.DEAD else Reason.MANUAL


def _days(rule: Cleansing, times_ms: Iterable[int]) -> int:
    """On how many days of the pack's zone."""
    return len({_day(rule, at) for at in times_ms})


def _day(rule: Cleansing, at_ms: int) -> int:
    """A day by the moment it ends, which is one that the zone's rules give."""
    return end_ms(at_ms, 0, rule.zone)


def _over(at_ms: int, months: int, rule: Cleansing, now_ms: int) -> bool:
    """Whether so many calendar months have passed since, their last day included."""
    return at_ms < _first_within(months, rule.zone, now_ms)


@lru_cache(maxsize=64)
def _first_within(months: int, zone: ZoneInfo, now_ms: int) -> int:
    """The first moment (Unix ms) whose months are not over yet; found once, for a list asks it of everybody."""
    return bisect_left(range(now_ms + 1), True, key=lambda at: end_ms(at, months, zone) > now_ms)


def _forgotten(facts: Facts, rule: Cleansing, now_ms: int) -> bool:
    if not facts.consents or not all(_over(one.at_ms, rule.recycled_months, rule, now_ms) for one in facts.consents):
        return False
    return facts.delivered_ms is None or _over(facts.delivered_ms, rule.silent_months, rule, now_ms)


def _current(facts: Facts, rule: Cleansing, now_ms: int) -> bool:
    """Whether any consent is neither over nor too old."""
    return any(
        not 0 < one.until_ms <= now_ms and not _over(one.at_ms, rule.consent_months, rule, now_ms)
        for one in facts.consents
    )


def _silent(facts: Facts, rule: Cleansing, months: int, now_ms: int) -> bool:
    if not facts.on_consent:
        return False
    began = max((one.at_ms for one in facts.consents), default=facts.first_ms)
    last = max(began or 0, facts.replied_ms or 0)
    return began is not None and _over(last, months, rule, now_ms)
