"""One Chromium for each module, one context for each visit; whatever asks for another machine fails."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from visiting import ARGS, Visit, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=ARGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(locale="zh-CN", viewport={"width": 900, "height": 900})
    context.set_default_timeout(8000)
    seen = Visit(context)
    yield seen
    context.close()
    assert seen.hosts <= {"127.0.0.1", "localhost"}
    assert [one for one in seen.complaints if "422" not in one] == []
