"""A file of complaints: chosen here, sent to `files.complaints` as it is, and told what became of its lines."""

from gateway.console import pieces
from gateway.console.frame import Page, View
from gateway.console.pages.cases import tabs
from gateway.contract.console import May
from gateway.rules.complaint_file import MAPPINGS


async def show(view: View) -> None:
    """Build the page."""
    t = view.t
    tabs(view, "/cases/import")
    pieces.text("p", t["import_lead"])
    with pieces.box("form", "upload", id="upload", action="/files/complaints"):
        with pieces.box("div", "line"):
            with pieces.box("label", "plain"):
                pieces.text("span", t["import_mapping"])
                with pieces.box("select", name="mapping"):
                    for name in MAPPINGS:
                        pieces.text("option", t["source_" + name], value=name)
            with pieces.box("label", "plain"):
                pieces.text("span", t["import_encoding"])
                with pieces.box("select", name="encoding"):
                    for encoding, said in (("", t["auto"]), ("utf-8", "UTF-8"), ("gb18030", "GB 18030 / GBK")):
                        pieces.text("option", said, value=encoding)
            with pieces.box("label", "plain"):
                pieces.text("span", t["import_file"])
                pieces.box("input", type="file", name="file", accept=".csv,.txt,text/csv", required=True)
        with pieces.box("label", "plain wide"):
            pieces.text("span", t["import_own_columns"])
            pieces.box("input", name="columns", maxlength=1000, placeholder="reporter:举报号码,at:举报时间")
        pieces.text("button", t["import_send"], "act", type="submit")
    with pieces.box("div", "outcome", id="outcome", role="status", **{"aria-live": "polite"}):
        pieces.text("p", "", id="outcome-said")
        pieces.box("ul", id="outcome-lines")
    pieces.text("p", t["import_columns"], "quiet")
    pieces.box(
        "div", hidden=True, id="sending", **{"data-sending": t["import_sending"], "data-broken": t["import_broken"]}
    )


PAGE = Page("/cases/import", "import_title", May.CASES, show)
