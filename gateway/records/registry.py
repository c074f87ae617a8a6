"""Clients, senders, reply routes and breakers in PostgreSQL: the truth behind the `cfg` value that every process polls.

The ledger process reads all of it each 500 ms (`load`), so a change is effective within seconds everywhere. A breaker's
position and the act that set it (who, why) are written in one transaction: neither is ever there without the other.
API keys are never stored, only their HMAC-SHA256 under the pepper.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import asyncpg
import orjson

from gateway.contract.ids import LANES
from gateway.contract.registry import Client, Registry, ReplyRoute, Sender, Trickle

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

TIMEOUT_S = 3.0
BUILT_IN = Client(id="assent", senders=("*",), roles=("send",))
"""Sends in the gateway's own name (acknowledgements, releases). It has no key, so nobody can call as it."""

CLIENTS = "SELECT id, key_digests, senders, purposes, roles, quota_per_minute FROM clients ORDER BY id"
SENDERS = "SELECT id, signature, service_port, marketing_port, pack, cap_per_day, carrier FROM senders ORDER BY id"
ROUTES = """
SELECT sender, port, free, floor(extract(epoch FROM tested_at))::bigint AS tested_at
FROM reply_routes ORDER BY sender, port
"""
ATTEST = """
WITH act AS (
    INSERT INTO reply_route_acts (sender, port, free, tested_at, attested_by) VALUES ($1, $2, $3, $4, $5)
)
INSERT INTO reply_routes (sender, port, free, tested_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (sender, port) DO UPDATE SET free = $3, tested_at = $4
"""
RENEW = """
UPDATE reply_routes SET tested_at = $3::timestamptz
WHERE sender = $1 AND port = $2 AND tested_at < $3::timestamptz - interval '1 day'
"""
OPEN = """
SELECT scope, permille, floor(1000 * extract(epoch FROM coalesce(opened_at, changed_at)))::bigint AS since
FROM breakers WHERE is_open ORDER BY scope
"""
PUT_CLIENT = """
INSERT INTO clients (id, key_digests, senders, purposes, roles, quota_per_minute) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET key_digests = $2, senders = $3, purposes = $4, roles = $5, quota_per_minute = $6,
    changed_at = clock_timestamp()
"""
PUT_SENDER = """
INSERT INTO senders (id, signature, service_port, marketing_port, pack, cap_per_day, carrier)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET signature = $2, service_port = $3, marketing_port = $4, pack = $5, cap_per_day = $6,
    carrier = $7, changed_at = clock_timestamp()
"""
SET_BREAKER = """
WITH act AS (
    INSERT INTO breaker_acts (scope, is_open, permille, acted_by, reason, figures, recorded)
    VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id, at
), moved AS (
    INSERT INTO breakers AS b (scope, is_open, permille, changed_by, reason, figures, changed_at, opened_at)
    SELECT $1, $2, $3, $4, $5, $6, at, CASE WHEN $2 THEN at END FROM act
    ON CONFLICT (scope) DO UPDATE SET is_open = $2, permille = $3, changed_by = $4, reason = $5,
        figures = CASE WHEN $2 AND $3::smallint IS NULL THEN $6 ELSE b.figures END, changed_at = EXCLUDED.changed_at,
        opened_at = CASE WHEN NOT $2 OR (b.is_open AND $3 IS NOT NULL) THEN b.opened_at ELSE EXCLUDED.changed_at END
    WHERE $2 OR b.is_open
)
SELECT id FROM act
"""
BREAKERS = """
SELECT scope, is_open, permille, changed_by, reason, changed_at, figures, opened_at FROM breakers ORDER BY scope
"""
Position = Literal["open", "trickle", "closed"]


class Breaker(NamedTuple):
    """A scope's standing position and the last act that set it."""

    scope: str
    is_open: bool
    """Stopped, but for a share where `permille` says so."""
    permille: int | None
    changed_by: str
    reason: str
    changed_at: datetime
    figures: dict[str, Any] | None
    """Of the standing or last opening, where it opened by itself (`rules.breaker.Pressure`)."""
    opened_at: datetime | None
    """When it was stopped, now or the last time."""

    @property
    def position(self) -> Position:
        """The same in a word."""
        return "closed" if not self.is_open else "open" if self.permille is None else "trickle"


def key_digest(pepper: bytes, key: str) -> str:
    """How an API key is stored and looked up."""
    return hmac.digest(pepper, key.encode(), hashlib.sha256).hex()


async def load(connection: "Connection | asyncpg.Pool[asyncpg.Record]") -> Registry:
    """Everything `cfg` carries, the built-in client included."""
    clients = await connection.fetch(CLIENTS, timeout=TIMEOUT_S)
    senders = await connection.fetch(SENDERS, timeout=TIMEOUT_S)
    breakers = await connection.fetch(OPEN, timeout=TIMEOUT_S)
    routes = await connection.fetch(ROUTES, timeout=TIMEOUT_S)
    return Registry(
        lanes=LANES,
        clients=(BUILT_IN, *(Client.model_validate(dict(row)) for row in clients if row["id"] != BUILT_IN.id)),
        senders=tuple(_sender(row, routes) for row in senders),
        breakers=tuple(row["scope"] for row in breakers if row["permille"] is None),
        trickles=tuple(Trickle.model_validate(dict(row)) for row in breakers if row["permille"] is not None),
    )


def _sender(row: asyncpg.Record, routes: "list[asyncpg.Record]") -> Sender:
    own = [route for route in routes if route["sender"] == row["id"]]
    attested = tuple(ReplyRoute(port=one["port"], free=one["free"], tested_at=one["tested_at"]) for one in own)
    return Sender.model_validate({**row, "reply_routes": attested})


async def put_client(connection: Connection, client: Client) -> None:
    """Add a client, or replace it: its keys too."""
    if client.id == BUILT_IN.id:
        raise ValueError("the built-in client has no row and no key")
    await connection.execute(
        PUT_CLIENT,
        client.id,
        list(client.key_digests),
        list(client.senders),
        list(client.purposes),
        list(client.roles),
        client.quota_per_minute,
        timeout=TIMEOUT_S,
    )


async def put_sender(connection: Connection, sender: Sender) -> None:
    """Add a sender, or replace it."""
    await connection.execute(
        PUT_SENDER,
        sender.id,
        sender.signature,
        sender.service_port,
        sender.marketing_port,
        sender.pack,
        sender.cap_per_day,
        sender.carrier,
        timeout=TIMEOUT_S,
    )


async def attest(connection: Connection, sender: str, port: str, *, free: bool, tested_at: datetime, by: str) -> None:
    """Record how replies to a sender's port fare, and who says so; the act is kept for good."""
    if not by.strip():
        raise ValueError("somebody attests")
    await connection.execute(ATTEST, sender, port, free, tested_at, by, timeout=TIMEOUT_S)


async def renew(connection: Connection, sender: str, port: str, at: datetime) -> None:
    """A reply arrived on the port: its route works. That it is free was attested, or there is nothing to renew.

    At most once a day, for each change is announced to every process.
    """
    await connection.execute(RENEW, sender, port, at, timeout=TIMEOUT_S)


async def set_breaker(
    connection: Connection,
    scope: str,
    *,
    is_open: bool,
    by: str,
    reason: str,
    permille: int | None = None,
    figures: dict[str, Any] | None = None,
) -> int:
    """Stop a scope, stop it but for a share (`permille`), or let it go on; the number of the act.

    A person (or the evaluator, by name) and a reason are required, and kept for good. A stop waits for nothing:
    settlement tells the ledger of it within seconds, again and again until it has it. Whoever lets go on, all or a
    share, has told the ledger before. Letting go on what is not stopped moves nothing: what is counted begins anew only
    where somebody judged a stop.
    """
    if not by.strip() or not reason.strip():
        raise ValueError("a breaker moves only by somebody and for a reason")
    told = None if figures is None else orjson.dumps(figures).decode()
    recorded = not is_open or permille is not None
    act = await connection.fetchval(
        SET_BREAKER, scope, is_open, permille, by, reason, told, recorded, timeout=TIMEOUT_S
    )
    return int(act)


async def breakers(connection: "Connection | asyncpg.Pool[asyncpg.Record]") -> list[Breaker]:
    """Every scope that was ever moved, with its last act."""
    rows = await connection.fetch(BREAKERS, timeout=TIMEOUT_S)
    return [Breaker(**{**row, "figures": row["figures"] and orjson.loads(row["figures"])}) for row in rows]


async def seed_demo(connection: Connection, pepper: bytes) -> None:
    """The local profile's client, carrier client and sender. For loopback only; may be run again."""
    await put_client(
        connection,
        Client(
            id="demo",
            key_digests=(key_digest(pepper, "demo-key"),),
            senders=("*",),
            roles=("send", "consent", "read", "suppress", "complain", "operate"),
            quota_per_minute=100_000_000,
        ),
    )
    await put_client(
        connection,
        Client(
            id="carrier-http",
            key_digests=(key_digest(pepper, "carrier-key"),),
            roles=("carrier:http", "carrier:simulator"),
        ),
    )
    acme = Sender(id="acme", signature="Acme", service_port="10690001", marketing_port="10690002", pack="cn")
    await put_sender(connection, acme)
    for port in (acme.service_port, acme.marketing_port):
        await attest(connection, acme.id, port, free=True, tested_at=datetime.now(UTC), by="assent prepare")
