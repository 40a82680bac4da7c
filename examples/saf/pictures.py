"""Take the README's pictures, light and dark: a made-up programme's report, and the desk on the demo's sample.

    make demo && .venv/bin/python examples/saf/pictures.py

Needs Chromium, and the extras `review` and `dev`.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
REPOSITORY = Path("scoremux-demo/repository")
SCOREMUX = Path(sys.executable).with_name("scoremux")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 150_000
PORTS = {"grpc": 18101, "http": 18100, "metrics": 18102, "watch": 18103}
DESK, PASSWORD = 18108, "a password of the demo"
SIZE = {"width": 1200, "height": 720}


def keep(name: str, png: bytes) -> None:
    """Write a picture as WebP, small enough for a page."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (85, 70, 50, 30):
        image.save(HERE / f"{name}.webp", quality=quality, method=6)
        if (HERE / f"{name}.webp").stat().st_size <= MOST_BYTES:
            return


@contextmanager
def running(url: str, *words: object) -> Iterator[None]:
    """Run a command of scoremux until the block ends; wait until a URL of it answers."""
    process = subprocess.Popen([SCOREMUX, *map(str, words)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(url, timeout=5).close()
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(120)


def scoremux(*words: object, text: str = "") -> None:
    subprocess.run([SCOREMUX, *map(str, words)], input=text, text=True, check=True, capture_output=True)


def desk(page: Page) -> None:
    """Open a response of the desk."""
    page.goto(f"http://127.0.0.1:{DESK}/login")
    page.fill("#name", "ada")
    page.fill("#password", PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Read en-6.3-ipp", exact=False).first.click()
    page.wait_for_selector("main:not([data-guarded]) .scoring")


def main() -> None:
    program = next(path for path in map(shutil.which, BROWSERS) if path)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        database, scored = Path(folder) / "reviews.db", Path(folder) / "scored"
        ports = [word for name, port in PORTS.items() for word in ("--set", f"{name}_port={port}")]
        with running(
            f"http://127.0.0.1:{PORTS['watch']}/readyz", "serve", "--repository", REPOSITORY,
            "--log", Path(folder) / "triton.log", "--set", "uncalibrated=human", *ports,
        ):  # fmt: skip
            scoremux("score", HERE / "responses.jsonl", "--out", scored, "--url", f"localhost:{PORTS['grpc']}")
        scoremux("review", "add", scored, "--tasks", REPOSITORY / "store", "--database", database)
        words = ("review", "users", "add", "ada", "--role", "rater", "--database", database)
        scoremux(*words, text=f"{PASSWORD}\n{PASSWORD}\n")
        stack.enter_context(running(f"http://127.0.0.1:{DESK}/login", "review", "--database", database, "--port", DESK))
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=program, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=SIZE, color_scheme=scheme)
            page.goto((HERE.parent / "programme" / "report.html").resolve().as_uri())
            keep(f"report-{scheme}", page.screenshot())
            desk(page)
            keep(f"desk-{scheme}", page.screenshot())
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
