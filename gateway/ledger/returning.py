"""What is put back of one message, from its record in Kafka and from what became of it. Pure: time is given.

What a record below becomes, by where it stands and what `results` says of its attempt or a later one:

| found | put back as | because |
|---|---|---|
| a result: cancelled | void, nothing consumed | refused at the claim or the release, and given back |
| a result: rejected, expired | done and refunded, nothing consumed | settle and deliver give these back |
| a result: submitted, doubtful | done, for what is left of its life | copies are dropped, a refund finds its stamps |
| in `messages.held`, attempt 1 | held | it consumes at its release; a release that is in Kafka outdates this |
| in `messages.held`, attempt n | reserved(n) | the requeue was made before the publish |
| at or above the group's commit | reserved | nobody has claimed it, or its claim was refused as cold |
| less than a window below the commit | taken, there | claimed, perhaps written: this place may go on, a copy may not |
| further below | done | deliver resolves everything before it commits so far ahead; a retry is in `messages.held` |

`done` without a key that is older than an hour has no record (as `mark.lua` leaves none), only its stamps, unless a
copy of it waits above the commit. Nothing is lost: `reserved` and `held` are claimed and released as before. Nothing
doubles: below the commit nothing is read again but by review, which submits only what is `unwritten`, and that is never
put back.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from gateway.contract.decision import Basis
from gateway.contract.ids import lane_of
from gateway.contract.registry import Registry
from gateway.guard import Rebound, Restored
from gateway.guard.guard import DONE_MS
from gateway.guard.keys import raw_id
from gateway.guard.plans import DAY_MS, WEEK_MS, everyone, term_field
from gateway.guard.restoring import Fields, basis_at
from gateway.ledger.outcomes import UNSENT, Outcome, Outcomes
from gateway.rules.pack import Pack
from gateway.rules.plan import Plan, plan

Name = Literal["held", "reserved", "taken", "done", "void"]
HOUR_MS = 3_600_000
SLACK_MS = 60_000
"""How far ahead a client's clock may place a person's request."""
TEXTS_MS = 60_000
TERM = "C/"


@dataclass(slots=True)
class Rule:
    """What one sender's purpose says about its messages, and the fields they are counted in."""

    plan: Plan
    request_life_ms: int
    _fields: dict[str | None, Fields | None] = field(default_factory=dict)

    def fields(self, term: str | None) -> Fields | None:
        """The fields of a message whose consent (`term`) had its own weekly limit, or of one without; none if none."""
        if term not in self._fields:
            made = Fields.of(self.plan, (term_field(term),) if term else ())
            self._fields[term] = made if made.names or self.plan.same_text_ms else None
        return self._fields[term]


class Book:
    """The rules of every sender and purpose now in force: what future messages will be counted by."""

    def __init__(self, registry: Registry, packs: Mapping[str, Pack]) -> None:
        self._rules: dict[tuple[str, str], Rule] = {}
        for sender in registry.senders:
            if (pack := packs.get(sender.pack)) is not None:
                for name, purpose in pack.purposes.items():
                    life_ms = (purpose.request_life_s or 600) * 1000
                    self._rules[sender.id, name] = Rule(plan(pack, sender, name), life_ms)

    def find(self, sender: str, purpose: str) -> Rule | None:
        """None: no such sender or purpose any more."""
        return self._rules.get((sender, purpose))

    def long_fields(self) -> dict[str, int]:
        """Every field that a window longer than a day, or a weekly limit, looks at: how far back, ms."""
        longest: dict[str, int] = {}
        for rule in self._rules.values():
            for window in rule.plan.windows:
                if window.period_ms > DAY_MS:
                    longest[window.field] = max(longest.get(window.field, 0), window.period_ms)
            weekly = [term_field(consent) for consent in rule.plan.consents]
            if rule.plan.weekly_field:
                weekly += [rule.plan.weekly_field, everyone(rule.plan.weekly_field)]
            for name in weekly:
                longest[name] = max(longest.get(name, 0), WEEK_MS)
        return longest

    def long_requests(self) -> dict[str, int]:
        """The purposes whose requests live longer than a day: how long, ms."""
        return {
            rule.plan.purpose: rule.request_life_ms
            for rule in self._rules.values()
            if rule.plan.basis is Basis.REQUEST and rule.request_life_ms > DAY_MS
        }


class Spelling(NamedTuple):
    """How intake writes what it alone knows how to write."""

    answer: Callable[[int | None, int, str], bytes]
    """Of release time, parts and pack: what a repeated key is answered."""
    text_hash: Callable[[str], bytes]
    request: Callable[[bytes, str, str, str], bytes]
    """Of subject, sender, purpose and reference."""


class Place(NamedTuple):
    """Where a record stands in its class topic, and where the group that delivers it had got to."""

    partition: int
    offset: int
    committed: int


class Returning:
    """Makes what is put back. `window`: how far below its commit deliver may have unresolved messages."""

    def __init__(
        self, book: Book, outcomes: Outcomes, spelling: Spelling, *, now_ms: int, window: int, lanes: Collection[int]
    ) -> None:
        self._book, self._outcomes, self._spelling = book, outcomes, spelling
        self._now_ms, self._window, self._lanes = now_ms, window, frozenset(lanes)
        self.waiting: set[str] = set()
        """Ids of which a record that may be a copy waits above the commit."""

    def held(self, said: Mapping[str, Any]) -> Restored | None:
        """A record of `messages.held`."""
        attempt = said["attempt"]
        outcome = self._outcomes.of(said["id"], attempt)
        due = said.get("due") if attempt == 1 else None
        if outcome is not None:
            return self._ended(said, outcome, due=due)
        return self._made(said, "held" if attempt == 1 else "reserved", due=due)

    def published(self, said: Mapping[str, Any], place: Place) -> Restored | None:
        """A record of a class topic."""
        outcome = self._outcomes.of(said["id"], said["attempt"])
        if outcome is not None:
            return self._ended(said, outcome, place)
        if place.offset >= place.committed:
            return self._made(said, "reserved")
        if place.offset >= place.committed - self._window:
            return self._made(said, "taken", place)
        kept = bool(said.get("bound")) or said["id"] in self.waiting
        return self._made(said, "done", place, ttl_ms=None if kept else 0)

    def binding(self, said: Mapping[str, Any]) -> Rebound | None:
        """The idempotency key's binding, where one was given, is still alive and belongs to these lanes."""
        bound = said.get("bound")
        if not bound:
            return None
        digest, life_ms = bytes.fromhex(bound[:32]), said["accepted_at"] + DAY_MS - self._now_ms
        if life_ms <= 0 or lane_of(digest) not in self._lanes:
            return None
        return Rebound(digest, raw_id(said["id"]) + bytes.fromhex(bound[32:]), life_ms)

    def _ended(
        self, said: Mapping[str, Any], outcome: Outcome, place: Place | None = None, due: int | None = None
    ) -> Restored | None:
        if outcome.kind == "cancelled":
            return self._made(said, "void", place, code=outcome.code, counts=False)
        kept = bool(said.get("bound")) or said["id"] in self.waiting
        ttl_ms = None if kept else max(0, outcome.at_ms + DONE_MS - self._now_ms)
        unsent = outcome.kind in UNSENT
        return self._made(said, "done", place, ttl_ms=ttl_ms, due=due, counts=not unsent, refunded=unsent)

    def _made(
        self,
        said: Mapping[str, Any],
        state: Name,
        place: Place | None = None,
        *,
        ttl_ms: int | None = None,
        due: int | None = None,
        code: str = "",
        counts: bool = True,
        refunded: bool = False,
    ) -> Restored | None:
        """None where nothing of it matters any more."""
        now, subject = self._now_ms, bytes.fromhex(said["subject"])
        rule = self._book.find(said["sender"], said["purpose"])
        life_ms = max(0, said["expires_at"] + DAY_MS - now) if ttl_ms is None else ttl_ms
        term = _term(said.get("long_windows"))
        stamp: int = said.get("stamp") or 0
        fields = rule.fields(term) if rule is not None and counts and stamp else None
        if fields is not None and stamp + fields.longest_ms + HOUR_MS <= now:
            fields = None
        request, request_life_ms = self._request(said, subject, rule)
        if not life_ms and fields is None and not request_life_ms:
            return None
        fresh = fields is not None and rule is not None and now - stamp < min(rule.plan.same_text_ms, TEXTS_MS)
        bound = bool(said.get("bound"))
        answer = self._spelling.answer(due, said["parts"], said["pack"]) if bound else b""
        return Restored(
            said["id"],
            subject,
            state,
            said["attempt"],
            stamp,
            place.partition if place is not None else 0,
            place.offset if place is not None else 0,
            fields,
            said.get("entry"),
            0 if rule is None else basis_at(rule.plan, Basis(said["basis"]), term),
            self._spelling.text_hash(said["text"]) if fresh else None,
            answer,
            code,
            bound,
            refunded or state == "void",
            life_ms,
            request,
            request_life_ms,
        )

    def _request(self, said: Mapping[str, Any], subject: bytes, rule: Rule | None) -> tuple[bytes | None, int]:
        """The used request and its remaining life; the person's own time is not in the message, so a little longer."""
        ref = said.get("request_ref")
        if ref is None or rule is None or rule.plan.basis is not Basis.REQUEST:
            return None, 0
        life_ms = said["accepted_at"] + rule.request_life_ms + SLACK_MS - self._now_ms
        if life_ms <= 0:
            return None, 0
        return self._spelling.request(subject, said["sender"], said["purpose"], ref), life_ms


def _term(long_windows: Sequence[Sequence[Any]] | None) -> str | None:
    """The consent whose own weekly limit counted the message."""
    for name, _ in long_windows or ():
        if name.startswith(TERM):
            found: str = name[len(TERM) :]
            return found
    return None
