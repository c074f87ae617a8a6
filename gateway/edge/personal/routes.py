"""GET and DELETE of a person's data: the whole file, and its erasure with a signed certificate.

Both need role `operate`. The file holds what support never needs (evidence, addresses, every message's fate), and
taking it out of the gateway is the operator's business, who has asked who the person is; `read` shows standing and
history. A look is an ACCESS event before it is answered; an erasure is in force when it is answered.
"""

from typing import Annotated, Any, Literal

from fastapi import Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from gateway.contract.decision import Refusal
from gateway.edge import acts
from gateway.edge.acts import Recorded
from gateway.edge.auth import NO_CFG
from gateway.edge.callers import Caller, need
from gateway.edge.personal import pages
from gateway.edge.personal.export import PersonalData, Sources, gather
from gateway.edge.personal.parts import erasures, zone_of
from gateway.edge.problems import Refused
from gateway.edge.recipients import NOTHING, Given, Named
from gateway.edge.strict import routes
from gateway.ledger.certificate import certify
from gateway.records.messages import Messages
from gateway.records.personal import Personal

router = routes("recipients")
Operating = Annotated[Caller, need("operate")]
Format = Annotated[Literal["json", "html"], Query(description="`html`: one printable page, in Chinese and English.")]
READABLE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""A time as it was signed: text, so that nothing on the way writes it otherwise."""
PATH = "/v1/recipients/{number}/personal-data"


class KeptItem(BaseModel):
    """What is kept: under which law, counted since when, until when (none: it stays), and why."""

    what: str
    title: str
    title_zh: str
    law: str
    law_zh: str
    since: Instant | None
    until: Instant | None
    why: str
    why_zh: str


class ErasedItem(BaseModel):
    """What was erased at once."""

    what: str
    title: str
    title_zh: str


class Certificate(BaseModel):
    """What a demand for erasure came to. The signature is over its canonical bytes (RFC 8785)."""

    schema_version: str
    status: Literal["erased", "restricted"]
    subject: str
    seq: int
    event_id: str
    at: Instant
    erased: list[ErasedItem]
    kept: list[KeptItem]
    erasure_due: Instant | None
    """When what is kept until a day is erased by itself; none: nothing of that kind is left."""


class Erasure(Recorded):
    """The act in the ledger, and its certificate with an Ed25519 signature and the key that checks it, both in hex."""

    certificate: Certificate
    signature: str
    key: str


@router.get(PATH, response_model=PersonalData, response_model_exclude_none=True, responses=READABLE)
async def personal_data(
    caller: Operating,
    number: Named,
    format: Format = "json",  # noqa: A002 - the address's own word
) -> PersonalData | Response:
    """Everything held about a person toward the client's senders, for the person. The look is recorded."""
    gate = caller.gate
    who = acts.named(gate, number)
    file = await erasures(gate).file(who.subject)
    if not file.known:
        raise Refused(NOTHING)
    registry = gate.cfg.registry
    if registry is None:
        raise Refused(NO_CFG)
    await acts.looked(caller, who.subject, "state", "history", "messages", "replies", "complaints")
    known = who.number or await gate.reading.number(who.subject)
    sources = Sources(Messages(gate.pool), Personal(gate.pool), gate.packs, registry, gate.appender.keys)
    data = await gather(caller.client, who, known, file, acts.now_ms(), sources)
    return data if format == "json" else pages.answer(pages.file_page(data, known, zone_of(gate)))


@router.delete(PATH, response_model=Erasure, responses=READABLE)
async def erase(
    caller: Operating,
    number: Named,
    key: Given = None,
    format: Format = "json",  # noqa: A002 - as above
) -> Erasure | Response:
    """Forget the person; what a law still asks for is stored until its end, used for nothing, and named here.

    What stops messages stays under a pseudonym, or they would be messaged again.
    """
    gate = caller.gate
    who = acts.named(gate, number)
    done = await erasures(gate).request(who.subject, caller.client.id, acts.event_id(caller.client, key))
    if done is None or isinstance(done, Refusal):
        raise Refused(done or NOTHING)
    signed = certify(gate.appender.keys, done)
    if format == "html":
        return pages.answer(pages.certificate_page(signed, zone_of(gate)))
    return Erasure.model_validate(
        {
            "seq": done.seq,
            "event_id": done.event_id,
            "subject": done.subject.hex(),
            "duplicate": done.duplicate,
            **signed._asdict(),
        }
    )
