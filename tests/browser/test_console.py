"""The console as staff meet it: a real process on real parts, in a real Chromium."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
from console_rig import KEPT, PASSWORD, Console, beside, connected, console_on
from playwright.sync_api import expect
from visiting import Visit, unreadable
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from gateway.console.signing import AT_ONCE
from gateway.records import breakers, registry, users

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def console(redis_url: str, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with redis.Redis.from_url(redis_url) as server:
        server.config_set("hash-max-listpack-value", "512")
    with console_on(tmp_path_factory.mktemp("console"), redis_url, database_url) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_leaves(visit: Visit, console: Console) -> Iterator[None]:
    """Every request, the live connection's too, goes to the console's own origin."""
    asked: list[str] = []
    visit.context.on("request", lambda request: asked.append(request.url))
    visit.page.on("websocket", lambda live: asked.append(live.url))
    yield
    here = urlsplit(console.url).netloc
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} <= {here}
    visit.complaints[:] = [one for one in visit.complaints if not re.search(r"status of (401|403)|code: 403", one)]


def cookies(console: Console, name: str, password: str = PASSWORD) -> tuple[httpx.Client, httpx.Response]:
    """Signed in without a browser."""
    client = httpx.Client(base_url=console.url, headers={"origin": console.url})
    form = client.get("/sign-in").text
    token = re.search(r'name="token" value="([^"]+)"', form)
    assert token is not None
    answer = client.post("/sign-in", data={"name": name, "password": password, "token": token[1], "to": "/"})
    return client, answer


# --- who comes in --------------------------------------------------------------------------------------------------


def test_a_wrong_password_is_told_and_a_right_one_opens_the_page_asked_for(console: Console, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{console.url}/breakers")
    assert urlsplit(page.url).path == "/sign-in"
    visit.keep("sign-in-zh")
    assert unreadable(page) == []
    for name, password in (("vera", "wrong"), ("nobody", PASSWORD)):
        page.locator("#name").fill(name)
        page.locator("#password").fill(password)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("用户名或密码不正确。")
    page.locator("#name").fill("vera")
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="熔断", level=1)).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    acts = [(act.name, act.act) for act in console.run(users.acts)]
    assert acts[:2] == [("vera", "signed_in"), ("vera", "refused")]


def test_each_role_sees_and_may_do_its_own(console: Console, visit: Visit) -> None:
    page = console.sign_in(visit, "vera", "/breakers")
    assert page.get_by_role("button", name="停止一个范围").count() == 0
    assert page.locator("nav").get_by_role("link", name="审计").count() == 0
    page.goto(f"{console.url}/audit")
    expect(page.get_by_role("status").first).to_contain_text("无权")
    assert page.locator("table").count() == 0
    visit.context.clear_cookies()
    page = console.sign_in(visit, "cora", "/audit")
    expect(page.get_by_role("heading", name="登录与账号")).to_be_visible()


def test_signing_out_ends_it(console: Console, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{console.url}/sign-in")
    page.locator("#name").fill("vera")
    page.locator("#password").fill(PASSWORD)
    page.keyboard.press("Enter")
    connected(page)
    (token,) = visit.context.cookies()
    assert token["httpOnly"]
    assert token["sameSite"] == "Strict"
    page.get_by_role("button", name="退出").click()
    expect(page.locator("#password")).to_be_visible()
    visit.context.add_cookies([token])
    page.goto(f"{console.url}/account")
    assert urlsplit(page.url).path == "/sign-in"


def test_a_disabled_user_is_out_within_seconds_wherever_signed_in(console: Console, visit: Visit) -> None:
    page = console.sign_in(visit, "vera")
    connected(page)
    console.run(users.disable, "vera", by="test")
    page.wait_for_url(re.compile("/sign-in"), timeout=15_000)
    console.run(users.disable, "vera", disabled=False, by="test")


def test_many_wrong_passwords_are_not_heard_for_a_while_nor_those_of_nobody(console: Console) -> None:
    console.run(users.put, "tina", KEPT, users.Role.VIEWER, by="test")
    for _ in range(6):
        console.run(users.failed, "tina")
    client, answer = cookies(console, "tina")
    assert answer.status_code == 429
    assert not any("assent_console" in name for name in client.cookies)
    nobody = [cookies(console, "nobody.at.all")[1].status_code for _ in range(6)]
    assert nobody == [401] * 5 + [429], "waiting must not tell which names there are"


def test_a_user_is_added_and_kept_out_by_typing(console: Console) -> None:
    def typed(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "gateway", "console", "user", *words]
        return subprocess.run(command, env=console.env, capture_output=True, text=True, timeout=60, check=False)

    added = typed("add", "zoe", "--role", "viewer")
    assert added.returncode == 0, added.stderr
    made = added.stdout.strip()
    assert len(made) >= 20
    assert cookies(console, "zoe", made)[1].status_code == 303
    assert "already" in typed("add", "zoe", "--role", "viewer").stderr
    assert typed("disable", "zoe").returncode == 0
    assert cookies(console, "zoe", made)[1].status_code == 401


def test_wrong_passwords_that_come_at_once_are_counted_like_others(console: Console) -> None:
    console.run(users.put, "ugo", KEPT, users.Role.VIEWER, by="test")
    from_elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    client = httpx.Client(base_url=console.url, headers={"origin": console.url}, transport=from_elsewhere, timeout=60)
    token = re.search(r'name="token" value="([^"]+)"', client.get("/sign-in").text)
    assert token is not None
    data = {"name": "ugo", "password": "wrong", "token": token[1]}
    with ThreadPoolExecutor(12) as at_once:
        told = list(at_once.map(lambda _: client.post("/sign-in", data=data).status_code, range(12)))
    assert set(told) == {401, 429}
    assert told.count(401) <= 4 + AT_ONCE, told


def test_a_page_that_lost_its_connection_keeps_no_session_alive(console: Console) -> None:
    client, _ = cookies(console, "vera")
    aged = "UPDATE console_sessions SET used_at = used_at - interval '29 minutes' RETURNING used_at"
    console.run(lambda connection: connection.execute(aged))
    used = "SELECT min(used_at) FROM console_sessions"
    before = console.run(lambda connection: connection.fetchval(used))
    assert client.get("/me").status_code == 204
    assert console.run(lambda connection: connection.fetchval(used)) == before
    assert client.get("/breakers").status_code == 200
    idle = "DELETE FROM console_sessions WHERE used_at < now() - interval '9 minutes'"
    console.run(lambda connection: connection.execute(idle))
    assert client.get("/me").status_code == 204, "a page that is asked for does"


# --- who else knocks -----------------------------------------------------------------------------------------------


def test_a_post_of_another_page_and_a_form_without_its_token_are_refused(console: Console) -> None:
    client = httpx.Client(base_url=console.url)
    form = client.get("/sign-in").text
    token = re.search(r'value="([^"]+)"', form)
    assert token is not None
    data = {"name": "cora", "password": PASSWORD, "token": token[1]}
    for origin in ("http://evil.example", None, "null"):
        headers = {} if origin is None else {"origin": origin}
        assert client.post("/sign-in", data=data, headers=headers).status_code == 403
    own = {"origin": console.url}
    assert client.post("/sign-in", data=data | {"token": "guess"}, headers=own).status_code == 403
    assert client.post("/sign-in", data=data, headers=own).status_code == 303
    assert client.post("/sign-out", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/me").status_code == 204


def test_without_a_session_nothing_is_served_but_the_way_in(console: Console) -> None:
    for path in ("/", "/breakers", "/me", "/console/console.js", "/nothing", "/docs", "/openapi.json"):
        answer = httpx.get(f"{console.url}{path}")
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/sign-in"), path
    assert httpx.get(f"{console.url}/_nicegui/{version('nicegui')}/static/nicegui.js").status_code == 403
    assert httpx.request("PUT", f"{console.url}/sign-in").status_code == 405


def test_what_cannot_be_asked_is_refused_before_anything_is_recorded(console: Console) -> None:
    client, _ = cookies(console, "cora")
    looks = "SELECT count(*) FROM consent_events WHERE kind = 'access'"
    before = console.run(lambda connection: connection.fetchval(looks))
    for given in ({"who": "ab"}, {"from": "9" * 40}, {"until": "-5"}, {"campaign": "a\0"}):
        assert client.post("/files/export", data={"reason": "why", **given}).status_code == 422, given
    for path in ("/messages?who=ab", "/messages?ref=a&until=9999-12-31", "/messages?ref=a&from=0001-01-01"):
        assert "查找条件不正确" in client.get(path).text, path
    assert console.run(lambda connection: connection.fetchval(looks)) == before
    assert cookies(console, "a\0")[1].status_code == 401


def test_another_host_name_that_leads_here_gets_nothing(console: Console) -> None:
    assert httpx.get(f"{console.url}/sign-in", headers={"host": "rebound.example"}).status_code == 421


def test_the_headers_keep_a_page_to_itself(console: Console) -> None:
    client, answer = cookies(console, "vera")
    assert answer.status_code == 303
    for path in ("/", "/sign-in", "/me"):
        headers = client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


async def _live(console: Console, page: str, cookie: str, origin: str | None) -> str:
    """Try to speak on a page's live connection; what came of it."""
    host = urlsplit(console.url).netloc
    query = f"client_id={page}&next_message_id=0&implicit_handshake=true&document_id=d&tab_id=t"
    headers = {"cookie": cookie} if cookie else {}
    try:
        async with connect(
            f"ws://{host}/_nicegui_ws/socket.io/?{query}&EIO=4&transport=websocket",
            origin=origin,
            additional_headers=headers,  # type: ignore[arg-type]
        ) as live:
            await live.send("40")
            said = [str(await asyncio.wait_for(live.recv(), 3)) for _ in range(2)]
            return "in" if said[1].startswith("40") else said[1]
    except InvalidStatus as refused:
        return str(refused.response.status_code)
    except (WebSocketException, OSError, TimeoutError) as fault:
        return type(fault).__name__


def test_a_live_connection_needs_our_origin_and_the_session_its_page_was_given_to(console: Console) -> None:
    client, _ = cookies(console, "cora")
    page = re.search(r"""["']client_id["']: ?["']([0-9a-f-]{36})""", client.get("/breakers").text)
    assert page is not None
    mine = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    others, _ = cookies(console, "vera")
    theirs = "; ".join(f"{name}={value}" for name, value in others.cookies.items())
    tries = {
        "another origin": (mine, "http://evil.example"),
        "no origin": (mine, None),
        "no session": ("", console.url),
        "another's session": (theirs, console.url),
        "our own": (mine, console.url),
    }
    found = {name: beside(_live(console, page[1], *how)) for name, how in tries.items()}
    assert found.pop("our own") == "in"
    assert set(found.values()) == {"403"}, found
    polling = client.get("/_nicegui_ws/socket.io/", params={"EIO": "4", "transport": "polling", "client_id": page[1]})
    assert polling.status_code == 405


def test_without_postgresql_no_page_opens_and_it_tries_again(console: Console, visit: Visit) -> None:
    page = console.sign_in(visit, "vera", "/breakers")
    held, free = threading.Event(), threading.Event()

    async def lock(connection: Any) -> None:
        async with connection.transaction():
            await connection.execute("LOCK TABLE console_sessions IN ACCESS EXCLUSIVE MODE")
            held.set()
            await asyncio.to_thread(free.wait, 60)

    locking = threading.Thread(target=console.run, args=(lock,))
    locking.start()
    try:
        assert held.wait(10)
        page.goto(f"{console.url}/breakers")
        expect(page.get_by_role("heading", name="数据库暂不可用")).to_be_visible()
        assert page.locator("table, nav").count() == 0
    finally:
        free.set()
        locking.join(20)
    expect(page.get_by_role("heading", name="熔断", level=1)).to_be_visible(timeout=20_000)
    visit.complaints[:] = [one for one in visit.complaints if "503" not in one]


# --- acting --------------------------------------------------------------------------------------------------------


def test_a_person_stops_and_resumes_a_scope_with_a_reason_by_keyboard(console: Console, visit: Visit) -> None:
    page = console.sign_in(visit, "otto", "/breakers")
    connected(page)
    page.get_by_role("button", name="停止一个范围").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_label("范围").fill("sender:acne")
    dialog.get_by_label("原因").fill("投诉激增")
    dialog.get_by_role("button", name="停止一个范围").click()
    expect(page.get_by_text("没有这个发送方")).to_be_visible()
    dialog.get_by_label("原因").fill("")
    dialog.get_by_label("范围").fill("campaign:spring")
    dialog.get_by_role("button", name="停止一个范围").click()
    expect(page.get_by_text("请写明原因")).to_be_visible()
    assert console.run(registry.breakers) == []
    dialog.get_by_label("原因").fill("投诉激增")
    dialog.get_by_role("button", name="停止一个范围").click()
    expect(page.get_by_role("cell", name="campaign:spring", exact=True)).to_be_visible()
    (stopped,) = console.run(registry.breakers)
    assert (stopped.scope, stopped.is_open, stopped.changed_by) == ("campaign:spring", True, "otto")
    (owed,) = console.run(breakers.unrecorded, 9)  # settle's evaluator tells the ledger until that has it
    assert (owed.acted_by, owed.reason, owed.is_open) == ("otto", "投诉激增", True)
    expect(dialog).to_have_count(0)  # a dialog that closes gives the focus back to where it was opened
    page.get_by_role("button", name="恢复 campaign:spring").focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("原因")).to_be_focused()
    page.keyboard.type("名单已清洗")
    for _ in ("share", "cancel", "let a share through", "resume"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("cell", name="放行")).to_be_visible()
    (resumed,) = console.run(registry.breakers)
    assert (resumed.is_open, resumed.reason) == (False, "名单已清洗")
    visit.context.clear_cookies()
    page = console.sign_in(visit, "cora", "/audit")
    looks = page.locator("table").first
    expect(looks.get_by_role("row").nth(1)).to_contain_text("名单已清洗")
    expect(looks.get_by_role("row").nth(1)).to_contain_text("otto")


def test_a_role_that_was_taken_away_acts_no_more_on_a_page_still_open(console: Console, visit: Visit) -> None:
    page = console.sign_in(visit, "otto", "/breakers")
    connected(page)
    page.get_by_role("button", name="停止一个范围").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("范围").fill("sender:acme")
    dialog.get_by_label("原因").fill("why")
    console.run(lambda connection: connection.execute("UPDATE console_users SET role = 'viewer' WHERE name = 'otto'"))
    dialog.get_by_role("button", name="停止一个范围").click()
    expect(page.get_by_text("无权进行此操作")).to_be_visible()
    assert "sender:acme" not in [one.scope for one in console.run(registry.breakers)]
    console.run(lambda connection: connection.execute("UPDATE console_users SET role = 'operator' WHERE name = 'otto'"))


# --- how it is read --------------------------------------------------------------------------------------------------


def test_language_colours_and_zone_are_each_persons_own(console: Console, visit: Visit) -> None:
    page = console.sign_in(visit, "cora", "/account")
    connected(page)
    for label, choice in (("语言", "English"), ("颜色", "深色"), ("时区", "UTC")):
        page.get_by_label(label).click()
        page.get_by_role("option", name=choice).click()
    page.get_by_role("button", name="保存").click()
    expect(page.get_by_role("heading", name="My account")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en-US"
    expect(page.locator("body.body--dark")).to_be_visible()
    expect(page.locator("footer")).to_have_text("Times are those of UTC (UTC+00:00).")
    console.run(
        lambda connection: connection.execute("UPDATE console_users SET lang = NULL, theme = NULL, zone = NULL")
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_aa(console: Console, visit: Visit, theme: str) -> None:
    console.run(users.prefer, "cora", lang="en", theme=theme, zone=None)
    page = console.sign_in(visit, "cora", "/account")
    connected(page)
    visit.keep(f"account-en-{theme}")
    assert unreadable(page) == []
    page.goto(f"{console.url}/breakers")
    connected(page)
    page.get_by_role("button", name="Stop a scope").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop a scope").click()
    expect(page.get_by_text("Say why")).to_be_visible()
    assert unreadable(page) == []
    page.goto(f"{console.url}/nowhere")
    expect(page.get_by_role("status")).to_have_text("There is no such page.")
    assert unreadable(page) == []
    console.run(users.prefer, "cora", lang=None, theme=None, zone=None)
    visit.complaints[:] = [one for one in visit.complaints if "404" not in one]


def test_the_whole_page_is_walked_by_keyboard_and_shows_where_one_is(console: Console, visit: Visit) -> None:
    page = console.sign_in(visit, "cora", "/breakers")
    connected(page)
    walked: list[str] = []
    while "停止一个范围" not in walked and len(walked) < 30:
        page.keyboard.press("Tab")
        walked.append(page.evaluate("document.activeElement.textContent.trim()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", walked
    assert walked[0] == "跳到正文"
    assert walked[1:3] == ["Assent", "总览"]
    assert "停止一个范围" in walked
