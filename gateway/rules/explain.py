"""The rules a message is checked against, in order, each with its source: the rows of POST /v1/messages/check.

Pure. The verdicts are filled in by whoever asked the guard; a row's `name`, and for a window its `window`, says which.
"""

from typing import NamedTuple

from gateway.rules.pack import Pack, Purpose, Source
from gateway.rules.plan import window_name
from gateway.rules.shape import PackTable, RuleName


class RuleInfo(NamedTuple):
    """One rule. `applies`: whether this purpose is subject to it at all."""

    name: str
    title: str
    title_zh: str
    source: str
    source_zh: str
    applies: bool = True
    window: str | None = None
    """The name of the window, as `plan.Window` and a refusal's detail have it."""


_BEFORE_WINDOWS: tuple[RuleName, ...] = (
    "client",
    "purpose",
    "recipient",
    "port",
    "content",
    "expiry",
    "quiet_hours",
    "breaker",
    "quota",
    "suppression",
    "basis",
    "preference",
)
"""The order of `intake` and of the guard's script: the first that refuses gives the answer its code."""


def rules_of(purpose: Purpose, pack: Pack) -> list[RuleInfo]:
    """Every rule in the order in which a message meets them, one row for each window."""
    rows = [_row(name, purpose, pack) for name in _BEFORE_WINDOWS]
    rule = pack.table.rules["windows"]
    for window in purpose.windows:
        name = window_name(window, purpose)
        source = window.source
        rows.append(
            RuleInfo(
                "windows",
                f"{rule.title}: {name}",
                f"{rule.title_zh}：{name}",
                source.title,
                source.title_zh,
                True,
                name,
            )
        )
    return [*rows, _row("same_text", purpose, pack)]


def _row(name: RuleName, purpose: Purpose, pack: Pack) -> RuleInfo:
    rule = pack.table.rules[name]
    sources = _sources(name, purpose, pack) or ([pack.source(rule.source)] if rule.source else [])
    titles, titles_zh = (
        dict.fromkeys(source.title for source in sources),
        dict.fromkeys(source.title_zh for source in sources),
    )
    return RuleInfo(name, rule.title, rule.title_zh, "; ".join(titles), "；".join(titles_zh), _applies(name, purpose))


def _sources(name: str, purpose: Purpose, pack: Pack) -> list[Source]:
    """The sources that the purpose, its class or the pack's own tables give for a rule."""
    table = pack.table
    named = {
        "port": (table.classes[purpose.cls].source, *_way_out(purpose, table)),
        "content": (table.signature.source, table.refusal_text.source, table.promotional.source, table.length.source),
        "quiet_hours": (table.hours.source,),
    }
    if name == "basis":
        return [pack.source(table.bases[purpose.basis].source), purpose.source]
    if name == "same_text":
        return [purpose.same_text_source] if purpose.same_text_source else []
    return [pack.source(source) for source in named.get(name, ())]


def _way_out(purpose: Purpose, table: PackTable) -> tuple[str, ...]:
    return (table.reply_route.source,) if purpose.port_use == "marketing" else ()


def _applies(name: str, purpose: Purpose) -> bool:
    if name == "quiet_hours":
        return purpose.quiet
    if name == "preference":
        return purpose.quiet or purpose.promotional
    return name != "same_text" or purpose.same_text_ms > 0
