"""Clients, senders, reply routes and breakers in PostgreSQL: the truth behind the `cfg` value that every process polls.

The ledger process reads all of it each 500 ms (`load`), so a change is effective within seconds everywhere. A breaker's
position and the act that set it (who, why) are written in one transaction: neither is ever there without the other.
API keys are never stored, only their HMAC-SHA256 under the pepper.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import asyncpg

from gateway.contract.ids import LANES
from gateway.contract.registry import Client, Registry, ReplyRoute, Sender

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
OPEN = "SELECT scope FROM breakers WHERE is_open ORDER BY scope"
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
    INSERT INTO breaker_acts (scope, is_open, acted_by, reason) VALUES ($1, $2, $3, $4) RETURNING at
)
INSERT INTO breakers (scope, is_open, changed_by, reason, changed_at) SELECT $1, $2, $3, $4, at FROM act
ON CONFLICT (scope) DO UPDATE SET is_open = $2, changed_by = $3, reason = $4, changed_at = EXCLUDED.changed_at
"""
BREAKERS = "SELECT scope, is_open, changed_by, reason, changed_at FROM breakers ORDER BY scope"


class Breaker(NamedTuple):
    """A scope's standing position and the last act that set it."""

    scope: str
    is_open: bool
    changed_by: str
    reason: str
    changed_at: datetime


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
        breakers=tuple(row["scope"] for row in breakers),
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


async def set_breaker(connection: Connection, scope: str, *, is_open: bool, by: str, reason: str) -> None:
    """Open or close a breaker. A person (or the evaluator, by name) and a reason are required, and kept for good."""
    if not by.strip() or not reason.strip():
        raise ValueError("a breaker moves only by somebody and for a reason")
    await connection.execute(SET_BREAKER, scope, is_open, by, reason, timeout=TIMEOUT_S)


async def breakers(connection: "Connection | asyncpg.Pool[asyncpg.Record]") -> list[Breaker]:
    """Every scope that was ever moved, with its last act."""
    return [Breaker(**dict(row)) for row in await connection.fetch(BREAKERS, timeout=TIMEOUT_S)]


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
