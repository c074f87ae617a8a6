"""Where a consumer of PostgreSQL-kept offsets reads on, partition by partition.

Owns the positions between a read and its flush. A partition that was never read begins at the topic's beginning and is
remembered before the first record; one whose next record Kafka no longer has (its retention ended during an outage)
goes on at what is left, and says so in the log. A crash loses nothing: PostgreSQL has the positions.
"""

from __future__ import annotations

from contextlib import suppress

from gateway.records import settlement
from gateway.records.connection import Connection
from gateway.stream import Batch, OffsetsLost, Place, Reader, Topics
from gateway.telemetry import logger

log = logger("records")


class Offsets:
    """The positions of one tenure."""

    def __init__(self, reader: Reader, names: Topics, consumer: str) -> None:
        self._reader, self._label, self._consumer = reader, names.label, consumer
        self._next: dict[Place, int] = {}

    async def begin(self, conn: Connection) -> None:
        """Position the reader where PostgreSQL says. Raises KafkaError, TimeoutError, or what PostgreSQL raises."""
        places = self._reader.places or await self._reader.start()
        stored = await self._stored(conn)
        if any(self._key(place) not in stored for place in places):
            begins = await self._begins()
            starts = {self._key(place): begins[place] for place in places if self._key(place) not in stored}
            await settlement.begin_offsets(conn, self._consumer, starts)
            stored = await self._stored(conn)
        for place in places:
            self._next[place] = stored[self._key(place)]
            self._reader.seek(place, self._next[place])

    async def read(self, timeout_s: float, most: int) -> Batch:
        """The next records."""
        with suppress(OffsetsLost):
            return await self._reader.getmany(timeout_s, most)
        begins = await self._begins()
        for place, offset in self._next.items():
            if begins[place] > offset:
                log.error("records_expired", topic=self._label(place.topic), partition=place.partition)
                self._reader.seek(place, begins[place])
        return {}

    def next(self, place: Place) -> int:
        """The offset that PostgreSQL will have when everything read before is written."""
        return self._next[place]

    def took(self, place: Place, following: int) -> None:
        """Records up to `following` are in a buffer."""
        self._next[place] = following

    def _key(self, place: Place) -> settlement.Place:
        return self._label(place.topic), place.partition

    async def _stored(self, conn: Connection) -> dict[settlement.Place, int]:
        return await settlement.offsets(conn, self._consumer)

    async def _begins(self) -> dict[Place, int]:
        begins = await self._reader.begins()
        if begins is None:
            raise TimeoutError
        return begins
