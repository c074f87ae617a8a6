"""Cases and figures as callers see them: a reporter by subject or masked, times in UTC, words only where asked for."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel

from gateway.contract.complaint import CaseAct, CaseState, Matching, Outcome, Source
from gateway.edge.times import of_ms
from gateway.records.cases import Acted, Case
from gateway.records.figures import Figures


def _at(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else of_ms(at_ms)


class EvidenceView(BaseModel):
    """What shows on which permission the message was sent, and that the person was suppressed."""

    bundle: str | None = None
    """`GET` it: the sealed bundle of the message, else of the suppression."""
    permission: int | None = None
    """The ledger entry that the message relied on."""
    suppression: int | None = None
    """The ledger entry of the suppression."""


class CaseActView(BaseModel):
    """One act on the case. `detail`: to whom it was assigned, which message, or the outcome."""

    act: CaseAct
    by: str
    at: datetime
    detail: str | None = None
    note: str | None = None
    """Only where the words were asked for."""
    entry: int | None = None
    """Its place in the ledger; it gets one within a minute."""

    @classmethod
    def of(cls, acted: Acted, note: str | None) -> "CaseActView":
        """As it is kept."""
        return cls(act=acted.act, by=acted.by, at=of_ms(acted.at), detail=acted.detail, note=note, entry=acted.entry)


class CaseView(BaseModel):
    """A complaint and its case."""

    id: str
    source: Source
    subject: str | None = None
    """None once the person is erased."""
    port: str | None = None
    sender: str | None = None
    campaign: str | None = None
    purpose: str | None = None
    list_source: str | None = None
    at: datetime
    received_at: datetime
    match: Matching
    resolved_by: str | None = None
    message: str | None = None
    candidates: list[str] = []
    """Where a person decides: the messages that could have caused it."""
    suppressed: str
    evidence: EvidenceView
    state: CaseState
    assigned_to: str | None = None
    due_at: datetime
    answered_at: datetime | None = None
    closed_at: datetime | None = None
    outcome: Outcome | None = None
    overdue: bool = False
    """Nobody answered in time."""
    timeline: list[CaseActView] | None = None
    reporter: str | None = None
    """Masked; only where the words were asked for."""
    text: str | None = None
    ref: str | None = None

    @classmethod
    def of(cls, case: Case, **more: Any) -> "CaseView":
        """As it is kept."""
        evidence = EvidenceView(
            bundle=None if case.bundle is None else f"/v1/evidence/{case.bundle}",
            permission=case.permission,
            suppression=case.entry,
        )
        kept: Mapping[str, Any] = {name: getattr(case, name) for name in _PLAIN}
        return cls(
            **kept,
            subject=None if case.subject is None else case.subject.hex(),
            at=of_ms(case.at),
            received_at=of_ms(case.received_at),
            candidates=[] if case.match is Matching.MATCHED else case.candidates,
            suppressed=case.scope,
            evidence=evidence,
            due_at=of_ms(case.due_at),
            answered_at=_at(case.answered_at),
            closed_at=_at(case.closed_at),
            **more,
        )


_PLAIN = (
    *("id", "source", "port", "sender", "campaign", "purpose", "list_source", "match", "resolved_by", "message"),
    *("state", "assigned_to", "outcome", "overdue"),
)


class CasePage(BaseModel):
    """Cases, the newest received first."""

    complaints: list[CaseView]
    next: str | None = None
    """Give it as `after` to see older ones."""


class FiguresView(BaseModel):
    """What a named officer states a day's complaints to be, beside what had been imported then."""

    status: Literal["stated"] = "stated"
    date: date
    source: Source
    imported: int
    stated: int
    agrees: bool
    by: str
    at: datetime
    entry: int | None = None

    @classmethod
    def of(cls, figures: Figures) -> "FiguresView":
        """As they are kept."""
        more = {"agrees": figures.imported == figures.stated, "at": of_ms(figures.at)}
        return cls.model_validate({**figures._asdict(), **more})


class FiguresPage(BaseModel):
    """The figures that stand, by day and source."""

    figures: list[FiguresView]
