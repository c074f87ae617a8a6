"""Complaints as they are told: where from, by whom, about which port, when, in which words; and what becomes of a case.

A complaint's text and its reporter's number are personal: they are in what a caller sends and nowhere else in the
clear. Everything that is stored or answered names the reporter by subject.
"""

from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, Field, StringConstraints

from gateway.contract.message import MAX_BATCH, Number, Strict

MOST_TEXT = 4_000
MOST_REF = 200
SOURCES = ("12321", "carrier", "own")
Source = Literal["12321", "carrier", "own"]
"""Who told us: the 12321 centre, a carrier, or our own channel (hotline, mail, reply)."""
Port = Annotated[str, StringConstraints(pattern=r"^[0-9]{3,24}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
"""A person, by name: who did it."""
Outcome = Literal["resolved", "apologised", "corrected", "unfounded", "not_ours"]
"""What a case came to."""
OUTCOMES: tuple[Outcome, ...] = ("resolved", "apologised", "corrected", "unfounded", "not_ours")


class Matching(StrEnum):
    """Whether the message that caused a complaint is known."""

    MATCHED = "matched"
    AMBIGUOUS = "ambiguous"
    """Several messages could have; a person decides."""
    UNMATCHED = "unmatched"
    """None could have; a person looks."""


class CaseState(StrEnum):
    """Where a case stands. It only moves forward."""

    OPEN = "open"
    ASSIGNED = "assigned"
    ANSWERED = "answered"
    CLOSED = "closed"


class CaseAct(StrEnum):
    """What was done about a case."""

    RECORDED = "recorded"
    TOLD = "told"
    """Another source told of the same complaint; `detail` says which."""
    ASSIGNED = "assigned"
    ANSWERED = "answered"
    MATCHED = "matched"
    CLOSED = "closed"


class ComplaintRequest(Strict):
    """POST /v1/complaints: one complaint."""

    source: Source
    reporter: Number
    port: Port | None = None
    at: AwareDatetime
    """When the person complained, by the source's clock."""
    text: Annotated[str, StringConstraints(max_length=MOST_TEXT)] = ""
    """Word for word."""
    ref: Annotated[str, StringConstraints(min_length=1, max_length=MOST_REF)] | None = None
    """The source's own reference; the same one again is the same complaint."""


class ComplaintBatch(Strict):
    """1 to 1,000 complaints, each taken as if it had come alone."""

    complaints: Annotated[list[ComplaintRequest], Field(min_length=1, max_length=MAX_BATCH)]


class Told(NamedTuple):
    """A complaint whose fields have been read: the number in E.164, the port in digits, the time in Unix ms."""

    source: str
    number: str
    port: str | None
    at_ms: int
    text: str
    ref: str | None
