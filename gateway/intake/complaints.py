"""Taking complaints: each is matched to its message, suppresses its reporter, and becomes one case that counts once.

Owns the order of the writes. First the suppression, an event of the ledger whose id is made of what makes the complaint
the same one, in force when `append` returns; then complaint, case and signal in one transaction. So a complaint that is
recorded has its suppression, always. A crash in between leaves the suppression alone; whoever brought the complaint got
no answer, brings it again, and the same event and the same case come of it. What is recorded already is answered from
the record: nothing is appended, nothing counts again.

The same complaint is: the same reference of the same source; without one, the same words of the same person about the
same port on the same day of the pack's zone, whoever brings them. Those words of another source are the same complaint
too, whatever references they have (`records.complaints.same`): one case, told twice.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson

from gateway import telemetry
from gateway.contract.codes import Code
from gateway.contract.complaint import CaseState, Matching, Told
from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Class, Reason, Refusal
from gateway.contract.registry import Sender
from gateway.ledger import events
from gateway.ledger.appender import Appender
from gateway.ledger.commit import Appended
from gateway.ledger.keys import Keys
from gateway.records import complaints, contents
from gateway.records.complaints import Asked, Known, Row, Telling
from gateway.records.connection import Pool
from gateway.rules.matching import Candidate, Match, folded, match

CONNECT_S = 1.0
HOUR_MS = 3_600_000
EVERYBODY = "*"
OTHERS = Refusal(Code.IDEMPOTENCY_CONFLICT, "this reference of the source belongs to another person's complaint")

OpenText = Callable[[bytes, bytes], "tuple[str, str] | None"]


class Taken(NamedTuple):
    """A complaint as it stands now; `duplicate`: it was recorded before, and nothing changed."""

    id: str
    duplicate: bool
    match: Matching
    message: str | None
    subject: bytes
    scope: str
    entry: int | None
    state: str
    due_at: int


class Means(NamedTuple):
    """What complaints are taken with. `zone`: where a day of complaints begins and ends."""

    pool: Pool
    appender: Appender
    senders: Sequence[Sender]
    open_text: OpenText
    zone: ZoneInfo
    answer_h: int = 24


class _Standing(NamedTuple):
    """A suppression: its scope, and its entry in the ledger."""

    scope: str
    entry: int | None


class _Found(NamedTuple):
    """A complaint that is not recorded yet, with what was found out about it."""

    told: Told
    subject: bytes
    match: Match
    owner: Sender | None
    named: str | None
    """The port it is about, or the likeliest message's where none is told and only one sender's could be it."""

    @property
    def sender(self) -> str | None:
        """Whose message it was: the match's, where all that could be it are of one, else the port's."""
        senders = {one.sender for one in self.match.plausible}
        if len(senders) == 1:
            return senders.pop()
        return None if self.owner is None else self.owner.id

    @property
    def origin(self) -> int | None:
        """Where it counts; of several messages only where all of them count in one place."""
        origins = {one.origin for one in self.match.plausible}
        return origins.pop() if len(origins) == 1 else None

    @property
    def port(self) -> tuple[str, str, str] | None:
        """Under which port it counts otherwise: (sender, class, port)."""
        if self.origin is not None or self.owner is None or self.named is None:
            return None
        return port_of(self.owner, self.named)


async def take(means: Means, told: Sequence[Told], by: str, now_ms: int) -> list[Taken | Refusal]:
    """Take complaints in; the answers are in their order. Raises what the ledger and the database raise when away."""
    keys = means.appender.keys
    subjects = [keys.subject(one.number) for one in told]
    tellings = [_telling(keys, one, subject, means.zone) for one, subject in zip(told, subjects, strict=True)]
    named = [one.id for one in tellings]
    first = {name: place for place, name in reversed(list(enumerate(named)))}
    async with means.pool.acquire(timeout=CONNECT_S) as connection:
        known = await complaints.known(connection, first.keys())
        again = await complaints.same(connection, [tellings[at] for name, at in first.items() if name not in known])
        if again:
            sealed = [_referred(keys, tellings[first[name]], told[first[name]], case) for name, case in again.items()]
            await complaints.tell(connection, list(zip(sealed, again.values(), strict=True)), by, now_ms)
            known |= await complaints.known(connection, again.keys())
    fresh = sorted((name for name in first if name not in known), key=first.__getitem__)
    found = await _look(means, [(told[first[name]], subjects[first[name]]) for name in fresh])
    refused: dict[str, Refusal] = {}
    recorded: dict[str, Known] = {}
    if fresh:
        said = {name: tellings[first[name]].said for name in fresh}
        refused, recorded = await _write(means, dict(zip(fresh, found, strict=True)), said, by, now_ms)
        known |= recorded
        if others := set(fresh) - refused.keys() - recorded.keys():  # somebody else was quicker
            async with means.pool.acquire(timeout=CONNECT_S) as connection:
                known |= await complaints.known(connection, others)
    return [
        _answer(refused.get(name) or known[name], subject, new=name in recorded and first[name] == place)
        for place, (name, subject) in enumerate(zip(named, subjects, strict=True))
    ]


def _telling(keys: Keys, told: Told, subject: bytes, zone: ZoneInfo) -> Telling:
    """What makes a complaint the same one: its id is made of its source's reference, else of what was said."""
    day = datetime.fromtimestamp(told.at_ms / 1000, UTC).astimezone(zone).date().isoformat()
    said = keys.case_name("said", subject.hex(), told.port or "", folded(told.text), day)
    if told.ref is None:
        return Telling(complaints.name_of(said), said, told.source, told.at_ms)
    name = complaints.name_of(keys.case_name("ref", told.source, told.ref))
    return Telling(name, said, told.source, told.at_ms)


def _referred(keys: Keys, telling: Telling, told: Told, case: str) -> Telling:
    """With the source's reference, for whoever answers it."""
    return telling if told.ref is None else telling._replace(sealed=keys.seal_case(told.ref.encode(), bound(case)))


def bound(case: str) -> bytes:
    """What the words of a case are bound to."""
    return UUID(case).bytes


def port_of(owner: Sender, port: str) -> tuple[str, str, str]:
    """(sender, class, port) of a sender's port that a number names."""
    own = owner.port_named(port) or port
    cls = Class.MARKETING if own == owner.marketing_port else Class.TRANSACTIONAL
    return owner.id, cls.value, own


def owner_of(senders: Sequence[Sender], port: str | None) -> Sender | None:
    """Whose port it is; the most particular one where a carrier appended digits."""
    named = [one for one in senders if port is not None and one.port_named(port) is not None]
    return max(named, key=lambda one: len(one.port_named(port or "") or ""), default=None)


async def _look(means: Means, asked: Sequence[tuple[Told, bytes]]) -> list[_Found]:
    """What could have caused each."""
    if not asked:
        return []
    async with means.pool.acquire(timeout=CONNECT_S) as connection:
        rows = await complaints.candidates(connection, [Asked(who, one.port, one.at_ms) for one, who in asked])
        ids = {one.id for found in rows for one in found}
        texts = await contents.texts(connection, means.open_text, ids)
    found = []
    for (one, who), row in zip(asked, rows, strict=True):
        matched = match(one.port, one.at_ms, one.text, worded(row, texts))
        named = one.port or _port_of_one(matched)
        found.append(_Found(one, who, matched, owner_of(means.senders, named), named))
        await asyncio.sleep(0)  # comparing long texts takes milliseconds, and messages wait in the same loop
    return found


def _port_of_one(found: Match) -> str | None:
    """The likeliest message's port where only one sender's could be it: no sender's rate is better for doubt."""
    return found.best.port if found.best is not None and len({one.sender for one in found.plausible}) == 1 else None


def worded(found: Sequence[Candidate], texts: Mapping[str, str]) -> list[Candidate]:
    """Candidates with what they said, where that is kept."""
    return [one._replace(text=texts.get(one.id)) for one in found]


async def _write(
    means: Means, found: Mapping[str, _Found], said: Mapping[str, bytes], by: str, now_ms: int
) -> tuple[dict[str, Refusal], dict[str, Known]]:
    """Suppress, then record; what was refused, and what is new."""
    standing, refused = await _suppress(means, found, by)
    async with means.pool.acquire(timeout=CONNECT_S) as connection:
        origins = await complaints.port_origins(connection, {one.port for one in found.values() if one.port})
        places = {name: one.origin or (origins[one.port] if one.port else None) for name, one in found.items()}
        keys = means.appender.keys
        rows = [_row(keys, name, found[name], where, places[name], said[name]) for name, where in standing.items()]
        recorded = await complaints.record(connection, rows, by, now_ms, now_ms + means.answer_h * HOUR_MS)
    for one in recorded.values():
        telemetry.COMPLAINTS.add(1, one.source, one.match.value)
    return refused, recorded


async def _suppress(
    means: Means, found: Mapping[str, _Found], by: str
) -> tuple[dict[str, _Standing], dict[str, Refusal]]:
    """The suppressions that stand by now, and what was refused."""
    acts = {
        name: suppression(name, one.subject, one.told.number, one.sender, by, one.told.at_ms)
        for name, one in found.items()
    }
    standing, refused = await _appended(means, acts, found)
    # A first try may have died after it stopped another sender: what is known by now stops this one beside it.
    moved = {
        name: acts[name].model_copy(update={"event_id": f"{acts[name].event_id}/{found[name].sender or EVERYBODY}"})
        for name, why in refused.items()
        if why.code is Code.IDEMPOTENCY_CONFLICT
    }
    if moved:
        beside, still = await _appended(means, moved, found)
        standing, refused = standing | beside, {name: why for name, why in refused.items() if name not in moved} | still
    return standing, refused


async def _appended(
    means: Means, acts: Mapping[str, Event], found: Mapping[str, _Found]
) -> tuple[dict[str, _Standing], dict[str, Refusal]]:
    standing: dict[str, _Standing] = {}
    refused: dict[str, Refusal] = {}
    for name, answer in zip(acts, await means.appender.append(list(acts.values())), strict=True):
        stands = _standing(answer, events.scope_of(found[name].sender))
        if isinstance(stands, Refusal):
            refused[name] = stands
        else:
            standing[name] = stands
    return standing, refused


def _standing(appended: Appended, scope: str) -> "_Standing | Refusal":
    """The suppression that stands. A first try may have made it in another scope, its port not being known yet."""
    if appended.refusal is None:
        return _Standing(scope, appended.seq)
    for other in (scope, EVERYBODY):
        for one in appended.state.suppressions.get(other, ()):
            if one.reason == Reason.COMPLAINT:
                return _Standing(other, one.entry)
    return appended.refusal


def suppression(case: str, subject: bytes, number: str | None, sender: str | None, by: str, at_ms: int) -> Event:
    """The event by which a complaint stops its reporter's messages: of the sender where it is known, else of all."""
    name = f"complaint/{case}/{subject.hex()}"
    scope = events.scope_of(sender)
    data = events.suppression(scope, Reason.COMPLAINT, case=case) | {"by": by}
    return Event(
        event_id=name, kind=EventKind.COMPLAINT, number=number, subject=subject, occurred_at_ms=at_ms, data=data
    )


def _row(keys: Keys, name: str, found: _Found, standing: _Standing, origin: int | None, said: bytes) -> Row:
    told, best = found.told, found.match.best
    matched = found.match.verdict is Matching.MATCHED
    plain = orjson.dumps({"text": told.text, "ref": told.ref})
    return Row(
        id=name,
        source=told.source,
        subject=found.subject,
        port=told.port,
        sender=found.sender,
        at=told.at_ms,
        sealed=keys.seal_case(plain, bound(name)),
        match=found.match.verdict,
        message=best.id if matched and best is not None else None,
        origin=origin,
        minute=(told.at_ms if best is None else best.sent_ms) // 60_000,
        candidates=tuple(one.id for one in found.match.plausible),
        scope=standing.scope,
        entry=standing.entry,
        permission=best.permission if matched and best is not None else None,
        said=said,
        carrier=None if best is None else best.carrier,
    )


def _answer(found: Known | Refusal, subject: bytes, *, new: bool) -> Taken | Refusal:
    if isinstance(found, Refusal):
        return found
    if found.subject not in (None, subject):
        return OTHERS
    case = CaseState(found.state).value
    return Taken(found.id, not new, found.match, found.message, subject, found.scope, found.entry, case, found.due_at)
