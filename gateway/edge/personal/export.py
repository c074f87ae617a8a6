"""Everything held about a person toward a client's senders, gathered for the person: standing, events, messages.

Reads only; the caller records the look first. What is restricted is stored and used for nothing, so the file of such a
person says that, until when and under which law, and holds no event's content, no message, reply or complaint. What
belongs to another client's sender is left out, and the number is masked.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from pydantic import BaseModel

from gateway.contract.record import SCHEMA, receipt
from gateway.contract.registry import Client, Registry, Sender
from gateway.edge.acts import Person
from gateway.edge.auth import may_use
from gateway.edge.lookups import MessageView
from gateway.edge.lookups import shown as message_of
from gateway.edge.people import Happened, KeptView, PersonView, Restricted, shown, view
from gateway.edge.times import of_ms
from gateway.ledger.erasing import File
from gateway.ledger.keys import Keys
from gateway.records.messages import MAX_ROWS, Message, Messages
from gateway.records.personal import Complained, Personal, Said
from gateway.rules.pack import Pack
from gateway.rules.retention import restricted_at

MOST_MESSAGES = 5_000


class Told(Happened):
    """One event, and the same as a consent receipt (ISO/IEC TS 27560)."""

    receipt: dict[str, Any] | None = None


class ReplyView(BaseModel):
    """A message received from the person: what it meant and what it withdrew. Its text is not kept here."""

    port: str
    meaning: str
    scope: str | None = None
    at: datetime
    received_at: datetime


class ComplaintTold(BaseModel):
    """A complaint of the person, in their words, and what came of it."""

    id: str
    source: str
    port: str | None = None
    sender: str | None = None
    at: datetime
    received_at: datetime
    state: str
    outcome: str | None = None
    text: str | None = None
    """None where it is not kept any more."""


class PersonalData(BaseModel):
    """A person's file, as far as it is about the client's senders."""

    at: datetime
    person: PersonView
    """What stands; `restricted` where nothing else is told."""
    events: list[Told] = []
    messages: list[MessageView] = []
    """The newest first."""
    messages_complete: bool = True
    """False: there are older ones; GET /v1/messages pages through all."""
    replies: list[ReplyView] = []
    complaints: list[ComplaintTold] = []
    retention: list[KeptView] = []
    """What would outlast an erasure asked for now, and until when."""


class Sources(NamedTuple):
    """Where a file is gathered from."""

    messages: Messages
    personal: Personal
    packs: Mapping[str, Pack]
    registry: Registry
    keys: Keys


async def gather(
    client: Client, who: Person, number: str | None, file: File, at_ms: int, sources: Sources
) -> PersonalData:
    """The file of a person as the client may have it. `number`: theirs, where it is known."""
    person = view(client, who, file.state, number)
    hidden = restricted_at(file.acts)
    data = PersonalData(at=of_ms(at_ms), person=person, retention=[KeptView.of(one) for one in file.kept])
    own = [row for row in file.history if shown(client, row)]
    data.events = [_told(row, hidden, who.subject, sources) for row in own]
    if file.due is not None:
        data.person = person.model_copy(update={"restricted": Restricted.of(file.kept)})
        return data
    since_ms = _since(file, hidden)
    found, data.messages_complete = await _messages(client, who.subject, sources.messages)
    data.messages = [message_of(one) for one in found if (one.accepted_at or 0) >= since_ms]
    said = await sources.personal.replies(who.subject)
    data.replies = [_reply(one) for one in said if one.received_at >= since_ms and _ones_own(client, one, sources)]
    complained = await sources.personal.complaints(who.subject)
    own_ones = [one for one in complained if one.received_at >= since_ms and may_use(client, one.sender or "*")]
    data.complaints = [_complaint(one, sources.keys) for one in own_ones]
    return data


def _complaint(one: Complained, keys: Keys) -> ComplaintTold:
    sealed = one.sealed
    text = None if sealed is None else orjson.loads(keys.open_case(sealed, UUID(one.id).bytes))["text"]
    told = one._asdict() | {"at": of_ms(one.at), "received_at": of_ms(one.received_at), "text": text}
    return ComplaintTold.model_validate(told)


def _since(file: File, hidden: int) -> int:
    """From when on messages are shown: of somebody who came back, those after the restriction."""
    return max((act.at_ms for act in file.acts if act.seq == hidden), default=0)


async def _messages(client: Client, subject: bytes, messages: Messages) -> tuple[list[Message], bool]:
    """Messages of the client's senders, and whether those are all."""
    found: list[Message] = []
    before = None
    while len(found) < MOST_MESSAGES:
        page = await messages.search(subject=subject, limit=MAX_ROWS, before=before)
        found += [one for one in page if one.sender is not None and may_use(client, one.sender)]
        if len(page) < MAX_ROWS:
            return found, True
        before = page[-1].id
    return found, False


def _told(row: Mapping[str, Any], hidden: int, subject: bytes, sources: Sources) -> Told:
    told = Told.of(row, hidden)
    if told.data is None:
        return told
    written = {
        "schema_version": SCHEMA,
        "record_id": row["event_id"],
        "pii_principal_id": subject.hex(),
        "event_type": row["kind"],
        "event_time": row["occurred_at"],
        "event_state": row["state"],
        "data": told.data,
    }
    sender = _sender(sources.registry, told.data.get("sender"))
    party = None if sender is None else sender.signature
    pack = None if sender is None else sources.packs.get(sender.pack)
    way_out = None if pack is None else pack.refusal_text
    return told.model_copy(update={"receipt": receipt(written, party, way_out)})


def _sender(registry: Registry, name: Any) -> Sender | None:
    return next((one for one in registry.senders if one.id == name), None)


def _ones_own(client: Client, said: Said, sources: Sources) -> bool:
    """A port that no sender owns is shown to a client of all senders alone."""
    owners = [one.id for one in sources.registry.senders if one.port_named(said.port) is not None]
    return any(may_use(client, owner) for owner in owners or ("*",))


def _reply(said: Said) -> ReplyView:
    received, at = of_ms(said.received_at), of_ms(said.at)
    return ReplyView(port=said.port, meaning=said.meaning, scope=said.scope, at=at, received_at=received)
