"""`GET /v1/purposes`: the rules as data, the first thing a client's developer reads."""

from typing import Annotated, Any

from fastapi import Query

from gateway.carriers.outcomes import SIMULATOR_NUMBERS
from gateway.edge import acts
from gateway.edge.callers import ANYONE, Caller
from gateway.edge.strict import routes
from gateway.rules.describe import describe

router = routes("messages")


@router.get("/v1/purposes")
async def purposes(
    caller: Annotated[Caller, ANYONE],
    sender: Annotated[
        str | None, Query(description="Whose pack; without it, that of the client's first sender.")
    ] = None,
) -> dict[str, Any]:
    """Class, basis, windows, hours and an example of every purpose; the simulator's numbers where it delivers."""
    gate, client = caller.gate, caller.client
    if sender is not None:
        acts.check(acts.sender_fault(gate, client, sender))
    first = sender or next(iter(client.senders), "*")
    document = describe(acts.pack_of(gate, first))
    if gate.carrier == "simulator":
        document["simulator_numbers"] = [number._asdict() for number in SIMULATOR_NUMBERS]
    return document
