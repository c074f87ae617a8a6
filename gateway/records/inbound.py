"""The SQL of inbound messages: what replies meant, what they answered, and what is to be answered to them.

Owns tables `replies` and `answers_due`. Whoever settles a batch of replies writes with the transaction that moves its
offsets (`settlement.move_offsets`), so a reply is noted, and owed an answer, exactly once. The text of a reply is
personal and is never here; an answer's number and text are sealed by its caller.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from asyncpg import Record

from gateway.contract.decision import Status
from gateway.records.connection import Connection
from gateway.records.partitions import lowest_id
from gateway.records.timeline import STATUS_NUMBERS

SAME_CONTENT_MS = 10_000
"""Within this time the same text to the same port, without a carrier's id, is the same reply."""
MOST_SENT = 5
RECENT_MS = 31 * 86_400_000
"""How far back a message may lie that a reply answers; as long as a question may be answered in any pack."""
_NOT_SENT = [STATUS_NUMBERS[one] for one in (Status.HELD, Status.CANCELLED, Status.REJECTED, Status.EXPIRED)]
_KNOWN = """
SELECT r.carrier, r.reply_id, r.subject, r.meaning FROM replies r
JOIN unnest($1::text[], $2::text[], $3::bytea[]) AS u(carrier, reply_id, subject)
  ON r.carrier = u.carrier AND r.reply_id = u.reply_id AND r.subject = u.subject
"""
_SAID = """
SELECT EXISTS (
    SELECT FROM replies WHERE subject = $1 AND port = $2 AND carrier = $3 AND reply_id LIKE 'content:%'
        AND starts_with(reply_id, $4) AND at BETWEEN $5 AND $6
)
"""
_SENT = """
SELECT k.n, m.id::text AS id, m.accepted_at, m.client_ref, o.client, o.sender, o.purpose, m.origin
FROM unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS k(subject, port, n)
CROSS JOIN LATERAL (
    SELECT m.id, m.accepted_at, m.client_ref, m.origin FROM messages m JOIN message_origins o ON o.id = m.origin
    WHERE m.subject = k.subject AND m.id >= $3::uuid AND o.port = k.port AND m.status <> ALL($4::smallint[])
    ORDER BY m.id DESC LIMIT $5
) m
JOIN message_origins o ON o.id = m.origin
ORDER BY k.n, m.id DESC
"""
_ANSWERED = """
SELECT EXISTS (
    SELECT FROM replies WHERE subject = $1 AND received_at > $4::bigint
        AND ((starts_with(port, $2) AND meaning = 'affirmation') OR scope = ANY($3::text[]))
)
"""
_CONFIRMED = """
SELECT (
    SELECT max(r.received_at) FROM replies r
    WHERE r.subject = k.subject AND r.received_at > k.after AND r.scope = k.scope AND r.meaning IN ('refusal', 'keep')
) AS at
FROM unnest($1::bytea[], $2::text[], $3::bigint[]) WITH ORDINALITY AS k(subject, scope, after, n) ORDER BY k.n
"""
_KEEP = """
INSERT INTO replies AS r (carrier, reply_id, subject, port, meaning, scope, at, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (carrier, reply_id, subject) DO UPDATE
SET port = excluded.port, meaning = excluded.meaning, scope = excluded.scope, at = excluded.at,
    received_at = excluded.received_at
WHERE excluded.meaning IN ('refusal', 'keep') AND r.meaning NOT IN ('refusal', 'keep')
"""


class Sent(NamedTuple):
    """A message to the person from the port they wrote to."""

    id: str
    accepted_at: int
    """Unix ms."""
    client_ref: str | None
    client: str
    sender: str
    purpose: str
    origin: int | None = None
    """Its row of `message_origins`."""


class Due(NamedTuple):
    """An answer that is to be sent. `at`: since when, Unix ms."""

    id: str
    subject: bytes
    sender: str
    purpose: str
    sealed: bytes
    at: int


Key = tuple[str, str, bytes]
"""A reply by its carrier, that carrier's id, and the person."""


async def known(conn: Connection, keys: Collection[Key]) -> dict[Key, str]:
    """Which of these replies are noted already, and what they meant."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    found = await conn.fetch(_KNOWN, *columns) if keys else []
    return {(row["carrier"], row["reply_id"], row["subject"]): row["meaning"] for row in found}


async def said(conn: Connection, key: Key, port: str, at: int) -> bool:
    """Whether a reply without a carrier's id is noted already: the same content within `SAME_CONTENT_MS` of `at`."""
    carrier, reply_id, subject = key
    content = reply_id.rpartition(":")[0] + ":"
    first, last = at - SAME_CONTENT_MS, at + SAME_CONTENT_MS
    found: bool = await conn.fetchval(_SAID, subject, port, carrier, content, first, last)
    return found


async def sent(conn: Connection, asked: Sequence[tuple[bytes, str]], now_ms: int) -> list[list[Sent]]:
    """For each (subject, port) the latest messages that may have reached the person, newest first."""
    if not asked:
        return []
    subjects, ports = [one[0] for one in asked], [one[1] for one in asked]
    since = lowest_id(max(now_ms - RECENT_MS, 0))
    out: list[list[Sent]] = [[] for _ in asked]
    for row in await conn.fetch(_SENT, subjects, ports, since, _NOT_SENT, MOST_SENT):
        out[row["n"] - 1].append(Sent(*tuple(row)[1:]))
    return out


async def answered(conn: Connection, subject: bytes, port: str, scopes: Sequence[str], after_ms: int) -> bool:
    """Whether the person has said yes to the port, or ended one of these scopes by a reply, since a time."""
    found: bool = await conn.fetchval(_ANSWERED, subject, port, list(scopes), after_ms)
    return found


async def confirmed(conn: Connection, asked: Sequence[tuple[bytes, str, int]]) -> list[int | None]:
    """Of each (subject, scope, Unix ms) when the person last ended the scope by a reply since then, if they have.

    That was confirmed.
    """
    if not asked:
        return []
    return [row["at"] for row in await conn.fetch(_CONFIRMED, *map(list, zip(*asked, strict=True)))]


async def keep(conn: Connection, replies: Sequence[tuple[Any, ...]]) -> None:
    """Store (carrier, reply id, subject, port, meaning, scope, at, received at).

    One known already stays, unless this one ends something: a carrier gave its id to another reply.
    """
    await conn.executemany(_KEEP, replies)


async def owe(conn: Connection, answers: Sequence[Due]) -> None:
    """Answers to be sent; one that is owed already stays."""
    await conn.executemany(
        "INSERT INTO answers_due (id, subject, sender, purpose, sealed, at) VALUES ($1, $2, $3, $4, $5, $6) "
        "ON CONFLICT DO NOTHING",
        answers,
    )


async def due(conn: Connection, limit: int, after: tuple[int, str] = (0, "")) -> list[Due]:
    """The answers that wait longest, after the one of this time and id."""
    found: list[Record] = await conn.fetch(
        "SELECT id, subject, sender, purpose, sealed, at FROM answers_due WHERE (at, id) > ($1, $2) "
        "ORDER BY at, id LIMIT $3",
        *after,
        limit,
    )
    return [Due(*row) for row in found]


async def done(conn: Connection, ids: Sequence[str]) -> None:
    """They are sent, or never will be."""
    await conn.execute("DELETE FROM answers_due WHERE id = ANY($1::text[])", list(ids))
