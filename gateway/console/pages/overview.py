"""The board: the complaint rate first, then who causes it, then everything else. Live, within 5 s.

Senders and campaigns are ranked by complaint rate; volume ranks nobody.
"""

from typing import Any
from urllib.parse import quote

from gateway.console import figures, live, measures, pieces
from gateway.console.frame import Page, View
from gateway.contract.console import May
from gateway.rules.breaker import Counts, Tally

REFRESH_S = 2.0
MOST = 20


async def show(view: View) -> None:
    """Build the page."""
    t, line = view.t, live.complaint_line(view.desk)
    pieces.text("p", t["overview_lead"], "quiet")
    with pieces.box("div", "figures"):
        rate = measures.Rate(view, line)
        beside = measures.Figures(view)
    stopped = pieces.box("div")
    ranks = {kind: _Ranking(view, kind) for kind in ("sender", "campaign")}
    with pieces.box("div", "pair"):
        with pieces.box("section", "panel"):
            pieces.text("h2", t["hours_title"])
            hours = measures.Hours(view, line)
        with pieces.box("section", "panel"):
            pieces.text("h2", t["funnel"])
            funnel = measures.Funnel(view)
    refusals = measures.Refusals(view)
    standing_shown: list[Any] = []

    async def refresh() -> None:
        board = await view.live.board()
        totals = board.totals
        rate.show(Tally(totals.delivered, totals.complaints))
        beside.show(totals, board.refused)
        funnel.show(totals, sum(board.refused.values()))
        hours.show(board.hours)
        refusals.show(board.refused)
        for kind, ranking in ranks.items():
            ranking.show(
                board.weighed, {f"sender:{one}" for one in board.weighed.senders} if kind == "sender" else set()
            )
        now = measures.moved(view, board.weighed.standing)
        if now != standing_shown or not stopped.default_slot.children:
            standing_shown[:] = now
            stopped.clear()
            with stopped:
                measures.standing(view, now)

    await refresh()
    view.repeat(REFRESH_S, refresh)


class _Ranking:
    """Senders, or campaigns, by complaint rate."""

    def __init__(self, view: View, kind: str) -> None:
        self._view, self._kind = view, kind
        t = view.t
        with pieces.box("section"):
            pieces.text("h2", t[f"rank_{kind}"])
            self._table = pieces.table(
                (
                    pieces.Column("name", t[kind], to="to"),
                    pieces.Column("rate", t["complaint_rate_day"], figure=True),
                    pieces.Column("month", t["complaint_rate_month"], figure=True),
                    pieces.Column("complaints", t["complaints"], figure=True),
                    pieces.Column("delivered", t["delivered"], figure=True),
                    pieces.Column("state", t["state"]),
                ),
                [],
                t[f"rank_{kind}"],
            )
            pieces.status_cells(self._table, "state")
            self._none = pieces.empty(t["rank_none"])

    def show(self, weighed: live.Weighed, known: set[str]) -> None:
        """The ranking now. `known`: scopes that are listed although nothing was counted."""
        prefix = f"{self._kind}:"
        counted = {scope: Counts() for scope in known} | {
            scope: one for scope, one in weighed.scopes.items() if scope.startswith(prefix)
        }
        order = measures.ranked({scope: one.day for scope, one in counted.items()})[:MOST]
        rows = [self._row(weighed.standing, scope, counted[scope]) for scope, _ in order]
        if rows != self._table.rows:
            self._table.rows = rows
        self._table.set_visibility(bool(rows))
        self._none.set_visibility(not rows)

    def _row(self, standing: live.Standing, scope: str, counts: Counts) -> dict[str, Any]:
        name = scope.partition(":")[2]
        said, tone = measures.flow(self._view, standing, scope)
        return {
            "id": scope,
            "name": name,
            "to": f"/{self._kind}s/{quote(name, safe='')}",
            "rate": figures.ppm_text(figures.ppm(counts.day.complaints, counts.day.delivered)),
            "month": figures.ppm_text(figures.ppm(counts.month.complaints, counts.month.delivered)),
            "complaints": figures.count(counts.day.complaints),
            "delivered": figures.count(counts.day.delivered),
            "state": said,
            "tone": tone,
        }


PAGE = Page("/", "overview_title", May.BOARD, show, menu=True)
