"""Rules and boards before Prometheus' own promtool: what fires and when, and what real processes' metrics answer.

Needs Go; promtool, pinned in promtool/go.mod and go.sum, comes through its ordinary proxy and is built without service
discovery. Run by `make test-interop`.
"""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry import metrics
from tests.integration.gateway_rig import Gateway, at, gateway, number, shipping

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
DEPLOY = HERE.parents[1] / "deploy"
RULES = DEPLOY / "prometheus-rules.yaml"
TESTS = sorted(DEPLOY.glob("prometheus-rules.*test.yaml"))
STEP_S = 30
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def alerts() -> list[str]:
    return [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def queries() -> Iterator[tuple[str, str]]:
    """Every expression of every board, as Grafana would send it, with where it stands."""
    for board in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        document = orjson.loads(board.read_bytes())
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                where = f"{board.stem}: {panel['title']}: {target['refId']}"
                yield where, re.sub(r"\$(?!__)\w+", ".*", target["expr"].replace("$__rate_interval", "1m"))
        for one in document["annotations"]["list"]:
            yield f"{board.stem}: {one['name']}", one["expr"]


# --- promtool --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("bin") / "promtool"
    package = "github.com/prometheus/prometheus/cmd/promtool"
    done = subprocess.run(
        ["go", "build", "-mod=readonly", "-tags=remove_all_sd", "-o", program, package],
        cwd=HERE / "promtool",
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


def run(promtool: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *words], capture_output=True, text=True, timeout=120, check=False)


def test_rules_and_configuration_are_sound(promtool: Path) -> None:
    for words in (
        ("check", "rules", "--lint=all", "--lint-fatal", RULES),
        ("check", "config", DEPLOY / "prometheus.yaml"),
    ):
        done = run(promtool, *words)
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in run(promtool, "check", "rules", RULES).stdout


def test_every_alert_fires_when_it_should_and_not_otherwise(promtool: Path) -> None:
    done = run(promtool, "test", "rules", *TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_that_never_fires_or_always_or_at_once_is_found(promtool: Path, alert: str, tmp_path: Path) -> None:
    tests, rule = alone(alert)
    wrongs = [{"expr": f"({rule['expr']}) and on () vector(0) > 1"}, {"expr": f"({rule['expr']}) or on () vector(1)"}]
    wrongs += [{"for": "0s"}] if "for" in rule else []
    for n, wrong in enumerate([{}, *wrongs]):
        folder = tmp_path / str(n)
        folder.mkdir()
        document = {"groups": [{"name": "one", "rules": [{**rule, **wrong}]}]}
        (folder / RULES.name).write_text(yaml.safe_dump(document))
        (folder / "test.yaml").write_text(yaml.safe_dump(tests))
        assert (run(promtool, "test", "rules", folder / "test.yaml").returncode == 0) is (not wrong), wrong


def alone(alert: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An alert's own tests, and its rule."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rule = next(rule for group in groups for rule in group["rules"] if rule["alert"] == alert)
    for file in TESTS:
        document: dict[str, Any] = yaml.safe_load(file.read_text())
        own = [one for one in document["tests"] if one["alert_rule_test"][0]["alertname"] == alert]
        if own:
            return {**document, "tests": own}, rule
    raise AssertionError(alert)


# --- boards on what real processes show ------------------------------------------------------------------------------


def samples(text: str) -> Samples:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if not one.name.endswith("_created")
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scraped(
    redis_url: str, kafka_bootstrap: str, topic_prefix: str, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Samples, Samples]]:
    """What all processes show before and after messages to every number of the simulator."""
    parts = {"redis_url": redis_url, "kafka": kafka_bootstrap, "prefix": topic_prefix, "database_url": database_url}
    async with gateway(tmp_path_factory.mktemp("scraped"), **parts) as one:
        document = (await one.http.get("/v1/purposes")).json()
        people = [row["number"] for row in document["simulator_numbers"]]
        await one.orders(people)
        shown = []
        for _ in range(2):
            await traffic(one, people)
            await asyncio.sleep(2.5)  # receipts come; every process flushes once a second
            shown.append(samples((await one.http.get("/metrics")).text))
        yield shown[0], shown[1]


async def traffic(one: Gateway, people: list[str]) -> None:
    sent = [await one.post("/v1/messages", shipping(to)) for to in people]
    taken = [
        answer.json()["id"] for answer in sent if answer.status_code == 202
    ]  # who opted out at the carrier is refused
    assert len(taken) > len(people) / 2
    code = {"purpose": "verification.code", "request": {"ref": "login-1", "occurred_at": at(seconds=-1)}}
    await one.send(shipping(number(), "您的验证码为 482913") | code)
    assert (await one.post("/v1/messages", shipping(number()))).status_code == 403
    held = await one.send(shipping(people[0], not_before=at(hours=1)))
    assert held["status"] == "held"
    await one.until(taken[0], "delivered", "undelivered", "rejected", "expired", "unknown", "sent")


def series(first: Samples, then: Samples) -> list[dict[str, str]]:
    """Both scrapes as promtool's input: each series with its two values."""
    found = []
    for (name, labels), value in then.items():
        words = ",".join(f"{label}={json.dumps(text, ensure_ascii=False)}" for label, text in sorted(labels))
        before = first.get((name, labels))
        found.append(
            {"series": f"{name}{{{words}}}", "values": f"{'_' if before is None else f'{before:g}'} {value:g}"}
        )
    return found


def test_every_query_of_a_board_is_answered_from_real_metrics(
    promtool: Path, scraped: tuple[Samples, Samples], tmp_path: Path
) -> None:
    first, then = scraped
    names = {name for name, _ in then}
    asked = []
    for where, expr in queries():
        named = set(re.findall(r"\bassent_\w+", expr))
        if named and named <= names:
            asked.append((where, expr))
    asked.append(("nothing", 'assent_part_away{part="nothing"}'))
    rules = [{"record": f"assent:q{n}", "expr": f"count({expr})"} for n, (_, expr) in enumerate(asked)]
    everything = [{"record": f"assent:all{n}", "expr": expr} for n, (_, expr) in enumerate(queries())]
    (tmp_path / "boards.yaml").write_text(
        yaml.safe_dump({"groups": [{"name": "boards", "rules": [*rules, *everything]}]})
    )
    parsed = run(promtool, "check", "rules", tmp_path / "boards.yaml")
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    there = [
        {
            "expr": f"count(assent:q{n} > 0) * 0",
            "eval_time": f"{STEP_S}s",
            "exp_samples": [{"labels": "{}", "value": 0}],
        }
        for n in range(len(asked))
    ]
    test = {"interval": f"{STEP_S}s", "input_series": series(first, then), "promql_expr_test": there}
    document = {"rule_files": ["boards.yaml"], "evaluation_interval": f"{STEP_S}s", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document, allow_unicode=True))
    done = run(promtool, "test", "rules", tmp_path / "test.yaml")
    empty = {asked[int(n)][0] for n in re.findall(r"assent:q(\d+)", done.stdout + done.stderr)}
    print(f"{len(asked)} of {len(everything)} queries have their metrics here; without an answer: {sorted(empty)}")
    assert empty == {"nothing"}
    assert len(asked) > 0.8 * len(everything)


def test_the_labels_that_rules_compare_are_said_by_real_processes(scraped: tuple[Samples, Samples]) -> None:
    _, then = scraped

    def values(name: str, label: str, **where: str) -> set[str]:
        return {dict(labels)[label] for one, labels in then if one == name and where.items() <= dict(labels).items()}

    submitted = values("assent_submissions_total", "carrier", outcome="submitted")
    assert submitted
    assert submitted <= values("assent_receipts_seen_total", "carrier")
    assert "messages" in values("assent_admission_seconds_bucket", "route")
    assert {"accepted"} <= values("assent_admissions_total", "code")
    topics = values("assent_consumer_lag_records", "topic")
    assert {"messages.verification", "messages.transactional", "messages.marketing"} <= topics
    assert {"deliver", "settle"} <= values("assent_consumer_lag_records", "consumer")
    assert values("assent_part_away", "part") == {"cfg", "redis", "kafka", "postgresql"}
    assert {"open", "warn"} <= values("assent_breakers", "position")
    declared = {one.name for one in metrics()}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) if name not in declared else name for name, _ in then}
    assert {one for one in shown if one.startswith("assent_")} <= declared
