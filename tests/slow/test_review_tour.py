"""Takes the pictures of the review desk's tour: `python -m pytest tests/slow/test_review_tour.py`."""

import io
import time
from pathlib import Path

from PIL import Image

from chromium import SIZES, chromium, served
from desks import PASSWORD, Programme, Work, make_programme, scored_rows, write_jsonl
from making import ROOT
from scoremux_desk.database.programme import load_policy
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.reading.intake import add_scored

TOUR = ROOT / "desk" / "scoremux_desk" / "tour"
MOST_BYTES = 60_000
POINTS = {"bio-7": [0, 1, 2], "phy-3": [0, 0.25, 0.5, 0.75, 1], "geo-2": [0, 0.5, 1]}


def human(text: str, levels: int, draw: int) -> int:
    good = sum(word in text.lower() for word in ("absor", "takes in", "reflect", "bounce", "throw", "dichte", "يبرد"))
    return max(0, min(levels - 1, good * (levels - 1) // 2 - (draw % 7 == 0)))


def test_tour(tmp_path: Path) -> None:
    found = scored_rows(400)
    for n, row in enumerate(found):
        levels = len(row["probabilities"])
        row["level"] = human(row["text"], levels, n * 3 if row["confidence"] < 0.7 else 1)
        rest = (1 - row["confidence"]) / (levels - 1)
        row["probabilities"] = [row["confidence"] if k == row["level"] else rest for k in range(levels)]
        row["text"] = row["text"].rstrip("0123456789 ")
    first = next(row for row in found if row["task"] == "bio-7" and row["route"] != "machine")
    programme = make_programme(
        tmp_path, rows=found, policy=DeskPolicy(second_reads=0.3, validity=0.05, machine="after")
    )
    programme.clock[0] = time.time() - 4000
    busy(programme, ("anna", "ben", "lee"))
    programme.database.now = time.time
    changes = (("", ""), ("see green", "see  GREEN"), (",", ""))
    same = [{**first, "line": 5000 + n, "text": first["text"].replace(*change)} for n, change in enumerate(changes)]
    for row in same:
        row |= {"confidence": 0.31, "level": 2, "probabilities": [0.24, 0.31, 0.45]}
    write_jsonl(tmp_path / "friday.jsonl", same)
    add_scored(programme.database, tmp_path / "friday.jsonl")
    TOUR.mkdir(exist_ok=True)
    with chromium() as browser, served(programme.app) as url:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.goto(url)
        page.fill("#name", "dana")
        page.fill("#password", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_selector("h1:text('Queues')")
        keep("queues", page.screenshot())
        page.goto(f"{url}/agreement?by=rater")
        keep("agreement", page.screenshot(full_page=True))
        page.goto(url)
        page.get_by_label("Read bio-7, Low confidence").click()
        page.wait_for_selector(".scoring")
        page.wait_for_selector("main:not([data-guarded])")
        keep("read", page.screenshot())
        page.set_viewport_size({"width": 360, "height": SIZES[360]})
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        keep("phone", page.screenshot())
        page.set_viewport_size({"width": 1280, "height": 800})
        page.emulate_media(color_scheme="light")
        page.wait_for_selector("main:not([data-guarded])")
        with page.expect_response("**/decide"):
            page.keyboard.press("1")
        page.wait_for_selector("main:not([aria-busy]):not([data-guarded])")
        page.keyboard.press("m")
        page.wait_for_selector("text=You and the machine")
        keep("compare", page.screenshot())
        context.close()


def busy(programme: Programme, raters: tuple[str, ...]) -> None:
    """Let raters decide what waits, but for the responses that are least certain."""
    with programme.database.read() as connection:
        policy = load_policy(connection)
    work = Work(programme, policy)
    for number in range(260):
        who = raters[number % len(raters)]
        programme.clock[0] += 5 + number * 7 % 9
        reason = ("LOW_CONFIDENCE", "READ_BEHIND")[number % 4 == 0]
        read = work.take(who, ("bio-7", "phy-3", "geo-2")[number // 3 % 3], reason, number % 10 / 10)
        if read is not None:
            work.decide(who, read.token, human(work.row(read.row).text, len(POINTS[read.task]), number))


def keep(name: str, png: bytes) -> None:
    """Write a picture as WebP, small enough for the repository."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for quality in (80, 65, 50, 35):
        image.save(TOUR / f"{name}.webp", quality=quality, method=6)
        if (TOUR / f"{name}.webp").stat().st_size <= MOST_BYTES:
            return
    raise AssertionError(f"{name} is over {MOST_BYTES:,} bytes")
