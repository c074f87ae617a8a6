"""What each breaker's scope weighs: deliveries, complaints and opt-outs within 24 hours and 30 days.

Owns no table: `settlement` and `signals` keep the buckets, `complaints` its rows. Everybody who shows or judges a
breaker counts here, so that the console and the API say what the evaluator judges.

Both windows roll by the minute. Most of one is read from hours or days; its *edge*, the rest of an hour and of a day at
its beginning, from minutes and hours. A receipt counts when it came, so what was delivered before the last hour hardly
changes any more and is read once a minute, however many campaigns there were in a month; only while settlement catches
up do some deliveries count a minute later. Each time are read the last two hours, and all that people did.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from asyncpg import QueryCanceledError

from gateway.contract.scope import SHARED, of_sender, part, whoever
from gateway.records import health, registry
from gateway.records.connection import Connection
from gateway.records.health import Where
from gateway.records.spans import DAY, HOUR
from gateway.rules.breaker import KINDS, WITHIN_MINUTES, Counts, Tally
from gateway.telemetry import logger

log = logger("records")

ANEW_S = 30.0
EDGES_S = 1.5
FLOORED_S = 1.5
"""How long a look waits for each of the two: what it has by then is judged, and what is missing the next time."""
PAST_MINUTES = 3
"""How old what was delivered before may be where it cannot be read: without it every rate would be far too high."""
MINUTE_MS = 60_000
_NAMED = "SELECT o.sender, o.campaign, o.port, o.list_source, b.month, b.what, sum(b.n)::bigint AS n FROM ("
_JOINED = ") b JOIN message_origins o ON o.id = b.origin GROUP BY 1, 2, 3, 4, 5, 6"
_WEIGHED = f"""{_NAMED}
    SELECT origin, w.month, 0 AS what, sum(n) AS n FROM outcome_hours, (VALUES (false), (true)) AS w(month)
        WHERE status = 4 AND hour >= $6 GROUP BY origin, w.month
    UNION ALL SELECT origin, false, signal, sum(n) FROM signal_hours
        WHERE signal IN (1, 2) AND hour >= $1 GROUP BY origin, signal
    UNION ALL SELECT origin, true, signal, sum(n) FROM signal_days
        WHERE signal IN (1, 2) AND day >= $2 GROUP BY origin, signal
    UNION ALL SELECT origin, false, signal, sum(n) FROM signal_minutes
        WHERE signal IN (1, 2) AND minute >= $3 AND minute < $1 * 60 GROUP BY origin, signal
    UNION ALL SELECT origin, true, signal, sum(n) FROM signal_hours
        WHERE signal IN (1, 2) AND hour >= $4 AND hour < $2 * 24 GROUP BY origin, signal
    UNION ALL SELECT origin, true, signal, sum(n) FROM signal_minutes
        WHERE signal IN (1, 2) AND minute >= $5 AND minute < $4 * 60 GROUP BY origin, signal
{_JOINED}"""  # noqa: S608 - the constants above
_PAST = f"""{_NAMED}
    SELECT origin, false AS month, 0 AS what, sum(n) AS n FROM outcome_hours
        WHERE status = 4 AND hour >= $1 AND hour < $3 GROUP BY origin
    UNION ALL SELECT origin, true, 0, sum(n) FROM outcome_days
        WHERE status = 4 AND day >= $2 AND day < $4 GROUP BY origin
    UNION ALL SELECT origin, true, 0, sum(n) FROM outcome_hours
        WHERE status = 4 AND hour >= $4::bigint * 24 AND hour < $3 GROUP BY origin
{_JOINED}"""  # noqa: S608 - the same
_EDGES = f"""{_NAMED}
    SELECT origin, false AS month, 0 AS what, sum(n) AS n FROM outcome_minutes
        WHERE status = 4 AND minute >= $3 AND minute < $1::bigint * 60 GROUP BY origin
    UNION ALL SELECT origin, true, 0, sum(n) FROM outcome_hours
        WHERE status = 4 AND hour >= $4 AND hour < $2::bigint * 24 GROUP BY origin
    UNION ALL SELECT origin, true, 0, sum(n) FROM outcome_minutes
        WHERE status = 4 AND minute >= $5 AND minute < $4 * 60 GROUP BY origin
{_JOINED}"""  # noqa: S608 - the same
_CONFIRMED = """
SELECT coalesce(o.port, c.port) AS port, count(*) FILTER (WHERE c.minute >= $3) AS day, count(*) AS month
FROM (
    SELECT id, origin, port, minute FROM complaints WHERE source IN ('12321', 'carrier') AND at >= $1
    UNION ALL SELECT DISTINCT c.id, c.origin, c.port, c.minute FROM complaint_tellings t
        JOIN complaints c ON c.id = t.complaint
        WHERE t.source IN ('12321', 'carrier') AND t.at >= $1 AND c.source = 'own'
) c LEFT JOIN message_origins o ON o.id = c.origin
LEFT JOIN unnest($4::text[], $5::bigint[]) f(port, minute) ON f.port = coalesce(o.port, c.port)
WHERE c.minute >= greatest($2, coalesce(f.minute, 0)) AND coalesce(o.port, c.port) IS NOT NULL
GROUP BY 1
"""
"""What 12321 or a carrier brought, though another told of it first. By two indexes: complaints are kept for good."""
_Sums = dict[tuple[str, bool], list[int]]
"""By scope and whether it is the month: delivered, complaints, opt-outs."""
_NOTHING = [0, 0, 0]


def begins(now: int) -> tuple[int, int]:
    """From which Unix minutes on 24 hours and 30 days are counted."""
    return now - WITHIN_MINUTES["24h"], now - WITHIN_MINUTES["30d"]


class _Places(NamedTuple):
    """Where a window's parts begin and end."""

    hour: int
    """The first whole hour of the day's window."""
    day: int
    """The first whole day of the month's window."""
    day_minute: int
    month_hour: int
    """The first whole hour of the month's window."""
    month_minute: int
    last: int
    """The hour before the present one: from here on everything is read each time."""

    @classmethod
    def at(cls, now: int) -> _Places:
        """At a Unix minute."""
        day, month = begins(now)
        hour = -(-month // HOUR)
        return cls(-(-day // HOUR), -(-hour * HOUR // DAY), day, hour, month, now // HOUR - 1)


async def _summed(conn: Connection, query: str, *places: int) -> _Sums:
    sums: _Sums = {}
    for row in await conn.fetch(query, *places):
        for scope in _scopes(row):
            sums.setdefault((scope, row["month"]), [0, 0, 0])[row["what"]] += row["n"]
    return sums


def _scopes(row: Any) -> Iterable[str]:
    """The scopes that messages of an origin belong to."""
    for kind in KINDS:
        if row[kind]:
            yield of_sender(kind, row["sender"], row[kind]) if kind in SHARED else f"{kind}:{row[kind]}"


class Counting:
    """Counts every scope, again and again. Those with a floor are summed anew only when somebody did something.

    Between two acts only deliveries come, by which a rate falls; each is still looked at every `ANEW_S`.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._past: tuple[int, _Sums] | None = None
        self._edge: tuple[int, _Sums] = (0, {})
        self._known: dict[str, tuple[_Seen, float, Counts]] = {}

    async def counts(
        self, conn: Connection, now: int, floors: Mapping[str, int], *, acted: bool = False
    ) -> dict[str, Counts]:
        """The counts at a Unix minute; scopes without anything are left out. `floors`: as `floors` gives them.

        `acted`: only of scopes that somebody complained about or opted out of: no other has anything to be judged. What
        12321 or a carrier brought counts for the port it names even where nobody knows the message.
        """
        places = _Places.at(now)
        sums = await _summed(conn, _WEIGHED, *places)
        before = await self._delivered(conn, now, places), await self._edges(conn, now, places)
        confirmed = await _confirmed(conn, now, floors)
        scopes = {scope for (scope, _), (_, *acts) in sums.items() if not acted or any(acts)}
        scopes |= {port for port, *_ in confirmed}
        if not acted:
            scopes |= {scope for some in before for scope, _ in some}
        found: dict[str, Counts] = {}
        for scope in scopes:
            tallies = []
            for key in ((scope, False), (scope, True)):
                delivered, complaints, unsubscribes = sums.get(key, _NOTHING)
                delivered += sum(some.get(key, _NOTHING)[0] for some in before)
                tallies.append(Tally(delivered, complaints, 0, unsubscribes))
            found[scope] = Counts(*tallies)
        begun = {scope: floor for scope in found if (floor := floor_in(floors, scope))}
        floored = await self._floored(conn, now, begun, found)
        found = {scope: counts for scope, counts in found.items() if scope not in begun} | floored
        for port, of_day, of_month in confirmed:
            was = found.get(port, Counts())
            found[port] = Counts(was.day._replace(confirmed=of_day), was.month._replace(confirmed=of_month))
        return found

    async def _delivered(self, conn: Connection, now: int, places: _Places) -> _Sums:
        """What was delivered from the windows' first whole hour and day to the last hour but one, read once a minute.

        Where it cannot be read it is as it was read last, for `PAST_MINUTES`; then nothing is judged. Raises what the
        driver raises.
        """
        if self._past is None or self._past[0] != now:
            try:
                of = await _summed(conn, _PAST, places.hour, places.day, places.last, places.last // 24)
                self._past = now, of
            except (TimeoutError, QueryCanceledError) as fault:
                if self._past is None or not 0 <= now - self._past[0] <= PAST_MINUTES:
                    raise
                log.warning("breaker_uncounted", scopes=0, error=type(fault).__name__)
        return self._past[1]

    async def _edges(self, conn: Connection, now: int, places: _Places) -> _Sums:
        """What was delivered at the windows' beginnings; where it cannot be read in time, as it was read last.

        Without it rates look higher: a scope stops too soon rather than too late. It is read again the next minute.
        """
        if self._edge[0] != now:
            try:
                async with asyncio.timeout(EDGES_S):
                    self._edge = now, await _summed(conn, _EDGES, *places[:5])
            except (TimeoutError, QueryCanceledError) as fault:
                self._edge = now, self._edge[1]
                log.warning("breaker_uncounted", scopes=0, error=type(fault).__name__)
        return self._edge[1]

    async def _floored(
        self, conn: Connection, now: int, floors: Mapping[str, int], whole: Mapping[str, Counts]
    ) -> dict[str, Counts]:
        at, known = self._monotonic(), self._known
        seen = {
            scope: _Seen(floor, *(n for one in whole[scope] for n in (one.complaints, one.unsubscribes)))
            for scope, floor in floors.items()
        }
        self._known = {
            scope: known[scope]
            for scope, what in seen.items()
            if scope in known and known[scope][0] == what and at - known[scope][1] < ANEW_S
        }
        anew = {scope: what for scope, what in seen.items() if scope not in self._known}
        try:
            async with asyncio.timeout(FLOORED_S):
                for scope, what in anew.items():
                    self._known[scope] = (what, at, await _since(conn, scope, now, what.floor, whole[scope]))
        except (TimeoutError, QueryCanceledError) as fault:  # these wait for the next look, all others do not
            log.warning("breaker_uncounted", scopes=len(anew), error=type(fault).__name__)
        return {scope: counts for scope, (_, _, counts) in self._known.items()}


async def _since(conn: Connection, scope: str, now: int, floor: int, whole: Counts) -> Counts:
    """A scope's counts where each window begins at the floor, if that is later."""
    day, month = begins(now)
    if floor <= month:
        return whole
    since = await _tallied(conn, where_of(scope), floor, now)
    return Counts(whole.day if floor <= day else since, since)


async def counts_of(
    conn: Connection, scope: str, now: int, floors: Mapping[str, int], senders: Collection[str]
) -> Counts:
    """One scope's counts at a Unix minute, as `Counting` has them. `senders`: those there are."""
    floor, where = floor_in(floors, scope), where_of(scope, senders)
    day, month = [await _tallied(conn, where, max(since, floor), now) for since in begins(now)]
    confirmed = {one: both for one, *both in await _confirmed(conn, now, floors)} if scope.startswith("port:") else {}
    of_day, of_month = confirmed.get(scope, (0, 0))
    return Counts(day._replace(confirmed=of_day), month._replace(confirmed=of_month))


async def _tallied(conn: Connection, where: Where, since: int, now: int) -> Tally:
    one = (await health.totals(conn, since, now + DAY, where=where))[None]
    return Tally(one.delivered, one.complaints, 0, one.unsubscribes)


def where_of(scope: str, senders: Collection[str] | None = None) -> Where:
    """What messages of a scope have in common. `senders`: as `contract.scope.part` takes them."""
    found = part(scope, senders)
    where: Where = {found.kind: [found.name]}  # type: ignore[dict-item]  # a kind is a dimension
    return where if found.sender is None else {**where, "sender": [found.sender]}


def floors(standing: Iterable[registry.Breaker]) -> dict[str, int]:
    """The Unix minutes from which scopes are counted that a person let go on, wholly or by a share."""
    return {one.scope: floor for one in standing if (floor := floor_of(one))}


def floor_of(standing: registry.Breaker | None) -> int:
    """The minute from which a scope is counted: the one after a person let it go on; 0 where it was never stopped."""
    if standing is None or standing.position == "open" or standing.opened_at is None:
        return 0
    return int(standing.changed_at.timestamp() * 1000) // MINUTE_MS + 1


def floor_in(floors: Mapping[str, int], scope: str) -> int:
    """A scope's own floor, or the later one of everybody's campaign or list of that name."""
    return max(floors.get(scope, 0), floors.get(whoever(scope) or "", 0))


class _Seen(NamedTuple):
    """What a scope's sums were made at: its floor, and what was done about its messages in both whole windows."""

    floor: int
    day_complaints: int
    day_unsubscribes: int
    month_complaints: int
    month_unsubscribes: int


async def _confirmed(conn: Connection, now: int, floors: Mapping[str, int]) -> list[tuple[str, int, int]]:
    """Ports with what was confirmed about them, within a day and a month."""
    day, month = begins(now)
    ports = {scope.removeprefix("port:"): floor for scope, floor in floors.items() if scope.startswith("port:")}
    rows = await conn.fetch(_CONFIRMED, month * MINUTE_MS, month, day, list(ports), list(ports.values()))
    return [(f"port:{row['port']}", row["day"], row["month"]) for row in rows]
