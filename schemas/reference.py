# ruff: noqa: INP001 - a script's part beside what it writes, not a package
"""The reference pages of docs/, written from the code they describe: settings, metrics and codes."""

from collections.abc import Iterable

from gateway import telemetry
from gateway.contract.codes import MEANINGS
from gateway.settings import Settings

NOTICE = "<!-- Written by `make schemas` from the code; edit the code. -->\n\n"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _shown(name: str, default: object) -> str:
    """A default as the page may show it."""
    if default is None or name in {"pepper", "master_key"}:
        return "—"
    secret = getattr(default, "get_secret_value", None)
    return f"`{secret() if secret else default}`" if str(default) else "empty"


def settings() -> str:
    """docs/settings.md."""
    rows = [
        (f"`ASSENT_{name.upper()}`", _shown(name, field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    text = "# Settings\n\nA process reads these from its environment, once, at start. `assent up` sets them itself.\n\n"
    return NOTICE + text + _table(("variable", "default", "meaning"), rows)


def _kind(metric: telemetry.Count | telemetry.Level | telemetry.Spread) -> str:
    return f"level, {metric.mode}" if isinstance(metric, telemetry.Level) else type(metric).__name__.lower()


def metrics() -> str:
    """docs/metrics.md."""
    rows = [
        (f"`{metric.name}`", _kind(metric), ", ".join(metric.labels) or "—", metric.help)
        for metric in telemetry.metrics()
    ]
    text = (
        "# Metrics\n\n`GET /metrics` of the edge shows every process that shares its metrics folder; elsewhere each "
        "process\nserves its own (`ASSENT_METRICS_PORT`). `count` is a Prometheus counter, `level` a gauge, `spread` a "
        "histogram.\nOver processes that share a folder, counters and histograms are added up; a gauge is the `sum` or "
        "the `max` of\nthose that live. Labels come from closed sets: never a number, a text, an id or a subject.\n\n"
    )
    return NOTICE + text + _table(("metric", "kind", "labels", "meaning"), rows)


def codes() -> str:
    """docs/codes.md."""
    rows = [
        (f"`{code}`", str(meaning.status), meaning.title, meaning.action, meaning.action_zh)
        for code, meaning in MEANINGS.items()
    ]
    text = (
        "# Codes\n\nThe closed set of codes a caller can meet, in problem documents, batch results and message "
        "statuses.\nA code never changes its meaning. `GET /v1/codes` answers the same table.\n\n"
    )
    return NOTICE + text + _table(("code", "HTTP", "what it means", "what to do", "如何处理"), rows)


def documents() -> dict[str, bytes]:
    """Every page, by its path in the repository."""
    pages = {"docs/settings.md": settings(), "docs/metrics.md": metrics(), "docs/codes.md": codes()}
    return {path: text.encode() for path, text in pages.items()}
