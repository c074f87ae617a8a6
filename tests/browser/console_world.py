"""A whole running stack with a brand's day in it, and the console before it: what its pages are walked on.

Everything is made by the API and the console's own acts: people with consents and orders, messages that were delivered
or not, somebody who left, complaints that are clear, unclear and about nothing of ours.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console_rig import Console, console_on
from gateway_rig import Gateway, at, gateway, number, shipping

CAMPAIGN = "ship-2026-11"
TEXT = "您的订单已从杭州仓发出，预计明日送达，请保持电话畅通"
SAID = "天天收到你们的发货短信，我没有买过东西，要求停止发送"
DEAD = "+8619900000002"


@dataclass
class World:
    """The processes, run from a loop in a thread of its own, the console, and who is who."""

    gate: Gateway
    console: Console
    loop: asyncio.AbstractEventLoop
    people: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    cases: dict[str, str] = field(default_factory=dict)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)


@contextmanager
def world_on(folder: Path, **settings: str) -> Iterator[World]:
    """Until the body ends. `settings`: redis_url, kafka, prefix, database_url."""
    started, stop, found, failed = threading.Event(), asyncio.Event(), [], []

    async def serve() -> None:
        try:
            async with gateway(folder, ("ledger", "settle", "records", "deliver", "edge"), **settings) as gate:
                found.append((gate, asyncio.get_running_loop()))
                started.set()
                await stop.wait()
        except BaseException as fault:
            failed.append(fault)
            raise
        finally:
            started.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait(90)
    assert found, failed
    gate, loop = found[0]
    try:
        with console_on(folder, settings["redis_url"], settings["database_url"]) as console:
            world = World(gate, console, loop)
            world.run(_lived(world))
            yield world
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)


async def _lived(world: World) -> None:
    gate = world.gate
    people = {name: number() for name in ("mei", "jun", "lan", "tao", "hui")} | {"dead": DEAD}
    world.people = people
    everybody = list(people.values())
    await gate.orders(everybody)
    await gate.consents([people["mei"], people["lan"]], ["marketing.promotion", "invite"])
    for name, to in people.items():
        body = shipping(to, f"【Acme】{TEXT}", campaign=CAMPAIGN, list_source="shop-orders", client_ref=f"order-{name}")
        world.messages[name] = (await gate.send(body))["id"]
    again = shipping(people["tao"], f"【Acme】{TEXT}。", campaign=CAMPAIGN, client_ref="order-tao")
    world.messages["tao again"] = (await gate.send(again))["id"]
    wanted = {
        "to": people["mei"], "sender": "acme", "purpose": "marketing.promotion", "campaign": "spring",
        "text": "【Acme】新品到店，会员专享八折。拒收请回复R",
    }  # fmt: skip
    world.messages["promotion"] = (await gate.send(wanted))["id"]
    for name in people:
        await gate.until(world.messages[name], "delivered", "undelivered", within_s=30)
    await gate.ok(f"/v1/recipients/{people['lan']}/withdraw", {"sender": "acme", "reason": "called the shop"})
    for name, who, more in (
        ("clear", "jun", {"port": "10690001", "text": SAID}),
        ("unclear", "tao", {"port": "10690001", "text": TEXT}),
        ("unmatched", "hui", {"port": "10690009", "text": "贷款广告骚扰", "source": "carrier"}),
    ):
        told = {"source": "12321", "reporter": people[who], "at": at(seconds=0), "ref": f"12321-{name}", **more}
        world.cases[name] = (await gate.ok("/v1/complaints", told))["id"]
