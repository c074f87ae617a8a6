"""What a person was woken for, the newest first, each with the page of the runbook that says what to do."""

from typing import Any
from uuid import UUID

from gateway.console import pieces, telling
from gateway.console.frame import Page, View
from gateway.contract.console import May
from gateway.contract.health import page_of
from gateway.records import alerts
from gateway.records.alerts import Raised

MOST = 200
REFRESH_S = 5.0


async def show(view: View) -> None:
    """Build the page."""
    pieces.text("p", view.t["alerts_lead"])
    before = _before(view.asked.get("before", ""))
    await view.listing(REFRESH_S, lambda conn: alerts.latest(conn, limit=MOST, before=before), _row, _list)


def _before(written: str) -> UUID | None:
    """Where the page goes on, by its address."""
    try:
        return UUID(written)
    except ValueError:
        return None


def _list(view: View, _found: list[Raised], rows: list[dict[str, Any]]) -> None:
    t = view.t
    if not rows:
        pieces.empty(t["alerts_none"])
        return
    columns = (
        pieces.Column("at", t["at"]),
        pieces.Column("severity", t["severity"]),
        pieces.Column("kind", t["alert"], whole=True),
        pieces.Column("scope", t["scope"], to="leads"),
        pieces.Column("summary", t["detail"]),
        pieces.Column("page", t["runbook"], to="to"),
    )
    pieces.status_cells(pieces.table(columns, rows, t["alerts_title"], page=50), "severity")
    if len(rows) == MOST:
        with pieces.box("p"):
            pieces.link(t["older"], f"/alerts?before={rows[-1]['id']}")


def _row(view: View, one: Raised) -> dict[str, Any]:
    page, base = page_of(one.kind), view.desk.runbook.rstrip("/")
    linked = base.startswith(("https://", "http://"))
    return {
        "id": str(one.id),
        "at": view.time(one.at, seconds=True),
        "severity": view.t["severity_" + one.severity],
        "tone": "bad" if one.severity == "critical" else "warn",
        "kind": view.t.get("alert_" + one.kind.replace(".", "_"), one.kind),
        "scope": view.t.get("source_" + one.scope, one.scope) if one.kind == "complaints.file_missing" else one.scope,
        "leads": f"/cases/{one.scope}" if one.kind == "case.overdue" and view.may(May.CASES) else None,
        "summary": _said(view, one),
        "page": page if linked else f"{base}/{page}",
        "to": f"{base}/{page}" if linked else None,
    }


def _said(view: View, one: Raised) -> str:
    """What it says, in the reader's words; a kind that has none here as it was raised."""
    t, detail = view.t, one.detail
    source = t.get("source_" + str(detail.get("source")), str(detail.get("source")))
    match one.kind:
        case "breaker.open" | "breaker.warn" if counted := telling.counted(view, detail):
            opened = [telling.lines(view, detail), _to_clean(view, detail)] if one.kind == "breaker.open" else []
            return " · ".join(filter(None, (counted, *opened)))
        case "case.overdue":
            return t("alert_overdue_said", source=source, sender=detail.get("sender") or "–")
        case "complaints.file_missing":
            return t("alert_missing_said", source=source, day=detail.get("date"))
        case "alert.test":
            return t("alert_test_said", by=detail.get("by") or "–")
    return one.summary


def _to_clean(view: View, detail: dict[str, Any]) -> str:
    """Which lists to look at first."""
    named = {kind: shares[0]["name"] for kind, shares in (detail.get("clean") or {}).items() if shares}
    return view.t("alert_clean", lists=", ".join(f"{kind}:{name}" for kind, name in named.items())) if named else ""


PAGE = Page("/alerts", "alerts_title", May.BOARD, show, menu=True)
