"""Dead letters: a record nobody can work on is kept in topic `dead` before its offset moves. Never silent.

Owns the record until Kafka has the letter; however long that takes, for the offset may not move before. A caller that
cannot wait brings a deadline. A crash, or a deadline, between the letter and the offset writes the letter again: its
coordinates tell that it is the same.
"""

import asyncio
import base64
from collections.abc import Iterable

from gateway.contract.wire import DeadLetter
from gateway.stream.codec import encode
from gateway.stream.producer import Producer, StreamBusy
from gateway.stream.reader import Message
from gateway.stream.topics import Topics
from gateway.telemetry import DEAD_LETTERS, logger

log = logger("stream")

MOST_VALUE_BYTES, MOST_KEY_BYTES = 600_000, 1_000
"""Longer ones are cut: in base64 they would not fit a record. The letter says where the whole record is."""
AGAIN_S = (0.1, 5.0)


async def bury(
    producer: Producer, names: Topics, dead: Iterable[tuple[Message, str]], *, consumer: str, at_ms: int
) -> None:
    """Publish a letter for each (record, class of what is wrong with it), in order; returns when Kafka has them."""
    for message, error in dead:
        key, value = (message.key or b"")[:MOST_KEY_BYTES], (message.value or b"")[:MOST_VALUE_BYTES]
        letter = DeadLetter(
            topic=names.label(message.place.topic),
            partition=message.place.partition,
            offset=message.offset,
            consumer=consumer,
            error=error,
            key_hex=None if message.key is None else key.hex(),
            value_b64=base64.b64encode(value).decode(),
            at=at_ms,
        )
        await _surely(producer, names.dead, (key, encode(letter)))
        DEAD_LETTERS.add(1, letter.topic, consumer)
        log.error("dead_letter", consumer=consumer, topic=letter.topic, offset=letter.offset, error=error)


async def _surely(producer: Producer, topic: str, pair: tuple[bytes, bytes]) -> None:
    wait_s, most_s = AGAIN_S
    while True:
        try:
            if (await producer.publish(topic, [pair]))[0] is not None:
                return
        except StreamBusy:
            pass
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, most_s)
