"""Breakers: what is stopped, by which figures and by whom, and a named person stopping a scope or letting it go on.

Stopping takes effect first: its act waits for the evaluator (`settle`), which tells the ledger until that has it.
Resuming, even of a share, is recorded first, so that nothing is ever resumed without a name and a reason; a crash in
between leaves the scope stopped. The name is the one the person signed in with.
"""

import re
from typing import Any
from urllib.parse import quote

from nicegui import ui

from gateway.console import asking, measures, pieces, telling
from gateway.console.frame import Declined, Page, View
from gateway.console.live import Standing, Weighed
from gateway.contract.consent import EventKind
from gateway.contract.console import May
from gateway.contract.registry import SCOPE, SCOPE_FORMS
from gateway.records import breakers, registry

REFRESH_S = 2.0
PERMILLE = 10
"""The share that is let through at first where nobody says another: 1 %."""


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    pieces.text("p", t["breakers_lead"])
    if view.may(May.MOVE):
        pieces.button(t["breaker_open"], lambda: _stopping(view), "danger")
    with pieces.box("section"):
        pieces.text("h2", t["breakers_moved"])
        table = _table(view)
        none = pieces.empty(t["breakers_none"])

    async def refresh() -> None:
        async with view.desk.pool.acquire(timeout=registry.TIMEOUT_S) as connection:
            found = await registry.breakers(connection)
            standing = Standing({one.scope: one for one in found}, await breakers.warned(connection))
        weighed = await view.live.weighed()
        stopped = sorted((one for one in found if one.is_open), key=lambda one: one.scope)
        closed = sorted((one for one in found if not one.is_open), key=lambda one: one.changed_at, reverse=True)
        warned = sorted(scope for scope in standing.warned if scope not in standing.breakers)
        rows = [_row(view, weighed, standing, one) for one in stopped]
        rows += [_warned(view, weighed, standing, scope) for scope in warned]
        rows += [_row(view, weighed, standing, one) for one in closed]
        if rows != table.rows:
            table.rows = rows
        table.set_visibility(bool(rows))
        none.set_visibility(not rows)

    await refresh()
    view.repeat(REFRESH_S, refresh)


def _table(view: View) -> ui.table:
    t = view.t
    columns = [
        pieces.Column("id", t["scope"], to="to"),
        pieces.Column("state", t["state"]),
        pieces.Column("figures", t["breaker_figures"]),
        pieces.Column("by", t["breaker_by"]),
        pieces.Column("reason", t["reason"]),
        pieces.Column("at", t["at"]),
    ]
    if view.may(May.MOVE):
        columns.append(pieces.Column("act", t["act"]))
    table = pieces.table(columns, [], t["breakers_title"], page=50)
    pieces.status_cells(table, "state")
    if view.may(May.MOVE):
        table.add_slot(
            "body-cell-act",
            '<q-td :props="props"><button v-if="props.row.open" class="act" type="button" '
            ":aria-label=\"props.row.act + ' ' + props.row.id\" "
            "@click=\"() => $parent.$emit('close', props.row.id)\">{{ props.row.act }}</button></q-td>",
        )
        table.on("close", lambda event: _resuming(view, str(event.args)))
    return table


def _row(view: View, weighed: Weighed, standing: Standing, one: registry.Breaker) -> dict[str, Any]:
    said, tone = measures.state(view, standing, one.scope)
    itself = one.changed_by == telling.SYSTEM
    return {
        "id": one.scope,
        "to": _address(one.scope),
        "open": one.is_open,
        "state": said,
        "tone": tone,
        "figures": telling.counted(view, one.figures) if one.position == "open" else _now(view, weighed, one.scope),
        "by": telling.who(view, one.changed_by),
        "reason": telling.lines(view, one.figures) if itself and one.figures else one.reason,
        "at": view.time(one.changed_at),
        "act": view.t["breaker_close"] if one.is_open else "",
    }


def _now(view: View, weighed: Weighed, scope: str) -> str:
    """What is weighed since it was let go on, where that comes to anything."""
    near = weighed.judged(scope, view.desk.packs).nearest if scope in weighed.scopes else None
    return "" if near is None else telling.counted(view, near.figures())


def _warned(view: View, weighed: Weighed, standing: Standing, scope: str) -> dict[str, Any]:
    since, counted = standing.warned[scope]
    said, tone = measures.state(view, standing, scope)
    return {
        "id": scope,
        "to": _address(scope),
        "open": False,
        "state": said,
        "tone": tone,
        "figures": _now(view, weighed, scope) or telling.counted(view, counted),
        "by": "–",
        "reason": "–",
        "at": view.time(since),
        "act": "",
    }


def _address(scope: str) -> str:
    kind, _, name = scope.partition(":")
    return f"/{kind}s/{quote(name, safe='')}" if kind in {"sender", "campaign"} else ""


# --- dialogs ---------------------------------------------------------------------------------------------------------


def _stopping(view: View) -> None:
    """Ask which scope to stop, and why; nothing happens before both are given."""
    t = view.t
    with view.client.content, ui.dialog() as dialog, pieces.box("div", "dialog"):
        dialog.props["aria-label"] = t["breaker_open"]
        pieces.text("h2", t["breaker_open"])
        pieces.text("p", t["breaker_open_lead"])
        scope = pieces.field(t["scope"], placeholder="sender:acme", autofocus=True)
        pieces.text("p", "; ".join(SCOPE_FORMS), "quiet")
        reason = _reason(view)

        async def move() -> str:
            where, why = scope.value.strip(), asking.reason_of(reason)
            if not re.fullmatch(SCOPE, where):
                raise Declined("breaker_scope_wrong")
            kind, _, name = where.partition(":")
            known = [one.id for one in (await registry.load(view.desk.pool)).senders] if kind == "sender" else [name]
            if name not in known:
                raise Declined("breaker_sender_unknown")
            await _moved(view, where, why)
            dialog.close()
            return "breaker_opened"

        with pieces.box("div", "line"):
            pieces.button(t["cancel"], dialog.close, "quiet")
            pieces.button(t["breaker_open"], view.doing(May.MOVE, move), "danger")
    dialog.on("hide", dialog.delete)
    dialog.open()


def _resuming(view: View, scope: str) -> None:
    """Ask for a reason, and whether all or a share is let through."""
    if not re.fullmatch(SCOPE, scope):  # the page says which row was pressed, and is not believed
        return
    t = view.t
    with view.client.content, ui.dialog() as dialog, pieces.box("div", "dialog"):
        dialog.props["aria-label"] = t("breaker_close_what", scope=scope)
        pieces.text("h2", t("breaker_close_what", scope=scope))
        pieces.text("p", t["breaker_close_lead"])
        reason = _reason(view, first=True)
        share = ui.number(t["breaker_share"], value=PERMILLE / 10, min=0.1, max=99.9, step=0.1)
        share.props("outlined dense")
        pieces.text("p", t["breaker_share_lead"], "quiet")

        async def close() -> str:
            why = asking.reason_of(reason)
            await view.record(EventKind.BREAKER, {"scope": scope, "open": False, "why": why})
            await _moved(view, scope, why, is_open=False)
            dialog.close()
            return "breaker_closed"

        async def trickle() -> str:
            why, permille = asking.reason_of(reason), round((share.value or 0) * 10)
            if not 1 <= permille <= 999:  # noqa: PLR2004 - of a thousand
                raise Declined("breaker_share_wrong")
            data = {"scope": scope, "open": True, "why": why, "permille": permille}
            await view.record(EventKind.BREAKER, data)
            await _moved(view, scope, why, permille=permille)
            dialog.close()
            return "breaker_trickled"

        with pieces.box("div", "line"):
            pieces.button(t["cancel"], dialog.close, "quiet")
            pieces.button(t["breaker_trickle"], view.doing(May.MOVE, trickle), "quiet")
            pieces.button(t["breaker_close"], view.doing(May.MOVE, close))
    dialog.on("hide", dialog.delete)
    dialog.open()


def _reason(view: View, *, first: bool = False) -> ui.textarea:
    made = asking.words(view.t["reason"], first=first)
    pieces.text("p", view.t("breaker_name", name=view.session.name), "quiet")
    return made


async def _moved(view: View, scope: str, why: str, *, is_open: bool = True, **more: Any) -> None:
    async with view.desk.pool.acquire(timeout=registry.TIMEOUT_S) as connection:
        await registry.set_breaker(connection, scope, is_open=is_open, by=view.session.name, reason=why, **more)


PAGE = Page("/breakers", "breakers_title", May.BOARD, show, menu=True)
