"""The gateway's real processes over the test stack, as an operator runs them: `python -m gateway …`.

Each rig has its own Redis database, PostgreSQL database, topics, port, metrics folder and logs. Processes are started,
awaited, stopped and killed by their ids; what they wrote is kept for the tests that look for what must not be there.
"""

import asyncio
import os
import secrets
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from gateway.ledger import note
from gateway.local.child import Child
from gateway.local.parts import free_port
from gateway.local.processes import answers

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "ledger": ("ledger", "--with-hold"),
    "settle": ("settle", "--with-webhooks"),
    "deliver": ("deliver",),
    "records": ("records",),
    "edge": ("edge",),
    "urgent": ("deliver", "--classes", "verification,transactional,consent"),
    "marketing": ("deliver", "--classes", "marketing"),
}
EVERY = ("ledger", "settle", "deliver", "edge")
"""`urgent` and `marketing` stand in for `deliver` where classes have their own processes, as `assent up` has them."""
PARTITIONS = 2
LEDGER_KEY = note.generate("assent.test", seed=b"t" * 32)[0]
READY_S = 150.0
"""A machine that is busy takes long: a flush costs half a minute before anything is ready again."""
FINAL = frozenset({"delivered", "undelivered", "expired", "rejected", "cancelled", "unknown"})

_numbers = iter(range(10_000_000 + secrets.randbelow(40_000_000), 99_999_999))


def number() -> str:
    """A mainland number nobody else in this run has."""
    return f"+86139{next(_numbers)}"


def numbers(n: int) -> list[str]:
    return [number() for _ in range(n)]


def at(**delta: float) -> str:
    """Now, or so much later, as the API takes it."""
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def shipping(to: str, text: str | None = None, **more: Any) -> dict[str, Any]:
    """A message that an order permits at any hour; its text is like no other."""
    return {
        "to": to,
        "sender": "acme",
        "purpose": "transaction.shipping",
        "text": text or f"您的订单{uuid.uuid4().hex}已发货",
        **more,
    }


class Process:
    """One process: its command, its environment, and whether it has said that it is ready."""

    def __init__(self, name: str, env: Mapping[str, str], log: Path) -> None:
        self.name, self._env, self._log = name, dict(env), log
        self.child = Child(name, [], log=log)
        self._pipe = -1

    def start(self) -> None:
        self._close()
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        words = [sys.executable, "-m", "gateway", *COMMANDS[self.name]]
        env = self._env | {"ASSENT_READY_FD": str(theirs)}
        self.child = Child(self.name, words, log=self._log, env=env, cwd=ROOT, fds=(theirs,), grace_s=15.0)
        self.child.start()
        os.close(theirs)

    def ready(self) -> bool:
        assert self.child.alive(), f"{self.name}: {self.child.ended()}\n{self.child.said(40)}"
        if self.name == "edge":
            return answers(int(self._env["ASSENT_PORT"]))
        if self._pipe < 0:
            return True
        try:
            said = os.read(self._pipe, 16)
        except BlockingIOError:
            return False
        if said.startswith(b"ready"):
            self._close()
        return self._pipe < 0

    def _close(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def stop(self) -> None:
        self.child.stop()
        self._close()


@dataclass
class Gateway:
    """A running gateway and a caller of it. `http` calls as client `demo`."""

    folder: Path
    port: int
    env: dict[str, str]
    processes: dict[str, Process]
    http: httpx.AsyncClient
    sent: list[str] = field(default_factory=list)
    """Numbers and texts that must appear in no log."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- processes -------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        for name in names:
            self.processes[name].start()

    async def ready(self, *names: str) -> None:
        """Wait until each does its work."""
        until = time.monotonic() + READY_S
        for name in names:
            while not self.processes[name].ready():
                assert time.monotonic() < until, f"{name} is not ready\n{self.processes[name].child.said(40)}"
                await asyncio.sleep(0.03)

    def kill(self, name: str) -> None:
        """kill -9, with everything in its session."""
        self.processes[name].child.kill()

    async def restart(self, *names: str) -> None:
        for name in names:
            self.processes[name].start()
        await self.ready(*names)

    def stop(self) -> None:
        running = [process for process in reversed(self.processes.values()) if process.child.pid is not None]
        for process in running:
            process.child.ask()
        for process in running:
            process.stop()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """An operator's command, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def logs(self) -> dict[str, str]:
        return {file.stem: file.read_text(errors="replace") for file in self.folder.glob("*.log")}

    # --- callers ---------------------------------------------------------------------------------------------------

    async def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return await self.http.post(path, json=body, **more)

    async def ok(self, path: str, body: Any, **more: Any) -> Any:
        answer = await self.http.post(path, json=body, **more)
        assert answer.is_success, (answer.status_code, answer.text)
        return answer.json()

    async def orders(self, people: Sequence[str], kind: str = "order", sender: str = "acme") -> None:
        """A standing relationship for each."""
        for first in range(0, len(people), 1000):
            rows = [
                {"recipient": to, "sender": sender, "kind": kind, "ref": "o-1", "occurred_at": at(seconds=-1)}
                for to in people[first : first + 1000]
            ]
            results = (await self.ok("/v1/relationships/batch", {"relationships": rows}))["results"]
            assert {row["status"] for row in results} == {"recorded"}, results[:3]
        self.sent += people

    async def consents(self, people: Sequence[str], topics: Sequence[str], **more: Any) -> None:
        """An express consent of each to the topics."""
        for first in range(0, len(people), 1000):
            rows = [consent(to, topics, **more) for to in people[first : first + 1000]]
            results = (await self.ok("/v1/consents/batch", {"consents": rows}))["results"]
            assert {row["status"] for row in results} == {"recorded"}, results[:3]
        self.sent += people

    async def customer(self) -> str:
        """A person with an order."""
        to = number()
        await self.orders([to])
        return to

    async def send(self, body: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Accepted or held; its answer."""
        self.sent.append(body["text"])
        answer = await self.http.post("/v1/messages", json=body, **more)
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def view(self, message_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"/v1/messages/{message_id}")
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def until(self, message_id: str, *statuses: str, within_s: float = 15.0) -> dict[str, Any]:
        """The message once it has one of these statuses and is written."""
        until = time.monotonic() + within_s
        while True:
            found = await self.view(message_id)
            if found["status"] in statuses and found.get("timeline"):
                return found
            assert time.monotonic() < until, f"{found['status']}, wanted {statuses}: {found}"
            await asyncio.sleep(0.05)

    async def outcomes(self, ref: str) -> dict[str, str]:
        """The status of every message with this `client_ref`, by its id."""
        found: dict[str, str] = {}
        page: dict[str, Any] = {}
        while not found or page.get("next"):
            params = {"client_ref": ref, "limit": 200} | ({"before": page["next"]} if page else {})
            answer = await self.http.get("/v1/messages", params=params)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found |= {row["id"]: row["status"] for row in page["messages"]}
            if not page["messages"]:
                break
        return found

    async def all_until(self, ref: str, ids: Iterable[str], wanted: Iterable[str], *, within_s: float) -> Counter[str]:
        """How many of the ids, all of one `client_ref`, have each status, once all are among the wanted."""
        until = time.monotonic() + within_s
        while True:
            found = await self.outcomes(ref)
            counts = Counter(found.get(one, "absent") for one in ids)
            if set(counts) <= set(wanted) or time.monotonic() > until:
                return counts
            await asyncio.sleep(0.3)


def consent(to: str, topics: Sequence[str], **more: Any) -> dict[str, Any]:
    """A consent as a form's back end records it."""
    return {
        "recipient": to,
        "sender": "acme",
        "topics": list(topics),
        "action": "grant",
        "channel": "web",
        "occurred_at": at(seconds=-1),
        "evidence": {"checkbox_checked": True, "default_checked": False, "form_version": "f-3", "ip": "203.0.113.9"},
    } | more


def environment(
    folder: Path, port: int, *, redis_url: str, kafka: str, prefix: str, database_url: str, **settings: str
) -> dict[str, str]:
    """A process's whole environment: nothing of ours but what is given here."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / "metrics"
    metrics.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ASSENT_", "PROMETHEUS_"))}
    ours = {
        "redis_url": redis_url,
        "kafka_bootstrap": kafka,
        "topic_prefix": prefix,
        "database_url": database_url,
        "pepper": "ab" * 32,
        "master_key": "cd" * 32,
        "partitions": str(PARTITIONS),
        "replication": "1",
        "local": "true",
        "port": str(port),
        "metrics_dir": str(metrics),
        "ledger_dir": str(folder / "ledger"),
        "ledger_keys": LEDGER_KEY,
        "log_level": "debug",
    } | settings
    named = {f"ASSENT_{name.upper()}": value for name, value in ours.items()}
    return kept | named | {"PROMETHEUS_MULTIPROC_DIR": str(metrics), "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def gateway(
    folder: Path, names: Sequence[str] = EVERY, *, port: int | None = None, **settings: str
) -> AsyncIterator[Gateway]:
    """Prepared, started, ready; stopped at the end. `settings`: as `environment` takes them."""
    port = port or free_port()
    env = environment(folder, port, **settings)  # type: ignore[arg-type]
    headers = {"authorization": "Bearer demo-key"}
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=64)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10, limits=limits
    ) as http:
        processes = {name: Process(name, env, folder / f"{name}.log") for name in COMMANDS}
        running = Gateway(folder, port, env, processes, http)
        prepared = await asyncio.to_thread(running.command, "prepare")
        assert prepared.returncode == 0, prepared.stderr
        try:
            running.start(*names)
            await running.ready(*names)
            for _ in range(6 * int(settings.get("workers", "1"))):  # fresh connections, so that each worker is asked
                await running.ready(*(name for name in names if name == "edge"))
            yield running
        finally:
            await asyncio.to_thread(running.stop)
