"""What all pages share: who looks, in which words, zone and colours; the menu; acts and looks that are checked.

A page is a `Page`; `mount` gives it its address. The session a page was opened with is read anew before each act, so a
role taken away or a session ended takes effect at once. A look at a person's data is written to the ledger before the
data is shown; where it cannot be written, nothing is.
"""

import copy
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from nicegui import Client, ui
from starlette.requests import Request

from gateway import telemetry
from gateway.console import door, pieces
from gateway.console.desk import Desk
from gateway.console.live import Live
from gateway.console.wording import LANGUAGES, Words, preferred, words
from gateway.contract.consent import Event, EventKind
from gateway.contract.console import May, Session
from gateway.ledger.appender import LedgerUnavailable
from gateway.ledger.events import SYSTEM
from gateway.records import users
from gateway.records.connection import AWAY, Connection

T = TypeVar("T")
TIMEOUT_S = 2.0
ZONE = "Asia/Shanghai"
ZONES = ("Asia/Shanghai", "Asia/Hong_Kong", "Asia/Tokyo", "Asia/Singapore", "UTC", "Europe/London", "America/New_York")
THEMES: Mapping[str | None, bool | None] = {None: None, "light": False, "dark": True}
HEAD = """
<link rel="stylesheet" href="/console/console.css">
<script src="/console/console.js" defer></script>
"""

log = telemetry.logger("console")


class Unrecorded(Exception):  # noqa: N818 - it says what happened
    """The ledger did not take a look or an act: nothing is shown, nothing is done."""


class Forbidden(Exception):  # noqa: N818 - it says what happened
    """The session is over or its role does not allow this."""


class Declined(Exception):  # noqa: N818 - it says what happened
    """What was asked for would do nothing, or the wrong thing; the text is the key of its words."""


class Page(NamedTuple):
    """One page: its address, the key of its title, what its reader must be allowed, and what builds it."""

    path: str
    title: str
    may: May
    show: "Callable[[View], Awaitable[None]]"
    menu: bool = False


@dataclass(slots=True)
class View:
    """One page before one person."""

    desk: Desk
    session: Session
    t: Words
    asked: Mapping[str, str]
    """What the address says: path and query."""
    zone: ZoneInfo
    client: Client
    live: Live
    """What everybody watches."""

    def may(self, what: May) -> bool:
        """Whether the reader may; for showing a button, not for the act itself."""
        return self.session.may(what)

    def time(self, at: datetime | int | None, *, seconds: bool = False) -> str:
        """A time (aware, or Unix ms) in the reader's zone; a dash for none."""
        if at is None:
            return "–"
        moment = datetime.fromtimestamp(at / 1000, UTC) if isinstance(at, int) else at
        return moment.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")

    def offset(self) -> str:
        """How far the reader's zone is from UTC now."""
        ahead = datetime.now(self.zone).strftime("%z")
        return f"UTC{ahead[:3]}:{ahead[3:5]}"

    # --- acts and looks ------------------------------------------------------------------------------------------

    def doing(self, may: May, act: Callable[..., Awaitable[str | None]]) -> Callable[..., Awaitable[bool]]:
        """An act behind a button: `act` does it and returns the key of what to say. True when it was done."""

        async def done(*args: Any) -> bool:
            with self.client.content:
                said = False
                with self.tried():
                    await self._still(may)
                    key = await act(*args)
                    said = True
                    if key is not None:
                        ui.notify(self.t[key], type="positive")
                return said

        return done

    @contextmanager
    def tried(self) -> Iterator[None]:
        """Say what went wrong instead of leaving half a page; for whatever reads or acts."""
        try:
            yield
        except Forbidden:
            self.say("forbidden")
        except Declined as why:
            self.say(str(why))
        except Unrecorded:
            self.say("unrecorded")
        except AWAY as fault:
            log.warning("page_away", error=type(fault).__name__)
            self.say("away")
        except Exception as fault:
            log.exception("page_failed", error=type(fault).__name__)
            self.say("broken")

    def repeat(self, every_s: float, refresh: Callable[[], Awaitable[None]]) -> None:
        """Read again and again while the page is open; PostgreSQL away, the page says since when it stands still."""
        read_at = time.monotonic()
        with self.client.layout:
            bar = pieces.text("div", "", "stale", role="status")
            bar.set_visibility(False)

        async def again() -> None:
            nonlocal read_at
            try:
                await refresh()
                read_at = time.monotonic()
                bar.set_visibility(False)
            except AWAY as fault:
                log.warning("page_away", error=type(fault).__name__)
                bar.text = self.t("stale", n=round(time.monotonic() - read_at))
                bar.set_visibility(True)

        ui.timer(every_s, again, immediate=False)

    async def listing(
        self,
        every_s: float,
        read: Callable[[Connection], Awaitable[list[T]]],
        row: "Callable[[View, T], dict[str, Any]]",
        draw: "Callable[[View, list[T], list[dict[str, Any]]], None]",
    ) -> None:
        """A list that is read again and again, and drawn anew where what it says of its rows has changed."""
        place = pieces.box("div")
        shown: list[dict[str, Any]] = []

        async def refresh() -> None:
            async with self.desk.pool.acquire(timeout=TIMEOUT_S) as connection:
                found = await read(connection)
            rows = [row(self, one) for one in found]
            if rows == shown and place.default_slot.children:
                return
            shown[:] = rows
            place.clear()
            with place:
                draw(self, found, rows)

        await refresh()
        self.repeat(every_s, refresh)

    def say(self, key: str) -> None:
        """Something did not work: shown, and read out, until it is dismissed."""
        ui.notify(self.t[key], type="negative", timeout=0, close_button=self.t["close"])

    async def _still(self, may: May) -> None:
        found = await users.standing(self.desk.pool, [self.session.digest], using=True)
        now = found.get(self.session.digest)
        if now is None or not now.may(may):
            raise Forbidden
        self.session = now

    async def look(self, subject: bytes | None, *seen: str, asked: Mapping[str, str] | None = None) -> None:
        """Record a look at a person's data (`None`: at a list of people) before `seen` is shown; or `Unrecorded`.

        `asked`: what the list was searched by.
        """
        await self._still(May.PEOPLE)
        data: dict[str, Any] = {"seen": list(seen)} | ({"asked": dict(asked)} if asked else {})
        await self.record(EventKind.ACCESS, data, subject or SYSTEM)
        telemetry.CONSOLE_LOOKS.add()

    async def record(self, kind: EventKind, data: dict[str, Any], subject: bytes = SYSTEM) -> int | None:
        """Append an act of the reader to the ledger; its place in it. Raises `Unrecorded`."""
        return await record(self.desk, self.session, kind, data, subject)


async def record(desk: Desk, session: Session, kind: EventKind, data: dict[str, Any], subject: bytes) -> int | None:
    """Append an act of a person to the ledger; its place in it. Raises `Unrecorded`."""
    event = Event(
        event_id=f"console/{uuid.uuid4()}",
        kind=kind,
        number=None,
        subject=subject,
        occurred_at_ms=time.time_ns() // 1_000_000,
        data={"person": session.name, **data, "by": "console"},
    )
    try:
        (appended,) = await desk.appender.append([event])
    except (LedgerUnavailable, *AWAY) as fault:
        raise Unrecorded from fault
    if appended.refusal is not None:
        raise Unrecorded
    return appended.seq


# --- mounting --------------------------------------------------------------------------------------------------------


def mount(page: Page, pages: tuple[Page, ...], opened: Callable[[], tuple[Desk, Live]]) -> None:
    """Give a page its address."""

    @ui.page(page.path, title="Assent", response_timeout=8.0)
    async def _(request: Request) -> None:
        view = _view(request, ui.context.client, *opened())
        pieces.text("a", view.t["skip"], "skip", href="#main")
        _header(view, page, pages)
        view.client.title = f"{view.t[page.title]} · Assent"
        with pieces.box("div", "sheet", id="main", tabindex="-1"):  # the library's own <main> is around it
            pieces.text("h1", view.t[page.title])
            if not view.may(page.may):
                pieces.empty(view.t["forbidden"])
            else:
                await _shown(view, page)
        pieces.text("footer", view.t("times_in", zone=view.zone.key, offset=view.offset()), "quiet")


async def _shown(view: View, page: Page) -> None:
    """What the page shows, or why it shows nothing."""
    try:
        await page.show(view)
    except Unrecorded:
        pieces.empty(view.t["unrecorded"])
    except Forbidden:
        pieces.empty(view.t["forbidden"])
    except AWAY as fault:
        log.warning("page_away", error=type(fault).__name__)
        pieces.empty(view.t["away"])
    except Exception as fault:
        log.exception("page_failed", error=type(fault).__name__)
        pieces.empty(view.t["broken"])


def _view(request: Request, client: Client, desk: Desk, live: Live) -> View:
    session: Session = request.scope[door.SESSION]
    lang = session.lang or preferred(request.headers.get("accept-language", ""))
    own = copy.copy(client.page)  # the library keeps language and colours with the page: ours are each reader's
    own.language, own.dark = LANGUAGES[lang], THEMES.get(session.theme)  # type: ignore[assignment]
    client.page = own
    client._head_html += HEAD  # noqa: SLF001 - `ui.add_head_html` would send it to everybody's page
    asked = {**request.query_params, **request.path_params}
    return View(desk, session, words(lang), asked, ZoneInfo(session.zone or ZONE), client, live)


def _here(page: Page, here: Page) -> str:
    """Whether a menu's page is this one, or the one that this one belongs to."""
    if page.path == here.path:
        return "page"
    return "true" if here.path.startswith(f"{page.path.rstrip('/')}/") and page.path != "/" else ""


def _header(view: View, here: Page, pages: tuple[Page, ...]) -> None:
    t = view.t
    with pieces.box("header"):
        pieces.text("a", "Assent", "brand", href="/")
        with pieces.box("nav", **{"aria-label": t["menu"]}):
            for page in pages:
                if page.menu and view.may(page.may):
                    here_now = {"aria-current": _here(page, here)} if _here(page, here) else {}
                    pieces.text("a", t[page.title], href=page.path, **here_now)
        with pieces.box("div", "who"):
            role = t["role_" + view.session.role]
            pieces.text("a", f"{view.session.name} · {role}", href="/account", title=t["account_title"])
            with pieces.box("form", method="post", action="/sign-out"):
                pieces.text("button", t["sign_out"], "plain", type="submit")
