"""What goes wrong in the library's hands: told as a class and a place, never by a text that may quote a person.

The library would show an exception's text to whoever asked, and log it. Here a page that fails is a plain page, and the
log has where it failed.
"""

import logging

from nicegui import core
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gateway import telemetry
from gateway.console.door import SESSION
from gateway.console.signing import template
from gateway.console.wording import LANGUAGES, preferred, words

log = telemetry.logger("console")


def take_over() -> None:
    """Answer and log in the library's place."""
    logging.getLogger("nicegui").setLevel(logging.CRITICAL)
    core.app._exception_handlers[:] = [failed]  # noqa: SLF001 - adding one would leave the library's own in place
    core.app.add_exception_handler(404, _not_found)
    core.app.add_exception_handler(Exception, _broken)


def failed(fault: Exception) -> None:
    """Log where a page, a button or a timer failed."""
    log.error("page_failed", exc_info=fault)


async def _not_found(request: Request, fault: Exception) -> Response:
    status = fault.status_code if isinstance(fault, HTTPException) else 404
    return _page(request, "not_found", status)


async def _broken(request: Request, fault: Exception) -> Response:
    failed(fault)
    return _page(request, "broken", 500)


def _page(request: Request, said: str, status: int) -> Response:
    session = request.scope.get(SESSION)
    lang = (session.lang if session else None) or preferred(request.headers.get("accept-language", ""))
    body = template("said.html").render(t=words(lang), said=said, lang=LANGUAGES[lang])
    return HTMLResponse(body, status)
