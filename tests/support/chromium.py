"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from waiting import until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = {360: 740, 768: 1000, 1440: 900}
"""Width → height of a phone, a tablet and a desktop."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a headless Chromium; the test skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright (extra dev)")
    program = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


_PATIENCE_S = 120
_SLOW_TYPIST = """
const later = window.setTimeout;
window.setTimeout = (work, delay, ...values) => later(work, delay === 4000 ? 120000 : delay, ...values);
"""
"""A key that has to be pressed twice waits four seconds for the second press; a busy machine may need more."""


def open_page(opener: Browser | BrowserContext, **options: Any) -> Page:
    """Open a page that waits long enough on a machine that is busy with other tests."""
    page = opener.new_page(**options)
    page.set_default_timeout(1000 * _PATIENCE_S)
    page.add_init_script(_SLOW_TYPIST)
    return page


@contextmanager
def served(app: Any, **options: Any) -> Iterator[str]:
    """Serve an application on a free port; give its URL. options: of uvicorn."""
    options = {"lifespan": "off", "timeout_graceful_shutdown": 5, **options}
    config = uvicorn.Config(app, port=0, log_level="warning", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://localhost:{port}"
    finally:
        server.should_exit = True
        thread.join()


def violations(page: Page) -> list[str]:
    """Return what axe-core finds against WCAG 2.2 A and AA on a page, one line each."""
    pytest.importorskip("axe_playwright_python", reason="needs axe-core (extra dev)")
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("tags => axe.run(document, {runOnly: {type: 'tag', values: tags}})", tags)
    return [
        f"{page.url}: {one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
