"""Which addresses the gateway may call: the guard against requests forged through a client's own callback address.

Pure. `fault` looks at what is written, costs microseconds and asks nobody: it is for the hot path. `allowed` judges one
IP address and is asked for every one that a name has, right before connecting, for a name may point anywhere and may
point elsewhere a moment later. Ranges are those of the IANA special-purpose registries (RFC 6890), spelled out here so
that the answer does not change with the version of Python. An IPv6 address that carries an IPv4 one is judged by that.
"""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

Network = IPv4Network | IPv6Network
PORTS: Final = frozenset({443, 8443})
DEFAULT_PORTS: Final = {"https": 443, "http": 80}
LAST_PORT = 65_535
_URL = re.compile(
    r"(https?)://(?:([A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\.?)|\[([0-9A-Fa-f:.]{2,45})\])"
    r"(?::([0-9]{1,5}))?(/[\x21\x22\x24-\x5b\x5d-\x7e]*|\?[\x21\x22\x24-\x5b\x5d-\x7e]*)?"
)
"""Scheme, name or IPv4, IPv6, port, path with query. No place for a user, a fragment, a backslash or a blank."""
_NUMERIC = re.compile(r"0[xX][0-9A-Fa-f]*|[0-9]+")
"""A last label like this makes a resolver read the whole name as an IPv4 address in some old form (URL Standard)."""


def networks(written: str) -> tuple[Network, ...]:
    """Comma-separated addresses and networks; ValueError where one is none."""
    return tuple(ip_network(one.strip(), strict=False) for one in written.split(",") if one.strip())


def ports(written: str) -> frozenset[int]:
    """Comma-separated ports; ValueError where one is none."""
    found = frozenset(int(one) for one in written.split(",") if one.strip())
    if not all(0 < one <= LAST_PORT for one in found):
        raise ValueError(written)
    return found


def _networks(*written: str) -> tuple[Network, ...]:
    return tuple(ip_network(one) for one in written)


_SPECIAL: Final = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = _networks(
    "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
)  # fmt: skip
"""Inside 2000::/3, which alone is given out for the open network; Teredo (2001::/32) and 6to4 are among them."""
_NEVER: Final = _networks(
    "169.254.169.254/32", "169.254.170.2/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
    "fd00:ec2::254/128", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8",
)  # fmt: skip
"""Where clouds keep the credentials of machines, and what is no single host: no allow-list opens these."""
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
"""Abandoned (RFC 7526): where such an address leads, an unknown relay decides."""
_CARRIES_V4: Final = (
    (IPv6Network("::ffff:0:0/96"), 0),
    (IPv6Network("::ffff:0:0:0/96"), 0),
    (IPv6Network("64:ff9b::/96"), 0),
    (_SIX_TO_FOUR, 80),
    (IPv6Network("::/96"), 0),
)
"""IPv4-mapped, -translated, NAT64, 6to4 and IPv4-compatible forms, and how far left the IPv4 address stands."""


class Reach(NamedTuple):
    """What an operator lets the gateway call."""

    allow: tuple[Network, ...] = ()
    """Networks that would be refused, but are meant to be called."""
    ports: frozenset[int] = PORTS
    local: bool = False
    """The local profile: http on loopback, any port there."""


OPEN: Final = Reach()
"""The open network alone."""


class Place(NamedTuple):
    """A callback address taken apart. `target` is the path with its query."""

    scheme: str
    host: str
    """As it is resolved and as the certificate must name it; an IPv6 address without brackets."""
    port: int
    target: str

    def authority(self) -> str:
        """The header `Host` (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if DEFAULT_PORTS[self.scheme] == self.port else f"{host}:{self.port}"

    def origin(self) -> str:
        """Scheme, host and port: what addresses of one receiver share, and all that may be shown of one."""
        return f"{self.scheme}://{self.authority()}"


def place(url: str) -> Place | None:
    """The parts of an address; none where it is not one we call."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme, name, v6, port, target = found.groups()
    host = (name or v6).lower().removesuffix(".")
    if (name is None and not _address(host)) or (name is not None and not _name(host)):
        return None
    number = DEFAULT_PORTS[scheme] if port is None else int(port)
    if not 0 < number <= LAST_PORT:
        return None
    target = target or "/"
    return Place(scheme, host, number, target if target.startswith("/") else "/" + target)


def _name(host: str) -> bool:
    """Whether it is a name, or an IPv4 address in its one clear form."""
    labels = host.split(".")
    if not all(0 < len(label) <= 63 for label in labels):  # noqa: PLR2004 - RFC 1035 §2.3.4
        return False
    return _address(host) is not None if _NUMERIC.fullmatch(labels[-1]) else True


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def fault(url: str, reach: Reach) -> str | None:
    """What is wrong with an address as it is written; none where nothing is. Resolves no name."""
    found = place(url)
    if found is None:
        return "not an address we call: https://host[:port]/path in ASCII, without user, password or fragment"
    number = _address(found.host)
    named_loopback = found.host == "localhost" or found.host.endswith(".localhost")
    if reach.local and (named_loopback or (number is not None and number.is_loopback)):
        return None
    if found.scheme != "https":
        return "must be https"
    if found.port not in reach.ports:
        return f"port must be one of {', '.join(map(str, sorted(reach.ports)))}"
    if named_loopback or (number is not None and not allowed(number, reach)):
        return "points into a network we do not call"
    return None


def allowed(address: IPv4Address | IPv6Address, reach: Reach) -> bool:
    """Whether an IP address may be called."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        carried = _carried(address)
        if carried is not None:
            return allowed(carried, reach) and (address not in _SIX_TO_FOUR or _listed(address, reach.allow))
    if _listed(address, _NEVER):
        return False
    if _listed(address, reach.allow) or (reach.local and address.is_loopback):
        return True
    if isinstance(address, IPv4Address):
        return not _listed(address, _SPECIAL)
    return address in _GLOBAL_V6 and not _listed(address, _SPECIAL_V6)


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside of an IPv6 one; `::` and `::1` carry none."""
    for network, shift in _CARRIES_V4:
        if address in network and int(address) > 1:
            return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
    return None


def _listed(address: IPv4Address | IPv6Address, listed: Iterable[Network]) -> bool:
    return any(address in network for network in listed)
