"""A person's browser, and a shop whose pages embed the consent form: what the browser tests share.

Needs a Chromium (`CHROMIUM`, or the first on PATH); nothing but loopback is asked for. Pictures are taken of every page
and kept where `ASSENT_PICTURES` names a folder for them.
"""

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page

ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
MOST_BYTES = 200_000
ZH = {"arrivals": "新品到店邀约", "promotion": "优惠信息", "number": "手机号码", "agree": "同意并获取确认短信",
      "decline": "不用了", "code": "短信中的6位验证码", "confirm": "确认订阅"}  # fmt: skip

CONTRAST = """() => {
  const channel = v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 };
  const light = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number);
                       return .2126 * channel(r) + .7152 * channel(g) + .0722 * channel(b) };
  const ground = e => { while (e) { const c = getComputedStyle(e).backgroundColor;
                        if (!/, 0\\)$/.test(c)) return c; e = e.parentElement } return 'rgb(255,255,255)' };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), poor = [];
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || !e.checkVisibility({opacityProperty: true})) continue;
    if (e.closest("[disabled], .disabled")) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) poor.push(walk.currentNode.textContent);
  }
  return poor;
}"""


NARROW = {"width": 400, "height": 800}
WIDER = """() => [...document.querySelectorAll("body *")].filter(e => {
    const box = e.getBoundingClientRect();
    if (!box.width || box.right <= document.documentElement.clientWidth + 1) return false;
    for (let up = e.parentElement; up; up = up.parentElement)
      if (getComputedStyle(up).overflowX !== "visible") return false;
    return true;
  }).map(e => `${e.tagName}.${e.className}: ${e.textContent.trim().slice(0, 40)}`)"""
"""What reaches out of the window and cannot be scrolled to within its own box."""


def unreadable(page: Page) -> list[str]:
    """What stands out too little from its ground, once colours have stopped changing."""
    found: list[str] = page.evaluate(CONTRAST)
    for _ in range(20):
        if not found:
            break
        page.wait_for_timeout(100)
        found = page.evaluate(CONTRAST)
    return found


def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "no Chromium: set CHROMIUM=/path/to/it"
    return found


class Visit:
    """A page, what it asked for, and what its console complained of."""

    def __init__(self, context: BrowserContext) -> None:
        self.context, self.page = context, context.new_page()
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        context.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or ""))
        context.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def picture(self, name: str) -> None:
        kept("ASSENT_PICTURES", f"{name}.png", self.page.screenshot(full_page=True))

    def keep(self, name: str, *, whole: bool = True) -> None:
        """A picture for docs/screenshots, where `make screenshots` keeps it; else one like the others."""
        self.page.mouse.move(0, 0)
        raw = self.page.screenshot(full_page=whole, animations="disabled", caret="hide")
        assert len(raw) <= MOST_BYTES, f"{name}.png has {len(raw)} bytes"
        kept("ASSENT_SCREENSHOTS" if os.environ.get("ASSENT_SCREENSHOTS") else "ASSENT_PICTURES", f"{name}.png", raw)


def kept(where: str, file: str, raw: bytes) -> None:
    """Write a picture where the variable `where` names a folder for it."""
    if folder := os.environ.get(where):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / file).write_bytes(raw)


class Shop(http.server.BaseHTTPRequestHandler):
    """A shop's page with a policy as strict as the widget says it needs."""

    def do_GET(self) -> None:
        gateway, extra = self.server.gateway, self.server.extra  # type: ignore[attr-defined]
        policy = f"default-src 'none'; script-src {gateway} 'self'; frame-src {gateway}; base-uri 'none'"
        if self.path == "/shop.js":
            kind, body = (
                "text/javascript",
                (
                    "window.told = []; document.addEventListener('assent:outcome', e => window.told.push(e.detail));"
                    "document.getElementById('buy').addEventListener('click', () => document.title = 'bought');"
                    "document.getElementById('open').addEventListener('click', () =>"
                    " document.dispatchEvent(new Event('assent:open')));"
                ),
            )
        else:
            kind = "text/html; charset=utf-8"
            body = (
                '<!doctype html><html lang="zh"><title>shop</title><h1>Shop</h1><button id="buy">Buy</button>'
                '<button id="open">Messages</button><script src="/shop.js"></script>'
                f'<script src="{gateway}/c/widget.js" data-form="acme" {extra} async></script></html>'
            )
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-security-policy", policy)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_args: Any) -> None:
        """Nothing."""


@contextmanager
def shop_on(port: int, gateway: str) -> Iterator[Any]:
    """The shop while it is open; `extra` of what is given goes into its script tag."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Shop))
    server.gateway, server.extra = gateway, ""  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
