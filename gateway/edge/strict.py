"""FastAPI routes whose bodies are parsed as strictly as on the hot routes: one JSON text, no repeated keys, no NUL."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from gateway.edge import bodies
from gateway.edge.problems import Refused


class StrictRequest(Request):
    """A request whose `json` refuses what `bodies.parse` refuses."""

    async def json(self) -> Any:
        """The body's JSON value, or `Refused`."""
        body = await self.body()
        value = bodies.parse(body)
        if bodies.NUL_ESCAPE in body and bodies.has_nul(value):
            raise Refused(bodies.INVALID, bodies.NUL)
        return value


class StrictRoute(APIRoute):
    """A route that reads its body so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own, given a strict request."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


def routes(tag: str) -> APIRouter:
    """A router of strict routes under one heading of the OpenAPI document."""
    return APIRouter(tags=[tag], route_class=StrictRoute)
