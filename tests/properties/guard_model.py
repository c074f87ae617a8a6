"""The guard in plain Python, written from the scripts' headers and not from their code.

Counts instead of n-th lasts, lists instead of packed logs, dictionaries instead of keys; no key ever expires here.
"""

from dataclasses import dataclass, field
from typing import Any

from gateway.contract.consent import State
from gateway.contract.decision import Basis, Class
from gateway.guard import Ask, Claim, Mode
from gateway.guard.plans import WEEK_MS, everyone, fields_of
from gateway.rules.plan import Plan

OPT_OUT = 1 << 1


@dataclass
class Record:
    state: str
    attempt: int
    at: tuple[int, int] = (0, 0)
    stamp: int = 0
    fields: tuple[str, ...] = ()
    text: bytes | None = None
    refunded: bool = False
    answer: bytes = b""
    entry: int | None = None
    key: str | None = None
    code: str | None = None
    bound: bool = False
    shared: bool = False


@dataclass
class Model:
    now: int
    cursor: int | None = None
    persons: dict[bytes, State] = field(default_factory=dict)
    blocks: dict[bytes, set[str]] = field(default_factory=dict)
    fences: dict[bytes, int] = field(default_factory=dict)
    used: dict[bytes, str] = field(default_factory=dict)
    logs: dict[tuple[bytes, str], list[int]] = field(default_factory=dict)
    texts: dict[bytes, list[tuple[bytes, int]]] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)

    def edges(self) -> list[int]:
        """Times to come at which a stamp stops counting somewhere."""
        stamps = {log[-1] for log in self.logs.values() if log} | {log[0] for log in self.logs.values() if log}
        periods = (60_000, 3_600_000, WEEK_MS)
        found = {stamp + period for stamp in stamps for period in periods}
        found |= {stamp + 30_000 for log in self.texts.values() for _, stamp in log[-1:]}
        found |= {(self.now // 86_400_000 + 1) * 86_400_000}
        return sorted(edge for edge in found if edge > self.now + 1)

    # --- permission ------------------------------------------------------------------------------------------------

    def stopped(self, subject: bytes, plan: Plan, approved: bool) -> str | None:
        state, bits = self.persons.get(subject, State(seq=0)), 0
        for scope in plan.scopes:
            for one in state.suppressions.get(scope, []):
                bits |= 1 << one.reason
            if scope in self.blocks.get(subject, ()):
                bits |= OPT_OUT
        bits &= ~(plan.approved_ignored_reasons if approved else plan.ignored_reasons)
        if not bits:
            return None
        return "consent.withdrawn" if plan.basis is Basis.CONSENT and bits == OPT_OUT else "suppressed"

    def basis(self, subject: bytes, plan: Plan, *, requested: bool) -> tuple[str | None, int | None, str | None, int]:
        """(code, entry, key, weekly limit of the consent)."""
        state = self.persons.get(subject, State(seq=0))
        if plan.basis is Basis.REQUEST and requested:
            return None, None, None, 0
        consents = [
            (c.entry, key, c.max_per_week)
            for key in plan.consents
            if (c := state.consents.get(key)) and (not c.until or self.now < c.until * 1000)
        ]
        relationships = [
            (r.entry, key, 0)
            for key in plan.relationships
            if (r := state.relationships.get(key)) and (not r.expires or self.now < r.expires * 1000)
        ]
        found = relationships + consents if plan.basis is Basis.RELATIONSHIP else consents + relationships
        if found:
            return None, *found[0]
        codes = {Basis.CONSENT: "consent.missing", Basis.RELATIONSHIP: "relationship.missing"}
        return codes.get(plan.basis, "request.missing"), None, None, 0

    def unwanted(self, subject: bytes, plan: Plan) -> bool:
        if plan.cls is not Class.MARKETING:
            return False
        preferences = self.persons.get(subject, State(seq=0)).preferences
        return any(
            (p := preferences.get(whose)) and p.topics and not set(p.topics) & set(plan.topics)
            for whose in plan.preferences
        )

    def hours(self, subject: bytes, plan: Plan) -> tuple[int, int] | None:
        preferences = self.persons.get(subject, State(seq=0)).preferences
        found = [p.hours for whose in plan.preferences if (p := preferences.get(whose)) and p.hours]
        if not found or not plan.quiet:
            return None
        start, end = max(h[0] for h in found), min(h[1] for h in found)
        return (start, end) if start < end else found[0]

    # --- windows ---------------------------------------------------------------------------------------------------

    def counted(self, subject: bytes, name: str, since: int) -> int:
        return sum(stamp >= since for stamp in self.logs.get((subject, name), []))

    def window(self, ask: Ask, key: str | None, most: int, names: list[str]) -> tuple[int, str | None]:
        """(the clamped time, the first window that is full)."""
        subject, plan = ask.subject, ask.plan
        stamps = [stamp for name in names for stamp in self.logs.get((subject, name), [])]
        stamps += [stamp for _, stamp in self.texts.get(subject, [])] if plan.same_text_ms or names else []
        eff = max([self.now, *stamps])
        preferences = self.persons.get(subject, State(seq=0)).preferences
        week = eff - WEEK_MS + 1
        for whose in plan.preferences if plan.weekly_field else ():
            p = preferences.get(whose)
            name = everyone(plan.weekly_field or "") if whose == "*" else plan.weekly_field or ""
            if p and p.max_per_week and self.counted(subject, name, week) >= p.max_per_week:
                return eff, f"preference {whose}"
        if most and self.counted(subject, f"C/{key}", week) >= most:
            return eff, "terms"
        hours = self.hours(subject, plan)
        if hours and not hours[0] <= ask.minute_of_day < hours[1]:
            return eff, "quiet"
        for w in plan.windows:
            since = max(m for m in ask.midnights if m <= eff) if w.calendar else eff - w.period_ms + 1
            if self.counted(subject, w.field, since) >= w.limit:
                return eff, w.name
        same = plan.same_text_ms
        if same and any(h == ask.text_hash and s > eff - same for h, s in self.texts.get(subject, [])):
            return eff, "same text"
        return eff, None

    # --- steps -----------------------------------------------------------------------------------------------------

    def admit(self, ask: Ask, min_seq: int) -> dict[str, Any]:  # noqa: PLR0911 - one return a rule, in their order
        if self.cursor is None or self.cursor < min_seq:
            return {"code": "cache.cold"}
        record, counts = self.records.get(ask.id), ask.attempt == 1 and ask.mode is not Mode.HOLD
        if record is not None:
            told = record.bound and record.answer and record.code != "unavailable"
            goes = record.state == "void" and ask.mode is not Mode.RELEASE and not told
            if ask.mode is Mode.RELEASE:
                again = record.state == "reserved" and ask.attempt > 1 and record.attempt == ask.attempt
                lost = record.attempt < ask.attempt and record.state not in {"done", "void"}
                goes = record.state == "held" or again or lost
                counts = record.state == "held"
            if not goes:
                record.shared |= ask.mode is not Mode.RELEASE and record.state in {"reserved", "held"}
                return {
                    "code": None,
                    "state": record.state,
                    "replay": True,
                    "entry": record.entry,
                    "stamp": record.stamp,
                }
        if ask.mode is Mode.RECALL:
            return {"code": "unavailable"}
        refusal = self.stopped(ask.subject, ask.plan, ask.approved)
        if refusal:
            return {"code": refusal}
        if ask.request is not None and self.used.get(ask.request, ask.id) != ask.id:
            return {"code": "request.missing"}
        code, entry, key, most = self.basis(ask.subject, ask.plan, requested=ask.request is not None)
        if code:
            return {"code": code}
        if self.unwanted(ask.subject, ask.plan):
            return {"code": "preference.unwanted"}
        return self._count(ask, record, (entry, key, most), counts=counts)

    def _count(
        self, ask: Ask, record: Record | None, basis: tuple[int | None, str | None, int], *, counts: bool
    ) -> dict[str, Any]:
        entry, key, most = basis
        names = [*fields_of(ask.plan), *([f"C/{key}"] if most else [])] if counts else []
        eff, logged = self.now, bool(counts and (names or ask.plan.same_text_ms))
        if logged:
            eff, full = self.window(ask, key, most, names)
            if full == "quiet":
                return {"code": "quiet.hours"}
            if full:
                return {"code": "window.exceeded", "window": full}
        elif ask.mode is not Mode.HOLD:
            hours = self.hours(ask.subject, ask.plan)
            if hours and not hours[0] <= ask.minute_of_day < hours[1]:
                return {"code": "quiet.hours"}
        held = ask.mode is Mode.HOLD
        answer = {"code": None, "state": "held" if held else "reserved", "replay": False, "entry": entry, "stamp": eff}
        if not logged and ask.mode is Mode.RELEASE and ask.attempt > 1 and record is not None:
            if record.attempt < ask.attempt:
                record.state, record.attempt, record.at = "reserved", ask.attempt, (0, 0)
            return answer
        text = None
        if logged:
            for name in names:
                self.logs.setdefault((ask.subject, name), []).append(eff)
            if ask.plan.same_text_ms:
                text = ask.text_hash
                self.texts.setdefault(ask.subject, []).append((text, eff))
        if ask.request is not None:
            self.used[ask.request] = ask.id
        self.records[ask.id] = Record(
            "held" if held else "reserved",
            ask.attempt,
            stamp=eff if logged else 0,
            fields=tuple(names),
            text=text,
            answer=ask.answer,
            entry=entry,
            key=key,
            bound=ask.bound,
        )
        return answer

    def give_back(self, subject: bytes, record: Record) -> bool:
        if record.refunded or not (record.fields or record.text):
            return False
        for name in record.fields:
            if record.stamp in self.logs.get((subject, name), []):
                self.logs[subject, name].remove(record.stamp)
        if record.text and (record.text, record.stamp) in self.texts.get(subject, []):
            self.texts[subject].remove((record.text, record.stamp))
        record.refunded = True
        return True

    def end(self, record: Record, code: str) -> None:
        record.state, record.code, record.at, record.fields, record.text = "void", code, (0, 0), (), None
        record.refunded, record.shared = True, False

    def void(self, message_id: str, subject: bytes, code: str, request: bytes | None = None) -> str:
        record = self.records.get(message_id)
        if record is not None and record.shared and code == "unavailable":
            return record.state
        ends = record is None or record.state in {"reserved", "held"}
        if ends and request is not None and self.used.get(request) == message_id:
            del self.used[request]
        if record is None:
            self.records[message_id] = Record("void", 1, refunded=True, code=code)
            return "absent"
        if record.state in {"reserved", "held"}:
            self.give_back(subject, record)
            self.end(record, code)
        return record.state

    def claim(self, claim: Claim, min_seq: int) -> tuple[str, str | None]:
        if self.cursor is None or self.cursor < min_seq:
            return "cold", "cache.cold"
        record, here = self.records.get(claim.id), (claim.partition, claim.offset)
        if record is not None:
            copy = record.state == "taken" and record.attempt == claim.attempt and record.at != here
            if record.state in {"done", "void"} or record.attempt > claim.attempt or copy:
                return "drop", None
        code = self.stopped(claim.subject, claim.plan, claim.approved)
        _, entry, key, _ = basis = self.basis(claim.subject, claim.plan, requested=True)
        code = code or basis[0]
        if record is None:
            record = self.records[claim.id] = Record("reserved", claim.attempt, entry=entry, key=key)
            if code:
                record.entry = None
        record.attempt = claim.attempt
        if code:
            self.give_back(claim.subject, record)
            self.end(record, code)
            return "refused", code
        record.state, record.at = "taken", here
        self.fences[claim.subject] = self.now + 1000
        return "go", None
