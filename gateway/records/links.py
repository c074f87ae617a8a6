"""Links that a campaign counts, and the clicks that workers add up.

Owns tables `campaign_links` and `click_flushes`. No person is in a link: everybody a campaign goes to has the same one.
A worker adds what it gathered in one transaction with its own count of such additions, moved by compare-and-set: when
the answer to a COMMIT is lost, the same addition is repeated and changes nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import orjson

from gateway.contract.health import Act
from gateway.records import settlement, signals
from gateway.records.connection import Connection

_ID_BYTES = 9
_MAKING = 0x4153_5345_4C4B
_KEPT = "1 day"
_MAKE = """
INSERT INTO campaign_links (id, sender, campaign, url, origin, made_by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (sender, campaign, url) DO NOTHING
"""
_LISTED = """
SELECT id, sender, campaign, url, origin, made_at FROM campaign_links
WHERE campaign = $1 AND ($2::text[] IS NULL OR sender = ANY($2)) ORDER BY made_at, id
"""
_FLUSHED = """
INSERT INTO click_flushes AS f (worker, flushed) VALUES ($1, $2)
ON CONFLICT (worker) DO UPDATE SET flushed = excluded.flushed, at = clock_timestamp() WHERE f.flushed < excluded.flushed
RETURNING 1
"""


class Link(NamedTuple):
    """A counted link: its public name, whose it is, and where it leads."""

    id: str
    sender: str
    campaign: str
    url: str
    origin: int
    made_at: datetime


async def make(conn: Connection, sender: str, campaign: str, url: str, by: str) -> Link:
    """A campaign's link to an address; the same again is the same link."""
    shared = ("", sender, "", "", "", "", "", campaign, None)
    digest = hashlib.sha256(orjson.dumps(("link", *shared))).digest()[:16]
    async with conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock($1)", _MAKING)  # two firsts of a campaign would collide
        origin = (await settlement.origin_ids(conn, [(digest, shared)]))[digest]
        await conn.execute(_MAKE, secrets.token_urlsafe(_ID_BYTES), sender, campaign, url, origin, by)
        row = await conn.fetchrow(
            "SELECT id, sender, campaign, url, origin, made_at FROM campaign_links "
            "WHERE sender = $1 AND campaign = $2 AND url = $3",
            sender,
            campaign,
            url,
        )
    return Link(*tuple(row or ()))


async def listed(conn: Connection, campaign: str, senders: list[str] | None) -> list[Link]:
    """A campaign's links, of these senders (none: of all), oldest first."""
    return [Link(*row) for row in await conn.fetch(_LISTED, campaign, senders)]


async def find(conn: Connection, link: str) -> Link | None:
    """The link of this public name."""
    row = await conn.fetchrow(
        "SELECT id, sender, campaign, url, origin, made_at FROM campaign_links WHERE id = $1", link
    )
    return None if row is None else Link(*row)


async def add_clicks(conn: Connection, worker: str, n: int, clicks: Mapping[tuple[int, int], int]) -> bool:
    """A worker's n-th addition of clicks by (Unix minute, origin); False when it had been added before."""
    async with conn.transaction():
        if await conn.fetchval(_FLUSHED, worker, n) is None:
            return False
        await signals.add(conn, Act.CLICK, Counter(clicks))
        return True


async def purge(conn: Connection) -> None:
    """Forget the counts of workers that have long ended."""
    await conn.execute(f"DELETE FROM click_flushes WHERE at < clock_timestamp() - interval '{_KEPT}'")  # noqa: S608
