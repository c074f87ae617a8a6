"""`assent up` as a person uses it: one home from its first start to its last stop, in the order of the tests."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.local.parts import free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

STARTS_WITHIN_S = 90


class Running:
    """`assent up` in a process of its own."""

    def __init__(self, home: Path, port: int, **env: str) -> None:
        self.home, self.port, self.url = home, port, f"http://127.0.0.1:{port}"
        self.said_in = home.with_name(f"{home.name}.out")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
        clean |= {name: os.environ[name] for name in ("ASSENT_CACHE", "ASSENT_MAVEN_URL") if name in os.environ}
        command = [sys.executable, "-m", "gateway", "up", "--home", str(home), "--port", str(port)]
        with self.said_in.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=clean | env)

    def said(self) -> str:
        return self.said_in.read_text()

    def wait_for(self, pattern: str, within_s: float) -> "re.Match[str]":
        until = time.monotonic() + within_s
        while not (found := re.search(pattern, self.said())):
            assert time.monotonic() < until, f"no {pattern!r} within {within_s} s in:\n{self.said()}"
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        return found

    def children(self) -> dict[str, psutil.Process]:
        recorded = json.loads((self.home / "run.json").read_text())["children"]
        return {child["name"]: psutil.Process(child["pid"]) for child in recorded}

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)

    def paste(self, path: str) -> httpx.Response:
        """What the printed curl for this path would do."""
        printed = next(text for text in re.findall(r"curl -sS [^\n]+\\\n[^\n]+", self.said()) if f"/v1/{path} " in text)
        words = shlex.split(printed.replace("\\\n", " "))
        headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
        return httpx.post(words[2], headers=headers, content=words[words.index("-d") + 1], timeout=10)


def soon(true: Callable[[], bool], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.05)
    return False


def left(home: Path) -> list[str]:
    """Processes that have to do with this home."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(home) in words or str(home) in str((process.info["environ"] or {}).get("ASSENT_METRICS_DIR")):
            found.append(words)
    return found


@pytest.fixture(scope="module")
def place(parts_dir: Path) -> tuple[Path, int]:
    return parts_dir / "up 数据", free_port()


@pytest.fixture(scope="module")
def running(place: tuple[Path, int]) -> Iterator[Running]:
    run = Running(*place)
    try:
        run.wait_for(r"ready in(.|\n)*Ctrl-C", STARTS_WITHIN_S)
        yield run
    finally:
        if run.process.poll() is None:
            run.stop(signal.SIGTERM)


def test_it_says_each_part_and_where_everything_is(running: Running) -> None:
    for part in (
        "Valkey",
        "PostgreSQL",
        "Kafka",
        "ledger",
        "settle",
        "records",
        "deliver-prompt",
        "deliver-marketing",
        "edge",
    ):
        running.wait_for(rf"{part} +ready +\d+\.\d s", 1)
    for path in ("readyz", "docs", "metrics"):
        assert httpx.get(f"{running.url}/{path}", timeout=10).status_code == httpx.codes.OK
    assert f"{running.url}/docs" in running.said()


def test_what_it_prints_to_paste_works(running: Running) -> None:
    assert running.paste("messages").status_code == httpx.codes.FORBIDDEN
    granted = running.paste("relationships")
    assert granted.status_code == httpx.codes.CREATED, granted.text
    sent = running.paste("messages")
    assert sent.status_code == httpx.codes.ACCEPTED, sent.text


def test_everything_listens_on_loopback_only(running: Running) -> None:
    processes = [
        process for child in running.children().values() for process in (child, *child.children(recursive=True))
    ]
    listening = [
        connection.laddr
        for process in processes
        for connection in process.net_connections()
        if connection.status == "LISTEN"
    ]
    assert len(listening) >= 5
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_second_up_on_the_same_home_says_who_holds_it(running: Running) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "gateway", "up", "--home", str(running.home), "--port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 1
    assert f"process {running.process.pid}" in second.stdout
    assert running.url in second.stdout
    assert httpx.get(f"{running.url}/readyz", timeout=10).status_code == httpx.codes.OK


def test_a_killed_child_is_reported_and_started_again(running: Running) -> None:
    before = running.children()
    before["settle"].kill()
    running.wait_for(r"settle ended \(signal 9\); it starts again in 0\.5 s", 5)
    running.wait_for(r"settle +ready again", 30)
    after = running.children()
    assert after["settle"].pid != before["settle"].pid
    assert {name: child.pid for name, child in after.items() if name != "settle"} == {
        name: child.pid for name, child in before.items() if name != "settle"
    }


def test_sigterm_leaves_no_process_behind(running: Running) -> None:
    began = time.monotonic()
    assert running.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 15
    assert left(running.home) == []
    assert not (running.home / "run.json").exists()


def test_a_second_start_keeps_the_data_and_survives_its_own_kill(running: Running, place: tuple[Path, int]) -> None:
    again = Running(*place)
    try:
        again.wait_for(r"ready in(.|\n)*Ctrl-C", STARTS_WITHIN_S)
        assert again.paste("messages").json().get("code") != "relationship.missing"
        again.process.kill()
        again.process.wait()
        assert soon(lambda: left(again.home) == [], 15), left(again.home)
    finally:
        again.process.kill()


def test_a_part_given_by_address_is_not_started(parts_dir: Path, redis_url: str, kafka_bootstrap: str) -> None:
    run = Running(
        parts_dir / "given",
        free_port(),
        ASSENT_REDIS_URL=redis_url,
        ASSENT_KAFKA_BOOTSTRAP=kafka_bootstrap,
        ASSENT_DATABASE_URL="postgresql://nobody:nothing@127.0.0.1:1/none",
    )
    try:
        run.wait_for("PostgreSQL +as given in ASSENT_DATABASE_URL", 20)
        assert soon(lambda: (run.home / "run.json").exists() or run.process.poll() is not None, 20)
        assert not {"Valkey", "Kafka", "PostgreSQL"} & run.children().keys()
        assert "nothing" not in run.said()
    finally:
        run.stop(signal.SIGINT)
    assert left(run.home) == []


def test_a_fetch_that_hangs_is_stopped_at_once(parts_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = Running(
            parts_dir / "hanging",
            free_port(),
            ASSENT_MAVEN_URL=f"http://127.0.0.1:{silent.getsockname()[1]}",
            ASSENT_CACHE=str(parts_dir / "empty"),
            M2_REPO=str(parts_dir / "empty"),
            ASSENT_REDIS_URL="redis://127.0.0.1:1/0",
            ASSENT_DATABASE_URL="postgresql://127.0.0.1:1/none",
        )
        try:
            run.wait_for(r"0 of \d+ jars, +0\.0 of \d+\.\d MB", 20)
            began = time.monotonic()
            assert run.stop(signal.SIGINT) == 0
            assert time.monotonic() - began < 5
        finally:
            run.process.kill()
