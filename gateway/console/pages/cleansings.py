"""Cleansings of lists: those that were asked for, by people or by a breaker that opened, and asking for one."""

import re
import time
from typing import Any

from gateway.console import asking, figures, pieces, telling
from gateway.console.frame import TIMEOUT_S, Declined, Page, View
from gateway.contract.console import May
from gateway.records import cleansing
from gateway.records.cleansing import PERIOD_DAYS, SCOPES, Job

REFRESH_S = 2.0
DAY_MS = 86_400_000
MOST_MONTHS = 120
TONES = {"ready": "warn", "applied": "good", "expired": ""}


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    pieces.text("p", t["cleansing_lead"])
    if view.may(May.CLEANSE):
        with pieces.box("div", "line"):
            pieces.button(t["cleansing_ask"], lambda: _ask(view))
    await view.listing(REFRESH_S, cleansing.listed, _row, _list)


def _list(view: View, _found: list[Job], rows: list[dict[str, Any]]) -> None:
    t = view.t
    if not rows:
        pieces.empty(t["cleansing_none"])
        return
    columns = (
        pieces.Column("at", t["cleansing_made"], to="to"),
        pieces.Column("scope", t["cleansing_list"]),
        pieces.Column("state", t["state"]),
        pieces.Column("people", t["people"], figure=True),
        pieces.Column("by", t["audit_by"]),
        pieces.Column("reason", t["reason"]),
    )
    pieces.status_cells(pieces.table(columns, rows, t["cleansing_title"], page=50), "state")


def _row(view: View, one: Job) -> dict[str, Any]:
    return {
        "id": str(one.id),
        "to": f"/cleansing/{one.id}",
        "at": view.time(one.made_at),
        "scope": one.scope,
        "state": view.t["cleansing_" + one.state],
        "tone": TONES.get(one.state, ""),
        "people": figures.count(one.people),
        "by": telling.who(view, one.asked_by),
        "reason": why(view, one),
    }


def why(view: View, one: Job) -> str:
    """Why it was asked for."""
    return view.t["breaker_opened_it"] if one.asked_by == cleansing.BY_ITSELF else one.reason


def _ask(view: View) -> None:
    t = view.t
    with asking.dialog(view, t["cleansing_ask"], t["cleansing_ask_lead"]) as made:
        scope = pieces.field(t["cleansing_list"], placeholder="campaign:acme/spring", maxlength=175)
        scope.props["hint"] = "campaign:… · list_source:… · sender:… · port:…"
        since = asking.day_field(t["cleansing_since"])
        months = pieces.field(t["cleansing_months"], inputmode="numeric", maxlength=3)
        months.props["hint"] = t["cleansing_months_hint"]
        reason = asking.words(t["reason"])

        async def act() -> str:
            said = asking.reason_of(reason)
            where = (scope.value or "").strip()
            if not re.fullmatch(SCOPES, where):
                raise Declined("breaker_scope_wrong")
            now = time.time_ns() // 1_000_000
            begins = asking.day_ms(view, since.value)
            async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
                await cleansing.ask(
                    connection,
                    where,
                    since_ms=now - PERIOD_DAYS * DAY_MS if begins is None else begins,
                    until_ms=now,
                    months=_months(months.value),
                    by=view.session.name,
                    reason=said,
                )
            return "cleansing_asked"

        asking.end(view, made, May.CLEANSE, t["cleansing_ask"], act)


def _months(given: str | None) -> int | None:
    plain = (given or "").strip()
    if not plain:
        return None
    if not plain.isdigit() or not 0 < int(plain) <= MOST_MONTHS:
        raise Declined("cleansing_months_wrong")
    return int(plain)


PAGE = Page("/cleansing", "cleansing_title", May.BOARD, show, menu=True)
