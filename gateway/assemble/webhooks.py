"""The sender of webhooks, alone or beside settle, and what an operator types about them.

It needs PostgreSQL and the installation's secrets, and nothing else.
"""

import asyncio
import base64
import secrets as random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import Pool

from gateway import telemetry
from gateway.assemble.commands import Declined, connection_of
from gateway.assemble.parts import GRACE_S, beside, ended, flushing, open_pool, reach_of, secrets, until_told
from gateway.contract.registry import Client
from gateway.contract.webhook import PREFIX
from gateway.ledger.keys import Keys
from gateway.records import registry, subscriptions, webhooks
from gateway.records.connection import Connection
from gateway.records.webhooks import Dead
from gateway.rules.reach import fault, place
from gateway.settings import Settings
from gateway.settle.notices import Notices
from gateway.settle.seals import open_address, seal_secret
from gateway.settle.webhooks.sending import Sending
from gateway.settle.webhooks.signing import ROTATION_MS
from gateway.settle.webhooks.telling import Telling
from gateway.settle.webhooks.wire import Resolver, Wire

SECRET_BYTES = 32
"""Standard Webhooks asks for 24 to 64."""
DEMO_SECRET = PREFIX + base64.b64encode(b"assent demo, for loopback only!!").decode()
"""The local profile's, as well known as its key."""
LISTED = 1_000


@asynccontextmanager
async def sending(settings: Settings, pool: "Pool[Any]", keys: Keys) -> AsyncIterator["asyncio.Task[None]"]:
    """The sender at work, and beside it what tells operators; at the end it finishes the calls it is in."""
    stop, resolver = asyncio.Event(), Resolver()
    work = asyncio.create_task(Sending(pool, keys, Wire(reach_of(settings), resolve=resolver)).run(stop))
    telling = asyncio.create_task(Telling(pool, keys, settings.runbook_url).run(stop))
    try:
        yield work
    finally:
        stop.set()
        await asyncio.wait([work, telling], timeout=GRACE_S)
        resolver.close()


async def send_webhooks(settings: Settings) -> None:
    """Send clients' webhooks until told to stop; any number of processes share the work."""
    telemetry.configure_logging(settings.log_level)
    keys = secrets(settings)
    reach_of(settings)
    async with open_pool(settings) as pool, beside(flushing()), sending(settings, pool, keys) as work:
        await until_told(settings, ended(work))


# --- clients ---------------------------------------------------------------------------------------------------------


class Told(NamedTuple):
    """What a client is told and where, as an operator may see it: of an address only its origin."""

    origin: str | None
    gone: bool
    statuses: bool
    replies: tuple[str, ...]
    secret: str | None
    """A new one, shown this once."""


def new_secret() -> str:
    """A fresh signing secret."""
    return PREFIX + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()


async def give_secret(connection: Connection, keys: Keys, client: str, secret: str | None = None) -> str | None:
    """A client's first secret; none where it has one already, which goes on signing."""
    if await subscriptions.secret_of(connection, client) is not None:
        return None
    made = secret or new_secret()
    await subscriptions.put_secret(connection, client, seal_secret(keys, client, made), None)
    return made


async def set_webhook(
    settings: Settings,
    name: str,
    *,
    url: str | None,
    statuses: bool | None,
    replies: Sequence[str] | None,
    rotate: bool,
    off: bool,
) -> Told:
    """Set or show what a client is told at an address of its own, and rotate its secret. Raises Declined."""
    keys = secrets(settings)
    if url is not None and (wrong := fault(url, reach_of(settings))) is not None:
        raise Declined(f"--url {wrong}")
    if off and url is not None:
        raise Declined("--off and --url contradict each other")
    async with connection_of(settings) as connection, connection.transaction():
        client = await _client(connection, name)
        _check_replies(client, replies or ())
        secret = await give_secret(connection, keys, name)
        if rotate and secret is None:
            secret = new_secret()
            until = _now_ms() + ROTATION_MS
            await subscriptions.put_secret(connection, name, seal_secret(keys, name, secret), until)
        known = await subscriptions.subscription(connection, name)
        address = None if off or known is None else known[0].address
        if url is not None:
            made = Notices(keys).address(name, url)
            await webhooks.remember(connection, [made], _now_ms())
            address = made.name
        if off or url is not None or statuses is not None or replies is not None:
            if address is None and not off:
                raise Declined(f"client {name} has no address: give one with --url")
            await subscriptions.subscribe(
                connection, name, address=address, statuses=statuses, replies=replies, called_again=url is not None
            )
        return await _told(connection, keys, name, secret)


async def _client(connection: Connection, name: str) -> Client:
    known = {one.id: one for one in (await registry.load(connection)).clients if one.id != registry.BUILT_IN.id}
    if name not in known:
        raise Declined(f"no client {name}; there are: {', '.join(known) or 'none yet'}")
    return known[name]


def _check_replies(client: Client, replies: Sequence[str]) -> None:
    if strange := [one for one in replies if one not in client.senders and "*" not in client.senders]:
        raise Declined(f"--replies: {', '.join(strange)} is not among this client's senders")


async def _told(connection: Connection, keys: Keys, name: str, secret: str | None) -> Told:
    known = await subscriptions.subscription(connection, name)
    if known is None:
        return Told(None, False, False, (), secret)
    wanted, sealed, gone = known
    found = place(open_address(keys, wanted.address, sealed))
    return Told(None if found is None else found.origin(), gone, wanted.statuses, wanted.replies, secret)


# --- what was given up on --------------------------------------------------------------------------------------------


async def dead(settings: Settings, client: str | None) -> list[Dead]:
    """What was given up on, of one client or of all."""
    async with connection_of(settings) as connection:
        return await webhooks.dead_ones(connection, client, None, LISTED)


async def replay(settings: Settings, client: str | None, one: UUID | None) -> int:
    """Send one, or everything of a client, or everything, again; how many there were. Raises Declined."""
    async with connection_of(settings) as connection:
        count = await webhooks.replay(connection, _now_ms(), client=client, one=one)
    if one is not None and not count:
        raise Declined("there is no such dead webhook, or what it said is deleted")
    return count


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
