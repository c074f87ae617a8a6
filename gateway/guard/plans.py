"""A plan as the scripts read it: packed once per plan, sent once per call, referenced by index.

The array's positions are named at the head of `lua/permission.lua`; `tests/unit/test_guard_plans.py` holds the two
together.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgpack

from gateway.contract.decision import Basis, Class
from gateway.rules.plan import Plan

WEEK_MS = 7 * 86_400_000
DAY_MS = 86_400_000
LOG_ENTRIES = 64
"""A window's log holds as many stamps, so no limit can be higher."""
KEPT_PLANS = 4096

_LETTERS = {Basis.CONSENT: "c", Basis.RELATIONSHIP: "r", Basis.REQUEST: "q", Basis.OPT_OUT: "o"}


def fields_of(plan: Plan) -> tuple[str, ...]:
    """The window fields a message of this plan writes its stamp into, each once."""
    names = [window.field for window in plan.windows]
    if plan.weekly_field:
        names += [plan.weekly_field, everyone(plan.weekly_field)]
    return tuple(dict.fromkeys(names))


def everyone(field: str) -> str:
    """The field over all senders beside a sender's own: `M` beside `M/acme`."""
    return field.partition("/")[0]


@lru_cache(maxsize=KEPT_PLANS)
def long_fields(plan: Plan) -> tuple[str, ...]:
    """The fields whose windows are longer than a day."""
    names = [window.field for window in plan.windows if window.period_ms > DAY_MS]
    if plan.weekly_field:
        names += [plan.weekly_field, everyone(plan.weekly_field)]
    return tuple(names)


def term_field(consent: str) -> str:
    """The field that counts against a consent's own `max_per_week`."""
    return f"C/{consent}"


def longest_of(plan: Plan) -> int:
    """How long a stamp of this plan may count, ms."""
    longest = max((window.period_ms for window in plan.windows), default=0)
    return max(longest, plan.same_text_ms, WEEK_MS if plan.weekly_field else 0)


def pack(plan: Plan) -> bytes:
    """One plan. Raises ValueError for a limit the logs cannot hold."""
    fields = fields_of(plan)
    position = {name: at for at, name in enumerate(("e", "x", *fields), start=1)}
    for window in plan.windows:
        if not 1 <= window.limit <= LOG_ENTRIES:
            raise ValueError(f"window {window.name}: a limit is 1 to {LOG_ENTRIES}")
    packed: bytes = msgpack.packb(
        [
            _LETTERS[plan.basis],
            list(plan.consents),
            list(plan.relationships),
            list(plan.scopes),
            plan.ignored_reasons,
            plan.approved_ignored_reasons,
            plan.sender,
            list(plan.preferences),
            list(plan.topics) if plan.cls is Class.MARKETING else None,
            ["e", "x", *fields],
            [[position[w.field], w.limit, w.period_ms, w.calendar] for w in plan.windows],
            position[plan.weekly_field] if plan.weekly_field else 0,
            position[everyone(plan.weekly_field)] if plan.weekly_field else 0,
            plan.same_text_ms,
            plan.quiet,
            longest_of(plan),
            "\0".join(fields),
        ]
    )
    return packed


class Plans:
    """Packed plans by identity; a strong reference keeps an id from being reused."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Plan, bytes]] = {}

    def packed(self, plan: Plan) -> bytes:
        """This plan's bytes; bounded, for callers that compile plans without caching them."""
        kept = self._kept.get(id(plan))
        if kept is None:
            if len(self._kept) >= KEPT_PLANS:
                self._kept.clear()
            kept = self._kept[id(plan)] = (plan, pack(plan))
        return kept[1]

    def table(self, plans: Sequence[Plan]) -> bytes:
        """A msgpack array of plans, joined without packing any again."""
        head: Any = msgpack.Packer().pack_array_header(len(plans))
        return b"".join((head, *map(self.packed, plans)))
