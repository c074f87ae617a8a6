"""Has others attest the log's checkpoints: witnesses cosign, a time-stamping authority says when.

Every so often, when the log has grown, the last checkpoint goes to each witness with a proof that it continues what the
witness saw before, and then, with the cosignatures, to the authority. What came of it is kept in PostgreSQL
(`ledger_attested`) and published as `checkpoint.attested`; evidence prefers it. Whoever is away is left out and asked
again with the next one: nothing waits for it.

A witness that knows a larger log than ours, or finds our proof false, says that this log was rolled back or forged:
that is an alarm for a person, since a witness alone shall not be able to stop the sending.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from gateway import telemetry
from gateway.ledger.checkpoint import parse
from gateway.ledger.merkle import consistency_proof
from gateway.ledger.note import Signature, add_signature, split
from gateway.ledger.opening import QUERY_S
from gateway.ledger.rows import AWAY
from gateway.ledger.sequencer import CHECKPOINT, Log, replace
from gateway.ledger.timestamps import TimestampError, Timestamps
from gateway.ledger.witness import Witness, WitnessConflictError, WitnessError, WitnessRefusedError

ATTESTED, ATTESTED_TIME = "checkpoint.attested", "checkpoint.attested.tsr"
KEEP = """
INSERT INTO ledger_attested (origin, size, note, timestamp_reply) VALUES ($1, $2, $3, $4)
ON CONFLICT (origin, size) DO UPDATE SET note = EXCLUDED.note, timestamp_reply = EXCLUDED.timestamp_reply,
    attested_at = clock_timestamp()
"""

_log = telemetry.logger("ledger")


class Attested(NamedTuple):
    """A checkpoint with its cosignatures, and the authority's reply over those bytes, if there is one."""

    size: int
    note: bytes
    reply: bytes | None
    complete: bool
    """Whether everybody who was asked has attested."""


class Attesting:
    """One log's attestations; `run` until cancelled, then `close`."""

    def __init__(
        self, dsn: str, log: Log, witnesses: Sequence[Witness], authority: Timestamps | None, every_s: float
    ) -> None:
        self._dsn, self._tree, self._every_s = dsn, log, every_s
        self._witnesses, self._authority = witnesses, authority
        self._known = dict.fromkeys((one.name for one in witnesses), 0)
        self._done = 0
        self._complete_at = time.time()

    async def close(self) -> None:
        """Close every connection."""
        for witness in self._witnesses:
            await witness.close()
        if self._authority is not None:
            await self._authority.close()

    async def run(self) -> None:
        """Attest until cancelled; whatever fails is tried again with the next checkpoint."""
        while True:
            try:
                await self.attest()
            except (*AWAY, ValueError) as fault:
                _log.warning("attesting_interrupted", error=type(fault).__name__)
            telemetry.ATTESTED_AGE.set(time.time() - self._complete_at)
            await asyncio.sleep(self._every_s)

    async def attest(self) -> Attested | None:
        """Have the published checkpoint attested; none when there is nothing new."""
        note = await asyncio.to_thread(self._published)
        if note is None or (size := parse(split(note)[0]).size) == self._done or not size:
            self._complete_at = time.time() if self._done else self._complete_at
            return None
        lines = [one for one in await asyncio.gather(*(self._ask(one, note, size) for one in self._witnesses)) if one]
        cosigned = add_signature(note, lines)
        reply = await self._stamp(cosigned)
        complete = len(lines) == len(self._witnesses) and (reply is not None or self._authority is None)
        attested = Attested(size, cosigned, reply, complete)
        await self._keep(attested)
        if complete:
            self._done, self._complete_at = size, time.time()
        return attested

    def _published(self) -> bytes | None:
        try:
            return (self._tree.folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return None

    async def _ask(self, witness: Witness, note: bytes, size: int) -> Signature | None:
        read = self._tree.tiles.reader(size)
        try:
            line = await witness.cosign(
                note, self._known[witness.name], lambda old: consistency_proof(old, size, read) if old < size else ()
            )
        except (WitnessRefusedError, WitnessConflictError) as fault:
            _log.error("witness_disagrees", witness=witness.name, error=str(fault))
        except WitnessError as fault:
            _log.warning("witness_away", witness=witness.name, error=str(fault))
        else:
            self._known[witness.name] = size
            return line
        return None

    async def _stamp(self, note: bytes) -> bytes | None:
        if self._authority is None:
            return None
        try:
            return await self._authority.stamp(note)
        except TimestampError as fault:
            _log.warning("timestamp_missing", error=str(fault))
            return None

    async def _keep(self, attested: Attested) -> None:
        connection = await asyncpg.connect(self._dsn, timeout=QUERY_S)
        try:
            values = (self._tree.origin, attested.size, attested.note, attested.reply)
            await connection.execute(KEEP, *values, timeout=QUERY_S)
        finally:
            await connection.close(timeout=QUERY_S)
        await asyncio.to_thread(replace, self._tree.folder / ATTESTED, attested.note)
        if attested.reply is not None:
            await asyncio.to_thread(replace, self._tree.folder / ATTESTED_TIME, attested.reply)
