"""The review desk's pages: who may see what, and what a hostile response, form or request gets."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from argon2 import PasswordHasher
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import select

from desks import (
    FAST_HASHER,
    PASSWORD,
    Browser,
    Programme,
    Work,
    make_programme,
    scored_rows,
    write_alerts,
    write_jsonl,
)
from scoremux_client.errors import InputError
from scoremux_review.database import accounts, leases
from scoremux_review.database.accounts import add_person, change_person
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import alerts, decisions, reads, record, rows, sessions
from scoremux_review.database.verification import verify
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import SignInError
from scoremux_review.pages.desk_app import Desk, create_app
from scoremux_review.pages.single_sign_on import Issuer
from scoremux_review.pages.visits import check_public_url
from scoremux_review.reading.alerts import add_alerts
from scoremux_review.reading.intake import add_papers

SCRIPT = '<script>alert(1)</script><img src=x onerror="alert(2)">'
LEADERS = ("/progress", "/raters", "/agreement", "/alerts", "/questions", "/rows", "/rows/1")
DIRECTORS = ("/people", "/record", "/export", "/export/final.csv")


@pytest.fixture
def programme(tmp_path: Path) -> Iterator[Programme]:
    made = make_programme(tmp_path, policy=DeskPolicy(groups=False))
    yield made
    made.database.close()


def sign_in(browser: Browser, name: str, password: str = PASSWORD) -> int:
    browser.get("/login")
    return browser.post("/login", {"name": name, "password": password}).status_code


def decided(programme: Programme) -> list[tuple[int | None, str]]:
    with programme.database.read() as connection:
        query = select(decisions.c.level, decisions.c.code).where(decisions.c.undone.is_(False))
        return [(found.level, found.code) for found in connection.execute(query.order_by(decisions.c.id))]


def test_reading_works_without_a_script(programme: Programme) -> None:
    browser = programme.client()
    assert sign_in(browser, "anna") == 200
    browser.post("/start", {"task": "bio-7"})
    assert "Chlorophyll absorbs red and blue" in browser.page  # the reference
    for level in ("0", "2"):
        browser.post("/decide", {"level": level})
        assert f"level {level}" in browser.page
    browser.post("/undo")
    assert "Undone" in browser.page
    browser.post("/decide", {"code": "R"})
    assert decided(programme) == [(0, ""), (None, "R")]


def test_blind_reading_page_shows_nothing_of_the_machine(programme: Programme) -> None:
    row = {**scored_rows(1)[0], "level": 2, "probabilities": [0.0213, 0.0317, 0.947], "confidence": 0.3141,
           "level_low": 1, "level_high": 2,
           "condition": "", "version": "cafe" * 16, "id": "name-of-student", "source": "school-9.jsonl"}  # fmt: skip
    policy = DeskPolicy(groups=False, machine="after")
    other = make_programme(programme.folder / "..", rows=[row], name=str(programme.folder / "b.db"), policy=policy)
    browser = other.client("anna")
    browser.get("/")
    browser.post("/start", {"task": "bio-7"})
    secrets = (
        "0.947",
        "94.7",
        "95 %",
        "0.3141",
        "31 %",
        "cafe",
        "name-of-student",
        "school-9",
        "confidence:",
        "range of",
        "Low confidence",
    )
    for secret in secrets:
        assert secret not in browser.page
    browser.post("/decide", {"level": "1"})
    assert "94" not in re.sub(r'value="[^"]*"', "", browser.page)
    browser.post("/compare")
    assert "range of levels 1–2" in browser.page
    assert "95 %" in browser.page
    assert "name-of-student" not in browser.page
    browser.post("/undo")
    assert "machine&#39;s score was looked at" in browser.page


def test_policy_says_when_raters_see_the_machines_score(tmp_path: Path) -> None:
    for machine, expected in (("never", 0), ("before", 1)):
        folder = tmp_path / machine
        folder.mkdir()
        programme = make_programme(folder, policy=DeskPolicy(groups=False, machine=machine))
        browser = programme.client("anna")
        browser.get("/")
        browser.post("/start", {"task": "bio-7"})
        assert browser.page.count("The machine gave") == expected
        browser.post("/decide", {"level": "1"})
        with programme.database.read() as connection:
            saw = connection.execute(select(decisions.c.saw)).scalar_one()
        assert saw == ("machine" if expected else "blind")
        assert browser.post("/compare").status_code == (200 if expected else 403)


def test_validity_paper_looks_like_any_response(tmp_path: Path) -> None:
    pages = []
    for validity in (0.0, 1.0):
        folder = tmp_path / str(validity)
        folder.mkdir()
        browser = make_programme(folder, policy=DeskPolicy(groups=False, validity=validity)).client("anna")
        browser.get("/")
        browser.post("/start", {"task": "bio-7"})
        plain = re.sub(r'value="[^"]{16,}"', "", browser.page)
        pages.append(re.sub(r'(<div class="text" [^>]*>).*?</div>', r"\1</div>", plain, flags=re.DOTALL))
    assert pages[0] == pages[1]


def test_hostile_response_is_shown_as_text(tmp_path: Path) -> None:
    row = {**scored_rows(1)[0], "text": SCRIPT + "\u202e\u0000 x", "id": SCRIPT, "source": SCRIPT}
    programme = make_programme(tmp_path, rows=[row], raters=("anna", "<b>ben"))
    browser = programme.client("dana")
    browser.get("/")
    browser.post("/start", {"task": "bio-7"})
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


def test_answers_have_security_headers_and_load_nothing_from_elsewhere(programme: Programme) -> None:
    browser = programme.client("dana")
    for path in ("/", "/login", "/help", *LEADERS, *DIRECTORS, "/static/desk.js", "/nothing"):
        answer = browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.headers["content-type"].startswith("text/html"):
            assert not re.findall(r'(?:src|href|action)="(?:https?:)?//', answer.text)
            assert not re.findall(r"<style|style=|<script(?! src=\"/static/)|\son\w+=", answer.text)


@pytest.mark.parametrize("path", LEADERS + DIRECTORS)
def test_page_is_for_its_role(programme: Programme, path: str) -> None:
    assert "Sign in" in programme.client().get(path).text
    assert programme.client("anna").get(path).status_code == 403
    assert programme.client("lee").get(path).status_code == (200 if path in LEADERS else 403)
    assert programme.client("dana").get(path).status_code == 200


@pytest.mark.parametrize(
    ("name", "path"),
    [("anna", "/rows/1/reopen"), ("lee", "/reopen"), ("anna", "/rows/1/assign"), ("anna", "/tasks/pause"),
     ("lee", "/tasks/pause"), ("lee", "/people/add"), ("anna", "/alerts"), ("lee", "/record")],
)  # fmt: skip
def test_action_is_for_its_role(programme: Programme, name: str, path: str) -> None:
    browser = programme.client(name)
    browser.get("/")
    assert browser.post(path, {"why": "x", "paused": "1", "alert": "1"}).status_code == 403


def test_rater_does_not_adjudicate(programme: Programme) -> None:
    browser = programme.client("anna")
    browser.get("/")
    assert browser.post("/start", {"reason": "ADJUDICATION"}).status_code == 403


def test_form_needs_its_key_and_this_origin(programme: Programme) -> None:
    browser = programme.client("anna")
    browser.get("/")
    browser.post("/start", {"task": "bio-7"})
    other = programme.client("ben")
    other.get("/")
    for key in ("", "wrong", other.field("form_key")):
        assert browser.post("/decide", {"level": "1", "form_key": key}).status_code == 403
        browser.get("/read")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert browser.post("/decide", {"level": "1"}, headers=headers).status_code == 403
        browser.get("/read")
    assert decided(programme) == []
    assert browser.get("/decide?level=1").status_code == 405


def test_token_of_another_rater_decides_nothing(programme: Programme) -> None:
    one, other = programme.client("anna"), programme.client("ben")
    for browser in (one, other):
        browser.get("/")
        browser.post("/start", {"task": "bio-7"})
    answer = other.post("/decide", {"level": "1", "token": one.field("token")})
    assert "went to someone else" in answer.text
    assert decided(programme) == []


def test_sign_in_begins_a_new_session(programme: Programme) -> None:
    browser = programme.client()
    browser.cookies.set("desk", "fixed-by-someone-else")
    assert sign_in(browser, "anna") == 200
    cookies = [c for c in browser.cookies.jar if c.name == "desk" and c.value != "fixed-by-someone-else"]
    assert len(cookies) == 1
    assert len(cookies[0].value or "") >= 40
    with programme.database.read() as connection:
        kept = connection.execute(select(sessions.c.digest)).scalars().all()
    assert cookies[0].value not in kept  # the database alone lets nobody in
    answer = programme.client().post("/login", {"name": "anna", "password": PASSWORD, "key": "forged"})
    assert answer.status_code == 403


def test_session_ends_by_sign_out_time_and_closed_account(programme: Programme) -> None:
    browser = programme.client("anna")
    browser.get("/")
    cookie = browser.cookies["desk"]
    browser.post("/logout")
    browser.cookies.set("desk", cookie)
    assert "Sign in" in browser.get("/").text
    again = programme.client("anna")
    programme.clock[0] += 13 * 3600
    assert "Sign in" in again.get("/").text
    last = programme.client("anna")
    change_person(programme.database, "anna", "dana", active=False)
    assert "Sign in" in last.get("/").text
    assert sign_in(programme.client(), "anna") == 401


def test_password_guesses_are_limited_and_reveal_no_names(programme: Programme) -> None:
    browser = programme.client()
    said = set()
    for name in ("anna", "nobody"):
        assert sign_in(browser, name, "wrong password") == 401
        said.add(re.sub(r'value="[^"]*"', "", browser.page))
    assert len(said) == 1
    for _ in range(4):
        sign_in(browser, "anna", "wrong password")
    assert sign_in(browser, "anna") == 429
    programme.clock[0] += 301
    assert sign_in(browser, "anna") == 200


def test_failed_sign_ins_are_in_the_record_and_a_lockout_can_be_lifted(programme: Programme) -> None:
    browser, director = programme.client(), programme.client("dana")
    assert sign_in(browser, "my password 7", "anna") == 401
    for _ in range(5):
        assert sign_in(browser, "anna", "wrong password") == 401
    assert sign_in(browser, "anna") == 429
    told = director.get("/record").text
    assert told.count("<td>sign-in failed</td>") == 6
    assert told.count("<td>locked out</td>") == 1
    assert "my password 7" not in told
    assert director.get("/people").text.count("locked out") == 1
    assert "locked out" not in director.post("/people/change", {"name": "anna", "account": "unlock"}).text
    assert sign_in(browser, "anna") == 200
    with programme.database.read() as connection:
        verify(connection)


class SlowHasher(PasswordHasher):
    """Counts how many passwords are checked at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.now = self.most = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.05)
        self.now -= 1
        return super().verify(hash, password)


def test_few_passwords_are_checked_at_once(programme: Programme) -> None:
    hasher = SlowHasher()

    def guess(number: int) -> None:
        with pytest.raises(SignInError):
            accounts.sign_in(programme.database, f"name{number}", "wrong password", "10.0.0.1", hasher)

    with ThreadPoolExecutor(20) as threads:
        list(threads.map(guess, range(20)))
    assert 1 < hasher.most <= 4


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
        check_public_url(url)


def test_database_file_is_readable_by_its_user_alone(programme: Programme) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in programme.folder.glob("reviews.db*")}
    assert modes == {"reviews.db": 0o600, "reviews.db-wal": 0o600, "reviews.db-shm": 0o600}
    file = programme.folder / "reviews.db"
    file.chmod(0o644)
    Database(str(file)).close()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd",
     "/static/%2e%2e/%2e%2e/policy.py", "/export/..%2f..%2fetc%2fpasswd", "/export/final.exe", "/rows/1e3"],
)  # fmt: skip
def test_paths_stay_inside_static_and_exports(programme: Programme, path: str) -> None:
    answer = programme.client("dana").get(path)
    assert answer.status_code in (400, 404)
    assert "import" not in answer.text


def test_desk_answers_to_its_host_names_with_secure_cookies_behind_tls(programme: Programme) -> None:
    browser = programme.client("anna")
    assert browser.get("/", headers={"Host": "evil.example"}).status_code == 421
    secure = create_app(Desk(programme.database, public_url="https://desk.example.org"))
    behind = Browser(secure, "https://desk.example.org")
    behind.get("/login")
    answer = behind.post("/login", {"name": "anna", "password": "wrong password"})
    assert answer.status_code == 401
    assert "max-age=" in answer.headers["strict-transport-security"]
    assert sign_in(behind, "anna") == 200
    cookie = next(c for c in behind.cookies.jar if c.name == "__Host-desk")
    assert cookie.secure
    assert "HttpOnly" in cookie._rest  # type: ignore[attr-defined]


def test_alerts_reach_the_leaders(programme: Programme) -> None:
    browser = programme.client("anna")
    browser.get("/")
    browser.post("/start", {"task": "bio-7"})
    browser.post("/alert")
    browser.post("/alert")
    assert "Alert raised" in browser.page
    leader = programme.client("lee")
    assert leader.get("/alerts").text.count("Mark as handled") == 1
    assert "handled" in leader.post("/alerts", {"alert": leader.field("alert")}).text
    with programme.database.read() as connection:
        assert connection.execute(select(alerts.c.handled_by)).scalar_one() == programme.people["lee"]


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
    assert rows[0]["text"] in lee.page
    assert lee.page.count("Seen by <bdi>lee</bdi>") == 3
    assert "<bdi>dana</bdi> (" in dana.get("/alerts").text
    assert "Alerts (2)" in dana.post("/alerts", {"alert": dana.field("alert")}).text
    add_alerts(programme.database, programme.folder / "scored.jsonl", "test")
    assert "2 alerts wait" in lee.get("/").text  # a handled one stays handled


def test_leaders_and_directors_reopen_assign_pause_and_export(programme: Programme) -> None:
    browser = programme.client("dana")
    browser.get("/")
    browser.post("/start", {"task": "bio-7"})
    browser.post("/decide", {"level": "1"})
    with programme.database.read() as connection:
        number = connection.execute(select(decisions.c.row)).scalar_one()
    browser.get(f"/rows/{number}")
    assert browser.post(f"/rows/{number}/reopen", {"why": ""}).status_code == 400
    browser.get(f"/rows/{number}")
    assert "waits for a rater" in browser.post(f"/rows/{number}/reopen", {"why": "the rubric changed"}).text
    assert "the rubric changed" in browser.page
    assert "you may be its reader" in browser.page
    assert not re.search(r"level \d|confidence \d", browser.page)
    assert browser.post(f"/rows/{number}/assign", {"person": programme.people["ben"]}).status_code == 200
    browser.get("/read")
    browser.post("/decide", {"level": "0"})
    me = programme.people["dana"]
    answer = browser.post("/reopen", {"person": me, "days": "1", "why": "read in haste", "task": "bio-7"})
    assert answer.status_code == 200
    assert "reopened all" in browser.get("/record").text
    with programme.database.read() as connection:
        assert not connection.execute(select(rows.c.id).where(rows.c.state == "done")).all()
    browser.post("/tasks/pause", {"task": "bio-7", "paused": "1"})
    assert "paused" in browser.get("/").text
    browser.post("/people/add", {"name": "carl", "role": "rater", "password": "short"})
    assert "at least 10" in browser.page
    for name in ("final.parquet", "final.csv", "labelled.jsonl", "lti.jsonl"):
        answer = browser.get(f"/export/{name}")
        assert answer.status_code == 200
        assert len(answer.content) > 100
    browser.get("/record")
    assert "intact" in browser.post("/record").text


def test_queues_that_nobody_has_read_count_at_the_pace_of_others(programme: Programme) -> None:
    browser = programme.client("dana")
    assert "<strong>–</strong>" in browser.get("/progress").text  # nobody has read anything
    browser.get("/")
    browser.post("/start", {"task": "phy-3"})
    for _ in range(2):
        browser.post("/decide", {"level": "1"})  # takes three seconds
    with programme.database.read() as connection:
        listed = leases.all_queues(connection)
    assert sum(queue.waiting for queue in listed) > 15
    assert sum(queue.left_s for queue in listed) == pytest.approx(3 * sum(queue.waiting for queue in listed))


def test_last_director_stays(programme: Programme) -> None:
    browser = programme.client("dana")
    browser.get("/people")
    answer = browser.post("/people/change", {"name": "dana", "role": "rater"})
    assert "needs a director" in answer.text
    assert browser.get("/people").status_code == 200


def test_record_holds_no_response_texts(programme: Programme) -> None:
    browser = programme.client("anna")
    browser.get("/")
    browser.post("/start")
    for _ in range(5):
        browser.post("/decide", {"level": "1"})
    with programme.database.read() as connection:
        told = "".join(connection.execute(select(record.c.entry)).scalars())
        texts = connection.execute(select(rows.c.text)).scalars().all()
    assert json.loads(f"[{told.replace('}{', '},{')}]")
    assert not [text for text in texts if text in told]


def test_browser_that_is_known_is_not_locked_out_by_strangers(programme: Programme) -> None:
    known, stranger = programme.client(), programme.client()
    assert sign_in(known, "anna") == 200
    known.post("/logout")
    for _ in range(6):
        sign_in(stranger, "anna", "wrong password")
    assert sign_in(stranger, "anna") == sign_in(programme.client(), "anna") == 429
    assert sign_in(known, "anna") == 200
    known.post("/logout")
    (mark,) = [cookie for cookie in known.cookies.jar if cookie.name.startswith("desk-browser-")]
    assert (mark.path, mark.has_nonstandard_attr("HttpOnly")) == ("/login", True)
    forged = programme.client()
    forged.cookies.set(mark.name, "0" * 64, path="/login")
    assert sign_in(forged, "anna") == 429
    programme.clock[0] += 301
    director = programme.client("dana")
    before = director.get("/record").text.count("<td>locked out</td>")
    for _ in range(5):  # who has the browser cannot guess without end either
        assert sign_in(known, "anna", "wrong password") == 401
    assert sign_in(known, "anna") == 429
    assert director.get("/record").text.count("<td>locked out</td>") == before + 1
    assert director.get("/people").text.count("locked out") == 1
    assert "locked out" not in director.post("/people/change", {"name": "anna", "account": "unlock"}).text
    assert sign_in(known, "anna") == 200
    known.post("/logout")
    change_person(programme.database, "anna", "dana", password="another password", hasher=FAST_HASHER)
    for _ in range(6):
        sign_in(stranger, "anna", "wrong password")
    assert sign_in(known, "anna", "another password") == 429  # a new password forgets the browsers of the old one


@pytest.mark.parametrize("jump_s", [-400 * 86_400.0, -3_600.0, 3_600.0, 400 * 86_400.0])
def test_clock_that_jumps_locks_nobody_out_and_keeps_no_response(tmp_path: Path, jump_s: float) -> None:
    programme = make_programme(tmp_path, 2, DeskPolicy(groups=False, second_reads=0.0))
    anna, ben = programme.client("anna"), programme.client("ben")
    anna.get("/")
    anna.post("/start")
    for _ in range(6):
        sign_in(programme.client(), "ben", "wrong password")
    programme.clock[0] += jump_s
    assert sign_in(programme.client(), "ben") == 200
    old = anna.get("/")  # a session from ahead of now, or one that is over
    assert ("<h1>Tasks" in old.text) == (abs(jump_s) < accounts.SESSION_S and jump_s > 0)
    ben = programme.client("ben")
    for _ in range(2):
        ben.get("/")
        ben.post("/start")
        for _ in range(2):  # no decision counts too soon after the page, whatever the clock said before
            ben.post("/decide", {"level": "1"})
    with programme.database.read() as connection:
        assert len(connection.execute(select(decisions)).all()) >= 1
        assert not connection.execute(select(reads).where(reads.c.state == "leased", reads.c.person != 4)).all()
        verify(connection)
    programme.database.close()


def test_broken_record_and_huge_numbers_are_sentences(programme: Programme) -> None:
    browser = programme.client("dana")
    for path in (f"/rows/{10**30}", f"/record?before={10**30}", f"/rows?id={'9' * 4000}"):
        assert browser.get(path).status_code < 500
    for name, number in (("before", -(10**30)), ("rater", -(10**30)), ("before", 10**30), ("rater", "9" * 5000)):
        assert browser.get(f"/rows?{name}={number}").status_code == 400
    assert "There is no such row" in browser.get(f"/rows/{10**30}").text
    browser.get("/")
    assert "There is no such row" in browser.post(f"/rows/{10**30}/reopen", {"why": "x"}).text
    work = Work(programme, DeskPolicy())
    work.execute("DROP TRIGGER record_UPDATE")
    work.execute("UPDATE record SET entry = 'x', row = 1 WHERE number = 2")
    for path in ("/record", "/rows/1"):
        answer = browser.get(path)
        assert answer.status_code == 400
        assert "of the record cannot be understood" in answer.text


KEYS = [RSAKey.generate_key(2048, {"kid": name}) for name in ("signs", "another")]
PUBLIC = KEYS[0].as_pem(private=False)


class Elsewhere:
    """An OpenID Connect issuer; `claims`, `header`, `key`, `trick` are what its next identity token is made of."""

    url = "https://id.example.org"

    def __init__(self) -> None:
        self.claims: dict[str, object] = {}
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "signs"}
        self.key: Any = KEYS[0]
        self.metadata: dict[str, object] = {"jwks_uri": f"{self.url}/keys"}
        self.trick = ""
        self.forms: list[dict[str, str]] = []
        self.http = httpx.Client(transport=httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token"}
            return httpx.Response(200, json={"issuer": self.url, **ends, **self.metadata})
        if path == "/keys" and self.trick == "huge keys":
            return httpx.Response(200, stream=Drip(b"x" * 65536, 1 << 10))
        if path == "/keys" and self.trick == "packed":
            return httpx.Response(200, headers={"content-encoding": "gzip"}, content=gzip.compress(b"{}"))
        if path == "/token" and self.trick == "slow":
            return httpx.Response(200, stream=Drip(b" ", 1 << 10, 0.02))
        if path == "/keys" and self.trick == "redirect":
            return httpx.Response(302, headers={"location": "http://169.254.169.254/keys"})
        if path == "/keys":
            return httpx.Response(200, json={"keys": [key.as_dict(private=False) for key in KEYS[:1]]})
        assert path == "/token"
        self.forms.append(dict(parse_qsl(request.content.decode())))
        return httpx.Response(200, json={"id_token": self._token()})

    def _token(self) -> str:
        words = [json.dumps(part).encode() for part in (self.header, self.claims)]
        signed = b".".join(base64.urlsafe_b64encode(word).rstrip(b"=") for word in words)
        if self.header["alg"] == "none":
            return f"{signed.decode()}."
        if self.header["alg"] == "HS256":  # signed with what everybody has
            mac = base64.urlsafe_b64encode(hmac.digest(PUBLIC, signed, "sha256")).rstrip(b"=")
            return f"{signed.decode()}.{mac.decode()}"
        return jwt.encode(self.header, self.claims, self.key)


class Drip(httpx.SyncByteStream):
    """An answer in blocks, with a pause before each."""

    def __init__(self, block: bytes, blocks: int, pause_s: float = 0.0) -> None:
        self._block, self._blocks, self._pause_s = block, blocks, pause_s
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self._blocks):
            time.sleep(self._pause_s)
            self.sent += 1
            yield self._block


def return_from(
    programme: Programme, issuer: Elsewhere, **change: Any
) -> tuple[Browser, httpx.Response, dict[str, str]]:
    """Sign in at an issuer; return the browser, the desk's answer, and what the desk asked the issuer for."""
    add_person(programme.database, "eve@example.org", "rater", None, "dana")
    found = Issuer.discover(issuer.url, "desk", "secret", "http://localhost", "email", issuer.http)
    browser = Browser(create_app(Desk(programme.database, issuer=replace(found, answer_s=0.2))))
    assert "Sign in with your organisation" in browser.get("/login").text
    sent = browser.get("/login/elsewhere", follow_redirects=False)
    asked = dict(parse_qsl(urlsplit(sent.headers["location"]).query))
    told = {"iss": issuer.url, "sub": "1", "iat": 1.8e9, "aud": ["desk"], "exp": 1.9e9, "nonce": asked["nonce"],
            "email": "eve@example.org"}  # fmt: skip
    claims = {**told, **change}
    state = str(claims.pop("state", asked["state"]))
    issuer.claims = {name: value for name, value in claims.items() if value is not None}
    return browser, browser.get("/login/back", params={"code": "c", "state": state}), asked


@pytest.mark.parametrize(
    ("change", "status"),
    [({}, 200), ({"email": "nobody@example.org"}, 401), ({"email": "anna"}, 401), ({"nonce": "another"}, 401),
     ({"nonce": None}, 401), ({"aud": "other"}, 401), ({"aud": ["desk", "other"]}, 401), ({"aud": None}, 401),
     ({"azp": "other"}, 401), ({"iss": "https://evil.example"}, 401), ({"iss": None}, 401), ({"exp": 1.7e9}, 401),
     ({"exp": None}, 401), ({"nbf": 1.85e9}, 401), ({"exp": "never"}, 401), ({"email": ["eve@example.org"]}, 401),
     ({"email_verified": False}, 401), ({"state": "forged"}, 401)],
)  # fmt: skip
def test_single_sign_on_checks_the_issuers_answer(programme: Programme, change: dict[str, object], status: int) -> None:
    issuer = Elsewhere()
    _, answer, asked = return_from(programme, issuer, **change)
    assert answer.status_code == status
    assert ("<h1>Tasks" in answer.text) == (status == 200)
    if "state" in change:
        assert not issuer.forms
    else:
        verifier = issuer.forms[0]["code_verifier"]
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        assert challenge == asked["code_challenge"]
    assert sign_in(Browser(create_app(Desk(programme.database))), "eve@example.org", "") == 401


@pytest.mark.parametrize(
    ("key", "header", "trick"),
    [
        (0, {"alg": "none"}, ""),
        (0, {"alg": "HS256", "kid": "signs"}, ""),
        (0, {"alg": "HS256"}, ""),
        (1, {"alg": "RS256", "kid": "signs"}, ""),
        (1, {"alg": "RS256", "kid": "another"}, ""),
        (1, {"alg": "RS256", "kid": "../../etc/passwd' OR 1=1 --"}, ""),
        (1, {"alg": "RS256", "kid": "signs", "jwk": KEYS[1].as_dict(private=False)}, ""),
        (1, {"alg": "RS256", "kid": "signs", "jku": "https://evil.example/keys"}, ""),
        (0, {"alg": "PS256", "kid": "signs"}, ""),  # not among those that it offers
        (0, {"alg": "RS256", "kid": "signs"}, "huge keys"),
        (0, {"alg": "RS256", "kid": "signs"}, "redirect"),
        (0, {"alg": "RS256", "kid": "signs"}, "slow"),
        (0, {"alg": "RS256", "kid": "signs"}, "packed"),
    ],
)
def test_hostile_issuer_signs_nobody_in(programme: Programme, key: int, header: dict[str, Any], trick: str) -> None:
    issuer = Elsewhere()
    issuer.key, issuer.header, issuer.trick = KEYS[key], header, trick
    browser, answer, _ = return_from(programme, issuer)
    assert answer.status_code == 401
    assert "please try again" in answer.text
    assert "<h1>Tasks" not in browser.get("/").text


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({"jwks_uri": "http://id.example.org/keys"}, "needs https"), ({"jwks_uri": None, "issuer": 7}, "calls itself"),
     ({"issuer": "https://evil.example"}, "calls itself https://evil.example"),
     ({"token_endpoint": "http://id.example.org/token"}, "needs https"),
     ({"id_token_signing_alg_values_supported": ["none", "HS256"]}, "signs with no private key"),
     ({"id_token_signing_alg_values_supported": 7}, "does not answer as an OpenID Connect issuer")],
)  # fmt: skip
def test_issuer_that_cannot_be_trusted_is_refused_at_the_start(metadata: dict[str, object], message: str) -> None:
    issuer = Elsewhere()
    issuer.metadata |= metadata
    with pytest.raises(InputError, match=message):
        Issuer.discover(issuer.url, "desk", "secret", "http://localhost", "email", issuer.http)


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
    browser = programme.client("anna")
    browser.get("/")
    browser.post("/start", {"task": "bio-7"})
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
    assert "1 of 2</strong> have exactly the known level" in shown
    programme.database.close()
    (tmp_path / "policy.toml").write_text("[review]\nfeedback = 1\n")  # would tell which paper it was
    with pytest.raises(InputError, match="feedback"):
        DeskPolicy.read(tmp_path / "policy.toml")


def test_pages_do_not_give_special_papers_away(tmp_path: Path) -> None:
    """A rater's page of a response, and that after undoing its decision, are the same on every kind of paper."""
    policy = DeskPolicy(groups=False, validity=0.3, second_reads=0.5)
    programme = make_programme(tmp_path, policy=policy, rows=scored_rows(80))
    papers = [{"task": "bio-7", "level": 1, "text": f"Chlorophyll catches light, number {n}."} for n in range(30)]
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
            with programme.database.read() as connection:
                read = select(reads.c.kind, rows.c.chosen_by).join(rows, rows.c.id == reads.c.row)
                paper = connection.execute(read.where(reads.c.token == browser.field("token"))).one()
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
