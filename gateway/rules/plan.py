"""What the guard's script must look at for one sender and purpose: compiled once, then only read.

Pure. A plan holds state keys, suppression scopes and window fields as they are spelled in Redis; the guard adds nothing
of its own about purposes. Plans are kept on their pack, one per (sender, purpose): the registry bounds their number.
"""

from dataclasses import dataclass

from gateway.contract.decision import Basis, Class
from gateway.contract.registry import Sender
from gateway.rules.pack import Pack, Purpose, WindowRule


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` entries of the log in `field` within `period_ms`, or since the local midnight (`calendar`).

    Windows of one field share one log: a message adds one entry to it, however many of them it has.
    """

    name: str
    field: str
    limit: int
    period_ms: int
    calendar: bool
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Everything the guard looks at. A plan equals only itself."""

    sender: str
    purpose: str
    cls: Class
    pack: str
    basis: Basis
    """The first basis to look for. RELATIONSHIP: `relationships` in order, then `consents` where there are any."""
    consents: tuple[str, ...]
    relationships: tuple[str, ...]
    scopes: tuple[str, ...]
    ignored_reasons: int
    approved_ignored_reasons: int
    preferences: tuple[str, ...]
    topics: tuple[str, ...]
    windows: tuple[Window, ...]
    weekly_field: str | None
    same_text_ms: int
    quiet: bool
    zone: str


def plan(pack: Pack, sender: Sender, purpose: str) -> Plan:
    """The plan of a purpose for a sender. KeyError for a purpose that is not in `pack.purposes`: look there first."""
    known = pack.plans.get((sender.id, purpose))
    if known is None:
        known = pack.plans[sender.id, purpose] = _compiled(pack, sender.id, pack.purposes[purpose])
    return known


def _compiled(pack: Pack, sender: str, purpose: Purpose) -> Plan:
    first = purpose.name.partition(".")[0]
    topics = tuple(dict.fromkeys((purpose.name, first)))
    windows = tuple(_window(rule, sender, purpose) for rule in purpose.windows)
    weekly = [window.field for rule, window in zip(purpose.windows, windows, strict=True) if rule.weekly]
    return Plan(
        sender=sender,
        purpose=purpose.name,
        cls=purpose.cls,
        pack=pack.version,
        basis=purpose.basis,
        consents=tuple(f"{sender}/{topic}" for topic in purpose.topics),
        relationships=tuple(f"{sender}/{kind}" for kind in purpose.kinds),
        scopes=_scopes(sender, purpose, topics),
        ignored_reasons=purpose.ignored_reasons,
        approved_ignored_reasons=purpose.approved_ignored_reasons,
        preferences=(sender, "*"),
        topics=topics,
        windows=windows,
        weekly_field=weekly[0] if weekly else None,
        same_text_ms=purpose.same_text_ms,
        quiet=purpose.quiet,
        zone=pack.zone_name,
    )


def _scopes(sender: str, purpose: Purpose, topics: tuple[str, ...]) -> tuple[str, ...]:
    """Every suppression scope that covers the message, widest first."""
    classes = [f"{who}#{cls}" for cls in purpose.stopped_by for who in ("*", sender)]
    return ("*", sender, *classes, *(f"{who}/{topic}" for who in ("*", sender) for topic in topics))


def window_name(rule: WindowRule, purpose: Purpose) -> str:
    """What a window is called in a refusal, a trace and the description of the pack."""
    return f"{rule.shared or purpose.name} {rule.written}"


def _window(rule: WindowRule, sender: str, purpose: Purpose) -> Window:
    base = rule.shared or purpose.name
    field = base if rule.scope == "all" else f"{base}/{sender}"
    return Window(window_name(rule, purpose), field, rule.limit, rule.period_ms, rule.calendar, rule.source.title)
