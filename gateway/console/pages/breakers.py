"""Breakers: what is stopped and why, and a named person stopping or resuming a scope.

Stopping takes effect first and is recorded then; resuming is recorded first, so that nothing is ever resumed without a
name and a reason. A crash between the two leaves the scope stopped. The name is the one the person signed in with.
"""

import re
from typing import Any

from nicegui import ui

from gateway.console import pieces
from gateway.console.frame import Declined, Page, View
from gateway.contract.consent import EventKind
from gateway.contract.console import May
from gateway.contract.registry import SCOPE, SCOPE_FORMS
from gateway.records import registry

MOST_WORDS = 500
REFRESH_S = 2.0


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    pieces.text("p", t["breakers_lead"])
    if view.may(May.MOVE):
        pieces.button(t["breaker_open"], lambda: _dialog(view, None), "danger")
    listed = pieces.box("div")
    shown: list[Any] = []

    async def refresh() -> None:
        rows = [_row(view, one) for one in await registry.breakers(view.desk.pool)]
        if rows == shown and listed.default_slot.children:
            return
        shown[:] = rows
        listed.clear()
        with listed:
            _list(view, rows)

    await refresh()
    view.repeat(REFRESH_S, refresh)


def _list(view: View, rows: list[dict[str, Any]]) -> None:
    t = view.t
    if not rows:
        pieces.empty(t["breakers_none"])
        return
    columns = [
        pieces.Column("id", t["scope"]),
        pieces.Column("state", t["state"]),
        pieces.Column("by", t["breaker_by"]),
        pieces.Column("reason", t["reason"]),
        pieces.Column("at", t["at"]),
    ]
    if view.may(May.MOVE):
        columns.append(pieces.Column("act", t["act"]))
    table = pieces.table(columns, rows, t["breakers_title"])
    pieces.status_cells(table, "state")
    if view.may(May.MOVE):
        table.add_slot(
            "body-cell-act",
            '<q-td :props="props"><button v-if="props.row.open" class="act" type="button" '
            ":aria-label=\"props.row.act + ' ' + props.row.id\" "
            "@click=\"() => $parent.$emit('close', props.row.id)\">{{ props.row.act }}</button></q-td>",
        )
        table.on("close", lambda event: _dialog(view, str(event.args)))


def _row(view: View, one: registry.Breaker) -> dict[str, Any]:
    t = view.t
    return {
        "id": one.scope,
        "open": one.is_open,
        "state": t["breaker_is_open"] if one.is_open else t["breaker_is_closed"],
        "tone": "bad" if one.is_open else "good",
        "by": one.changed_by,
        "reason": one.reason,
        "at": view.time(one.changed_at),
        "act": t["breaker_close"] if one.is_open else "",
    }


def _dialog(view: View, scope: str | None) -> None:
    """Ask for a reason (and a scope to stop); nothing happens before both are given."""
    t = view.t
    closing = scope is not None
    with view.client.content, ui.dialog() as dialog, pieces.box("div", "dialog", role="document"):
        dialog.props["aria-label"] = t["breaker_close" if closing else "breaker_open"]
        pieces.text("h2", t("breaker_close_what", scope=scope) if closing else t["breaker_open"])
        pieces.text("p", t["breaker_close_lead" if closing else "breaker_open_lead"])
        target = None
        if not closing:
            target = pieces.field(t["scope"], placeholder="sender:acme")
            target.props["hint"] = "; ".join(SCOPE_FORMS)
        reason = ui.textarea(t["reason"]).props(f"outlined autogrow autofocus maxlength={MOST_WORDS}")
        pieces.text("p", t("breaker_name", name=view.session.name), "quiet")

        async def move() -> str:
            where = scope if target is None else target.value.strip()
            await _moved(view, where or "", reason.value.strip(), is_open=not closing)
            dialog.close()
            return "breaker_closed" if closing else "breaker_opened"

        with pieces.box("div", "line"):
            pieces.button(t["cancel"], dialog.close, "quiet")
            kind = "" if closing else "danger"
            pieces.button(t["breaker_close" if closing else "breaker_open"], view.doing(May.MOVE, move), kind)
    dialog.on("hide", dialog.delete)
    dialog.open()


async def _moved(view: View, scope: str, why: str, *, is_open: bool) -> None:
    if not re.fullmatch(SCOPE, scope):
        raise Declined("breaker_scope_wrong")
    if not 0 < len(why) <= MOST_WORDS:
        raise Declined("reason_missing")
    by = view.session.name
    data = {"scope": scope, "open": is_open, "why": why}
    if not is_open:
        await view.record(EventKind.BREAKER, data)
    async with view.desk.pool.acquire(timeout=registry.TIMEOUT_S) as connection:
        await registry.set_breaker(connection, scope, is_open=is_open, by=by, reason=why)
    if is_open:
        await view.record(EventKind.BREAKER, data)


PAGE = Page("/breakers", "breakers_title", May.BOARD, show, menu=True)
