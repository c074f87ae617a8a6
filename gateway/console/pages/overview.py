"""The board: what stands open, first."""

from gateway.console import pieces
from gateway.console.frame import Page, View
from gateway.contract.console import May
from gateway.records import registry


async def show(view: View) -> None:
    """Build the page."""
    stopped = [one.scope for one in await registry.breakers(view.desk.pool) if one.is_open]
    if stopped:
        pieces.text("p", view.t("overview_stopped", scopes=", ".join(stopped)))
    else:
        pieces.empty(view.t["breakers_none"])


PAGE = Page("/", "overview_title", May.BOARD, show, menu=True)
