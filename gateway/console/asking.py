"""What pages ask for: dialogs that need a reason, dates, and a person by number or subject.

A number that somebody types stays in the live connection: it becomes a subject here, and only that is in addresses.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, time, timedelta

from nicegui import ui

from gateway.console import pieces
from gateway.console.desk import Desk
from gateway.console.frame import Declined, View
from gateway.contract.console import May
from gateway.contract.ids import subject_of
from gateway.records.searching import LAST_MS
from gateway.rules import numbers

MOST_WORDS = 500
SUBJECT = re.compile(r"[0-9a-f]{32}")


def who(desk: Desk, typed: str) -> bytes | None:
    """The subject of what was typed: a number, or 32 hex digits; none of nothing. Raises Declined."""
    plain = typed.strip()
    if not plain:
        return None
    if SUBJECT.fullmatch(plain):
        return bytes.fromhex(plain)
    number = numbers.parse(plain)
    if number is None:
        raise Declined("who_wrong")
    return subject_of(desk.pepper, number)


def subject(written: str | None) -> bytes | None:
    """A subject that an address or a form names; none of nothing. Raises ValueError."""
    if not written:
        return None
    if not SUBJECT.fullmatch(written):
        raise ValueError("not a subject")
    return bytes.fromhex(written)


def day_ms(view: View, written: str, *, end: bool = False) -> int | None:
    """When a day begins in the reader's zone, or ends; Unix ms. Raises Declined."""
    if not written:
        return None
    try:
        day = datetime.fromisoformat(written).date() + timedelta(days=1 if end else 0)
        at = int(datetime.combine(day, time(), view.zone).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise Declined("day_wrong") from None
    if not 0 <= at <= LAST_MS:
        raise Declined("day_wrong")
    return at


def day_field(label: str, value: str = "") -> ui.input:
    """A day."""
    return pieces.field(label, value=value, type="date", **{"stack-label": True})


def choice(options: "list[str] | dict[str, str]", label: str | None, value: str | None = None) -> ui.select:
    """One of several."""
    made = ui.select(options, label=label, value=value)
    made.props("outlined dense options-dense")
    return made


def words(label: str, *, first: bool = False) -> ui.textarea:
    """A reason, or what was said."""
    made = ui.textarea(label).props(f"outlined autogrow maxlength={MOST_WORDS}")
    if first:
        made.props["autofocus"] = True
    return made


def reason_of(field: ui.textarea) -> str:
    """What was given. Raises Declined where nothing was."""
    said = (field.value or "").strip()
    if not 0 < len(said) <= MOST_WORDS:
        raise Declined("reason_missing")
    return said


@contextmanager
def dialog(view: View, title: str, lead: str = "") -> Iterator[ui.dialog]:
    """A dialog to fill; it opens at the end, and is gone when it closes."""
    with view.client.content, ui.dialog() as made, pieces.box("div", "dialog", role="document"):
        made.props["aria-label"] = title
        pieces.text("h2", title)
        if lead:
            pieces.text("p", lead)
        yield made
    made.on("hide", made.delete)
    made.open()


def end(
    view: View,
    made: ui.dialog,
    may: May,
    label: str,
    act: Callable[[], Awaitable[str | None]],
    kind: str = "",
    to: str | None = None,
) -> None:
    """The line that ends a dialog: cancel, or do it, which closes the dialog and leads to a page, when it was done."""

    async def done() -> str | None:
        said = await act()
        made.close()
        if to is not None:
            ui.navigate.to(to)
        return said

    pieces.text("p", view.t("breaker_name", name=view.session.name), "quiet")
    with pieces.box("div", "line"):
        pieces.button(view.t["cancel"], made.close, "quiet")
        pieces.button(label, view.doing(may, done), kind)
