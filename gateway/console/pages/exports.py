"""The log for a regulator, and what may not be dropped: an export is recorded first, a hold is a named person's act.

A hold stands first and is recorded then; a release is recorded first. A crash in between keeps what is held.
"""

from functools import partial
from typing import Any

from nicegui import ui

from gateway.console import asking, pieces, telling
from gateway.console.frame import TIMEOUT_S, Declined, Page, View
from gateway.contract.consent import EventKind
from gateway.contract.console import May
from gateway.contract.export import Asked
from gateway.records import holds, registry
from gateway.records.holds import Hold, Scope
from gateway.records.partitions import lowest_id

MOST_CAMPAIGN = 128
FORMATS = {"csv": "CSV (Excel)", "jsonl": "JSON Lines"}


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    pieces.text("p", t["export_lead"])
    with pieces.box("p", "warning", role="note"):
        pieces.text("strong", t["export_warning"])
    senders = [one.id for one in (await registry.load(view.desk.pool)).senders]
    _form(view, senders)
    await _holds(view, senders)


class _Fields:
    """What is asked for, of an export or a hold."""

    def __init__(self, view: View, senders: list[str]) -> None:
        t, self._view = view.t, view
        every = {"": t["any"]} | {one: one for one in senders}
        self._sender = asking.choice(every, t["sender"], "")
        self._campaign = pieces.field(t["campaign"], maxlength=MOST_CAMPAIGN)
        self._who = pieces.field(t["who"], maxlength=40, autocomplete="off")
        self._since, self._until = asking.day_field(t["day_from"]), asking.day_field(t["day_until"])

    def asked(self) -> Asked:
        """As it was given. Raises Declined for nothing at all."""
        campaign = self._campaign.value.strip()
        if len(campaign) > MOST_CAMPAIGN or not (campaign or " ").isprintable():
            raise Declined("form_wrong")
        found = Asked(
            sender=self._sender.value or None,
            campaign=campaign or None,
            subject=asking.who(self._view.desk, self._who.value),
            from_ms=asking.day_ms(self._view, self._since.value),
            until_ms=asking.day_ms(self._view, self._until.value, end=True),
        )
        if found == Asked():
            raise Declined("export_ask")
        return found


def _form(view: View, senders: list[str]) -> None:
    t = view.t
    pieces.text("h2", t["export_what"])
    with pieces.box("div", "line"):
        fields = _Fields(view, senders)
        form = asking.choice(FORMATS, t["export_format"], "csv")
    reason = asking.words(t["export_reason"])
    pieces.text("p", t("breaker_name", name=view.session.name), "quiet")
    place = pieces.box("div", "line")

    async def ready() -> str:
        asked = fields.asked()
        given = {
            "sender": asked.sender,
            "campaign": asked.campaign,
            "who": None if asked.subject is None else asked.subject.hex(),
            "from": None if asked.from_ms is None else str(asked.from_ms),
            "until": None if asked.until_ms is None else str(asked.until_ms),
            "reason": asking.reason_of(reason),
            "as": str(form.value),
        }
        place.clear()
        with place, pieces.box("form", method="post", action="/files/export", id="export"):
            for name, value in given.items():
                if value is not None:
                    pieces.box("input", type="hidden", name=name, value=value)
        ui.run_javascript("setTimeout(() => document.getElementById('export').submit(), 200)")
        return "export_begun"

    pieces.button(t["export_get"], view.doing(May.EXPORT, ready))


# --- holds -----------------------------------------------------------------------------------------------------------


async def _holds(view: View, senders: list[str]) -> None:
    t = view.t
    pieces.text("h2", t["holds"])
    pieces.text("p", t["holds_lead"])
    with pieces.box("div", "line"):
        pieces.button(t["hold_add"], lambda: _add(view, senders), "quiet")
    async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
        found = await holds.listed(connection, standing=False)
    if not found:
        pieces.empty(t["holds_none"])
        return
    columns = (
        pieces.Column("id", t["hold_number"]),
        pieces.Column("what", t["hold_what"]),
        pieces.Column("state", t["state"]),
        pieces.Column("by", t["audit_by"]),
        pieces.Column("reason", t["reason"]),
        pieces.Column("at", t["at"]),
        pieces.Column("act", t["act"]),
    )
    table = pieces.table(columns, [_row(view, one) for one in reversed(found)], t["holds"], page=50)
    pieces.status_cells(table, "state")
    pieces.act_cells(table, "act")
    table.on("act", lambda event: _release(view, event.args) if isinstance(event.args, int) else None)


def _row(view: View, one: Hold) -> dict[str, Any]:
    t, standing = view.t, one.released_at is None
    return {
        "id": one.id,
        "what": _what(view, one.scope),
        "state": t["hold_standing" if standing else "hold_released"],
        "tone": "warn" if standing else "",
        "by": one.added_by if standing else f"{one.added_by} / {one.released_by}",
        "reason": one.reason if standing else f"{one.reason} / {one.released_reason}",
        "at": view.time(one.added_at) if standing else f"{view.time(one.added_at)} / {view.time(one.released_at)}",
        "act": t["hold_release"] if standing else "",
    }


def _what(view: View, scope: Scope) -> str:
    told = scope.told()
    labels = {"sender": view.t["sender"], "campaign": view.t["campaign"]}
    said = [f"{label} {told[name]}" for name, label in labels.items() if name in told]
    said += [] if scope.subject is None else [" ".join((view.t["recipient"], telling.short(scope.subject)))]
    times = [view.time(int(told[name])) if name in told else "…" for name in ("from", "until")]
    return " · ".join(said + ([" – ".join(times)] if times != ["…", "…"] else []))


def _add(view: View, senders: list[str]) -> None:
    t = view.t
    with asking.dialog(view, t["hold_add"], t["hold_add_lead"]) as made:
        fields = _Fields(view, senders)
        reason = asking.words(t["reason"])

        async def act() -> str:
            asked, said = fields.asked(), asking.reason_of(reason)
            ends = (None if end is None else lowest_id(end) for end in (asked.from_ms, asked.until_ms))
            scope = Scope(asked.sender, asked.campaign, asked.subject, *ends)
            async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
                hold = await holds.add(connection, scope, view.session.name, said)
            await view.record(EventKind.HOLD, {"hold": hold, "held": True, "why": said, "asked": scope.told()})
            return "hold_added"

        asking.end(view, made, May.EXPORT, t["hold_add"], act, to="/records")


def _release(view: View, hold: int) -> None:
    t = view.t
    with asking.dialog(view, t("hold_release_what", n=hold), t["hold_release_lead"]) as made:
        reason = asking.words(t["reason"], first=True)
        asking.end(
            view, made, May.EXPORT, t["hold_release"], partial(_released, view, hold, reason), "danger", "/records"
        )


async def _released(view: View, hold: int, reason: ui.textarea) -> str:
    said = asking.reason_of(reason)
    async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
        if hold not in [one.id for one in await holds.listed(connection)]:
            raise Declined("hold_gone")
        await view.record(EventKind.HOLD, {"hold": hold, "held": False, "why": said})
        await holds.release(connection, hold, view.session.name, said)
    return "hold_released_now"


PAGE = Page("/records", "records_title", May.EXPORT, show, menu=True)
