"""The consent pages as people meet them: a real Chromium, by mouse, by keyboard, by screen reader, inside a shop."""

import asyncio
import re
import threading
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from edge_app import Running, key, running
from opt_in_form import ARRIVALS, TOPIC, Codes, codes, draft, number
from playwright.sync_api import Browser, FrameLocator, Page, expect
from visiting import ZH, Visit, shop_on, unreadable

from gateway.contract.ids import subject_of
from gateway.local.parts import free_port

pytestmark = pytest.mark.browser


@dataclass
class Served:
    """The edge in a thread of its own, and what it sent."""

    edge: Running
    codes: Codes
    loop: asyncio.AbstractEventLoop
    shop: int
    """The port of the shop whose pages may show the form, as 127.0.0.1; as localhost they may not."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def code(self, person: str) -> str:
        code: str = self.run(self.codes.code(person))
        return code

    def grants(self, person: str) -> list[dict[str, Any]]:
        history = self.run(self.edge.gate.reading.history(subject_of(self.edge.gate.pepper, person)))
        return [row["data"] for row in history if row["kind"] == "grant"]

    def waiting(self) -> int:
        count: int = self.run(self.edge.gate.pool.fetchval("SELECT count(*) FROM opt_ins"))
        return count

    def promote(self, person: str) -> int:
        body = {"to": person, "sender": "acme", "purpose": TOPIC, "text": f"新品 {uuid.uuid4()}"}
        with httpx.Client(base_url=self.edge.url, headers={"authorization": f"Bearer {key('shop')}"}) as http:
            return http.post("/v1/messages", json=body).status_code


@pytest.fixture(scope="module")
def served(redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str) -> Iterator[Served]:
    started, stop, found = threading.Event(), asyncio.Event(), []
    shop = free_port()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            edge = await stack.enter_async_context(running(redis_url, kafka_bootstrap, topic_prefix, database_url))
            read = await stack.enter_async_context(codes(edge, kafka_bootstrap))
            added = await edge.http.post("/v1/forms", json=draft(allowed_origins=[f"http://127.0.0.1:{shop}"]))
            assert added.status_code == 201, added.text
            found.append(Served(edge, read, asyncio.get_running_loop(), shop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    yield found[0]
    found[0].loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def shop(served: Served) -> Iterator[Any]:
    with shop_on(served.shop, served.edge.url) as server:
        yield server


def form(served: Served, visit: Visit, query: str = "") -> Page:
    visit.page.goto(f"{served.edge.url}/c/acme{query}")
    return visit.page


def confirm(served: Served, page: Page | FrameLocator, person: str) -> None:
    page.get_by_label(ZH["code"]).fill(served.code(person))
    page.get_by_role("button", name=ZH["confirm"]).click()


# --- the page --------------------------------------------------------------------------------------------------------


def test_by_mouse(served: Served, visit: Visit) -> None:
    page, person = form(served, visit), number()
    boxes = page.get_by_role("checkbox")
    assert [boxes.nth(n).is_checked() for n in range(boxes.count())] == [False, False]
    visit.picture("form-zh")
    page.get_by_text(ZH["promotion"], exact=True).click()
    page.get_by_label(ZH["arrivals"]).click()
    page.get_by_label(ZH["arrivals"]).click()
    page.get_by_label(ZH["number"]).fill(person.removeprefix("+86"))
    visit.picture("form-zh-ticked")
    page.get_by_role("button", name=ZH["agree"]).click()
    expect(page.get_by_role("heading", name="请确认这是您的号码")).to_be_visible()
    visit.picture("code-zh")
    page.get_by_label(ZH["code"]).fill("00000x")
    page.get_by_role("button", name=ZH["confirm"]).click()
    expect(page.get_by_role("alert")).to_contain_text("验证码不正确")
    visit.picture("code-zh-wrong")
    confirm(served, page, person)
    expect(page.get_by_role("heading", name="订阅成功")).to_be_visible()
    visit.picture("done-zh")
    assert served.promote(person) == 202
    (grant,) = served.grants(person)
    proof = grant["evidence"]["first"]["record"]["proof"]
    assert grant["topics"] == [TOPIC]
    assert proof["events_recorded"] is True
    told = [(act["topic"], act["ticked"], act["by"], act["trusted"]) for act in proof["events"]]
    assert told == [(TOPIC, True, "mouse", True), (ARRIVALS, True, "mouse", True), (ARRIVALS, False, "mouse", True)]
    assert "Chrome" in proof["where"]["user_agent"]


def test_by_keyboard_alone(served: Served, visit: Visit) -> None:
    page, person = form(served, visit), number()

    def focused() -> str:
        return str(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))

    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(focused())
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", order
    assert order == ["English", "topic-1", "topic-2", "number", ZH["agree"], ZH["decline"]]
    for _ in range(4):
        page.keyboard.press("Shift+Tab")
    assert focused() == "topic-1"
    page.keyboard.press("Space")
    visit.picture("form-zh-focus")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type(person.removeprefix("+86"))
    page.keyboard.press("Enter")
    expect(page.get_by_label(ZH["code"])).to_be_visible()
    while focused() != "code":
        page.keyboard.press("Tab")
    page.keyboard.type(served.code(person))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="订阅成功")).to_be_visible()
    (grant,) = served.grants(person)
    (act,) = grant["evidence"]["first"]["record"]["proof"]["events"]
    assert (act["topic"], act["by"], act["trusted"]) == (ARRIVALS, "keyboard", True)


def test_what_a_screen_reader_reads(served: Served, visit: Visit) -> None:
    page = form(served, visit)
    tree = page.locator("body").aria_snapshot()
    for told in (
        '- heading "接收 Acme 的短信？" [level=1]',
        '- group "请勾选您愿意接收的内容（可多选，均为自愿）"',
        '- checkbox "新品到店邀约"',
        '- checkbox "优惠信息"',
        '- textbox "手机号码"',
        '- button "同意并获取确认短信"',
        '- button "不用了"',
        '- link "查看完整隐私政策"',
    ):
        assert told in tree, tree
    assert "[checked]" not in tree
    box = page.get_by_role("checkbox", name=ZH["promotion"])
    assert "每周至多1条" in str(
        box.evaluate("box => document.getElementById(box.getAttribute('aria-describedby')).textContent")
    )
    page.get_by_role("button", name=ZH["agree"]).click()
    expect(page.get_by_role("alert")).to_contain_text("请至少勾选一项")
    expect(page.get_by_role("checkbox", name=ZH["arrivals"])).to_be_focused()
    box.check()
    page.get_by_label(ZH["number"]).fill("123")
    page.get_by_role("button", name=ZH["agree"]).click()
    expect(page.get_by_role("alert")).to_contain_text("请填写有效的手机号码")
    expect(page.get_by_label(ZH["number"])).to_be_focused()
    assert box.is_checked()
    visit.picture("form-zh-error")
    page.get_by_label(ZH["number"]).fill("1234567")
    page.get_by_role("button", name=ZH["agree"]).click()
    expect(page.get_by_role("alert")).to_contain_text("请填写有效的手机号码")
    assert not page.get_by_role("checkbox", name=ZH["promotion"]).is_checked()


def test_declining_is_one_click_and_leaves_nothing(served: Served, visit: Visit) -> None:
    page, before = form(served, visit), served.waiting()
    agree, decline = (page.get_by_role("button", name=ZH[name]) for name in ("agree", "decline"))
    looks = "b => { const s = getComputedStyle(b); return [s.color, s.backgroundColor, s.fontSize, s.fontWeight] }"
    assert agree.evaluate(looks) == decline.evaluate(looks)
    assert (agree.bounding_box() or {})["height"] == (decline.bounding_box() or {})["height"]
    decline.click()
    expect(page.get_by_role("status")).to_contain_text("没有记录您的任何信息")
    visit.picture("declined-zh")
    assert served.waiting() == before


def test_a_box_ticked_by_a_program_is_nobodys(served: Served, visit: Visit) -> None:
    for click in (
        "document.getElementById('topic-1').click()",
        "document.querySelector('label[for=topic-1]').click()",
        "document.getElementById('topic-1').checked = true",
    ):
        page = form(served, visit)
        page.evaluate(click)
        page.get_by_label(ZH["number"]).fill(number())
        page.get_by_role("button", name=ZH["agree"]).click()
        expect(page.get_by_role("alert")).to_contain_text("请您本人勾选")


def test_without_script(served: Served, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    page, person = context.new_page(), number()
    page.goto(f"{served.edge.url}/c/acme")
    page.get_by_label(ZH["promotion"]).click()
    page.get_by_label(ZH["number"]).fill(person)
    page.get_by_role("button", name=ZH["agree"]).click()
    confirm(served, page, person)
    expect(page.get_by_role("heading", name="订阅成功")).to_be_visible()
    (grant,) = served.grants(person)
    assert grant["evidence"]["first"]["record"]["proof"]["events_recorded"] is False
    context.close()


def test_in_english(served: Served, visit: Visit) -> None:
    page, person = form(served, visit), number()
    page.get_by_role("link", name="English").click()
    expect(page.get_by_role("heading", name="Text messages from Acme?")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.get_by_role("link", name="中文").get_attribute("lang") == "zh-CN"
    visit.picture("form-en")
    page.get_by_label("Promotions").click()
    page.get_by_label("Mobile number").fill(person)
    page.get_by_role("button", name="Agree and get the confirmation").click()
    visit.picture("code-en")
    assert "reply Y" in served.run(served.codes.to(person))["text"]
    page.get_by_label("6-digit code").fill(served.code(person))
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name="You are subscribed")).to_be_visible()
    visit.picture("done-en")


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_narrow_and_zoomed(served: Served, visit: Visit, lang: str) -> None:
    page = visit.page
    page.set_viewport_size({"width": 320, "height": 640})
    form(served, visit, f"?lang={lang}")
    visit.picture(f"form-{lang}-320")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    visit.picture(f"form-{lang}-320-200")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_contrast_is_aa(served: Served, visit: Visit) -> None:
    page = form(served, visit)
    page.get_by_label(ZH["promotion"]).check()
    page.get_by_label(ZH["number"]).fill("123")
    page.get_by_role("button", name=ZH["agree"]).click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert unreadable(page) == []
    page.get_by_role("button", name=ZH["decline"]).click()
    expect(page.get_by_role("status")).to_be_visible()
    assert unreadable(page) == []


# --- in a shop -------------------------------------------------------------------------------------------------------


def in_shop(served: Served, visit: Visit, host: str = "127.0.0.1") -> Page:
    visit.page.goto(f"http://{host}:{served.shop}/")
    return visit.page


def test_the_widget_in_a_shop(served: Served, visit: Visit, shop: Any) -> None:
    page, person = in_shop(served, visit), number()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    expect(dialog).to_have_accessible_name("接收 Acme 的短信？")
    expect(page.get_by_role("button", name="不用了")).to_be_focused()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_label(ZH["promotion"])).to_be_visible()
    visit.picture("widget")
    inside = []
    for _ in range(14):
        page.keyboard.press("Tab")
        inside.append(page.evaluate("!!document.activeElement.closest('[role=dialog]')"))
    assert all(inside)
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("!!document.activeElement.closest('[role=dialog]')")
    frame.get_by_label(ZH["promotion"]).click()
    frame.get_by_label(ZH["number"]).fill(person)
    frame.get_by_role("button", name=ZH["agree"]).click()
    expect(frame.get_by_label(ZH["code"])).to_be_visible()
    visit.picture("widget-code")
    confirm(served, frame, person)
    expect(frame.get_by_role("heading", name="订阅成功")).to_be_visible()
    visit.picture("widget-done")
    page.get_by_role("button", name="关闭").click()
    expect(dialog).to_have_count(0)
    assert page.evaluate("window.told") == [{"form": "acme", "outcome": "granted"}]
    page.get_by_role("button", name="Buy").click()
    assert page.title() == "bought"
    (grant,) = served.grants(person)
    where = grant["evidence"]["first"]["record"]["proof"]["where"]
    assert where["page"] == f"http://127.0.0.1:{served.shop}/"
    assert where["origin"] == f"http://127.0.0.1:{served.shop}"
    page.reload()
    page.wait_for_load_state("networkidle")
    expect(dialog).to_have_count(0)


@pytest.mark.parametrize("how", ["escape", "escape inside", "button", "button inside"])
def test_the_widget_is_declined_and_does_not_nag(served: Served, visit: Visit, shop: Any, how: str) -> None:
    shop.extra = 'data-open="manual"'
    page, before = in_shop(served, visit), served.waiting()
    page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="Messages").click()
    dialog, frame = page.get_by_role("dialog"), page.frame_locator("iframe")
    expect(dialog).to_be_visible()
    match how:
        case "escape":
            page.keyboard.press("Escape")
        case "escape inside":
            frame.get_by_label(ZH["number"]).focus()
            page.keyboard.press("Escape")
        case "button":
            dialog.get_by_role("button", name="不用了").click()
        case _:
            frame.get_by_role("button", name=ZH["decline"]).click()
    expect(dialog).to_have_count(0)
    assert page.evaluate("window.told") == [{"form": "acme", "outcome": "declined"}]
    assert page.evaluate("document.activeElement.id") == "open"
    assert served.waiting() == before
    shop.extra = ""
    page.reload()
    page.wait_for_load_state("networkidle")
    expect(dialog).to_have_count(0)


def test_the_widget_on_a_narrow_phone(served: Served, visit: Visit, shop: Any) -> None:
    visit.page.set_viewport_size({"width": 320, "height": 568})
    shop.extra = 'data-lang="en"'
    page = in_shop(served, visit)
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.frame_locator("iframe").get_by_label("Promotions")).to_be_visible()
    visit.picture("widget-en-320")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    expect(page.get_by_role("button", name="No thanks").first).to_be_in_viewport()


def test_an_origin_that_is_not_allowed_sees_nothing(served: Served, browser: Browser, shop: Any) -> None:
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.clock.install()
    page.goto(f"http://localhost:{served.shop}/")
    page.wait_for_selector("[data-assent]", state="attached")
    expect(page.get_by_role("dialog")).not_to_be_visible()
    page.get_by_role("button", name="Buy").click()
    assert page.title() == "bought"
    page.clock.fast_forward(11_000)
    page.wait_for_function("window.told.length === 1")
    assert page.evaluate("window.told") == [{"form": "acme", "outcome": "unavailable"}]
    assert page.locator("[data-assent]").count() == 0
    context.close()


def test_a_frame_by_hand_is_refused_by_the_browser(served: Served, browser: Browser, shop: Any) -> None:
    """The server's own header does it, whatever the page around the frame says it is."""
    context = browser.new_context()
    page = context.new_page()
    shop.extra = 'data-open="manual"'
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text))
    page.goto(f"http://localhost:{served.shop}/")
    lie = f"{served.edge.url}/c/acme?embed=1&page=http://127.0.0.1:{served.shop}/"
    page.evaluate(f"document.body.appendChild(Object.assign(document.createElement('iframe'), {{src: {lie!r}}}))")
    page.wait_for_function("true")
    page.wait_for_timeout(500)
    assert any(re.search(r"frame-ancestors", one) for one in said), said
    assert page.frame_locator("iframe").get_by_role("checkbox").count() == 0
    context.close()


def test_the_widget_is_small() -> None:
    file = Path(__file__).parents[2] / "gateway/edge/optin/static/widget.js"
    assert file.stat().st_size < 10_000
