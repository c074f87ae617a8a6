"""One person: what stands, what they want, what happened; and stopping messages to them, by name and with a reason.

The look is recorded before anything is shown. Of somebody who asked for erasure no more is told than that it is
restricted, until when and by which law. A stop is in force when it is answered (`ledger`).
"""

from typing import Any, NamedTuple

from gateway.console import asking, pieces, telling
from gateway.console.frame import Declined, Page, View
from gateway.console.pages.messages import listed
from gateway.contract.consent import EventKind, State
from gateway.contract.console import May
from gateway.contract.decision import Class, Reason
from gateway.contract.ids import mask
from gateway.contract.registry import Registry
from gateway.ledger import events
from gateway.ledger.erasing import Erasures, File, Others
from gateway.records import cases, registry, searching
from gateway.records.cases import Filter
from gateway.records.personal import Personal
from gateway.records.searching import Wanted
from gateway.rules.retention import due_ms, in_force, restricted_at

SHOWN = 10
BY_HAND = (Reason.MANUAL, Reason.REGULATOR)
"""Why somebody may be suppressed here; every other reason has a way of its own."""


class Known(NamedTuple):
    """A person and what is recorded about them."""

    subject: bytes
    number: str | None
    """Masked."""
    file: File
    senders: list[str]


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    written = view.asked["subject"]
    if not asking.SUBJECT.fullmatch(written):
        pieces.empty(t["who_wrong"])
        return
    subject = bytes.fromhex(written)
    known = await _known(view, subject)
    await view.look(subject, "state", "history", "replies", "messages", "complaints")
    with pieces.box("p"):
        pieces.text("strong", known.number or t["number_unknown"])
        pieces.text("span", f" · {t['subject']} {written}", "quiet")
    if not known.file.known:
        pieces.empty(t["recipient_none"])
    _acts(view, known)
    if known.file.due is not None:
        _restricted(view, known.file)
        return
    _standing(view, known.file.state)
    _history(view, known.file)
    await _traffic(view, subject)


async def _known(view: View, subject: bytes) -> Known:
    desk = view.desk
    current = await registry.load(desk.pool)
    personal = Personal(desk.pool)
    rules = in_force(desk.packs, [sender.pack for sender in current.senders])
    others = Others(lambda: rules, personal.last_message_ms, personal.forget, personal.cancel)
    file = await Erasures(desk.pool, desk.appender, desk.reading, others).file(subject)
    number = await desk.reading.number(subject)
    return Known(subject, None if number is None else mask(number), file, _senders(current))


def _senders(current: Registry) -> list[str]:
    return [sender.id for sender in current.senders]


def _restricted(view: View, file: File) -> None:
    t, due = view.t, due_ms(file.kept)
    with pieces.box("section", "panel"):
        pieces.text("h2", t["restricted"])
        pieces.text("p", t("restricted_lead", until=view.time(due)))
        zh = view.t.lang == "zh"
        pieces.facts(
            [
                (one.rule.title_zh if zh else one.rule.title, one.rule.source.title_zh if zh else one.rule.source.title)
                for one in file.kept
            ]
        )


# --- what stands -----------------------------------------------------------------------------------------------------


def _standing(view: View, state: State | None) -> None:
    t = view.t
    known = state or State(seq=0)
    entry = pieces.Column("entry", t["ledger_entry"], figure=True)
    since, what = pieces.Column("at", t["since"]), pieces.Column("what", t["what"])
    suppressions = [
        {
            "id": f"{scope}.{n}", "what": telling.scope(view, scope), "entry": one.entry,
            "why": t["reason_" + Reason(one.reason).name.lower()], "tone": "bad", "at": view.time(one.at * 1000),
        }
        for scope, held in known.suppressions.items() for n, one in enumerate(held)
    ]  # fmt: skip
    consents = [
        {
            "id": key, "what": telling.scope(view, key), "at": view.time(one.at * 1000), "entry": one.entry,
            "until": view.time(one.until * 1000) if one.until else t["no_end"], "most": one.max_per_week or "–",
        }
        for key, one in known.consents.items()
    ]  # fmt: skip
    relationships = [
        {
            "id": key, "what": f"{key.partition('/')[0]} · {t.get('kind_' + key.partition('/')[2], key)}",
            "at": view.time(one.at * 1000), "entry": one.entry,
            "until": view.time(one.expires * 1000) if one.expires else t["no_end"],
        }
        for key, one in known.relationships.items()
    ]  # fmt: skip
    preferences = [
        {
            "id": owner, "what": telling.scope(view, owner), "topics": ", ".join(one.topics) or "–",
            "most": one.max_per_week or "–",
            "hours": "–" if one.hours is None else "–".join(map(telling.minutes, one.hours)),
        }
        for owner, one in known.preferences.items()
    ]  # fmt: skip
    until, most = pieces.Column("until", t["until"]), pieces.Column("most", t["max_per_week"], figure=True)
    _part(view, "suppressions", [what, pieces.Column("why", t["reason"]), since, entry], suppressions, mark="why")
    _part(view, "consents", [what, since, until, most, entry], consents)
    _part(view, "relationships", [what, since, until, entry], relationships)
    topics, hours = pieces.Column("topics", t["topics"]), pieces.Column("hours", t["hours"])
    _part(view, "preferences", [what, topics, most, hours], preferences)


def _part(
    view: View,
    name: str,
    columns: list[pieces.Column],
    rows: list[dict[str, Any]],
    mark: str | None = None,
    page: int = 0,
) -> None:
    pieces.text("h2", view.t["recipient_" + name])
    if not rows:
        pieces.empty(view.t["nothing_" + name])
        return
    table = pieces.table(columns, rows, view.t["recipient_" + name], page=page if len(rows) > page else 0)
    if mark is not None:
        pieces.status_cells(table, mark)


# --- what happened ---------------------------------------------------------------------------------------------------


def _history(view: View, file: File) -> None:
    t, hidden = view.t, restricted_at(file.acts)
    rows: list[dict[str, Any]] = []
    watched: list[dict[str, Any]] = []
    for row in reversed(file.history):
        event = row if row["seq"] > hidden else {name: row[name] for name in ("seq", "recorded_at", "kind")}
        state = event.get("state")
        (watched if row["kind"] == EventKind.ACCESS else rows).append(
            {
                "id": event["seq"],
                "at": view.time(event["recorded_at"], seconds=True),
                "kind": t.get("event_" + event["kind"], event["kind"]),
                "state": "–" if not state else t.get("consent_" + str(state).lower(), str(state)),
                "detail": _detail(view, event.get("data")),
            }
        )
    columns = [
        pieces.Column("at", t["recorded_at"]),
        pieces.Column("kind", t["entry_kind"]),
        pieces.Column("state", t["consent_state"]),
        pieces.Column("detail", t["detail"]),
        pieces.Column("id", t["ledger_entry"], figure=True),
    ]
    _part(view, "history", columns, rows, page=SHOWN)
    del columns[1:3]
    _part(view, "looks", columns, watched, page=SHOWN // 2)


def _detail(view: View, data: dict[str, Any] | None) -> str:
    """What an event did, in a line: whose messages, of what, why, by whom."""
    if not data:
        return "–"
    evidence: dict[str, Any] = data.get("evidence") or {}
    kind = data.get("kind")
    named = [str(data.get("sender") or ""), "" if not kind else view.t.get(f"kind_{kind}", str(kind))]
    named += [str(data.get("ref") or "")]
    named += [", ".join(map(str, data["topics"]))] if data.get("topics") else []
    named += [telling.scope(view, str(data["scope"]))] if data.get("scope") else []
    named += [view.t.get(f"reason_{data['reason']}", str(data["reason"]))] if data.get("reason") else []
    named += [telling.seen(view, data)]
    named += [str(data[name]) for name in ("why", "note") if data.get(name)]
    form = evidence.get("privacy_notice") or evidence.get("form_version")
    named += [f"{view.t['form']} {form}"] if form else []
    by = data.get("person") or data.get("by")
    named += [] if by is None else [telling.who(view, str(by))]
    return " · ".join(filter(None, named))


async def _traffic(view: View, subject: bytes) -> None:
    t = view.t
    said = await Personal(view.desk.pool).replies(subject)
    replies = [
        {"id": n, "at": view.time(one.received_at, seconds=True), "port": one.port,
         "meaning": t.get("meaning_" + one.meaning, one.meaning),
         "scope": "–" if one.scope is None else telling.scope(view, one.scope)}
        for n, one in enumerate(said)
    ]  # fmt: skip
    columns = [
        pieces.Column("at", t["at"]),
        pieces.Column("port", t["port"]),
        pieces.Column("meaning", t["meaning"]),
        pieces.Column("scope", t["withdrew"]),
    ]
    _part(view, "replies", columns, replies)
    pieces.text("h2", t["recipient_messages"])
    found = await searching.found(view.desk.pool, Wanted(subject=subject), SHOWN)
    if found:
        listed(view, found, of_person=True)
    else:
        pieces.empty(t["nothing_messages"])
    if len(found) == SHOWN:
        with pieces.box("p"):
            pieces.link(t["messages_all"], f"/messages?who={subject.hex()}")
    async with view.desk.pool.acquire(timeout=2.0) as connection:
        complained = await cases.page(connection, Filter(subject=subject), cases.MOST_ROWS)
    rows = [
        {"id": one.id, "to": f"/cases/{one.id}", "at": view.time(one.at), "source": t["source_" + one.source],
         "state": t["case_" + one.state.value], "sender": one.sender or "–"}
        for one in complained
    ]  # fmt: skip
    columns = [
        pieces.Column("at", t["complained_at"], to="to"),
        pieces.Column("source", t["source"]),
        pieces.Column("sender", t["sender"]),
        pieces.Column("state", t["state"]),
    ]
    _part(view, "complaints", columns, rows)


# --- acts ------------------------------------------------------------------------------------------------------------


def _acts(view: View, known: Known) -> None:
    with pieces.box("div", "line"):
        pieces.button(view.t["suppress"], lambda: _suppress(view, known), "danger")
        pieces.button(view.t["withdraw"], lambda: _withdraw(view, known), "quiet")


def _scopes(view: View, known: Known) -> dict[str, str]:
    written = [events.scope_of()]
    for sender in known.senders:
        written += [events.scope_of(sender), events.scope_of(sender, Class.MARKETING)]
    return {one: telling.scope(view, one) for one in written}


def _suppress(view: View, known: Known) -> None:
    t = view.t
    with asking.dialog(view, t["suppress"], t["suppress_lead"]) as made:
        scope = asking.choice(_scopes(view, known), t["scope"], events.scope_of())
        why = asking.choice({one.name: t["reason_" + one.name.lower()] for one in BY_HAND}, t["kind"], "MANUAL")
        reason = asking.words(t["reason"], first=True)

        async def act() -> str:
            said = asking.reason_of(reason)
            data = events.suppression(_one_of(scope.value, scope.options), Reason[str(why.value)], note=said)
            await view.record(EventKind.SUPPRESSION, data, known.subject)
            return "suppressed"

        asking.end(view, made, May.PEOPLE, t["suppress"], act, "danger", f"/recipients/{known.subject.hex()}")


def _withdraw(view: View, known: Known) -> None:
    t = view.t
    with asking.dialog(view, t["withdraw"], t["withdraw_lead"]) as made:
        sender = asking.choice({"*": t["scope_every"]} | {one: one for one in known.senders}, t["sender"], "*")
        reason = asking.words(t["reason"], first=True)

        async def act() -> str:
            said = asking.reason_of(reason)
            chosen = _one_of(sender.value, sender.options)
            data = events.withdrawal(None if chosen == "*" else chosen, why=said)
            await view.record(EventKind.WITHDRAWAL, data, known.subject)
            return "withdrawn"

        asking.end(view, made, May.PEOPLE, t["withdraw"], act, to=f"/recipients/{known.subject.hex()}")


def _one_of(value: Any, options: Any) -> str:
    if value not in options:
        raise Declined("scope_wrong")
    return str(value)


PAGE = Page("/recipients/{subject}", "recipient_title", May.PEOPLE, show)
