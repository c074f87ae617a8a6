"""`/c/…`: the public addresses of consent. Pages for people, and the same as JSON where there is no browser.

No key is asked for, and none is needed: everything here is the person's own act. A form's fields and JSON are told
apart by the Content-Type alone. A person reads pages, also when something is away; only what no person can cause is a
problem document.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from gateway.contract.codes import MEANINGS, Code
from gateway.contract.decision import Refusal
from gateway.contract.form import LOCALES, Form, Locale
from gateway.contract.ids import mask
from gateway.edge import faults
from gateway.edge.gate import Gate
from gateway.edge.optin import confirming, pages, starting, submitted
from gateway.edge.optin.pages import Page, Place
from gateway.edge.optin.starting import Again
from gateway.edge.optin.where import Seen, origin_of, seen
from gateway.edge.problems import RETRY_S, Refused, new_trace, trace_of, wrong
from gateway.records import forms

router = APIRouter(include_in_schema=False)
Named = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
NOWHERE = Refusal(Code.NOT_FOUND)
SAID: dict[Code, str] = {Code.UNAVAILABLE: "away", Code.CLIENT_QUOTA: "wait"}
"""What a person reads in place of a problem document."""
DONE = {"done": 200, "refused": 409}
CSS_AGE = {"cache-control": f"public, max-age={pages.HOUR_S}", "x-content-type-options": "nosniff"}
Value = TypeVar("Value")


@router.get("/c/widget.js")
async def widget() -> Response:
    """The script a shop's page embeds."""
    return _file("widget.js", {"cross-origin-resource-policy": "cross-origin"})


@router.get("/c/form.js")
async def script() -> Response:
    """The page's own script."""
    return _file("form.js", {})


@router.get("/c/form.css")
async def style() -> Response:
    """The pages' style."""
    return _file("form.css", {})


def _file(name: str, more: dict[str, str]) -> Response:
    headers = {"content-type": f"{pages.STATIC[name]}; charset=utf-8", **CSS_AGE, **more}
    return Response(pages.static(name), headers=headers)


@router.get("/c/{name}")
async def show(
    request: Request,
    name: Named,
    lang: str | None = None,
    embed: bool = False,
    page: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """The form's latest version, its boxes unticked."""
    form = await _form(_gate(request), name)
    if embed and page and origin_of(page) not in form.allowed_origins:
        raise Refused(starting.FOREIGN)
    place = Place(form, _locale(form, lang, request), embed, page if embed else "")
    return _html(pages.asking(place))


@router.post("/c/{name}")
async def start(request: Request, name: Named) -> Response:
    """The first record. The answer is the same for every number."""
    gate, json = _gate(request), _is_json(request)
    given = submitted.submission(await request.body(), json=json)
    form = await _form(gate, name)
    place = Place(form, form.locale(given.lang), given.embed, given.page)
    if given.action == "decline":
        return JSONResponse({"status": "declined"}) if json else _html(pages.saying(place, "declined"))
    trace = _trace(request)

    def page(word: str, status: int) -> Page:
        return pages.asking(place, error=word, status=status, number=given.number)

    try:
        begun = await _patient(lambda: starting.begin(gate, form, given, _seen(gate, request), trace), trace)
    except Again as again:
        if json:
            raise wrong("number" if again.word == "number" else "topics", f"not acceptable: {again.word}") from None
        return _html(page(again.word, 422))
    except Refused as refused:
        return _told(refused, page, json=json)
    if json:
        return JSONResponse({"status": "pending", "opt_in": begun.opt_in, "code_valid_s": starting.CODE_MS // 1000})
    return _html(pages.confirming(place, begun.opt_in, mask(begun.number)))


@router.post("/c/{name}/confirm")
async def confirm(request: Request, name: Named) -> Response:
    """The second record, by code."""
    gate, json = _gate(request), _is_json(request)
    given = submitted.confirmation(await request.body(), json=json)
    form = await _form(gate, name)
    place = Place(form, form.locale(given.lang), given.embed)
    trace = _trace(request)
    try:
        outcome = await _patient(lambda: confirming.confirm(gate, form, given, _seen(gate, request)), trace)
    except Refused as refused:
        return _told(refused, lambda word, status: pages.asking(place, error=word, status=status), json=json)
    if outcome == "wrong":
        if json:
            raise wrong("code", "not right, or no longer valid")
        return _html(pages.confirming(place, given.opt_in, None, wrong=True))
    if json and outcome == "refused":
        raise Refused(Refusal(Code.CONSENT_OPTED_OUT, "an opt-out of every sender stands"))
    if json:
        return JSONResponse({"status": "granted"})
    return _html(pages.saying(place, outcome, DONE[outcome]))


# --- what every route does -------------------------------------------------------------------------------------------


async def _patient(work: Callable[[], Awaitable[Value]], trace: str) -> Value:
    """A part that is away is a refusal, so that a person can be told."""
    try:
        return await work()
    except faults.UNANSWERING as fault:
        raise faults.refused(fault, "consent", trace) from None


def _told(refused: Refused, page: Callable[[str, int], Page], *, json: bool) -> Response:
    """A refusal as a page, where it is one a person can meet."""
    word = SAID.get(refused.refusal.code)
    if json or word is None:
        raise refused
    answer = _html(page(word, MEANINGS[refused.refusal.code].status))
    answer.headers["retry-after"] = str(refused.refusal.retry_after_s or RETRY_S)
    return answer


def _html(page: Page) -> Response:
    return Response(page.body, page.status, headers=page.headers)


def _gate(request: Request) -> Gate:
    gate: Gate = request.app.door.opened()
    return gate


async def _form(gate: Gate, name: str) -> Form:
    async with gate.pool.acquire() as conn:
        found = await forms.form(conn, name)
    if found is None:
        raise Refused(NOWHERE)
    return found


def _locale(form: Form, lang: str | None, request: Request) -> Locale:
    """What the address says, else the first language of the browser's list that the form speaks, else Chinese."""
    accepted = [
        one.partition(";")[0].strip().lower()[:2] for one in request.headers.get("accept-language", "").split(",")
    ]
    return form.locale(lang if lang in LOCALES else None, *accepted)


def _is_json(request: Request) -> bool:
    return submitted.is_json(request.headers.get("content-type", ""))


def _trace(request: Request) -> str:
    return trace_of(dict(request.scope["headers"])) or new_trace()


def _seen(gate: Gate, request: Request) -> Seen:
    head: dict[str, Any] = dict(request.headers)
    peer = request.client.host if request.client is not None else ""
    return seen(head, peer, request.url.scheme, request.url.path, gate.trusted_proxies, gate.public_url)
