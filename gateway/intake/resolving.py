"""A person decides which message a complaint is about, or that it is about none of ours.

First the suppression, where the message is of a sender that the complaint has not stopped yet; then the decision, the
act and the signal's move in one transaction. A crash in between leaves the person suppressed, and the decision to be
made again.
"""

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Reason
from gateway.intake.complaints import CONNECT_S, EVERYBODY, Means, owner_of, port_of
from gateway.ledger import events
from gateway.records import cases, complaints
from gateway.records.cases import Case, NoCaseError
from gateway.rules.matching import Candidate


async def resolve(means: Means, case: str, message: str | None, by: str, client: str, now_ms: int) -> Case:
    """Decide for a message of the person's, or none; who decides is recorded. Raises NoCaseError, CaseStateError."""
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
        return await cases.resolve(connection, case, found, origin, by, now_ms)


def _suppression(at: Case, subject: bytes, found: Candidate, client: str, now_ms: int) -> Event:
    return Event(
        event_id=f"complaint/{at.id}/{subject.hex()}/{found.sender}",
        kind=EventKind.COMPLAINT,
        number=None,
        subject=subject,
        occurred_at_ms=now_ms,
        data=events.suppression(events.scope_of(found.sender), Reason.COMPLAINT, case=at.id) | {"by": client},
    )
