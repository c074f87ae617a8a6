"""A home: its ports, its secrets, who holds it, and what is left of a killed run."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.local.child import Child, started_at
from gateway.local.home import Home, HomeError, alive
from gateway.local.parts import free_port, free_ports, is_free

SLEEP = ["sleep", "60"]


def soon(true: Callable[[], bool], within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if true():
            return True
        time.sleep(0.02)
    return False


def test_ports_follow_the_edge_and_stay_where_they_were(tmp_path: Path) -> None:
    edge = free_port()
    first = Home(tmp_path).ports(edge)
    assert first.edge == edge
    assert len({first.edge, first.valkey, first.postgres, first.kafka, first.controller}) == 5
    assert Home(tmp_path).ports(edge) == first


def test_a_port_taken_by_somebody_moves_and_is_remembered(tmp_path: Path) -> None:
    edge = free_port()
    first = Home(tmp_path).ports(edge)
    with socket.create_server(("127.0.0.1", first.kafka)):
        second = Home(tmp_path).ports(edge)
    assert second.kafka != first.kafka
    assert second.valkey == first.valkey
    assert Home(tmp_path).ports(edge) == second


def test_the_edges_own_port_does_not_move(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(HomeError, match="--port"):
        Home(tmp_path).ports(taken.getsockname()[1])


def test_free_ports_are_free_and_all_different() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = free_ports([port, port, port])
    assert port not in chosen
    assert len(set(chosen)) == 3
    assert all(is_free(port) for port in chosen)


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    secret = Home(tmp_path).secret("pepper")
    assert len(bytes.fromhex(secret)) == 32
    assert Home(tmp_path).secret("pepper") == secret
    assert Home(tmp_path).secret("master_key") != secret
    assert (tmp_path / "secrets/pepper").stat().st_mode & 0o777 == 0o600


def holder(home: Path, *, record: bool) -> "subprocess.Popen[str]":
    """Another process that holds the home, and says so."""
    code = f"""
import time
from pathlib import Path
from gateway.local.home import Home
home = Home(Path({str(home)!r}))
home.take()
{"home.record('http://127.0.0.1:1234', [])" if record else ""}
print("held", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    first = holder(tmp_path, record=True)
    try:
        with pytest.raises(HomeError, match=rf"process {first.pid}, http://127.0.0.1:1234"):
            Home(tmp_path).take()
    finally:
        first.kill()
        first.wait()
    home = Home(tmp_path)
    home.take()
    home.release()


def test_orphans_of_a_killed_run_are_ended_and_nobody_else(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.take()
    orphan = subprocess.Popen(SLEEP, pass_fds=(home.lock_fd,), start_new_session=True)
    stranger = subprocess.Popen(SLEEP, start_new_session=True)
    try:
        known = {"name": "x", "pid": orphan.pid, "started": started_at(orphan.pid)}
        reused = {"name": "y", "pid": stranger.pid, "started": (started_at(stranger.pid) or 0.0) - 60}
        home.record("", [known, reused])
        run = (tmp_path / "run.json").read_text()
        (tmp_path / "run.json").write_text(run.replace(f'"pid": {os.getpid()}', '"pid": 1'))
        os.close(home.lock_fd)

        second = Home(tmp_path)
        second.take()
        second.release()
        assert orphan.wait(5) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for process in (orphan, stranger):
            process.kill()
            process.wait()


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from gateway.local.child import Child
child = Child("sleep", {SLEEP!r}, log=Path({str(tmp_path / "log")!r}))
child.start()
time.sleep(0.3)
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert started_at(child) is not None
    parent.kill()
    parent.wait()
    assert soon(lambda: started_at(child) is None)


def test_a_child_that_ignores_its_signal_is_killed_with_all_it_started(tmp_path: Path) -> None:
    child = Child(
        "stubborn", ["sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait; wait"], log=tmp_path / "log", grace_s=0.3
    )
    child.start()
    assert soon(lambda: child.said().strip().isdigit())
    grandchild = int(child.said())
    child.stop()
    assert child.ended() == "signal 9"
    assert soon(lambda: started_at(grandchild) is None)


def test_a_child_says_how_it_ended_and_what_it_said_last(tmp_path: Path) -> None:
    child = Child("loud", ["sh", "-c", "echo one; echo two >&2; exit 3"], log=tmp_path / "log")
    for _ in range(2):  # the second start shows its own words only
        child.start()
        assert soon(lambda: child.ended() == "exit 3")
        assert child.said() == "one\ntwo"


def test_a_process_is_known_by_its_start_time_too() -> None:
    me = {"pid": os.getpid(), "started": started_at(os.getpid())}
    assert alive(me)
    assert not alive(me | {"started": 1.0})
    assert not alive({})
