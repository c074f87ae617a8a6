"""Who may use the gateway and in whose name: clients, senders, open breakers, and the `cfg` value that carries them.

PostgreSQL holds the truth (tables of `records`); the ledger process writes one `cfg` value to Redis every 500 ms and
every process polls it. A `cfg` whose beat has not moved for 10 s means that opt-outs may go unrecorded: stop sending.
"""

import hashlib
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.contract.decision import Class
from gateway.contract.message import Slug

SCOPE = (
    r"^(all|class:(verification|transactional|marketing|consent)|sender:[a-z0-9][a-z0-9_-]{0,31}"
    r"|port:[0-9]{3,20}|(campaign|list_source):[\x21-\x7e]{1,161})$"
)
"""What a breaker can stop (`contract.scope`)."""
SCOPE_FORMS = (
    "all",
    "class:verification, class:transactional, class:marketing or class:consent",
    "sender:<name>",
    "port:<3 to 20 digits>",
    "campaign:<sender>/<name>, or campaign:<name> whoever sends it",
    "list_source:<sender>/<name>, or list_source:<name>",
)
"""The same in words."""
ROLES = ("send", "consent", "read", "suppress", "complain", "operate")
"""`complain`: bringing complaints, whoever's sender they are about. `operate`: breakers, complaints' cases, a person's
file and its erasure, everybody's messages. Callbacks need `carrier:<name>`."""
DAY_MS = 86_400_000
ROLE = rf"^({'|'.join(ROLES)}|carrier:[a-z0-9][a-z0-9_-]{{0,31}})$"


class Client(BaseModel):
    """An internal service: key digests (HMAC-SHA256 of the key, hex), what it may send, its quota."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    key_digests: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    """Sender ids, or `*`."""
    purposes: tuple[str, ...] = ("*",)
    """Purposes, topics (first segments), or `*`."""
    roles: tuple[str, ...] = ("send",)
    """Of `ROLES`, or `carrier:<name>`."""
    quota_per_minute: Annotated[int, Field(ge=1)] = 1_000_000


class ReplyRoute(BaseModel):
    """The way back from a port, as attested: whether a reply is free, and when one was last seen to arrive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    port: str
    free: bool
    tested_at: int
    """Unix seconds."""


class Sender(BaseModel):
    """A brand: its signature without brackets, one port per use, its pack and caps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    signature: str
    service_port: str
    marketing_port: str
    pack: str = "cn"
    cap_per_day: Annotated[int, Field(ge=1)] | None = None
    carrier: str | None = None
    """The carrier that delivers for this sender; none means the process's default."""
    reply_routes: tuple[ReplyRoute, ...] = ()

    def port_for(self, cls: Class) -> str:
        """The port whose registered use fits the class (一端一用)."""
        return self.marketing_port if cls is Class.MARKETING else self.service_port

    def way_out_until_ms(self, port: str, counts_ms: int) -> int:
        """Until when (Unix ms) a port is known to lead back for free; 0: it is not. `counts_ms`: a test's life."""
        found = [route.tested_at for route in self.reply_routes if route.port == port and route.free]
        return max(found, default=0) and max(found) * 1000 + counts_ms

    def port_named(self, number: str) -> str | None:
        """This sender's port that a number names: the port itself, or with digits that a carrier appended to it."""
        named = [port for port in (self.service_port, self.marketing_port) if number.startswith(port)]
        return max(named, key=len, default=None)


class Trickle(BaseModel):
    """A breaker that lets a share of its recipients through: always the same ones, so every process agrees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: str
    permille: Annotated[int, Field(ge=1, le=999)]
    since: int
    """When it opened, Unix ms."""

    def passes(self, subject: bytes) -> bool:
        """Whether what is sent to this recipient goes.

        What opened on one day lets the same recipients through, a larger share those of a smaller one and more: a
        message that several breakers cover goes by the smallest share, not by their product. Another day has others.
        """
        told = b"%b\0%d" % (subject, self.since // DAY_MS)
        return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest()) % 1000 < self.permille


class Registry(BaseModel):
    """The slow-moving body of `cfg`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lanes: int
    clients: tuple[Client, ...]
    senders: tuple[Sender, ...]
    breakers: tuple[str, ...] = ()
    """Scopes that are stopped whole, of the forms of `SCOPE`."""
    trickles: tuple[Trickle, ...] = ()
    """Scopes that are stopped but for a share."""
