"""The review desk in Chromium: by keyboard alone, at three widths, light and dark, and what axe-core says of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from apis import made
from chromium import SIZES, chromium, open_page, served, violations
from desks import PASSWORD, Programme, essays, make_programme, scored_rows, write_alerts
from scoremux_desk.api.api_app import create_app
from scoremux_desk.database.accounts import begin_session
from scoremux_desk.database.programme import Item, save_items
from scoremux_desk.database.schema import decisions, remarks, rows
from scoremux_desk.database.verification import verify
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.reading.alerts import add_alerts

_WATCH = """
window.watched = {painted: {}, sent: [], pressed: 0};
for (const kind of ["keydown", "pointerdown"])
  addEventListener(kind, (event) => event.repeat || (watched.pressed = event.timeStamp), true);
new PerformanceObserver((list) => {
  for (const {element, renderTime} of list.getEntries()) {
    const page = element && element.closest(".reading");
    if (page) watched.painted[page.querySelector("[name=token]").value] ??= renderTime;
  }
}).observe({type: "element", buffered: true});
const send = window.fetch;
window.fetch = (url, options) => {
  if (String(url).endsWith("/decide")) watched.sent.push([options.body.get("token"), watched.pressed]);
  return send(url, options);
};
"""


def watch(page: Page) -> None:
    """Note in a page when each response was painted, and when the press happened that decided it."""
    page.add_init_script(_WATCH)


def seconds_seen(page: Page) -> list[float]:
    """Return how long each response that was decided in a watched page had been on the screen at the press."""
    watched = page.evaluate("watched")
    return [(pressed - watched["painted"][token]) / 1000 for token, pressed in watched["sent"]]


_OUT_OF_SIGHT = """
[...document.querySelectorAll(".top nav a, .scroll td:last-child button")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.textContent)
"""
RUSHES = ("double press", "burst", "held key", "double click", "double Enter")
"""Ways to decide the next response before anybody can have read it."""


def rush(page: Page, kind: str, guard_s: float) -> None:
    """Decide the response on the screen, and go on in one of the `RUSHES`. One decision is meant."""
    page.wait_for_selector(".scoring")
    page.wait_for_selector("main:not([data-guarded])")
    button = page.locator(".levels button").nth(1)
    if kind == "double press":
        for _ in range(2):
            page.keyboard.press("1")
            page.wait_for_timeout(150)
    elif kind == "burst":
        for _ in range(5):
            page.keyboard.press("1")
            page.wait_for_timeout(40)
    elif kind == "held key":
        for _ in range(8):
            page.keyboard.down("1")
            page.wait_for_timeout(1000 * (guard_s + 0.2) / 8)
        page.keyboard.up("1")
    elif kind == "double click":
        button.dblclick()
    else:
        button.focus()
        for _ in range(2):
            page.keyboard.press("Enter")
            page.wait_for_timeout(100)
    page.wait_for_selector("main:not([aria-busy])")


if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PAGES = """
    / /read /feedback /help /progress /agreement?by=task /alerts /questions /raters /rows /people /record /export
""".split()  # noqa: SIM905
ROWS = 163
PHONE = {"width": 360, "height": SIZES[360]}
READING = "html.script .scoring"
"""A response to score, in a page that listens to keys."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def programme(tmp_path: Path) -> Iterator[Programme]:
    responses = [{**row, "read_behind": None} for row in scored_rows(ROWS - 3)]
    routed = next(row for row in responses if row["task"] == "bio-7" and row["route"] != "machine")
    for n, text in enumerate((routed["text"], routed["text"] + " ", routed["text"].upper())):
        responses.append({**routed, "id": f"same{n}", "line": 9000 + n, "text": text, "confidence": 0.01 * n})
    policy = DeskPolicy(second_reads=0.5, machine="after", guard_s=0.1, fast_s=0)
    desk = make_programme(tmp_path, rows=responses, policy=policy)
    let_time_pass(desk)
    yield desk
    desk.database.close()


def let_time_pass(programme: Programme) -> None:
    began, now = time.monotonic(), programme.database.now()
    programme.database.now = lambda: now + time.monotonic() - began


def sign_in(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.wait_for_selector("#name:focus")  # by itself, once the page is drawn
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:text('Queues'), h1:text('Tasks'), h1:text('Aufgaben')")


def wait_until(page: Page, expression: str, argument: str | None = None) -> None:
    """Wait until a script's function returns something true; Playwright's own polling evaluates text, which the pages'
    policy forbids."""
    deadline = time.monotonic() + 120
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def press(page: Page, key: str, answer: str = "/decide") -> None:
    """Press a key, once keys count, and wait until its answer is in the page."""
    page.wait_for_selector("main:not([data-guarded])")
    with page.expect_response(lambda response: answer in response.url):
        page.keyboard.press(key)
    page.wait_for_selector("main:not([aria-busy])")


@contextmanager
def opened(
    browser: Browser, folder: Path, policy: DeskPolicy, rows: list[dict[str, Any]] | None = None, **options: Any
) -> Iterator[tuple[Programme, Page, str]]:
    """A desk, a page, and the desk's URL; options: of the page."""
    programme = make_programme(folder, 160, policy, rows)
    let_time_pass(programme)
    page = open_page(browser, **options)
    with served(programme.app) as url:
        yield programme, page, url
    page.close()
    programme.database.close()


@contextmanager
def reading(browser: Browser, folder: Path, policy: DeskPolicy) -> Iterator[tuple[Programme, Page]]:
    """A desk, and a watched page with the first response of bio-7."""
    with opened(browser, folder, policy) as (programme, page, url):
        watch(page)
        sign_in(page, url, "anna")
        page.get_by_label("Read bio-7").click()
        page.wait_for_selector(READING)
        yield programme, page


def test_essay_is_read_by_keyboard_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    text = " ".join(f"Sentence {n} about school uniforms and what they do." for n in range(100))
    policy, rows = DeskPolicy(groups=False, guard_s=0.1, fast_s=0), essays(1, texts=[text])
    with opened(browser, tmp_path, policy, rows, viewport=PHONE) as (programme, page, url):
        with programme.database.write() as connection:
            texts = ("Should pupils wear uniforms? Give reasons, and say what speaks against it.", "", "", "en")
            traits = ("cohesion", "grammar", "syntax")
            save_items(connection, [Item(f"essay-1.{trait}", (1, 1.5, 2), *texts) for trait in traits], "test")
        sign_in(page, url, "anna")
        focus(page, "button[aria-label='Read essay-1.grammar']")
        page.keyboard.press("Enter")
        page.wait_for_selector(READING)
        page.keyboard.press("PageDown")
        page.wait_for_timeout(700)
        assert (at := page.evaluate("scrollY")) > 300
        for key, trait in (("2", "cohesion"), ("q", "grammar"), ("1", "syntax")):
            assert page.locator("#traits strong").inner_text() == trait
            assert page.locator(".asked").bounding_box()["y"] == 0  # type: ignore[index]
            assert page.evaluate("[scrollY, document.documentElement.scrollWidth]") == [at, 360]
            assert not violations(page)
            press(page, key)
        assert programme.select(select(decisions.c.level).order_by(decisions.c.id)) == [2, 1, 0]


def test_german_pages_fit_a_phone(browser: Browser, tmp_path: Path) -> None:
    policy = DeskPolicy(groups=False, guard_s=0.1, confirm=True, machine="after")
    with opened(browser, tmp_path, policy, viewport=PHONE, locale="de-DE") as (_, page, url):
        sign_in(page, url, "anna")
        for step in ("first", "help", "reading", "compared"):
            if step == "help":
                page.goto(f"{url}/help")
            elif step == "reading":
                page.goto(url)
                page.get_by_label("phy-3 lesen").click()
                page.wait_for_selector(READING)
                page.wait_for_selector("main:not([data-guarded])")
                page.keyboard.press("x")
                page.wait_for_selector("text=Die Taste x hat hier keine Wirkung")
                page.keyboard.press("q")
                page.wait_for_selector("text=0,25 Punkte geben? Noch einmal drücken.")
            elif step == "compared":
                press(page, "q")
                press(page, "m", "/compare")
                page.wait_for_selector("text=Sie und die Maschine")
            assert page.evaluate("document.documentElement.scrollWidth") == 360, step
            assert page.locator("html").get_attribute("lang") == "de" and not violations(page)
            page.screenshot(path=tmp_path / f"{step}.png")


def middle(page: Page, selector: str) -> tuple[float, float]:
    """Return the middle of the first such element."""
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def focus(page: Page, selector: str) -> None:
    """Reach an element by Tab alone."""
    for _ in range(200):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} cannot be reached by Tab")


def count(programme: Programme, *wanted: Any) -> int:
    with programme.database.read() as connection:
        query = select(func.count()).select_from(decisions).where(decisions.c.undone.is_(False), *wanted)
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("width", [360, *(pytest.param(w, marks=pytest.mark.nightly) for w in SIZES if w != 360)])
def test_day_at_the_desk_by_keyboard_alone(browser: Browser, programme: Programme, width: int, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": width, "height": SIZES[width]})
    page, wrong = open_page(context), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    with served(programme.app) as url:
        outside = []
        page.on("request", lambda request: outside.append(request.url) if not request.url.startswith(url) else None)
        sign_in(page, url, "anna")
        focus(page, "button[aria-label='Read bio-7']")
        page.keyboard.press("Enter")
        page.wait_for_selector(READING)
        assert page.locator("input[name=also]").count() >= 2
        ticked = page.locator("input[name=also]:checked").count()
        press(page, "2")
        assert count(programme) == 1 + ticked
        page.keyboard.press("n")
        page.keyboard.type("3 u a?")  # keys in a note are text
        page.keyboard.press("Escape")
        press(page, "Shift+I")
        assert count(programme, decisions.c.code == "I") == 1
        assert programme.select(select(remarks.c.text)) == ["3 u a?"]
        press(page, "u", "/undo")
        assert count(programme, decisions.c.code == "I") == 0
        before = count(programme)
        many = 30 if width == max(SIZES) else 6
        for n in range(many):
            press(page, str(n % 3))
        assert count(programme) >= before + many
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.wait_for_selector("main:not([data-guarded])")
        page.keyboard.press("a")
        assert page.locator(".armed").count() == 1
        press(page, "a", "/alert")
        press(page, "m", "/compare")
        page.wait_for_selector("text=You and the machine")
        page.keyboard.press("Enter")
        page.wait_for_selector(READING)
        page.keyboard.press("n")
        page.keyboard.type("Is this right?")
        page.keyboard.press("Escape")
        press(page, "i", "/aside")
        press(page, "s", "/aside")
        page.goto(url)
        assert page.locator("text=question asked").count() == 1
        focus(page, "button[aria-label='Read response 2 that you put aside']")
        page.keyboard.press("Enter")
        page.wait_for_selector(READING)
        press(page, "1")

        for name, levels in (("ben", "0"), ("dana", "1")):
            context.clear_cookies()
            sign_in(page, url, name)
            which = ", Adjudication" if name == "dana" else ""
            focus(page, f"button[aria-label='Read bio-7{which}']")
            page.keyboard.press("Enter")
            page.wait_for_selector(READING)
            for _ in range(8):
                if page.locator(".scoring").count():
                    press(page, levels)
        assert count(programme, decisions.c.kind == "adjudication") >= 1
        with programme.database.read() as connection:
            adjudicated = select(rows.c.final_level).join(decisions, decisions.c.id == rows.c.final_decision)
            found = connection.execute(adjudicated.where(decisions.c.kind == "adjudication")).scalars()
            assert set(found) == {1}
        page.goto(f"{url}/export")
        focus(page, "a[href='/export/final.csv']")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        download.value.save_as(tmp_path / "final.csv")
        assert (tmp_path / "final.csv").read_text().count("\n") == ROWS + 1
    context.close()
    assert not wrong
    assert not outside
    with programme.database.read() as connection:
        verify(connection)


def test_rushed_key_or_click_decides_nothing_unseen(browser: Browser, tmp_path: Path) -> None:
    guard_s = 0.4
    with reading(browser, tmp_path, DeskPolicy(groups=False, guard_s=guard_s)) as (programme, page):
        for number, kind in enumerate(RUSHES, 1):
            for _ in range(5):
                rush(page, kind, guard_s)
            seen_s = seconds_seen(page)
            assert count(programme) == len(seen_s) >= 5 * number, kind
            assert min(seen_s) >= guard_s, kind


@pytest.mark.nightly
def test_early_press_that_arrives_late_decides_nothing(browser: Browser, tmp_path: Path) -> None:
    guard_s, block = 2.0, "setTimeout(() => { for (const end = performance.now() + 2500; performance.now() < end;); })"
    with reading(browser, tmp_path, DeskPolicy(groups=False, guard_s=guard_s)) as (programme, page):
        early: set[int] = set()
        for n in range(40):
            if len(early) > 3 and {number % 2 for number in early} == {0, 1}:
                break
            press(page, "1")
            token = page.locator("#decision [name=token]").get_attribute("value")
            wait_until(page, "token => watched.painted[token]", token)
            if n % 2:  # before the page is busy, since a movement waits for the page
                page.mouse.move(*middle(page, ".levels button"))
            page.evaluate(block)
            if n % 2:
                page.mouse.down()
                page.mouse.up()
            else:
                page.keyboard.press("1")
            painted, pressed = page.evaluate("token => [watched.painted[token], watched.pressed]", token)
            page.wait_for_selector("main:not([aria-busy])")
            if pressed - painted < 1000 * guard_s:  # the harness was fast enough
                page.wait_for_selector("text=Too soon")
                early.add(n)
                assert page.locator("#decision [name=token]").get_attribute("value") == token
        assert len(early) > 3
        assert min(seconds_seen(page)) >= guard_s
        assert count(programme) == len(seconds_seen(page))


def test_page_without_scripts_hides_its_buttons_at_first(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, DeskPolicy(groups=False), java_script_enabled=False) as (programme, page, url):
        cookie = begin_session(programme.database, programme.people["anna"])
        page.context.add_cookies([{"name": "desk", "value": cookie, "url": url}])
        page.goto(url)
        began = time.monotonic()
        page.get_by_label("Read bio-7").click()
        page.wait_for_load_state()  # before, nothing is drawn, and no style says what is hidden
        button = page.locator(".levels button").first
        assert not button.is_visible() or time.monotonic() - began > 0.7
        button.click()  # waits until it is there
        page.wait_for_selector("text=Your last")
        assert count(programme) == 1


def test_keys_give_the_points_that_they_show(browser: Browser, tmp_path: Path) -> None:
    policy = DeskPolicy(groups=False, guard_s=0.1, confirm=True)
    with opened(browser, tmp_path, policy) as (programme, page, url):
        sign_in(page, url, "anna")
        page.get_by_label("Read phy-3").click()
        page.locator(".levels button").first.wait_for()  # drawn, but hidden until the script takes over
        labels = page.locator(".levels button").all_inner_texts()
        assert [label.split() for label in labels] == [
            ["0", "0", "pts"], ["q", "0.25", "pts"], ["w", "0.5", "pts"], ["e", "0.75", "pts"], ["1", "1", "pt"]
        ]  # fmt: skip
        for number, (key, level) in enumerate({"1": 4, "q": 1, "0": 0, "e": 3}.items()):
            page.wait_for_selector("main:not([data-guarded])")
            page.keyboard.press("2")
            page.wait_for_selector("text=The key 2 does nothing here")
            page.keyboard.press("Shift+B")  # armed, and given up for another
            page.keyboard.press(key)
            page.wait_for_selector("text=Press again")
            assert count(programme) == number
            press(page, key)
            assert count(programme, decisions.c.level == level) == 1


@pytest.mark.nightly
def test_reading_tools_stay_in_the_browser(browser: Browser, programme: Programme) -> None:
    page = open_page(browser)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/static/" not in request.url else None)
    marked = "[...CSS.highlights.get('mine')].map(String)"
    with served(programme.app) as url:
        sign_in(page, url, "anna")
        page.get_by_label("Read bio-7").click()
        page.wait_for_selector(READING)
        before, words = len(sent), page.inner_text(".paper .text >> nth=0").split()
        size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('.paper .text')).fontSize)")
        page.keyboard.press("+")
        assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.paper .text')).fontSize)") > size
        for key in ("y", "ArrowRight", "Shift+ArrowRight", "y"):
            page.keyboard.press(key)
        (first,) = page.evaluate(marked)
        assert first.split() == words[1:3]
        page.locator(".beside summary:has-text('Anchor papers')").click()
        wait_until(page, "() => localStorage.getItem('desk-closed')")
        assert len(sent) == before  # nothing was sent
        press(page, "1")
        assert page.evaluate(marked) == []
        assert page.locator(".beside details:not([open])").count() == 1
        press(page, "u", "/undo")
        assert page.evaluate(marked) == [first]
        page.keyboard.press("y")
        for key in ("ArrowRight", "y"):  # inside the highlight: it goes
            page.keyboard.press(key)
        assert page.evaluate(marked) == []
    page.close()


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_violates_wcag_aa(browser: Browser, programme: Programme, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
    page = open_page(context)
    found = []
    write_alerts(programme.folder / "scored.jsonl.alerts", scored_rows(2))
    add_alerts(programme.database, programme.folder / "scored.jsonl", "test")
    with served(programme.app) as url:
        page.goto(f"{url}/login")
        found += violations(page)
        sign_in(page, url, "anna")
        for path in ("/", "/read"):
            page.goto(f"{url}{path}")
            page.wait_for_selector("main:not([data-guarded])")
            found += violations(page)
        context.clear_cookies()
        sign_in(page, url, "dana")
        page.get_by_label("Read bio-7, Low confidence").click()
        page.wait_for_selector(READING)
        page.wait_for_selector("main:not([data-guarded])")
        found += violations(page)  # with a group
        page.keyboard.press("a")
        press(page, "a", "/alert")
        press(page, "1")
        press(page, "m", "/compare")
        page.wait_for_selector("text=You and the machine")
        found += violations(page)
        for path in (*PAGES, "/rows/1"):
            page.goto(f"{url}{path}")
            page.wait_for_selector("main:not([data-guarded])")
            found += violations(page)
        for width, height in ((1280, 800), (640, 400), (360, 740)):  # the second is the first at 200 %
            page.set_viewport_size({"width": width, "height": height})
            for path in PAGES:
                page.goto(f"{url}{path}")
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    found.append(f"{path} is wider than {width} pixels")
                found += [f"{path}: {name} is out of sight" for name in page.evaluate(_OUT_OF_SIGHT)]
            found += violations(page)
    context.close()
    assert not found, "\n".join(found)


@pytest.mark.nightly
def test_the_operations_of_the_api_are_shown_without_a_network(browser: Browser, tmp_path: Path) -> None:
    page, outside = open_page(browser, viewport={"width": 360, "height": SIZES[360]}), []
    with made(tmp_path) as services, served(create_app(services)) as url:
        page.on("request", lambda request: outside.append(request.url) if not request.url.startswith(url) else None)
        page.goto(f"{url}/docs")
        page.locator(".opblock").first.wait_for()
        assert page.locator(".opblock-tag").evaluate_all("tags => tags.map(tag => tag.dataset.tag)") == [
            "Rows", "Tasks", "Changes", "Status"
        ]  # fmt: skip
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.evaluate("document.querySelector('#operations').replaceChildren()")  # Swagger UI has findings of its own
        assert violations(page) == []
    page.close()
    assert [request for request in outside if not request.startswith("data:")] == []
