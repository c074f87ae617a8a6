"""What clients are told of what settlement writes, made ready for the queue in the same transaction.

Owns no rows: `records.webhooks` does. Promises: a notice is written if and only if the change it tells of is, for both
are one commit; bodies and addresses lie in PostgreSQL sealed. The id of a notice is made of what it tells (message and
rank, or the carrier's id of a reply) and of the address, so writing it twice is writing it once. A crash before COMMIT
leaves neither change nor notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.contract.health import page_of
from gateway.contract.webhook import (
    ALERT,
    STATUS,
    AlertData,
    AlertRaised,
    MessageStatus,
    RecipientData,
    RecipientKind,
    RecipientSaid,
    StatusData,
)
from gateway.contract.wire import Reply
from gateway.ledger.keys import Keys
from gateway.records import subscriptions, webhooks
from gateway.records.alerts import Raised
from gateway.records.connection import Connection
from gateway.records.webhooks import Address
from gateway.rules.reach import place
from gateway.settle.seals import notice_id, seal_address, seal_body
from gateway.settle.status import Row


class Heard(NamedTuple):
    """A reply that a client may want to know of: whose port it came to, and what it was taken for."""

    reply: Reply
    sender: str
    kind: RecipientKind
    scope: str | None = None
    """What an opt-out suppresses."""


class Notices:
    """Makes them; holds only keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def address(self, client: str, url: str) -> Address:
        """A client's address as it is stored."""
        name = self._keys.webhook_name("address", client, url)
        return Address(name, client, self._lane(client, url), seal_address(self._keys, name, url))

    async def statuses(
        self,
        conn: Connection,
        given: Sequence[tuple[Address, int]],
        turned: Iterable[Row],
        told: Mapping[str, bytes],
    ) -> None:
        """Enqueue what rows have turned to.

        `given`: addresses, each with the time (Unix ms) of the message that gave it. `told`: the addresses of clients
        that want to know of all of their messages.
        """
        last_ms = max((at for _, at in given), default=0)
        await webhooks.remember(conn, {one.name: one for one, _ in given}.values(), last_ms)
        rows = []
        for row in turned:
            client = row.origin.client if row.origin is not None else ""
            address = row.callback or told.get(client)
            if address is not None:
                rows.append(self._status(row, address))
        await webhooks.enqueue(conn, rows)

    async def replies(self, conn: Connection, heard: Sequence[Heard]) -> None:
        """Enqueue these for every client that wants the sender's replies, in the transaction that keeps them.

        Call it before they are kept in `replies`: what is in that table already was told when it came first.
        """
        wanted = await subscriptions.subscriptions(conn) if heard else []
        if not any(one.replies for one in wanted):
            return
        new = await webhooks.unheard(conn, [_name(one.reply) for one in heard])
        await webhooks.enqueue(
            conn,
            [
                self._said(one, to.address)
                for one in heard
                if _name(one.reply) in new
                for to in wanted
                if "*" in to.replies or one.sender in to.replies
            ],
        )

    def alert(self, raised: Raised, address: bytes, runbook: str) -> webhooks.Row:
        """An alert for the operators' address; `runbook`: the address that the runbook's pages lie under."""
        data = AlertData(
            id=str(raised.id),
            kind=raised.kind,
            severity="critical" if raised.severity == "critical" else "warning",
            scope=raised.scope,
            summary=raised.summary,
            detail=raised.detail,
            at=raised.at,
            runbook=f"{runbook.rstrip('/')}/{page_of(raised.kind)}",
        )
        name = notice_id(self._keys, ALERT, data.id, address.hex())
        sealed = seal_body(self._keys, name, AlertRaised(timestamp=raised.at, data=data))
        return webhooks.Row(name, address, ALERT, None, None, int(raised.at.timestamp() * 1000), sealed)

    def _lane(self, client: str, url: str) -> bytes:
        found = place(url)
        return self._keys.webhook_name("lane", client, "" if found is None else found.origin())

    def _status(self, row: Row, address: bytes) -> webhooks.Row:
        at = _time(row.settled_at)
        data = StatusData(
            id=row.id,
            client_ref=row.client_ref,
            status=row.status,
            cause=row.cause,
            code=row.code,
            attempt=row.attempt,
            parts=row.parts,
            at=at,
            rank=row.rank,
        )
        name = notice_id(self._keys, STATUS, row.id, str(row.rank), address.hex())
        sealed = seal_body(self._keys, name, MessageStatus(timestamp=at, data=data))
        return webhooks.Row(name, address, STATUS, row.id, None, row.settled_at, sealed)

    def _said(self, heard: Heard, address: bytes) -> webhooks.Row:
        reply, at = heard.reply, _time(heard.reply.received_at)
        data = RecipientData(
            id=reply.reply_id,
            carrier=reply.carrier,
            sender=heard.sender,
            port=reply.port,
            subject=reply.subject,
            from_=reply.sender_number,
            text=reply.text if heard.kind == "recipient.reply" else None,
            scope=heard.scope,
            at=at,
        )
        name = notice_id(self._keys, heard.kind, reply.carrier, reply.reply_id, reply.subject, address.hex())
        sealed = seal_body(self._keys, name, RecipientSaid(type=heard.kind, timestamp=at, data=data))
        return webhooks.Row(name, address, heard.kind, None, bytes.fromhex(reply.subject), reply.received_at, sealed)


def _name(reply: Reply) -> tuple[str, str, bytes]:
    return reply.carrier, reply.reply_id, bytes.fromhex(reply.subject)


def _time(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).replace(microsecond=at_ms % 1000 * 1000)
