"""What delivering one class needs from the other rooms, handed over once; and a message on its way.

Nothing here decides. `Means` is shared by every partition of the class; an `Item` is one attempt at one message with
its place in Kafka, which names the claim.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gateway.carriers.carrier import Carrier, Submit
from gateway.contract.decision import Class
from gateway.contract.wire import Accepted
from gateway.deliver.outbox import Outbox
from gateway.deliver.routing import carrier_of
from gateway.deliver.slots import Slots
from gateway.guard import Cfg, Claim, Guard
from gateway.rules import hours
from gateway.rules.pack import Pack
from gateway.rules.plan import Plan, plan
from gateway.stream.reader import Place

STALE_CHECK_S = 0.1


def wall_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Item:
    """One attempt at one message. `route` is the carrier it goes to, none where that one does not run here."""

    accepted: Accepted
    key: bytes
    place: Place
    offset: int
    subject: bytes
    plan: Plan
    route: str | None

    @property
    def id(self) -> str:
        """The message's id."""
        return self.accepted.id

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.accepted.attempt

    def again(self, attempt: int) -> "Item":
        """The same message and place as another attempt."""
        return replace(self, accepted=self.accepted.model_copy(update={"attempt": attempt}))

    def claim(self) -> Claim:
        """What the guard is asked."""
        return Claim(
            id=self.accepted.id,
            attempt=self.accepted.attempt,
            subject=self.subject,
            plan=self.plan,
            partition=self.place.partition,
            offset=self.offset,
            approved=self.accepted.approval is not None,
        )

    def submit(self) -> Submit:
        """What the carrier is given."""
        accepted = self.accepted
        return Submit(accepted.id, accepted.to, accepted.port, accepted.text, accepted.parts, accepted.attempt)


@dataclass(frozen=True, slots=True)
class Means:
    """The parts one class is delivered with. `carriers` and `slots` have the same names; `default` is one of them."""

    cls: Class
    guard: Guard
    cfg: Cfg
    outbox: Outbox
    carriers: Mapping[str, Carrier]
    slots: Mapping[str, Slots]
    default: str
    packs: Mapping[str, Pack]
    now_ms: Callable[[], int] = wall_ms
    chance: Callable[[], float] = random.random

    @property
    def batch(self) -> int:
        """The most messages one claim may hold: what every carrier can grant at once."""
        return min(slots.most(self.cls) for slots in self.slots.values())

    def item(self, accepted: Accepted, key: bytes | None, place: Place, offset: int) -> Item | None:
        """The message with its plan and route; None where its sender, pack or purpose is no longer known."""
        sender = self.cfg.sender(accepted.sender)
        pack = None if sender is None else self.packs.get(sender.pack)
        if sender is None or pack is None or accepted.purpose not in pack.purposes:
            return None
        subject = bytes.fromhex(accepted.subject)
        route = carrier_of(sender, self.default, self.carriers)
        return Item(accepted, key or subject, place, offset, subject, plan(pack, sender, accepted.purpose), route)

    def opens_at(self, item: Item, now_ms: int) -> int | None:
        """When the quiet hours that forbid a message now end; None where none do."""
        sender = self.cfg.sender(item.accepted.sender) if item.plan.quiet else None
        pack = None if sender is None else self.packs.get(sender.pack)
        purpose = None if pack is None else pack.purposes.get(item.accepted.purpose)
        return None if pack is None or purpose is None else hours.release_at(purpose, pack, now_ms)

    async def fresh(self) -> None:
        """Wait while the ledger process shows no sign of life: an opt-out that cannot be recorded stops the sending."""
        while not self.cfg.fresh:  # noqa: ASYNC110 - time, not an event, makes it stale
            await asyncio.sleep(STALE_CHECK_S)
