"""How rows of messages, people and the ledger are said on several pages: statuses, permissions, scopes, steps."""

from collections.abc import Mapping
from typing import Any

from gateway.console import figures
from gateway.console.frame import View
from gateway.contract.decision import Status
from gateway.contract.export import Person
from gateway.ledger.citing import Citing
from gateway.records.cleansing import BY_ITSELF
from gateway.records.messages import Message

TONES = {
    Status.DELIVERED: "good",
    Status.UNDELIVERED: "bad",
    Status.REJECTED: "bad",
    Status.EXPIRED: "warn",
    Status.UNKNOWN: "warn",
}
SYSTEM = BY_ITSELF
"""Who moves a breaker, or asks for a cleansing, where no person does (`settle`)."""
SHORT = 12
"""Hex digits of a subject that are shown where it leads to its page."""


def short(subject: bytes | None) -> str:
    """The beginning of a subject; a dash where it is not known."""
    return "–" if subject is None else subject.hex()[:SHORT]


async def restricted(view: View, subject: bytes | None) -> bool:
    """Whether a person asked for erasure: then what a law keeps is used for nothing."""
    if subject is None:
        return False
    told = await Citing(view.desk.pool, view.desk.appender.keys).cite([], [subject])
    return told.people.get(subject, Person()).restricted


def who(view: View, name: str | None) -> str:
    """Who did something: a person by name, or the gateway itself."""
    return view.t["by_itself"] if name == SYSTEM else name or "–"


def counted(view: View, told: Mapping[str, Any] | None) -> str:
    """What a breaker judged, in words; empty where a person moved it."""
    if not told or "n" not in told:
        return ""
    return view.t(
        "breaker_counted",
        what=view.t.get("counts_" + str(told.get("counts")), str(told.get("counts"))),
        n=figures.count(told["n"]),
        of=figures.count(told.get("delivered")),
        ppm=_ppm(told.get("ppm")),
        within=within(view, str(told.get("within"))),
    )


def lines(view: View, told: Mapping[str, Any]) -> str:
    """By which line a breaker judged, in words; the log has it in a sentence of its own."""
    if told.get("by") != "rate":
        return view.t("breaker_by_count", line=figures.count(told.get("line_n")))
    least, line = (_ppm(told.get(name)) for name in ("at_least_ppm", "line_ppm"))
    return view.t("breaker_by_rate", least=least, line=line)


def _ppm(value: Any) -> str:
    """The ledger keeps fractions as text."""
    return figures.ppm_text(None if value is None else float(value))


def within(view: View, span: str) -> str:
    """A line's span."""
    return view.t.get("within_" + span, span)


def seen(view: View, data: Mapping[str, Any]) -> str:
    """What a look was at; ids stand as they are."""
    return ", ".join(view.t.get("seen_" + str(one), str(one)) for one in data.get("seen") or ())


def message_row(view: View, one: Message) -> dict[str, Any]:
    """A message in a list."""
    return {
        "id": one.id,
        "to": f"/messages/{one.id}",
        "at": view.time(one.accepted_at, seconds=True),
        "status": view.t["status_" + one.status.value],
        "tone": TONES.get(one.status, ""),
        "sender": one.sender or "–",
        "purpose": one.purpose or "–",
        "campaign": one.campaign or "–",
        "ref": one.client_ref or "–",
        "who": short(one.subject),
        "person": None if one.subject is None else f"/recipients/{one.subject.hex()}",
    }


def scope(view: View, written: str) -> str:
    """A suppression's scope in words: a sender, its class, a topic, or everything."""
    owner, topic = written.partition("/")[::2]
    owner, cls = owner.partition("#")[::2]
    said = view.t["scope_every"] if owner == "*" else owner
    if cls:
        return f"{said} · {view.t.get('class_' + cls, cls)}"
    return f"{said} · {topic}" if topic else said


def minutes(of_day: int) -> str:
    """A minute of the day, as a clock shows it."""
    return f"{of_day // 60:02d}:{of_day % 60:02d}"
