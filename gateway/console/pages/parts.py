"""One sender's page, and one campaign's: the same figures of a part of the traffic, and what it is made of."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.console import figures, live, measures, pieces
from gateway.console.frame import Page, View
from gateway.console.live import day
from gateway.contract.console import May
from gateway.contract.registry import Sender
from gateway.records.health import Totals
from gateway.records.weighing import MINUTE_MS
from gateway.rules.breaker import Tally

REFRESH_S = 3.0


async def sender(view: View) -> None:
    """Build a sender's page."""
    await _show(view, "sender", view.asked["sender"])


async def campaign(view: View) -> None:
    """Build a campaign's page."""
    await _show(view, "campaign", view.asked["campaign"])


async def _show(view: View, kind: str, name: str) -> None:
    t, line = view.t, live.complaint_line(view.desk)
    first = await view.live.part(kind, name)
    pieces.text("p", name, "name")
    if first.sender is not None:
        _facts(view, first.sender)
    state = pieces.text("span", "", "mark")
    with pieces.box("div", "figures"):
        rate = measures.Rate(view, line)
        month = pieces.figure(t["complaint_rate_month"], "–")
        beside = measures.Figures(view, refusals=kind == "sender")
    with pieces.box("div", "pair"):
        with pieces.box("section", "panel"):
            pieces.text("h2", t["hours_title"])
            hours = measures.Hours(view, line)
        with pieces.box("section", "panel"):
            pieces.text("h2", t["funnel" if kind == "sender" else "funnel_accepted"])
            funnel = measures.Funnel(view, asked=kind == "sender")
    tables: list[_Split | _Causes] = [_Split(view, "campaign", f"/campaigns/{name}/")] if kind == "sender" else []
    tables += [_Split(view, "purpose"), _Causes(view)]
    refusals = measures.Refusals(view) if kind == "sender" else None

    async def refresh() -> None:
        part = await view.live.part(kind, name)
        of_month = part.counts.month
        rate.show(part.counts.day, part.level, view.time(part.since * MINUTE_MS) if part.since > day()[0] else "")
        month[0].text = figures.ppm_text(figures.ppm(of_month.complaints, of_month.delivered))
        month[1].text = t("of_delivered", n=figures.count(of_month.delivered))
        beside.show(part.totals, part.refused)
        funnel.show(part.totals, sum(part.refused.values()))
        hours.show(part.hours)
        state.text, tone = measures.flow(view, part.standing, f"{kind}:{name}")
        state.classes(replace=f"mark {tone}")
        for table in tables:
            table.show(part)
        if refusals is not None:
            refusals.show(part.refused)

    await refresh()
    view.repeat(REFRESH_S, refresh)


def _facts(view: View, one: Sender) -> None:
    t = view.t
    with pieces.box("dl", "facts"):
        for label, value in (
            (t["signature"], f"【{one.signature}】"),
            (t["service_port"], one.service_port),
            (t["marketing_port"], one.marketing_port),
            (t["pack"], one.pack),
            (t["cap_per_day"], figures.count(one.cap_per_day) if one.cap_per_day else t["no_cap"]),
        ):
            pieces.text("dt", label)
            pieces.text("dd", value)


class _Split:
    """What it is made of, by complaint rate."""

    def __init__(self, view: View, by: str, to: str = "") -> None:
        """`to`: where a part's own page lies."""
        self._by, self._to = by, to
        t = view.t
        with pieces.box("section"):
            pieces.text("h2", t[f"split_{by}"])
            self._table = pieces.table(
                (
                    pieces.Column("id", t[by], to="to"),
                    pieces.Column("rate", t["complaint_rate_day"], figure=True),
                    pieces.Column("complaints", t["complaints"], figure=True),
                    pieces.Column("unsubscribes", t["unsubscribe_rate"], figure=True),
                    pieces.Column("delivered", t["delivered"], figure=True),
                    pieces.Column("engaged", t["engaged"], figure=True),
                ),
                [],
                t[f"split_{by}"],
            )
            self._none = pieces.empty(t["rank_none"])

    def show(self, part: live.Part) -> None:
        """As it is now."""
        of: Mapping[str, Totals] = part.campaigns if self._by == "campaign" else part.purposes
        order = measures.ranked({key: Tally(one.delivered, one.complaints) for key, one in of.items()})
        rows = [self._row(key, of[key]) for key, _ in order]
        if rows != self._table.rows:
            self._table.rows = rows
        self._table.set_visibility(bool(rows))
        self._none.set_visibility(not rows)

    def _row(self, key: str, one: Totals) -> dict[str, Any]:
        return {
            "id": key,
            "to": self._to and self._to + quote(key, safe=""),
            "rate": figures.ppm_text(figures.ppm(one.complaints, one.delivered)),
            "complaints": figures.count(one.complaints),
            "unsubscribes": figures.ppm_text(figures.ppm(one.unsubscribes, one.delivered)),
            "delivered": figures.count(one.delivered),
            "engaged": figures.percent(one.engaged, one.delivered),
        }


class _Causes:
    """Why messages were not delivered."""

    def __init__(self, view: View) -> None:
        self._view = view
        t = view.t
        with pieces.box("section"):
            pieces.text("h2", t["causes"])
            self._table = pieces.table(
                (
                    pieces.Column("cause", t["cause"]),
                    pieces.Column("n", t["messages"], figure=True),
                    pieces.Column("share", t["of_failed"], figure=True),
                ),
                [],
                t["causes"],
            )
            self._none = pieces.empty(t["causes_none"])

    def show(self, part: live.Part) -> None:
        """As it is now."""
        causes = sorted(part.totals.causes.items(), key=lambda one: -one[1])
        rows = [
            {
                "id": cause.value,
                "cause": self._view.t.get("cause_" + cause.value, cause.value),
                "n": figures.count(n),
                "share": figures.percent(n, part.totals.failed),
            }
            for cause, n in causes
            if n
        ]
        if rows != self._table.rows:
            self._table.rows = rows
        self._table.set_visibility(bool(rows))
        self._none.set_visibility(not rows)


SENDER = Page("/senders/{sender}", "sender_title", May.BOARD, sender)
CAMPAIGN = Page("/campaigns/{campaign:path}", "campaign_title", May.BOARD, campaign)
