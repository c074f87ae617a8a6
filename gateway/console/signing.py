"""Signing in and out: plain pages without a script, before anything of the UI library is served.

A name that does not exist costs the same time and gets the same answer as a wrong password. Tries are slowed by name,
in PostgreSQL and so across processes, and by address, in this process. What is posted carries a token that the page
was given beside the cookie of the same value; its origin was checked at the door.
"""

import asyncio
import hmac
import re
import secrets
import time
from collections import OrderedDict, deque
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from gateway import telemetry
from gateway.console import door
from gateway.console.desk import Desk
from gateway.console.wording import LANGUAGES, Words, preferred, words
from gateway.contract.console import USER
from gateway.records import users
from gateway.records.connection import AWAY
from gateway.rules import passwords

FORM = "assent_form"
FORM_S = 3600
TRIES = 20
"""Tries of one address in `TRIES_S`, right ones included."""
TRIES_S = 60.0
MOST_ADDRESSES = 10_000
MOST_BODY = 4_096
MOST_NAME = 64
AT_ONCE = 2
"""Passwords hashed at once: each holds 32 MiB and a core."""

_templates = Environment(
    loader=PackageLoader("gateway.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def template(name: str) -> Template:
    """One of this room's plain pages."""
    return _templates.get_template(name)


class Tries:
    """How often each address tried of late; the oldest addresses are forgotten first."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Count one try, unless there were too many."""
        seen = self._seen.setdefault(address, deque())
        self._seen.move_to_end(address)
        while len(self._seen) > MOST_ADDRESSES:
            self._seen.popitem(last=False)
        while seen and seen[0] < now - TRIES_S:
            seen.popleft()
        if len(seen) >= TRIES:
            return False
        seen.append(now)
        return True


class Signing:
    """The three addresses `/sign-in` (GET and POST) and `/sign-out` (POST)."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._tries = desk, Tries()
        self._hashing = asyncio.Semaphore(AT_ONCE)
        self._unknown: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._nobody = passwords.hashed(secrets.token_urlsafe(), secrets.token_bytes(passwords.SALT))

    async def form(self, request: Request) -> Response:
        """The page."""
        return self._page(request)

    async def sign_in(self, request: Request) -> Response:
        """Check a name and a password, and begin a session."""
        address = request.client.host if request.client else ""
        if not self._tries.allows(address, time.monotonic()):
            return self._refused(request, "sign_in_slow", "slow", 429)
        if int(request.headers.get("content-length") or MOST_BODY + 1) > MOST_BODY:
            return self._refused(request, "sign_in_again", "form", 413)
        given = {name: str(value) for name, value in (await request.form()).items()}
        token = request.cookies.get(FORM, "")
        if not token or not hmac.compare_digest(token.encode(), given.get("token", "").encode()):
            return self._refused(request, "sign_in_again", "form", 403)
        request.state.to = given.get("to", "/")
        name, password = given.get("name", "").strip().lower()[:MOST_NAME], given.get("password", "")[: passwords.MOST]
        try:
            return await self._checked(request, name, password, path_within(request.state.to))
        except AWAY:
            return self._refused(request, "sign_in_away", "away", 503)

    async def _checked(self, request: Request, name: str, password: str, to: str) -> Response:
        async with self._hashing:  # who tries at once waits here, and what came before is counted by then
            kept = await users.kept(self._desk.pool, name) if re.fullmatch(USER, name) else None
            failures, since_s = self._known_failures(name) if kept is None else (kept.failures, kept.since_s)
            if since_s < passwords.wait_s(failures):
                return self._refused(request, "sign_in_slow", "slow", 429)
            stored = self._nobody if kept is None else kept.password
            right = await asyncio.to_thread(passwords.matches, password, stored)
            if kept is None:
                self._fail_unknown(name)
            elif not right:
                await users.failed(self._desk.pool, name)
        if kept is None or not right or kept.disabled:
            return self._refused(request, "sign_in_wrong", "wrong", 401)
        session = secrets.token_urlsafe(32)
        if not await users.begin(self._desk.pool, session, kept):
            return self._refused(request, "sign_in_wrong", "wrong", 401)
        if old := door.token_of(self._desk, request.scope):
            await users.end(self._desk.pool, users.digest_of(old))
        telemetry.CONSOLE_SIGN_INS.add(1, "in")
        answer = RedirectResponse(to, 303)
        answer.delete_cookie(FORM, path="/sign-in")
        self._cookie(answer, door.cookie_name(self._desk), session, "/", users.LONGEST_S)
        return answer

    def _known_failures(self, name: str) -> tuple[int, float]:
        """A name that nobody has waits like any other, or waiting would tell which names there are."""
        failures, at = self._unknown.get(name, (0, 0.0))
        return failures, time.monotonic() - at

    def _fail_unknown(self, name: str) -> None:
        failures, _ = self._unknown.pop(name, (0, 0.0))
        self._unknown[name] = failures + 1, time.monotonic()
        while len(self._unknown) > MOST_ADDRESSES:
            self._unknown.popitem(last=False)

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        if token := door.token_of(self._desk, request.scope):
            try:
                await users.end(self._desk.pool, users.digest_of(token))
            except AWAY:
                return Response(door.AWAY_PAGE, 503, media_type="text/html")
            request.app.state.door.end(users.digest_of(token))
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(door.cookie_name(self._desk), path="/", secure=door.secure(self._desk))
        return answer

    def _refused(self, request: Request, why: str, outcome: str, status: int) -> Response:
        telemetry.CONSOLE_SIGN_INS.add(1, outcome)
        return self._page(request, why, status)

    def _page(self, request: Request, why: str | None = None, status: int = 200) -> Response:
        told: Words = words(_language(request))
        token = request.cookies.get(FORM) or secrets.token_urlsafe(24)
        to = path_within(getattr(request.state, "to", request.query_params.get("to", "/")))
        others = [
            (LANGUAGES[lang], words(lang)["language"], f"/sign-in?{urlencode({'lang': lang, 'to': to})}")
            for lang in LANGUAGES
            if lang != told.lang
        ]
        body = template("sign_in.html").render(
            t=told, why=why, token=token, to=to, others=others, demo=self._desk.demo, lang=LANGUAGES[told.lang]
        )
        answer = Response(body, status, media_type="text/html; charset=utf-8")
        answer.headers["content-language"] = LANGUAGES[told.lang]
        self._cookie(answer, FORM, token, "/sign-in", FORM_S)
        return answer

    def _cookie(self, answer: Response, name: str, value: str, path: str, life_s: int) -> None:
        answer.set_cookie(
            name, value, max_age=life_s, path=path, secure=door.secure(self._desk), httponly=True, samesite="strict"
        )


def _language(request: Request) -> str:
    given = request.query_params.get("lang", "")
    return given if given in LANGUAGES else preferred(request.headers.get("accept-language", ""))


def path_within(to: str) -> str:
    """An address within the console, or its first page: nobody is sent elsewhere after signing in."""
    plain = to.startswith("/") and not to.startswith(("//", "/\\", "/sign")) and to.isprintable() and "\\" not in to
    return to if plain else "/"
