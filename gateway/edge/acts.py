"""From a request to an event of the ledger, and from what the appender says to an answer.

Owns who may record what about whom: the client's senders, the topics a sender's pack knows, the evidence a grant needs.
The checks are pure: the time comes in. What is appended is durable and applied before it is answered (`ledger`); a
retry of an unanswered act is harmless, and exactly one act where the caller gives it an `event_id` or the header
`Idempotency-Key`.
"""

import hashlib
import re
import time
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from fastapi import Header
from pydantic import BaseModel

from gateway.contract.codes import Code
from gateway.contract.consent import Event, EventKind, Evidence
from gateway.contract.decision import Basis, Refusal
from gateway.contract.ids import subject_of
from gateway.contract.message import Label
from gateway.contract.registry import Client
from gateway.edge.auth import may_use
from gateway.edge.callers import Caller
from gateway.edge.gate import Gate
from gateway.edge.problems import Refused
from gateway.ledger.commit import Appended
from gateway.rules import numbers
from gateway.rules.pack import Pack

FUTURE_MS = 300_000
"""How far ahead of ours a caller's clock may be."""
DEEPEST = 8
NO_NUMBER = Refusal(Code.RECIPIENT_INVALID)
NOT_YOURS = Refusal(Code.CLIENT_FORBIDDEN, "the sender is not among this client's")
_SUBJECT = re.compile(r"^[0-9a-f]{32}$")
_NO_CONSENT = (
    *("register", "registration", "signup", "silence", "silent", "default", "purchase", "implied"),
    *("preticked", "prechecked", "注册", "默认", "沉默", "购买", "预勾选", "未拒绝"),
)
"""Ways of "agreeing" that are none (MIIT Order 31, PIPL 14), as folded by `_folded`."""

Fault = tuple[Refusal, Sequence[Mapping[str, str]] | None]
"""A refusal, with the fields that caused it."""


class Person(NamedTuple):
    """A recipient: the number where it is known, and the subject that names it everywhere else."""

    number: str | None
    subject: bytes


class Recorded(BaseModel):
    """An act of a person as it now stands in the ledger."""

    status: Literal["recorded"] = "recorded"
    seq: int | None
    """Its entry in the ledger; none where the act was recorded before and its entry is not at hand."""
    event_id: str
    subject: str
    duplicate: bool = False
    """The same act was recorded before; nothing changed."""


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def person(gate: Gate, number: str) -> Person:
    """The person behind a number as a caller writes it."""
    parsed = numbers.parse(number)
    if parsed is None:
        raise Refused(NO_NUMBER, [{"field": "recipient", "message": "not a mobile number in E.164"}])
    return Person(parsed, subject_of(gate.pepper, parsed))


def named(gate: Gate, number_or_subject: str) -> Person:
    """The person a path or query names, by number or by subject (32 hex digits)."""
    if _SUBJECT.match(number_or_subject):
        return Person(None, bytes.fromhex(number_or_subject))
    return person(gate, number_or_subject)


def field_fault(field: str, message: str, code: Code = Code.REQUEST_INVALID) -> Fault:
    """One field is wrong; `message` must not quote it."""
    return Refusal(code), [{"field": field, "message": message}]


def sender_fault(gate: Gate, client: Client, sender: str) -> Fault | None:
    """The sender must exist and be one of the client's; which of the two is not told."""
    if may_use(client, sender) and gate.cfg.sender(sender) is not None:
        return None
    return NOT_YOURS, None


def pack_of(gate: Gate, sender: str) -> Pack:
    """The rule pack of a sender; the first one where no sender is meant."""
    known = gate.cfg.sender(sender)
    return gate.packs[known.pack] if known is not None else next(iter(gate.packs.values()))


def topics_fault(pack: Pack, topics: Sequence[str], *, granting: bool) -> Fault | None:
    """Every topic is a purpose of the pack or the first segment of one; a grant needs one that consent permits."""
    known = set()
    for name, purpose in pack.purposes.items():
        if not granting or purpose.basis is Basis.CONSENT:
            known |= {name, name.partition(".")[0]}
    for index, topic in enumerate(topics):
        if topic not in known:
            what = "not a purpose or topic that consent permits" if granting else "not a purpose or topic"
            return field_fault(f"topics.{index}", f"{what}; see GET /v1/purposes")
    return None


def time_fault(occurred_at: datetime, now: int) -> Fault | None:
    """No act is from the future."""
    if occurred_at.timestamp() * 1000 > now + FUTURE_MS:
        return field_fault("occurred_at", "in the future")
    return None


def evidence_fault(evidence: Evidence | None) -> Fault | None:
    """What a grant must show (DESIGN, grants): the person's own tick on a known form; never a default or silence."""
    if evidence is None:
        return field_fault("evidence", "missing", Code.EVIDENCE_INSUFFICIENT)
    method = _folded(evidence.method or "")
    lacks = (
        ("checkbox_checked", "must be true", evidence.checkbox_checked is not True),
        ("default_checked", "a pre-ticked box is no consent", bool(evidence.default_checked)),
        ("form_version", "missing", not (evidence.form_version or "").strip()),
        ("method", "is no express consent", any(word in method for word in _NO_CONSENT)),
    )
    for name, message, lacking in lacks:
        if lacking:
            return field_fault(f"evidence.{name}", message, Code.EVIDENCE_INSUFFICIENT)
    return depth_fault(evidence)


def depth_fault(evidence: Evidence | None) -> Fault | None:
    """Evidence is kept as given, to a bounded depth."""
    if evidence is not None and _depth(evidence.model_extra or {}) > DEEPEST:
        return field_fault("evidence", f"nested deeper than {DEEPEST}")
    return None


def _folded(text: str) -> str:
    """Letters and digits only, full-width forms and case folded: `Pre-Ticked` and `ＰＲＥＴＩＣＫＥＤ` are one word."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def event_id(client: Client, given: str | None, act: Mapping[str, Any] | None = None) -> str:
    """A caller's own id within its client; else the act's own digest, where repeating it must change nothing."""
    if given is not None:
        return f"{client.id}/{given}"
    if act is None:
        return str(uuid.uuid4())
    told = "\0".join(f"{name}={act[name]}" for name in sorted(act))
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def event(client: Client, kind: EventKind, who: Person, occurred_at_ms: int, data: dict[str, Any], name: str) -> Event:
    """One act, with who reported it."""
    return Event(
        event_id=name,
        kind=kind,
        number=who.number,
        subject=who.subject,
        occurred_at_ms=occurred_at_ms,
        data={**data, "by": client.id},
    )


async def append(caller: Caller, what: Event) -> Appended:
    """Append one event; `Refused` when it has no effect."""
    (appended,) = await caller.gate.appender.append([what])
    if appended.refusal is not None:
        raise Refused(appended.refusal)
    return appended


async def looked(caller: Caller, subject: bytes, *seen: str) -> None:
    """Record that the client looks at a person's data, or at a list (subject `system`), before `seen` is shown."""
    who, data = Person(None, subject), {"seen": list(seen)}
    await append(caller, event(caller.client, EventKind.ACCESS, who, now_ms(), data, event_id(caller.client, None)))


def recorded(what: Event, appended: Appended) -> Recorded:
    """The answer to an act that was appended now or before."""
    return Recorded(seq=appended.seq, event_id=what.event_id, subject=what.subject.hex(), duplicate=appended.duplicate)


KEY_HEADER = Header(alias="Idempotency-Key", description="The caller's own id of this act, where the body has none.")
Key = Label


def check(fault: Fault | None) -> None:
    """Raise a fault that was found."""
    if fault is not None:
        raise Refused(*fault)
