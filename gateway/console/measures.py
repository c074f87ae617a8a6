"""The same figures shown in the same way on every page: complaint rate first, funnel, refusals, rate by the hour.

A complaint rate is coloured by its line (half of it: warn) and says of how many delivered it is; a place in a ranking
is by rate, never by volume.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from gateway.console import figures, pieces
from gateway.console.frame import View
from gateway.console.live import Standing, hours
from gateway.contract.codes import MEANINGS, Code
from gateway.contract.scope import whoever
from gateway.records.health import Totals
from gateway.rules.breaker import Level, Line, Tally

MINUTE_S = 60
SPLIT = {"lineStyle": {"color": "#8a958f", "opacity": 0.3}}
"""Lines across a chart: a colour for light and for dark."""


def tone(tally: Tally, line: Line) -> str:
    """How a rate stands to its line; what is too few to be judged has no colour."""
    rate = figures.ppm(tally.complaints, tally.delivered)
    if rate is None or line.ppm is None or (tally.delivered < line.min_delivered and rate < line.ppm):
        return ""
    few = tally.delivered < line.min_delivered
    return "bad" if rate >= line.ppm and not few else "warn" if rate >= line.ppm / 2 else "good"


JUDGED: Mapping[Level, str] = {"ok": "good", "warn": "warn", "open": "bad"}
"""The colour of what a breaker judged."""


class Rate:
    """The first figure: complaints per million delivered, against the line."""

    def __init__(self, view: View, line: Line) -> None:
        self._view, self._line = view, line
        with pieces.box("div", "figure first", **{"aria-live": "off"}) as self._box:
            pieces.text("span", view.t["complaint_rate_first"], "quiet")
            self._value = pieces.text("strong", "–")
            self._note = pieces.text("span", "", "quiet")

    def show(self, tally: Tally, level: Level | None = None, since: str = "") -> None:
        """The rate now. `level`: how its breaker judges it; `since`: when a person let it go on, in words."""
        rate = figures.ppm(tally.complaints, tally.delivered)
        self._value.text = figures.ppm_text(rate)
        key = "rate_few" if tally.delivered < self._line.min_delivered else "rate_of"
        self._note.text = self._view.t(
            key,
            n=figures.count(tally.complaints),
            of=figures.count(tally.delivered),
            line=figures.ppm_text(self._line.ppm),
            least=figures.count(self._line.min_delivered),
        )
        if since:
            self._note.text += " " + self._view.t("rate_since", at=since)
        colour = JUDGED[level] if level is not None and tally.delivered else tone(tally, self._line)
        self._box.classes(replace=f"figure first {colour}")


class Figures:
    """The figures beside it."""

    KEYS = ("delivered_share", "failed", "unsubscribe_rate", "engaged")

    def __init__(self, view: View, *, refusals: bool = True) -> None:
        """`refusals`: they are counted by sender, so that a campaign has none to show."""
        self._view = view
        keys = (*self.KEYS, "refused") if refusals else self.KEYS
        self._of = {key: pieces.figure(view.t[key], "–") for key in keys}

    def show(self, totals: Totals, refused: Mapping[str, int]) -> None:
        """The figures now."""
        t, count = self._view.t, figures.count
        said = {
            "delivered_share": (figures.percent(totals.delivered, totals.sent), t("of_sent", n=count(totals.sent))),
            "failed": (count(totals.failed), t("unknown_now", n=count(totals.unknown))),
            "unsubscribe_rate": (
                figures.ppm_text(figures.ppm(totals.unsubscribes, totals.delivered)),
                t("times", n=count(totals.unsubscribes)),
            ),
            "engaged": (
                figures.percent(totals.engaged, totals.delivered),
                t("engaged_of", replies=count(totals.replied), clicks=count(totals.clicks)),
            ),
            "refused": (count(sum(refused.values())), t["refused_note"]),
        }
        for key, (shown, more) in self._of.items():
            shown.text, more.text = said[key]


class Funnel:
    """From asked for to engaged; each bar is its share of what was asked for."""

    KEYS = ("asked", "accepted", "sent", "delivered", "engaged")

    def __init__(self, view: View, *, asked: bool = True) -> None:
        """`asked`: what was refused is known, so that the funnel begins before acceptance."""
        self._bars: dict[str, tuple[ui.element, Any]] = {}
        with pieces.box("ol", "funnel", **{"aria-label": view.t["funnel"]}):
            for key in self.KEYS if asked else self.KEYS[1:]:
                with pieces.box("li"):
                    pieces.text("span", view.t[key])
                    with pieces.box("div", "bar", **{"aria-hidden": "true"}):
                        bar = pieces.box("div")
                    self._bars[key] = bar, pieces.text("span", "–", "number")

    def show(self, totals: Totals, refused: int) -> None:
        """The funnel now."""
        counts = (totals.accepted + refused, totals.accepted, totals.sent, totals.delivered, totals.engaged)
        whole = max(counts[0], 1)
        for key, n in zip(self.KEYS, counts, strict=True):
            if key not in self._bars:
                continue
            bar, said = self._bars[key]
            bar.style(replace=f"width: {100 * min(n, whole) / whole:.2f}%")
            said.text = f"{figures.count(n)} · {figures.percent(n, counts[0])}"


class Hours:
    """Complaint rate by the hour in which the messages were sent, against the line; delivered beside it."""

    def __init__(self, view: View, line: Line) -> None:
        self._view, self._line = view, line
        self._chart = ui.echart(self._options([]), renderer="svg").classes("chart")
        self._chart.props["role"] = "img"
        self._chart.props["aria-label"] = view.t["hours_chart"]
        self._shown: list[Any] = []

    def show(self, counted: "list[tuple[int, Totals]]") -> None:
        """The hours now; a chart that says the same is left alone."""
        of = dict(counted)
        every = ((at, of.get(at, Totals())) for at in hours())
        rows = [(at, figures.ppm(one.complaints, one.delivered), one.delivered) for at, one in every]
        if rows != self._shown:
            self._shown = rows
            self._chart.options.update(self._options(rows))
            self._chart.update()

    def _options(self, rows: "list[tuple[int, float | None, int]]") -> dict[str, Any]:
        t = self._view.t
        zone = self._view.zone
        times = [datetime.fromtimestamp(at * MINUTE_S, UTC).astimezone(zone) for at, _, _ in rows]
        labels = [at.strftime("%m-%d\n%H:%M") for at in times]
        hours = {"name": t("hours_axis", zone=self._view.offset()), "nameLocation": "middle", "nameGap": 40}
        top = figures.ceiling(max([(self._line.ppm or 0) * 1.25, *((rate or 0) * 1.05 for _, rate, _ in rows)]))
        return {
            "animation": False,
            "grid": {"left": 64, "right": 64, "top": 58, "bottom": 58},
            "legend": {"top": 0, "data": [t["complaint_rate"], t["delivered"]]},
            "tooltip": {"trigger": "axis"},
            "xAxis": {"type": "category", "data": labels, **hours},
            "yAxis": [
                {"type": "value", "name": t["ppm_axis"], "min": 0, "max": top, "interval": top / 4, "splitLine": SPLIT},
                {
                    "type": "value",
                    "name": t["delivered"],
                    "min": 0,
                    "minInterval": 1,
                    "splitNumber": 4,
                    "splitLine": {"show": False},
                },
            ],
            "series": [
                {
                    "name": t["complaint_rate"],
                    "type": "line",
                    "symbolSize": 6,
                    "z": 3,
                    "data": [None if rate is None else round(rate, 1) for _, rate, _ in rows],
                    "itemStyle": {"color": "#c8321f"},
                    "lineStyle": {"width": 3, "color": "#c8321f"},
                    "markLine": {
                        "symbol": "none",
                        "silent": True,
                        "label": {"formatter": t("line_is", ppm=f"{self._line.ppm:,.0f}"), "position": "insideEndTop"},
                        "lineStyle": {"color": "#c8321f", "type": "dashed", "width": 1.5},
                        "data": [{"yAxis": self._line.ppm}],
                    },
                },
                {
                    "name": t["delivered"],
                    "type": "bar",
                    "yAxisIndex": 1,
                    "barMaxWidth": 26,
                    "itemStyle": {"color": "#6f8f86", "opacity": 0.55},
                    "data": [delivered for _, _, delivered in rows],
                },
            ],
        }


# --- rows ------------------------------------------------------------------------------------------------------------


def state(view: View, standing: Standing, scope: str) -> tuple[str, str]:
    """A scope's standing in words, and its colour."""
    known = [standing.breakers[one] for one in (scope, whoever(scope) or "") if one in standing.breakers]
    if any(one.position == "open" for one in known):
        return view.t["breaker_is_open"], "bad"
    if shares := [one.permille or 0 for one in known if one.position == "trickle"]:
        return view.t("breaker_trickles", share=f"{min(shares) / 10:g}"), "warn"
    if scope in standing.warned:
        return view.t["breaker_warns"], "warn"
    return view.t["breaker_is_closed"], "good"


def flow(view: View, standing: Standing, scope: str) -> tuple[str, str]:
    """Whether a sender's or campaign's messages go, which wider breakers have a say in too, and its colour."""
    said, colour = state(view, standing, scope)
    moved = {one.scope: one.position for one in standing.breakers.values() if one.is_open}
    ways = standing.ways.get(scope) or [("all",)]
    shut = [[wider for wider in way if moved.get(wider) == "open"] for way in ways]
    if colour != "bad" and all(shut):
        return view.t("breaker_with", scope=shut[0][0]), "bad"
    if colour != "bad" and any(wider in moved for way in ways for wider in way):
        return view.t["breaker_partly"], "warn"
    return said, colour


def ranked(tallies: Mapping[str, Tally]) -> list[tuple[str, Tally]]:
    """By complaint rate, the worst first; of equal rates the one with more complaints."""

    def rate(one: tuple[str, Tally]) -> tuple[float, int, str]:
        return -(figures.ppm(one[1].complaints, one[1].delivered) or 0.0), -one[1].complaints, one[0]

    return sorted(tallies.items(), key=rate)


def refusal_rows(view: View, refused: Mapping[str, int]) -> list[dict[str, Any]]:
    """Refusals by reason, the most frequent first."""
    whole = sum(refused.values())
    return [
        {
            "id": code,
            "title": view.t.get(
                "code_" + code.replace(".", "_"), MEANINGS[Code(code)].title if code in list(Code) else code
            ),
            "n": figures.count(n),
            "share": figures.percent(n, whole),
        }
        for code, n in refused.items()
    ]


class Refusals:
    """Refusals by reason."""

    def __init__(self, view: View) -> None:
        self._view = view
        t = view.t
        with pieces.box("section"):
            pieces.text("h2", t["refusals_title"])
            self._table = pieces.table(
                (
                    pieces.Column("title", t["reason"]),
                    pieces.Column("id", t["code"]),
                    pieces.Column("n", t["messages"], figure=True),
                    pieces.Column("share", t["share"], figure=True),
                ),
                [],
                t["refusals_title"],
            )
            self._none = pieces.empty(t["refusals_none"])

    def show(self, refused: Mapping[str, int]) -> None:
        """As they are now."""
        rows = refusal_rows(self._view, refused)
        if rows != self._table.rows:
            self._table.rows = rows
        self._table.set_visibility(bool(rows))
        self._none.set_visibility(not rows)


def moved(view: View, now: Standing) -> list[tuple[str, str, str]]:
    """What is stopped or warns: scope, words, colour; what is stopped first."""
    scopes = {*now.warned, *(scope for scope, one in now.breakers.items() if one.is_open)}
    told = [(scope, *state(view, now, scope)) for scope in scopes]
    return sorted(told, key=lambda one: (one[2] != "bad", one[0]))


def standing(view: View, told: list[tuple[str, str, str]]) -> None:
    """A line of marks: what is stopped or warns, and where to act on it."""
    with pieces.box("p", "standing", role="status"):
        if not told:
            pieces.text("span", view.t["standing_calm"], "mark good")
        for scope, said, colour in told:
            pieces.text("a", f"{scope} · {said}", f"mark {colour}", href="/breakers")
