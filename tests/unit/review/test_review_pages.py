"""The review desk's pages: who may see what, and what a hostile response, form or request gets."""

import json
import re
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from sqlalchemy import select

from desks import Browser, Programme, Work, make_programme, scored_rows, write_alerts, write_jsonl
from scoremux_client.errors import InputError
from scoremux_desk.database import accounts
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import save_policy
from scoremux_desk.database.schema import alert_views, alerts, decisions, reads, record, rows
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.pages.desk_app import Desk, create_app
from scoremux_desk.pages.visits import check_addresses
from scoremux_desk.reading.alerts import add_alerts
from scoremux_desk.reading.intake import add_papers

SCRIPT = '<script>alert(1)</script><img src=x onerror="alert(2)">'
LEADERS = ("/progress", "/raters", "/agreement", "/alerts", "/questions", "/rows", "/rows/1")
DIRECTORS = ("/people", "/record", "/export", "/export/final.csv")


def decided(programme: Programme) -> list[tuple[int | None, str]]:
    query = select(decisions.c.level, decisions.c.code).where(decisions.c.undone.is_(False))
    return programme.select(query.order_by(decisions.c.id))


def test_blind_reading_page_shows_nothing_of_the_machine(programme: Programme) -> None:
    row = {**scored_rows(1)[0], "level": 2, "probabilities": [0.0213, 0.0317, 0.947], "confidence": 0.3141,
           "level_low": 1, "level_high": 2,
           "condition": "", "version": "cafe" * 16, "id": "name-of-student", "source": "school-9.jsonl"}  # fmt: skip
    policy = DeskPolicy(groups=False, machine="after")
    other = make_programme(programme.folder / "..", rows=[row], name=str(programme.folder / "b.db"), policy=policy)
    browser = other.reading("anna")
    secrets = ("0.947", "94.7", "95 %", "0.3141", "31 %", "cafe", "name-of-student", "school-9", "confidence:",
               "range of", "Low confidence")  # fmt: skip
    assert [secret for secret in secrets if secret in browser.page] == []
    browser.post("/decide", {"level": "1"})
    assert "94" not in re.sub(r'value="[^"]*"', "", browser.page)
    browser.post("/compare")
    assert "range 1 pt to 2 pts" in browser.page
    assert "95 %" in browser.page
    assert "name-of-student" not in browser.page
    browser.post("/undo")
    assert "machine&#39;s score was looked at" in browser.page


def test_policy_says_when_raters_see_the_machines_score(tmp_path: Path) -> None:
    for machine, expected in (("never", 0), ("before", 1)):
        folder = tmp_path / machine
        folder.mkdir()
        programme = make_programme(folder, policy=DeskPolicy(groups=False, machine=machine))
        browser = programme.reading("anna")
        assert browser.page.count("The machine gave") == expected
        browser.post("/decide", {"level": "1"})
        (saw,) = programme.select(select(decisions.c.saw))
        assert saw == ("machine" if expected else "blind")
        assert browser.post("/compare").status_code == (200 if expected else 403)


def test_hostile_response_is_shown_as_text(tmp_path: Path) -> None:
    row = {**scored_rows(1)[0], "text": SCRIPT + "\u202e\u0000 x", "id": SCRIPT, "source": SCRIPT}
    programme = make_programme(tmp_path, rows=[row], raters=("anna", "<b>ben"))
    browser = programme.reading("dana")
    pages = [browser.page]
    browser.post("/alert")
    browser.post("/decide", {"level": "1", "note": SCRIPT})
    for path in ("/rows/1", f"/rows?id={SCRIPT}", "/record", "/people", "/alerts", "/progress", "/agreement?by=rater"):
        browser.get(path)
        pages.append(browser.page)
    for page in pages:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "<b>ben" not in page
    assert any("&lt;script&gt;alert(1)" in page for page in pages)


def test_pages_and_actions_are_for_their_roles_with_security_headers(shared: Programme) -> None:
    browser = shared.client("dana")
    for path in ("/", "/login", "/help", *LEADERS, *DIRECTORS, "/static/desk.js", "/nothing"):
        answer = browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', answer.text)
            assert not re.findall(r"<style|style=|<script(?! src=\"/static/)|\son\w+=", answer.text)
    stranger, anna, lee, dana = (shared.client(name) for name in ("", "anna", "lee", "dana"))
    for path in LEADERS + DIRECTORS:
        assert "Sign in" in stranger.get(path).text
        assert [who.get(path).status_code for who in (anna, dana)] == [403, 200]
        assert lee.get(path).status_code == (200 if path in LEADERS else 403)
    refused = {"anna": ("/rows/1/reopen", "/tasks/pause", "/alerts", "/start"),
               "lee": ("/reopen", "/tasks/pause", "/people/add", "/record")}  # fmt: skip
    fields = {"why": "x", "paused": "1", "alert": "1", "reason": "ADJUDICATION"}
    for name, paths in refused.items():
        for path in paths:
            assert shared.client(name).post(path, fields).status_code == 403, path


def test_form_needs_its_key_and_this_origin(programme: Programme) -> None:
    browser = programme.reading("anna")
    other = programme.client("ben")
    for key in ("", "wrong", other.field("form_key")):
        assert browser.post("/decide", {"level": "1", "form_key": key}).status_code == 403
        browser.get("/read")
    sites = [{"Origin": "https://evil.example"}, {"Origin": "null"}]
    for headers in (*sites, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        assert browser.post("/decide", {"level": "1"}, headers=headers).status_code == 403
        browser.get("/read")
    assert decided(programme) == []
    assert browser.get("/decide?level=1").status_code == 405


def test_answers_about_responses_take_their_least_time(programme: Programme) -> None:
    browser = Browser(create_app(Desk(programme.database, answer_s=0.3)), clock=programme.clock)
    browser.cookies.set("desk", accounts.begin_session(programme.database, programme.people["anna"]))
    browser.get("/")
    for path in ("/start", "/decide", "/undo"):
        began = time.monotonic()
        assert browser.post(path, {"level": "1", "task": "bio-7"}).status_code == 200
        assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("url", "message"),
    [("http://desk.example.org", "no encryption"), ("desk.example.org", "such as https"), ("https:", "such as https"),
     (None, ""), ("https://desk.example.org", ""), ("http://localhost:8080", "")],
)  # fmt: skip
def test_public_url_is_encrypted_unless_local(url: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message) if message else nullcontext():
        check_addresses("127.0.0.1", url, "")


def test_database_file_is_readable_by_its_user_alone_and_the_last_director_stays(programme: Programme) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in programme.folder.glob("reviews.db*")}
    assert modes == {"reviews.db": 0o600, "reviews.db-wal": 0o600, "reviews.db-shm": 0o600}
    file = programme.folder / "reviews.db"
    file.chmod(0o644)
    Database(str(file)).close()
    assert file.stat().st_mode & 0o777 == 0o600
    browser = programme.client("dana")
    browser.get("/people")
    answer = browser.post("/people/change", {"name": "dana", "role": "rater"})
    assert "needs a director" in answer.text
    assert browser.get("/people").status_code == 200


def test_paths_stay_inside_static_and_exports(shared: Programme) -> None:
    browser = shared.client("dana")
    paths = ("static/../app.py", "static/%2e%2e/app.py", "static/..%2fapp.py", "static//etc/passwd",
             "static/%2e%2e/%2e%2e/policy.py", "export/..%2f..%2fetc%2fpasswd", "export/final.exe",
             "rows/1e3")  # fmt: skip
    for path in paths:
        answer = browser.get(f"/{path}")
        assert answer.status_code in (400, 404), path
        assert "import" not in answer.text


def test_scored_alerts_come_first_and_show_who_has_seen_them(programme: Programme) -> None:
    rows = scored_rows(3)
    write_alerts(programme.folder / "scored.jsonl.alerts", [*rows, {**rows[0], "line": 999, "id": "unknown"}])
    assert add_alerts(programme.database, programme.folder / "scored.jsonl", "test") == (3, 1)
    assert add_alerts(programme.database, programme.folder / "scored.jsonl", "test") == (0, 1)
    lee, dana = programme.client("lee"), programme.client("dana")
    assert "3 alerts wait" in lee.get("/").text
    assert "alert" not in programme.client("anna").get("/").text.lower()
    assert "probability 85 %" in lee.get("/alerts").text
    assert "which could not score it" in lee.page
    assert rows[0]["text"] not in lee.page
    assert lee.page.count("<td>nobody</td>") == 3  # a list shows what there is; nobody has read anything
    assert not programme.select(select(alert_views))
    (opened, *_) = programme.select(select(alerts.c.row).order_by(alerts.c.id))
    assert "Seen by <bdi>lee</bdi> (" in lee.get(f"/rows/{opened}").text
    assert rows[0]["text"] in lee.page
    assert dana.get("/alerts").text.count("<td>nobody</td>") == 2
    assert "<bdi>lee</bdi> (" in dana.page
    dana.get(f"/rows/{opened}")
    assert "Alerts (2)" in dana.post("/alerts", {"alert": dana.field("alert")}).text
    add_alerts(programme.database, programme.folder / "scored.jsonl", "test")
    assert "2 alerts wait" in lee.get("/").text  # a handled one stays handled


def test_leaders_and_directors_reopen_assign_pause_and_export(programme: Programme) -> None:
    browser = programme.reading("dana")
    browser.post("/decide", {"level": "1"})
    (number,) = programme.select(select(decisions.c.row))
    browser.get(f"/rows/{number}")
    assert browser.post(f"/rows/{number}/reopen", {"why": ""}).status_code == 400
    browser.get(f"/rows/{number}")
    assert "waits for a rater" in browser.post(f"/rows/{number}/reopen", {"why": "the rubric changed"}).text
    assert "the rubric changed" in browser.page
    assert "you may be its reader" in browser.page
    assert not re.search(r"level \d|confidence \d", browser.page)
    browser.get("/read")
    browser.post("/decide", {"level": "0"})
    me = programme.people["dana"]
    answer = browser.post("/reopen", {"person": me, "days": "1", "why": "read in haste", "task": "bio-7"})
    assert answer.status_code == 200
    assert "reopened all" in browser.get("/record").text
    assert not programme.select(select(rows.c.id).where(rows.c.state == "done"))
    browser.post("/tasks/pause", {"task": "bio-7", "paused": "1"})
    assert "paused" in browser.get("/").text
    browser.post("/people/add", {"name": "carl", "role": "rater", "password": "short"})
    assert "at least 10" in browser.page
    for name in ("final.parquet", "final.csv", "labelled.jsonl"):
        answer = browser.get(f"/export/{name}")
        assert answer.status_code == 200
        assert len(answer.content) > 100
    browser.get("/record")
    assert "intact" in browser.post("/record").text


def test_record_is_shown_without_response_texts_and_a_missing_page_says_so(programme: Programme) -> None:
    browser = programme.client("anna")
    browser.post("/start")
    for _ in range(5):
        browser.post("/decide", {"level": "1"})
    told, texts = "".join(programme.select(select(record.c.entry))), programme.select(select(rows.c.text))
    assert json.loads(f"[{told.replace('}{', '},{')}]")
    assert not [text for text in texts if text in told]
    with programme.database.write() as connection:
        save_policy(connection, DeskPolicy(aside_s=86_400.0, guard_s=0.7, groups=False), "test")
    shown = programme.client("dana").get("/record").text
    assert "aside_s: 86400.0; " in shown and "groups: false" in shown
    missing = programme.client("dana").get("/nothing")
    assert missing.status_code == 404 and "<title>No such page – review desk</title>" in missing.text


def test_broken_record_and_huge_numbers_are_sentences(programme: Programme) -> None:
    browser = programme.client("dana")
    for path in (f"/rows/{10**30}", f"/record?before={10**30}", f"/rows?id={'9' * 4000}"):
        assert browser.get(path).status_code < 500
    for name, number in (("before", -(10**30)), ("rater", -(10**30)), ("before", 10**30), ("rater", "9" * 5000)):
        assert browser.get(f"/rows?{name}={number}").status_code == 400
    assert "This row does not exist" in browser.get(f"/rows/{10**30}").text
    browser.get("/")
    assert "This row does not exist" in browser.post(f"/rows/{10**30}/reopen", {"why": "x"}).text
    work = Work(programme, DeskPolicy())
    work.execute("DROP TRIGGER record_UPDATE")
    work.execute("UPDATE record SET entry = 'x', row = 1 WHERE number = 2")
    for path in ("/record", "/rows/1"):
        answer = browser.get(path)
        assert answer.status_code == 400
        assert "of the record cannot be understood" in answer.text


def test_raters_ask_and_only_they_see_the_answer(tmp_path: Path) -> None:
    programme = make_programme(tmp_path, policy=DeskPolicy(groups=False, second_reads=1.0))
    anna, ben, lee = (programme.client(name) for name in ("anna", "ben", "lee"))
    for browser in (anna, ben, lee):
        browser.get("/")
    anna.post("/start", {"task": "bio-7"})
    assert "Write your question as the note first" in anna.post("/aside", {"ask": "1", "note": " "}).text
    text = re.search(r'<div class="text"[^>]*>(.*?)</div>', anna.page, re.DOTALL)[1]  # type: ignore[index]
    anna.post("/aside", {"ask": "1", "note": f"Is this {SCRIPT} right?"})
    assert "The leaders see your question now" in anna.page
    assert text not in anna.page
    assert "question asked" in anna.get("/").text
    assert ben.get("/questions").status_code == 403
    assert "Questions (1)" in lee.get("/questions").text
    assert text in lee.page
    assert SCRIPT not in lee.page
    row = re.search(r'href="(/rows/[0-9]+)"', lee.page)[1]  # type: ignore[index]
    fields = {"read": lee.field("read"), "rater": lee.field("rater")}
    assert lee.post("/questions", {**fields, "answer": " "}).status_code == 400
    lee.get("/questions")
    assert "No question waits" in lee.post("/questions", {**fields, "answer": "Half of it is."}).text
    assert "answered" in anna.get("/").text
    anna.post("/start")
    assert "Half of it is." in anna.page
    assert text in anna.page
    anna.post("/decide", {"level": "1"})
    ben.post("/start", {"task": "bio-7"})
    seen = ""
    while ben.field("token"):  # the second reading among the others
        seen += ben.page
        ben.post("/decide", {"level": "1"})
    assert text in seen
    assert "Half of it is." not in seen
    assert "Half of it is." in lee.get(row).text
    programme.database.close()


def test_feedback_comes_after_a_block_that_can_no_longer_be_undone(tmp_path: Path) -> None:
    policy = DeskPolicy(groups=False, validity=1.0, feedback=2, undo_s=100)
    programme = make_programme(tmp_path, policy=policy)
    papers = [{"task": "bio-7", "level": 1, "text": f"Red and blue are absorbed, number {n}."} for n in range(4)]
    write_jsonl(tmp_path / "more.jsonl", papers)
    add_papers(programme.database, tmp_path / "more.jsonl", "validity")
    browser = programme.reading("anna")
    assert "0 read today" in browser.page
    for level in ("1", "2", "1"):
        assert "No block is complete yet" in browser.get("/feedback").text
        browser.get("/read")
        browser.post("/decide", {"level": level})
    assert "3 read today, 3 s each" in browser.page
    programme.clock[0] += 95
    assert "No block is complete yet" in browser.get("/feedback").text  # the second can still be undone
    programme.clock[0] += 101
    shown = browser.get("/feedback").text
    assert shown.count("<bdi>bio-7</bdi>") == 2  # the third begins another block
    assert "1 of 2</strong> have exactly the known points" in shown
    programme.database.close()
    (tmp_path / "policy.toml").write_text("[review]\nfeedback = 1\n")  # would tell which paper it was
    with pytest.raises(InputError, match="feedback"):
        DeskPolicy.read(tmp_path / "policy.toml")


def test_pages_do_not_give_special_papers_away(tmp_path: Path) -> None:
    """A rater's page of a response, and that after undoing its decision, are the same on every kind of paper."""
    policy = DeskPolicy(groups=False, validity=0.3, second_reads=0.5)
    programme = make_programme(tmp_path, policy=policy, rows=scored_rows(60))
    papers = [{"task": "bio-7", "level": 1, "text": f"Chlorophyll catches light, number {n}."} for n in range(15)]
    write_jsonl(tmp_path / "more.jsonl", papers)
    add_papers(programme.database, tmp_path / "more.jsonl", "validity")
    pages: dict[str, set[str]] = {}
    hidden = r'value="[^"]{16,}"|\d+ read today(, \d+ s each)?|Your last:.*?</span>|<bdi>(anna|ben)</bdi>'
    hidden += r'|yours until .*? UTC|(?<=<div class="text" dir="auto" elementtiming="response" lang="en">).*?</div>'
    for name in ("anna", "ben"):
        browser = programme.client(name)
        browser.get("/")
        browser.post("/start", {"task": "bio-7"})
        browser.post("/decide", {"level": "1"})
        while browser.field("token"):
            query = select(reads.c.kind, rows.c.chosen_by).join(rows, rows.c.id == reads.c.row)
            (paper,) = programme.select(query.where(reads.c.token == browser.field("token")))
            shown = [re.sub(hidden, "", browser.page, flags=re.DOTALL)]
            browser.post("/decide", {"level": "1"})
            browser.post("/undo")
            shown.append(re.sub(hidden, "", browser.page, flags=re.DOTALL))
            browser.post("/aside")
            browser.get("/")
            shown.append(re.sub(hidden, "", browser.page, flags=re.DOTALL))
            browser.post("/start")
            shown.append(re.sub(hidden, "", browser.page, flags=re.DOTALL))
            browser.post("/decide", {"level": "1"})
            pages.setdefault(paper.chosen_by if paper.kind == "first" else paper.kind, set()).update(shown)
    assert set(pages) == {"validity", "second", "route", "read_behind"}
    # Before the decision, after undoing it, the first page while it is put aside, and after taking it up again.
    assert [len(set.union(*pages.values()))] == [4]
    programme.database.close()
