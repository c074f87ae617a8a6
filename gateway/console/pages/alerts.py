"""What a person was woken for, the newest first, each with the page of the runbook that says what to do."""

from typing import Any

from gateway.console import pieces
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
    await view.listing(REFRESH_S, lambda connection: alerts.latest(connection, limit=MOST), _row, _list)


def _list(view: View, _found: list[Raised], rows: list[dict[str, Any]]) -> None:
    t = view.t
    if not rows:
        pieces.empty(t["alerts_none"])
        return
    columns = (
        pieces.Column("at", t["at"]),
        pieces.Column("severity", t["severity"]),
        pieces.Column("kind", t["alert"]),
        pieces.Column("scope", t["scope"], to="leads"),
        pieces.Column("summary", t["detail"]),
        pieces.Column("page", t["runbook"], to="to"),
    )
    pieces.status_cells(pieces.table(columns, rows, t["alerts_title"], page=50), "severity")


def _row(view: View, one: Raised) -> dict[str, Any]:
    page, base = page_of(one.kind), view.desk.runbook.rstrip("/")
    linked = base.startswith(("https://", "http://"))
    return {
        "id": str(one.id),
        "at": view.time(one.at, seconds=True),
        "severity": view.t["severity_" + one.severity],
        "tone": "bad" if one.severity == "critical" else "warn",
        "kind": view.t.get("alert_" + one.kind.replace(".", "_"), one.kind),
        "scope": one.scope,
        "leads": f"/cases/{one.scope}" if one.kind == "case.overdue" and view.may(May.CASES) else None,
        "summary": one.summary,
        "page": page if linked else f"{base}/{page}",
        "to": f"{base}/{page}" if linked else None,
    }


PAGE = Page("/alerts", "alerts_title", May.BOARD, show, menu=True)
