"""Take the tutorial's picture of the desk, with Chromium: `run.py --pictures`.

    python examples/tutorial/pictures.py URL NAME PASSWORD

URL is that of the desk.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 60_000


def keep(name: str, png: bytes) -> None:
    """Write a picture as WebP, small enough for a page."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (80, 60, 40, 20):
        image.save(HERE / f"{name}.webp", quality=quality, method=6)
        if (HERE / f"{name}.webp").stat().st_size <= MOST_BYTES:
            return


def main(url: str, name: str, password: str) -> None:
    program = next(path for path in map(shutil.which, NAMES) if path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 760})
        page.goto(f"{url}/login")
        page.fill("#name", name)
        page.fill("#password", password)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Read", exact=False).last.click()
        page.wait_for_selector("main:not([data-guarded]) .scoring")
        keep("desk", page.screenshot())
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])
