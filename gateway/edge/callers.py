"""A route's caller: who asks, with the parts that answer; and the role a route needs.

The door has found the client before any route runs; a route only names the role. Nothing here has state.
"""

from dataclasses import dataclass
from typing import Any

from fastapi import Depends, Request

from gateway.contract.registry import Client
from gateway.edge.auth import check_role
from gateway.edge.gate import Gate

SCOPE = "assent.caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what a route needs to answer."""

    gate: Gate
    client: Client
    trace: str


def need(role: str) -> Any:
    """A dependency that gives the `Caller`, and refuses one without the role. `{carrier}` is the path's parameter."""

    async def admitted(request: Request) -> Caller:
        caller: Caller = request.scope[SCOPE]
        check_role(caller.gate, caller.client, role.format_map(request.path_params))
        return caller

    admitted.role = role  # type: ignore[attr-defined]
    return Depends(admitted)


async def _anyone(request: Request) -> Caller:
    caller: Caller = request.scope[SCOPE]
    return caller


ANYONE = Depends(_anyone)
"""Any client, whatever its roles."""
