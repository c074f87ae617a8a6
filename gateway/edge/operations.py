"""What operators and their tools read: is the process alive, is it ready, its metrics, and the closed set of codes.

`/readyz` asks the real parts, each within a second, and says which one is wrong in words; `/healthz` asks nothing but
this process, so that a dead Redis never makes an orchestrator restart every edge.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import Request, Response
from pydantic import BaseModel

from gateway import telemetry
from gateway.contract.codes import MEANINGS, Code
from gateway.edge.callers import ANYONE, Caller
from gateway.edge.gate import Gate
from gateway.edge.strict import routes

router = routes("operations")
PROBE_S = 1.0
WATCH_S = 5.0
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Part(BaseModel):
    """One part the edge needs."""

    ready: bool
    problems: list[str] = []


class Readiness(BaseModel):
    """Ready when every part is."""

    ready: bool
    parts: dict[str, Part]


class CodeMeaning(BaseModel):
    """One code of the closed set."""

    code: Code
    status: int
    title: str
    action: str
    action_zh: str


class Codes(BaseModel):
    """Every code a problem document, a batch item or a metric can carry."""

    codes: list[CodeMeaning]


async def _cfg(gate: Gate) -> list[str]:
    if gate.cfg.registry is None:
        return ["no registry yet: is the ledger process running?"]
    return [] if gate.cfg.fresh else ["the ledger process shows no sign of life"]


async def _guard(gate: Gate) -> list[str]:
    return list(await gate.guard.verify())


async def _stream(gate: Gate) -> list[str]:
    return [] if await gate.producer.answers() else ["no broker answers"]


async def _database(gate: Gate) -> list[str]:
    async with gate.pool.acquire(timeout=PROBE_S) as connection:
        await connection.execute("SELECT 1", timeout=PROBE_S)
    return []


PROBES: dict[str, Callable[[Gate], Awaitable[list[str]]]] = {
    "cfg": _cfg,
    "redis": _guard,
    "kafka": _stream,
    "postgresql": _database,
}


async def _probe(gate: Gate, ask: Callable[[Gate], Awaitable[list[str]]]) -> Part:
    try:
        async with asyncio.timeout(PROBE_S):
            problems = await ask(gate)
    except Exception as fault:  # noqa: BLE001 - whatever is wrong with a part, it is not ready
        problems = [f"does not answer ({type(fault).__name__})"]
    return Part(ready=not problems, problems=problems)


async def watch(gate: Gate) -> None:
    """Show which parts are away, for ever: what `/readyz` answers, as a metric."""
    while True:
        found = await _parts(gate)
        for name, part in found.items():
            telemetry.PART_AWAY.set(0 if part.ready else 1, name)
        await asyncio.sleep(WATCH_S)


async def _parts(gate: Gate) -> dict[str, Part]:
    found = await asyncio.gather(*(_probe(gate, ask) for ask in PROBES.values()))
    return dict(zip(PROBES, found, strict=True))


@router.get("/healthz")
async def healthz() -> Alive:
    """This process is alive."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "A part is not ready"}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Every part the edge needs is there; 503 names the ones that are not."""
    gate: Gate | None = request.app.door.gate
    if gate is None:
        parts = {"process": Part(ready=False, problems=["starting or stopping"])}
    else:
        parts = await _parts(gate)
    ready = all(part.ready for part in parts.values())
    if not ready:
        response.status_code = 503
    return Readiness(ready=ready, parts=parts)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus' text format, of every worker that shares this one's metrics folder."""
    gate: Gate | None = request.app.door.gate
    return Response(telemetry.exposition(gate.metrics_dir if gate else None), headers={"content-type": EXPOSITION})


@router.get("/v1/codes")
async def codes(caller: Annotated[Caller, ANYONE]) -> Codes:  # noqa: ARG001 - any key will do, but a key it must be
    """Every code, with its HTTP status and what to do about it."""
    return Codes(codes=[CodeMeaning(code=code, **meaning._asdict()) for code, meaning in MEANINGS.items()])
