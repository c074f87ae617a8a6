"""One complaint's case: its words, the messages it could be about, who does what about it, and its evidence.

Whoever acts does so in the name they signed in with. The look at the case is recorded before it is shown, that at its
words again; notes are sealed like the words.
"""

import time
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from nicegui import ui

from gateway.console import asking, pieces, telling
from gateway.console.desk import means_of
from gateway.console.frame import TIMEOUT_S, Declined, Page, View
from gateway.console.pages.cases import MATCHES, standing
from gateway.contract.complaint import OUTCOMES, CaseAct, CaseState, Matching
from gateway.contract.console import May
from gateway.contract.ids import mask
from gateway.intake.complaints import bound
from gateway.intake.resolving import resolve
from gateway.ledger.keys import KeyMismatchError
from gateway.ledger.sealing import Contents
from gateway.records import cases, contents, searching
from gateway.records.cases import Acted, Case, CaseStateError, NoCaseError
from gateway.records.messages import Message, Messages
from gateway.records.searching import Wanted

MOST_OFFERED = 10


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    try:
        name = str(UUID(view.asked["case"]))
    except ValueError:
        pieces.empty(t["case_unknown"])
        return
    async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
        case = await cases.one(connection, name)
        acted = await cases.acts(connection, name)
    if case is None:
        pieces.empty(t["case_unknown"])
        return
    restricted = await telling.restricted(view, case.subject)
    offering = _undecided(case) and not restricted
    await view.look(case.subject, "case", name, *(["candidates"] if offering else []))
    _facts(view, case)
    _acts(view, case)
    with pieces.box("div", "pair"):
        with pieces.box("section", "panel"):
            _words(view, case, acted, restricted=restricted)
        with pieces.box("section", "panel"):
            _evidence(view, case)
    if offering:
        await _matching(view, case)
    _timeline(view, acted)


def _facts(view: View, case: Case) -> None:
    t = view.t
    said, tone = standing(view, case)
    with pieces.box("p"):
        pieces.mark(said, tone)
        pieces.text("span", " ")
        pieces.mark(t["match_" + case.match.value], MATCHES[case.match])
    with pieces.box("div", "panel"):
        pieces.facts(
            [
                (t["source"], t["source_" + case.source]),
                (t["complained_at"], view.time(case.at)),
                (t["received_at"], view.time(case.received_at)),
                (t["due_at"], view.time(case.due_at)),
                (t["answered_at"], "" if case.answered_at is None else view.time(case.answered_at)),
                (t["closed_at"], "" if case.closed_at is None else view.time(case.closed_at)),
                (t["outcome"], "" if case.outcome is None else t["outcome_" + case.outcome]),
                (t["assigned_to"], case.assigned_to or ""),
                (t["port"], case.port or ""),
                (t["sender"], case.sender or ""),
                (t["campaign"], case.campaign or ""),
                (t["purpose"], case.purpose or ""),
                (t["list_source"], case.list_source or ""),
                (t["suppressed_in"], telling.scope(view, case.scope)),
            ]
        )
        if case.subject is not None:
            pieces.link(t("recipient_page", who=telling.short(case.subject)), f"/recipients/{case.subject.hex()}")


# --- its words -------------------------------------------------------------------------------------------------------


def _words(view: View, case: Case, acted: list[Acted], *, restricted: bool) -> None:
    t = view.t
    pieces.text("h2", t["case_words"])
    if restricted:
        pieces.empty(t["restricted_person"])
        return
    place = pieces.box("div")
    if not case.readable:
        pieces.empty(t["case_words_gone"])
        return
    with place:
        pieces.text("p", t["case_words_lead"], "quiet")

    async def reveal() -> None:
        if await telling.restricted(view, case.subject):  # since the page was opened
            raise Declined("restricted_person")
        await view.look(case.subject, "complaint", case.id)
        keys = view.desk.appender.keys
        async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
            sealed = await cases.words(connection, case.id)
        said: dict[str, Any] = {} if sealed is None else orjson.loads(keys.open_case(sealed, bound(case.id)))
        number = None if case.subject is None else await view.desk.reading.number(case.subject)
        place.clear()
        button.delete()
        with place:
            pieces.text("blockquote", said.get("text") or t["case_words_none"], "said")
            pieces.facts(
                [(t["reporter"], "" if number is None else mask(number)), (t["case_ref"], said.get("ref") or "")]
            )
            for one in acted:
                if (note := _opened(view, case, one.sealed)) is not None:
                    pieces.text("p", f"{view.time(one.at)} · {one.by} · {t['act_case_' + one.act.value]}: {note}")

    button: ui.button = pieces.button(t["case_words_show"], view.doing(May.CASES, reveal), "quiet")


def _opened(view: View, case: Case, sealed: bytes | None) -> str | None:
    try:
        return None if sealed is None else view.desk.appender.keys.open_case(sealed, bound(case.id)).decode()
    except (KeyMismatchError, UnicodeDecodeError):
        return None


def _evidence(view: View, case: Case) -> None:
    t = view.t
    pieces.text("h2", t["evidence"])
    pieces.facts(
        [
            (t["case_permission"], "" if case.permission is None else str(case.permission)),
            (t["case_suppression"], "" if case.entry is None else str(case.entry)),
        ]
    )
    if case.message is not None:
        with pieces.box("p"):
            pieces.link(t["message_caused"], f"/messages/{case.message}")
    if case.bundle is not None:
        pieces.sent_form("/files/evidence", {"asked": case.bundle}, t["evidence_get"])


# --- which message ---------------------------------------------------------------------------------------------------


def _undecided(case: Case) -> bool:
    """Whether a person has to say which message it was."""
    return case.state is not CaseState.CLOSED and case.match is not Matching.MATCHED and case.resolved_by is None


async def _matching(view: View, case: Case) -> None:
    """Where it is not clear: the messages that it could be about, and none of them."""
    t = view.t
    pieces.text("h2", t["case_matching"])
    pieces.text("p", t["case_matching_" + case.match.value])
    offered = await _offered(view, case)
    told = await contents.texts(view.desk.pool, Contents(view.desk.appender.keys).open, [one.id for one in offered])
    if not offered:
        pieces.empty(t["case_no_messages"])
    for one in offered:
        with pieces.box("div", "panel offered"):
            with pieces.box("div"):
                pieces.link(view.time(one.accepted_at, seconds=True), f"/messages/{one.id}")
                pieces.text("span", f" · {one.sender} · {one.port} · {one.campaign or '–'}", "quiet")
                pieces.text("blockquote", told.get(one.id, t["text_gone"]), "said")
            decide = view.doing(May.CASES, partial(_decide, view, case, one.id))
            chosen = pieces.button(t["case_this_one"], decide)
            chosen.props["aria-label"] = f"{t['case_this_one']} {view.time(one.accepted_at, seconds=True)}"
    with pieces.box("div", "line"):
        pieces.button(t["case_none_of_ours"], view.doing(May.CASES, partial(_decide, view, case, None)), "quiet")


async def _offered(view: View, case: Case) -> list[Message]:
    """What was found to be possible; where that is nothing, what last went to the person."""
    readers = Messages(view.desk.pool)
    found = [await readers.by_id(one) for one in case.candidates[:MOST_OFFERED]]
    offered = [one for one in found if one is not None]
    if offered or case.subject is None:
        return offered
    return await searching.found(view.desk.pool, Wanted(subject=case.subject), MOST_OFFERED)


async def _decide(view: View, case: Case, message: str | None) -> str:
    now = time.time_ns() // 1_000_000
    try:
        await resolve(await means_of(view.desk), case.id, message, view.session.name, "console", now)
    except (NoCaseError, CaseStateError):
        raise Declined("case_moved_on") from None
    ui.navigate.to(f"/cases/{case.id}")
    return "case_decided"


# --- acts ------------------------------------------------------------------------------------------------------------


def _acts(view: View, case: Case) -> None:
    if case.state is CaseState.CLOSED:
        return
    t = view.t
    with pieces.box("div", "line"):
        pieces.button(t["case_assign"], lambda: _dialog(view, case, "assign"), "quiet")
        pieces.button(t["case_answer"], lambda: _dialog(view, case, "answer"))
        if case.state is CaseState.ANSWERED:
            pieces.button(t["case_close"], lambda: _dialog(view, case, "close"))


def _dialog(view: View, case: Case, step: str) -> None:
    t = view.t
    title = t["case_" + step]
    with asking.dialog(view, title, t[f"case_{step}_lead"]) as made:
        to = pieces.field(t["assigned_to"], value=view.session.name, maxlength=100) if step == "assign" else None
        outcome = None
        if step == "close":
            outcome = asking.choice({one: t["outcome_" + one] for one in OUTCOMES}, t["outcome"], OUTCOMES[0])
        note = asking.words(t["note"], first=True)

        async def act() -> str:
            by, now = view.session.name, time.time_ns() // 1_000_000
            said = (note.value or "").strip()
            if step == "answer" and not said:
                raise Declined("case_note_missing")
            sealed = view.desk.appender.keys.seal_case(said.encode(), bound(case.id)) if said else None
            try:
                async with view.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
                    if to is not None:
                        await cases.assign(connection, case.id, _name(to.value), by, now, sealed)
                    elif outcome is not None:
                        await cases.close(connection, case.id, _outcome(outcome.value), by, now, sealed)
                    else:
                        await cases.answer(connection, case.id, by, now, sealed)
            except (NoCaseError, CaseStateError):
                raise Declined("case_moved_on") from None
            return "case_done"

        asking.end(view, made, May.CASES, title, act, to=f"/cases/{case.id}")


def _name(given: str | None) -> str:
    plain = (given or "").strip()
    if not 0 < len(plain) <= 100:  # noqa: PLR2004 - contract.complaint.Name
        raise Declined("case_name_missing")
    return plain


def _outcome(given: Any) -> str:
    if given not in OUTCOMES:
        raise Declined("case_outcome_missing")
    return str(given)


def _timeline(view: View, acted: list[Acted]) -> None:
    t = view.t
    pieces.text("h2", t["timeline"])
    columns = (
        pieces.Column("at", t["at"]),
        pieces.Column("act", t["audit_what"]),
        pieces.Column("by", t["audit_by"]),
        pieces.Column("detail", t["detail"]),
        pieces.Column("entry", t["ledger_entry"], figure=True),
    )
    rows = [
        {
            "id": n, "at": view.time(one.at, seconds=True), "act": t["act_case_" + one.act.value], "by": one.by,
            "detail": _detail(view, one), "entry": "–" if one.entry is None else one.entry,
        }
        for n, one in enumerate(acted)
    ]  # fmt: skip
    pieces.table(columns, rows, t["timeline"])


def _detail(view: View, one: Acted) -> str:
    if one.detail is None:
        return "–"
    said = "source_" if one.act is CaseAct.TOLD else "outcome_"
    return view.t.get(said + one.detail, one.detail)


PAGE = Page("/cases/{case}", "case_title", May.CASES, show)
