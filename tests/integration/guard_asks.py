"""Short ways to plans, asks and states, for the guard's integration tests."""

import os
import time
from typing import Any

from gateway.contract.consent import Consent, Relationship, State
from gateway.contract.decision import Basis, Class
from gateway.contract.ids import lane_of, new_id
from gateway.guard import Ask, Claim, Guard, VoidAsk
from gateway.rules.plan import Plan, Window

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
SEQ = 5


def window(limit: int, period_ms: int, field: str = "T/acme", *, calendar: bool = False) -> Window:
    return Window(f"{field} {limit}", field, limit, period_ms, calendar, "test")


def a_plan(*windows: Window, **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "sender": "acme",
        "purpose": "transaction.order",
        "cls": Class.TRANSACTIONAL,
        "pack": "t@1",
        "basis": Basis.RELATIONSHIP,
        "consents": (),
        "relationships": ("acme/order",),
        "scopes": ("*", "acme", "acme#transactional"),
        "ignored_reasons": 0,
        "approved_ignored_reasons": 0,
        "preferences": ("acme", "*"),
        "topics": ("transaction.order", "transaction"),
        "windows": windows,
        "weekly_field": None,
        "same_text_ms": 0,
        "quiet": False,
        "zone": "UTC",
    }
    return Plan(**(fields | changes))


def a_subject(lane: int | None = None) -> bytes:
    subject = os.urandom(16)
    return subject if lane is None else bytes([subject[0] & 0xF0 | lane]) + subject[1:]


def an_ask(subject: bytes, plan: Plan, **changes: Any) -> Ask:
    now = time.time_ns() // 1_000_000
    day = now // DAY * DAY
    fields: dict[str, Any] = {
        "id": new_id(lane_of(subject)),
        "subject": subject,
        "plan": plan,
        "text_hash": os.urandom(8),
        "midnights": (day - DAY, day, day + DAY),
        "minute_of_day": 600,
        "answer": b"answer",
    }
    return Ask(**(fields | changes))


def a_claim(ask: Ask, offset: int = 1, attempt: int = 1, partition: int = 0) -> Claim:
    return Claim(ask.id, attempt, ask.subject, ask.plan, partition, offset)


def back(ask: Ask) -> VoidAsk:
    return VoidAsk(ask.id, ask.subject)


def permissive(seq: int = SEQ) -> State:
    return State(
        seq=seq,
        consents={"acme/marketing": Consent(at=1, entry=3)},
        relationships={"acme/order": Relationship(at=1, entry=4)},
    )


async def a_customer(guard: Guard, lane: int | None = None) -> bytes:
    """A recipient with an order and a consent, in a warm lane."""
    subject = a_subject(lane)
    await guard.apply([(subject, permissive())])
    return subject
