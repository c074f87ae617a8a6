"""The last two passes: what was chosen for each category is done, and undone where somebody thinks better of it.

Each page becomes events of the ledger first, whose ids are made of job, subject and sender, then rows: a crash in
between appends the same events again, which changes nothing, and writes the same rows. A suppression of a cleansing is
recorded only where none of its scope and reason stands, and lifted only while it stands by that very event
(`ledger.state`): what others did is never touched. What one cleansing set and another, still in force, found standing
is handed over to that one when the first is undone. Pages of all jobs go in turn, so that none slips in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Reason
from gateway.ledger.appender import Appender
from gateway.ledger.commit import Appended
from gateway.ledger.events import SYSTEM, suppression
from gateway.records import cleansing_people
from gateway.records.cleansing import KEPT, LIFTED, QUEUED, STOOD, SUPPRESSED
from gateway.records.cleansing_people import Relying, Row, Work
from gateway.rules.cleansing import NEVER_LIFTED, Category, Choice, suppression_of
from gateway.settle.cleansing.dividing import Counts, Means

PAGE = 500
"""The most that the appender takes as one commit."""


async def apply(means: Means, appender: Appender, work: Work) -> Work | None:
    """One page of people more dealt with; none when all are."""
    wanted = [category for category in Category if work.choices.get(category.word, Choice.LEAVE) != Choice.LEAVE]
    async with means.pool.acquire() as conn, conn.transaction():
        await cleansing_people.in_turn(conn)
        rows = await cleansing_people.page(conn, work, work.place, PAGE, categories=wanted)
        if not rows:
            return None
        answers = await appender.append([_suppressed(work, row) for row in rows])
        done = [(row, _outcome(work, row, answer), answer.seq) for row, answer in zip(rows, answers, strict=True)]
        after = work._replace(place=rows[-1].place, done=work.done + len(rows))
        await cleansing_people.acted(conn, work, done)
        waiting = [(row, entry) for row, outcome, entry in done if outcome == QUEUED]
        await cleansing_people.queue(conn, work, waiting)
        await cleansing_people.move(conn, work, means.owner, after)
    return after


async def undo(means: Means, appender: Appender, work: Work) -> Work | None:
    """One page of people more let go; none when all are."""
    liftable = [category for category in Category if category not in NEVER_LIFTED]
    async with means.pool.acquire() as conn, conn.transaction():
        await cleansing_people.in_turn(conn)
        rows = await cleansing_people.page(
            conn, work, work.place, PAGE, categories=liftable, outcomes=(SUPPRESSED, QUEUED)
        )
        if not rows:
            return None
        heirs = _heirs(work, rows, await cleansing_people.relying(conn, work, [row.subject for row in rows]))
        own = [row for row in rows if row.entry is not None and row.place not in heirs]
        answers = await appender.append([_lifted(work, row) for row in own]) if own else []
        kept = {
            row.place for row, answer in zip(own, answers, strict=True) if answer.refusal is not None
        } | heirs.keys()
        after = work._replace(place=rows[-1].place, done=work.done + len(rows))
        done = [(row, KEPT if row.place in kept else LIFTED, None) for row in rows]
        await cleansing_people.acted(conn, work, done)
        await cleansing_people.hand_over(conn, work, list(heirs.values()))
        await cleansing_people.unqueue(conn, work, rows)
        await cleansing_people.move(conn, work, means.owner, after)
    return after


def _heirs(work: Work, rows: Iterable[Row], relying: Iterable[Relying]) -> dict[bytes, tuple[Row, Relying]]:
    """By place: whose suppression another cleansing found standing that is still in force; the oldest has it then."""
    found: dict[bytes, tuple[Row, Relying]] = {}
    for row in rows:
        if row.entry is None:
            continue
        for other in relying:
            same = (other.row.place, _of(other.choices, other.row)) == (row.place, _of(work.choices, row))
            if same and row.place not in found:
                found[row.place] = row, other
    return found


async def record(appender: Appender, work: Work, act: str, counts: Counts, digest: bytes) -> None:
    """What was done to the list as a whole, by whom and why; again under the same id changes nothing."""
    by, why = {
        "divided": (work.asked_by, work.reason),
        "applied": (work.applied_by, work.apply_reason),
        "undone": (work.undone_by, work.undo_reason),
    }[act]
    data: dict[str, object] = {
        "act": act,
        "cleansing": str(work.id),
        "list": work.scope,
        "person": by,
        "why": why,
        "counts": counts,
        "sha256": digest.hex(),
    }
    if act == "applied":
        data["choices"] = dict(work.choices)
    name = f"cleansing/{work.id}/{act}"
    await appender.append([_event(EventKind.LIST, name, SYSTEM, data)])


def _suppressed(work: Work, row: Row) -> Event:
    category = Category(row.category or 0)
    scope, reason = _of(work.choices, row)
    more = {"by": work.applied_by, "cleansing": str(work.id), "category": category.word, "only_new": True}
    data = suppression(scope, reason, **more)
    return _event(EventKind.CLEANSING, f"cleansing/{work.id}/{row.subject.hex()}/{row.sender}", row.subject, data)


def _lifted(work: Work, row: Row) -> Event:
    scope, reason = _of(work.choices, row)
    data = suppression(scope, reason, by=work.undone_by, cleansing=str(work.id), undoes=row.entry)
    name = f"cleansing/{work.id}/{row.subject.hex()}/{row.sender}/undone"
    return _event(EventKind.UNSUPPRESSION, name, row.subject, data)


def _of(choices: Mapping[str, str], row: Row) -> tuple[str, Reason]:
    """The suppression that a row's category gets; who is to be asked again gets no marketing until then."""
    category = Category(row.category or 0)
    asked = choices[category.word] == Choice.REPERMISSION
    return suppression_of(Category.HEALTHY if asked else category, row.sender)


def _outcome(work: Work, row: Row, answer: Appended) -> int:
    if work.choices[Category(row.category or 0).word] == Choice.REPERMISSION:
        return QUEUED
    return STOOD if answer.refusal is not None else SUPPRESSED


def _event(kind: EventKind, name: str, subject: bytes, data: dict[str, object]) -> Event:
    return Event(
        event_id=name,
        kind=kind,
        number=None,
        subject=subject,
        occurred_at_ms=time.time_ns() // 1_000_000,
        data=data,
    )
