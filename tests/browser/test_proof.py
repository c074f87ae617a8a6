"""From a box ticked in a shop to proof in a court's hands: every process real, the person in a real Chromium.

The shop is another origin with a strict policy. What a stranger then checks is one saved file, with keys got apart
from it. The pack's night holds marketing: a message of the consent is delivered, or waits for the morning, whichever
the hour asks for, and its evidence holds either way; that of an order's notice is delivered at any hour.
"""

import asyncio
import threading
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from zipfile import ZipFile

import pytest
from aiokafka import AIOKafkaConsumer
from gateway_rig import Gateway, at, gateway, number, shipping
from opt_in_form import TOPIC, Codes, draft
from playwright.sync_api import Browser, FrameLocator, expect
from visiting import ZH, Visit, kept, shop_on

from gateway.contract.decision import Class
from gateway.local.parts import free_port
from gateway.rules.pack import load
from gateway.stream.topics import Topics

pytestmark = pytest.mark.browser
CARRIER = {"authorization": "Bearer carrier-key"}


@dataclass
class World:
    """The processes, run from a loop in a thread of its own, and a shop's port."""

    gate: Gateway
    codes: Codes
    loop: asyncio.AbstractEventLoop
    shop: int

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(40)

    def get(self, path: str) -> bytes:
        answer = self.run(self.gate.http.get(path))
        assert answer.status_code == 200, answer.text
        content: bytes = answer.content
        return content

    def post(self, path: str, body: Any, **more: Any) -> Any:
        return self.run(self.gate.post(path, body, **more))


@pytest.fixture(scope="module")
def world(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    started, stop, found = threading.Event(), asyncio.Event(), []
    settings = {"redis_url": redis_url, "kafka": kafka_bootstrap, "prefix": topic_prefix, "database_url": database_url}
    shop = free_port()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            gate = await stack.enter_async_context(gateway(tmp_path_factory.mktemp("proof"), **settings))
            topic = Topics(topic_prefix).messages(Class.CONSENT)
            sent = AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest")
            await sent.start()
            stack.push_async_callback(sent.stop)
            added = await gate.post("/v1/forms", draft(allowed_origins=[f"http://127.0.0.1:{shop}"]))
            assert added.status_code == 201, added.text
            found.append(World(gate, Codes(sent), asyncio.get_running_loop(), shop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(90)
    yield found[0]
    found[0].loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    assert not thread.is_alive()


def agree(world: World, visit: Visit, person: str) -> FrameLocator:
    """In the shop's pop-up the person ticks one box, types the number and agrees."""
    visit.page.goto(f"http://127.0.0.1:{world.shop}/")
    frame = visit.page.frame_locator("iframe")
    frame.get_by_label(ZH["promotion"]).click()
    frame.get_by_label(ZH["number"]).fill(person)
    frame.get_by_role("button", name=ZH["agree"]).click()
    expect(frame.get_by_label(ZH["code"])).to_be_visible()
    return frame


def promotion(person: str) -> dict[str, Any]:
    return {"to": person, "sender": "acme", "purpose": TOPIC, "text": f"新品 {uuid.uuid4()}"}


def by_day() -> bool:
    """Whether the pack lets marketing go now, and for the next minute."""
    start, end = load("cn").hours
    now = datetime.now(UTC) + timedelta(hours=8)
    return start <= now.hour * 60 + now.minute < end - 1


def promoted(world: World, person: str) -> str:
    """A marketing message that the consent permits: delivered by day, held by night. Its id."""
    answer = world.post("/v1/messages", promotion(person))
    assert answer.status_code == 202, answer.text
    accepted = answer.json()
    assert accepted["decision"]["basis"] == "consent"
    if by_day():
        world.run(world.gate.until(accepted["id"], "delivered"))
    else:
        assert accepted["status"] == "held"
        assert accepted["release_at"][11:16] == "00:00"  # eight in the morning in China
        world.run(world.gate.until(accepted["id"], "held"))
    return str(accepted["id"])


def shipped(world: World, person: str) -> str:
    """A notice of an order, delivered at any hour. Its id."""
    order = {"recipient": person, "sender": "acme", "kind": "order", "ref": "o-7", "occurred_at": at(seconds=-1)}
    world.post("/v1/relationships", order)
    sent = world.run(world.gate.send(shipping(person)))
    world.run(world.gate.until(sent["id"], "delivered"))
    return str(sent["id"])


def saved(world: World, folder: Path, message: str) -> Path:
    file = folder / f"{message}.zip"
    file.write_bytes(world.get(f"/v1/evidence/{message}"))
    return file


def verified(world: World, bundle: Path, keys: Path, *more: str) -> CompletedProcess[str]:
    return world.gate.command("evidence", "verify", str(bundle), "--key", str(keys), *more)


def keys_of(world: World, folder: Path) -> Path:
    file = folder / "keys.txt"
    file.write_bytes(world.get("/v1/ledger/keys"))
    return file


def holds(world: World, bundle: Path, keys: Path) -> None:
    """It verifies alone and with the log's tiles; with a byte of it changed it does not."""
    tiles = str(world.gate.folder / "ledger")
    alone, whole = verified(world, bundle, keys), verified(world, bundle, keys, "--tiles", tiles)
    assert (alone.returncode, whole.returncode) == (0, 0), alone.stdout + whole.stdout
    assert "no entry of this person was left out" in whole.stdout
    assert "FAIL" not in whole.stdout
    assert f"about message (所涉短信): {bundle.stem}, acme, " in whole.stdout
    raw = bytearray(bundle.read_bytes())
    raw[len(raw) // 2] ^= 1
    broken = bundle.with_suffix(".broken.zip")
    broken.write_bytes(raw)
    assert verified(world, broken, keys).returncode == 1


def refused_after_withdrawal(world: World, person: str) -> None:
    answer = world.post(f"/v1/recipients/{person}/withdraw", {"sender": "acme", "reason": "asked in the shop"})
    assert answer.status_code == 200, answer.text
    for body in (promotion(person), shipping(person)):
        refused = world.post("/v1/messages", body)
        assert (refused.status_code, refused.json()["code"]) in {(403, "suppressed"), (403, "consent.withdrawn")}


def test_from_a_tick_in_a_shop_to_a_proof_and_to_a_refusal(world: World, visit: Visit, tmp_path: Path) -> None:
    person, keys = number(), keys_of(world, tmp_path)
    with shop_on(world.shop, world.gate.url):
        frame = agree(world, visit, person)
        asking = world.run(world.codes.to(person))
        world.run(world.gate.until(asking["id"], "delivered"))
        frame.get_by_label(ZH["code"]).fill(world.run(world.codes.code(person)))
        frame.get_by_role("button", name=ZH["confirm"]).click()
        expect(frame.get_by_role("heading", name="订阅成功")).to_be_visible()
    promoted_, shipped_ = promoted(world, person), shipped(world, person)
    for message in (promoted_, shipped_):
        bundle = saved(world, tmp_path, message)
        holds(world, bundle, keys)
    assert "1 consents by two records" in verified(world, tmp_path / f"{promoted_}.zip", keys).stdout
    refused_after_withdrawal(world, person)
    again = saved(world, tmp_path, promoted_)
    assert verified(world, again, keys).returncode == 0  # it was permitted then, and the withdrawal is shown
    with ZipFile(again) as archive:
        assert "withdrawal" in archive.read("bundle.json").decode()


def test_by_replying_y_instead_of_typing_the_code(world: World, visit: Visit, tmp_path: Path) -> None:
    person, keys = number(), keys_of(world, tmp_path)
    with shop_on(world.shop, world.gate.url):
        agree(world, visit, person)
        asking = world.run(world.codes.to(person))
        sent = world.run(world.gate.until(asking["id"], "delivered"))
    reply = {"id": uuid.uuid4().hex, "from": person, "to": sent["port"], "text": "Y", "at": at()}
    answer = world.post("/v1/carriers/simulator/replies", {"replies": [reply]}, headers=CARRIER)
    assert answer.status_code == 200, answer.text
    world.run(permitted(world.gate, person))
    message = promoted(world, person)
    bundle = saved(world, tmp_path, message)
    holds(world, bundle, keys)
    with ZipFile(bundle) as archive:
        assert "method: reply" in archive.read("report.html").decode()
    refused_after_withdrawal(world, person)


async def permitted(gate: Gateway, person: str) -> None:
    """Wait until settle has read the reply."""
    for _ in range(300):
        if (await gate.ok("/v1/messages/check", promotion(person)))["status"] != "refused":
            return
        await asyncio.sleep(0.05)
    pytest.fail("the reply did not permit anything within 15 s")


LONG = """() => [...document.querySelectorAll('code, td, th, pre, p')]
  .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
  .map(e => e.textContent.slice(0, 60))"""


def test_the_report_is_readable_on_paper_and_on_a_narrow_phone(
    world: World, browser: Browser, visit: Visit, tmp_path: Path
) -> None:
    person = number()
    with shop_on(world.shop, world.gate.url):
        frame = agree(world, visit, person)
        frame.get_by_label(ZH["code"]).fill(world.run(world.codes.code(person)))
        frame.get_by_role("button", name=ZH["confirm"]).click()
        expect(frame.get_by_role("heading", name="订阅成功")).to_be_visible()
    message = promoted(world, person)
    refused_after_withdrawal(world, person)
    file = tmp_path / "report.html"
    with ZipFile(saved(world, tmp_path, message)) as archive:
        file.write_bytes(archive.read("report.html"))
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name, width in (("wide", 900), ("phone", 320)):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(file.as_uri())
        kept("ASSENT_PICTURES", f"report-{name}.png", page.screenshot(full_page=True))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(LONG) == [], name
    page.emulate_media(media="print")
    kept("ASSENT_PICTURES", "report.pdf", page.pdf(prefer_css_page_size=True))
    assert asked == [file.as_uri()] * 2
    context.close()
