"""What wakes somebody, what it says, what the boards show: rules, runbook, dashboards and code know the same names."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway import telemetry
from gateway.contract.health import page_of

ROOT = Path(__file__).parents[2]
BOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
SHIPPED = {"row", "stat", "timeseries", "table", "bargauge", "text"}
"""Kinds of panels that Grafana itself brings."""
PAGES = ROOT / "docs/runbook"
RULES = ROOT / "deploy/prometheus-rules.yaml"
OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_HISTOGRAMS = re.compile(r"_(bucket|sum|count)$")
SCRAPED = {"job", "instance"}


@cache
def rules() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text())
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


def page(alert: str) -> str:
    """The page of an alert of the rules: AssentBeatStale has beat-stale.md."""
    return re.sub(r"(?<=.)(?=[A-Z])", "-", alert.removeprefix("Assent")).lower() + ".md"


@cache
def labels_of() -> dict[str, set[str]]:
    """Every series that can exist, by name, with its labels."""
    found = dict(OF_PROMETHEUS)
    for metric in telemetry.metrics():
        if isinstance(metric, telemetry.Spread):
            for suffix, more in (("bucket", {"le"}), ("sum", set()), ("count", set())):
                found[f"{metric.name}_{suffix}"] = {*metric.labels, *more}
        else:
            found[metric.name] = set(metric.labels)
    return found


def wrong_in(expression: str) -> list[str]:
    """Metrics that do not exist, and labels that none of the named metrics has."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    known, wrong, labels = labels_of(), [], set[str]()
    for name, matchers in re.findall(r"\b(assent_\w+|up)\b(?:\s*\{([^}]*)\})?", bare):
        if name not in known:
            wrong.append(name)
            continue
        labels |= known[name]
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        wrong += [f"{name}{{{label}}}" for label in asked - known[name] - SCRAPED]
    for group in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", bare):
        named = set(re.findall(r"\w+", group))
        wrong += [f"by {label}" for label in named - labels - SCRAPED]
    return wrong


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("rate(assent_nothing_total[5m])", ["assent_nothing_total"]),
        ('sum(assent_part_away{parts="redis"})', ["assent_part_away{parts}"]),
        ("sum by (topic) (assent_part_away)", ["by topic"]),
        ("rate(assent_admission_seconds[5m])", ["assent_admission_seconds"]),
        ('sum by (le, route) (rate(assent_admission_seconds_bucket{route=~"a, b=c"}[5m])) / on (job) up', []),
    ],
)
def test_a_name_that_does_not_exist_is_found(expression: str, wrong: list[str]) -> None:
    assert wrong_in(expression) == wrong


@pytest.mark.parametrize("alert", rules())
def test_a_rule_names_real_metrics_and_says_what_to_do(alert: str) -> None:
    rule = rules()[alert]
    assert wrong_in(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"warning", "critical"}
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == "{{ $externalLabels.runbook }}/" + page(alert)
    grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\bby\s*\(([^)]*)\)", rule["expr"]))))
    shown = set(re.findall(r"\$labels\.(\w+)", " ".join(said.values())))
    assert shown <= grouped | SCRAPED, "a label that is summed away is empty in the text"


@pytest.mark.parametrize("alert", rules())
def test_every_rule_has_a_page_of_its_severity_with_every_row(alert: str) -> None:
    _has_every_row(page(alert), rules()[alert]["labels"]["severity"])


def _has_every_row(name: str, severity: str) -> None:
    text = (PAGES / name).read_text()
    assert f"| {severity} | |" in text
    for row in ("means", "affected", "look at", "do", "escalate"):
        assert re.search(rf"^\| {row} \| \S.+ \|$", text, re.MULTILINE), row
    assert re.search(r"^[^|\n]*[\u4e00-\u9fff]{4}.*。$", text, re.MULTILINE), "a line in Chinese"


def test_every_rule_has_a_test_of_when_it_fires_and_of_when_it_does_not() -> None:
    files = (ROOT / "deploy").glob("prometheus-rules.*test.yaml")
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    fires = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    assert fires == set(rules())
    assert [test["name"] for test in tests if not test.get("promql_expr_test") and len(test["input_series"]) < 2] == []


def raised() -> Iterator[tuple[str, str, ast.Call]]:
    """Every alert the code raises: where, its kind, and the call."""
    for file in sorted((ROOT / "gateway").rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Alert":
                given = {word.arg: word.value for word in node.keywords}
                where = f"{file.relative_to(ROOT)}:{node.lineno}"
                assert "kind" in given, f"{where}: the kind is not to be seen"
                kinds = [one for one in ast.walk(_said(tree, given["kind"])) if isinstance(one, ast.Constant)]
                assert kinds, f"{where}: the kind is not written where the alert is raised"
                for one in kinds:
                    yield where, str(one.value), node


def _said(tree: ast.Module, kind: ast.expr) -> ast.expr:
    """The expression itself, or what the module's constant of this name is."""
    named = {one.targets[0].id: one.value for one in tree.body if isinstance(one, ast.Assign)
             and isinstance(one.targets[0], ast.Name)}  # fmt: skip
    return named.get(kind.id, kind) if isinstance(kind, ast.Name) else kind


def test_every_alert_that_the_code_raises_has_a_page() -> None:
    found = list(raised())
    assert "alert.test" in {kind for _, kind, _ in found}
    for where, kind, call in found:
        given = {word.arg: word.value for word in call.keywords}
        severity = given["severity"]
        assert (PAGES / page_of(kind)).exists(), f"{where}: no page {page_of(kind)}"
        if isinstance(severity, ast.Constant):
            _has_every_row(page_of(kind), str(severity.value))


def test_every_page_is_of_an_alert_and_is_in_the_list() -> None:
    pages = {file.name for file in PAGES.glob("*.md")}
    known = {page(alert) for alert in rules()} | {page_of(kind) for _, kind, _ in raised()}
    assert pages <= known
    listed = set(re.findall(r"\]\(runbook/([\w-]+\.md)\)", (ROOT / "docs/runbook.md").read_text()))
    assert listed == pages


# --- dashboards ------------------------------------------------------------------------------------------------------


def panels(board: Path) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = orjson.loads(board.read_bytes())["panels"]
    return shown


@pytest.mark.parametrize("board", BOARDS, ids=[board.stem for board in BOARDS])
def test_a_board_asks_for_real_metrics_and_says_what_it_shows(board: Path) -> None:
    document = orjson.loads(board.read_bytes())
    assert document["uid"] == f"assent-{board.stem}"
    assert document["description"]
    names = [one["name"] for one in document["templating"]["list"]]
    assert names[0] == "datasource"
    for panel in panels(board):
        assert panel["type"] in SHIPPED
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert wrong_in(target["expr"]) == [], panel["title"]
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert used <= set(names)
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = set(re.findall(r"\w+", " ".join(re.findall(r"\bby\s*\(([^)]*)\)", target["expr"]))))
            assert shown <= grouped, panel["title"]


@pytest.mark.parametrize("board", BOARDS, ids=[board.stem for board in BOARDS])
def test_panels_of_a_board_lie_beside_each_other(board: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(board):
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels(board)}) == len(panels(board))


def test_the_first_figure_of_the_overview_is_the_complaint_rate() -> None:
    first = next(panel for panel in panels(ROOT / "deploy/grafana/dashboards/overview.json") if panel["type"] != "row")
    assert "complaint" in first["title"].lower()


def test_compose_mounts_what_grafana_and_prometheus_are_told_to_read() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    mounts = {}
    for service in ("prometheus", "grafana"):
        assert services[service]["profiles"] == ["monitoring"]
        for source, _, target in (one.partition(":") for one in services[service]["volumes"]):
            mounts[target.removesuffix(":ro")] = ROOT / "deploy" / source
            assert not source.startswith(".") or (ROOT / "deploy" / source).exists(), source
    told = yaml.safe_load((ROOT / "deploy/prometheus.yaml").read_text())
    for file in told["rule_files"]:
        assert mounts[f"/etc/prometheus/{file}"] == RULES
    asked = {target.partition(":")[0] for job in told["scrape_configs"] for one in job["static_configs"]
             for target in one["targets"]}  # fmt: skip
    ours = {name for name, one in services.items() if one.get("image", "").startswith("assent:")}
    assert asked == ours - {"prepare"}
    provisioning = mounts["/etc/grafana/provisioning"]
    provider = yaml.safe_load((provisioning / "dashboards/assent.yaml").read_text())["providers"][0]
    assert mounts[provider["options"]["path"]] == BOARDS[0].parent
    source = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
