"""What became of messages and what people did about them, summed from the buckets, by what they have in common.

Owns no table: `settlement` and `signals` keep the buckets. What breakers weigh is `weighing`'s; for everybody else:

    await health.totals(conn, since, until, by="campaign", where={"sender": ["acme"]})   -> {campaign or None: Totals}
    await health.series(conn, since, until, step="hour", by=None, where={})               -> [(minute, key, Totals)]

Times are Unix minutes, `until` not included. Dimensions: `sender`, `campaign`, `purpose`, `port`, `carrier`,
`list_source`, `client`; a message without one counts under None. What is counted when: acceptances, submits and final
statuses in the minute they were learned; a complaint in the minute its message was sent; other signals when they came.
All sums are exact: a message that leaves `unknown` is taken back where it was counted. Signals whose message is not
known belong to nobody; only totals without `where` and `by` hold them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from gateway.contract.decision import Cause, Status
from gateway.contract.health import Act
from gateway.records.connection import Connection
from gateway.records.spans import DAY, HOUR, Spans, spans
from gateway.records.timeline import CAUSES, STATUSES

Dimension = Literal["sender", "campaign", "purpose", "port", "carrier", "list_source", "client"]
Step = Literal["minute", "hour", "day"]
Where = Mapping[Dimension, Collection[str]]
STEPS: Final[dict[Step, int]] = {"minute": 1, "hour": HOUR, "day": DAY}
DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)


@dataclass(slots=True)
class Totals:
    """Messages by where they stand, and acts about them."""

    accepted: int = 0
    sent: int = 0
    delivered: int = 0
    undelivered: int = 0
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0
    unknown: int = 0
    """Sent, and nobody knows more yet; a later receipt takes a message out again."""
    causes: dict[Cause, int] = field(default_factory=dict)
    """Why messages were undelivered, rejected, expired or cancelled."""
    complaints: int = 0
    unsubscribes: int = 0
    replied: int = 0
    """Messages that somebody answered; refusals are unsubscribes and are not in here."""
    clicks: int = 0

    @property
    def failed(self) -> int:
        """Messages that ended without being delivered."""
        return self.undelivered + self.rejected + self.expired + self.cancelled

    @property
    def complaint_ppm(self) -> float | None:
        """Complaints per million delivered; none without any."""
        return _share(self.complaints, self.delivered, 1_000_000)

    @property
    def unsubscribe_ppm(self) -> float | None:
        """Unsubscribes per million delivered."""
        return _share(self.unsubscribes, self.delivered, 1_000_000)

    @property
    def delivery_percent(self) -> float | None:
        """Delivered, of those whose end is known and which we did not cancel ourselves."""
        return _share(self.delivered, self.delivered + self.failed - self.cancelled, 100)

    @property
    def reply_percent(self) -> float | None:
        """Answered, of those delivered."""
        return _share(self.replied, self.delivered, 100)

    @property
    def click_percent(self) -> float | None:
        """Counted clicks per hundred delivered; nobody knows whose, so one person may be several."""
        return _share(self.clicks, self.delivered, 100)

    @property
    def engagement_percent(self) -> float | None:
        """Answers and clicks per hundred delivered."""
        return _share(self.engaged, self.delivered, 100)

    @property
    def engaged(self) -> int:
        """Answers and clicks: what can honestly be called attention. Nothing says that a message was read."""
        return self.replied + self.clicks


def _share(part: int, whole: int, of: int) -> float | None:
    return round(part * of / whole, 3) if whole > 0 else None


class TooMuch(Exception):  # noqa: N818 - it says what happened
    """There is more than the caller wants to hold."""


_COLUMNS: Final[dict[str, str]] = {
    "sender": "o.sender", "campaign": "o.campaign", "purpose": "nullif(o.purpose, '')", "port": "nullif(o.port, '')",
    "carrier": "nullif(b.carrier, '')", "list_source": "o.list_source", "client": "nullif(o.client, '')",
}  # fmt: skip
_SPAN = """
SELECT {columns}, n FROM {table}_minutes WHERE minute >= $1 AND minute < $2
UNION ALL SELECT {columns}, n FROM {table}_minutes WHERE minute >= $3 AND minute < $4
UNION ALL SELECT {columns}, n FROM {table}_hours WHERE hour >= $5 AND hour < $6
UNION ALL SELECT {columns}, n FROM {table}_hours WHERE hour >= $7 AND hour < $8
UNION ALL SELECT {columns}, n FROM {table}_days WHERE day >= $9 AND day < $10
"""
_STEP = "SELECT {columns}, {step} AS at, n FROM {table}_{step}s WHERE {step} >= $1 AND {step} < $2"
_BETWEEN = """
SELECT {columns}, width_bucket(hour, $3::bigint[]) AS at, n FROM {table}_hours WHERE hour >= $1 AND hour < $2
"""
_KINDS: Final = {"outcome": "origin, carrier, status, cause", "signal": "origin, carrier, signal"}
_STATUS_FIELDS: Final = {one: "accepted" if one is Status.QUEUED else one.value for one in Status}
_ACT_FIELDS: Final = {
    Act.COMPLAINT: "complaints", Act.UNSUBSCRIBE: "unsubscribes", Act.REPLY: "replied", Act.CLICK: "clicks",
}  # fmt: skip
_FAILED: Final = {Status.UNDELIVERED, Status.REJECTED, Status.EXPIRED, Status.CANCELLED}


async def totals(
    conn: Connection, since: int, until: int, *, by: Dimension | None = None, where: Where | None = None
) -> dict[str | None, Totals]:
    """What a span holds, by the values of a dimension (None: all in one, under None), of what `where` asks for."""
    found: dict[str | None, Totals] = {} if by else {None: Totals()}
    given = tuple(_flat(spans(since, until)))
    for table, rows in (
        ("outcome", await _grouped(conn, "outcome", _SPAN, given, by, where or {})),
        ("signal", await _grouped(conn, "signal", _SPAN, given, by, where or {})),
    ):
        for row in rows:
            _add(found.setdefault(row["key"], Totals()), table, row)
    return found


async def series(
    conn: Connection,
    since: int,
    until: int,
    step: Step,
    *,
    by: Dimension | None = None,
    where: Where | None = None,
    most: int | None = None,
) -> list[tuple[int, str | None, Totals]]:
    """The same step by step (its first Unix minute, value, totals), in order; steps without anything are left out.

    `since` and `until` are widened to whole steps. Raises TooMuch where more than `most` sums would be read.
    """
    size = STEPS[step]
    found: dict[tuple[int, str | None], Totals] = {}
    source = _STEP.replace("{step}", step)
    for table in _KINDS:
        given = (since // size, -(-until // size))
        for row in await _grouped(conn, table, source, given, by, where or {}, at=True, most=most):
            _add(found.setdefault((row["at"] * size, row["key"]), Totals()), table, row)
    return [(at, key, found[at, key]) for at, key in sorted(found, key=lambda one: (one[0], one[1] or ""))]


async def series_between(
    conn: Connection,
    edges: Sequence[int],
    *,
    by: Dimension | None = None,
    where: Where | None = None,
    most: int | None = None,
) -> list[tuple[int, str | None, Totals]]:
    """The same between whole hours (`edges`, Unix minutes, rising): the days of a time zone, for instance."""
    hours = [edge // HOUR for edge in edges]
    found: dict[tuple[int, str | None], Totals] = {}
    for table in _KINDS:
        given = (hours[0], hours[-1], hours)
        for row in await _grouped(conn, table, _BETWEEN, given, by, where or {}, at=True, most=most):
            _add(found.setdefault((edges[row["at"] - 1], row["key"]), Totals()), table, row)
    return [(at, key, found[at, key]) for at, key in sorted(found, key=lambda one: (one[0], one[1] or ""))]


def _flat(of: Spans) -> Iterable[int]:
    for low, high in (*of.minutes, *of.hours, of.days):
        yield from (low, high)


async def _grouped(
    conn: Connection,
    table: str,
    source: str,
    given: tuple[Any, ...],
    by: Dimension | None,
    where: Where,
    *,
    at: bool = False,
    most: int | None = None,
) -> list[Any]:
    """Sums of a kind of bucket (rows of key, what is counted, n). Everything put into the SQL is a name of ours."""
    columns = _KINDS[table]
    kinds = columns.removeprefix("origin, carrier, ")
    key = _COLUMNS[by] if by else "NULL::text"
    asked = [f"{_COLUMNS[name]} = ANY(${n}::text[])" for n, name in enumerate(where, len(given) + 1)]
    known = "" if by or where else "LEFT "
    query = (
        f"SELECT {key} AS key, {kinds}{', at' if at else ''}, sum(n)::bigint AS n "  # noqa: S608
        f"FROM ({source.format(columns=columns, table=table)}) b "
        f"{known}JOIN message_origins o ON o.id = b.origin{' WHERE ' if asked else ''}{' AND '.join(asked)} "
        f"GROUP BY 1, {kinds}{', at' if at else ''}{'' if most is None else f' LIMIT {most + 1}'}"
    )
    rows = await conn.fetch(query, *given, *(list(values) for values in where.values()))
    if most is not None and len(rows) > most:
        raise TooMuch
    return rows


def _add(to: Totals, table: str, row: Any) -> None:
    n = row["n"]
    if table == "signal":
        name = _ACT_FIELDS[Act(row["signal"])]
    else:
        status = STATUSES[row["status"]]
        if status is Status.HELD:
            return
        name = _STATUS_FIELDS[status]
        if status in _FAILED and n:
            cause = CAUSES[row["cause"]]
            to.causes[cause] = to.causes.get(cause, 0) + n
    setattr(to, name, getattr(to, name) + n)
