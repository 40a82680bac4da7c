"""Raters' pages in German: the catalogue is complete, each text is marked, and pages choose their language."""

import re
from pathlib import Path

import polib
import pytest

from desks import Browser, Programme
from scoremux_client.contract import CONDITION_CODES
from scoremux_desk import errors, pages
from scoremux_desk.pages import languages, rendering

PAGES = Path(pages.__file__).parent
TEMPLATES = [PAGES / "templates" / f"{name}.html" for name in (*rendering._TRANSLATED, "base")]
MACROS = PAGES / "templates" / "macros.html"
MODULES = [
    *(PAGES / f"{name}.py" for name in ("desk_app", "page_endpoints", "rater", "rendering", "signing_in", "visits")),
    *(PAGES.parent / "reading" / f"{name}.py" for name in ("alerts", "conversations", "human_decisions", "leases")),
    *(PAGES.parent / "reading" / f"{name}.py" for name in ("task_access",)),
    *(PAGES.parent / "database" / f"{name}.py" for name in ("accounts", "connection", "log", "reads")),
]
WITH_REASONS = {"accounts.py", "connection.py"}
"""Modules whose other errors name what a director or a database said, in English."""
GERMAN = polib.pofile(str(PAGES / "catalogues" / "de.po"))
FIELDS = re.compile(r"%\(\w+\)s|\{\w+[:g]*\}|</?\w+[^>]*>")


def messages() -> dict[str, str]:
    """Return the place of each message of raters' pages, of the errors that they meet, and of tables of names."""
    extract = pytest.importorskip("babel.messages.extract", reason="needs Babel (extra dev)")
    from jinja2.ext import babel_extract

    found = {}
    for path in (*TEMPLATES, MACROS):
        with path.open("rb") as file:
            for line, _, message, _ in babel_extract(file, ("_", "gettext", "ngettext"), [], {"silent": "false"}):
                found[message if isinstance(message, str) else message[0]] = f"{path.name}:{line}"
    raised = {name for name in vars(errors) if name.endswith("Error")} - {"BrokenRecordError", "OutdatedError"}
    calls = dict.fromkeys([*raised, "say", "gettext"]) | {"ngettext": (1, 2)}
    for path in MODULES:
        for line, message, *_ in extract.extract_from_file("python", path, keywords=calls):
            found[message if isinstance(message, str) else message[0]] = f"{path.name}:{line}"
    tables = (CONDITION_CODES, rendering._REASONS)
    return found | {name: "a table" for table in tables for name in table.values()}


def test_each_message_has_its_german_with_the_same_fields(capfd: pytest.CaptureFixture[str]) -> None:
    known = {entry.msgid: [entry.msgstr, *entry.msgstr_plural.values()] for entry in GERMAN}
    asked = messages()
    skipped = re.findall(r"(\w+\.py):\d+: warning: Skipping f-string", capfd.readouterr().err)
    assert set(skipped) <= WITH_REASONS
    assert len(asked) > 200
    missing = {place: message for message, place in asked.items() if message not in known}
    assert [place for place in missing if not place.startswith("connection.py")] == []  # mostly read by its operator
    assert [message for message in known if message not in asked] == []
    for message, translations in known.items():
        for german in filter(None, translations):
            assert sorted(FIELDS.findall(german)) == sorted(FIELDS.findall(message)), german
        assert any(translations), message
    assert not GERMAN.fuzzy_entries()


def test_no_text_of_a_raters_page_is_outside_the_catalogue() -> None:
    macros = re.sub(r"\{% macro (raised|seen|handled|graded)\(.*", "", MACROS.read_text())  # of leaders' pages
    for name, source in [(path.name, path.read_text()) for path in TEMPLATES] + [("macros.html", macros)]:
        source = re.sub(
            r"\{% trans.*?\{% endtrans %\}|\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}|<(kbd)>.*?</\1>", "", source, flags=re.S
        )
        named = re.findall(r'(?:aria-label|data-confirm|title|alt|placeholder)="([^"]*[a-z][^"]*)"', source)
        text = re.findall(r"[^\W\d_]{2,}", re.sub(r"<[^>]*>", " ", source))
        assert (name, named, [word for word in text if word != "UTC"]) == (name, [], [])


def test_pages_are_in_the_browsers_language_until_one_is_chosen(programme: Programme) -> None:
    asked = {"Accept-Language": "de-AT,de;q=0.9,en;q=0.8"}
    browser = programme.client()
    for path, status, text in (("/login", 200, "Passwort"), ("/nowhere", 404, "Diese Seite gibt es nicht.")):
        answer = browser.get(path, headers=asked)
        assert (answer.status_code, '<html lang="de">' in answer.text, text in answer.text) == (status, True, True)
    assert "Passwort" not in browser.get("/login", headers={"Accept-Language": "fr"}).text
    assert "Passwort" in browser.get("/?language=de").text
    refused = browser.post("/login", {"name": "anna", "password": "wrong password"})
    assert (refused.status_code, "Name oder Passwort ist falsch." in refused.text) == (401, True)
    assert "Password" in browser.get("/login?language=en", headers=asked).text
    assert "Password" in browser.get("/login", headers=asked).text


def in_german(programme: Programme, name: str) -> Browser:
    browser = programme.client(name)
    browser.get("/?language=de")
    return browser


def test_points_numbers_messages_and_errors_are_german(programme: Programme) -> None:
    anna = in_german(programme, "anna")
    page = anna.post("/start", {"task": "phy-3"}).text
    assert all(words in page for words in ("0,25 Punkte", "1 Punkt<", "Musterlösung", "Beschimpfung", "Zurücklegen"))
    anna.post("/decide", {"level": "1"})
    assert "Zurückgenommen." in anna.post("/undo").text
    assert "Es gibt nichts zurückzunehmen." in anna.post("/undo").text
    assert "Punkte oder einen Code." in anna.post("/decide", {"level": "1", "code": "B"}).text
    assert "nicht für Ihre Rolle" in anna.get("/progress").text
    assert [f"{-1234.5:,}".translate(languages.SIGNS[code]) for code in ("en", "de")] == ["−1,234.5", "−1.234,5"]


def test_leaders_pages_stay_english(programme: Programme) -> None:
    dana = in_german(programme, "dana")
    assert '<html lang="de">' in dana.page and "Stapel" in dana.page
    page = dana.get("/progress").text
    assert '<html lang="en">' in page and "Stapel" not in page and "?language=" not in page
    assert set(languages.LANGUAGES) == {"en", *(path.stem for path in (PAGES / "catalogues").glob("*.po"))}
