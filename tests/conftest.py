"""One stack of real parts for each of the run's workers, started when its first test needs it.

`ASSENT_REDIS_URL`, `ASSENT_KAFKA_BOOTSTRAP` and `ASSENT_DATABASE_URL` replace a part: tests then use only the database
number that the Redis address names, topics under `topic_prefix`, and databases of their own. Parts die with this
process however it ends; a folder left behind by a killed run is removed by the next.
A file's tests stay on one worker. A suite over its budget fails the run, and so does a skipped test when `CI` is set.
"""

import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import psutil
import pytest
import redis

from gateway.local.parts import Kafka, Part, Postgres, Valkey, bring_up, free_port

hypothesis.settings.register_profile("assent", deadline=None)  # another's load on this machine is no finding
hypothesis.settings.load_profile("assent")

BUDGETS_S = {
    "unit": 90,
    "properties": 90,
    "architecture": 90,
    "integration": 240,
    "fault": 300,
    "carriers": 90,
    "ledger": 90,
    "health": 150,
    "contract": 120,
    "writes": 120,
    "interop": 900,
    "browser": 480,
}
"""Seconds of the run that a suite may take; `unit`, `properties` and `architecture` share one budget.

None with `ASSENT_LONG`, which asks for the long seeds."""
APART = {"browser", "interop"}
"""Suites with a `make` target of their own: collected only when they are named."""
SHARED = {"properties": "unit", "architecture": "unit"}
PREFIX = "assent-test-"

_spent_s: dict[str, float] = {}
_skipped: list[str] = []
_workers = 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    apart = collection_path.parent == Path(__file__).parent and collection_path.name in APART
    return True if apart and not any(collection_path.name in Path(one).parts for one in config.args) else None


# --- budgets and skips ---------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    global _workers  # noqa: PLW0603 - pytest's hooks share nothing else
    _workers = max(1, int(getattr(config.option, "numprocesses", None) or 1))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    suite = Path(report.nodeid.split("::")[0]).parts[1:2]
    name = suite[0] if suite else "other"
    name = SHARED.get(name, name)
    _spent_s[name] = _spent_s.get(name, 0.0) + report.duration / _workers
    if report.skipped:
        _skipped.append(report.nodeid)


def _faults() -> list[str]:
    over = [
        f"tests/{name} took {s:.0f} s, its budget is {BUDGETS_S[name]} s"
        for name, s in _spent_s.items()
        if s > BUDGETS_S.get(name, 1e9) and not os.environ.get("ASSENT_LONG")
    ]
    return over + ([f"skipped in CI: {test}" for test in _skipped] if os.environ.get("CI") else [])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and not os.environ.get("PYTEST_XDIST_WORKER") and _faults():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    spent = ", ".join(f"{name} {s:.1f} s" for name, s in sorted(_spent_s.items()))
    terminalreporter.write_line(f"spent: {spent}")
    for fault in _faults():
        terminalreporter.write_line(f"FAILED {fault}", red=True)


# --- the stack -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def parts_dir() -> Iterator[Path]:
    """A folder for servers' data that an unprivileged user can pass through."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{PREFIX}*"):
        with suppress(ValueError, IndexError):
            if not psutil.pid_exists(int(left.name.split("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, parts_dir: Path) -> Iterator[dict[str, Part]]:
    """Every embedded part that some selected test needs and the environment does not replace, started together."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    log = parts_dir / "log"
    makers: dict[str, tuple[str, Callable[[], Part]]] = {
        "valkey_url": ("ASSENT_REDIS_URL", lambda: Valkey(parts_dir / "valkey", free_port(), log / "valkey.log")),
        "kafka_bootstrap": (
            "ASSENT_KAFKA_BOOTSTRAP",
            lambda: Kafka(parts_dir / "kafka", free_port(), free_port(), log / "kafka.log"),
        ),
        "postgres_url": (
            "ASSENT_DATABASE_URL",
            lambda: Postgres(parts_dir / "postgres", free_port(), log / "postgres.log"),
        ),
    }
    parts = {
        name: make() for name, (variable, make) in makers.items() if name in wanted and not os.environ.get(variable)
    }
    try:
        bring_up(list(parts.values()))
        yield parts
    finally:
        for part in parts.values():
            part.child.ask()
        for part in parts.values():
            part.stop()


def _endpoint(request: pytest.FixtureRequest, fixture: str, variable: str) -> str:
    given = os.environ.get(variable)
    return given or request.getfixturevalue("stack")[fixture].endpoint


@pytest.fixture(scope="session")
def valkey_url(request: pytest.FixtureRequest) -> str:
    """A standalone server; prefer `redis_url`, which is empty for each module."""
    return _endpoint(request, "valkey_url", "ASSENT_REDIS_URL")


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> str:
    """A broker; put every topic under `topic_prefix`."""
    return _endpoint(request, "kafka_bootstrap", "ASSENT_KAFKA_BOOTSTRAP")


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """A server's maintenance database; prefer `database_url`, which is fresh for each module."""
    return _endpoint(request, "postgres_url", "ASSENT_DATABASE_URL")


_numbers = iter(range(1, 1_000_000))


@pytest.fixture(scope="module")
def redis_url(valkey_url: str) -> str:
    """An empty database of its own for each module: the next number, or the given address's own number."""
    url = valkey_url
    if not os.environ.get("ASSENT_REDIS_URL"):
        url = url.rsplit("/", 1)[0] + f"/{1 + next(_numbers) % 63}"
    with redis.Redis.from_url(url) as server:
        server.flushdb()
    return url


@pytest.fixture(scope="module")
def topic_prefix() -> str:
    """A prefix for topics and groups that nobody else has."""
    return f"t{uuid.uuid4().hex[:10]}."


def _wait(work: Coroutine[object, object, Any]) -> Any:
    """Run a coroutine to its end beside whatever loop the tests use."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def migrated(postgres_url: str) -> Iterator[str]:
    """The name of a database at the newest schema, copied for each module."""
    from gateway.records import migrate  # noqa: PLC0415 - a run of unit tests must not need it

    name = f"assent_template_{uuid.uuid4().hex[:10]}"
    _wait(_execute(postgres_url, f'CREATE DATABASE "{name}"'))
    _wait(migrate.migrate(_database(postgres_url, name)))
    yield name
    _wait(_execute(postgres_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def _database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture(scope="module")
def database_url(postgres_url: str, migrated: str) -> Iterator[str]:
    """A fresh, migrated database for each module, dropped afterwards."""
    name = f"assent_{uuid.uuid4().hex[:10]}"
    _wait(_execute(postgres_url, f'CREATE DATABASE "{name}" TEMPLATE "{migrated}"'))
    yield _database(postgres_url, name)
    _wait(_execute(postgres_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


# --- a cluster, and parts that a test may stop ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def cluster_url(parts_dir: Path) -> Iterator[str]:
    """Three real cluster nodes, every slot served: `redis+cluster://127.0.0.1:a,127.0.0.1:b,127.0.0.1:c`."""
    nodes = [
        Valkey(parts_dir / f"node{n}", free_port(), parts_dir / f"log/node{n}.log", cluster_port=free_port())
        for n in range(3)
    ]
    for n, node in enumerate(nodes):
        node.name = f"node {n}"
    try:
        bring_up(nodes)
        _join(nodes)
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    finally:
        for node in nodes:
            node.child.ask()
        for node in nodes:
            node.stop()


def _join(nodes: Sequence[Valkey]) -> None:
    """Share the 16,384 slots out and wait until every node sees all of them."""
    servers = [redis.Redis(port=node.port, decode_responses=True) for node in nodes]
    edges = [16_384 * n // len(nodes) for n in range(len(nodes) + 1)]
    for server, first, last in zip(servers, edges, edges[1:], strict=False):
        server.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        server.execute_command("CLUSTER", "SET-CONFIG-EPOCH", servers.index(server) + 1)
    for node in nodes[1:]:
        servers[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.cluster_port)
    until = time.monotonic() + 20
    while not all(_whole(server, len(nodes)) for server in servers):
        assert time.monotonic() < until, "the cluster did not form"
        time.sleep(0.05)
    for server in servers:
        server.close()


def _whole(server: Any, size: int) -> bool:
    info = server.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, dict) else dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    return text["cluster_state"] == "ok" and int(text["cluster_known_nodes"]) == size


@pytest.fixture
def own_part(parts_dir: Path) -> Iterator[Callable[[str], Part]]:
    """Starts a part of the test's own (`valkey`, `kafka`, `postgres`) that it may stop, kill and start again."""
    started: list[Part] = []

    def start(kind: str) -> Part:
        home, log = parts_dir / f"own-{uuid.uuid4().hex[:8]}", parts_dir / f"log/own-{kind}.log"
        part: Part
        match kind:
            case "valkey":
                part = Valkey(home, free_port(), log)
            case "kafka":
                part = Kafka(home, free_port(), free_port(), log)
            case _:
                part = Postgres(home, free_port(), log)
        started.append(part)
        bring_up([part])
        return part

    yield start
    for part in started:
        part.stop()
