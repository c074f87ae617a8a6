"""What people do about messages, and what a person must look at: the words of a sender's health.

A complaint counts at the time its message was sent, so that a campaign is judged by what it caused; everything else
counts when it came.
"""

import hashlib
from enum import IntEnum
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict


class Act(IntEnum):
    """What somebody did about a message; the numbers are stored."""

    COMPLAINT = 1
    UNSUBSCRIBE = 2
    REPLY = 3
    CLICK = 4


class Signal(NamedTuple):
    """One act. Told twice with the same key, it counts once."""

    act: Act
    key: bytes
    """16 bytes: `key_of` what makes it the same one."""
    minute: int
    """The Unix minute it counts in."""
    at: int
    """When it came, Unix ms."""
    origin: int | None = None
    """The row of `message_origins` of its message, where that is known."""
    message: str | None = None
    subject: bytes | None = None
    carrier: str | None = None
    """Which carrier brought its message; looked up where a message is given and this is not."""


def key_of(*told: str) -> bytes:
    """A signal's key, of the words that make it the same one."""
    return hashlib.blake2b("\0".join(told).encode(), digest_size=16).digest()


class Alert(BaseModel):
    """Something that a person must look at. Neither number, text nor subject is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """What makes it the same alert: raised again under the same key, it is not told again."""
    kind: str
    """A dotted word with a page of its own in the runbook: `breaker.open`, `case.overdue` …"""
    severity: Literal["warning", "critical"]
    scope: str
    """What it is about: a breaker's scope, a case's id, a carrier."""
    summary: str
    """One sentence, English."""
    detail: dict[str, Any] = {}


def page_of(kind: str) -> str:
    """The file of the runbook that says what to do about an alert of this kind."""
    return f"{kind.replace('.', '-').replace('_', '-')}.md"
