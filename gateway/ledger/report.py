"""The page in a bundle that a person reads: Chinese and English, one HTML file without any other, made for printing.

Pure: the same bundle gives the same page. It tells what `bundle.json` holds; what proves it are the other files.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from typing import Any

import jinja2

CHINA = timezone(timedelta(hours=8), "UTC+8")
KINDS = {
    "grant": ("同意", "consent given"),
    "withdrawal": ("撤回或拒收", "withdrawal or refusal"),
    "relationship": ("交易或服务关系", "transaction or enrolment"),
    "suppression": ("列入禁发", "suppressed"),
    "unsuppression": ("移出禁发", "suppression lifted"),
    "complaint": ("投诉", "complaint"),
    "cleansing": ("名单清理", "list cleansed"),
    "preferences": ("接收偏好", "preferences"),
    "restriction": ("限制处理", "restricted to storage"),
    "erasure": ("个人信息删除", "personal data erased"),
    "access": ("查阅记录", "data looked at"),
}
_ENVIRONMENT = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_PAGE = _ENVIRONMENT.from_string((resources.files("gateway.ledger") / "report.html").read_text("utf-8"))


def page(told: Mapping[str, Any], bodies: Sequence[Mapping[str, Any]]) -> bytes:
    """The page of a bundle; `bodies` are the records it shows, in order."""
    message = told["message"]
    entry = (message or {}).get("decision", {}).get("ledger_entry")
    permitting = next((body for body in bodies if body["seq"] == entry), None)
    words = {
        "told": told,
        "message": message,
        "entry": entry,
        "permitting": permitting,
        "records": _records(permitting),
        "chain": [_line(body) for body in bodies],
        "withheld": sum("body" not in one for one in told["entries"]),
        "when": when,
    }
    return _PAGE.render(words).encode()


def when(at_ms: int) -> str:
    """A time for people: in China, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S UTC+8")


def _line(body: Mapping[str, Any]) -> dict[str, Any]:
    data = body["data"]
    zh, en = KINDS.get(body["event_type"], (body["event_type"], body["event_type"]))
    about = [
        *(data.get("topics") or ()),
        *(str(data[name]) for name in ("kind", "scope", "reason", "why") if name in data),
    ]
    return {
        "seq": body["seq"],
        "at": when(body["event_time"]),
        "recorded": when(body["recorded_at"]),
        "zh": zh,
        "en": en,
        "state": body.get("event_state") or "",
        "sender": data.get("sender") or "*",
        "about": ", ".join(about),
        "channel": data.get("channel") or data.get("by") or "",
    }


def _records(permitting: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """What the permitting grant rests on, as (Chinese, English, value)."""
    if permitting is None:
        return []
    evidence = permitting["data"].get("evidence") or {}
    first = (evidence.get("first") or {}).get("record")
    second = (evidence.get("second") or {}).get("record")
    if first is None or second is None:
        told = _lines(evidence)
        return [("来自其他系统的证据", "Evidence from another system", told)] if told else []
    proof, notice = first["proof"], first["proof"]["notice"]
    boxes = "\n".join(f"{'☑' if one['final'] else '☐'} {one['topic']}" for one in proof["boxes"])
    return [
        (
            "展示的文本",
            "What was shown",
            f"{notice['id']} v{notice['version']} ({notice['language']})\nSHA-256 {notice['sha256']}",
        ),
        ("勾选（默认均未勾选）", "Boxes (none ticked before)", boxes),
        ("页面记录的操作", "Acts the page recorded", str(len(proof["events"])) if proof["events_recorded"] else "—"),
        ("何处", "Where", _lines(proof["where"])),
        ("第一份记录的时间", "Time of the first record", when(first["event_time"])),
        ("号码归本人控制的证明", "Control of the number", _lines(second["proof"])),
        ("第二份记录的时间", "Time of the second record", when(second["event_time"])),
    ]


def _lines(values: Mapping[str, Any]) -> str:
    """One line a value, what is in it below it; times (`…_at`, Unix milliseconds) for people."""
    lines: list[str] = []
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping):
            lines += [f"{name}.{line}" for line in _lines(value).splitlines()]
        elif not isinstance(value, list) and value is not None:
            timed = name.endswith("_at") and type(value) is int
            lines.append(f"{name}: {when(value) if timed else value}")
    return "\n".join(lines)
