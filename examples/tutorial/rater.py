"""Reads at the review desk in a rater's place: signs in, and gives each response its true level.

    python examples/tutorial/rater.py URL NAME PASSWORD FOLDER

FOLDER has `responses.csv` and `truth.csv`. It ends when nothing waits, and takes `PAUSE_S` for a response.
"""

from __future__ import annotations

import csv
import html
import re
import sys
import time
from pathlib import Path

import httpx

PAUSE_S = 0.8
"""The desk takes no decision in the first 0.7 s; `fast_s` in the policy lets these count."""


class Desk:
    """The desk, as a browser without scripts sees it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, follow_redirects=True, headers={"Origin": url})
        self.page = ""

    def get(self, path: str) -> None:
        self.page = self._http.get(path).raise_for_status().text

    def post(self, path: str, **fields: str) -> None:
        """Send a form with the hidden fields of the page."""
        hidden = {name: self.field(name) for name in ("form_key", "token", "key") if self.field(name)}
        self.page = self._http.post(path, data=hidden | fields).raise_for_status().text

    def field(self, name: str) -> str:
        match = re.search(rf'name="{name}" value="([^"]*)"', self.page)
        return html.unescape(match[1]) if match else ""

    @property
    def response(self) -> str | None:
        """The response on the page; None if nothing waits."""
        match = re.search(r'<div class="text" dir="auto"[^>]*>(.*?)</div>', self.page, re.DOTALL)
        return html.unescape(match[1]) if match else None


def true_levels(folder: Path) -> dict[str, str]:
    """Return the true level of each text."""
    tables = []
    for name, column in (("responses.csv", "text"), ("truth.csv", "level")):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            tables.append({row["id"]: row[column] for row in csv.DictReader(file)})
    texts, levels = tables
    return {text.strip(): levels[key] for key, text in texts.items()}


def read_all(url: str, name: str, password: str, folder: Path) -> int:
    """Read what waits; return how many responses that were."""
    levels, desk = true_levels(folder), Desk(url)
    desk.get("/login")
    desk.post("/login", name=name, password=password)
    desk.get("/read")
    for count in range(10_000):
        response = desk.response
        if response is None:
            return count
        time.sleep(PAUSE_S)
        desk.post("/decide", level=levels[response.strip()])
    raise SystemExit("the desk does not come to an end")


if __name__ == "__main__":
    print(f"{read_all(*sys.argv[1:4], Path(sys.argv[4]))} responses read")
