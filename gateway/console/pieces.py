"""Small pieces of pages: real headings, links and tables, fields with labels, and what is said where nothing is.

Text is always text: it goes to the browser as data and is never read as HTML. Attributes are set by name, so that what
data say cannot become another attribute.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement


class Column(NamedTuple):
    """A table's column: the row's key, its heading, whether it holds figures, and the key of where it leads."""

    key: str
    label: str
    figure: bool = False
    to: str | None = None
    """The row's key that holds an address: the cell is then a link."""
    whole: bool = False
    """A few words, never broken over lines."""


def box(tag: str, classes: str = "", **attributes: Any) -> ui.element:
    """An element to put others into."""
    made = ui.element(tag)
    _dress(made, classes, attributes)
    return made


def text(tag: str, said: str, classes: str = "", **attributes: Any) -> TextElement:
    """An element with text in it."""
    made = TextElement(tag=tag, text=said)
    _dress(made, classes, attributes)
    return made


def _dress(element: ui.element, classes: str, attributes: Mapping[str, Any]) -> None:
    element.classes(classes)
    for name, value in attributes.items():
        element.props[name] = value


def empty(said: str) -> TextElement:
    """What is said where there is nothing to show."""
    return text("p", said, "empty", role="status")


def table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], label: str, *, page: int = 0) -> ui.table:
    """A table in its own order. Rows have an `id`; setting `.rows` later keeps the reader's place. `page`: its rows.

    A row's `tone` (`bad`, `warn`, `good`) colours its first figure and is also said by the text of some cell.
    """
    shaped = [
        {
            "name": column.key,
            "label": column.label,
            "field": column.key,
            "align": "right" if column.figure else "left",
            "classes": "whole" if column.whole else "",
        }
        for column in columns
    ]
    made = ui.table(rows=[dict(row) for row in rows], columns=shaped, row_key="id", pagination=page or None)
    made.props["aria-label"] = label
    made.props["flat"] = True
    made.props["wrap-cells"] = True
    for column in columns:
        if column.to is not None:
            made.add_slot(
                f"body-cell-{column.key}",
                f'<q-td :props="props"><a v-if="props.row.{column.to}" :href="props.row.{column.to}">'
                "{{ props.value }}</a><span v-else>{{ props.value }}</span></q-td>",
            )
    return made


def status_cells(made: ui.table, key: str) -> None:
    """Say a column's values as marks: the row's `tone` is their colour, their text is what they mean."""
    made.add_slot(
        f"body-cell-{key}",
        "<q-td :props=\"props\"><span :class=\"'mark ' + (props.row.tone || '')\">{{ props.value }}</span></q-td>",
    )


def figure(label: str, value: str, note: str = "", tone: str = "") -> tuple[TextElement, TextElement]:
    """One big figure with what it is; returns the value and the note, to be set anew."""
    with box("div", f"figure {tone}"):
        text("span", label, "quiet")
        said = text("strong", value)
        more = text("span", note, "quiet")
    return said, more


def field(label: str, *, password: bool = False, value: str = "", **attributes: Any) -> ui.input:
    """A field with its label."""
    made = ui.input(label, password=password, value=value)
    made.props["outlined"] = True
    made.props["dense"] = True
    for name, given in attributes.items():
        made.props[name] = given
    return made


def button(label: str, act: Callable[..., Any], kind: str = "") -> ui.button:
    """A button. `kind`: `danger` for what stops or lets loose, `quiet` for what changes nothing."""
    made = ui.button(label, on_click=act, color=None)
    made.classes(f"act {kind}")
    made.props["no-caps"] = True
    made.props["unelevated"] = True
    return made


def facts(told: Sequence[tuple[str, str]]) -> None:
    """What is known, each under its name; what is empty is left out."""
    with box("dl", "facts"):
        for name, said in told:
            if said:
                text("dt", name)
                text("dd", said)


def link(said: str, to: str) -> TextElement:
    """A link within the console."""
    return text("a", said, href=to)


def mark(said: str, tone: str = "") -> TextElement:
    """A word that says how something stands, in a colour that says the same."""
    return text("span", said, f"mark {tone}")


def sent_form(action: str, hidden: Mapping[str, str], label: str, kind: str = "quiet") -> None:
    """A button that fetches a file: a form of its own, so that the browser saves what comes."""
    with box("form", method="post", action=action):
        for name, value in hidden.items():
            box("input", type="hidden", name=name, value=value)
        text("button", label, f"act {kind}", type="submit")


def act_cells(made: ui.table, key: str) -> None:
    """A button in each row that has something to do; the table emits `act` with the row's id."""
    made.add_slot(
        f"body-cell-{key}",
        f'<q-td :props="props"><button v-if="props.row.{key}" class="act quiet" type="button" '
        f":aria-label=\"props.row.{key} + ' ' + props.row.id\" "
        f"@click=\"() => $parent.$emit('act', props.row.id)\">{{{{ props.row.{key} }}}}</button></q-td>",
    )
