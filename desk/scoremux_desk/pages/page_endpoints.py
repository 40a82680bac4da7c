"""Endpoints: a page is a plain function of a `Visit`, and `page` makes it an endpoint.

It finds the session, checks the role and the form's key, runs the function in a thread, and turns our errors into
pages.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scoremux_desk.database.accounts import person_of, same
from scoremux_desk.database.schema import IS_OPEN, number_of
from scoremux_desk.errors import NotAllowedError, OutdatedError, ReviewError
from scoremux_desk.pages.languages import LANGUAGE, LANGUAGES
from scoremux_desk.pages.rendering import show
from scoremux_desk.pages.visits import Desk, Visit, see
from scoremux_desk.reading.assignments import IS_STOPPED
from scoremux_desk.reading.conversations import IS_UNANSWERED

_YEAR_S = 365 * 86_400
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
_WAITING = {"open_alerts": IS_OPEN, "open_questions": IS_UNANSWERED, "stopped_raters": IS_STOPPED}
Page = Callable[[Visit], Response]


def page(
    desk: Desk, function: Page, role: str | None = "rater", least_s: float = 0.0
) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a page.

    Args:
        role: The least role that may see it, None for everyone.
        least_s: The least time that an answer takes.
    """

    async def endpoint(request: Request) -> Response:
        form = FormData()
        sent_at = time.monotonic() + least_s
        if request.method == "POST":
            form = await request.form(max_files=0, max_fields=_MOST_FIELDS, max_part_size=_MOST_FORM)
        answer = await run_in_threadpool(_answer, desk, function, role, request, form)
        if (chosen := request.query_params.get("language")) in LANGUAGES:
            answer.set_cookie(LANGUAGE, chosen, _YEAR_S, httponly=True, samesite="lax", secure=desk.secure)
        await asyncio.sleep(max(0.0, sent_at - time.monotonic()))
        return answer

    return endpoint


def _answer(desk: Desk, function: Page, role: str | None, request: Request, form: FormData) -> Response:
    visit = Visit(desk, request, None, form)
    try:
        with desk.database.read() as connection:
            visit.signed_in = person_of(connection, request.cookies.get(desk.cookie, ""))
            if visit.signed_in is not None and visit.user not in ("", visit.signed_in.name):
                visit.signed_in = None  # another person has signed in at the proxy since
            if visit.signed_in is not None and visit.signed_in.may("leader"):
                visit.waiting = {name: number_of(connection, each) for name, each in _WAITING.items()}
        if request.method == "POST":
            _check_origin(desk, request)
        if role is None:
            return function(visit)
        if visit.signed_in is None:
            return see("/login") if not visit.by_script else Response(status_code=401)
        if request.method == "POST" and not same(visit.text("form_key"), visit.person.form_key):
            raise NotAllowedError("this form is not from the page you are signed in to; go back and reload it")
        if not visit.person.may(role):
            raise NotAllowedError("this page is not for your role")
        return function(visit)
    except ReviewError as error:
        if isinstance(error, OutdatedError):
            desk.stop(str(error))
        return show(visit, "error.html", error.status, message=visit.sentence(error))


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
        self._headers = _HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if desk.secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
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
