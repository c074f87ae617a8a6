"""Reads topic `replies`, a batch at a time, and settles each batch before it reads the next.

Owns the batch in hand. An outage of the ledger, the cache or PostgreSQL repeats the batch until it is settled; a crash
repeats it too. What cannot be decoded is a dead letter before its offset moves.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from asyncpg import Pool

from gateway.contract.wire import Reply
from gateway.guard import GuardUnavailable
from gateway.ledger.appender import LedgerUnavailable
from gateway.records.connection import AWAY
from gateway.records.offsets import Offsets
from gateway.records.settlement import Place
from gateway.settle.buffer import LATEST_MS, Dead, Unfit, decoded
from gateway.settle.replies import Replies
from gateway.stream import Batch, Message, Producer, Reader, Topics, Undecodable, bury
from gateway.telemetry import logger

log = logger("settle")
CONSUMER = "settle.replies"
AT_ONCE = 500
SUBJECT_BYTES = 16
BACKOFF_S = (0.2, 5.0)
LETTERS_S = 30.0
OUTAGES = (*AWAY, LedgerUnavailable, GuardUnavailable, LookupError)


class Inbox:
    """The reader of replies and its batches."""

    def __init__(self, pool: Pool[Any], reader: Reader, producer: Producer, names: Topics, replies: Replies) -> None:
        """`owing` is set whenever a batch has left answers to be sent."""
        self._pool, self._reader, self._producer, self._names, self._replies = pool, reader, producer, names, replies
        self.owing = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, or anything but an outage fails."""
        offsets = Offsets(self._reader, self._names, CONSUMER)
        async with self._pool.acquire() as conn:
            await offsets.begin(conn)
        while not stop.is_set():
            batch = await offsets.read(0.25, AT_ONCE)
            if batch:
                await self._settle(batch, offsets, stop)

    async def _settle(self, batch: Batch, offsets: Offsets, stop: asyncio.Event) -> None:
        replies, dead, moves = [], [], dict[Place, tuple[int, int]]()
        for place, messages in batch.items():
            following = messages[-1].offset + 1
            moves[self._names.label(place.topic), place.partition] = (offsets.next(place), following)
            offsets.took(place, following)
            for message in messages:
                try:
                    replies.append(_reply(message))
                except (Undecodable, Unfit) as fault:
                    dead.append(Dead(message, type(fault).__name__))
        if dead:
            async with asyncio.timeout(LETTERS_S):
                await bury(self._producer, self._names, dead, consumer=CONSUMER, at_ms=time.time_ns() // 1_000_000)
        delay_s = BACKOFF_S[0]
        while not stop.is_set():
            try:
                if await self._replies.settle(replies, moves):
                    self.owing.set()
            except OUTAGES as fault:
                log.warning("replies_wait", error=type(fault).__name__)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, BACKOFF_S[1])
            else:
                return


def _reply(message: Message) -> Reply:
    """Raises Undecodable, or Unfit for what names nobody: one such record must not stop everybody's refusals."""
    reply: Reply = decoded(Reply, message.value)
    try:
        named = len(bytes.fromhex(reply.subject)) == SUBJECT_BYTES
    except ValueError:
        named = False
    if not named or not 0 <= reply.received_at < LATEST_MS:
        raise Unfit
    return reply if 0 <= reply.at < LATEST_MS else reply.model_copy(update={"at": reply.received_at})
