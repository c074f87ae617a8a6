"""A sender's health over HTTP: what became of its messages, and what people did about them.

Reads the buckets that settlement keeps (`records.health`), which are exact and no older than their last flush. A client
sees its own senders; the role `operate` sees all. At most `AT_ONCE` of these questions are asked at a time by one
worker, each within `DEADLINE_S`, so that no board keeps a message waiting.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, cast
from zoneinfo import ZoneInfo

from fastapi import Query
from pydantic import AwareDatetime, BaseModel

from gateway.contract.decision import Cause
from gateway.contract.message import Label, Slug
from gateway.edge.auth import check_sender
from gateway.edge.callers import Caller, need
from gateway.edge.lookups import sees_all
from gateway.edge.problems import wrong
from gateway.edge.strict import routes
from gateway.records import consent_age, health
from gateway.records.health import Dimension, Totals
from gateway.records.spans import DAY, HOUR, calendar

router = routes("operations")
Asking = Annotated[Caller, need("read")]
By = Literal["sender", "campaign", "purpose", "port", "carrier", "list_source", "consent_age"]
AT_ONCE = 2
CONNECT_S = 1.0
DEADLINE_S = 5.0
MOST_DAYS = {"minute": 2, "hour": 93, "day": 400, "month": 1_100, None: 1_100}
"""How long a span may be, by step."""
MOST_ROWS = 1_000
MOST_POINTS = 20_000
MOST_SUMS = 200_000
"""Several make a point; what is beyond is not even fetched, for a worker that holds it holds up messages."""
TOO_MUCH = "that is more than can be shown: a shorter span, a longer step or another dimension"
MINUTES_DAYS, HOURS_DAYS = 39, 150
"""What is older begins on a whole hour, and on a whole day: finer buckets are not kept for longer."""
_asking = asyncio.Semaphore(AT_ONCE)


class Figures(BaseModel):
    """Messages, acts and rates. A rate is null where nothing was delivered."""

    accepted: int
    sent: int
    delivered: int
    undelivered: int
    rejected: int
    expired: int
    cancelled: int
    unknown: int
    failed: int
    causes: dict[Cause, int]
    complaints: int
    unsubscribes: int
    replied: int
    clicks: int
    engaged: int
    complaint_ppm: float | None
    """Complaints per million delivered: the first figure of all."""
    unsubscribe_ppm: float | None
    delivery_percent: float | None
    """Delivered, of those whose end is known and which were not cancelled by us."""
    reply_percent: float | None
    click_percent: float | None
    engagement_percent: float | None
    read: None = None
    """How many were read is known only where a channel says so. No SMS does."""

    @classmethod
    def of(cls, totals: Totals, **more: Any) -> Any:
        """As the sums say it."""
        names = [name for name in Figures.model_fields if name != "read"]
        return cls(**{name: getattr(totals, name) for name in names}, **more)


class Row(Figures):
    """One value of the dimension that was asked for; null where messages have none."""

    key: str | None


class Point(Figures):
    """One step of time."""

    at: datetime
    key: str | None = None


class Health(BaseModel):
    """What a span holds, all in one; then by a dimension, the highest complaint rate first; then step by step."""

    since: datetime
    until: datetime
    zone: str
    """Whose days and months the steps are."""
    sender: str | None
    campaign: str | None
    total: Figures
    by: By | None
    rows: list[Row]
    step: Literal["minute", "hour", "day", "month"] | None
    series: list[Point]


@router.get("/v1/health")
async def sender_health(
    caller: Asking,
    sender: Slug | None = None,
    campaign: Label | None = None,
    purpose: Annotated[str | None, Query(max_length=128)] = None,
    port: Annotated[str | None, Query(max_length=20)] = None,
    carrier: Annotated[str | None, Query(max_length=32)] = None,
    list_source: Label | None = None,
    since: Annotated[AwareDatetime | None, Query(description="RFC 3339; without it, a day before `until`.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="RFC 3339; without it, now.")] = None,
    by: By | None = None,
    step: Literal["minute", "hour", "day", "month"] | None = None,
) -> Health:
    """Delivery, complaints, unsubscribes and engagement: rates with what they are of, live and exact."""
    first, last = _span(since, until, step)
    zone = _zone(caller, sender)
    where = _where(caller, sender, campaign=campaign, purpose=purpose, port=port, carrier=carrier,
                   list_source=list_source)  # fmt: skip
    async with asyncio.timeout(DEADLINE_S), _asking, caller.gate.pool.acquire(timeout=CONNECT_S) as conn:
        total = (await health.totals(conn, first, last, where=where))[None]
        found = await _rows(conn, first, last, by, where)
        try:
            points = await _points(conn, first, last, step, None if by == "consent_age" else by, where, zone)
        except health.TooMuch:
            raise wrong("step", TOO_MUCH) from None
    ranked = sorted(found.items(), key=lambda one: (one[1].complaint_ppm or 0, one[1].complaints), reverse=True)
    if len(points) > MOST_POINTS:
        raise wrong("step", TOO_MUCH)
    return Health(
        since=_at(first),
        until=_at(last),
        zone=zone.key,
        sender=sender,
        campaign=campaign,
        total=Figures.of(total),
        by=by,
        rows=[Row.of(of, key=key) for key, of in ranked[:MOST_ROWS]],
        step=step,
        series=[Point.of(of, at=_at(at), key=key) for at, key, of in points],
    )


def _span(since: datetime | None, until: datetime | None, step: str | None) -> tuple[int, int]:
    """Unix minutes; what no bucket tells apart any more begins on a whole hour or day."""
    now = int(datetime.now(UTC).timestamp()) // 60
    last = now + 1 if until is None else min(-int(-until.timestamp() // 60), now + 1)
    first = last - DAY if since is None else int(since.timestamp()) // 60
    if not 0 <= first < last:
        raise wrong("since", "must be before until, and not in the future")
    if last - first > MOST_DAYS[step] * DAY + HOUR:
        raise wrong("since", f"at most {MOST_DAYS[step]} days with this step")
    if first < now - HOURS_DAYS * DAY:
        return first - first % DAY, last
    return (first - first % HOUR, last) if first < now - MINUTES_DAYS * DAY else (first, last)


def _zone(caller: Caller, sender: str | None) -> ZoneInfo:
    """The sender's pack's; without a sender the first pack's."""
    packs = caller.gate.packs
    known = caller.gate.cfg.sender(sender) if sender is not None else None
    pack = packs.get(known.pack) if known is not None else None
    return (pack or next(iter(packs.values()))).zone


def _where(caller: Caller, sender: str | None, **given: str | None) -> dict[Dimension, list[str]]:
    """What is asked for, within what the client may see."""
    client = caller.client
    where = {cast("Dimension", name): [value] for name, value in given.items() if value is not None}
    if sender is not None:
        if not sees_all(client):
            check_sender(caller.gate, client, sender)
        where["sender"] = [sender]
    elif not (sees_all(client) or "*" in client.senders):
        where["sender"] = list(client.senders)
    return where


async def _rows(
    conn: Any, first: int, last: int, by: By | None, where: Mapping[Dimension, Sequence[str]]
) -> dict[str | None, Totals]:
    if by is None:
        return {}
    if by != "consent_age":
        return await health.totals(conn, first, last, by=by, where=where)
    return await consent_age.by_consent_age(conn, first, last, where)


async def _points(
    conn: Any,
    first: int,
    last: int,
    step: Literal["minute", "hour", "day", "month"] | None,
    by: Dimension | None,
    where: Mapping[Dimension, Sequence[str]],
    zone: ZoneInfo,
) -> list[tuple[int, str | None, Totals]]:
    if step is None:
        return []
    if step == "minute" or step == "hour":  # noqa: PLR1714 - so that the checker follows
        return await health.series(conn, first, last, step, by=by, where=where, most=MOST_SUMS)
    try:
        edges = calendar(first, last, step, zone)
    except ValueError:
        raise wrong("step", "days of this sender's time zone do not begin on whole hours of UTC") from None
    if step == "day":
        return await health.series_between(conn, edges, by=by, where=where, most=MOST_SUMS)
    return [
        (begin, key, of)
        for begin, end in pairwise(edges)
        for key, of in (await health.totals(conn, begin, end, by=by, where=where)).items()
    ]


def _at(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
