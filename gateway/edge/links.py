"""A campaign's counted links: made by clients, followed by people.

A link leads to one registered address and holds no person: clicks are counted for a campaign, and nobody's. Following
it is public; who only looks at links for others (robots, previews, prefetching) is led on and not counted. Carriers
want links fixed in the template and none that redirects in notices, so it belongs into a marketing template.
"""

import time
from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Path, Request
from pydantic import AfterValidator, BaseModel, StringConstraints
from starlette.responses import Response

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.message import Label, Slug, Strict
from gateway.edge.auth import check_sender
from gateway.edge.callers import Caller, need
from gateway.edge.gate import Gate
from gateway.edge.lookups import sees_all
from gateway.edge.optin.where import Seen, seen
from gateway.edge.problems import Refused
from gateway.edge.strict import routes
from gateway.records import links
from gateway.records.links import Link
from gateway.rules.visits import is_robot
from gateway.telemetry import CLICKS_LEFT_OUT

router = routes("campaigns")
CONNECT_S = 1.0
HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex, nofollow",
    "content-length": "0",
}
Name = Annotated[str, Path(json_schema_extra={"pattern": "^[A-Za-z0-9_-]{8,32}$"})]
"""Said in the document only: what does not fit is no link, and that is all a visitor is told."""
Campaign = Annotated[Label, Path(description="The campaign's name, as messages give it.")]


def _leads_somewhere(url: str) -> str:
    try:
        parts = urlsplit(url)
        fit = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
        fit = fit and (parts.port is None or parts.port > 0)
    except ValueError:
        fit = False
    if not fit:
        raise ValueError("must be an address http:// or https:// with a host and without a user")
    return url


Url = Annotated[
    str, StringConstraints(min_length=10, max_length=2000, pattern=r"^[\x21-\x7e]+$"), AfterValidator(_leads_somewhere)
]


class LinkRequest(Strict):
    """Where a campaign's link leads."""

    sender: Slug
    url: Url


class LinkView(BaseModel):
    """A campaign's link. `link` goes into the template, the same for everybody."""

    id: str
    link: str
    sender: str
    campaign: str
    url: str
    made_at: datetime


class Links(BaseModel):
    """A campaign's links, oldest first."""

    links: list[LinkView]


def _shown(request: Request, gate: Gate, link: Link) -> LinkView:
    own = _seen(request, gate).own
    more = {name: getattr(link, name) for name in ("id", "sender", "campaign", "url", "made_at")}
    return LinkView(link=f"{own}/l/{link.id}", **more)


@router.post("/v1/campaigns/{campaign}/links", status_code=201)
async def make_link(
    request: Request, caller: Annotated[Caller, need("send")], campaign: Campaign, body: LinkRequest
) -> LinkView:
    """Register where a campaign's counted link leads; the same address again is the same link."""
    check_sender(caller.gate, caller.client, body.sender)
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        made = await links.make(connection, body.sender, campaign, body.url, caller.client.id)
    return _shown(request, caller.gate, made)


@router.get("/v1/campaigns/{campaign}/links")
async def campaign_links(request: Request, caller: Annotated[Caller, need("read")], campaign: Campaign) -> Links:
    """A campaign's links, of the client's own senders."""
    client = caller.client
    senders = None if sees_all(client) or "*" in client.senders else list(client.senders)
    async with caller.gate.pool.acquire(timeout=CONNECT_S) as connection:
        found = await links.listed(connection, campaign, senders)
    return Links(links=[_shown(request, caller.gate, link) for link in found])


@router.get("/l/{link}", status_code=302, response_class=Response)
async def follow(request: Request, link: Name) -> Response:
    """Lead on to the registered address, and count a person's visit for the campaign."""
    gate: Gate = request.app.door.opened()
    found = await gate.clicks.link(gate.pool, link, time.monotonic()) if len(link) <= 32 else None  # noqa: PLR2004
    if found is None:
        raise Refused(Refusal(Code.NOT_FOUND))
    head = {name.lower(): value for name, value in request.headers.items()}
    if is_robot(request.method, head):
        CLICKS_LEFT_OUT.add(1, "robot")
    else:
        visitor = _seen(request, gate)
        if not gate.clicks.visit(found, visitor.ip, visitor.user_agent, int(time.time()) // 60):
            CLICKS_LEFT_OUT.add(1, "again")
    return Response(status_code=302, headers={**HEADERS, "location": found.url})


@router.head("/l/{link}", status_code=302, response_class=Response, include_in_schema=False)
async def look(request: Request, link: Name) -> Response:
    """The same without counting."""
    return await follow(request, link)


def _seen(request: Request, gate: Gate) -> Seen:
    peer = request.client.host if request.client else ""
    head = {name.lower(): value for name, value in request.headers.items()}
    return seen(head, peer, request.url.scheme, request.url.path, gate.trusted_proxies, gate.public_url)
