"""Who is calling: a bearer key, found by its digest among the clients of `cfg`, and what that client may do.

Promises: keys are kept nowhere but as HMAC-SHA256 under the pepper; without a valid key nothing is learned but that;
with no `cfg` nobody is known, so everything is refused as unavailable. What sends or reads people's data also needs a
`cfg` that is fresh; what tightens permissions or brings a carrier's news goes on without.
"""

import hmac
from collections.abc import Mapping

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.contract.registry import Client, Registry
from gateway.edge.gate import Gate
from gateway.edge.problems import Refused
from gateway.records.registry import key_digest

NO_KEY = Refusal(Code.AUTH_INVALID)
NO_CFG = Refusal(Code.UNAVAILABLE, "clients and senders are not known yet", 1)
STALE = Refusal(Code.UNAVAILABLE, "the permission projection shows no sign of life", 5)
MOST_KNOWN = 1024
FRESH_ROLES = frozenset({"send", "read"})


class Keyring:
    """Finds the client of a request. A header that was let in once is found again without its HMAC.

    What it keeps, it keeps for one registry, in this process's memory only, where every header passes anyway; a key
    that is withdrawn is forgotten with the registry that had it. Not one byte of a wrong key can be learned from a
    dict's timing: it compares contents only where the (seeded) hashes of whole headers are equal.
    """

    __slots__ = ("_known", "_registry")

    def __init__(self) -> None:
        self._registry: Registry | None = None
        self._known: dict[bytes, Client] = {}

    def client_of(self, gate: Gate, headers: Mapping[bytes, bytes]) -> Client:
        """The client whose key the request carries; `Refused` where there is none."""
        given = headers.get(b"authorization", b"")
        registry = gate.cfg.registry
        if registry is self._registry:
            known = self._known.get(given)
            if known is not None:
                return known
        if registry is None:
            raise Refused(NO_CFG)
        client = _verified(gate, given)
        if registry is not self._registry or len(self._known) >= MOST_KNOWN:
            self._registry, self._known = registry, {}
        self._known[given] = client
        return client


def _verified(gate: Gate, given: bytes) -> Client:
    if given[:7].lower() != b"bearer ":
        raise Refused(NO_KEY)
    digest = key_digest(gate.pepper, given[7:].strip().decode("latin-1"))
    client = gate.cfg.client_by_digest(digest)
    if client is None or not any(hmac.compare_digest(digest, known) for known in client.key_digests):
        raise Refused(NO_KEY)
    return client


def check_role(gate: Gate, client: Client, role: str) -> None:
    """`Refused` unless the client has the role, and `cfg` is fresh where the role needs that."""
    if role in FRESH_ROLES and not gate.cfg.fresh:
        raise Refused(STALE)
    if role not in client.roles:
        raise Refused(Refusal(Code.CLIENT_FORBIDDEN, f"needs role {role}"))


def may_use(client: Client, sender: str) -> bool:
    """Whether the client may act in this sender's name."""
    return "*" in client.senders or sender in client.senders


def check_sender(gate: Gate, client: Client, sender: str) -> None:
    """`Refused` unless the sender exists and the client may act in its name; which of the two is not told."""
    if not may_use(client, sender) or gate.cfg.sender(sender) is None:
        raise Refused(Refusal(Code.CLIENT_FORBIDDEN, "the sender is not among this client's"))
