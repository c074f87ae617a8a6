"""The other floor: aiokafka's `send()`, one record at a time, in a process of its own. Prints messages and CPU seconds.

Run as `python -m loadtests.rawsend BOOTSTRAP TOPIC VALUE_BYTES SECONDS`: groups of 500 records like a batch's, each
sent by `send()` and then awaited together, with the gateway's own durability (acks=all, idempotent).
"""

import asyncio
import json
import os
import sys
import time

import uvloop
from aiokafka import AIOKafkaProducer

GROUP = 500
WARM_S = 0.5


async def run(bootstrap: str, topic: str, size: int, seconds: float) -> dict[str, float]:
    """Send for some seconds after a warm-up; what it took."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        value, keys = os.urandom(size), [os.urandom(16) for _ in range(GROUP)]

        async def group() -> None:
            sent = [await producer.send(topic, value, key=key) for key in keys]
            await asyncio.gather(*sent)

        async def until(end: float) -> int:
            groups = 0
            while time.perf_counter() < end:
                await group()
                groups += 1
            return groups * GROUP

        await until(time.perf_counter() + WARM_S)
        cpu, wall = time.process_time(), time.perf_counter()
        messages = await until(wall + seconds)
        return {
            "messages": messages,
            "cpu_s": time.process_time() - cpu,
            "seconds": time.perf_counter() - wall,
        }
    finally:
        await producer.stop()


if __name__ == "__main__":
    uvloop.install()
    print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))))
