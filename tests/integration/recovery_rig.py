"""Intake, delivery and the ledger's projection over real parts, for lanes that are emptied and heal."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
from pydantic import SecretStr

from gateway.assemble.recovering import recovery
from gateway.contract.consent import Event, EventKind
from gateway.contract.decision import Refusal
from gateway.contract.message import SendRequest
from gateway.contract.registry import Sender
from gateway.guard import Cfg, Guard, Lease
from gateway.guard.cursors import Cursors
from gateway.intake import Answer, Intake
from gateway.ledger import events
from gateway.ledger.appender import Appender
from gateway.ledger.keys import Keys
from gateway.ledger.projection import Projection
from gateway.ledger.recovery import Recovery
from gateway.records import registry
from gateway.rules.pack import load
from gateway.settings import Settings
from gateway.stream.producer import Producer
from gateway.stream.topics import Topics, ensure
from tests.integration.deliver_rig import CLIENT, PARTITIONS, PEPPER, REGISTRY, Rig

MASTER = b"m" * 32
SENDERS = tuple(
    Sender(id=name, signature=name.title(), service_port=f"1069000{2 * n}", marketing_port=f"1069000{2 * n + 1}")
    for n, name in enumerate(("acme", "bolt", "cero", "dome"))
)
SHOP = CLIENT.model_copy(update={"senders": ("*",)})
LANDING_S = 0.4
"""Kafka answers within milliseconds here, and nothing publishes after its process has gone."""
_serial = iter(range(10_000_000))


@dataclass
class Lanes(Rig):
    """A rig whose people are in the ledger, and whose projection gives emptied lanes everything back."""

    pool: Any = None
    appender: Any = None
    recovery: Any = None
    dsn: str = ""
    known: set[str] = field(default_factory=set)

    projecting: Any = None

    async def project(self, recovering: Recovery | None = None) -> None:
        """Be the ledger process."""
        projection = Projection(self.dsn, self.guard, lambda: registry.load(self.pool), recovering or self.recovery)
        self.projecting = asyncio.create_task(projection.run())

    async def rest(self) -> None:
        """Stop being it; whoever waits for its lock goes on."""
        self.projecting.cancel()
        with suppress(asyncio.CancelledError):
            await self.projecting

    async def know(self, numbers: Sequence[str]) -> None:
        """Each number has a standing order with every sender, and consents to their marketing."""
        new = [number for number in numbers if number not in self.known]
        self.known.update(new)
        acts = []
        for number in new:
            for sender in SENDERS:
                acts.append((number, EventKind.RELATIONSHIP, events.relationship(sender.id, "order", "o1")))
                acts.append((number, EventKind.GRANT, events.grant(sender.id, ["marketing", "membership"])))
        for start in range(0, len(acts), 400):
            answers = await self.appender.append([self._event(*act) for act in acts[start : start + 400]])
            assert all(answer.refusal is None for answer in answers)

    def _event(self, number: str, kind: EventKind, data: dict[str, Any]) -> Event:
        return Event(
            event_id=f"e{next(_serial)}",
            kind=kind,
            number=number,
            subject=self.subject(number),
            occurred_at_ms=1_790_000_000_000,
            data=data,
        )

    async def ask(self, number: str, purpose: str = "transaction.shipping", **more: Any) -> Answer | Refusal:
        """One message, whatever comes of it."""
        await self.know([number])
        text = more.pop("text", f"Number {next(_serial)}")
        given = {"to": number, "sender": "acme", "purpose": purpose, "text": text} | more
        (answer,) = await self.intake.send(SHOP, [SendRequest.model_validate(given)])
        return answer

    async def flush(self) -> None:
        await self.guard.server.command("FLUSHDB")

    async def healed(self, within_s: float = 30.0) -> None:
        """Every lane has the ledger's head, and processes may believe it."""
        async with asyncio.timeout(within_s):
            while True:
                head = await self.pool.fetchval("SELECT seq FROM ledger_head")
                with suppress(Exception):
                    if all(c is not None and c >= head for c in await Cursors(self.guard.server).read()):
                        break
                await asyncio.sleep(0.02)
            while not self.cfg.fresh:  # noqa: ASYNC110 - it is polled
                await asyncio.sleep(0.02)

    async def forget_and_heal(self) -> None:
        """What an operator sees: everything gone, then everything back."""
        await self.flush()
        await self.healed()

    async def everything(self, letters: bytes = b"wmiu") -> dict[bytes, Any]:
        """Every key of these kinds and what it holds, lives left out."""
        found: dict[bytes, Any] = {}
        for key in await self.guard.server.command("KEYS", "*"):
            if key[:1] in [letters[n : n + 1] for n in range(len(letters))] and key[1:2] == b"{":
                if key[:1] == b"w":
                    row = await self.guard.server.command("HGETALL", key)
                    pairs = dict(zip(row[::2], row[1::2], strict=True)) if isinstance(row, list) else dict(row)
                    found[key] = {name: value for name, value in pairs.items() if name != b"e"}
                else:
                    found[key] = await self.guard.server.command("GET", key)
        return found


def settings_for(redis_url: str, kafka: str, prefix: str, database_url: str) -> Settings:
    return Settings(
        redis_url=redis_url,
        kafka_bootstrap=kafka,
        database_url=SecretStr(database_url),
        pepper=SecretStr(PEPPER.hex()),
        master_key=SecretStr(MASTER.hex()),
        topic_prefix=prefix,
    )


@asynccontextmanager
async def lanes(redis_url: str, kafka: str, prefix: str, database_url: str) -> AsyncIterator[Lanes]:
    """Everything, its lanes filled. One at a time on one database: a second projection waits for the first."""
    topics = Topics(prefix)
    await ensure(kafka, topics, PARTITIONS, 1)
    guard = await Guard.connect(redis_url)
    await guard.server.command("FLUSHDB")
    pool = await asyncpg.create_pool(database_url, min_size=1, max_size=6)
    async with pool.acquire() as connection:
        await registry.put_client(connection, SHOP.model_copy(update={"key_digests": ("00",)}))
        for sender in SENDERS:
            await registry.put_sender(connection, sender)
            now = datetime.now(UTC)
            await registry.attest(connection, sender.id, sender.marketing_port, free=True, tested_at=now, by="us")
    cfg, packs = Cfg(guard.server), {"cn": load("cn")}
    producer = Producer(kafka, topics)
    await producer.start()
    appender = Appender(pool, Keys(MASTER, PEPPER), guard)
    await appender.start()
    settings = settings_for(redis_url, kafka, prefix, database_url)
    recovering = recovery(settings, guard, packs, landing_s=LANDING_S)
    intake = Intake(
        guard=guard, cfg=cfg, lease=Lease(guard.server), producer=producer, topics=topics, packs=packs, pepper=PEPPER
    )
    rig = Lanes(
        kafka, topics, guard, cfg, producer, intake, REGISTRY, pool=pool, appender=appender, recovery=recovering,
        dsn=database_url,
    )  # fmt: skip
    await cfg.start()
    try:
        await rig.project()
        await rig.healed()
        yield rig
    finally:
        await rig.rest()
        await cfg.close()
        await appender.stop()
        await producer.stop()
        await pool.close()
        await guard.close()
