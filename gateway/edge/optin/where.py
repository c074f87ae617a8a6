"""Where a request comes from: the person's address, and our own origin as their browser sees it.

Pure. `X-Forwarded-For` and `X-Forwarded-Proto` say whatever their sender likes, so they count only when the connection
comes from a proxy that the operator named, and then only as far as named proxies wrote them.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.rules.reach import Network

LONGEST_AGENT = 400


class Seen(NamedTuple):
    """What the server itself knows of a request."""

    ip: str
    user_agent: str
    own: str
    """Our origin: scheme://host."""
    origin: str | None
    """The header `Origin`."""
    url: str


def seen(
    head: Mapping[str, str], peer: str, scheme: str, path: str, trusted: Sequence[Network], public_url: str | None
) -> Seen:
    """Of a request's headers (lower-case names), the address it came from, and what the operator said."""
    believed = _within(peer, trusted)
    scheme = head.get("x-forwarded-proto", scheme) if believed else scheme
    scheme = scheme if scheme in {"http", "https"} else "http"
    own = _origin_of(public_url) if public_url else f"{scheme}://{head.get('host', '')}"
    address = _client(peer, head.get("x-forwarded-for", ""), trusted) if believed else peer
    return Seen(address, head.get("user-agent", "")[:LONGEST_AGENT], own, head.get("origin"), own + path)


def _client(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The nearest address that no named proxy has."""
    client = peer
    for one in reversed([part.strip() for part in forwarded.split(",")]):
        try:
            ip_address(one)
        except ValueError:
            return client
        client = one
        if not _within(one, trusted):
            return client
    return client


def _within(address: str, trusted: Sequence[Network]) -> bool:
    try:
        one = ip_address(address)
    except ValueError:
        return False
    return any(one in network for network in trusted)


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def origin_of(url: str) -> str | None:
    """The origin of a page's address; none where it has none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.scheme in {"http", "https"} and parts.netloc else None


def same_host(origin: str, own: str) -> bool:
    """Whether an `Origin` is ours. Host and port decide: a proxy that ends TLS changes the scheme on the way."""
    theirs = origin_of(origin)
    return theirs is not None and urlsplit(theirs).netloc == urlsplit(own).netloc.lower()


def address_name(pepper: bytes, ip: str) -> str:
    """What an address is called where its requests are counted: a keyed digest; of IPv6, of its /64."""
    try:
        one = ip_address(ip)
        whole = str(one) if one.version == 4 else str(ip_network(f"{ip}/64", strict=False))  # noqa: PLR2004
    except ValueError:
        whole = ip
    return hmac.digest(pepper, f"address {whole}".encode(), hashlib.sha256)[:12].hex()
