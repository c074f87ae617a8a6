"""The console as one ASGI application: NiceGUI under our pages, signing in beside it, the door before both.

NiceGUI keeps its pages in one application per process, so there is one console per process. `open_desk` opens the
parts when the server starts and closes them at its end; until then the door answers 503.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from importlib.resources import files

from fastapi import FastAPI
from nicegui import Client, core, ui
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from gateway.console import faults
from gateway.console.desk import Desk
from gateway.console.door import SESSION, Door
from gateway.console.files import Files
from gateway.console.frame import mount
from gateway.console.live import Live
from gateway.console.pages import PAGES
from gateway.console.signing import Signing
from gateway.contract.console import Session

OpenDesk = Callable[[], AbstractAsyncContextManager[Desk]]
STATIC = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8"}
RECONNECT_S = 10.0


class Console:
    """The application."""

    def __init__(self, open_desk: OpenDesk) -> None:
        self.desk: Desk | None = None
        self._open_desk = open_desk
        app = FastAPI(lifespan=self._lifespan, docs_url=None, redoc_url=None, openapi_url=None)
        self._routes(app)
        core.app.config.socket_io_js_transports = ["websocket"]
        for page in PAGES:
            mount(page, PAGES, self._opened)
        ui.run_with(
            app,
            title="Assent",
            favicon=files("gateway.console").joinpath("static", "icon.svg").read_text("utf-8"),
            dark=None,
            tailwind=False,
            binding_refresh_interval=None,
            reconnect_timeout=RECONNECT_S,
            show_welcome_message=False,
        )
        faults.take_over()
        self.door = Door(app, lambda: self.desk, _owner)
        app.state.door = self.door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Everything goes through the door."""
        await self.door(scope, receive, send)

    def _opened(self) -> tuple[Desk, Live]:
        if self.desk is None:
            raise RuntimeError("the door lets nobody in before the parts are open")
        return self.desk, self._live

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        async with self._open_desk() as desk:
            self._signing, self._live = Signing(desk), Live(desk)
            self.desk = desk
            sweeping = asyncio.create_task(self.door.sweep())
            try:
                yield
            finally:
                self.desk = None
                sweeping.cancel()

    def _routes(self, app: FastAPI) -> None:
        async def sign_in_page(request: Request) -> Response:
            return await self._signing.form(request)

        async def sign_in(request: Request) -> Response:
            return await self._signing.sign_in(request)

        async def sign_out(request: Request) -> Response:
            return await self._signing.sign_out(request)

        files_ = Files(lambda: self._opened()[0])
        for path, answer, method in (
            ("/sign-in", sign_in_page, "GET"),
            ("/sign-in", sign_in, "POST"),
            ("/sign-out", sign_out, "POST"),
            ("/me", _nothing, "GET"),
            ("/healthz", _nothing, "GET"),
            ("/readyz", _ready, "GET"),
            ("/console/{name}", _static, "GET"),
            ("/files/evidence", files_.evidence, "POST"),
            ("/files/export", files_.export, "POST"),
            ("/files/complaints", files_.complaints, "POST"),
        ):
            app.router.routes.append(Route(path, answer, methods=[method]))


def _owner(client: str) -> bytes | None:
    """The session a page was given to, by the page's client id."""
    found = Client.instances.get(client)
    session: Session | None = None if found is None else found.request.scope.get(SESSION)
    return None if session is None else session.digest


async def _nothing(_request: Request) -> Response:
    return Response(status_code=204)


async def _ready(_request: Request) -> Response:
    """Answers only while the parts are open: the door refuses everything else until then."""
    return Response("ready")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        return Response("no such file", 404)
    return Response(_file(name), media_type=STATIC[name])


@cache
def _file(name: str) -> bytes:
    return files("gateway.console").joinpath("static", name).read_bytes()
