"""Who looked at whom, and who did what: the ledger's looks and acts, and what happened at this console's door."""

from typing import Any
from urllib.parse import urlencode

from gateway.console import pieces, telling
from gateway.console.frame import Page, View
from gateway.contract.console import May
from gateway.ledger.reading import Looked
from gateway.records import users

MOST = 200
DIGITS = 19
"""Of a place in the ledger, or an act's number."""


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    pieces.text("p", t["audit_lead"])
    pieces.text("h2", t["audit_looks"])
    found = await view.desk.reading.looks(MOST, _before(view, "before"))
    columns = (
        pieces.Column("at", t["at"]),
        pieces.Column("who", t["audit_who"]),
        pieces.Column("kind", t["audit_what"], whole=True),
        pieces.Column("subject", t["audit_subject"]),
        pieces.Column("detail", t["audit_detail"]),
        pieces.Column("id", t["audit_entry"], figure=True),
    )
    if found:
        pieces.table(columns, [_row(view, one) for one in found], t["audit_looks"], page=50)
    else:
        pieces.empty(t["audit_none"])
    if len(found) == MOST:
        _older(view, before=found[-1].seq)
    await _door(view)


def _before(view: View, name: str) -> int | None:
    """Where the page goes on, by its address."""
    given = view.asked.get(name, "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < DIGITS else None


def _older(view: View, **where: int) -> None:
    kept = {name: at for name in ("before", "acts") if (at := _before(view, name)) is not None}
    with pieces.box("p"):
        pieces.link(view.t["older"], f"/audit?{urlencode(kept | where)}")


async def _door(view: View) -> None:
    """What happened at the door."""
    t = view.t
    pieces.text("h2", t["audit_door"])
    acts = await users.acts(view.desk.pool, MOST, _before(view, "acts"))
    rows = [
        {"id": act.id, "at": view.time(act.at, seconds=True), "who": act.name, "act": t["act_" + act.act], "by": act.by}
        for act in acts
    ]
    door = (
        pieces.Column("at", t["at"]),
        pieces.Column("who", t["user_name"]),
        pieces.Column("act", t["audit_what"]),
        pieces.Column("by", t["audit_by"]),
    )
    pieces.table(door, rows, t["audit_door"], page=50)
    if len(acts) == MOST:
        _older(view, acts=acts[-1].id)


def _row(view: View, one: Looked) -> dict[str, Any]:
    data = one.data
    who = data.get("person") or data.get("by")
    return {
        "id": one.seq,
        "at": view.time(one.at, seconds=True),
        "who": telling.who(view, None if who is None else str(who)),
        "kind": view.t.get("event_" + one.kind, one.kind),
        "subject": "–" if one.subject is None else one.subject.hex()[:12],
        "detail": _detail(view, data),
    }


def _end(view: View, at: Any) -> str:
    """One end of a time that was asked for: a day as it was typed, or a moment."""
    return view.time(at) if isinstance(at, int) else str(at or "")


def _detail(view: View, data: dict[str, Any]) -> str:
    """What was seen or done, to what, and why; what the gateway did by itself is told in the reader's words."""
    t, told = view.t, [telling.seen(view, data)]
    if "open" in data:
        share = data.get("permille")
        told.append(t["audit_share" if share else "audit_stopped" if data["open"] else "audit_resumed"])
    if "hold" in data:
        told.append(t("audit_held" if data.get("held") else "audit_released", n=data["hold"]))
    if "cleansing" in data:
        told.append(t.get("audit_" + str(data.get("act")), str(data.get("act"))))
    asked = data.get("asked") or {}
    told += [str(asked[name]) for name in ("sender", "campaign") if asked.get(name)]
    ends = [_end(view, asked.get(name, asked.get(f"{name}_ms"))) for name in ("from", "until")]
    told += [" – ".join(ends)] if any(ends) else []
    told += [str(data[name]) for name in ("scope", "list") if data.get(name)]
    counted, itself = telling.counted(view, data.get("figures")), data.get("person") == telling.SYSTEM
    if itself and counted:
        told += [counted, telling.lines(view, data["figures"])]
    elif itself and "cleansing" in data:
        told.append(t["breaker_opened_it"])
    else:
        told += [str(data[name]) for name in ("why", "reason") if data.get(name)]
    return " · ".join(filter(None, told))


PAGE = Page("/audit", "audit_title", May.AUDIT, show, menu=True)
