"""Every page of the console, in the order of the menu."""

from gateway.console.frame import Page
from gateway.console.pages import account, audit, breakers, overview, parts

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    parts.SENDER,
    parts.CAMPAIGN,
    breakers.PAGE,
    audit.PAGE,
    account.PAGE,
)
