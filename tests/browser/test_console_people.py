"""The console's pages about people, cases, lists and records, walked with what really happened on a running stack."""

import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from console_rig import connected
from console_world import CAMPAIGN, SAID, TEXT, World, world_on
from gateway_rig import at, number, shipping
from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as TookTooLong
from visiting import NARROW, WIDER, Visit, unreadable

from gateway.assemble import exporting
from gateway.console.wording import words
from gateway.contract.health import Alert
from gateway.contract.ids import subject_of
from gateway.records import alerts, cases, cleansing, holds

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
expect.set_options(timeout=15_000)  # a look waits for the ledger, and the machine may be busy
PEPPER = bytes.fromhex("ab" * 32)
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def world(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    settings = {"redis_url": redis_url, "kafka": kafka_bootstrap, "prefix": topic_prefix, "database_url": database_url}
    with world_on(tmp_path_factory.mktemp("people"), **settings) as lived:
        yield lived


@pytest.fixture(autouse=True)
def nothing_leaves(visit: Visit, world: World) -> Iterator[None]:
    """Every request goes to the console's own origin, and no address ever holds a number."""
    asked: list[str] = []
    visit.page.set_viewport_size(WIDE)
    visit.context.on("request", lambda request: asked.append(request.url))
    visit.page.on("websocket", lambda live: asked.append(live.url))
    yield
    here = urlsplit(world.console.url).netloc
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} <= {here}
    assert not [url for url in asked for number in world.people.values() if number.removeprefix("+86") in url]
    visit.complaints[:] = [one for one in visit.complaints if not re.search(r"status of (403|404|422)", one)]


def subject(world: World, name: str) -> bytes:
    return subject_of(PEPPER, world.people[name])


def opened(world: World, visit: Visit, path: str, name: str = "cora") -> Page:
    page = world.console.sign_in(visit, name, path)
    connected(page)
    return page


def looks(world: World, who: bytes | None = None) -> int:
    """How many looks the ledger has; of a person, where one is named."""
    query = "SELECT count(*) FROM consent_events WHERE kind = 'access' AND ($1::bytea IS NULL OR subject = $1)"
    return int(world.console.run(lambda connection: connection.fetchval(query, who)))


def pictures(world: World, visit: Visit, name: str) -> None:
    """For docs/screenshots: the page as it stands, then in English; the page is then as it was."""
    if not os.environ.get("ASSENT_SCREENSHOTS"):
        return
    visit.keep(f"{name}-zh")
    _speak(world, "en")
    try:
        visit.page.reload()
        connected(visit.page)
        visit.keep(f"{name}-en")
    finally:
        _speak(world, None)
    visit.page.reload()
    connected(visit.page)


def _speak(world: World, lang: str | None) -> None:
    query = "UPDATE console_users SET lang = $1 WHERE name = 'cora'"
    world.console.run(lambda connection: connection.execute(query, lang))


def reason(page: Page, said: str, button: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("原因", exact=True).fill(said)
    dialog.get_by_role("button", name=button, exact=True).click()


# --- messages --------------------------------------------------------------------------------------------------------


def test_messages_are_found_by_each_condition_and_every_search_is_in_the_ledger(world: World, visit: Visit) -> None:
    page = opened(world, visit, "/messages")
    expect(page.get_by_role("status")).to_have_text("请至少填写一项。")
    before = looks(world)
    page.get_by_label("活动").fill(CAMPAIGN)
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(7)
    assert looks(world) == before + 1
    connected(page)
    page.get_by_label("活动").fill(world.people["jun"])
    page.keyboard.press("Enter")
    expect(page.get_by_text("这是手机号码")).to_be_visible()  # and `nothing_leaves` finds it in no address
    page.reload()
    connected(page)
    pictures(world, visit, "messages")
    own = looks(world, subject(world, "jun"))
    page.goto(f"{world.console.url}/messages")
    connected(page)
    page.get_by_label("Number or subject").or_(page.get_by_label("手机号码或标识")).fill(world.people["jun"])
    page.get_by_role("button", name="查找").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert looks(world, subject(world, "jun")) == own + 1
    connected(page)
    for _ in range(3):  # a page that has just connected is drawn once more, and forgets where the focus was
        page.get_by_role("link", name=re.compile("^20")).first.press("Enter")
        with suppress(TookTooLong):
            page.wait_for_url("**/messages/0*", timeout=4_000)
            break
    expect(page.get_by_role("heading", name="短信详情")).to_be_visible()
    for path, rows in ((f"/messages?ref=order-tao&campaign={CAMPAIGN}", 2), ("/messages?campaign=none", 0)):
        page.goto(f"{world.console.url}{path}")
        expect(page.locator("tbody tr")).to_have_count(rows)
    page.goto(f"{world.console.url}/messages?until=2020-01-01&campaign={CAMPAIGN}")
    expect(page.get_by_role("status")).to_have_text("没有符合条件的短信。")


def test_a_message_shows_its_permission_and_its_text_only_when_asked(world: World, visit: Visit) -> None:
    page = opened(world, visit, f"/messages/{world.messages['promotion']}")
    facts = page.locator("dl.facts")
    for said in ("同意", "f-3", "web", "cn@"):
        expect(facts.nth(1)).to_contain_text(said)
    assert "八折" not in page.content()
    before = looks(world, subject(world, "mei"))
    page.get_by_role("button", name="查看内容").click()
    expect(page.locator("blockquote")).to_contain_text("会员专享八折")
    assert looks(world, subject(world, "mei")) == before + 1
    with page.expect_download() as kept:
        page.get_by_role("button", name="下载存证包").click()
    with zipfile.ZipFile(kept.value.path()) as bundle:
        assert bundle.testzip() is None
        assert any(name.endswith(".html") for name in bundle.namelist())
    assert looks(world, subject(world, "mei")) == before + 2
    page.goto(f"{world.console.url}/messages/{world.messages['dead']}")
    expect(page.locator("tbody").first).to_contain_text("已提交")
    expect(page.locator("table").nth(1)).to_contain_text("MK:0001")
    expect(page.locator("#main")).to_contain_text("空号")
    page.goto(f"{world.console.url}/messages/{world.messages['jun']}")
    connected(page)
    expect(page.locator("#main .mark").first).to_have_text("已送达")
    pictures(world, visit, "message")


# --- recipients ------------------------------------------------------------------------------------------------------


def test_a_person_is_found_by_number_looked_at_and_stopped_by_name_and_reason(world: World, visit: Visit) -> None:
    page = opened(world, visit, "/recipients")
    page.get_by_label("手机号码或标识").fill("12345")
    page.keyboard.press("Enter")
    expect(page.get_by_text("既不是手机号码")).to_be_visible()
    page.get_by_label("手机号码或标识").fill(world.people["lan"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="接收人详情")).to_be_visible()
    connected(page)
    expect(page.locator("#main")).to_contain_text("called the shop")
    assert world.people["lan"] not in page.content()
    pictures(world, visit, "recipient")
    page.get_by_role("button", name="停发", exact=True).click()
    reason(page, "", "停发")
    expect(page.get_by_text("请写明原因")).to_be_visible()
    reason(page, "客户来函要求", "停发")
    suppressions = page.locator(".q-table__card[aria-label=停发]")
    expect(suppressions).to_contain_text("全部发送方")
    told = world.run(world.gate.http.get("/v1/suppressions", params={"recipient": world.people["lan"]})).json()
    assert "manual" in {one["reason"] for one in told["suppressions"]}
    expect(page.locator("#main")).to_contain_text("客户来函要求 · cora")


def test_withdrawing_for_a_person_is_in_force(world: World, visit: Visit) -> None:
    page = opened(world, visit, f"/recipients/{subject(world, 'mei').hex()}")
    page.get_by_role("button", name="代为撤回同意").click()
    reason(page, "电话要求退订", "代为撤回同意")
    expect(page.get_by_text("没有有效的同意。")).to_be_visible()
    body = {"to": world.people["mei"], "sender": "acme", "purpose": "marketing.promotion",
            "text": "【Acme】新品到店。拒收请回复R"}  # fmt: skip
    assert world.run(world.gate.http.post("/v1/messages", json=body)).status_code == 403


# --- cases -----------------------------------------------------------------------------------------------------------


def test_a_case_is_read_decided_answered_and_closed_in_ones_own_name(world: World, visit: Visit) -> None:
    page = opened(world, visit, "/cases")
    expect(page.locator("tbody tr")).to_have_count(3)
    pictures(world, visit, "cases")
    page.goto(f"{world.console.url}/cases?which=queue")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.goto(f"{world.console.url}/cases/{world.cases['unclear']}")
    connected(page)
    pictures(world, visit, "case")
    page.get_by_role("button", name="是这一条").first.click()
    expect(page.get_by_role("link", name="引发投诉的短信")).to_be_visible()
    connected(page)
    page.get_by_role("button", name="指派").click()
    page.get_by_role("dialog").get_by_role("button", name="指派").click()
    expect(page.locator("#main dd", has_text="cora")).to_be_visible()
    page.get_by_role("button", name="记录答复").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="记录答复").click()
    expect(page.get_by_text("请写下答复内容。")).to_be_visible()
    dialog.get_by_label("说明").fill("已致电道歉并说明来源")
    dialog.get_by_role("button", name="记录答复").click()
    page.get_by_role("button", name="结案").click()
    page.get_by_role("dialog").get_by_role("button", name="结案").click()
    expect(page.locator("#main .mark").first).to_have_text("已结案")
    case = world.console.run(cases.one, world.cases["unclear"])
    done = world.console.run(cases.acts, world.cases["unclear"])
    assert (case.message in {world.messages["tao"], world.messages["tao again"]}, case.outcome) == (True, "resolved")
    assert {one.by for one in done[1:]} == {"cora"}
    before = looks(world, subject(world, "tao"))
    page.get_by_role("button", name="查看原文").click()
    expect(page.locator("blockquote").first).to_contain_text(TEXT)
    expect(page.locator("#main")).to_contain_text("已致电道歉并说明来源")
    assert looks(world, subject(world, "tao")) == before + 1


def test_what_none_of_ours_caused_is_said_so_and_the_words_wait_for_a_press(world: World, visit: Visit) -> None:
    page = opened(world, visit, f"/cases/{world.cases['clear']}")
    assert SAID not in page.content()
    page.get_by_role("button", name="查看原文").click()
    expect(page.locator("blockquote")).to_have_text(SAID)
    page.goto(f"{world.console.url}/cases/{world.cases['unmatched']}")
    connected(page)
    page.get_by_role("button", name="都不是").click()
    expect(page.get_by_text("是哪一条短信？")).to_have_count(0)
    assert world.console.run(cases.one, world.cases["unmatched"]).resolved_by == "cora"


def test_a_day_is_signed_off_and_corrected(world: World, visit: Visit) -> None:
    page = opened(world, visit, "/cases/figures")
    for count, rows in (("3", 1), ("0", 2)):
        page.get_by_label("投诉数").fill(count)
        page.get_by_role("button", name="签认").click()
        expect(page.locator("tbody tr")).to_have_count(rows)
        connected(page)
    expect(page.locator("tbody tr").first).to_contain_text("一致")
    expect(page.locator("tbody tr").nth(1)).to_contain_text("不一致")
    expect(page.get_by_text("12321 举报中心 20", exact=False).first).to_contain_text("已签认")
    pictures(world, visit, "figures")


def test_a_file_of_complaints_is_taken_in_once(world: World, visit: Visit) -> None:
    page = opened(world, visit, "/cases/import")
    lines = "reporter,at,text\n" + "".join(f"138{n:08d},2026-01-02 03:04:05,骚扰\n" for n in range(3)) + "12,x,y\n"
    given = {"name": "own.csv", "mimeType": "text/csv", "buffer": lines.encode()}
    page.get_by_label("文件来自").select_option("own")
    for said in ("登记 3，重复 0，拒绝 1", "登记 0，重复 3，拒绝 1"):
        page.get_by_label("文件", exact=True).set_input_files([given])  # type: ignore[list-item]
        page.get_by_role("button", name="导入").click()
        expect(page.locator("#outcome-said")).to_contain_text(said)
    bad = {"name": "none.csv", "mimeType": "text/csv", "buffer": b"port,text\n1,2\n"}
    page.get_by_label("文件", exact=True).set_input_files([bad])  # type: ignore[list-item]
    page.get_by_role("button", name="导入").click()
    expect(page.locator("#outcome-said")).to_contain_text("找不到投诉人和时间两列")
    expect(page.locator("#outcome-lines li")).to_have_count(0)
    page.get_by_label("文件", exact=True).set_input_files([given])  # type: ignore[list-item]
    page.get_by_role("button", name="导入").click()
    expect(page.locator("#outcome-lines")).to_contain_text("第 5 行 reporter：不是手机号码")
    if os.environ.get("ASSENT_SCREENSHOTS"):
        visit.keep("import-zh")


# --- cleansing -------------------------------------------------------------------------------------------------------


def test_a_list_is_divided_chosen_applied_and_undone(world: World, visit: Visit) -> None:
    page = opened(world, visit, "/cleansing", "otto")
    page.get_by_role("button", name="划分名单").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("名单", exact=True).fill(f"campaign:{CAMPAIGN}")
    reason(page, "投诉后清理", "划分名单")
    page.get_by_role("link", name=re.compile("^20")).click()
    expect(page.locator(".mark")).to_have_text("待决定", timeout=20_000)
    expect(page.get_by_role("row", name=re.compile("投诉过"))).to_contain_text("3")
    assert page.get_by_role("button", name="各类示例").count() == 0
    visit.context.clear_cookies()
    page = opened(world, visit, urlsplit(page.url).path)
    pictures(world, visit, "cleansing")
    page.get_by_role("button", name="各类示例").click()
    expect(page.get_by_role("dialog").get_by_role("link").first).to_be_visible()
    page.get_by_role("button", name="关闭").click()
    page.get_by_role("button", name="执行").click()
    reason(page, "按所列处理", "执行")
    expect(page.locator(".mark")).to_have_text("已执行", timeout=20_000)
    page.get_by_role("button", name="撤销").click()
    reason(page, "范围选错", "撤销")
    expect(page.locator(".mark")).to_have_text("已撤销", timeout=20_000)
    (job,) = world.console.run(cleansing.listed)
    assert (job.asked_by, job.applied_by, job.undone_by) == ("otto", "cora", "cora")
    page.goto(f"{world.console.url}/cleansing")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto(f"{world.console.url}/audit")
    for said in ("划分", "执行", "撤销"):
        expect(page.get_by_role("row", name=re.compile(f"名单清理.*{said} · campaign:{CAMPAIGN}"))).to_have_count(1)


# --- records, alerts -------------------------------------------------------------------------------------------------


def test_an_export_is_recorded_and_comes_sealed_and_a_hold_stands_until_released(
    world: World, visit: Visit, tmp_path: Path
) -> None:
    page = opened(world, visit, "/records")
    page.get_by_role("button", name="导出并下载").click()
    expect(page.get_by_text("请至少填写一项条件。")).to_be_visible()
    page.get_by_label("活动").first.fill(CAMPAIGN)
    page.get_by_label("依据和用途（文号、案号）").fill("工信部函 12 号")
    before = looks(world)
    with page.expect_download() as kept:
        page.get_by_role("button", name="导出并下载").click()
    with zipfile.ZipFile(kept.value.path()) as archive:
        assert sorted(archive.namelist()) == ["records.csv", "records.csv.manifest.json", "records.csv.seal"]
        archive.extractall(tmp_path)
    keys = world.run(world.gate.http.get("/v1/ledger/keys")).text.split()
    assert exporting.verify(tmp_path / "records.csv", keys) == []
    rows = (tmp_path / "records.csv").read_bytes().decode("utf-8-sig")
    assert rows.count("\r\n") == 8
    assert world.people["jun"] in rows
    assert TEXT in rows
    assert looks(world) == before + 1
    page.get_by_role("button", name="新增保全").click()
    page.get_by_role("dialog").get_by_label("活动").fill(CAMPAIGN)
    reason(page, "诉讼 2026/88", "新增保全")
    expect(page.get_by_role("cell", name="生效中")).to_be_visible()
    connected(page)
    pictures(world, visit, "records")
    page.get_by_role("button", name=re.compile("^解除")).click()
    reason(page, "结案", "解除")
    expect(page.get_by_role("cell", name="已解除")).to_be_visible()
    assert world.console.run(holds.listed) == []
    page.goto(f"{world.console.url}/audit")
    for said in ("解除保全 1 · 结案", f"新增保全 1 · {CAMPAIGN} · 诉讼"):
        expect(page.get_by_role("row", name=re.compile("法律保全.*" + said))).to_contain_text("cora")


def test_alerts_are_listed_with_their_page_of_the_runbook(world: World, visit: Visit) -> None:
    for key, kind, severity in (("a", "breaker.warn", "warning"), ("b", "breaker.open", "critical")):
        raised = Alert(key=key, kind=kind, severity=severity, scope=f"campaign:{CAMPAIGN}", summary="1,200 ppm")  # type: ignore[arg-type]
        world.console.run(alerts.put, raised)
    page = opened(world, visit, "/alerts", "vera")
    first = page.locator("[aria-label=告警] tbody tr").first
    for said in ("严重", "熔断已停止", "breaker-open.md"):
        expect(first).to_contain_text(said)
    visit.context.clear_cookies()
    opened(world, visit, "/alerts")


# --- who may not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vera", "otto"])
def test_who_may_not_look_sees_nobody_and_takes_nothing_away(world: World, visit: Visit, name: str) -> None:
    person = subject(world, "jun").hex()
    paths = ("/messages", f"/messages/{world.messages['jun']}", f"/recipients/{person}", "/cases", "/records",
             f"/cases/{world.cases['clear']}", "/cases/figures", "/cases/import")  # fmt: skip
    before = looks(world)
    world.console.sign_in(visit, name)
    for path in paths:
        visit.page.goto(f"{world.console.url}{path}")
        expect(visit.page.get_by_role("status").first).to_contain_text("无权")
        assert person[:12] not in visit.page.content()
    (token,) = visit.context.cookies()
    headers = {"cookie": f"{token['name']}={token['value']}", "origin": world.console.url}
    asked: Any = {"asked": world.messages["jun"], "campaign": CAMPAIGN, "reason": "why", "as": "csv"}
    for path in ("/files/evidence", "/files/export"):
        assert httpx.post(f"{world.console.url}{path}", data=asked, headers=headers).status_code == 403
    assert httpx.post(f"{world.console.url}/files/complaints", content=b"x", headers=headers).status_code == 403
    assert looks(world) == before
    if name == "vera":
        visit.page.goto(f"{world.console.url}/cleansing")
        assert visit.page.get_by_role("button", name="划分名单").count() == 0


def test_what_cannot_be_recorded_is_not_shown(world: World, visit: Visit) -> None:
    """The ledger takes no more events: neither page nor text nor file says anything about anybody."""
    page = opened(world, visit, f"/messages/{world.messages['jun']}")
    stop = """
        CREATE FUNCTION no_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE TRIGGER no_more BEFORE INSERT ON consent_events EXECUTE FUNCTION no_more();
    """
    world.console.run(lambda connection: connection.execute(stop))
    try:
        page.get_by_role("button", name="查看内容").click()
        expect(page.get_by_role("alert").filter(has_text="账本暂不可用")).to_be_visible()
        assert TEXT not in page.content()
        for path in (
            f"/recipients/{subject(world, 'jun').hex()}",
            f"/cases/{world.cases['clear']}",
            "/messages?ref=order-jun",
        ):
            page.goto(f"{world.console.url}{path}")
            expect(page.get_by_role("status").filter(has_text="账本暂不可用")).to_be_visible()
            assert page.locator("table, dl").count() == 0
    finally:
        world.console.run(lambda connection: connection.execute("DROP FUNCTION no_more() CASCADE"))
    page.goto(f"{world.console.url}/recipients/{subject(world, 'jun').hex()}")
    expect(page.get_by_role("heading", name="历史")).to_be_visible()


def test_of_somebody_who_asked_for_erasure_only_that_is_shown(world: World, visit: Visit) -> None:
    person = subject(world, "hui").hex()
    told = {
        "source": "own",
        "reporter": world.people["hui"],
        "at": at(hours=-1),
        "text": "另一件事",
        "port": "10690009",
    }
    case = f"/cases/{world.run(world.gate.ok('/v1/complaints', told))['id']}"
    early = opened(world, visit, case)
    expect(early.get_by_role("heading", name="是哪一条短信？")).to_be_visible()
    answer = world.run(world.gate.http.delete(f"/v1/recipients/{person}/personal-data"))
    assert answer.json()["certificate"]["status"] == "restricted", answer.text
    early.get_by_role("button", name="查看原文").click()  # on a page that was opened before
    expect(early.get_by_role("alert").filter(has_text="此人已要求删除")).to_be_visible()
    assert early.locator("blockquote", has_text="另一件事").count() == 0
    page = opened(world, visit, case)
    expect(page.get_by_role("status").filter(has_text="此人已要求删除")).to_be_visible()
    assert page.get_by_role("button", name="查看原文").count() == 0
    assert page.locator("blockquote, .offered").count() == 0
    page.goto(f"{world.console.url}/recipients/{person}")
    expect(page.get_by_role("heading", name="已要求删除")).to_be_visible()
    assert page.locator("table").count() == 0
    page.goto(f"{world.console.url}/messages/{world.messages['hui']}")
    expect(page.get_by_role("status").filter(has_text="此人已要求删除")).to_be_visible()
    assert page.get_by_role("button", name="查看内容").count() == 0
    assert "o-1" not in page.locator("dl").nth(1).inner_text()
    page.goto(f"{world.console.url}/messages/{world.messages['mei']}")
    expect(page.locator("dl").nth(1)).to_contain_text("o-1")


def test_the_audit_says_by_what_was_searched_and_goes_back(world: World, visit: Visit) -> None:
    page = opened(world, visit, "/audit")
    looked = page.locator("table").first.locator("tbody tr", has_text=f"短信列表 · {CAMPAIGN}")
    expect(looked.last).to_contain_text("cora")
    newest = int(page.locator("table").first.locator("tbody tr").first.locator("td").last.inner_text())
    page.goto(f"{world.console.url}/audit?before={newest}&acts=2")
    rows = page.locator("table").first.locator("tbody tr")
    expect(rows.first).to_be_visible()
    assert newest not in [int(one.split()[-1]) for one in rows.all_inner_texts()]
    expect(page.locator("table").nth(1).locator("tbody tr")).to_have_count(1)


PATHS = (
    "/account", "/audit", "/cases", "/cases/figures", "/cases/import", "/cleansing", "/messages", "/recipients",
    "/records",
)  # fmt: skip


@pytest.mark.parametrize(("lang", "theme"), [("zh", "light"), ("en", "dark")])
def test_every_page_can_be_read_on_a_telephone_too(world: World, visit: Visit, lang: str, theme: str) -> None:
    query = "UPDATE console_users SET lang = $1, theme = $2 WHERE name = 'cora'"
    world.console.run(lambda connection: connection.execute(query, lang, theme))
    page = opened(world, visit, "/")
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    (job,) = world.console.run(cleansing.listed)
    of_people = (
        f"/messages/{world.messages['dead']}", f"/recipients/{subject(world, 'tao').hex()}",
        f"/messages?campaign={CAMPAIGN}", f"/cases/{world.cases['clear']}", f"/cleansing/{job.id}",
    )  # fmt: skip
    try:
        for path in (*PATHS, *of_people):
            page.goto(f"{world.console.url}{path}")
            connected(page)
            assert (page.evaluate(WIDER), unreadable(page)) == ([], []), path
            said = re.findall(r"[a-z0-9]+_[a-z0-9_]+", page.locator("body").inner_text())
            assert not words("zh").keys() & set(said) - {"list_source"}, path
    finally:
        world.console.run(lambda connection: connection.execute(query, None, None))


def test_what_data_say_is_text_wherever_it_is_shown(world: World, visit: Visit) -> None:
    """A campaign, a reference and a complainer's words that would be a page's own, were they read as such."""
    evil = "<img/src=x/onerror=hit=1>{{constructor.constructor('hit=1')()}}"
    to = number()
    world.run(world.gate.orders([to]))
    body = shipping(to, f"【Acme】您的订单已发出 {evil}", campaign=evil, list_source=evil, client_ref=evil)
    message = world.run(world.gate.send(body))["id"]
    world.run(world.gate.until(message, "delivered"))
    told = {"source": "own", "reporter": to, "at": at(seconds=0), "port": "10690001", "text": evil, "ref": evil[:60]}
    case = world.run(world.gate.ok("/v1/complaints", told))["id"]
    page = opened(world, visit, "/")
    there = quote(evil, safe="")
    shown = (
        "/", "/senders/acme", f"/campaigns/acme%2F{there}", f"/messages?campaign={there}", f"/messages/{message}",
        f"/recipients/{subject_of(PEPPER, to).hex()}", f"/cases/{case}", "/cases?which=all", "/audit",
    )  # fmt: skip
    for path in shown:
        page.goto(f"{world.console.url}{path}")
        connected(page)
        for name in ("查看内容", "查看原文"):
            if page.get_by_role("button", name=name).count():
                page.get_by_role("button", name=name).click()
                expect(page.locator("blockquote").first).to_contain_text(evil)
        expect(page.get_by_text(evil).first).to_be_visible()
        assert page.evaluate("typeof hit") == "undefined", path
        assert page.locator("#main img").count() == 0, path


def test_a_file_is_fetched_by_a_page_of_ours_alone(world: World) -> None:
    for path in ("/files/evidence", "/files/export", "/files/complaints"):
        answer = httpx.post(f"{world.console.url}{path}", headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
        assert httpx.post(f"{world.console.url}{path}", headers={"origin": world.console.url}).status_code == 303
