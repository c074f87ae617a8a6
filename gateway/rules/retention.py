"""What outlasts a person's demand for erasure: which records a law still asks for, and until when.

Pure. A pack says what is kept and for how long (`[[retention]]`); here is how that is counted for one person. MIIT
Order 31 asks for records of subscribing and unsubscribing until five months after the relationship ends, and for
records of sending for at least five; PIPL 47 asks for deletion of everything else, and lets what must stay be stored
and no more.

- **A demand for erasure ends everything**: what stands then ends by it, so its months begin with the demand.
- **What ended before** (withdrawn, expired, ended by its record) counts from its own end.
- **After a restriction** only a new consent or relationship, or a message, begins anything again. A refusal that comes
  once more ends nothing that has not ended, and must not put the erasure off.
- **Whoever comes back** by a consent or relationship after the demand has a relationship again: its records are to be
  kept, and one key seals all of a person's records, so the erasure that was due is off (decision 18).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from gateway.contract.consent import EventKind, State
from gateway.rules.pack import Pack, Retention

BEGINS = frozenset({EventKind.GRANT, EventKind.RELATIONSHIP})
OPT_OUT = "opt_out"


class Act(NamedTuple):
    """One event of a person, as far as retention looks at it. `data`: none where it cannot be read."""

    seq: int
    kind: EventKind
    at_ms: int
    """When it happened, never later than when it was recorded."""
    data: Mapping[str, Any] | None


class Kept(NamedTuple):
    """What must be kept, since when it is counted, and when it may go (Unix ms; none: it stays)."""

    rule: Retention
    since_ms: int | None
    until_ms: int | None


def in_force(packs: Mapping[str, Pack], used: Iterable[str]) -> list[Retention]:
    """The rules of the packs that senders are under; of every pack while no sender is known."""
    named = [name for name in dict.fromkeys(used) if name in packs]
    return [rule for name in named or packs for rule in packs[name].retention]


def owed(
    rules: Sequence[Retention], acts: Sequence[Act], state: State | None, last_sent_ms: int | None, now_ms: int
) -> list[Kept]:
    """What may not be erased at `now_ms`, were everything that stands to end now. `acts`: oldest first.

    `last_sent_ms`: when the last message went to the person, none where none is recorded.
    """
    since = {"consent_records": _ended_ms(acts, state, now_ms), "send_records": last_sent_ms}
    found = []
    for rule in rules:
        if rule.months is None:
            found.append(Kept(rule, None, None))
            continue
        began = since[rule.what]
        if began is not None and (end := end_ms(began, rule.months, rule.zone)) > now_ms:
            found.append(Kept(rule, began, end))
    return found


def due_ms(kept: Iterable[Kept]) -> int | None:
    """When the last of it may be erased (Unix ms); none: nothing stands against erasing now."""
    return max((one.until_ms for one in kept if one.until_ms is not None), default=None)


def restricted_at(acts: Iterable[Act]) -> int:
    """The `seq` of the last restriction; 0 for none. What was recorded up to it is stored and not shown."""
    return max((act.seq for act in acts if act.kind is EventKind.RESTRICTION), default=0)


def returned(acts: Iterable[Act], after_seq: int) -> bool:
    """Whether the person began a consent or relationship after that event."""
    return any(act.seq > after_seq and _begins(act) for act in acts)


def stands(state: State | None, now_ms: int) -> bool:
    """Whether a consent or relationship stands."""
    return any(end is None or end > now_ms for end in _ends_ms(state))


def end_ms(since_ms: int, months: int, zone: ZoneInfo) -> int:
    """The end of the last day of a time of so many calendar months (Unix ms: the first moment after it).

    Civil Code of the PRC, Arts. 201, 202 and 203(2): the day of the beginning is not counted; the last day is that of
    the same number, or the last of its month where there is none, and it ends at its midnight. That a day off defers
    the end (Art. 203(1)) is about acts somebody has to perform, and is left out.
    """
    day = datetime.fromtimestamp(since_ms / 1000, UTC).astimezone(zone).date()
    following = _plus_months(day, months) + timedelta(days=1)
    return int(datetime.combine(following, time(), zone).timestamp() * 1000)


def _plus_months(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    next_year, next_month = divmod(year * 12 + month + 1, 12)
    last = date(next_year, next_month + 1, 1) - timedelta(days=1)
    return last if day.day > last.day else last.replace(day=day.day)


def _ended_ms(acts: Sequence[Act], state: State | None, now_ms: int) -> int | None:
    """When the last consent or relationship ended, or the last refusal was recorded; none where there never was one."""
    ended: int | None = None
    restricted = False
    for act in acts:
        if _begins(act):
            restricted = False
        elif not _ends(act) or restricted:
            continue
        restricted = act.kind is EventKind.RESTRICTION
        ended = max(act.at_ms, ended or 0)
    for end in _ends_ms(state):
        ended = max(now_ms if end is None else min(end, now_ms), ended or 0)
    return ended


def _ends_ms(state: State | None) -> list[int | None]:
    """When each consent and relationship of a state ends; none: not yet."""
    if state is None:
        return []
    seconds = [one.until for one in state.consents.values()] + [one.expires for one in state.relationships.values()]
    return [end * 1000 or None for end in seconds]


def _begins(act: Act) -> bool:
    """A relationship whose end is not after its beginning is the record of an end (`ledger.events.relationship`)."""
    if act.kind is EventKind.RELATIONSHIP and act.data is not None:
        end_s = int(act.data.get("expires_at") or 0)
        return not end_s or end_s > act.at_ms // 1000
    return act.kind in BEGINS


def _ends(act: Act) -> bool:
    """Records of unsubscribing: a withdrawal, an opt-out by any other way, an end, a demand for erasure."""
    if act.kind in (EventKind.SUPPRESSION, EventKind.UNSUPPRESSION):
        return act.data is None or act.data.get("reason") == OPT_OUT
    return act.kind in (EventKind.WITHDRAWAL, EventKind.RELATIONSHIP, EventKind.RESTRICTION)
