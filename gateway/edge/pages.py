"""`/docs`: the interactive OpenAPI page, from files of an installed package; it asks no other host for anything."""

from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

from gateway.contract.codes import Code
from gateway.contract.decision import Refusal
from gateway.edge.problems import Refused

router = APIRouter(include_in_schema=False)
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
POLICY = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
DAY_S = 86_400


@cache
def _asset(name: str) -> bytes:
    return files("fastapi_offline").joinpath("static", name).read_bytes()


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The interactive page."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Assent",
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url="/docs/favicon.png",
    )
    page.headers["content-security-policy"] = POLICY
    return page


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """One of the page's files."""
    if name not in ASSETS:
        raise Refused(Refusal(Code.NOT_FOUND))
    headers = {"content-type": ASSETS[name], "cache-control": f"public, max-age={DAY_S}"}
    return Response(_asset(name), headers=headers)


@router.get("/openapi.json")
async def document(request: Request) -> dict[str, Any]:
    """The OpenAPI document."""
    described: dict[str, Any] = request.app.openapi()
    return described
