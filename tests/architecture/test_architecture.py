"""The shape of the tree: who imports whom, what is documented, how it is packaged and deployed."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from gateway import telemetry
from gateway.cli import app
from gateway.contract.codes import MEANINGS, Code
from gateway.settings import Settings
from gateway.stream import Topics

ROOT = Path(__file__).parents[2]
ROOMS = {
    *("__main__", "cli", "assemble", "local", "edge", "deliver", "settle", "intake", "ledger", "records", "carriers"),
    *("console", "guard", "stream", "rules", "contract", "telemetry", "settings"),
}
PROCESSES = {"edge", "deliver", "settle", "records", "webhooks", "ledger", "hold", "console"}
PARTS = {"valkey", "postgres", "kafka"}
FOREIGN = {
    "redis": {"guard"},
    "aiokafka": {"stream", "deliver"},
    "asyncpg": {"ledger", "records", "assemble", "deliver", "settle", "edge", "console"},
    "fastapi": {"edge", "console"},
    "starlette": {"edge", "console"},
    "nicegui": {"console"},
    "uvicorn": {"assemble"},
    "httpx": {"carriers", "ledger", "settle"},
    "standardwebhooks": {"settle"},
    "pydantic_settings": {"settings"},
    "typer": {"cli"},
    "prometheus_client": {"telemetry", "assemble"},
    "structlog": {"telemetry"},
    "sqlite3": {"ledger"},
    "rfc3161_client": {"ledger"},
    "psutil": {"local"},
    "phonenumbers": {"rules"},
    "cryptography": {"ledger"},
    "msgpack": {"guard", "intake"},
    "jinja2": {"edge", "ledger", "console"},
}
"""Who may import what is foreign: a room owns one foreign thing."""
VAGUE = re.compile(r"util|helper|common|manager|service|^base|handler|processor|misc")


def sources() -> list[Path]:
    return sorted((ROOT / "gateway").rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(ROOT / "gateway").parts[0].removesuffix(".py")


@cache
def imports_of(file: Path) -> frozenset[str]:
    """Full names of the modules a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


# --- imports ---------------------------------------------------------------------------------------------------------


def test_import_rules_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_every_file_is_in_a_room() -> None:
    assert {room_of(file) for file in sources()} - {"__init__"} == ROOMS


def test_settings_are_read_by_assemble_and_local_only() -> None:
    """And by the command line, which hands them to `assemble`."""
    readers = {room_of(file) for file in sources() if "gateway.settings" in imports_of(file)}
    assert readers <= {"assemble", "local", "cli"}
    environs = {room_of(file) for file in sources() if "environ" in file.read_text("utf-8")}
    assert environs <= {"__main__", "assemble", "local", "cli", "settings"}


@pytest.mark.parametrize("package", FOREIGN)
def test_a_foreign_thing_has_its_rooms(package: str) -> None:
    users = {room_of(file) for file in sources() if any(name.partition(".")[0] == package for name in imports_of(file))}
    assert users <= FOREIGN[package]
    assert users, f"nobody imports {package}: take it from the table and from the dependencies"


def test_who_takes_postgresqls_faults_takes_all_of_them() -> None:
    """A list of one's own forgets one, and a process dies of it."""
    own = {
        file.relative_to(ROOT).as_posix()
        for file in sources()
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Tuple)
        and {"PostgresError", "InterfaceError"} <= {ast.unparse(one).rpartition(".")[2] for one in node.elts}
    }
    assert own == {"gateway/records/connection.py", "gateway/ledger/rows.py"}


def test_rules_and_contract_do_no_io() -> None:
    forbidden = {"asyncio", "socket", "subprocess", "threading", "random", "time", "os"}
    for file in sources():
        if room_of(file) in {"rules", "contract"}:
            used = {name.partition(".")[0] for name in imports_of(file)} & forbidden
            assert not used - ({"os", "time"} if file.name == "ids.py" else set()), (file.name, used)


def test_files_are_small_and_named_for_what_they_hold() -> None:
    for file in sources():
        lines = file.read_text("utf-8").count("\n")
        assert lines <= 450, f"{file.relative_to(ROOT)} has {lines} lines"
        assert not VAGUE.search(file.stem), file.name
        assert ast.get_docstring(ast.parse(file.read_text("utf-8"))), f"{file.name} does not say what it owns"


def test_nothing_is_left_undone_or_pretended() -> None:
    """No test that is passed over, no stand-in for a part, no note to do it later."""
    words = re.compile(
        r"\b(TO"
        r"DO|FIX"
        r"ME|XX"
        r"X)\b|mark\.(skip|xfail)|pytest\.(skip|xfail)\(|unittest\.mock|Magic"
        r"Mock|fake"
        r"redis"
    )
    for file in [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "loadtests").rglob("*.py")]:
        found = words.search(file.read_text("utf-8"))
        assert found is None or file == Path(__file__), f"{file.relative_to(ROOT)}: {found and found[0]}"


# --- documents -------------------------------------------------------------------------------------------------------


def rows(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables, by the name in their first cell."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "docs" / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `"):
            name = cells[0].split("`")[1]
            assert name not in found, f"{page} has {name} twice"
            found[name] = cells
    return found


def test_every_setting_is_documented_and_none_that_is_not_there() -> None:
    documented = rows("settings.md")
    assert {name for name in documented if name.startswith("ASSENT_")} == {
        f"ASSENT_{name.upper()}" for name in Settings.model_fields
    }
    for name, one in Settings.model_fields.items():
        assert one.description
        assert documented[f"ASSENT_{name.upper()}"][-1]


def test_every_metric_is_documented_and_none_that_is_not_there() -> None:
    documented = rows("metrics.md")
    assert set(documented) == {one.name for one in telemetry.metrics()}
    for one in telemetry.metrics():
        assert one.help in documented[one.name]


def test_every_code_is_documented_and_none_that_is_not_there() -> None:
    documented = rows("codes.md")
    assert set(documented) == {code.value for code in Code}
    for code in Code:
        assert str(MEANINGS[code].status) in documented[code]
        assert MEANINGS[code].action_zh in documented[code]


def test_every_topic_has_its_schema() -> None:
    document = yaml.safe_load((ROOT / "schemas/asyncapi.yaml").read_text("utf-8"))
    channels = {channel["address"] for channel in document["channels"].values()}
    assert channels == set(Topics().all())
    files = {file.name.partition(".")[0] for file in (ROOT / "schemas").glob("*.schema.json")}
    assert {name.partition(".")[0] for name in channels} | {"webhooks"} == files


# --- packaging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_pins_all_by_hash_and_names_no_host(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert not re.search(r"https?://|--(extra-)?index|--find-links|file:", text)
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n", "", text).strip())
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==[^ ;]+( ; .+)? \\\n", entry), entry[:120]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry[:120]


def test_the_run_time_lock_is_part_of_the_one_for_development() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"(?m)^([A-Za-z0-9._-]+==[^ \\]+)", (ROOT / name).read_text("utf-8")))

    assert pins("requirements.lock") < pins("requirements-dev.lock")


def test_the_image_is_built_in_stages_and_runs_without_privileges() -> None:
    lines = [
        line.strip()
        for line in (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    stages = [n for n, line in enumerate(lines) if line.startswith("FROM ")]
    assert len(stages) >= 2
    last = lines[stages[-1] :]
    assert any(line.startswith("COPY --from=") for line in last)
    assert not any(re.search(r"\bpip install\b|\bapt-get install\b", line) for line in last)
    users = [line.split()[1] for line in last if line.startswith("USER ")]
    assert users
    assert users[-1] not in {"root", "0"}
    assert last.index(f"USER {users[-1]}") < next(n for n, line in enumerate(last) if line.startswith("ENTRYPOINT"))
    assert all(
        ":" in line.split()[1] and not line.split()[1].endswith(":latest") for line in lines if "FROM " in line[:5]
    )
    assert any("--require-hashes" in line for line in lines)
    assert not any(re.search(r"(?i)(pepper|master_key|password)\s*=", line) for line in lines)


# --- compose ---------------------------------------------------------------------------------------------------------


@cache
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))
    return document


def ours() -> dict[str, dict[str, Any]]:
    """Services of our own image."""
    return {name: one for name, one in compose()["services"].items() if str(one.get("image", "")).startswith("assent:")}


def test_compose_fits_the_specifications_schema() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    words = [check, "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_runs_every_process_and_part() -> None:
    services = compose()["services"]
    assert services.keys() >= PARTS
    words = {name: one["command"] for name, one in ours().items()}
    assert {command[0] for command in words.values()} == PROCESSES | {"prepare"}
    classes = {"verification", "transactional", "marketing", "consent"}
    delivered = [
        command[command.index("--classes") + 1].split(",") for command in words.values() if command[0] == "deliver"
    ]
    assert sorted(one for group in delivered for one in group) == sorted(classes)
    assert not any("marketing" in group and len(group) > 1 for group in delivered)


def test_commands_in_compose_exist_with_their_options() -> None:
    known = typer.main.get_group(app).commands  # type: ignore[attr-defined]
    for name, one in ours().items():
        command = known[one["command"][0]]
        options = {text for parameter in command.params for text in parameter.opts}
        assert {word for word in one["command"] if word.startswith("--")} <= options, name


def test_variables_in_compose_are_settings() -> None:
    known = {f"ASSENT_{name.upper()}" for name in Settings.model_fields}
    used: set[str] = set()
    for name, one in ours().items():
        assert set(one["environment"]) <= known, name
        used |= set(one["environment"])
    assert used >= {"ASSENT_REDIS_URL", "ASSENT_KAFKA_BOOTSTRAP", "ASSENT_DATABASE_URL", "ASSENT_PEPPER"}
    text = (ROOT / "deploy/compose.yaml").read_text("utf-8")
    example = (ROOT / "deploy/env.example").read_text("utf-8")
    wanted = set(re.findall(r"\$\{(\w+)", text))
    assert wanted == set(re.findall(r"(?m)^(\w+)=", example))


def test_compose_keeps_what_it_stores_and_gives_our_processes_nothing() -> None:
    services = compose()["services"]
    for part in PARTS:
        (volume,) = services[part]["volumes"]
        assert volume.partition(":")[0] in compose()["volumes"]
        assert services[part]["healthcheck"]["test"]
    valkey = " ".join(services["valkey"]["command"])
    for words in ("--maxmemory-policy noeviction", "--hash-max-listpack-value 512", "--appendonly yes"):
        assert words in valkey
    for name, one in ours().items():
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"], name
    published = [port for one in services.values() for port in one.get("ports", ())]
    assert all(str(port).startswith("127.0.0.1:") for port in published)


def test_prometheus_scrapes_every_process() -> None:
    document = yaml.safe_load((ROOT / "deploy/prometheus.yaml").read_text("utf-8"))
    targets = {t for job in document["scrape_configs"] for one in job["static_configs"] for t in one["targets"]}
    served = {name for name, one in ours().items() if one["command"][0] != "prepare"}
    assert {target.partition(":")[0] for target in targets} == served
    ports = {one["environment"]["ASSENT_METRICS_PORT"] for name, one in ours().items() if name != "edge"}
    assert {target.partition(":")[2] for target in targets if not target.startswith("edge")} == ports


def test_no_fault_is_made_once_and_raised_again() -> None:
    """One that is kept gathers the frames of every request it was raised in, with all that is in them, for ever."""
    kept = []
    for file in sources():
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            kept += [
                f"{module.__name__}.{name}" for name, one in vars(module).items() if isinstance(one, BaseException)
            ]
    assert kept == []
