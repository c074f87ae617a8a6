"""Everything in Kafka: topics, the coalescing producer, and consumers that never commit past unfinished work."""

from aiokafka.errors import KafkaError

from gateway.stream.codec import (
    AcceptedFields,
    Undecodable,
    accepted_bytes,
    accepted_head,
    decode,
    encode,
    encode_fields,
)
from gateway.stream.consumer import Consumer
from gateway.stream.dead import bury
from gateway.stream.group import GroupReader, Read
from gateway.stream.lag import GroupLag
from gateway.stream.past import Past, PastUnreadable
from gateway.stream.producer import Producer, Published, StreamBusy
from gateway.stream.quiet import quieten
from gateway.stream.reader import Batch, Message, Place, Reader
from gateway.stream.topics import OffsetsLost, Topics, ensure, partition_by_class, partition_of

__all__ = [
    "AcceptedFields",
    "Batch",
    "Consumer",
    "GroupLag",
    "GroupReader",
    "KafkaError",
    "Message",
    "OffsetsLost",
    "Past",
    "PastUnreadable",
    "Place",
    "Producer",
    "Published",
    "Read",
    "Reader",
    "StreamBusy",
    "Topics",
    "Undecodable",
    "accepted_bytes",
    "accepted_head",
    "bury",
    "decode",
    "encode",
    "encode_fields",
    "ensure",
    "partition_by_class",
    "partition_of",
]

quieten()
