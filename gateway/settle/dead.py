"""Dead letters: a record that cannot be settled is kept in topic `dead` before its offset moves. Never silent.

A crash between the letter and the flush writes the letter again; its coordinates tell that it is the same.
"""

import base64
from collections.abc import Sequence

from gateway.contract.wire import DeadLetter
from gateway.settle.buffer import Dead
from gateway.stream.codec import encode
from gateway.stream.producer import Producer
from gateway.stream.topics import Topics
from gateway.telemetry import DEAD_LETTERS, logger

log = logger("settle")
MOST_BYTES = 600_000
"""A longer value is cut; the letter says where the whole one is."""


class Unburied(Exception):  # noqa: N818 - it says what happened
    """Kafka did not take the letters: the records have to be read again."""


async def bury(producer: Producer, names: Topics, dead: Sequence[Dead], consumer: str, now_ms: int) -> None:
    """Publish the letters; raises Unburied when one is not acknowledged."""
    letters = [
        DeadLetter(
            topic=names.label(message.place.topic),
            partition=message.place.partition,
            offset=message.offset,
            consumer=consumer,
            error=error,
            key_hex=None if message.key is None else message.key.hex(),
            value_b64=base64.b64encode((message.value or b"")[:MOST_BYTES]).decode(),
            at=now_ms,
        )
        for message, error in dead
    ]
    for letter, one in zip(letters, dead, strict=True):
        placed = await producer.publish(names.dead, [(one.message.key or b"", encode(letter))], deadline_s=5.0)
        if placed[0] is None:
            raise Unburied
        DEAD_LETTERS.add(1, letter.topic, consumer)
        log.error("dead_letter", consumer=consumer, topic=letter.topic, offset=letter.offset, error=letter.error)
