"""What a day's complaints were: a named officer states it for each source, beside what was imported.

A statement again is a correction; every one is kept, and settle writes each into the ledger.
"""

import time
from datetime import date, timedelta

from nicegui import ui

from gateway.console import asking, pieces
from gateway.console.desk import zone_of
from gateway.console.frame import TIMEOUT_S, Declined, Page, View
from gateway.console.pages.cases import tabs
from gateway.contract.complaint import SOURCES
from gateway.contract.console import May
from gateway.records import figures
from gateway.records.figures import Figures
from gateway.rules.complaint_days import bounds, yesterday

DAYS = 31
MOST_LISTED = 200
MOST = 10_000_000
DUE = ("12321", "carrier")
"""Sources whose figures are signed off each day."""


async def show(view: View) -> None:
    """Build the page."""
    t, zone = view.t, zone_of(view.desk)
    last = yesterday(time.time_ns() // 1_000_000, zone)
    async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
        standing = await figures.stated(connection, last, last)
        told = await figures.every(connection, last - timedelta(days=DAYS), MOST_LISTED)
    tabs(view, "/cases/figures")
    pieces.text("p", t["figures_lead"])
    signed = {one.source for one in standing}
    with pieces.box("p"):
        for source in DUE:
            done = source in signed
            said = t(
                "figures_signed" if done else "figures_unsigned", source=t["source_" + source], day=last.isoformat()
            )
            pieces.mark(said, "good" if done else "warn")
            pieces.text("span", " ")
    _form(view, last)
    pieces.text("h2", t["figures_history"])
    if not told:
        pieces.empty(t["figures_none"])
        return
    _list(view, told)


def _form(view: View, last: date) -> None:
    t = view.t
    pieces.text("h2", t["figures_sign"])
    with pieces.box("div", "line"):
        day = asking.day_field(t["day"], last.isoformat())
        source = asking.choice({one: t["source_" + one] for one in SOURCES}, t["source"], SOURCES[0])
        count = pieces.field(t["figures_count"], inputmode="numeric", maxlength=8)
    pieces.text("p", t("breaker_name", name=view.session.name), "quiet")

    async def sign() -> str:
        zone, now = zone_of(view.desk), time.time_ns() // 1_000_000
        try:
            about, stated = date.fromisoformat(day.value or ""), int((count.value or "").strip())
        except ValueError:
            raise Declined("figures_wrong") from None
        future = about > yesterday(now, zone) + timedelta(days=1)
        if future or not 0 <= stated <= MOST or source.value not in SOURCES:
            raise Declined("figures_wrong")
        async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
            await figures.state(
                connection, about, str(source.value), stated, view.session.name, now, bounds(about, zone)
            )
        ui.navigate.to("/cases/figures")
        return "figures_done"

    pieces.button(t["figures_sign"], view.doing(May.CASES, sign))


def _list(view: View, told: list[Figures]) -> None:
    t = view.t
    rows = [
        {
            "id": n, "day": one.date.isoformat(), "source": t["source_" + one.source], "imported": one.imported,
            "stated": one.stated, "agrees": t["figures_agree" if one.imported == one.stated else "figures_differ"],
            "tone": "good" if one.imported == one.stated else "bad", "by": one.by, "at": view.time(one.at),
            "entry": "–" if one.entry is None else one.entry,
        }
        for n, one in enumerate(told)
    ]  # fmt: skip
    columns = (
        pieces.Column("day", t["day"]),
        pieces.Column("source", t["source"]),
        pieces.Column("imported", t["figures_imported"], figure=True),
        pieces.Column("stated", t["figures_stated"], figure=True),
        pieces.Column("agrees", t["figures_compare"]),
        pieces.Column("by", t["audit_by"]),
        pieces.Column("at", t["at"]),
        pieces.Column("entry", t["ledger_entry"], figure=True),
    )
    pieces.status_cells(pieces.table(columns, rows, t["figures_history"], page=50), "agrees")


PAGE = Page("/cases/figures", "figures_title", May.CASES, show)
