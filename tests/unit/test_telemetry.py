"""What `/metrics` shows of several processes: added up or the highest, of the living, every metric named."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import telemetry

WORKER = """
import sys
from gateway import telemetry
n = int(sys.argv[1])
telemetry.HEAD.set(n)
telemetry.BEAT_AGE.set(n / 10)
telemetry.LAG.set(n, "messages.marketing", "deliver")
telemetry.REPLAYS.add(n)
telemetry.flush()
print("flushed", flush=True)
sys.stdin.read()
"""
SHOW = """
import pathlib, sys
from gateway import telemetry
sys.stdout.write(telemetry.exposition(pathlib.Path(sys.argv[1])).decode())
"""


def python(folder: Path, *words: str) -> "subprocess.Popen[str]":
    env = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-c", *words], env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@contextmanager
def worker(folder: Path, n: int) -> Iterator[None]:
    """A process that flushed its metrics and lives on."""
    with python(folder, WORKER, str(n)) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "flushed\n"
        yield
        running.kill()


def shown(folder: Path) -> dict[str, float]:
    """What `/metrics` says: a sample's value, and each metric's kind as `# name kind`."""
    text, _ = python(folder, SHOW, str(folder)).communicate(timeout=20)
    lines = text.splitlines()
    kinds = {f"# {line[7:]}": 0.0 for line in lines if line.startswith("# TYPE ")}
    return kinds | {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] != "#"}


def test_levels_of_processes_are_the_highest_or_the_sum_and_counts_outlive_them(tmp_path: Path) -> None:
    lag = 'assent_consumer_lag_records{consumer="deliver",topic="messages.marketing"}'
    with worker(tmp_path, 30):
        with worker(tmp_path, 500):
            both = shown(tmp_path)
        alone = shown(tmp_path)
    assert (both["assent_events_head"], both["assent_cfg_beat_age_seconds"], both[lag]) == (500, 50, 530)
    assert (alone["assent_events_head"], alone["assent_cfg_beat_age_seconds"], alone[lag]) == (30, 3, 30)
    assert both["assent_idempotent_replays_total"] == alone["assent_idempotent_replays_total"] == 530


def test_every_metric_is_there_before_anything_happens(tmp_path: Path) -> None:
    kinds = {telemetry.Count: "counter", telemetry.Level: "gauge", telemetry.Spread: "histogram"}
    wanted = {f"# {metric.name} {kinds[type(metric)]}" for metric in telemetry.metrics()}
    assert {name for name in shown(tmp_path) if name.startswith("#")} == wanted


QUOTING = """
import asyncio, logging
from gateway import telemetry
telemetry.configure_logging("info")
try:
    raise ValueError("the number is 13800138000")
except ValueError:
    logging.getLogger("uvicorn.error").exception("Exception in ASGI application\\n")

async def main():
    async def failing():
        raise KeyError("13800138000")
    asyncio.ensure_future(failing())
    await asyncio.sleep(0.01)

asyncio.run(main())
import gc
gc.collect()
"""


def test_a_librarys_log_says_where_an_exception_passed_and_never_what_it_says() -> None:
    """Its text may quote a number: a driver's `invalid input for query argument $1: '13800138000'` does."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", QUOTING], env=env, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    told = {line["logger"]: (line["event"], line["exception"][0]["exception"]) for line in lines}
    assert told["uvicorn.error"] == ("Exception in ASGI application", "ValueError")
    assert told["asyncio"] == ("Task exception was never retrieved", "KeyError")
    assert "13800138000" not in done.stderr
