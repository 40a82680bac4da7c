"""Signing in to the review desk: sessions, guesses and lockouts, and an issuer of elsewhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    make_programme,
    sign_in,
)
from scoremux_client.errors import InputError
from scoremux_review.database import accounts
from scoremux_review.database.accounts import add_person, change_person
from scoremux_review.database.schema import decisions, reads, sessions
from scoremux_review.database.verification import verify
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import SignInError
from scoremux_review.pages.desk_app import Desk, create_app
from scoremux_review.pages.single_sign_on import Issuer


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
    answer_s = 0.2 if issuer.trick == "slow" else 60
    browser = Browser(create_app(Desk(programme.database, issuer=replace(found, answer_s=answer_s))))
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
