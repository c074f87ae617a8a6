"""The board over a running stack: what it shows while messages, refusals and complaints come, and what it lets do."""

import asyncio
import re
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from console_rig import Console, connected, console_on
from gateway_rig import Gateway, at, gateway, numbers, shipping
from playwright.sync_api import Page, expect
from visiting import NARROW, WIDER, Visit, unreadable

from gateway.records import registry

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

AUTUMN, WINTER = 1_300, 700
SHOWN_S = 15.0
"""What a crowded machine may need; the run prints what it took."""
WIDE = {"width": 1280, "height": 800}


@dataclass
class World:
    """A running stack and the console before it; `people`: those of the autumn campaign."""

    gate: Gateway
    console: Console
    loop: asyncio.AbstractEventLoop
    people: list[str]

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def complain(self, who: str) -> None:
        told = {"source": "12321", "reporter": who, "at": at(seconds=0), "port": "10690001", "text": "订单已发出"}
        self.run(self.gate.ok("/v1/complaints", told))


async def _sent(gate: Gateway, people: list[str], campaign: str) -> None:
    for first in range(0, len(people), 1000):
        some = people[first : first + 1000]
        await gate.orders(some)
        messages = [shipping(who, f"您的订单已发出，{campaign}", campaign=campaign) for who in some]
        answer = await gate.ok("/v1/messages/batch", {"messages": messages})
        assert {one["status"] for one in answer["results"]} == {"accepted"}


async def _delivered(database_url: str, wanted: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(60):
            count = "SELECT sum(n) FROM outcome_minutes WHERE status = 4"
            while await connection.fetchval(count) != wanted:  # noqa: ASYNC110 - the rows are another process's
                await asyncio.sleep(0.2)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def world(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("board")
    started, stop = threading.Event(), asyncio.Event()
    found: list[tuple[Gateway, asyncio.AbstractEventLoop, list[str]]] = []

    async def serve() -> None:
        try:
            async with gateway(
                folder,
                ("ledger", "settle", "deliver", "edge"),
                redis_url=redis_url,
                kafka=kafka_bootstrap,
                prefix=topic_prefix,
                database_url=database_url,
            ) as gate:
                people = numbers(AUTUMN + WINTER)
                await _sent(gate, people[:AUTUMN], "autumn/2026")
                await _sent(gate, people[AUTUMN:], "winter")
                await _delivered(database_url, AUTUMN + WINTER)
                found.append((gate, asyncio.get_running_loop(), people[:AUTUMN]))
                started.set()
                await stop.wait()
        finally:
            started.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait(150)
    assert found, "the stack did not start"
    gate, loop, people = found[0]
    try:
        with console_on(folder, redis_url, database_url) as console:
            yield World(gate, console, loop, people)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)


def opened(world: World, visit: Visit, name: str, path: str) -> Page:
    visit.page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    page = world.console.sign_in(visit, name, path)
    connected(page)
    return page


def within(page: Page, found: str) -> float:
    began = time.monotonic()
    expect(page.locator(".figure.first")).to_contain_text(found, timeout=SHOWN_S * 1000)
    return time.monotonic() - began


def test_the_complaint_rate_is_first_and_volume_ranks_nobody(world: World, visit: Visit) -> None:
    page = opened(world, visit, "vera", "/")
    first = page.locator("#main .figure").first
    expect(first).to_contain_text("投诉率")
    expect(first).to_contain_text("0 ppm")
    expect(page.locator(".funnel li").nth(3)).to_contain_text("2,000 · 100.0 %")
    world.complain(world.people[0])
    print(f"a complaint was shown after {within(page, '500 ppm'):.1f} s")
    expect(first).to_contain_text("1 件投诉 / 送达 2,000；红线 1,000 ppm")
    expect(page.locator("section", has_text="活动，按投诉率").locator("tbody tr").first).to_contain_text("autumn/2026")
    rows = page.locator("section", has_text="活动，按投诉率").locator("tbody tr")
    assert [row.split()[0] for row in rows.all_inner_texts()] == ["acme/autumn/2026", "acme/winter"]
    expect(rows.first).to_contain_text("769 ppm")


def test_refusals_are_shown_by_reason_as_they_happen(world: World, visit: Visit) -> None:
    page = opened(world, visit, "vera", "/")
    before = page.locator("#main").inner_text()
    assert "无相应关系" not in before
    (stranger,) = numbers(1)
    answer = world.run(world.gate.post("/v1/messages", shipping(stranger, "您的订单已发出")))
    assert answer.status_code == 403
    row = page.locator("section", has_text="拒绝原因").locator("tbody tr", has_text="relationship.missing")
    expect(row).to_contain_text("无相应关系", timeout=SHOWN_S * 1000)
    expect(page.locator(".funnel li").first).to_contain_text("2,001")


def test_the_breaker_opens_before_everybodys_eyes_and_a_named_person_closes_it(world: World, visit: Visit) -> None:
    page = opened(world, visit, "cora", "/")
    expect(page.get_by_role("status")).to_contain_text("没有熔断")
    for who in world.people[1:9]:
        world.complain(who)
    began = time.monotonic()
    stopped = page.locator("a.mark", has_text="campaign:acme/autumn/2026 · 已停止")
    expect(stopped).to_be_visible(timeout=15_000)
    print(f"the opened breaker was shown {time.monotonic() - began:.1f} s after the last complaint")
    visit.keep("overview-zh")
    stopped.click()
    row = page.locator("tbody tr", has_text="campaign:acme/autumn/2026")
    expect(row).to_contain_text("投诉")
    connected(page)
    visit.keep("breakers-zh")
    row.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("操作人：cora")
    visit.keep("breaker-close-zh")
    dialog.get_by_label("原因").fill("已停用该名单并逐一回访")
    dialog.get_by_role("button", name="先试放一部分").click()
    expect(row).to_contain_text("试放 1%")
    row.get_by_role("button").click()
    dialog.get_by_label("原因").fill("试放一天无投诉")
    dialog.get_by_role("button", name="恢复", exact=True).click()
    expect(row).to_contain_text("放行")
    moved = next(one for one in world.console.run(registry.breakers) if one.scope == "campaign:acme/autumn/2026")
    assert (moved.is_open, moved.changed_by, moved.reason) == (False, "cora", "试放一天无投诉")
    page.goto(world.console.url)
    campaign = page.locator("section", has_text="活动，按投诉率").locator("tbody tr", has_text="autumn/2026")
    expect(campaign).to_contain_text("随 sender:acme 停止")  # its own breaker is closed, and still nothing goes
    page.goto(f"{world.console.url}/alerts")
    connected(page)
    stops = page.locator("tbody tr", has_text="熔断已停止")
    told = stops.filter(has=page.get_by_role("cell", name="campaign:acme/autumn/2026", exact=True))
    expect(told).to_contain_text(re.compile("24 小时内投诉 [6-9] 件 / 送达 1,300（.*ppm） · 自动停止：至少"))
    told = stops.filter(has=page.get_by_role("cell", name="sender:acme", exact=True))
    expect(told).to_contain_text(re.compile("先清理 campaign:.*autumn/2026"))
    assert not re.search("is stopped|complaints of", page.locator("#main").inner_text())
    visit.keep("alerts-zh")
    page.goto(f"{world.console.url}/audit")
    connected(page)
    entries = page.locator("table").first.locator("tbody tr")
    expect(entries.nth(1)).to_be_visible()
    assert [("cora" in one, "autumn/2026" in one) for one in entries.all_inner_texts()[:2]] == [(True, True)] * 2
    visit.keep("audit-zh")
    expect(entries.filter(has_text="停止 · port:10690001")).to_contain_text("自动停止：至少")
    assert not re.search("delivered|opened", page.locator("#main").inner_text())


def test_a_senders_and_a_campaigns_page(world: World, visit: Visit) -> None:
    page = opened(world, visit, "vera", "/")
    page.get_by_role("link", name="acme", exact=True).click()
    expect(page.get_by_role("heading", name="发送方", level=1)).to_be_visible()
    expect(page.locator("#main")).to_contain_text("【Acme】")
    connected(page)
    expect(page.locator(".figure.first")).to_contain_text("9 件投诉 / 送达 2,000")
    visit.keep("sender-zh")
    page.get_by_role("link", name="autumn/2026").click()
    expect(page.get_by_role("heading", name="活动", level=1)).to_be_visible()
    expect(page.locator(".figure.first")).to_contain_text("0 件投诉 / 送达 0")  # its breaker weighs what came since
    expect(page.locator(".figure.first")).to_contain_text("人工放行起计")
    expect(page.locator(".funnel")).to_contain_text("1,300")
    connected(page)
    visit.keep("campaign-zh")


def test_in_english_and_dark(world: World, visit: Visit) -> None:
    world.console.run(_likes, "en", "dark")
    page = opened(world, visit, "vera", "/")
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en-US"
    expect(page.locator("svg").first).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 20, 18)"
    visit.keep("overview-en-dark")
    for path, name in (("/breakers", "breakers-en-dark"), ("/senders/acme", "sender-en-dark")):
        page.goto(f"{world.console.url}{path}")
        connected(page)
        visit.keep(name)
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    for path in ("/", "/breakers", "/senders/acme", "/campaigns/acme%2Fautumn%2F2026", "/alerts", "/cleansing"):
        page.goto(f"{world.console.url}{path}")
        connected(page)
        assert (page.evaluate(WIDER), unreadable(page)) == ([], []), path
        if path == "/":
            visit.keep("overview-telephone-en-dark", whole=False)
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]
    world.console.run(_likes, "zh", "dark")
    page.goto(world.console.url)
    connected(page)
    visit.keep("overview-zh-dark")
    world.console.run(_likes, "en", "light")
    page.goto(world.console.url)
    connected(page)
    visit.keep("overview-en")
    page.goto(f"{world.console.url}/alerts")
    connected(page)
    visit.keep("alerts-en")
    world.console.run(_likes, None, None)


async def _likes(connection: Any, lang: str | None, theme: str | None) -> None:
    await connection.execute("UPDATE console_users SET lang = $1, theme = $2 WHERE name = 'vera'", lang, theme)


def test_figures_that_stand_still_say_how_old_they_are_and_go_on(world: World, visit: Visit) -> None:
    page = opened(world, visit, "vera", "/")
    held, free = threading.Event(), threading.Event()

    async def lock(connection: Any) -> None:
        async with connection.transaction():
            await connection.execute("LOCK TABLE breakers IN ACCESS EXCLUSIVE MODE")
            held.set()
            await asyncio.to_thread(free.wait, 60)

    locking = threading.Thread(target=world.console.run, args=(lock,))
    locking.start()
    try:
        assert held.wait(10)
        expect(page.locator(".stale")).to_contain_text("数据停在", timeout=15_000)
        visit.keep("overview-stale-zh", whole=False)
    finally:
        free.set()
        locking.join(20)
    expect(page.locator(".stale")).to_be_hidden(timeout=15_000)
