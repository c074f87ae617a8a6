"""Consent forms and waiting opt-ins in PostgreSQL.

Owns tables `consent_forms` (every version for good: consents name it) and `opt_ins`. A waiting opt-in holds a person's
number before they have shown that it is theirs, so it is sealed by its caller, loses its sealed body when it is done,
and is deleted when it expires, is cancelled, or its person is erased. A crash between two calls leaves a row that
nothing confirms, and it expires.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from gateway.contract.form import Form, FormDraft
from gateway.records.connection import Connection

MOST_ATTEMPTS = 5
_LATEST = "SELECT version, body, created_at FROM consent_forms WHERE id = $1 ORDER BY version DESC LIMIT 1"
_ONE = "SELECT version, body, created_at FROM consent_forms WHERE id = $1 AND version = $2"
_ADD = """
INSERT INTO consent_forms (id, version, sender, body, sha256) VALUES ($1, $2, $3, $4, $5) RETURNING created_at
"""
_BEGIN = """
INSERT INTO opt_ins (id, subject, sender, form, version, sealed, code, created_at, code_until, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_KEEP_TEXT = "INSERT INTO shown_texts (sha256, text) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_COLUMNS = "id, subject, sender, form, version, sealed, code, message_id, created_at, done"
_ATTEMPT = f"""
UPDATE opt_ins SET attempts = attempts + 1
WHERE id = $1 AND form = $2 AND attempts < {MOST_ATTEMPTS} AND code_until > $3 AND message_id IS NOT NULL
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants of this file
_AWAITING = f"""
SELECT {_COLUMNS} FROM opt_ins
WHERE subject = $1 AND sender = $2 AND NOT done AND message_id IS NOT NULL AND created_at <= $3 AND expires_at > $3
ORDER BY created_at DESC LIMIT 1
"""  # noqa: S608 - as above


class FormTakenError(Exception):
    """The form's name belongs to another sender's form."""


class OptIn(NamedTuple):
    """A waiting opt-in. Times are Unix ms; `sealed` is none once it is done."""

    id: str
    subject: bytes
    sender: str
    form: str
    version: int
    sealed: bytes | None
    code: bytes
    message_id: str | None
    created_at: int
    done: bool


async def form(conn: Connection, name: str, version: int | None = None) -> Form | None:
    """A version of a form, or its latest; none where there is no such form."""
    row = await (conn.fetchrow(_LATEST, name) if version is None else conn.fetchrow(_ONE, name, version))
    return None if row is None else _form(row["body"], row["version"], row["created_at"])


async def add(conn: Connection, draft: FormDraft) -> Form:
    """Store the form's next version; the latest one where it says the same. Raises FormTakenError.

    Adders of one form take turns behind an advisory lock.
    """
    body = orjson.dumps(draft.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(body).digest()
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('form ' || $1, 0))", draft.id)
        latest = await form(conn, draft.id)
        if latest is not None and latest.sender != draft.sender:
            raise FormTakenError
        if latest is not None and latest.model_dump(exclude={"version", "created_at"}) == draft.model_dump():
            return latest
        version = 1 if latest is None else latest.version + 1
        created_at = await conn.fetchval(_ADD, draft.id, version, draft.sender, body.decode(), digest)
    return _form(body.decode(), version, created_at)


def _form(body: str, version: int, created_at: Any) -> Form:
    return Form.model_validate({**orjson.loads(body), "version": version, "created_at": created_at})


# --- opt-ins ---------------------------------------------------------------------------------------------------------


async def begin(conn: Connection, one: OptIn, *, code_until: int, expires_at: int) -> None:
    """Keep a first record. Nothing confirms it until its message is accepted (`sent`)."""
    values = (one.id, one.subject, one.sender, one.form, one.version, one.sealed, one.code)
    await conn.execute(_BEGIN, *values, one.created_at, code_until, expires_at)


async def keep_text(conn: Connection, text: bytes) -> None:
    """Keep a text that is shown, for as long as a consent may name its digest."""
    await conn.execute(_KEEP_TEXT, hashlib.sha256(text).digest(), text)


async def text_of(conn: Connection, sha256: bytes) -> bytes | None:
    """The text of this digest; none where nobody was shown it."""
    held: bytes | None = await conn.fetchval("SELECT text FROM shown_texts WHERE sha256 = $1", sha256)
    return held


async def sent(conn: Connection, opt_in: str, message_id: str) -> None:
    """Its confirmation message was accepted."""
    await conn.execute("UPDATE opt_ins SET message_id = $2 WHERE id = $1", opt_in, message_id)


async def attempt(conn: Connection, opt_in: str, form_id: str, now: int) -> OptIn | None:
    """Count one attempt at its code; none where there is no such opt-in, its code is over, or attempts are used up."""
    row = await conn.fetchrow(_ATTEMPT, opt_in, form_id, now)
    return None if row is None else _opt_in(row)


async def awaiting(conn: Connection, subject: bytes, sender: str, at: int) -> OptIn | None:
    """The person's newest opt-in with a sender that waited for its confirmation at that time."""
    row = await conn.fetchrow(_AWAITING, subject, sender, at)
    return None if row is None else _opt_in(row)


async def finish(conn: Connection, opt_ins: Sequence[str]) -> None:
    """They are grants now: nothing personal stays; the row does, so that the same code answers the same."""
    await conn.execute("UPDATE opt_ins SET done = true, sealed = NULL WHERE id = ANY($1::uuid[])", list(opt_ins))


async def drop(conn: Connection, opt_in: str) -> None:
    """Its message was not accepted."""
    await conn.execute("DELETE FROM opt_ins WHERE id = $1", opt_in)


async def cancel(conn: Connection, refused: Sequence[tuple[bytes, str | None, int]]) -> None:
    """People (subject) refused a sender (none: everybody) at a time (Unix ms): what waited then is over."""
    await conn.execute(
        "DELETE FROM opt_ins o USING unnest($1::bytea[], $2::text[], $3::bigint[]) AS u(subject, sender, at) "
        "WHERE o.subject = u.subject AND (u.sender IS NULL OR o.sender = u.sender) AND o.created_at <= u.at "
        "AND NOT o.done",
        *map(list, zip(*refused, strict=True)),
    )


async def purge(conn: Connection, now: int) -> int:
    """Delete what expired; how many there were."""
    done: str = await conn.execute("DELETE FROM opt_ins WHERE expires_at <= $1", now)
    return int(done.rpartition(" ")[2])


def _opt_in(row: Any) -> OptIn:
    message = row["message_id"]
    return OptIn(**{**dict(row), "id": row["id"].hex, "message_id": None if message is None else str(message)})
