"""Which message a complaint is about, decided after it was recorded: by a person, or as late rows make it clear.

A complaint may come before its message's row, while settlement lags: then nothing matches. What is unmatched is looked
at again for `AGAIN_MS` (`rematch`), and what is clear by then is decided in the gateway's own name, unless a person was
there first. Everything else, and that it is about none of ours, a person decides.

First the suppression, where the message is of a sender that the complaint has not stopped yet; then the decision, the
act and the signal's move in one transaction. A crash in between leaves the person suppressed, and the decision to be
made again.
"""

from contextlib import suppress

import orjson

from gateway.contract.complaint import Matching
from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Reason
from gateway.intake.complaints import CONNECT_S, EVERYBODY, Means, bound, owner_of, port_of, worded
from gateway.ledger import events
from gateway.ledger.keys import KeyMismatchError
from gateway.records import cases, complaints, contents
from gateway.records.cases import Case, CaseStateError, NoCaseError
from gateway.records.complaints import Asked
from gateway.rules.matching import Candidate, match

AGAIN_MS = 2 * 3_600_000
"""How long what nothing matched is looked at again: a lag of settlement is made up for within minutes."""
MOST_AGAIN = 500
BY_ITSELF = "assent"


async def rematch(means: Means, now_ms: int, after: str | None = None) -> tuple[int, str | None]:
    """Look at some unmatched complaints again, by id; how many found their message, and after which id to go on."""
    async with means.pool.acquire(timeout=CONNECT_S) as connection:
        rows = await cases.unmatched(connection, now_ms - AGAIN_MS, after, MOST_AGAIN)
        asked = [Asked(row.subject, row.port, row.at) for row in rows if row.subject is not None]
        found = await complaints.candidates(connection, asked)
        of = {row.id: some for row, some in zip(rows, found, strict=True) if some}
        texts = await contents.texts(connection, means.open_text, {one.id for some in of.values() for one in some})
        words = {case: await cases.words(connection, case) for case in of}
    decided = 0
    for row in rows:
        said = _said(means, row.id, words.get(row.id))
        if said is None:
            continue
        verdict = match(row.port, row.at, said, worded(of[row.id], texts))
        if verdict.verdict is Matching.MATCHED and verdict.best is not None:
            with suppress(NoCaseError, CaseStateError):  # somebody was there first
                await resolve(means, row.id, verdict.best.id, BY_ITSELF, BY_ITSELF, now_ms, undecided=True)
                decided += 1
    return decided, rows[-1].id if len(rows) == MOST_AGAIN else None


def _said(means: Means, case: str, sealed: bytes | None) -> str | None:
    """A complaint's words; none where they are gone or do not open, which must not keep others waiting."""
    try:
        return None if sealed is None else str(orjson.loads(means.appender.keys.open_case(sealed, bound(case)))["text"])
    except KeyMismatchError:
        return None


async def resolve(
    means: Means, case: str, message: str | None, by: str, client: str, now_ms: int, *, undecided: bool = False
) -> Case:
    """Decide for a message of the person's, or none; who decides is recorded. Raises NoCaseError, CaseStateError.

    `undecided`: only where nobody has decided yet, else CaseStateError.
    """
    async with means.pool.acquire(timeout=CONNECT_S) as connection:
        at = await cases.one(connection, case)
        if at is None:
            raise NoCaseError(case)
        found = None if message is None else await cases.message_of(connection, at, message)
    if found is not None and at.subject is not None and at.scope not in (EVERYBODY, found.sender):
        await means.appender.append([_suppression(at, at.subject, found, client, now_ms)])
    async with means.pool.acquire(timeout=CONNECT_S) as connection:
        owner = owner_of(means.senders, at.port)
        place = None if owner is None or at.port is None else port_of(owner, at.port)
        origin = None if place is None else (await complaints.port_origins(connection, {place}))[place]
        return await cases.resolve(connection, case, found, origin, by, now_ms, undecided=undecided)


def _suppression(at: Case, subject: bytes, found: Candidate, client: str, now_ms: int) -> Event:
    return Event(
        event_id=f"complaint/{at.id}/{subject.hex()}/{found.sender}",
        kind=EventKind.COMPLAINT,
        number=None,
        subject=subject,
        occurred_at_ms=now_ms,
        data=events.suppression(events.scope_of(found.sender), Reason.COMPLAINT, case=at.id) | {"by": client},
    )
