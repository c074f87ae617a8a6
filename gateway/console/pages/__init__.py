"""Every page of the console, in the order of the menu."""

from gateway.console.frame import Page
from gateway.console.pages import account, audit, breakers, overview

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    breakers.PAGE,
    audit.PAGE,
    account.PAGE,
)
