"""Every page of the console, in the order of the menu."""

from gateway.console.frame import Page
from gateway.console.pages import (
    account,
    alerts,
    audit,
    breakers,
    case,
    cases,
    cleansing,
    cleansings,
    exports,
    figures,
    importing,
    message,
    messages,
    overview,
    parts,
    recipient,
    recipients,
)

PAGES: tuple[Page, ...] = (
    overview.PAGE,
    parts.SENDER,
    parts.CAMPAIGN,
    breakers.PAGE,
    cases.PAGE,
    figures.PAGE,
    importing.PAGE,
    case.PAGE,
    messages.PAGE,
    message.PAGE,
    recipients.PAGE,
    recipient.PAGE,
    cleansings.PAGE,
    cleansing.PAGE,
    alerts.PAGE,
    exports.PAGE,
    audit.PAGE,
    account.PAGE,
)
