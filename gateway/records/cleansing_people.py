"""The work on a cleansing: who takes it, how far it has come, and the rows of its people.

Owns table `cleansing_people`, `repermissions`, and of `cleansings` what says how far a pass has come. A job is *leased*
(`take`, SKIP LOCKED); every step moves the job's place by compare-and-set, under its owner's name, in the transaction
that writes what the step found. So a crash loses at most one step, which is done again, and an owner whose lease was
taken over writes nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from gateway.records.cleansing import QUEUED, SUPPRESSED
from gateway.records.connection import Connection

LEASE = "interval '60 seconds'"
STEP_S = 60.0
"""The longest a statement may take."""
_TAKE = f"""
UPDATE cleansings SET owner = $1, leased_until = clock_timestamp() + {LEASE} WHERE id = (
    SELECT id FROM cleansings
    WHERE state IN ('gathering', 'dividing', 'applying', 'undoing') AND leased_until < clock_timestamp()
    ORDER BY made_at LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, scope, since, until, months, state, asked_by, reason, gathered_to, place, done, counts, choices,
    applied_by, apply_reason, undone_by, undo_reason
"""  # noqa: S608 - a constant
_STEP = f"""
UPDATE cleansings SET leased_until = clock_timestamp() + {LEASE}, gathered_to = $4, place = $5, done = done + $6,
    people = people + $7
WHERE id = $1 AND owner = $2 AND state = $3 AND gathered_to = $8 AND place = $9
"""  # noqa: S608 - a constant
_RENEW = f"UPDATE cleansings SET leased_until = clock_timestamp() + {LEASE} WHERE id = $1 AND owner = $2"  # noqa: S608
_PASSED = """
UPDATE cleansings SET state = $4, counts = $5, digest = coalesce($6, digest), place = '', done = 0,
    leased_until = '-infinity',
    ready_at = CASE WHEN $4 = 'ready' THEN clock_timestamp() ELSE ready_at END,
    applied_at = CASE WHEN $4 = 'applied' THEN clock_timestamp() ELSE applied_at END,
    undone_at = CASE WHEN $4 = 'undone' THEN clock_timestamp() ELSE undone_at END
WHERE id = $1 AND owner = $2 AND state = $3
"""
_PAGE = """
SELECT subject, sender, on_consent, first_at, category, reasons, outcome, entry FROM cleansing_people
WHERE cleansing = $1 AND (subject, sender) > ($2, $3) AND ($4::smallint[] IS NULL OR category = ANY($4))
    AND ($5::smallint[] IS NULL OR outcome = ANY($5))
ORDER BY subject, sender LIMIT $6
"""
_IN_ORDER = """
SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off
"""
"""Nobody has counted a list that was just gathered, and PostgreSQL takes it for a few rows: it would fetch and sort all
the rest of it for every page, which makes a list of a million a thousand times as dear as it is."""
_AS_EVER = """
SET LOCAL enable_bitmapscan TO DEFAULT; SET LOCAL enable_sort TO DEFAULT; SET LOCAL enable_incremental_sort TO DEFAULT
"""
_DIVIDED = """
UPDATE cleansing_people p SET category = u.category, reasons = u.reasons
FROM unnest($2::bytea[], $3::text[], $4::smallint[], $5::smallint[]) AS u(subject, sender, category, reasons)
WHERE p.cleansing = $1 AND p.subject = u.subject AND p.sender = u.sender
"""
_ACTED = """
UPDATE cleansing_people p SET outcome = u.outcome, entry = coalesce(u.entry, p.entry)
FROM unnest($2::bytea[], $3::text[], $4::smallint[], $5::bigint[]) AS u(subject, sender, outcome, entry)
WHERE p.cleansing = $1 AND p.subject = u.subject AND p.sender = u.sender
"""
_QUEUE = """
INSERT INTO repermissions (subject, sender, cleansing, entry, reasons)
SELECT u.subject, u.sender, $1, u.entry, u.reasons
FROM unnest($2::bytea[], $3::text[], $4::bigint[], $5::smallint[]) AS u(subject, sender, entry, reasons)
ON CONFLICT (subject, sender) DO NOTHING
"""
_UNQUEUE = """
DELETE FROM repermissions r USING unnest($2::bytea[], $3::text[]) AS u(subject, sender)
WHERE r.cleansing = $1 AND r.subject = u.subject AND r.sender = u.sender
"""
_LOCK = 0x41535345_0018
_RELYING = """
SELECT k.id, k.choices, p.subject, p.sender, p.on_consent, p.first_at, p.category, p.reasons, p.outcome, p.entry
FROM cleansing_people p JOIN cleansings k ON k.id = p.cleansing
WHERE p.subject = ANY($2::bytea[]) AND p.cleansing <> $1 AND p.entry IS NULL AND p.outcome IS NOT NULL
    AND k.state IN ('applying', 'applied')
ORDER BY k.made_at, k.id
"""
_HAND_OVER = """
WITH given AS (
    SELECT * FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::smallint[], $6::bigint[])
        AS u(heir, subject, sender, outcome, entry)
), rows AS (
    UPDATE cleansing_people p SET outcome = u.outcome, entry = u.entry FROM given u
    WHERE p.cleansing = u.heir AND p.subject = u.subject AND p.sender = u.sender
)
UPDATE repermissions r SET cleansing = u.heir FROM given u
WHERE r.cleansing = $1 AND r.subject = u.subject AND r.sender = u.sender AND u.outcome = $7
"""
_COUNTS = """
SELECT category, reasons, outcome, count(*) AS n FROM cleansing_people WHERE cleansing = $1 GROUP BY 1, 2, 3
"""


class Work(NamedTuple):
    """A job that is ours while its lease lasts."""

    id: UUID
    scope: str
    since: int
    until: int
    months: int | None
    state: str
    asked_by: str
    reason: str
    gathered_to: int
    place: bytes
    done: int
    counts: dict[str, dict[str, int]]
    choices: dict[str, str]
    applied_by: str | None
    apply_reason: str | None
    undone_by: str | None
    undo_reason: str | None


class Row(NamedTuple):
    """A person of the list, as far as the passes have come."""

    subject: bytes
    sender: str
    on_consent: bool
    first_at: int
    category: int | None
    reasons: int
    outcome: int | None
    entry: int | None

    @property
    def place(self) -> bytes:
        """Where a page that ends with this row ends."""
        return self.subject + self.sender.encode()


class Relying(NamedTuple):
    """A person of another cleansing that is in force and found what it wanted standing already."""

    cleansing: UUID
    choices: dict[str, str]
    row: Row


class LeaseLost(Exception):  # noqa: N818 - it says what happened
    """Somebody else has the job by now: nothing was written."""


async def take(conn: Connection, owner: UUID) -> Work | None:
    """Lease the oldest job that is to be worked on and that nobody has."""
    row = await conn.fetchrow(_TAKE, owner)
    if row is None:
        return None
    told: dict[str, Any] = dict(row)
    told["counts"], told["choices"] = orjson.loads(row["counts"]), orjson.loads(row["choices"] or "{}")
    return Work(**told)


async def give_back(conn: Connection, owner: UUID) -> None:
    """Let others have what we had, at once."""
    await conn.execute("UPDATE cleansings SET leased_until = '-infinity' WHERE owner = $1", owner)


async def renew(conn: Connection, work: Work, owner: UUID) -> None:
    """Keep the job. Raises LeaseLost."""
    if not (await conn.execute(_RENEW, work.id, owner)).endswith(" 1"):
        raise LeaseLost


async def move(conn: Connection, work: Work, owner: UUID, after: Work, *, people: int = 0) -> None:
    """Move the job from where it stands to `after`, in the transaction of what was done. Raises LeaseLost."""
    moved = await conn.execute(
        _STEP,
        work.id,
        owner,
        work.state,
        after.gathered_to,
        after.place,
        after.done - work.done,
        people,
        work.gathered_to,
        work.place,
    )
    if not moved.endswith(" 1"):
        raise LeaseLost


async def passed(
    conn: Connection, work: Work, owner: UUID, state: str, counts: dict[str, dict[str, int]], digest: bytes | None
) -> None:
    """The pass is over: the job is in its next state. Raises LeaseLost."""
    told = orjson.dumps(counts).decode()
    if not (await conn.execute(_PASSED, work.id, owner, work.state, state, told, digest)).endswith(" 1"):
        raise LeaseLost


# --- people ----------------------------------------------------------------------------------------------------------


async def page(
    conn: Connection,
    work: Work,
    place: bytes,
    limit: int,
    *,
    categories: Iterable[int] | None = None,
    outcomes: Iterable[int] | None = None,
) -> list[Row]:
    """The next people after a place, by subject and sender; only of these categories, or with these outcomes."""
    subject, sender = place[:16], place[16:].decode()
    of = None if categories is None else list(categories)
    having = None if outcomes is None else list(outcomes)
    async with conn.transaction():
        await conn.execute(_IN_ORDER)
        rows = await conn.fetch(_PAGE, work.id, subject, sender, of, having, limit, timeout=STEP_S)
        await conn.execute(_AS_EVER)
    return [Row(*row) for row in rows]


async def divided(conn: Connection, work: Work, found: Sequence[tuple[Row, int, int]]) -> None:
    """Keep category and reasons of these people."""
    columns = [[one.subject for one, _, _ in found], [one.sender for one, _, _ in found]]
    numbers = [one[1] for one in found], [one[2] for one in found]
    await conn.execute(_DIVIDED, work.id, *columns, *numbers, timeout=STEP_S)


async def acted(conn: Connection, work: Work, done: Sequence[tuple[Row, int, int | None]]) -> None:
    """Keep what was done about these people (`cleansing.OUTCOMES`), and the entry it has in the ledger."""
    columns = [[one.subject for one, _, _ in done], [one.sender for one, _, _ in done]]
    numbers = [one[1] for one in done], [one[2] for one in done]
    await conn.execute(_ACTED, work.id, *columns, *numbers, timeout=STEP_S)


async def queue(conn: Connection, work: Work, waiting: Sequence[tuple[Row, int | None]]) -> None:
    """These people wait to be asked again; who waits already goes on waiting as they do."""
    if waiting:
        columns = [[one.subject for one, _ in waiting], [one.sender for one, _ in waiting]]
        await conn.execute(
            _QUEUE, work.id, *columns, [entry for _, entry in waiting], [one.reasons for one, _ in waiting]
        )


async def unqueue(conn: Connection, work: Work, found: Sequence[Row]) -> None:
    """These people wait no longer because of this job."""
    await conn.execute(_UNQUEUE, work.id, [one.subject for one in found], [one.sender for one in found])


async def in_turn(conn: Connection) -> None:
    """Nobody else suppresses or lifts a page of people until this transaction ends."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=STEP_S)


async def relying(conn: Connection, work: Work, subjects: Sequence[bytes]) -> list[Relying]:
    """Who of these people is on other lists that relied on what stood already, the oldest list first."""
    rows = await conn.fetch(_RELYING, work.id, list(subjects), timeout=STEP_S)
    return [Relying(row["id"], orjson.loads(row["choices"] or "{}"), Row(*tuple(row)[2:])) for row in rows]


async def hand_over(conn: Connection, work: Work, heirs: Sequence[tuple[Row, Relying]]) -> None:
    """What stands by this job's events stands by those of the others from now on: undoing them lifts it."""
    if heirs:
        given = [
            (other.cleansing, *row[:2], QUEUED if other.row.outcome == QUEUED else SUPPRESSED, row.entry)
            for row, other in heirs
        ]
        await conn.execute(_HAND_OVER, work.id, *map(list, zip(*given, strict=True)), QUEUED)


async def counts(conn: Connection, work: Work) -> list[tuple[int | None, int, int | None, int]]:
    """How many people have this category, these reasons and this outcome."""
    return [tuple(row) for row in await conn.fetch(_COUNTS, work.id, timeout=STEP_S)]


# --- erasure and retention -------------------------------------------------------------------------------------------


async def forget(conn: Connection, subject: bytes) -> None:
    """Take a person off every list and from among those who wait; their suppressions are the ledger's and stand."""
    await conn.execute("DELETE FROM cleansing_people WHERE subject = $1", subject)
    await conn.execute("DELETE FROM repermissions WHERE subject = $1", subject)


async def tend(conn: Connection, *, ready_days: int, kept_days: int, limit: int = 10_000) -> int:
    """Expire what waited too long for a decision, and forget its people and those of old jobs; how many went.

    At most `limit` rows at once.
    """
    await conn.execute(
        "UPDATE cleansings SET state = 'expired' "
        "WHERE state = 'ready' AND ready_at < clock_timestamp() - make_interval(days => $1)",
        ready_days,
    )
    tag = await conn.execute(
        "DELETE FROM cleansing_people WHERE ctid = ANY(ARRAY(SELECT p.ctid FROM cleansing_people p JOIN cleansings k "
        "ON k.id = p.cleansing WHERE k.state = 'expired' OR (k.state IN ('applied', 'undone') "
        "AND k.made_at < clock_timestamp() - make_interval(days => $1)) LIMIT $2))",
        kept_days,
        limit,
        timeout=STEP_S,
    )
    return int(tag.rsplit(" ", 1)[1])
