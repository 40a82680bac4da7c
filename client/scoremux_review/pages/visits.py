"""One request: who asks, what they sent, and what every answer is given for safety.

A page is a plain function of a `Visit`. `page` makes it an endpoint: it finds the session, checks the role and the
form's key, runs the function in a thread, and turns our errors into pages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scoremux_client.errors import InputError
from scoremux_review.database.accounts import Person, person_of, same
from scoremux_review.database.alert_rows import count_open
from scoremux_review.database.assignment_rows import stopped_raters
from scoremux_review.database.connection import Database
from scoremux_review.database.message_rows import count_questions
from scoremux_review.errors import NotAllowedError, OutdatedError, ReviewError
from scoremux_review.pages.proxy import USER
from scoremux_review.pages.rendering import render
from scoremux_review.reading.queues import RANDOM
from scoremux_review.reading.supervision import Reader

_MOST_FORM = 1 << 20
_MOST_FIELDS = 200
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def check_public_url(url: str | None) -> None:
    """Refuse a public URL over which passwords would travel unencrypted. Raises InputError."""
    parts = urlsplit(url or "https://localhost")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--public-url is {url}; it is how browsers reach the desk, such as https://desk.example.org")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise InputError(f"--public-url {url} has no encryption: passwords could be read on the way; use https")


@dataclass
class Desk:
    """What all pages share.

    Attributes:
        database: The desk's.
        public_url: How browsers reach the desk through a proxy; with https, cookies are for encrypted connections
            alone.
        address: Where the desk listens.
        user_header: In which a proxy names who is signed in there (`proxy.behind_proxies`); empty for none.
        hasher: Hashes and checks passwords.
        draw: Returns the random numbers that decide what a person reads next.
        answer_s: Pages of responses take at least so long, so that the time tells nothing about a paper.
        stop: Called with the reason when the desk cannot go on.
    """

    database: Database
    public_url: str | None = None
    address: str = "127.0.0.1"
    user_header: str = ""
    hasher: PasswordHasher = field(default_factory=PasswordHasher)
    draw: Callable[[], float] = RANDOM
    answer_s: float = 0.06
    stop: Callable[[str], None] = lambda _: None

    @property
    def secure(self) -> bool:
        return bool(self.public_url and self.public_url.startswith("https://"))

    @property
    def cookie(self) -> str:
        return "__Host-desk" if self.secure else "desk"

    def hosts(self) -> set[str]:
        """Return the names under which the desk may be asked for."""
        named = {urlsplit(self.public_url).hostname or ""} if self.public_url else set()
        return {*LOOPBACK, self.address, *named}


@dataclass
class Visit:
    """One request.

    Attributes:
        desk: What all pages share.
        request: As it came.
        signed_in: Who sent it; None before they have signed in.
        form: Its fields.
        open_alerts: How many alerts wait; 0 for raters, who do not see them.
        open_questions: How many questions of raters wait for an answer.
        stopped_raters: How many raters wait for a leader: not qualified, or paused.
    """

    desk: Desk
    request: Request
    signed_in: Person | None
    form: FormData
    open_alerts: int = 0
    open_questions: int = 0
    stopped_raters: int = 0

    @property
    def person(self) -> Person:
        if self.signed_in is None:
            raise NotAllowedError("sign in first")
        return self.signed_in

    @property
    def reader(self) -> Reader:
        return Reader(self.person.id, self.person.name, self.person.may("leader"))

    @property
    def user(self) -> str:
        """Who is signed in at the proxy, as it says; empty if it says nothing."""
        return str(self.request.scope.get(USER, ""))

    @property
    def by_script(self) -> bool:
        """Whether our script asks, which puts the answer's main part into the page."""
        return self.request.headers.get("x-desk") == "1"

    def text(self, name: str) -> str:
        """Return a field of the form, empty if it is missing."""
        value = self.form.get(name, "")
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    def number(self, name: str) -> int | None:
        """Return a field as a whole number, None if it is empty. Raises ReviewError."""
        value = self.text(name)
        if not value:
            return None
        if not value.isascii() or not value.isdecimal() or len(value) > 15:
            raise ReviewError(f"{name} is not a whole number")
        return int(value)

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """Render a page."""
        place = {"fragment": self.by_script, "path": self.request.url.path, "open_alerts": self.open_alerts}
        place |= {"open_questions": self.open_questions, "stopped_raters": self.stopped_raters}
        context = {"person": self.signed_in, **place, **values}
        return Response(render(template, context), status, media_type="text/html")


Page = Callable[[Visit], Response]


def see(path: str) -> Response:
    """Send the browser on to a page, after a form."""
    return RedirectResponse(path, 303)


def page(
    desk: Desk, function: Page, role: str | None = "rater", least_s: float = 0.0
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a page.

    Args:
        desk: What all pages share.
        function: The page.
        role: The least role that may see it, None for everyone.
        least_s: The least time that an answer takes.
    """

    async def endpoint(request: Request) -> Response:
        form, sent_at = FormData(), time.monotonic() + least_s
        if request.method == "POST":
            _check_origin(desk, request)
            form = await request.form(max_files=0, max_fields=_MOST_FIELDS, max_part_size=_MOST_FORM)
        answer = await run_in_threadpool(_answer, desk, function, role, request, form)
        await asyncio.sleep(max(0.0, sent_at - time.monotonic()))
        return answer

    return endpoint


def _answer(desk: Desk, function: Page, role: str | None, request: Request, form: FormData) -> Response:
    visit = Visit(desk, request, None, form)
    try:
        with desk.database.read() as connection:
            visit.signed_in = person_of(connection, request.cookies.get(desk.cookie, ""), desk.database.now())
            if visit.signed_in is not None and visit.user not in ("", visit.signed_in.name):
                visit.signed_in = None  # somebody else has signed in at the proxy since
            if visit.signed_in is not None and visit.signed_in.may("leader"):
                visit.open_alerts = count_open(connection)
                visit.open_questions = count_questions(connection)
                visit.stopped_raters = stopped_raters(connection)
        if role is None:
            return function(visit)
        if visit.signed_in is None:
            return see("/login") if not visit.by_script else Response(status_code=401)
        if request.method == "POST" and not same(visit.text("form_key"), visit.person.form_key):
            raise NotAllowedError("this form is not from the page you are signed in to; go back and reload it")
        if not visit.person.may(role):
            raise NotAllowedError(f"this page is for a {role}")
        return function(visit)
    except ReviewError as error:
        if isinstance(error, OutdatedError):
            desk.stop(str(error))
        return visit.show("error.html", error.status, message=str(error))


def _check_origin(desk: Desk, request: Request) -> None:
    """Refuse a form that another site sent. Browsers say where a POST comes from; other clients say nothing."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site") or (
        origin is not None and urlsplit(origin).hostname not in {h.strip("[]") for h in desk.hosts()}
    ):
        raise NotAllowedError("a form of this desk was sent by another site")


class SafeHeaders:
    """Gives every answer its security headers, and refuses requests for other host names (DNS rebinding)."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._hosts = desk.hosts()
        self._headers = dict(_HEADERS)
        if desk.secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        host = Request(scope).headers.get("host", "")
        if _name(host) not in self._hosts:
            refused = Response("unknown host name; start the desk with --public-url", 421, media_type="text/plain")
            await refused(scope, receive, safe)
            return
        await self._app(scope, receive, safe)


def _name(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host
