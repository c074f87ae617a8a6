"""Complaints as an operator types them: a file taken in and taken in again, cases handled, a day signed off."""

import asyncio
import csv
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from complaint_rig import MASTER, PEPPER, SENDERS, World, world
from typer.testing import CliRunner

from gateway.cli import app
from gateway.contract.complaint import Told
from gateway.records import cases, registry

pytestmark = pytest.mark.integration
WHEN = datetime.now(UTC) - timedelta(hours=3)
HEAD = "举报编号,举报号码,被举报号码,举报时间,举报内容"
Within = Callable[[Callable[[World], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture(scope="module")
def within(redis_url: str, database_url: str) -> Within:
    """Runs something in the installation's world."""

    def run(work: Callable[[World], Coroutine[Any, Any, Any]]) -> Any:
        async def entered() -> Any:
            async with world(redis_url, database_url) as at:
                return await work(at)

        return asyncio.run(entered())

    async def senders(at: World) -> None:
        async with at.pool.acquire() as conn:
            for sender in SENDERS:
                await registry.put_sender(conn, sender)

    run(senders)
    return run


@pytest.fixture(scope="module")
def env(redis_url: str, database_url: str) -> dict[str, str]:
    return {
        "ASSENT_REDIS_URL": redis_url,
        "ASSENT_DATABASE_URL": database_url,
        "ASSENT_PEPPER": PEPPER.hex(),
        "ASSENT_MASTER_KEY": MASTER.hex(),
    }


def types(env: dict[str, str], *words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["complaints", *words], env=env, catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


def line(n: int) -> str:
    at = WHEN.astimezone(tz=None).isoformat()
    return f"JB{n},1391234{n:04},10690002,{at},骚扰"


def test_a_file_is_imported_its_bad_lines_are_put_aside_and_again_changes_nothing(
    env: dict[str, str], within: Within, tmp_path: Path
) -> None:
    file, rejects = tmp_path / "12321.csv", tmp_path / "rejected.csv"
    bad = ["JB8,12345,10690002,2026-11-01 10:00:00,=坏号码", 'JB9,"13912340009,10690002,2026-11-01,x']
    file.write_bytes("\r\n".join([HEAD, *map(line, range(700)), *bad, line(700)]).encode("gb18030"))
    words = ("import", str(file), "--mapping", "12321", "--by", "Li Lei", "--rejects", str(rejects))
    status, out, said = types(env, *words)
    assert status == 2, said
    assert "703 lines: 701 recorded, 0 known already" in out
    assert "line 702: reporter: not a mobile number" in said
    assert "坏号码" not in out + said
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    with rejects.open(encoding="utf-8-sig", newline="") as written:
        told = list(csv.DictReader(written))
    assert [(row["line"], row["field"], row["举报内容"]) for row in told] == [
        ("702", "reporter", "'=坏号码"),  # strangers write these words: they are no formula
        ("703", "", None),
    ]
    assert told[1]["举报编号"] == bad[1]  # the whole line, to be mended
    mended = tmp_path / "again.csv"
    mended.write_text("\n".join([HEAD, *map(line, range(702))]), encoding="utf-8-sig")
    status, out, said = types(env, "import", str(mended), "--mapping", "12321", "--by", "Li Lei")
    assert (status, said) == (0, "")
    assert "702 lines: 1 recorded, 701 known already" in out

    async def by_json(at: World) -> bool:
        complaint = Told("12321", "+8613912340005", None, int(WHEN.timestamp() * 1000), "in other words", "JB5")
        (taken,) = await at.take(complaint, now_ms=int(datetime.now(UTC).timestamp() * 1000))
        events = "SELECT count(*) FROM consent_events WHERE subject = $1"
        return taken.duplicate and await at.one(events, taken.subject) == 1

    assert within(by_json)


WHOLE = """
SELECT count(*) AS cases,
    count(*) FILTER (WHERE EXISTS (SELECT FROM subject_suppressions s WHERE s.subject = c.subject)) AS stopped,
    count(*) FILTER (WHERE EXISTS (SELECT FROM signals s WHERE s.subject = c.subject AND s.signal = 1)) AS counted,
    (SELECT count(*) FROM case_acts a JOIN complaints k ON k.id = a.complaint WHERE k.port = '10690003') AS acts
FROM complaints c WHERE c.port = '10690003'
"""


def test_an_import_that_is_killed_leaves_no_case_without_its_suppression_and_is_completed(
    env: dict[str, str], within: Within, tmp_path: Path
) -> None:
    n, file = 3_000, tmp_path / "killed.csv"
    at = WHEN.astimezone(tz=None).isoformat()
    lines = (f"K{one},1371234{one:04},10690003,{at},骚扰" for one in range(n))
    file.write_text("\n".join([HEAD, *lines]), encoding="utf-8")
    words = ["complaints", "import", str(file), "--mapping", "12321", "--by", "Li Lei"]
    running = subprocess.Popen(
        [sys.executable, "-m", "gateway", *words], env=os.environ | env, stdout=subprocess.DEVNULL
    )

    async def killed(at: World) -> tuple[Any, ...]:
        while await at.one("SELECT count(*) FROM complaints WHERE port = '10690003'") < 250:
            assert running.poll() is None, "it ended before it could be killed"
            await asyncio.sleep(0.01)
        running.kill()
        running.wait()
        return (await at.rows(WHOLE))[0]

    cases_, *rest = within(killed)
    assert 250 <= cases_ < n
    assert rest == [cases_] * 3
    status, out, said = types(env, *words[1:])
    assert (status, said) == (0, "")
    assert f"{n:,} lines: {n - cases_:,} recorded, {cases_:,} known already" in out

    async def whole(at: World) -> tuple[Any, ...]:
        events = "SELECT count(*) FROM consent_events e JOIN complaints c USING (subject) WHERE c.port = '10690003'"
        return (*(await at.rows(WHOLE))[0], await at.one(events))

    assert within(whole) == (n,) * 5


def test_what_is_no_file_is_said_in_one_line(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    for data, words, why in (
        ("a,b\n", ("--mapping", "12321"), "x.csv: no column for reporter and at"),
        ("", (), "x.csv: the file is empty"),
        (HEAD, ("--columns", "who:x"), "x.csv: columns are field:header"),
        (HEAD, ("--mapping", "12321", "--encoding", "utf-16"), "x.csv: encoding is one of"),
        (HEAD, ("--mapping", "12321", "--rejects", str(tmp_path / "no" / "x")), "No such file or directory"),
    ):
        file.write_text(data)
        status, _, said = types(env, "import", str(file), *words)
        assert status == 1
        assert why in said
        assert said.count("\n") == 1


def test_a_case_is_handled_from_the_list_to_its_end(env: dict[str, str], within: Within) -> None:
    async def made(at: World) -> str:
        complaint = Told("own", "+8613912399999", "10690004", int(WHEN.timestamp() * 1000), "我是王五，别发了", "W-1")
        return (await at.take(complaint, now_ms=int(datetime.now(UTC).timestamp() * 1000)))[0].id

    case = within(made)
    status, out, _ = types(env, "list", "--source", "own", "--sender", "bolt", "--queue")
    assert (status, out.split()[0]) == (0, case)
    assert types(env, "close", case, "--by", "Li Lei", "--outcome", "resolved")[2].startswith(
        "assent: a case is closed after"
    )
    assert "assigned" in types(env, "assign", case, "--to", "Han Mei", "--by", "Li Lei")[1]
    assert "answered" in types(env, "answer", case, "--by", "Han Mei", "--note", "已致电道歉")[1]
    assert types(env, "match", case, "none", "--by", "Li Lei")[0] == 0
    status, out, _ = types(env, "close", case, "--by", "Li Lei", "--outcome", "apologised")
    assert (status, out.split()[-1]) == (0, "apologised")
    shown = types(env, "show", case, "--by", "Han Mei")[1]
    for words in ("我是王五，别发了", "W-1", "(已致电道歉)", "assent evidence export", "closed apologised by Li Lei"):
        assert words in shown
    for nobody in ("", "  "):
        for words in (("assign", case, "--to", "x"), ("answer", case), ("close", case, "--outcome", "resolved"),
                      ("match", case, "none"), ("show", case)):  # fmt: skip
            status, _, said = types(env, *words, "--by", nobody)
            assert (status, said.startswith("assent: --by must be a name")) == (1, True), words
    lost = "00000000-0000-8000-8000-000000000000"
    assert types(env, "answer", lost, "--by", "x")[2].startswith("assent: there is no such case")

    async def looked(at: World) -> list[Any]:
        async with at.pool.acquire() as conn:
            found = await cases.one(conn, case)
        assert found is not None
        assert found.subject is not None
        history = await at.appender.history(found.subject)
        return [row["data"] for row in history if row["kind"] == "access"]

    assert within(looked) == [{"by": "cli/Han Mei", "seen": ["complaint"]}]


def test_a_day_is_signed_off_and_says_when_figures_differ(env: dict[str, str]) -> None:
    words = ("sign-off", "--source", "carrier", "--by", "Li Lei")
    assert types(env, *words, "--count", "0", "--date", "2026-01-02")[0] == 0
    status, out, said = types(env, *words, "--count", "2", "--date", "2026-01-02")
    assert (status, "2 stated, 0 imported, by Li Lei" in out) == (2, True)
    assert "differ" in said
    status, _, said = types(env, "sign-off", "--source", "carrier", "--by", " ", "--count", "0")
    assert (status, said.startswith("assent: --by must be a name")) == (1, True)
    assert types(env, *words, "--count", "0", "--date", "2099-01-01")[2] == "assent: that day has not begun\n"
