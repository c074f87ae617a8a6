"""Finding a person by number or subject. The number becomes a subject at once, and only that is in an address."""

from nicegui import ui

from gateway.console import asking, pieces
from gateway.console.frame import Declined, Page, View
from gateway.contract.console import May


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    pieces.text("p", t["recipients_lead"])
    with pieces.box("div", "line", role="search", **{"aria-label": t["recipients_title"]}) as place:
        person = pieces.field(t["who"], maxlength=40, autocomplete="off", autofocus=True)

    async def find() -> None:
        subject = asking.who(view.desk, person.value)
        if subject is None:
            raise Declined("who_wrong")
        ui.navigate.to(f"/recipients/{subject.hex()}")

    act = view.doing(May.PEOPLE, find)
    person.on("keydown.enter", act)
    with place:
        pieces.button(t["show"], act)


PAGE = Page("/recipients", "recipients_title", May.PEOPLE, show, menu=True)
