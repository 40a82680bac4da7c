"""Signing in to the review desk: sessions, guesses and lockouts, and an issuer of elsewhere."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from desks import FAST_HASHER, PASSWORD, Browser, Programme, make_programme, sign_in
from scoremux_client.errors import InputError
from scoremux_desk.database import accounts
from scoremux_desk.database.accounts import add_person, change_person
from scoremux_desk.database.schema import decisions, reads, sessions
from scoremux_desk.database.verification import verify
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.errors import SignInError
from scoremux_desk.pages.desk_app import Desk, create_app
from scoremux_desk.pages.proxy import behind_proxies, read_proxies


def test_sign_in_begins_a_new_session(programme: Programme) -> None:
    browser = programme.client()
    browser.cookies.set("desk", "fixed-by-someone-else")
    assert sign_in(browser, "anna") == 200
    cookies = [c for c in browser.cookies.jar if c.name == "desk" and c.value != "fixed-by-someone-else"]
    assert len(cookies) == 1
    assert len(cookies[0].value or "") >= 40
    kept = programme.select(select(sessions.c.digest))
    assert cookies[0].value not in kept  # the database alone lets nobody in
    answer = programme.client().post("/login", {"name": "anna", "password": PASSWORD, "key": "forged"})
    assert answer.status_code == 403


def test_session_ends_by_sign_out_time_and_closed_account(programme: Programme) -> None:
    browser = programme.client("anna")
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


def test_password_guesses_are_limited_and_recorded_and_reveal_no_names(programme: Programme) -> None:
    browser, said = programme.client(), set()
    for name in ("anna", "nobody"):
        assert sign_in(browser, name, "wrong password") == 401
        said.add(re.sub(r'value="[^"]*"', "", browser.page))
    assert len(said) == 1
    assert sign_in(browser, "my password 7", "anna") == 401
    for _ in range(4):
        assert sign_in(browser, "anna", "wrong password") == 401
    assert sign_in(browser, "anna") == 429
    told = programme.client("dana").get("/record").text
    assert (told.count("<td>sign-in failed</td>"), told.count("<td>locked out</td>")) == (7, 1)
    assert "my password 7" not in told
    with programme.database.read() as connection:
        verify(connection)
    programme.clock[0] += 301
    assert sign_in(browser, "anna") == 200


class SlowHasher(PasswordHasher):
    """Counts how many passwords are checked at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.now = self.most = 0
        self._lock, self._together = threading.Lock(), threading.Event()

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now > 1:
                self._together.set()
        self._together.wait(60)
        time.sleep(0.05)
        with self._lock:
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
    programme.clock[0] += 301
    assert sign_in(known, "anna") == 200
    known.post("/logout")
    change_person(programme.database, "anna", "dana", password="another password", hasher=FAST_HASHER)
    for _ in range(6):
        sign_in(stranger, "anna", "wrong password")
    assert sign_in(known, "anna", "another password") == 429  # a new password forgets the browsers of the old one


@pytest.mark.parametrize("jump_s", [-400 * 86_400.0, -3_600.0, 3_600.0])
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


PROXY = "10.0.0.7"


def behind_proxy(programme: Programme, address: str = PROXY) -> Browser:
    """Return a browser whose requests reach the desk from an address, with a proxy's header of a user."""
    desk = Desk(programme.database, public_url="https://desk.example.org", user_header="X-Forwarded-Email")
    app = behind_proxies(create_app(desk), read_proxies("127.0.0.1, 10.0.0.0/24"), "X-Forwarded-Email")

    async def reached(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "client": (address, 4711)}, receive, send)

    return Browser(reached, "https://desk.example.org")


def as_user(name: str) -> dict[str, str]:
    return {"X-Forwarded-Email": name}


def test_user_of_a_trusted_proxy_is_signed_in(programme: Programme) -> None:
    eve = add_person(programme.database, "eve@example.org", "rater", None, "dana")
    browser = behind_proxy(programme)
    assert "<bdi>eve@example.org</bdi>" in browser.get("/", headers=as_user("eve@example.org")).text
    assert programme.select(select(sessions.c.person)) == [eve]
    assert "Sign out" in browser.get("/help", headers=as_user("eve@example.org")).text
    add_person(programme.database, "finn@example.org", "rater", None, "dana")
    answer = browser.get("/", headers=as_user("finn@example.org"))  # the proxy's user is another one by now
    assert "<bdi>finn@example.org</bdi>" in answer.text
    browser.post("/logout", headers=as_user("finn@example.org"))
    assert "Sign in as <bdi>finn@example.org</bdi>" in browser.page
    assert "Sign out" not in browser.page


def test_users_name_from_another_address_or_without_the_option_is_refused(programme: Programme) -> None:
    add_person(programme.database, "eve@example.org", "director", None, "dana")
    assert "Password" in programme.client().get("/", headers=as_user("eve@example.org")).text
    for address in ("10.0.1.7", "192.168.0.1", "", "testclient"):
        browser = behind_proxy(programme, address)
        for path in ("/", "/login", "/static/desk.css"):
            answer = browser.get(path, headers={**as_user("eve@example.org"), "X-Forwarded-For": PROXY})
            assert (answer.status_code, "is not from the proxy" in answer.text) == (403, True)
        assert "Password" in browser.get("/login").text
    assert not programme.select(select(sessions.c.person))


def test_name_without_an_account_that_signs_in_elsewhere_signs_nobody_in(programme: Programme) -> None:
    add_person(programme.database, "eve@example.org", "rater", None, "dana")
    change_person(programme.database, "eve@example.org", "dana", active=False)
    browser = behind_proxy(programme)
    for user in ("anna", "nobody@example.org", "eve@example.org, dana", "\u00e9ve", "eve@example.org"):
        answer = browser.get("/", headers=[("X-Forwarded-Email", user.encode())])
        assert "The desk has no account for" in answer.text
        assert "Sign out" not in answer.text
    assert browser.get("/", headers=[("X-Forwarded-Email", "eve@example.org")] * 2).status_code == 403


@pytest.mark.parametrize("words", ["*", "proxy.example.org", "10.0.0.300", ""])
def test_proxies_are_named_by_address(words: str) -> None:
    with pytest.raises(InputError, match="name proxies by address"):
        read_proxies(words)
