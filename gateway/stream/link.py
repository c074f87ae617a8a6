"""One connection to Kafka for publishing, replaced whenever it cannot be trusted any more.

Owns an aiokafka producer and its end. Promises: after a failed or stuck batch nothing more goes over that client (its
sequence numbers have a gap, or a partition of it may stay muted for ever), a new one is connected with backoff, and
closing never waits for a broker that is away (aiokafka#1101). On a crash the broker forgets the client; nothing is
owed to it.
"""

import asyncio
import contextlib
import random

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, ProducerClosed
from aiokafka.producer.message_accumulator import BatchBuilder

from gateway.telemetry import logger

log = logger("stream")

CONNECT_S = 5.0
REQUEST_MS = 5_000
"""A produce request unanswered for so long is sent again over a new socket; the broker drops the copy."""
BACKOFF_S = (0.1, 2.0)


class Link:
    """Sends batches; reconnects by itself."""

    def __init__(self, bootstrap: str, batch_bytes: int) -> None:
        self._bootstrap, self._batch_bytes = bootstrap, batch_bytes
        self._client: AIOKafkaProducer | None = None
        self._ready = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def connected(self) -> bool:
        """Whether a client stands."""
        return self._ready.is_set()

    def start(self) -> None:
        """Begin connecting."""
        if self._connecting is None and not self._stopped:
            self._connecting = asyncio.create_task(self._connect())

    async def ready(self) -> None:
        """Wait until a client stands; callers bring the deadline."""
        await self._ready.wait()

    async def answers(self) -> bool:
        """Whether a broker answers now; callers bring the deadline. A client stands for long after its broker fell."""
        return self._client is not None and bool(await self._client.client.force_metadata_update())

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has. Raises KafkaError for an unknown topic; callers bring the deadline."""
        await self.ready()
        if self._client is None:
            raise KafkaConnectionError
        return len(await self._client.partitions_for(topic))

    def batch(self) -> BatchBuilder:
        """An empty batch. Only while connected."""
        if self._client is None:
            raise KafkaConnectionError
        return self._client.create_batch()

    async def send(self, batch: BatchBuilder, topic: str, partition: int, *, stuck_s: float) -> int:
        """Send a batch and wait for its acknowledgement: the first record's offset, or -1 when not told.

        One batch at a time per partition. Raises KafkaError, and then this client is given up.
        """
        client = self._client
        if client is None:
            raise KafkaConnectionError
        try:
            async with asyncio.timeout(stuck_s):
                placed = await (await client.send_batch(batch, topic, partition=partition))
        except TimeoutError:
            self._give_up(client)
            raise KafkaTimeoutError from None
        except KafkaError:
            self._give_up(client)
            raise
        return int(placed.offset)

    async def stop(self) -> None:
        """Close; bounded."""
        self._stopped = True
        self._ready.clear()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._client is not None:
            self._end(self._client, grace_s=1.0)
            self._client = None
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _give_up(self, client: AIOKafkaProducer) -> None:
        if self._client is not client:
            return
        self._client = None
        self._ready.clear()
        self._end(client, grace_s=0.0)
        self._connecting = None
        self.start()

    def _end(self, client: AIOKafkaProducer, *, grace_s: float) -> None:
        task = asyncio.create_task(_close(client, grace_s))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _connect(self) -> None:
        delay_s, limit_s = BACKOFF_S
        while True:
            client = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id="assent",
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_batch_size=self._batch_bytes,
                request_timeout_ms=REQUEST_MS,
                retry_backoff_ms=50,
                metadata_max_age_ms=60_000,
            )
            try:
                async with asyncio.timeout(CONNECT_S):
                    await client.start()
            except Exception as error:  # noqa: BLE001 - whatever it is, the only way on is to try again
                log.warning("kafka_unreachable", error=type(error).__name__)
                await _close(client, 0.0)
            except BaseException:
                await _close(client, 0.0)
                raise
            else:
                self._client = client
                self._ready.set()
                return
            await asyncio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            delay_s = min(delay_s * 2, limit_s)


async def _close(client: AIOKafkaProducer, grace_s: float) -> None:
    """End a client within `grace_s` plus a moment, whatever the broker does.

    aiokafka's `stop` waits for every batch's answer (aiokafka#1101), so unanswered batches are failed and the sockets
    closed under it; that needs two of its private names, and a test with a frozen broker holds it to this.
    """
    ending = asyncio.create_task(client.stop())
    done, _ = await asyncio.wait([ending], timeout=grace_s) if grace_s else (set(), None)
    if not done:
        client._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await client.client.close()
        _, late = await asyncio.wait([ending], timeout=1.0)
        for task in late:
            task.cancel()
    await asyncio.gather(ending, return_exceptions=True)
