"""Finding messages: by id, person, reference, campaign and time. Each search is a look, recorded first."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from nicegui import ui

from gateway.console import asking, pieces, telling
from gateway.console.frame import Declined, Page, View
from gateway.contract.console import May
from gateway.records import searching
from gateway.records.messages import Message
from gateway.records.searching import Wanted
from gateway.rules import numbers

ASKED = ("who", "ref", "campaign", "sender", "from", "until", "before")
SAID = ("campaign", "sender", "from", "until", "before")


async def show(view: View) -> None:
    """Build the page."""
    pieces.text("p", view.t["messages_lead"])
    _form(view)
    if not any(view.asked.get(name) for name in ASKED):
        pieces.empty(view.t["messages_ask"])
        return
    try:
        wanted = _wanted(view)
    except (ValueError, Declined):
        pieces.empty(view.t["messages_ask_wrong"])
        return
    rows = await searching.found(view.desk.pool, wanted)
    await view.look(wanted.subject, "messages", *_named(wanted, rows), asked=_by(view))
    _found(view, rows)


def _form(view: View) -> None:
    t, asked = view.t, view.asked
    with pieces.box("div", "line", role="search", **{"aria-label": t["messages_title"]}) as place:
        one = pieces.field(t["message_id"], maxlength=36)
        person = pieces.field(t["who"], value=asked.get("who", ""), maxlength=40, autocomplete="off")
        ref = pieces.field(t["client_ref"], value=asked.get("ref", ""), maxlength=128)
        campaign = pieces.field(t["campaign"], value=asked.get("campaign", ""), maxlength=128)
        since = asking.day_field(t["day_from"], asked.get("from", ""))
        until = asking.day_field(t["day_until"], asked.get("until", ""))

    async def search() -> None:
        if written := one.value.strip():
            ui.navigate.to(f"/messages/{_uuid(written)}")
            return
        subject = asking.who(view.desk, person.value)
        if any(numbers.parse(one_field.value.strip()) is not None for one_field in (ref, campaign)):
            raise Declined("ref_is_number")
        given = {
            "who": None if subject is None else subject.hex(),
            "ref": ref.value.strip(),
            "campaign": campaign.value.strip(),
            "from": since.value,
            "until": until.value,
        }
        if not any(given.values()):
            raise Declined("messages_ask")
        ui.navigate.to(f"/messages?{urlencode({name: said for name, said in given.items() if said})}")

    act = view.doing(May.PEOPLE, search)
    for one_field in (one, person, ref, campaign):
        one_field.on("keydown.enter", act)
    with place:
        pieces.button(t["search"], act)


def _uuid(written: str) -> str:
    try:
        return str(UUID(written))
    except ValueError:
        raise Declined("message_id_wrong") from None


def _named(wanted: Wanted, rows: list[Message]) -> list[str]:
    """The messages that a reference led to; it is a client's own word and may name somebody, so it stays out."""
    return [] if wanted.client_ref is None else [one.id for one in rows]


def _by(view: View) -> dict[str, str]:
    """What else was searched by, as the ledger's record of the look tells it; the person is its subject."""
    return {name: said for name in SAID if (said := view.asked.get(name))}


def _wanted(view: View) -> Wanted:
    """What the address asks for. Raises ValueError, Declined."""
    asked = {name: view.asked.get(name) or None for name in ASKED}
    if any(numbers.parse(asked[name] or "") is not None for name in ("ref", "campaign", "sender")):
        raise Declined("ref_is_number")
    return Wanted(
        subject=asking.subject(asked["who"]),
        client_ref=asked["ref"],
        campaign=asked["campaign"],
        sender=asked["sender"],
        from_ms=asking.day_ms(view, asked["from"] or ""),
        until_ms=asking.day_ms(view, asked["until"] or "", end=True),
        before=None if asked["before"] is None else str(UUID(asked["before"])),
    )


def _found(view: View, rows: list[Message]) -> None:
    t = view.t
    pieces.text("h2", t["messages_found"])
    if not rows:
        pieces.empty(t["messages_none"])
        return
    listed(view, rows)
    if len(rows) == searching.PAGE:
        asked = {name: said for name, said in view.asked.items() if name in ASKED} | {"before": rows[-1].id}
        with pieces.box("p"):
            pieces.link(t["older"], f"/messages?{urlencode(asked)}")


def listed(view: View, rows: list[Message], *, of_person: bool = False) -> None:
    """Messages in a table; `of_person`: all of the person whose page it is."""
    t = view.t
    columns = [
        pieces.Column("at", t["accepted_at"], to="to"),
        pieces.Column("status", t["status"]),
        pieces.Column("sender", t["sender"]),
        pieces.Column("purpose", t["purpose"]),
        pieces.Column("campaign", t["campaign"]),
        pieces.Column("ref", t["client_ref"]),
    ]
    if not of_person:
        columns.append(pieces.Column("who", t["recipient"], to="person"))
    told: list[dict[str, Any]] = [telling.message_row(view, one) for one in rows]
    table = pieces.table(columns, told, t["messages_found"])
    pieces.status_cells(table, "status")


PAGE = Page("/messages", "messages_title", May.PEOPLE, show, menu=True)
