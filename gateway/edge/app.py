"""The edge: one ASGI application, a FastAPI app behind a door, with the hot routes beside it.

Owns nothing but its wiring. `create_app` touches no part, so the OpenAPI document can be had without any; the lifespan
opens the gate and closes it. Requests that arrive while there is none are answered `unavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from gateway import __version__, telemetry
from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.edge import (
    alerts,
    bodies,
    breakers,
    callbacks,
    cleansings,
    consents,
    evidence,
    faults,
    forms,
    health,
    links,
    lookups,
    openapi,
    operations,
    pages,
    purposes,
    recipients,
    suppressions,
    tree,
    webhooks,
)
from gateway.edge.callers import SCOPE
from gateway.edge.complaints.cases import router as complaint_cases
from gateway.edge.complaints.routes import router as complaints
from gateway.edge.door import Door
from gateway.edge.gate import Gate
from gateway.edge.messages import hot_routes
from gateway.edge.optin.routes import router as consent_pages
from gateway.edge.personal.routes import router as personal_data
from gateway.edge.problems import Refused, body_of, fields, new_trace
from gateway.edge.refusing import tell_refusals

OpenGate = Callable[[], AbstractAsyncContextManager[Gate]]
ROUTERS = (
    lookups.router,
    purposes.router,
    consents.router,
    recipients.router,
    personal_data,
    suppressions.router,
    complaints,
    complaint_cases,
    callbacks.router,
    breakers.router,
    cleansings.router,
    alerts.router,
    health.router,
    links.router,
    forms.router,
    consent_pages,
    operations.router,
    pages.router,
    tree.router,
    evidence.router,
    webhooks.router,
)
MEASURE_S = 1.0
DESCRIPTION = (
    "A permission-first message gateway: sends only what the recipient, the law and the brand allow, and can prove it."
)


class Edge(FastAPI):
    """FastAPI for what is not hot; the door and the hot routes stand before it."""

    door: Door

    def __init__(self, open_gate: OpenGate) -> None:
        super().__init__(
            title="Assent",
            version=__version__,
            description=DESCRIPTION,
            lifespan=_lifespan(open_gate),
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
        )
        self.door = Door(super().__call__)
        self._hot = hot_routes(self.door)
        for path, route in self._hot.items():
            self.router.routes.append(Route(path, route, methods=["POST"], include_in_schema=False))
        for router in ROUTERS:
            self.router.routes.extend(router.routes)
        self.add_exception_handler(HTTPException, _refused)
        self.add_exception_handler(RequestValidationError, _refused)
        self.add_exception_handler(Exception, _refused)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        hot = self._hot.get(scope["path"])
        if hot is not None and scope["method"] == "POST":
            await hot(scope, receive, send)
        else:
            await self.door(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The whole document, hot routes included; needs no part of the gateway."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.document(self)
        return self.openapi_schema


def create_app(open_gate: OpenGate) -> Edge:
    """The edge over the gate that `open_gate` opens when the server starts."""
    return Edge(open_gate)


def openapi_document() -> dict[str, Any]:
    """The document of an edge that is never started, for `schemas/`."""
    return create_app(_unopened).openapi()


@asynccontextmanager
async def _unopened() -> AsyncIterator[Gate]:
    raise RuntimeError("made for its document alone")
    yield


def _lifespan(open_gate: OpenGate) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        door: Door = app.door  # type: ignore[attr-defined]
        async with open_gate() as gate:
            door.gate = gate
            loops = (_measure(gate), tell_refusals(gate), operations.watch(gate), gate.clicks.run(gate.pool))
            beside = [asyncio.create_task(loop) for loop in loops]
            try:
                yield
            finally:
                door.gate = None
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)

    return lifespan


async def _measure(gate: Gate) -> None:
    while True:
        telemetry.UNANSWERED.set(gate.unanswered.messages)
        await asyncio.sleep(MEASURE_S)


async def _refused(request: Request, fault: Exception) -> Response:
    """Whatever a route raised, as a problem document."""
    caller = request.scope.get(SCOPE)
    trace: str = caller.trace if caller is not None else new_trace()
    route = getattr(request.scope.get("route"), "path", "none")
    refused = _as_refused(fault, route, trace)
    status, headers, body = body_of(refused.refusal, trace, refused.errors)
    response = Response(body, status)
    response.raw_headers = headers
    if refused.refusal.code is Code.METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(sorted(_methods(request)))
    return response


def _as_refused(fault: Exception, route: str, trace: str) -> Refused:
    if isinstance(fault, Refused):
        return fault
    if isinstance(fault, RequestValidationError):
        found = [{**error, "loc": error["loc"][1:] or error["loc"]} for error in fault.errors()]
        return Refused(bodies.INVALID, fields(found))
    if isinstance(fault, HTTPException):
        code = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}.get(fault.status_code, Code.REQUEST_INVALID)
        return Refused(Refusal(code))
    return faults.refused(fault, route, trace)


def _methods(request: Request) -> set[str]:
    """Every method that some route takes at this address."""
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return methods
