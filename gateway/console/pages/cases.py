"""Complaint cases: what waits for an answer, the longest overdue first; what nobody could match; and all of them."""

import time
from typing import Any

from gateway.console import pieces
from gateway.console.frame import Page, View
from gateway.contract.complaint import CaseState, Matching
from gateway.contract.console import May
from gateway.records import cases
from gateway.records.cases import Case, Filter
from gateway.records.connection import Connection

WHICH = ("waiting", "queue", "all")
PAGE_ROWS = 50
MATCHES = {Matching.MATCHED: "good", Matching.AMBIGUOUS: "warn", Matching.UNMATCHED: "warn"}
REFRESH_S = 5.0


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    which = view.asked.get("which", WHICH[0])
    which = which if which in WHICH else WHICH[0]
    pieces.text("p", t("cases_lead", h=view.desk.answer_h))
    tabs(view, f"/cases?which={which}")
    await view.listing(
        REFRESH_S,
        lambda connection: _found(connection, which, view.asked.get("after", "")),
        row,
        lambda _, found, rows: _list(view, which, found, rows),
    )


def tabs(view: View, here: str) -> None:
    """What the pages of complaints are, and which one this is."""
    t = view.t
    pages = {f"/cases?which={one}": t["cases_" + one] for one in WHICH}
    pages |= {"/cases/figures": t["figures_title"], "/cases/import": t["import_title"]}
    with pieces.box("nav", "tabs", **{"aria-label": t["cases_which"]}):
        for path, said in pages.items():
            pieces.text("a", said, href=path, **({"aria-current": "page"} if path == here else {}))


async def _found(connection: Connection, which: str, after: str) -> list[Case]:
    if which == "waiting":
        return await cases.waiting(connection)
    return await cases.page(connection, Filter(queue=which == "queue"), PAGE_ROWS, _place(after))


def _place(after: str) -> tuple[int, str] | None:
    at, _, last = after.partition(".")
    return (int(at), last) if at.isascii() and at.isdigit() and len(at) < 16 and len(last) == 36 else None  # noqa: PLR2004 - a UUID


def _list(view: View, which: str, found: list[Case], rows: list[dict[str, Any]]) -> None:
    t = view.t
    if not rows:
        pieces.empty(t["cases_none_" + which])
        return
    columns = (
        pieces.Column("due", t["due_at"], to="to"),
        pieces.Column("state", t["state"]),
        pieces.Column("match", t["match"]),
        pieces.Column("source", t["source"]),
        pieces.Column("sender", t["sender"]),
        pieces.Column("campaign", t["campaign"]),
        pieces.Column("received", t["received_at"]),
        pieces.Column("who", t["assigned_to"]),
    )
    pieces.status_cells(pieces.table(columns, rows, t["cases_title"], page=PAGE_ROWS), "state")
    if which != "waiting" and len(found) == PAGE_ROWS:
        last = found[-1]
        with pieces.box("p"):
            pieces.link(t["older"], f"/cases?which={which}&after={last.received_at}.{last.id}")


def row(view: View, one: Case) -> dict[str, Any]:
    """A case in a list. It names nobody."""
    t = view.t
    state, tone = standing(view, one)
    return {
        "id": one.id,
        "to": f"/cases/{one.id}",
        "due": view.time(one.due_at),
        "state": state,
        "tone": tone,
        "match": " · ".join([t["match_" + one.match.value], *([t["decided"]] if one.resolved_by else [])]),
        "source": t["source_" + one.source],
        "sender": one.sender or "–",
        "campaign": one.campaign or "–",
        "received": view.time(one.received_at),
        "who": one.assigned_to or "–",
    }


def standing(view: View, one: Case) -> tuple[str, str]:
    """Where a case stands, in a word and a tone; late is what nobody answered in time."""
    t = view.t
    late = one.answered_at is None and one.due_at < time.time_ns() // 1_000_000
    if late:
        return " · ".join((t["case_" + one.state.value], t["overdue"])), "bad"
    return t["case_" + one.state.value], "good" if one.state in {CaseState.ANSWERED, CaseState.CLOSED} else "warn"


PAGE = Page("/cases", "cases_title", May.CASES, show, menu=True)
