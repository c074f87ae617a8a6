"""Which scopes of breakers and cleansings a client may look at: those that stop or divide its own senders' messages.

The role `operate`, and a client of every sender, see all. A campaign or a list that somebody stopped whoever sends it
may be several senders': whoever of them asks sees its sums, but not what the others' campaigns are called.
"""

from collections.abc import Collection
from typing import Any

from gateway.contract.scope import SHARED, part
from gateway.edge.callers import Caller
from gateway.edge.lookups import sees_all
from gateway.records import breakers
from gateway.records.connection import Connection


def all_of(caller: Caller) -> bool:
    """Whether nothing is kept from this client."""
    return sees_all(caller.client) or "*" in caller.client.senders


async def visible(caller: Caller, connection: Connection, scopes: Collection[str]) -> set[str]:
    """Those of these scopes that the client may look at."""
    if all_of(caller):
        return set(scopes)
    own = {"all"}
    for name in caller.client.senders:
        own.add(f"sender:{name}")
        if (sender := caller.gate.cfg.sender(name)) is not None:
            own |= {f"port:{sender.service_port}", f"port:{sender.marketing_port}"}
    found = {scope for scope in scopes if scope in own or scope.startswith("class:")}
    shared = [scope for scope in scopes if scope.partition(":")[0] in SHARED]
    return found | await breakers.used(connection, caller.client.senders, shared)


def told(caller: Caller, scope: str, figures: dict[str, Any] | None) -> dict[str, Any] | None:
    """The figures of an opening as this client sees them."""
    found = part(scope)
    if figures is None or all_of(caller) or found.kind not in SHARED or found.sender in caller.client.senders:
        return figures
    return {name: value for name, value in figures.items() if name != "clean"}
