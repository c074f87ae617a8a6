"""What an operator types about alerts: where they are told, signed with what, and which were raised.

They are told to the built-in client's own webhook address: nobody can call as that client, so nobody else is given it.
"""

import time
import uuid
from datetime import datetime
from typing import NamedTuple

from gateway.assemble.commands import Declined, connection_of
from gateway.assemble.parts import reach_of, secrets
from gateway.assemble.webhooks import give_secret, new_secret
from gateway.contract.health import Alert
from gateway.ledger.keys import Keys
from gateway.records import alerts, subscriptions, webhooks
from gateway.records.alerts import Raised
from gateway.records.connection import Connection
from gateway.rules.reach import fault, place
from gateway.settings import Settings
from gateway.settle.notices import Notices
from gateway.settle.seals import open_address, seal_secret
from gateway.settle.webhooks.signing import ROTATION_MS
from gateway.settle.webhooks.telling import OPERATORS


class Told(NamedTuple):
    """Where alerts go, of which only the origin is shown, and a new secret, shown this once."""

    origin: str | None
    gone: bool
    secret: str | None


async def send_to(settings: Settings, url: str | None) -> Told:
    """Tell alerts at this address from now on; none: nowhere. Raises Declined."""
    keys = secrets(settings)
    if url is not None and (wrong := fault(url, reach_of(settings))) is not None:
        raise Declined(f"the address {wrong}")
    async with connection_of(settings) as connection, connection.transaction():
        secret = await give_secret(connection, keys, OPERATORS)
        address = None
        if url is not None:
            made = Notices(keys).address(OPERATORS, url)
            await webhooks.remember(connection, [made], _now_ms())
            address = made.name
        await subscriptions.subscribe(
            connection, OPERATORS, address=address, statuses=False, replies=(), called_again=url is not None
        )
        return await _told(connection, keys, secret)


async def where(settings: Settings) -> Told:
    """Where alerts go now."""
    async with connection_of(settings) as connection:
        return await _told(connection, secrets(settings), None)


async def rotate(settings: Settings) -> Told:
    """A new secret; the one before signs too for 24 hours."""
    keys = secrets(settings)
    async with connection_of(settings) as connection, connection.transaction():
        secret = await give_secret(connection, keys, OPERATORS)
        if secret is None:
            secret = new_secret()
            sealed = seal_secret(keys, OPERATORS, secret)
            await subscriptions.put_secret(connection, OPERATORS, sealed, _now_ms() + ROTATION_MS)
        return await _told(connection, keys, secret)


async def listed(settings: Settings, since: datetime, kind: str | None, most: int) -> list[Raised]:
    """What was raised since then, oldest first."""
    async with connection_of(settings) as connection:
        return await alerts.listed(connection, since, after=None, kind=kind, limit=most)


async def test(settings: Settings, by: str) -> None:
    """Raise an alert that says nothing, to see that it arrives."""
    if not by.strip():
        raise Declined("--by must say who asks")
    said = Alert(
        key=f"alert.test/{uuid.uuid4()}",
        kind="alert.test",
        severity="warning",
        scope="assent",
        summary="A test: if you read this where alerts are read, they arrive.",
        detail={"by": by.strip()[:100]},
    )
    async with connection_of(settings) as connection:
        await alerts.put(connection, said)


async def _told(connection: Connection, keys: Keys, secret: str | None) -> Told:
    known = await subscriptions.subscription(connection, OPERATORS)
    if known is None:
        return Told(None, False, secret)
    wanted, sealed, gone = known
    found = place(open_address(keys, wanted.address, sealed))
    return Told(None if found is None else found.origin(), gone, secret)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
