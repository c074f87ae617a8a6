"""Cleansings of lists, as people ask for them, look at them and decide: typed reads and acts on their rows.

Owns table `cleansings`; the people of each are `cleansing_people`'s. A job goes

    gathering ─▶ dividing ─▶ ready ─▶ applying ─▶ applied ─▶ undoing ─▶ undone
                               └─▶ expired after `READY_DAYS`

Acts here only move a job to the state in which settle's loop finds it, by one statement that checks where it stands: of
two who decide at once, one does. Nothing here names a person but `people`, whose callers record the look.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from asyncpg import Record

from gateway.contract.ids import new_id
from gateway.records.connection import Connection
from gateway.rules.cleansing import Category, Choice, reasons_of

PERIOD_DAYS = 180
"""Whose messages make the list, where nobody says since when."""
READY_DAYS = 7
"""How long a division may be applied: what is known of people grows old."""
UNDO = "interval '24 hours'"
WORKING = frozenset({"gathering", "dividing", "applying", "undoing"})
MOST_LISTED = 200
MOST_PEOPLE = 1_000
EXAMPLES = 5
BY_ITSELF = "assent"
SUPPRESSED, QUEUED, STOOD, LIFTED, KEPT = 1, 2, 3, 4, 5
OUTCOMES = {SUPPRESSED: "suppressed", QUEUED: "queued", STOOD: "stood", LIFTED: "lifted", KEPT: "kept"}
"""What was done about a person. queued: they get no marketing of the sender and wait to be asked; stood: the same was
suppressed before; kept: what stands now is not this job's, so it was not lifted."""
SCOPES = r"^(sender:[a-z0-9][a-z0-9_-]{0,31}|port:[0-9]{3,20}|(campaign|list_source):[\x21-\x7e]{1,161})$"
"""What is a list; a class or everything is none."""

_COLUMNS = f"""
SELECT id, scope, since, until, months, state, asked_by, reason, made_at, gathered_to, people, done, counts, digest,
    ready_at, ready_at + interval '{READY_DAYS} days' AS apply_until, choices, applied_by, apply_reason, applied_at,
    applied_at + {UNDO} AS undo_until, undone_by, undo_reason, undone_at FROM cleansings
"""  # noqa: S608 - a constant
_ASK = """
INSERT INTO cleansings (id, scope, since, until, months, asked_by, reason, gathered_to, opening)
VALUES ($1, $2, $3, $4, $5, $6, $7, $3, $8) ON CONFLICT (opening) DO NOTHING
"""
_LIST = _COLUMNS + "WHERE ($1::uuid IS NULL OR id < $1) AND ($2::text IS NULL OR scope = $2) ORDER BY id DESC LIMIT $3"
_APPLY = f"""
UPDATE cleansings SET state = 'applying', choices = $2, applied_by = $3, apply_reason = $4, place = '', done = 0
WHERE id = $1 AND state = 'ready' AND ready_at > clock_timestamp() - interval '{READY_DAYS} days'
"""  # noqa: S608 - a constant
_UNDO = f"""
UPDATE cleansings SET state = 'undoing', undone_by = $2, undo_reason = $3, place = '', done = 0
WHERE id = $1 AND state = 'applied' AND applied_at > clock_timestamp() - {UNDO}
"""  # noqa: S608 - a constant
_PEOPLE = """
SELECT subject, sender, category, reasons, outcome, entry FROM cleansing_people
WHERE cleansing = $1 AND category = $2 AND (subject, sender) > ($3, $4) ORDER BY subject, sender LIMIT $5
"""
_EXAMPLES = """
SELECT category, subject FROM generate_series(1, 8) AS category, LATERAL (
    SELECT subject FROM cleansing_people p WHERE p.cleansing = $1 AND p.category = category.category
    ORDER BY subject, sender LIMIT $2
) AS person
"""
_OPENED = f"""
SELECT b.scope, first.id FROM breakers b, LATERAL (
    SELECT min(a.id) AS id FROM breaker_acts a WHERE a.scope = b.scope AND a.is_open AND a.id > coalesce(
        (SELECT max(c.id) FROM breaker_acts c WHERE c.scope = b.scope AND (NOT c.is_open OR c.permille IS NOT NULL)), 0)
) AS first
WHERE b.is_open AND b.scope ~ '{SCOPES}' AND first.id IS NOT NULL
    AND NOT EXISTS (SELECT FROM cleansings k WHERE k.opening = first.id)
"""  # noqa: S608 - a constant


class Job(NamedTuple):
    """A cleansing as it stands. `since` and `until` are Unix ms: the list is whose messages were accepted between."""

    id: UUID
    scope: str
    since: int
    until: int
    months: int | None
    """Without a word for so long: never engaged. None: as each sender's pack has it."""
    state: str
    asked_by: str
    reason: str
    made_at: datetime
    gathered_to: int
    people: int
    """How many are on the list, as far as it is gathered."""
    done: int
    """How many the present pass has dealt with."""
    counts: dict[str, dict[str, int]]
    """`categories` (each person once), `reasons` (once for each), `outcomes` of applying and undoing."""
    digest: str | None
    """SHA-256 of who is in which category, hex."""
    ready_at: datetime | None
    apply_until: datetime | None
    choices: dict[str, str] | None
    applied_by: str | None
    apply_reason: str | None
    applied_at: datetime | None
    undo_until: datetime | None
    undone_by: str | None
    undo_reason: str | None
    undone_at: datetime | None

    def progress(self) -> tuple[str, int, int]:
        """The present pass, how much of it is done, and how much there is. Gathering is told in days of messages."""
        by_choice = [
            self.counts.get("categories", {}).get(category, 0)
            for category, choice in (self.choices or {}).items()
            if choice != Choice.LEAVE
        ]
        day = 86_400_000
        match self.state:
            case "gathering":
                return self.state, (self.gathered_to - self.since) // day, -((self.since - self.until) // day)
            case "dividing":
                return self.state, self.done, self.people
            case "applying":
                return self.state, self.done, sum(by_choice)
            case "undoing":
                outcomes = self.counts.get("outcomes", {})
                return self.state, self.done, outcomes.get("suppressed", 0) + outcomes.get("queued", 0)
        return self.state, self.people, self.people


class Person(NamedTuple):
    """One person of a list toward one sender."""

    subject: bytes
    sender: str
    category: Category
    reasons: list[Category]
    outcome: str | None
    """Of `OUTCOMES`; none: nothing was done about them."""
    entry: int | None

    @property
    def after(self) -> str:
        """The place of this row in the listing."""
        return f"{self.subject.hex()}.{self.sender}"


async def ask(
    conn: Connection, scope: str, *, since_ms: int, until_ms: int, months: int | None, by: str, reason: str
) -> Job:
    """A new job; settle begins with it within seconds."""
    _said(by, reason)
    name = UUID(new_id(0))
    await conn.execute(_ASK, name, scope, min(since_ms, until_ms), until_ms, months, by, reason, None)
    made = await get(conn, name)
    if made is None:
        raise LookupError("a cleansing was removed while it was made")
    return made


async def ask_opened(conn: Connection, since_ms: int, until_ms: int) -> list[str]:
    """A job for each open breaker of a list that has none since it opened; the scopes of those made now.

    One that opens again out of a trickle has opened anew.
    """
    made = []
    for row in await conn.fetch(_OPENED):
        values = (UUID(new_id(0)), row["scope"], since_ms, until_ms, None, BY_ITSELF, "the breaker opened", row["id"])
        if (await conn.execute(_ASK, *values)).endswith(" 1"):
            made.append(row["scope"])
    return made


async def get(conn: Connection, name: UUID) -> Job | None:
    """One job."""
    row = await conn.fetchrow(_COLUMNS + "WHERE id = $1", name)
    return None if row is None else _job(row)


async def listed(
    conn: Connection, *, scope: str | None = None, before: UUID | None = None, limit: int = 50
) -> list[Job]:
    """The newest first. `before`: the last id of the page before."""
    return [_job(row) for row in await conn.fetch(_LIST, before, scope, min(limit, MOST_LISTED))]


async def examples(conn: Connection, name: UUID, limit: int = EXAMPLES) -> dict[str, list[str]]:
    """A few subjects of each category."""
    found: dict[str, list[str]] = {}
    for row in await conn.fetch(_EXAMPLES, name, limit):
        found.setdefault(Category(row["category"]).word, []).append(row["subject"].hex())
    return found


def why_not(job: Job, now: datetime) -> str:
    """Why `apply` or `undo` said False, as far as the job shows: `late` or `state`."""
    if job.state == "expired" or (job.state == "ready" and job.apply_until is not None and now >= job.apply_until):
        return "late"
    return "late" if job.state == "applied" and job.undo_until is not None and now >= job.undo_until else "state"


async def people(
    conn: Connection, name: UUID, category: Category, *, after: str | None = None, limit: int = 100
) -> list[Person]:
    """People of one category, by subject. Raises ValueError for an `after` not of ours."""
    subject, _, sender = (after or ".").partition(".")
    rows = await conn.fetch(_PEOPLE, name, category.value, bytes.fromhex(subject), sender, min(limit, MOST_PEOPLE))
    return [
        Person(
            row["subject"],
            row["sender"],
            Category(row["category"]),
            reasons_of(row["reasons"]),
            OUTCOMES.get(row["outcome"]),
            row["entry"],
        )
        for row in rows
    ]


async def apply(conn: Connection, name: UUID, choices: Mapping[Category, Choice], *, by: str, reason: str) -> bool:
    """Let it be done, by `rules.cleansing.chosen`; False where the job is not ready, or has been for too long."""
    _said(by, reason)
    told = orjson.dumps({category.word: choice.value for category, choice in choices.items()}).decode()
    return (await conn.execute(_APPLY, name, told, by, reason)).endswith(" 1")


async def undo(conn: Connection, name: UUID, *, by: str, reason: str) -> bool:
    """Let it be undone; False where the job is not applied, or was a day ago."""
    _said(by, reason)
    return (await conn.execute(_UNDO, name, by, reason)).endswith(" 1")


def _said(by: str, reason: str) -> None:
    if not by.strip() or not reason.strip():
        raise ValueError("a list is cleansed only by somebody and for a reason")


def _job(row: Record) -> Job:
    told: dict[str, Any] = dict(row)
    told["counts"] = orjson.loads(row["counts"])
    told["choices"] = None if row["choices"] is None else orjson.loads(row["choices"])
    told["digest"] = None if row["digest"] is None else row["digest"].hex()
    return Job(**told)
