"""One's own page: language, colours, time zone, password. A new password ends all of its owner's sessions."""

import asyncio
import secrets

from nicegui import ui

from gateway.console import pieces
from gateway.console.frame import ZONES, Declined, Page, View
from gateway.console.wording import LANGUAGES, words
from gateway.contract.console import May
from gateway.records import users
from gateway.rules import passwords

AUTO = "auto"


async def show(view: View) -> None:
    """Build the page."""
    _likes(view)
    _password(view)


def _likes(view: View) -> None:
    t, session = view.t, view.session
    pieces.text("h2", t["account_looks"])
    langs = {AUTO: t["auto"], **{lang: words(lang)["language"] for lang in LANGUAGES}}
    themes = {AUTO: t["auto"], "light": t["theme_light"], "dark": t["theme_dark"]}
    with pieces.box("div", "line"):
        lang = ui.select(langs, value=session.lang or AUTO, label=t["account_language"])
        theme = ui.select(themes, value=session.theme or AUTO, label=t["account_theme"])
        zone = ui.select(list(ZONES), value=session.zone or ZONES[0], label=t["account_zone"])
    for one in (lang, theme, zone):
        one.props("outlined dense options-dense")

    async def keep() -> None:
        chosen = [None if one.value == AUTO else str(one.value) for one in (lang, theme, zone)]
        await users.prefer(view.desk.pool, session.name, lang=chosen[0], theme=chosen[1], zone=chosen[2])
        ui.navigate.to("/account")

    pieces.button(t["save"], view.doing(May.BOARD, keep))


def _password(view: View) -> None:
    t = view.t
    pieces.text("h2", t["account_password"])
    with pieces.box("div", "line"):
        old = pieces.field(t["password_old"], password=True, autocomplete="current-password", maxlength=passwords.MOST)
        new = pieces.field(t["password_new"], password=True, autocomplete="new-password", maxlength=passwords.MOST)
    pieces.text("p", t("password_rule", n=passwords.LEAST), "quiet")

    async def change() -> None:
        if len(new.value) < passwords.LEAST or new.value == old.value:
            raise Declined("password_weak")
        kept = await users.kept(view.desk.pool, view.session.name)
        if kept is None or kept.since_s < passwords.wait_s(kept.failures):
            raise Declined("sign_in_slow")
        if not await asyncio.to_thread(passwords.matches, old.value, kept.password):
            await users.failed(view.desk.pool, kept.name)
            raise Declined("password_wrong")
        salt = secrets.token_bytes(passwords.SALT)
        stored = await asyncio.to_thread(passwords.hashed, new.value, salt)
        async with view.desk.pool.acquire(timeout=users.TIMEOUT_S) as connection:
            await users.set_password(connection, kept.name, stored, by=kept.name)
        ui.navigate.to("/sign-in")

    pieces.button(t["password_change"], view.doing(May.BOARD, change))


PAGE = Page("/account", "account_title", May.BOARD, show)
