"""The console's door: what every request and every live connection passes before NiceGUI sees it.

Promises: nothing but the sign-in page and its stylesheet is served without a session; a request that changes something,
and the handshake of a live connection, come from a page of ours (`Origin`); a live connection serves only a page that
the same session was given, and ends within `SWEEP_S` of its session. The library's fallback without websockets is
closed: it would be one more way in. A crash leaves sessions as they are, in PostgreSQL; PostgreSQL away, no page opens
and open ones go on showing how old their figures are.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote, urlsplit

import orjson
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import telemetry
from gateway.console.desk import Desk
from gateway.contract.console import Session
from gateway.records import users
from gateway.records.connection import AWAY

SESSION = "assent.session"
SWEEP_S = 5.0
SWEEP_ROWS_EVERY = 60
SEEN_S = 60.0
LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
OPEN = {"/sign-in", "/console/console.css", "/favicon.ico", "/healthz", "/readyz"}
ASKED_BY_ITSELF = "/me"
"""By a page that lost its connection, again and again: no sign of a person."""
LIBRARY = "/_nicegui/"
LIVE = "/_nicegui_ws/"
ENDED = 4401
"""Of a connection whose session is over."""
_BESIDE = re.compile(r"[12356]|4[01]")
_SAID = re.compile(r"42[0-9]*(?=\[)")
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""The library compiles its components in the page, hence eval; nothing else may come from, or go to, anywhere."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

log = telemetry.logger("console")


class Door:
    """Stands before the application. `owner`: the session that a page was given to, by the page's client id."""

    def __init__(self, app: ASGIApp, desk: Callable[[], Desk | None], owner: Callable[[str], bytes | None]) -> None:
        self._app, self._desk, self._owner = app, desk, owner
        self._live: dict[Live, bytes] = {}
        self._seen: dict[bytes, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on."""
        if scope["type"] == "http":
            await self._http(scope, receive, _guarded(scope, send))
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, desk = scope["path"], self._desk()
        scope["headers"] = [one for one in scope["headers"] if not one[0].startswith(b"x-forwarded-")]
        refusal = None
        if desk is None:
            refusal = Response("starting or stopping", 503)
        elif not host_is_ours(desk, scope):
            refusal = Response("this console is reached under another name: see ASSENT_CONSOLE_URL", 421)
        elif scope["method"] not in {"GET", "HEAD", "POST"} or path.startswith(LIVE):
            refusal = Response("no", 405)
        elif scope["method"] == "POST" and not same_origin(desk, scope):
            refusal = Response("not from a page of this console", 403)
        elif path not in OPEN and not (path.startswith(LIBRARY) and self._seen_lately(desk, scope)):
            refusal = await self._without_session(desk, scope)
        await (refusal or self._app)(scope, receive, send)

    async def _without_session(self, desk: Desk, scope: Scope) -> Response | None:
        try:
            session = await session_of(desk, scope, using=scope["path"] != ASKED_BY_ITSELF)
        except AWAY:
            return Response(AWAY_PAGE, 503, {"retry-after": "5"}, "text/html; charset=utf-8")
        if session is None and scope["path"].startswith(LIBRARY):
            return Response("sign in first", 403)
        if session is None:
            back = "" if scope["path"] == "/" else f"?to={quote(scope['path'], safe='/')}"
            return RedirectResponse(f"/sign-in{back}", 303)
        scope[SESSION] = session
        self._seen[session.digest] = time.monotonic()
        return None

    def _seen_lately(self, desk: Desk, scope: Scope) -> bool:
        """Whether this session opened a page a moment ago: a page has dozens of the library's files, none of them ours.

        They are the package's and secret to nobody; asking PostgreSQL for each would only make pages slow.
        """
        token = token_of(desk, scope)
        return bool(token) and time.monotonic() - self._seen.get(users.digest_of(token or ""), -SEEN_S) < SEEN_S

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk, session, client = self._desk(), None, _client_of(scope)
        with suppress(*AWAY):
            if desk is not None and scope["path"].startswith(LIVE) and host_is_ours(desk, scope):
                session = await session_of(desk, scope) if same_origin(desk, scope) else None
        owner = None if client is None else self._owner(client)  # of a page that is gone: the library reloads it
        if session is None or client is None or owner not in {None, session.digest}:
            await receive()
            await send({"type": "websocket.close", "code": ENDED})
            return
        live = Live(receive, client)
        self._live[live] = session.digest
        try:
            await self._app(scope, live.receive, send)
        finally:
            del self._live[live]

    async def sweep(self) -> None:
        """End live connections whose session is over, note which sessions are in use, delete old rows; for ever."""
        turn = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            turn += 1
            desk = self._desk()
            try:
                self._seen = {one: at for one, at in self._seen.items() if time.monotonic() - at < SEEN_S}
                if desk is not None and self._live:
                    await self._sweep(desk)
                if desk is not None and turn % SWEEP_ROWS_EVERY == 0:
                    await users.sweep(desk.pool)
            except AWAY as fault:  # nobody is let in meanwhile, and nobody's act is taken
                log.warning("sessions_unread", error=type(fault).__name__)

    async def _sweep(self, desk: Desk) -> None:
        used = {digest for live, digest in self._live.items() if live.take_used()}
        standing = await users.standing(desk.pool, list(used), using=True) if used else {}
        idle = list({*self._live.values()} - used)
        standing |= await users.standing(desk.pool, idle) if idle else {}
        for live, digest in list(self._live.items()):
            if digest not in standing:
                live.end()

    def end(self, digest: bytes) -> None:
        """End a session's live connections at once."""
        for live, owner in list(self._live.items()):
            if owner == digest:
                live.end()


class Live:
    """One live connection of a page: passes on what the page says for itself, until it is ended."""

    def __init__(self, receive: Receive, client: str) -> None:
        self._receive, self._client = receive, client
        self._over = asyncio.Event()
        self._used = True
        self._asking: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        """The next message, or the end."""
        asking = self._asking or asyncio.ensure_future(self._receive())
        self._asking = asking
        over = asyncio.ensure_future(self._over.wait())
        await asyncio.wait({asking, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if self._over.is_set():
            asking.cancel()
            return {"type": "websocket.disconnect", "code": ENDED}
        self._asking = None
        message: Message = asking.result()
        if message["type"] == "websocket.receive":
            said = said_by(self._client, message.get("text") or "")
            if said is None:
                return {"type": "websocket.disconnect", "code": ENDED}
            self._used |= said == "event"
        return message

    def end(self) -> None:
        """Say that the page has gone."""
        self._over.set()

    def take_used(self) -> bool:
        """Whether a person did something since this was asked last."""
        used, self._used = self._used, False
        return used


def said_by(client: str, text: str) -> str | None:
    """The name of what a page says in a frame, empty where it only keeps the connection.

    None for what another page would say, and for every form that this library's pages do not use: it is read here as
    the library reads it, so that nothing means one page to the door and another one behind it.
    """
    if _BESIDE.match(text):
        return ""
    begun = _SAID.match(text)
    try:
        told = orjson.loads(text[begun.end() :]) if begun else None
    except orjson.JSONDecodeError:
        return None
    match told:
        case [str() as name, {"client_id": named}] if named == client:
            return name
    return None


# --- what is asked of a request --------------------------------------------------------------------------------------


def header(scope: Scope, name: bytes) -> str:
    """A header's text; empty where there is none, or several."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else ""


def same_origin(desk: Desk, scope: Scope) -> bool:
    """Whether a request says that it comes from a page of this console. One that does not say is not believed."""
    origin = header(scope, b"origin")
    if desk.public_url is not None:
        return origin == desk.public_url.rstrip("/")
    return bool(origin) and origin == f"http://{header(scope, b'host')}"


def secure(desk: Desk) -> bool:
    """Whether cookies may travel over TLS only."""
    return desk.public_url is not None


def cookie_name(desk: Desk) -> str:
    """The session's cookie; the prefix binds it to this host where there is TLS."""
    return "__Host-assent" if secure(desk) else "assent_console"


def token_of(desk: Desk, scope: Scope) -> str | None:
    """What the session's cookie holds."""
    try:
        found = SimpleCookie(header(scope, b"cookie")).get(cookie_name(desk))
    except CookieError:
        return None
    return found.value if found else None


async def session_of(desk: Desk, scope: Scope, *, using: bool = False) -> Session | None:
    """The session a request belongs to, as it stands now."""
    token = token_of(desk, scope)
    if not token:
        return None
    digest = users.digest_of(token)
    return (await users.standing(desk.pool, [digest], using=using)).get(digest)


def host_is_ours(desk: Desk, scope: Scope) -> bool:
    """A page of another name that resolves to this address (DNS rebinding) gets nothing."""
    host = header(scope, b"host")
    if desk.public_url is not None:
        return host == urlsplit(desk.public_url).netloc or host.rpartition(":")[0] in LOOPBACK
    return (host.rpartition(":")[0] or host) in LOOPBACK


def _client_of(scope: Scope) -> str | None:
    found = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("client_id", [])
    return found[0] if len(found) == 1 else None


def _guarded(scope: Scope, send: Send) -> Send:
    """Every answer carries the headers that keep a page to itself; only the library's own files may be kept."""
    kept = scope["path"].startswith(LIBRARY) and "dynamic_resources" not in scope["path"]

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name.encode(): value.encode() for name, value in HEADERS.items()}
            if not kept:
                own[b"cache-control"] = b"no-store"
            theirs = [one for one in message.get("headers", []) if one[0].lower() not in own]
            message = {**message, "headers": [*theirs, *own.items()]}
        await send(message)

    return guarded


AWAY_PAGE = (
    '<!doctype html><html lang="zh-CN"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
    '<link rel="stylesheet" href="/console/console.css"><title>Assent</title>'
    '<body class="plain"><main><h1>数据库暂不可用</h1>'
    "<p>请稍候，本页每 5 秒自动重试。</p>"
    '<p lang="en">PostgreSQL does not answer. This page tries again every 5 seconds.</p></main></html>'
)
