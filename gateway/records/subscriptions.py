"""What clients are told at an address of their own, and the secrets their webhooks are signed with.

Owns table `client_webhooks`. Secrets and addresses come in and go out sealed. After a rotation the former secret signs
beside the new one until its time is over, so that receivers change theirs when they like. One statement each: a crash
leaves either the old or the new.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.records.connection import Connection


class Subscription(NamedTuple):
    """What a client is told at its own address."""

    client: str
    address: bytes
    statuses: bool
    """Of messages that named no address themselves."""
    replies: tuple[str, ...]
    """The senders whose replies it wants, or `*`."""


async def subscriptions(conn: Connection) -> list[Subscription]:
    """Every client with an address of its own."""
    rows = await conn.fetch(
        "SELECT client, address, statuses, replies FROM client_webhooks WHERE address IS NOT NULL ORDER BY client"
    )
    return [Subscription(row["client"], row["address"], row["statuses"], tuple(row["replies"])) for row in rows]


async def secret_of(conn: Connection, client: str) -> bytes | None:
    """A client's sealed secret, if it has one."""
    sealed: bytes | None = await conn.fetchval("SELECT secret FROM client_webhooks WHERE client = $1", client)
    return sealed


async def put_secret(conn: Connection, client: str, sealed: bytes, former_until_ms: int | None) -> None:
    """Give a client its secret. The one before signs as well until `former_until_ms`, or no more."""
    await conn.execute(
        "INSERT INTO client_webhooks AS c (client, secret) VALUES ($1, $2) ON CONFLICT (client) DO UPDATE SET "
        "secret = excluded.secret, former_until = $3, "
        "former = CASE WHEN $3::bigint IS NULL THEN NULL ELSE c.secret END",
        client,
        sealed,
        former_until_ms,
    )


async def subscribe(
    conn: Connection,
    client: str,
    *,
    address: bytes | None,
    statuses: bool | None = None,
    replies: Sequence[str] | None = None,
    called_again: bool = False,
) -> None:
    """Set a client's own address (none: it has none any more) and what it is told there; none leaves a thing as it is.

    The client has its secret. `called_again`: also where the address had answered 410.
    """
    await conn.execute(
        "UPDATE client_webhooks SET address = $2, statuses = coalesce($3, statuses), replies = coalesce($4, replies) "
        "WHERE client = $1",
        client,
        address,
        statuses,
        None if replies is None else list(replies),
    )
    if called_again:
        await conn.execute(
            "UPDATE webhook_addresses SET gone_at = NULL WHERE name = $1 AND gone_at IS NOT NULL", address
        )


async def subscription(conn: Connection, client: str) -> tuple[Subscription, bytes, bool] | None:
    """What a client is told at its own address, the address sealed, and whether it answered 410."""
    row = await conn.fetchrow(
        "SELECT c.client, c.address, c.statuses, c.replies, a.sealed, a.gone_at IS NOT NULL AS gone "
        "FROM client_webhooks c JOIN webhook_addresses a ON a.name = c.address WHERE c.client = $1",
        client,
    )
    if row is None:
        return None
    known = Subscription(row["client"], row["address"], row["statuses"], tuple(row["replies"]))
    return known, row["sealed"], row["gone"]
