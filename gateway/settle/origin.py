"""What many messages share: who sent what kind of message, from which port, under which rules. Stored once."""

import hashlib
from typing import NamedTuple

import orjson

from gateway.contract.wire import Accepted


class Origin(NamedTuple):
    """The shared part of an accepted message, as text."""

    client: str
    sender: str
    purpose: str
    cls: str
    port: str
    pack: str
    basis: str
    campaign: str | None
    list_source: str | None

    def digest(self) -> bytes:
        """The name of this origin in PostgreSQL: equal origins have equal digests."""
        return hashlib.sha256(orjson.dumps(tuple(self))).digest()[:16]


def origin_of(record: Accepted) -> Origin:
    """The origin of a message."""
    return Origin(
        record.client,
        record.sender,
        record.purpose,
        record.cls.value,
        record.port,
        record.pack,
        record.basis.value,
        record.campaign,
        record.list_source,
    )
