"""One message: what became of it, the permission it relied on with its evidence, and, asked for alone, what it said.

The look at the page is recorded before anything of it is shown; that at the text is one of its own.
"""

from typing import Any
from uuid import UUID

from nicegui import ui

from gateway.console import pieces, telling
from gateway.console.frame import Declined, Page, View
from gateway.contract.console import May
from gateway.contract.decision import Cause
from gateway.contract.ids import mask
from gateway.ledger.sealing import Contents
from gateway.records import cases, contents
from gateway.records.cases import Filter
from gateway.records.messages import Message, Messages
from gateway.records.timeline import Entry


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    try:
        name = str(UUID(view.asked["message"]))
    except ValueError:
        pieces.empty(t["message_unknown"])
        return
    one = await Messages(view.desk.pool).by_id(name)
    if one is None:
        pieces.empty(t["message_unknown"])
        return
    await view.look(one.subject, "message", name)
    restricted = await telling.restricted(view, one.subject)
    _facts(view, one)
    with pieces.box("div", "pair"):
        with pieces.box("section", "panel"):
            await _permission(view, one, restricted=restricted)
        with pieces.box("section", "panel"):
            _text(view, one, restricted=restricted)
    _timeline(view, one)
    await _complaints(view, one)


def _facts(view: View, one: Message) -> None:
    t = view.t
    with pieces.box("p"):
        pieces.mark(t["status_" + one.status.value], telling.TONES.get(one.status, ""))
        if one.cause is not Cause.NONE:
            pieces.text("span", f" {t['cause_' + one.cause.value]}")
    parts = "" if not one.parts else t("parts_of", n=one.parts_delivered, of=one.parts)
    with pieces.box("div", "panel"):
        pieces.facts(
            [
                (t["message_id"], one.id),
                (t["accepted_at"], view.time(one.accepted_at, seconds=True)),
                (t["settled_at"], view.time(one.settled_at, seconds=True)),
                (t["sender"], f"{one.sender} · {one.port}" if one.sender else ""),
                (t["purpose"], one.purpose or ""),
                (t["class"], "" if one.cls is None else t["class_" + one.cls.value]),
                (t["campaign"], one.campaign or ""),
                (t["list_source"], one.list_source or ""),
                (t["client"], one.client or ""),
                (t["client_ref"], one.client_ref or ""),
                (t["carrier"], " · ".join(filter(None, (one.carrier, one.carrier_id)))),
                (t["parts"], parts),
            ]
        )
        if one.subject is not None:
            pieces.link(t("recipient_page", who=telling.short(one.subject)), f"/recipients/{one.subject.hex()}")


async def _permission(view: View, one: Message, *, restricted: bool) -> None:
    """On what it was sent: basis, entry, and what the person did, when, by which form."""
    t, decision = view.t, one.decision
    pieces.text("h2", t["permission"])
    if decision is None:
        pieces.empty(t["permission_unknown"])
        return
    entry = None
    if decision.ledger_entry is not None and one.subject is not None:
        found = await view.desk.reading.history(one.subject, decision.ledger_entry - 1, 1)
        entry = found[0] if found and found[0]["seq"] == decision.ledger_entry else None
    if restricted and entry is not None:
        entry = {name: entry[name] for name in ("seq", "kind", "recorded_at")}
    told: list[tuple[str, str]] = [
        (t["basis"], t["basis_" + decision.basis.value]),
        (t["pack"], decision.pack),
        (t["ledger_entry"], "" if decision.ledger_entry is None else str(decision.ledger_entry)),
    ]
    pieces.facts(told + ([] if entry is None else entry_facts(view, entry)))
    if restricted:
        pieces.text("p", t["restricted_person"], "quiet")
    elif entry is None and decision.ledger_entry is not None:
        pieces.text("p", t["entry_unreadable"], "quiet")
    if view.may(May.EXPORT):
        pieces.sent_form("/files/evidence", {"asked": one.id}, t["evidence_get"])


def entry_facts(view: View, entry: dict[str, Any]) -> list[tuple[str, str]]:
    """What an entry of the ledger says about a permission; nothing but its kind and time once it is erased."""
    t = view.t
    data: dict[str, Any] = entry.get("data") or {}
    evidence: dict[str, Any] = data.get("evidence") or {}
    ref = data.get("ref")
    return [
        (t["entry_kind"], t.get("event_" + entry["kind"], entry["kind"])),
        (t["entry_at"], view.time(entry.get("occurred_at"), seconds=True)),
        (t["recorded_at"], view.time(entry["recorded_at"], seconds=True)),
        (t["topics"], ", ".join(map(str, data.get("topics") or ()))),
        (t["relationship"], "" if "kind" not in data else t.get("kind_" + str(data["kind"]), str(data["kind"]))),
        (t["entry_ref"], "" if ref is None else str(ref)),
        (t["channel"], str(evidence.get("collection_method") or data.get("channel") or "")),
        (t["form"], str(evidence.get("privacy_notice") or evidence.get("form_version") or "")),
        (t["evidence_id"], str(entry.get("event_id") or "")),
    ]


def _text(view: View, one: Message, *, restricted: bool) -> None:
    """What it said, when somebody asks."""
    t = view.t
    pieces.text("h2", t["text"])
    if restricted:
        pieces.empty(t["restricted_person"])
        return
    place = pieces.box("div")
    with place:
        pieces.text("p", t["text_lead"], "quiet")

    async def reveal() -> None:
        if await telling.restricted(view, one.subject):  # since the page was opened
            raise Declined("restricted_person")
        await view.look(one.subject, "text", one.id)
        found = await contents.contents(view.desk.pool, Contents(view.desk.appender.keys).open, [one.id])
        place.clear()
        button.delete()
        with place:
            if one.id not in found:
                pieces.empty(t["text_gone"])
                return
            pieces.text("blockquote", found[one.id].text, "said")
            pieces.text("p", t("text_to", number=mask(found[one.id].number)), "quiet")

    button: ui.button = pieces.button(t["text_show"], view.doing(May.PEOPLE, reveal), "quiet")


def _timeline(view: View, one: Message) -> None:
    t = view.t
    pieces.text("h2", t["timeline"])
    columns = [
        pieces.Column("at", t["at"]),
        pieces.Column("status", t["status"]),
        pieces.Column("attempt", t["attempt"], figure=True),
        pieces.Column("carrier", t["carrier"]),
        pieces.Column("code", t["code"]),
        pieces.Column("cause", t["cause"]),
    ]
    steps = [_step(view, n, step) for n, step in enumerate(one.timeline) if step.raw is None]
    pieces.status_cells(pieces.table(columns, steps, t["timeline"]), "status")
    pieces.text("h2", t["receipts"])
    receipts = [_step(view, n, step) for n, step in enumerate(one.receipts)]
    if not receipts:
        pieces.empty(t["receipts_none"])
        return
    columns[2] = pieces.Column("part", t["part"], figure=True)
    columns.append(pieces.Column("raw", t["raw"]))
    pieces.status_cells(pieces.table(columns, receipts, t["receipts"]), "status")


def _step(view: View, n: int, step: Entry) -> dict[str, Any]:
    return {
        "id": n,
        "at": view.time(step.at, seconds=True),
        "status": view.t["status_" + step.status.value],
        "tone": telling.TONES.get(step.status, ""),
        "attempt": step.attempt,
        "carrier": step.carrier or "–",
        "code": step.code or "–",
        "cause": "–" if step.cause is Cause.NONE else view.t["cause_" + step.cause.value],
        "part": "–" if step.part is None else step.part,
        "raw": step.raw or "–",
    }


async def _complaints(view: View, one: Message) -> None:
    if one.subject is None:
        return
    async with view.desk.pool.acquire(timeout=2.0) as connection:
        found = await cases.page(connection, Filter(subject=one.subject), cases.MOST_ROWS)
    own = [case for case in found if case.message == one.id]
    if own:
        pieces.text("h2", view.t["complaints"])
        for case in own:
            pieces.link(view.t("case_of", at=view.time(case.received_at)), f"/cases/{case.id}")


PAGE = Page("/messages/{message}", "message_title", May.PEOPLE, show)
