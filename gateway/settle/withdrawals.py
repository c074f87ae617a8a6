"""Counts unsubscribes: follows the ledger, in which every way out ends, and finds the message each was about.

A reply, the preference page, an API call, the console: all of them append an event, so this one place sees them all.
Owns the offset `settle.withdrawals` in `consumer_offsets`: it moves by compare-and-set in the transaction that counts,
so neither a crash, nor a second process, nor a replay counts twice. One message is unsubscribed from once: whoever
writes R five times, or ends topic after topic, is one unsubscribe.

An unsubscribe counts when it happened, for the last message of that sender to the person in the thirty days before
(`records.attribution`); one without such a message, an old list that is imported for instance, says nothing about any
sender and counts under none. The ledger is read two seconds behind its head, so that settlement has written the message
that is being answered; where settlement is further behind, the message before it is found, or none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from asyncpg import Pool

from gateway.contract.health import Act, Signal, key_of
from gateway.ledger.following import Ending, endings
from gateway.ledger.keys import Keys
from gateway.records import attribution, settlement, signals
from gateway.records.attribution import About, Asked
from gateway.records.connection import AWAY
from gateway.telemetry import SIGNALS, logger

log = logger("settle")
CONSUMER = "settle.withdrawals"
PLACE = ("consent_events", 0)
BEHIND_MS = 2_000
EVERY_S = 1.0
DEADLINE_S = 30.0
MINUTE_MS = 60_000


class Withdrawals:
    """The follower. `clock` gives Unix milliseconds."""

    def __init__(self, pool: Pool[Any], keys: Keys, clock: Callable[[], int]) -> None:
        self._pool, self._keys, self._clock = pool, keys, clock

    async def run(self) -> None:
        """For ever; an outage is waited out."""
        while True:
            more = False
            try:
                async with asyncio.timeout(DEADLINE_S):
                    more = await self.follow()
            except settlement.Superseded:
                more = True  # somebody else has taken this step; the next one may be ours
            except AWAY as fault:
                log.warning("withdrawals_wait", error=type(fault).__name__)
            except Exception as fault:
                log.exception("withdrawals_failed", error=type(fault).__name__)
            if not more:
                await asyncio.sleep(EVERY_S)

    async def follow(self) -> bool:
        """One step; whether there was anything. Raises Superseded when another process took the same step."""
        async with self._pool.acquire() as conn:
            at = (await settlement.offsets(conn, CONSUMER)).get(PLACE)
            if at is None:
                await settlement.begin_offsets(conn, CONSUMER, {PLACE: 0})
                at = 0
            last, found = await endings(conn, self._keys, at, self._clock() - BEHIND_MS)
            if last == at:
                return False
            about = await attribution.last_messages(
                conn, [Asked(one.subject, one.sender, one.port, one.at) for one in found]
            )
            async with conn.transaction():
                await settlement.move_offsets(conn, CONSUMER, {PLACE: (at, last)})
                told = [_signal(one, message) for one, message in zip(found, about, strict=True)]
                counted = await signals.note(conn, told)
        SIGNALS.add(len(counted), "unsubscribe")
        return True


def _signal(one: Ending, about: About | None) -> Signal:
    minute, at = one.at // MINUTE_MS, one.at
    if about is None:
        return Signal(Act.UNSUBSCRIBE, key_of("event", one.event_id), minute, at, subject=one.subject)
    key = key_of("message", about.id)
    return Signal(Act.UNSUBSCRIBE, key, minute, at, about.origin, about.id, one.subject, about.carrier)
