"""The second record by reply: an exact Y of somebody whose opt-in waits becomes the grant that a code would have made.

Owns no state: what waits is in `records.forms`, sealed. Promises: a Y with nothing waiting grants nothing; a Y and a
code of one opt-in are one event; repeating a batch repeats nothing. A crash after the append leaves a row that the
repeated batch finds again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncpg import Pool

from gateway.contract.consent import Event
from gateway.contract.wire import Reply
from gateway.ledger import two_records
from gateway.ledger.appender import Appender
from gateway.ledger.keys import KeyMismatchError
from gateway.records import forms
from gateway.records.forms import OptIn
from gateway.telemetry import OPT_INS, logger

log = logger("settle")
QUOTED = 32


class Confirming:
    """Ends and grants what waits."""

    def __init__(self, pool: Pool[Any], appender: Appender) -> None:
        self._pool, self._appender = pool, appender

    async def cancel(self, refused: Sequence[tuple[Reply, str | None]]) -> None:
        """End what waited when these were received; the sender refused, or none for all of them."""
        if refused:
            async with self._pool.acquire() as conn:
                await forms.cancel(
                    conn, [(bytes.fromhex(reply.subject), sender, reply.received_at) for reply, sender in refused]
                )

    async def grant(self, affirmed: Sequence[tuple[Reply, str]]) -> list[Reply]:
        """Grant what these affirm, each with the sender asked; the replies that granted. Raises LedgerUnavailable."""
        found: list[tuple[Reply, OptIn, Event]] = []
        for reply, sender in affirmed:
            async with self._pool.acquire() as conn:
                row = await forms.awaiting(conn, bytes.fromhex(reply.subject), sender, reply.received_at)
            event = None if row is None else self._event(row, reply)
            if row is not None and event is not None:
                found.append((reply, row, event))
        if not found:
            return []
        answers = await self._appender.append([event for _, _, event in found])
        granted = [(reply, row) for (reply, row, _), answer in zip(found, answers, strict=True) if not answer.refusal]
        async with self._pool.acquire() as conn:
            await forms.finish(conn, [row.id for _, row in granted])
        OPT_INS.add(len(granted), "confirmed")
        OPT_INS.add(len(found) - len(granted), "refused")
        return [reply for reply, _ in granted]

    def _event(self, row: OptIn, reply: Reply) -> Event | None:
        keys = self._appender.keys
        if row.sealed is None:
            return None
        try:
            waiting = two_records.unseal(keys, row.id, row.sealed)
        except KeyMismatchError:
            log.exception("opt_in_unreadable", form=row.form)
            return None
        said = {
            "carrier": reply.carrier,
            "reply_id": reply.reply_id,
            "text": reply.text[:QUOTED],
            "port": reply.port,
            "written_at": reply.at,
        }
        control = {"method": "reply", "reply": said}
        second = two_records.second_record(row.id, row.subject, waiting, row.message_id, reply.received_at, control)
        return two_records.grant(keys, row.id, row.subject, waiting, second)
