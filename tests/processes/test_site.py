"""The site that `make pages` wrote, in Chromium: every page, link, anchor and picture, light and dark."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import pytest

from chromium import chromium, open_page
from making import ROOT

SITE = ROOT / ".pages/site"
PICTURES = """
[...document.images].map((image) => {
  image.loading = "eager";
  return image.decode().then(() => "", () => image.src);
})
"""
LOST = "[...document.links].filter((a) => a.hash && a.pathname === location.pathname && !document.getElementById(%s))"
LOST = LOST % "decodeURIComponent(a.hash.slice(1))"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: object) -> None: ...


@pytest.mark.nightly
@pytest.mark.skipif(not SITE.is_dir(), reason="needs the site: make pages")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_link_or_picture_of_the_site_is_broken(scheme: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    begin = f"http://127.0.0.1:{server.server_port}/"
    wrong, seen, left = [], set(), {begin}
    with chromium() as browser:
        page = open_page(browser, color_scheme=scheme, viewport={"width": 1280, "height": 900})
        page.on("request", lambda request: wrong.append(request.url) if "//127.0.0.1:" not in request.url else None)
        page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        while left - seen:
            url = (left - seen).pop()
            seen.add(url)
            page.goto(url)
            wrong += filter(None, page.evaluate(f"Promise.all({PICTURES})"))
            wrong += page.evaluate(f"{LOST}.map((a) => a.href)")
            assert page.evaluate("document.documentElement.scrollWidth") <= 1280, url
            links = {urldefrag(link).url for link in page.evaluate("[...document.links].map((a) => a.href)")}
            ours = {link for link in links if link.startswith(begin)}
            left |= {link for link in ours if link.endswith(("/", ".html"))}
            wrong += [link for link in ours - left if not Path(f"{SITE}{urlsplit(link).path}").is_file()]
    server.shutdown()
    assert len(seen) > 30
    assert [url for url in wrong if not url.startswith(("data:", "blob:"))] == []
