"""Carriers' callbacks: delivery reports and inbound messages, durable in Kafka before they are acknowledged.

A carrier retries a few times and then drops the report for good, so what can be read is taken even when its neighbour
cannot, and 200 is said only when all that was readable is stored; else 503, and the carrier sends it again (settle
drops what came twice). A refusal sets a provisional block *before* the carrier is acknowledged
(MECHANISMS 5), and what was claimed before the block has gone out by then; so a crash of anything behind this line lets
nothing more through. Settle replaces the block by the event. The same holds for free text that refuses, and for `A`.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC
from typing import Annotated, Any

from fastapi import Path, Request
from pydantic import BaseModel, TypeAdapter

from gateway.carriers.receipts import MAX_ITEMS, ReceiptIn, ReceiptsIn, ReplyIn, normalise
from gateway.contract.codes import Code
from gateway.contract.decision import Class, Refusal
from gateway.contract.ids import content_id, subject_of
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.edge import acts, bodies
from gateway.edge.callers import Caller, need
from gateway.edge.gate import Gate
from gateway.edge.problems import Refused
from gateway.edge.strict import routes
from gateway.ledger import events
from gateway.ledger.appender import FENCE_S
from gateway.rules import numbers, replies
from gateway.rules.replies import Meaning
from gateway.stream.codec import encode

router = routes("carriers")
Carrier = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", examples=["http"])]
Asking = Annotated[Caller, need("carrier:{carrier}")]
RECEIPTS = TypeAdapter(list[ReceiptIn])
REPLIES = TypeAdapter(list[ReplyIn])
BLOCKING = 32
"""Blocks on the way at once: a callback of a thousand refusals has its deadline too."""
READING = 32
"""Replies read at a time: other requests of this worker have their turn between."""
CREDIBLE_MS = 3 * 86_400_000
"""How far from ours a carrier's time may lie: no carrier brings a reply for longer."""
NOT_STORED = Refusal(Code.UNAVAILABLE, "not stored; send it again", 1)


class Taken(BaseModel):
    """All that was readable is stored durably."""

    taken: int
    unreadable: int = 0
    """Items that do not fit their model; sending them again changes nothing."""


def _items(body: bytes, name: str) -> list[Any]:
    value = bodies.parse(body)
    if bodies.NUL_ESCAPE in body:
        value = _without_nul(value)
    if not isinstance(value, dict) or not isinstance(value.get(name), list):
        raise Refused(bodies.INVALID, [{"field": name, "message": "Give an object with this list"}])
    items: list[Any] = value[name]
    if not 1 <= len(items) <= MAX_ITEMS:
        raise Refused(bodies.INVALID, [{"field": name, "message": f"Give 1 to {MAX_ITEMS} items"}])
    return items


def _without_nul(value: Any) -> Any:
    """The same without NUL characters, which no store takes: a report is not lost for one."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {key: _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value


def _readable(found: Sequence[Any]) -> list[Any]:
    kept = [item for item in found if not isinstance(item, tuple)]
    if not kept:
        raise Refused(*found[0])
    return kept


async def _store(gate: Gate, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
    if any(ack is None for ack in await gate.producer.publish(topic, records)):
        raise Refused(NOT_STORED)


@router.post("/v1/carriers/{carrier}/receipts")
async def take_receipts(caller: Asking, carrier: Carrier, request: Request) -> Taken:
    """Up to 1,000 delivery reports. 200 only when they are durable."""
    items = _items(await request.body(), "receipts")
    kept = _readable(bodies.each(RECEIPTS, ReceiptIn, items, b""))
    receipts = normalise(carrier, ReceiptsIn.model_construct(receipts=kept), acts.now_ms())
    await _store(
        caller.gate,
        caller.gate.topics.receipts,
        [(receipt.carrier_id.encode(), encode(receipt)) for receipt in receipts],
    )
    return Taken(taken=len(kept), unreadable=len(items) - len(kept))


@router.post("/v1/carriers/{carrier}/replies")
async def take_replies(caller: Asking, carrier: Carrier, request: Request) -> Taken:
    """Up to 1,000 inbound messages. 200 only when they are durable, and refusals already in force."""
    items = _items(await request.body(), "replies")
    kept = _readable(bodies.each(REPLIES, ReplyIn, items, b""))
    gate, now = caller.gate, acts.now_ms()
    inbound, refusals, fences = list[Reply](), list[tuple[Reply, list[str]]](), list[int]()
    for n, item in enumerate(kept):
        if n % READING == READING - 1:
            await asyncio.sleep(0)
        scopes = refused_scopes(gate, item)
        inbound.append(_reply(gate, carrier, item, now, blocked=bool(scopes)))
        refusals += [(inbound[-1], scopes)] if scopes else []
    for start in range(0, len(refusals), BLOCKING):
        fences += await asyncio.gather(*(_block(gate, *one) for one in refusals[start : start + BLOCKING]))
    await asyncio.gather(
        _store(gate, gate.topics.replies, [(bytes.fromhex(reply.subject), encode(reply)) for reply in inbound]),
        asyncio.sleep(FENCE_S if any(fences) else 0),
    )
    return Taken(taken=len(kept), unreadable=len(items) - len(kept))


async def _block(gate: Gate, reply: Reply, scopes: list[str]) -> int:
    return await gate.guard.block(bytes.fromhex(reply.subject), scopes, reply.token)


def _reply(gate: Gate, carrier: str, item: ReplyIn, now: int, *, blocked: bool) -> Reply:
    number = numbers.writer(item.sender) or item.sender
    subject = subject_of(gate.pepper, number)
    said = said_at(item, now)
    return Reply(
        carrier=carrier,
        reply_id=item.id or content_id(gate.pepper, subject, item.port, item.text, said),
        sender_number=number,
        subject=subject.hex(),
        port=item.port,
        text=item.text,
        at=now if item.at is None or item.at.tzinfo is None else said,
        received_at=now,
        blocked=blocked,
    )


def said_at(item: ReplyIn, now: int) -> int:
    """The carrier's time of a reply, Unix ms; now, where what it says cannot be the time.

    A clock that stands still would make one reply of all that somebody ever writes. Without a zone the time is read as
    UTC: hours off, and not to be believed, but the same when the reply is brought again.
    """
    if item.at is None:
        return now
    at = item.at if item.at.tzinfo is not None else item.at.replace(tzinfo=UTC)
    said = int(at.timestamp() * 1000)
    return said if abs(said - now) <= CREDIBLE_MS else now


def refused_scopes(gate: Gate, item: ReplyIn) -> list[str]:
    """What a refusal stops until settle has recorded it; at least what that record will stop.

    Marketing of the sender on its marketing port; all of the sender on its service port, for which notice was meant is
    settle's to find; marketing of everybody where the port is nobody's. `A` stops marketing alone.
    """
    owners = senders_of(gate, item.port)
    names = {owner.pack for owner in owners} & gate.packs.keys() or gate.packs.keys()
    meanings = {replies.read(item.text, gate.packs[name]).meaning for name in names}
    if Meaning.REFUSAL in meanings:
        return [_provisional(owner, item.port) for owner in owners] or [events.scope_of(None, Class.MARKETING)]
    if Meaning.KEEP in meanings:
        return [events.scope_of(one.id, Class.MARKETING) for one in owners] or [events.scope_of(None, Class.MARKETING)]
    return []


def _provisional(owner: Sender, port: str) -> str:
    service = owner.port_named(port) == owner.service_port
    return events.scope_of(owner.id, None if service else Class.MARKETING)


def senders_of(gate: Gate, port: str) -> list[Sender]:
    """Whose port it is."""
    registry = gate.cfg.registry
    senders = registry.senders if registry is not None else ()
    return [sender for sender in senders if sender.port_named(port) is not None]
