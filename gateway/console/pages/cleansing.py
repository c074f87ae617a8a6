"""One cleansing: how the list divides and why, what is done about each group, and undoing it within a day.

Nothing is done before a named person chose, and what is done is settle's: this page lets it begin. Subjects of the
groups are shown to whoever may look at people, after the look was recorded.
"""

from functools import partial
from typing import Any
from uuid import UUID

from nicegui import ui

from gateway.console import asking, figures, pieces, telling
from gateway.console.frame import TIMEOUT_S, Declined, Page, View
from gateway.console.pages.cleansings import REFRESH_S, TONES, why
from gateway.contract.console import May
from gateway.records import cleansing
from gateway.records.cleansing import Job
from gateway.rules.cleansing import NEVER_ASKED, PROPOSED, Category, Choice, chosen


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    try:
        name = UUID(view.asked["cleansing"])
    except ValueError:
        pieces.empty(t["cleansing_unknown"])
        return
    if await _read(view, name) is None:
        pieces.empty(t["cleansing_unknown"])
        return
    place = pieces.box("div")
    shown: list[Job] = []

    async def refresh() -> None:
        job = await _read(view, name)
        if job is None or job in shown:
            return
        shown[:] = [job]
        place.clear()
        with place:
            _job(view, job)

    await refresh()
    view.repeat(REFRESH_S, refresh)


async def _read(view: View, name: UUID) -> Job | None:
    async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
        return await cleansing.get(connection, name)


def _job(view: View, job: Job) -> None:
    t = view.t
    with pieces.box("p"):
        pieces.mark(t["cleansing_" + job.state], TONES.get(job.state, ""))
    with pieces.box("div", "panel"):
        pieces.facts(
            [
                (t["cleansing_list"], job.scope),
                (t["cleansing_span"], f"{view.time(job.since)} – {view.time(job.until)}"),
                (t["cleansing_months"], t["cleansing_by_pack"] if job.months is None else str(job.months)),
                (t["cleansing_by"], telling.who(view, job.asked_by)),
                (t["reason"], why(view, job)),
                (t["people"], figures.count(job.people)),
                (t["cleansing_applied_by"], _named(view, job.applied_by, job.apply_reason, job.applied_at)),
                (t["cleansing_undone_by"], _named(view, job.undone_by, job.undo_reason, job.undone_at)),
                (t["cleansing_digest"], job.digest or ""),
            ]
        )
    if job.state in cleansing.WORKING:
        _progress(view, job)
    if job.counts.get("categories"):
        _groups(view, job)


def _named(view: View, by: str | None, reason: str | None, at: Any) -> str:
    return "" if by is None else " · ".join(filter(None, (by, reason, view.time(at))))


def _progress(view: View, job: Job) -> None:
    t = view.t
    _, done, total = job.progress()
    said = t("cleansing_progress", done=figures.count(done), total=figures.count(total))
    pieces.text("p", f"{t['cleansing_' + job.state]}: {said}", role="status")
    pieces.box("progress", max=max(total, 1), value=min(done, max(total, 1)), **{"aria-label": said})


# --- the groups ------------------------------------------------------------------------------------------------------


def _groups(view: View, job: Job) -> None:
    t = view.t
    counts, reasons = job.counts["categories"], job.counts.get("reasons", {})
    total = sum(counts.values())
    choosing = job.state == "ready" and view.may(May.CLEANSE)
    fields: dict[Category, ui.select] = {}
    pieces.text("h2", t["cleansing_groups"])
    with pieces.box("table", "plain groups", **{"aria-label": t["cleansing_groups"]}):
        with pieces.box("thead"), pieces.box("tr"):
            for key in ("cleansing_group", "people", "cleansing_share", "cleansing_reason_n", "cleansing_choice"):
                pieces.text("th", t[key], "number" if key in FIGURES else "", scope="col")
        with pieces.box("tbody"):
            for category in Category:
                n = counts.get(category.word, 0)
                with pieces.box("tr"):
                    with pieces.box("th", scope="row"):
                        pieces.text("div", t["group_" + category.word])
                        pieces.text("div", t["group_why_" + category.word], "quiet")
                    pieces.text("td", figures.count(n), "number")
                    pieces.text("td", figures.percent(n, total), "number")
                    pieces.text("td", figures.count(reasons.get(category.word)), "number")
                    with pieces.box("td"):
                        _choice(view, job, category, fields if choosing and n else None)
    pieces.text("p", t["cleansing_first_reason"], "quiet")
    _outcomes(view, job)
    with pieces.box("div", "line"):
        if choosing:
            pieces.button(t["cleansing_apply"], lambda: _apply(view, job, fields), "danger")
        if job.state == "applied" and view.may(May.CLEANSE):
            pieces.button(t["cleansing_undo"], lambda: _undo(view, job), "quiet")
            pieces.text("span", t("cleansing_undo_until", at=view.time(job.undo_until)), "quiet")
        if view.may(May.PEOPLE):
            pieces.button(t["cleansing_examples"], view.doing(May.PEOPLE, partial(_examples, view, job)), "quiet")


FIGURES = ("people", "cleansing_share", "cleansing_reason_n")


def _choice(view: View, job: Job, category: Category, fields: dict[Category, ui.select] | None) -> None:
    """What is done, as it was chosen, or to be chosen."""
    t = view.t
    taken = (job.choices or {}).get(category.word)
    if fields is None or category is Category.HEALTHY:
        pieces.text("span", t["choice_" + (taken or PROPOSED[category].value)], "" if taken else "quiet")
        return
    options = {
        choice.value: t["choice_" + choice.value]
        for choice in Choice
        if choice is not Choice.REPERMISSION or category not in NEVER_ASKED
    }
    made = asking.choice(options, None, PROPOSED[category].value)
    made.props["aria-label"] = f"{t['cleansing_choice']}: {t['group_' + category.word]}"
    fields[category] = made


def _outcomes(view: View, job: Job) -> None:
    t = view.t
    told = {word: n for word, n in job.counts.get("outcomes", {}).items() if n}
    if told:
        pieces.text("h2", t["cleansing_outcomes"])
        pieces.facts([(t["outcome_of_" + word], figures.count(n)) for word, n in told.items()])


async def _examples(view: View, job: Job) -> None:
    """A few of each group, by subject."""
    await view.look(None, "cleansing", str(job.id))
    t = view.t
    async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
        found = await cleansing.examples(connection, job.id)
    with asking.dialog(view, t["cleansing_examples"]) as made:
        for word, subjects in found.items():
            pieces.text("h3", t["group_" + word])
            with pieces.box("p"):
                for subject in subjects:
                    pieces.link(subject[: telling.SHORT], f"/recipients/{subject}")
                    pieces.text("span", " ")
        pieces.button(t["close"], made.close, "quiet")


# --- acts ------------------------------------------------------------------------------------------------------------


def _apply(view: View, job: Job, fields: dict[Category, ui.select]) -> None:
    t, counts = view.t, job.counts["categories"]
    picked = {category: Choice(str(field.value)) for category, field in fields.items()}
    with asking.dialog(view, t["cleansing_apply"], t["cleansing_apply_lead"]) as made:
        sums = {
            choice: sum(counts.get(category.word, 0) for category, one in picked.items() if one is choice)
            for choice in (Choice.SUPPRESS, Choice.REPERMISSION)
        }
        pieces.facts([(t["choice_" + choice.value], figures.count(n)) for choice, n in sums.items()])
        reason = asking.words(t["reason"], first=True)

        async def act() -> str:
            said = asking.reason_of(reason)
            try:
                whole = chosen(picked)
            except ValueError:
                raise Declined("cleansing_choice_wrong") from None
            async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
                if not await cleansing.apply(connection, job.id, whole, by=view.session.name, reason=said):
                    raise Declined("cleansing_moved_on")
            return "cleansing_begun"

        asking.end(view, made, May.CLEANSE, t["cleansing_apply"], act, "danger")


def _undo(view: View, job: Job) -> None:
    t = view.t
    with asking.dialog(view, t["cleansing_undo"], t["cleansing_undo_lead"]) as made:
        reason = asking.words(t["reason"], first=True)

        async def act() -> str:
            said = asking.reason_of(reason)
            async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
                if not await cleansing.undo(connection, job.id, by=view.session.name, reason=said):
                    raise Declined("cleansing_moved_on")
            return "cleansing_undoing_begun"

        asking.end(view, made, May.CLEANSE, t["cleansing_undo"], act)


PAGE = Page("/cleansing/{cleansing}", "cleansing_one_title", May.BOARD, show)
