"""How rows of messages, people and the ledger are said on several pages: statuses, permissions, scopes, steps."""

from typing import Any

from gateway.console.frame import View
from gateway.contract.decision import Status
from gateway.records.messages import Message

TONES = {
    Status.DELIVERED: "good",
    Status.UNDELIVERED: "bad",
    Status.REJECTED: "bad",
    Status.EXPIRED: "warn",
    Status.UNKNOWN: "warn",
}
SHORT = 12
"""Hex digits of a subject that are shown where it leads to its page."""


def short(subject: bytes | None) -> str:
    """The beginning of a subject; a dash where it is not known."""
    return "–" if subject is None else subject.hex()[:SHORT]


def message_row(view: View, one: Message) -> dict[str, Any]:
    """A message in a list."""
    return {
        "id": one.id,
        "to": f"/messages/{one.id}",
        "at": view.time(one.accepted_at, seconds=True),
        "status": view.t["status_" + one.status.value],
        "tone": TONES.get(one.status, ""),
        "sender": one.sender or "–",
        "purpose": one.purpose or "–",
        "campaign": one.campaign or "–",
        "ref": one.client_ref or "–",
        "who": short(one.subject),
        "person": None if one.subject is None else f"/recipients/{one.subject.hex()}",
    }


def scope(view: View, written: str) -> str:
    """A suppression's scope in words: a sender, its class, a topic, or everything."""
    owner, topic = written.partition("/")[::2]
    owner, cls = owner.partition("#")[::2]
    said = view.t["scope_every"] if owner == "*" else owner
    if cls:
        return f"{said} · {view.t.get('class_' + cls, cls)}"
    return f"{said} · {topic}" if topic else said


def minutes(of_day: int) -> str:
    """A minute of the day, as a clock shows it."""
    return f"{of_day // 60:02d}:{of_day % 60:02d}"
