"""A solicited yes: an exact affirmative word in answer to a question of this sender's that is still open.

Owns nothing. A question is a message of a purpose that `asks` in the pack. It is open while it is the last thing the
port's owner has sent the person from that port (what the gateway itself answers does not count), while its time lasts,
and until the person answers it: by a yes to that port, or to any port by a refusal of the sender's marketing or more.
Promises: nothing else becomes consent here; the grant names the message that asked, and lifts this sender's opt-outs
that are older than the yes, as the person's own act may. The same reply again is the same event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncpg import Pool

from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Class
from gateway.contract.registry import Sender
from gateway.contract.wire import Reply
from gateway.ledger.appender import Appender
from gateway.ledger.events import grant, scope_of
from gateway.records import inbound
from gateway.records.inbound import Sent
from gateway.rules.pack import Asks, Pack
from gateway.settle.ending import name_of, told_by

WEIGHT = "solicited_reply"
Affirmed = tuple[Reply, Sender, Pack, Sequence[Sent]]
"""A yes, the port's owner with its pack, and the latest messages from that port, newest first."""


def question_of(sent: Sequence[Sent], owner: Sender, pack: Pack, at_ms: int) -> tuple[Sent, Asks] | None:
    """The question that a yes received at a time would answer; none where nothing was asked."""
    answers = (pack.table.answers.opt_out, pack.table.answers.help)
    last = next((one for one in sent if one.purpose not in answers and one.accepted_at <= at_ms), None)
    purpose = pack.purposes.get(last.purpose) if last is not None and last.sender == owner.id else None
    if last is None or purpose is None or purpose.asks is None or at_ms - last.accepted_at > purpose.asks.within_ms:
        return None
    return last, purpose.asks


def grant_of(reply: Reply, owner: Sender, pack: Pack, question: Sent, asks: Asks) -> Event:
    """The consent that the yes is."""
    evidence = {
        "weight": WEIGHT,
        "question": {"message_id": question.id, "purpose": question.purpose, "accepted_at": question.accepted_at},
        "reply": told_by(reply),
        "pack": pack.version,
    }
    return Event(
        event_id=name_of(reply, f"grant {owner.id}"),
        kind=EventKind.GRANT,
        number=reply.sender_number,
        subject=bytes.fromhex(reply.subject),
        occurred_at_ms=reply.received_at,
        data=grant(
            owner.id,
            asks.topics,
            max_per_week=asks.max_per_week,
            valid_until_s=reply.received_at // 1000 + asks.valid_s,
            lifts=True,
            by="assent",
            channel="sms",
            evidence=evidence,
        ),
    )


async def grant_asked(
    pool: Pool[Any], appender: Appender, affirmed: Sequence[Affirmed], ended: set[tuple[str, str | None]]
) -> list[Reply]:
    """Grant what these answer; the replies that granted. `ended`: (subject, sender) refused in the same batch.

    Raises LedgerUnavailable, and what PostgreSQL raises.
    """
    found: list[tuple[Reply, Event]] = []
    open_to: set[tuple[str, str]] = set()
    for reply, owner, pack, sent in affirmed:
        asked = question_of(sent, owner, pack, reply.received_at)
        if asked is None or not ended.isdisjoint({(reply.subject, owner.id), (reply.subject, None)}):
            continue
        question, asks = asked
        port = owner.port_named(reply.port) or reply.port
        scopes = [scope_of(who, cls) for who in (owner.id, None) for cls in (Class.MARKETING, None)]
        scopes.append(scope_of(owner.id, topic=question.purpose))
        async with pool.acquire() as conn:
            over = await inbound.answered(conn, bytes.fromhex(reply.subject), port, scopes, question.accepted_at)
        if not over and (reply.subject, question.id) not in open_to:
            open_to.add((reply.subject, question.id))
            found.append((reply, grant_of(reply, owner, pack, question, asks)))
    if not found:
        return []
    answers = await appender.append([event for _, event in found])
    return [reply for (reply, _), answer in zip(found, answers, strict=True) if answer.refusal is None]
