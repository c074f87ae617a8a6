"""The console as a real process over real parts, and people who sign in to it."""

import asyncio
import contextlib
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from gateway_rig import environment
from playwright.sync_api import Page, expect
from visiting import Visit

from gateway.contract.console import Role
from gateway.local.parts import free_port
from gateway.records import users
from gateway.rules import passwords

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"
KEPT = passwords.hashed(PASSWORD, b"s" * 16)
PEOPLE = {"vera": Role.VIEWER, "cora": Role.COMPLIANCE, "otto": Role.OPERATOR}


class Console:
    """A running console. `run` uses its database."""

    def __init__(self, url: str, database_url: str, env: dict[str, str]) -> None:
        self.url, self.database_url, self.env = url, database_url, env

    def run(self, work: Any, *values: Any, **named: Any) -> Any:
        async def once() -> Any:
            connection = await asyncpg.connect(self.database_url)
            try:
                return await work(connection, *values, **named)
            finally:
                await connection.close()

        return beside(once())

    def sign_in(self, visit: Visit, name: str = "otto", path: str = "/") -> Page:
        """Open a page as somebody who signed in before; the session is made where the sign-in page would make it."""
        token = secrets.token_urlsafe(32)
        self.run(_session, token, name)
        visit.context.add_cookies([{"name": "assent_console", "value": token, "url": self.url, "httpOnly": True}])
        visit.page.goto(f"{self.url}{path}")
        expect(visit.page.locator("#main h1")).to_be_visible()
        return visit.page


def beside(work: Any) -> Any:
    """Run a coroutine to its end: Playwright has a loop of its own in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def connected(page: Page) -> None:
    """Until the page's live connection stands."""
    page.wait_for_function("window.did_handshake === true")


async def _session(connection: Any, token: str, name: str) -> None:
    user = await users.kept(connection, name)
    assert user is not None
    assert await users.begin(connection, token, user)


async def _people(connection: Any) -> None:
    for name, role in PEOPLE.items():
        await users.put(connection, name, KEPT, role, by="test")


@contextmanager
def console_on(folder: Path, redis_url: str, database_url: str, **settings: str) -> Iterator[Console]:
    """A console of its own process until the body ends."""
    port = free_port()
    env = environment(
        folder, 0, redis_url=redis_url, kafka="127.0.0.1:1", prefix="x", database_url=database_url,
        console_port=str(port), **settings,
    )  # fmt: skip
    log = (folder / "console.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "gateway", "console"], env=env, cwd=ROOT, stdout=log, stderr=log)
    console = Console(f"http://127.0.0.1:{port}", database_url, env)
    try:
        console.run(_people)
        until = time.monotonic() + 40
        while True:
            assert process.poll() is None, (folder / "console.log").read_text()
            assert time.monotonic() < until, (folder / "console.log").read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{console.url}/healthz", timeout=1).status_code == 204:
                    break
            time.sleep(0.1)
        yield console
    finally:
        process.terminate()
        process.wait(20)
        log.close()
